//! Reading the chunk payload; its layout is in [`chunk`](super::chunk).
//!
//! A chunk is decoded in blocks small enough for a block's contexts and tokens to stay in the
//! first-level cache.

use super::chunk::{PLANES, POSITIONS, RELATIVE, VERBATIM};
use super::model::{KEYS, Kind, Model};
use super::planes::{self, PlaneWork};
use super::positions::{PositionDecoder, PositionWork, fill_classes};
use super::scan::{Predictor, Run, runs};
use crate::entropy::rans::{self, DecodeTables, MAX_LANES};
use crate::entropy::{bytes, varint};
use crate::simd::{self, ContextRule, Expansion16, Padded, RawBits, Simd};
use crate::word::{Word, magnitude, restore, with_word};
use sparse_core::{
    ChunkDecoder, CodecContext, Error, Limits, Result, UnitSpec, check_chunk, zeros,
};

/// Weights per block, a multiple of [`MAX_LANES`].
const BLOCK: usize = 2048;

/// Everything about a unit that decoding its chunks needs.
#[derive(Debug)]
pub(super) struct Decoder {
    unit: UnitSpec,
    kind: Kind,
    predictor: Predictor,
    rule: ContextRule,
    /// Key to table, by profile.
    profiles: Vec<[u8; KEYS]>,
    expansion: Expansion,
    tables: DecodeTables,
    positions: Option<PositionDecoder>,
    /// Number of planes that raw bits may have.
    planes: Option<usize>,
    simd: Simd,
}

/// Expansion of a token and raw bits to a value.
#[derive(Debug)]
enum Expansion {
    /// For words of 16 bits.
    Narrow(Box<Expansion16>),
    /// For words of 32 bits: number of raw bits and value by token, and the place of raw bits.
    Wide(Box<[(u32, u32); 256]>, u32),
    /// For all.
    Any(Box<[(u32, u64); 256]>, u32),
}

impl Expansion {
    fn new(kind: Kind, model: &Model) -> Expansion {
        let expansions = model.tokens.expansions();
        let shift = model.tokens.scheme.raw_shift();
        // Tables have no more symbols than there are tokens, so what fills the rest does not
        // matter.
        let of = |i| expansions.get(i).copied().unwrap_or_default();
        let wide = || Box::new(std::array::from_fn(|i| (of(i).0, of(i).1 as u32)));
        match kind.bits {
            16 => Expansion16::new(&expansions, model.tokens.scheme)
                .map(|e| Expansion::Narrow(Box::new(e))),
            32 => Some(Expansion::Wide(wide(), shift)),
            _ => None,
        }
        .unwrap_or_else(|| Expansion::Any(Box::new(std::array::from_fn(of)), shift))
    }
}

#[derive(Default)]
struct DecodeState {
    predictions: Vec<u8>,
    work: DecodeWork,
}

#[derive(Default)]
struct DecodeWork {
    runs: Vec<Run>,
    words: Padded,
    raw: Padded,
    positions: PositionWork,
    planes: PlaneWork,
}

impl Decoder {
    /// Reads the parameter block of a unit.
    pub(super) fn read(
        unit: &UnitSpec,
        params: &[u8],
        simd: Simd,
        limits: &Limits,
    ) -> Result<Decoder> {
        Ok(Decoder::new(unit.clone(), Model::read(Kind::of(unit), params, limits)?, simd))
    }

    fn new(unit: UnitSpec, model: Model, simd: Simd) -> Decoder {
        let kind = Kind::of(&unit);
        Decoder {
            kind,
            predictor: Predictor::of(&unit),
            unit,
            rule: ContextRule {
                shift: model.key.shift,
                origin: model.key.origin,
                float: kind.float,
            },
            expansion: Expansion::new(kind, &model),
            tables: DecodeTables::new(&model.tables),
            positions: model
                .positions
                .as_ref()
                .map(|positions| PositionDecoder::new(&model, positions, simd, kind.float)),
            planes: planes::count(&model.tokens),
            profiles: model.profiles,
            simd,
        }
    }

