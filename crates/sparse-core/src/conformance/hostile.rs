//! Damaged and forged input: an error or other weights, but never a panic, and never what memory
//! held before.

use super::cases::{Case, strange_units};
use super::random::Random;
use super::subject::{Check, Encoded, Order, Subject, ensure};
use crate::{ChunkDecoder, CodecContext, ErrorKind, UnitSpec};

/// A way to damage a byte string.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Truncate(usize),
    FlipBit {
        byte: usize,
        bit: u8,
    },
    Set {
        byte: usize,
        value: u8,
    },
    /// Several bytes of one value: the longest run of a variable-length integer, the largest of a
    /// fixed one.
    Run {
        byte: usize,
        len: usize,
        value: u8,
    },
    Insert {
        byte: usize,
        value: u8,
    },
    Remove {
        byte: usize,
    },
    Append {
        len: usize,
        seed: u64,
    },
    Replace {
        len: usize,
        seed: u64,
    },
}

impl Damage {
    fn apply(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let random = |len, seed: u64| Random::named(&seed.to_string()).bytes(len);
        match self {
            Damage::Truncate(len) => bytes.truncate(len),
            Damage::FlipBit { byte, bit } => {
                bytes.iter_mut().skip(byte).take(1).for_each(|b| *b ^= 1 << bit)
            }
            Damage::Set { byte, value } => {
                bytes.iter_mut().skip(byte).take(1).for_each(|b| *b = value)
            }
            Damage::Run { byte, len, value } => {
                bytes.iter_mut().skip(byte).take(len).for_each(|b| *b = value)
            }
            Damage::Insert { byte, value } => bytes.insert(byte.min(bytes.len()), value),
            Damage::Remove { byte } if byte < bytes.len() => drop(bytes.remove(byte)),
            Damage::Remove { .. } => {}
            Damage::Append { len, seed } => bytes.extend(random(len, seed)),
            Damage::Replace { len, seed } => bytes = random(len, seed),
        }
        bytes
    }

    /// Lists every truncation and every flipped bit.
    fn exhaustive(len: usize) -> impl Iterator<Item = Damage> {
        let flips = (0..len).flat_map(|byte| (0..8).map(move |bit| Damage::FlipBit { byte, bit }));
        (0..len).map(Damage::Truncate).chain(flips)
    }

    fn random(len: usize, random: &mut Random) -> Damage {
        let byte = random.below(len);
        let value = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6)];
        match random.below(10) {
            0 => Damage::Truncate(byte),
            1..=3 => Damage::FlipBit { byte, bit: random.below(8) as u8 },
            4 => Damage::Set { byte, value },
            5 => Damage::Run { byte, len: 1 + random.below(10), value },
            6 => Damage::Insert { byte, value },
            7 => Damage::Remove { byte },
            8 => Damage::Append { len: 1 + random.below(40), seed: random.next() },
            _ => Damage::Replace { len: random.below(80), seed: random.next() },
        }
    }

    /// Lists all of them, or a sample and some of the other kinds.
    fn plan(len: usize, budget: usize, random: &mut Random) -> Vec<Damage> {
        let mut all: Vec<_> =
            if len * 9 <= budget { Damage::exhaustive(len).collect() } else { Vec::new() };
        let more = budget.saturating_sub(all.len()).min(budget / 4 + 8).max(if all.is_empty() {
            budget
        } else {
            0
        });
        all.extend((0..more).map(|_| Damage::random(len, random)));
        all
    }
}

/// Which errors are right.
#[derive(Clone, Copy)]
enum Blame {
    /// The data only.
    Data,
    /// Perhaps also the unit that it was given with.
    DataOrUnit,
}

impl Blame {
    fn check(self, call: &str, error: &crate::Error) -> Check {
        let right = match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Truncated | ErrorKind::LimitExceeded => true,
            ErrorKind::InvalidArgument => matches!(self, Blame::DataOrUnit),
            _ => false,
        };
        ensure!(right, "{call} must report Corrupt, Truncated or LimitExceeded, not {error:?}");
        Ok(())
    }
}

