//! What must hold on valid data: the weights come back, and nothing but the data decides how.

use super::cases::Case;
use super::data::ulp_distance;
use super::random::Random;
use super::subject::{Check, Encoded, Order, Subject, Unaligned, ensure};
use crate::{BaseUse, CodecContext, ErrorKind, EstimatedBits, Fidelity};

/// Chunks shorter than this are for tests: estimates need not count what each of them costs.
const MIN_ESTIMATED_CHUNK: u32 = 500;

/// Encodes and decodes in every way that must not matter.
///
/// Returns true if the codec took the unit.
pub(super) fn check(subject: &Subject<'_>, case: &Case) -> Check<bool> {
    subject.step("encoding");
    let Some(encoded) = subject.encode(case, Order::Forward)? else { return Ok(false) };
    let required = subject.encoder.info().base == BaseUse::Required;
    ensure!(
        !required || case.base.is_some(),
        "the codec says that it requires a base, and took a unit without one"
    );
    estimate(case, &encoded)?;

    subject.step("decoding");
    let decoded = subject.decode(case, &encoded.unit, Order::Forward)?;
    fidelity(subject, case, &decoded)?;

    let orders: &[Order] =
        if case.thorough { &[Order::Reverse, Order::Threads] } else { &[Order::Reverse] };
    for &order in orders {
        subject.step(format_args!("encoding again ({order:?}, unaligned)"));
        let again = subject.encode(case, order)?;
        same_encoding(&encoded, again.as_ref())?;
        subject.step(format_args!("decoding again ({order:?}, unaligned)"));
        let again = subject.decode(case, &encoded.unit, order)?;
        ensure!(
            again == decoded,
            "the decoded bytes differ from those of the first time{}",
            first_difference(&again, &decoded)
        );
    }
    if case.thorough {
        decode_parts(subject, case, &encoded, &decoded)?;
        changed_data(subject, case)?;
        partial_analysis(subject, case)?;
    }
    Ok(true)
}

fn fidelity(subject: &Subject<'_>, case: &Case, decoded: &[u8]) -> Check {
    match subject.fidelity {
        Fidelity::Lossless => ensure!(
            decoded == case.target,
            "the codec is lossless, but the weights did not come back{}",
            first_difference(decoded, &case.target)
        ),
        Fidelity::UlpBounded(bound) => {
            let distance = ulp_distance(case.unit.dtype(), decoded, &case.target);
            ensure!(
                distance <= u64::from(bound),
                "weights are off by {distance} units in the last place"
            );
        }
        Fidelity::Lossy => {}
    }
    Ok(())
}

fn first_difference(a: &[u8], b: &[u8]) -> String {
    match a.iter().zip(b).position(|(a, b)| a != b) {
        Some(i) => format!(" (byte {i} is {:#04x}, should be {:#04x})", a[i], b[i]),
        None => format!(" ({} bytes, should be {})", a.len(), b.len()),
    }
}

fn same_encoding(first: &Encoded, again: Option<&Encoded>) -> Check {
    let Some(again) = again else {
        return Err("the codec took the unit before, and declines it now".into());
    };
    ensure!(
        again.unit.params == first.unit.params,
        "the parameters differ from those of the first time"
    );
    for (i, (a, b)) in again.unit.chunks.iter().zip(&first.unit.chunks).enumerate() {
        ensure!(a == b, "encoded chunk {i} differs from that of the first time");
    }
    let (a, b) = (bits(&again.estimate), bits(&first.estimate));
    // Sums of floats may depend on the order of the chunks, in the last places.
    ensure!(
        (a - b).abs() <= 1e-6 * b + 1e-6,
        "estimated bits depend on the order of observation: {a} and {b}"
    );
    Ok(())
}

fn bits(estimate: &EstimatedBits) -> f64 {
    estimate.payload.iter().sum::<f64>()
        + estimate.per_chunk * estimate.chunks as f64
        + estimate.fixed
}

fn well_formed(case: &Case, estimate: &EstimatedBits) -> Check {
    let segments = case.unit.segments().len();
    ensure!(
        estimate.payload.len() == segments,
        "the estimate has {} entries for {segments} segments",
        estimate.payload.len()
    );
    ensure!(
        estimate.chunks <= case.unit.chunk_count(),
        "the estimate counts {} chunks of {}",
        estimate.chunks,
        case.unit.chunk_count()
    );
    for part in estimate.payload.iter().chain([&estimate.per_chunk, &estimate.fixed]) {
        ensure!(
            part.is_finite() && *part >= 0.0,
            "the estimate contains {part} bits, which is \
            not a size"
        );
    }
    Ok(())
}

fn estimate(case: &Case, encoded: &Encoded) -> Check {
    well_formed(case, &encoded.estimate)?;
    let (estimated, real) = (encoded.estimate.total_bytes(), encoded.unit.byte_len());
    ensure!(
        case.unit.chunk_len() < MIN_ESTIMATED_CHUNK || estimated.abs_diff(real) <= real / 20 + 1024,
        "estimated {estimated} bytes, encoded to {real}"
    );
    Ok(())
}