    /// Returns the memory of the unit's tables, in bytes.
    fn memory_bytes(&self) -> usize {
        let expansion = match &self.expansion {
            Expansion::Narrow(e) => size_of_val(&**e),
            Expansion::Wide(e, _) => size_of_val(&**e),
            Expansion::Any(e, _) => size_of_val(&**e),
        };
        self.unit.memory_bytes()
            + size_of_val(&*self.profiles)
            + expansion
            + self.tables.memory_bytes()
            + self.positions.as_ref().map_or(0, PositionDecoder::memory_bytes)
    }

    /// Decodes one chunk, whose buffers have been checked.
    pub(super) fn decode(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        let word_bytes = self.kind.bits as usize / 8;
        let mut state = cx.take::<DecodeState>();
        let DecodeState { predictions, work } = &mut *state;
        let predictions =
            self.predictor.predict(base, word_bytes, out.len() / word_bytes, predictions);
        let result = match encoded.split_first() {
            None => {
                out.copy_from_slice(predictions);
                Ok(())
            }
            Some((&VERBATIM, bytes)) if bytes.len() == out.len() => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            Some((&VERBATIM, bytes)) => Err(Error::corrupt(format!(
                "a verbatim chunk has {} bytes instead of {}",
                bytes.len(),
                out.len()
            ))),
            Some((&mode, body)) => {
                with_word!(
                    word_bytes,
                    decode_coded,
                    self,
                    chunk,
                    mode,
                    body,
                    predictions,
                    out,
                    work
                )
            }
        };
        cx.put(state);
        result
    }

    fn read_profiles(&self, input: &mut &[u8], relative: bool, count: usize) -> Result<Vec<u8>> {
        if self.profiles.len() == 1 {
            return zeros(count);
        }
        let mut profiles = bytes::unpack(input, count)?;
        if relative {
            let mut last = 0;
            for p in &mut profiles {
                last = if *p == 0 { last } else { *p - 1 };
                *p = last;
            }
        }
        if profiles.iter().any(|&p| p as usize >= self.profiles.len()) {
            return Err(Error::corrupt("a row refers to a profile that does not exist"));
        }
        Ok(profiles)
    }

    /// Fills in the contexts of a piece of one run.
    fn contexts<W: Word>(&self, profile: &[u8; KEYS], predictions: &[u8], contexts: &mut [u8]) {
        match W::BYTES {
            2 => {
                simd::contexts16(self.simd, self.rule, profile, predictions.as_chunks().0, contexts)
            }
            4 => {
                simd::contexts32(self.simd, self.rule, profile, predictions.as_chunks().0, contexts)
            }
            _ => {
                for (c, p) in contexts.iter_mut().zip(predictions.chunks_exact(W::BYTES)) {
                    let m = magnitude::<W>(W::load(p), self.kind.float);
                    let key = (m >> self.rule.shift)
                        .saturating_sub(self.rule.origin)
                        .min(KEYS as u64 - 1);
                    *c = profile[key as usize % KEYS];
                }
            }
        }
    }

    /// Expands tokens, takes raw bits from `position` on, applies the differences.
    fn restore<W: Word>(
        &self,
        tokens: &[u8],
        predictions: &[u8],
        raw: &mut RawBits<'_>,
        out: &mut [u8],
    ) {
        let float = self.kind.float;
        match &self.expansion {
            Expansion::Narrow(e) => {
                let (p, o) = (predictions.as_chunks().0, out.as_chunks_mut().0);
                simd::restore16(self.simd, float, e, tokens, p, raw, o);
            }
            Expansion::Wide(e, shift) => {
                let (p, o) = (predictions.as_chunks().0, out.as_chunks_mut().0);
                simd::restore32(self.simd, float, e, *shift, tokens, p, raw, o);
            }
            Expansion::Any(e, shift) => {
                let words = out.chunks_exact_mut(W::BYTES).zip(predictions.chunks_exact(W::BYTES));
                for ((o, p), &token) in words.zip(tokens) {
                    let (raw_bits, value) = e[token as usize];
                    let value = value.wrapping_add(raw.take(raw_bits) << shift);
                    W::store(restore::<W>(value & W::MASK, W::load(p), float), o);
                }
            }
        }
    }
}