/// Damages the encoding of `case` in `budget` ways.
///
/// That many for the parameters, and as many for the chunks.
pub(super) fn check(subject: &Subject<'_>, case: &Case, budget: usize) -> Check {
    let Some(encoded) = subject.encode(case, Order::Forward)? else { return Ok(()) };
    let expected = subject.decode(case, &encoded.unit, Order::Forward)?;
    let mut random = Random::named(&case.name);
    let mut cx = CodecContext::new();
    let chunks = case.unit.chunk_count();

    for damage in Damage::plan(encoded.unit.params.len(), budget, &mut random) {
        subject
            .step(format_args!("{damage:?} of {} bytes of parameters", encoded.unit.params.len()));
        let params = damage.apply(&encoded.unit.params);
        if let Some(bound) = bind(subject, &case.unit, &params, &cx)? {
            for chunk in 0..chunks {
                let bytes = encoded.unit.chunk(chunk);
                // Forged parameters may make a sound chunk the wrong one for the unit.
                decode(&*bound, case, chunk, bytes, &mut cx, Blame::DataOrUnit)?;
            }
        }
    }
    let bound = subject
        .encoder
        .bind(&case.unit, &encoded.unit.params, &cx.limits)
        .map_err(|e| format!("bind refused the encoder's own parameters: {e:?}"))?;
    for chunk in 0..chunks {
        let bytes = encoded.unit.chunk(chunk);
        for damage in Damage::plan(bytes.len(), budget / chunks as usize, &mut random) {
            subject.step(format_args!("{damage:?} of chunk {chunk}, {} bytes", bytes.len()));
            decode(&*bound, case, chunk, &damage.apply(bytes), &mut cx, Blame::Data)?;
        }
        for other in 0..chunks {
            subject.step(format_args!("chunk {other} under the index {chunk}"));
            decode(&*bound, case, chunk, encoded.unit.chunk(other), &mut cx, Blame::Data)?;
        }
        if let Some(base) = case.base_chunk(chunk) {
            subject.step(format_args!("chunk {chunk} on a base of random bits"));
            let base = random.bytes(base.len());
            decode_twice(
                &*bound,
                chunk,
                bytes,
                Some(&base),
                case.unit.chunk_bytes(chunk),
                &mut cx,
                Blame::Data,
            )?;
        }
    }
    // Whatever the failed calls left in the scratch memory, and in the bound decoder, must not
    // show.
    subject.step("decoding valid chunks after damaged ones");
    let mut whole = Vec::new();
    for chunk in 0..chunks {
        let mut out = random.bytes(case.unit.chunk_bytes(chunk));
        bound
            .decode_chunk(
                chunk,
                encoded.unit.chunk(chunk),
                case.base_chunk(chunk),
                &mut out,
                &mut cx,
            )
            .map_err(|e| format!("a valid chunk was refused: {e:?}"))?;
        whole.extend(out);
    }
    ensure!(whole == expected, "a valid chunk decoded to something else");
    Ok(())
}

/// Gives parameters and chunks of every case to the units of the others.
///
/// And to stranger ones.
pub(super) fn swapped(subject: &Subject<'_>, cases: &[Case]) -> Check {
    let mut cx = CodecContext::new();
    let mut encoded: Vec<Encoded> = Vec::new();
    for case in cases {
        encoded.extend(subject.encode(case, Order::Forward)?);
    }
    let mut units: Vec<UnitSpec> = Vec::new();
    for case in cases {
        if !units.contains(&case.unit) {
            units.push(case.unit.clone());
        }
    }
    units.extend(cases.first().into_iter().flat_map(|case| strange_units(&case.unit)));
    for (unit, e) in units.iter().flat_map(|u| encoded.iter().map(move |e| (u, e))) {
        for params in [&e.unit.params[..], &[], &[0; 32], &[0xff; 32]] {
            subject.step(format_args!(
                "{} bytes of parameters of another unit, bound to {} {:?}, chunks of {}",
                params.len(),
                unit.dtype(),
                unit.segments(),
                unit.chunk_len()
            ));
            let Some(bound) = bind(subject, unit, params, &cx)? else { continue };
            // Not those whose buffers would not fit in memory.
            for chunk in (0..unit.chunk_count().min(3)).filter(|&c| unit.chunk_bytes(c) <= 1 << 20)
            {
                let out = unit.chunk_bytes(chunk);
                let base = unit
                    .base_dtype()
                    .map(|b| vec![0x3c; out / unit.dtype().storage_bytes() * b.storage_bytes()]);
                let bytes = e.unit.chunk(chunk);
                decode_twice(
                    &*bound,
                    chunk,
                    bytes,
                    base.as_deref(),
                    out,
                    &mut cx,
                    Blame::DataOrUnit,
                )?;
            }
        }
    }
    Ok(())
}

fn bind(
    subject: &Subject<'_>,
    unit: &UnitSpec,
    params: &[u8],
    cx: &CodecContext,
) -> Check<Option<Box<dyn ChunkDecoder>>> {
    match subject.encoder.bind(unit, params, &cx.limits) {
        Ok(bound) => Ok(Some(bound)),
        Err(e) => Blame::DataOrUnit.check("bind", &e).map(|()| None),
    }
}

fn decode(
    bound: &dyn ChunkDecoder,
    case: &Case,
    chunk: u64,
    bytes: &[u8],
    cx: &mut CodecContext,
    blame: Blame,
) -> Check {
    decode_twice(
        bound,
        chunk,
        bytes,
        case.base_chunk(chunk),
        case.unit.chunk_bytes(chunk),
        cx,
        blame,
    )
}

/// Decodes into buffers of different content.
///
/// The result must not depend on it, for damaged input neither.
fn decode_twice(
    bound: &dyn ChunkDecoder,
    chunk: u64,
    bytes: &[u8],
    base: Option<&[u8]>,
    len: usize,
    cx: &mut CodecContext,
    blame: Blame,
) -> Check {
    let mut first = vec![0x55; len];
    if let Err(e) = bound.decode_chunk(chunk, bytes, base, &mut first, cx) {
        return blame.check("decode_chunk", &e);
    }
    let mut second = vec![0xaa; len];
    bound.decode_chunk(chunk, bytes, base, &mut second, cx).map_err(|e| {
        format!("decode_chunk succeeded once, and then failed on the same input: {e:?}")
    })?;
    ensure!(
        first == second,
        "what a damaged chunk decodes to depends on the buffer's prior content, or on earlier calls"
    );
    Ok(())
}