/// Decodes only the chunks that cover a range, as a reader does.
///
/// Each is decoded twice, perhaps, and perhaps by a new decoder.
fn decode_parts(subject: &Subject<'_>, case: &Case, encoded: &Encoded, decoded: &[u8]) -> Check {
    subject.step("decoding single chunks");
    let ignored = subject.encoder.info().base == BaseUse::Ignored;
    let mut random = Random::named(&case.name);
    let mut whole = decoded;
    for chunk in 0..case.unit.chunk_count() {
        let (expected, rest) = whole.split_at(case.unit.chunk_bytes(chunk));
        whole = rest;
        if random.below(2) == 0 {
            continue;
        }
        let mut cx = CodecContext::new();
        let bound = subject
            .encoder
            .bind(&case.unit, &encoded.unit.params, &cx.limits)
            .map_err(|e| format!("the second bind failed: {e:?}"))?;
        let mut base = case.base_chunk(chunk).map(<[u8]>::to_vec);
        for time in 0..3 {
            if let Some(base) = base.as_mut().filter(|_| time == 2 && ignored) {
                random.fill(base);
            }
            let mut out = random.bytes(expected.len());
            bound
                .decode_chunk(chunk, encoded.unit.chunk(chunk), base.as_deref(), &mut out, &mut cx)
                .map_err(|e| format!("decoding chunk {chunk} alone failed: {e:?}"))?;
            let why = if time == 2 && ignored {
                " with another base, which the codec says it ignores"
            } else {
                ""
            };
            ensure!(
                out == expected,
                "chunk {chunk} alone (time {time}) decodes to something else{why}"
            );
        }
    }
    Ok(())
}

/// Changes the data between analysis and encoding.
///
/// That happens to a file that is being written. Either there is an error, or the chunk decodes to
/// the new data.
fn changed_data(subject: &Subject<'_>, case: &Case) -> Check {
    let mut random = Random::named(&case.name);
    subject.step("analysing once more");
    let Some(analysis) = subject.analyze(case, Order::Forward, |_| true)? else { return Ok(()) };
    let encoder = analysis.finish().map_err(|e| format!("finish failed the second time: {e:?}"))?;
    for change in ["random target", "one element changed", "random base", "random target and base"]
    {
        subject.step(format_args!("encoding other data than was analysed ({change})"));
        let mut target = case.target.clone();
        let mut base = case.base.clone();
        if change.starts_with("random target") {
            random.fill(&mut target);
        }
        if let Some(base) = base.as_mut().filter(|_| change.ends_with("base")) {
            random.fill(base);
        }
        if change.starts_with("one") && !target.is_empty() {
            let i = random.below(target.len());
            target[i] ^= 1 << random.below(8);
        }
        let (name, unit) = (String::new(), case.unit.clone());
        let changed = Case { name, unit, effort: case.effort, target, base, thorough: false };
        encode_or_refuse(subject, &changed, &*encoder)?;
    }
    Ok(())
}

/// Analyses only a sample, as an estimate does.
///
/// Encoding with what the sample taught may fail, but not go wrong.
fn partial_analysis(subject: &Subject<'_>, case: &Case) -> Check {
    for every in [0, 3] {
        subject.step(format_args!("analysing only some chunks (one of {every})"));
        let shown = |chunk: u64| chunk.checked_rem(every) == Some(1);
        let Some(analysis) = subject.analyze(case, Order::Forward, shown)? else { continue };
        well_formed(case, &analysis.estimated_bits())?;
        match analysis.finish() {
            Ok(encoder) => encode_or_refuse(subject, case, &*encoder)?,
            Err(e) => ensure!(e.kind() == ErrorKind::InvalidArgument, "finish failed: {e:?}"),
        }
    }
    Ok(())
}

fn encode_or_refuse(
    subject: &Subject<'_>,
    case: &Case,
    encoder: &dyn crate::ChunkEncoder,
) -> Check {
    let mut cx = CodecContext::new();
    let bound = subject
        .encoder
        .bind(&case.unit, encoder.params(), &cx.limits)
        .map_err(|e| format!("bind refused the encoder's own parameters: {e:?}"))?;
    for chunk in 0..case.unit.chunk_count() {
        let (target, base) = (case.target_chunk(chunk), case.base_chunk(chunk));
        let mut encoded = Vec::new();
        match encoder.encode_chunk(chunk, target, base, &mut encoded, &mut cx) {
            Ok(()) => {
                let mut out = Unaligned::new(&vec![0x5a; target.len()], Order::Reverse);
                bound.decode_chunk(chunk, &encoded, base, &mut out, &mut cx).map_err(|e| {
                    format!(
                        "encode_chunk {chunk} wrote what decode_chunk refuses, instead of \
                        failing: {e:?}"
                    )
                })?;
                ensure!(
                    subject.fidelity != Fidelity::Lossless || *out == *target,
                    "encode_chunk {chunk} wrote what does not decode to its input, instead of \
                        failing"
                );
            }
            Err(e) => ensure!(
                e.kind() == ErrorKind::InvalidArgument,
                "encode_chunk {chunk} must fail with InvalidArgument, not {e:?}"
            ),
        }
    }
    Ok(())
}