fn decode_coded<W: Word>(
    decoder: &Decoder,
    chunk: u64,
    mode: u8,
    mut input: &[u8],
    predictions: &[u8],
    out: &mut [u8],
    work: &mut DecodeWork,
) -> Result<()> {
    let log_lanes = (mode & !(RELATIVE | POSITIONS | PLANES))
        .checked_sub(1)
        .filter(|&l| u32::from(l) <= MAX_LANES.ilog2());
    let lanes =
        1usize << log_lanes.ok_or_else(|| Error::corrupt(format!("unknown chunk mode {mode}")))?;
    let DecodeWork { runs: run_list, words, raw, positions, planes } = work;
    run_list.clear();
    run_list.extend(runs(&decoder.unit, chunk));
    let profiles = decoder.read_profiles(&mut input, mode & RELATIVE != 0, run_list.len())?;
    let most = input.len() as u64 / 2;
    let word_count = varint::take_max(&mut input, most, "number of words")? as usize;
    let states = varint::take_bytes(&mut input, 4 * lanes, "coder states")?;
    words.fill(varint::take_bytes(&mut input, 2 * word_count, "coder words")?);
    if mode & PLANES == 0 {
        raw.fill(input);
    } else {
        let count = decoder.planes.filter(|_| mode & POSITIONS == 0);
        let count = count.ok_or_else(|| {
            Error::corrupt(
                "a chunk has planes, but its unit has \
            none",
            )
        })?;
        planes::read(decoder.simd, input, count, out.len() / W::BYTES, planes, raw)?;
    }
    if mode & POSITIONS != 0 {
        let Some(decoder_of) = &decoder.positions else {
            return Err(Error::corrupt("a chunk has positions, but its unit has none"));
        };
        out.copy_from_slice(predictions);
        if !decoder_of.is_plain() {
            fill_classes(
                &decoder_of.class_maps,
                run_list,
                &profiles,
                &mut positions.classes,
                |map, range, out| {
                    let bytes = range.start * W::BYTES..range.end * W::BYTES;
                    decoder.contexts::<W>(map, &predictions[bytes], out);
                },
            );
        }
        return decoder_of.decode::<W>(states, words, raw, predictions, out, positions);
    }

    let mut tokens_in = rans::Decoder::new(decoder.simd, states, words, &decoder.tables)?;
    let mut raw = RawBits { bytes: raw, position: 0 };
    let (mut contexts, mut tokens) = ([0u8; BLOCK], [0u8; BLOCK]);
    let mut profiled_runs = run_list.iter().map(|r| r.len).zip(profiles);
    // Elements left of the current run.
    let (mut left, mut profile) = (0, 0);
    let blocks = out.chunks_mut(BLOCK * W::BYTES).zip(predictions.chunks(BLOCK * W::BYTES));
    for (out, predictions) in blocks {
        let len = out.len() / W::BYTES;
        let contexts = &mut contexts[..len];
        let mut at = 0;
        while at < len {
            if left == 0 {
                // The runs cover the chunk, so there is one.
                let Some(run) = profiled_runs.next() else { break };
                (left, profile) = (run.0, run.1 as usize);
                continue;
            }
            let n = left.min(len - at);
            let piece = &predictions[at * W::BYTES..(at + n) * W::BYTES];
            decoder.contexts::<W>(&decoder.profiles[profile], piece, &mut contexts[at..at + n]);
            at += n;
            left -= n;
        }
        if let Expansion::Narrow(e) = &decoder.expansion {
            let (p, o, float) =
                (predictions.as_chunks().0, out.as_chunks_mut().0, decoder.kind.float);
            tokens_in.restore16(contexts, float, e, p, &mut raw, o)?;
        } else {
            let tokens = &mut tokens[..len];
            tokens_in.decode(contexts, tokens)?;
            decoder.restore::<W>(tokens, predictions, &mut raw, out);
        }
    }
    tokens_in.finish()?;
    if !raw.bytes.is_exact(raw.position) {
        return Err(Error::corrupt("raw bits do not end where they should"));
    }
    Ok(())
}

/// A decoder of one unit's chunks.
pub(super) struct BoundDecoder {
    pub(super) unit: UnitSpec,
    pub(super) decoder: Decoder,
}

impl ChunkDecoder for BoundDecoder {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, out.len(), base.map(<[u8]>::len))?;
        self.decoder.decode(chunk, encoded, base, out, cx)
    }

    fn memory_bytes(&self) -> usize {
        self.unit.memory_bytes() + self.decoder.memory_bytes()
    }
}
