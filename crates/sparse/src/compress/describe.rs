//! Description: how each tensor of the target is made up.

use super::choose::Bench;
use super::examine::equal_bytes;
use super::hint::explanation;
use super::job::{Job, Part, TEST_UNIT_BYTES};
use super::layout::Layout;
use super::repeats::{repeats, stored};
use super::weights::Run;
use sparse_core::{CodecContext, Dtype, DtypeClass, Effort, Result, Segment, TensorSpec, UnitSpec};
use sparse_model::Counterpart;
use sparse_select::{LosslessSchemes, Policy, Sample, Scheme, Selector, Weights, estimate};

/// Elements that are looked at to decide whether a base helps.
const TRIAL: u64 = 1 << 15;

/// Bytes of rows that are looked at whether they are the base's: of fewer, coding takes as little.
const COPIED: u64 = 1 << 12;

/// Runs of rows, at most, of which each is worth a trial of its own.
const FEW_RUNS: usize = 64;

/// Describes all tensors of the target, by number.
///
/// # Errors
/// `InvalidInput` for an adapter that cannot be merged, and so explains nothing; what reading and
/// trials report.
pub(super) fn describe(bench: Bench<'_>) -> Result<Vec<Vec<Part>>> {
    bench.settings.adapter.as_ref().map_or(Ok(()), |adapter| adapter.check())?;
    let count = bench.pair.target.tensors().len();
    bench.settings.executor().try_map(count, |tensor| parts(bench, tensor))
}

/// Describes how one tensor is made up.
fn parts(bench: Bench<'_>, tensor: usize) -> Result<Vec<Part>> {
    let Bench { pair, settings, .. } = bench;
    settings.cancel.check()?;
    let m = &pair.matches[tensor];
    let spec = &pair.target.tensors()[tensor].spec;
    let segment = Segment::of(spec);
    if segment.is_empty() || m.tied.is_some() {
        return Ok(Vec::new());
    }
    let whole = Run {
        pair,
        references: bench.references,
        tensor,
        start: 0,
        segment,
        dtype: spec.dtype(),
        base: None,
        base_start: 0,
        ratio: 1.0,
    };
    if let Some(layout) = pair.layouts.get(&tensor) {
        return by_layout(bench, whole, layout);
    }
    let Some((base_model, base)) = pair.base.zip(m.counterpart.base()) else {
        return alone(bench, whole);
    };
    let base_spec = &base_model.tensors()[base].spec;
    let same_type = base_spec.dtype() == spec.dtype();
    let common = match m.counterpart {
        Counterpart::Rows { rows, .. } => {
            let all = spec.shape().first().copied().unwrap_or(1).max(1);
            spec.storage_len() / all * rows
        }
        _ => spec.storage_len(),
    };
    // Tensors whose digests differ need no comparison; where nothing was hashed, none is wanted.
    let may_be_equal = match pair.digests.get(tensor) {
        Some(digest) => common < spec.storage_len() || pair.base_digests.get(&base) == Some(digest),
        None => false,
    };
    let common_bytes = common * spec.dtype().storage_bytes() as u64;
    let mut parts = Vec::new();
    if same_type
        && may_be_equal
        && equal_bytes((pair.target, tensor, 0), (base_model, base, 0), common_bytes, settings)?
    {
        parts.push(Part::Copy { base, start: 0, len: common });
    } else if common % segment.row_len == 0 {
        let rows = Segment { rows: common / segment.row_len, row_len: segment.row_len };
        let run = Run { segment: rows, base: Some(base), ..whole };
        if !base_helps(bench, run)? {
            return alone(bench, whole);
        }
        let explained = explanation(pair, tensor, base, rows, settings)?;
        parts.extend(code(bench, run, explained)?);
    } else {
        return alone(bench, whole);
    }
    if common < spec.storage_len() {
        let segment = Segment::of(&TensorSpec::new(spec.dtype(), rest_of(spec, common))?);
        parts.extend(alone(bench, Run { start: common, segment, ..whole })?);
    }
    Ok(parts)
}

/// Describes rows that lie elsewhere in the base: run by run.
fn by_layout(bench: Bench<'_>, whole: Run<'_>, layout: &Layout) -> Result<Vec<Part>> {
    let Bench { pair, settings, .. } = bench;
    let Some(base_model) = pair.base else { return alone(bench, whole) };
    let row_len = layout.row_len;
    let mut runs = Vec::with_capacity(layout.runs.len());
    let mut start = 0;
    for run in &layout.runs {
        let segment = Segment { rows: run.rows, row_len };
        let (base, base_start) = match run.base {
            Some((base, row)) => (Some(base), row * row_len),
            None => (None, 0),
        };
        runs.push(Run { start, segment, base, base_start, ..whole });
        start += segment.len();
    }
    let largest = |with_base: bool| {
        let all = runs.iter().filter(|run| run.base.is_some() == with_base);
        all.max_by_key(|run| run.segment.rows).copied()
    };
    // What holds of the largest run holds of the others: they were found in the same way.
    let Some(based) = largest(true) else { return alone(bench, whole) };
    if !base_helps(bench, based)? {
        return alone(bench, whole);
    }
    let few = runs.len() <= FEW_RUNS;
    let based = schemes(bench, &based, few)?;
    let alone = largest(false).map(|run| schemes(bench, &run, few)).transpose()?;
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        settings.cancel.check()?;
        let width = run.dtype.storage_bytes() as u64;
        let bytes = run.segment.len() * width;
        match (run.base, &alone) {
            (Some(base), _) => {
                let same_type = run.base_dtype() == Some(run.dtype);
                let ours = (pair.target, run.tensor, run.start * width);
                let theirs = (base_model, base, run.base_start * width);
                let copies = same_type && bytes >= COPIED;
                if copies && equal_bytes(ours, theirs, bytes, settings)? {
                    let (start, len) = (run.base_start, run.segment.len());
                    parts.push(Part::Copy { base, start, len });
                } else {
                    parts.extend(jobs(bench, run, &based, None));
                }
            }
            (None, Some(alone)) => parts.extend(jobs(bench, run, alone, None)),
            (None, None) => {}
        }
    }
    Ok(parts)
}

/// Describes rows that the base is of no use for: stored where they repeat themselves, else coded.
fn alone(bench: Bench<'_>, run: Run<'_>) -> Result<Vec<Part>> {
    let repeats = repeats(bench, &run)?;
    let mut parts = Vec::new();
    let rest = |rows: std::ops::Range<u64>| -> Result<Vec<Part>> {
        let Segment { row_len, .. } = run.segment;
        let segment = Segment { rows: rows.end - rows.start, row_len };
        let start = run.start + rows.start * row_len;
        if segment.is_empty() {
            return Ok(Vec::new());
        }
        code(bench, Run { start, segment, ..run }, None)
    };
    let mut at = 0;
    for rows in repeats {
        parts.extend(rest(at..rows.start)?);
        at = rows.end;
        parts.extend(stored(&run, rows));
    }
    parts.extend(rest(at..run.segment.rows)?);
    Ok(parts)
}

/// Describes rows that are to be coded. `explained` says that a product explains the change: the
/// scheme that makes use of it, and the module of the adapter.
fn code(bench: Bench<'_>, run: Run<'_>, explained: Option<(usize, usize)>) -> Result<Vec<Part>> {
    let lossless = match explained {
        Some((default, _)) => LosslessSchemes { default, others: Vec::new() },
        None => schemes(bench, &run, true)?,
    };
    Ok(jobs(bench, run, &lossless, explained.map(|e| e.1)))
}

/// Chooses what codes rows if nothing is lost; `any` allows schemes that want many rows.
fn schemes(bench: Bench<'_>, run: &Run<'_>, any: bool) -> Result<LosslessSchemes> {
    let Bench { settings, contexts, .. } = bench;
    let schemes = settings.codecs.schemes();
    let found = contexts
        .with(|cx| {
            let selector = Selector::new(schemes, &Policy::Lossless)?;
            selector.with_effort(settings.effort).lossless(run, cx)
        })
        .map_err(|e| match bench.pair.target.tensors().get(run.tensor) {
            Some(tensor) => e.in_tensor(&*tensor.name),
            None => e,
        })?;
    if any || !schemes.get(found.default).is_some_and(|s| s.needs_rows()) {
        return Ok(found);
    }
    let default = bench.plain().unwrap_or(found.default);
    Ok(LosslessSchemes { default, others: Vec::new() })
}

/// Makes the jobs of rows: several, if they are more than the encoder takes.
fn jobs(
    bench: Bench<'_>,
    run: Run<'_>,
    lossless: &LosslessSchemes,
    module: Option<usize>,
) -> Vec<Part> {
    let schemes = bench.settings.codecs.schemes();
    let Run { tensor, dtype, base, segment: Segment { rows, row_len }, .. } = run;
    let limit = schemes.get(lossless.default).and_then(|s| max_unit_len(&**s, dtype));
    let most = limit.map_or(rows, |elements| elements / row_len);
    let count = rows.div_ceil(most.max(1)).max(1);
    let part = |i: u64| {
        let (first, end) = (i * rows / count, (i + 1) * rows / count);
        Part::Code(Job {
            tensor,
            start: run.start + first * row_len,
            segment: Segment { rows: end - first, row_len },
            dtype,
            base,
            base_start: run.base_start + first * row_len,
            encoder: lossless.default as u32,
            lossless: lossless.clone(),
            alone: false,
            module,
        })
    };
    (0..count).map(part).collect()
}

/// Returns the most elements that a scheme takes at once.
fn max_unit_len(scheme: &dyn Scheme, dtype: Dtype) -> Option<u64> {
    // Tests have no room for units that are too large.
    let most = scheme.max_unit_len(dtype)?;
    Some(if cfg!(test) { most.min(TEST_UNIT_BYTES / dtype.storage_bytes() as u64) } else { most })
}

/// Returns the shape of the rows after the first `common` storage elements.
fn rest_of(spec: &TensorSpec, common: u64) -> Vec<u64> {
    let mut shape = spec.shape().to_vec();
    let per_entry = spec.storage_len() / shape[0].max(1);
    shape[0] -= common / per_entry.max(1);
    shape
}

/// Tries on a sample whether coding against the base is smaller than without.
fn base_helps(bench: Bench<'_>, run: Run<'_>) -> Result<bool> {
    let Some(base_dtype) = run.base_dtype() else { return Ok(false) };
    let sample = Sample::draw(&run, TRIAL, false)?;
    let base = sample.base.as_deref().unwrap_or_default();
    // Where a good part did not change at all, there is no question.
    if base_dtype == run.dtype {
        let width = run.dtype.storage_bytes();
        if count_equal(&sample.target, base, width) * 16 > sample.unit.len()
            || clearly_near(run.dtype, &sample.target, base)
        {
            return Ok(true);
        }
    }
    // A codec for everything, with and without.
    let Some(encoder) = bench.plain_encoder() else { return Ok(true) };
    let bits = |base: Option<(Dtype, &[u8])>, cx: &mut CodecContext| -> Result<f64> {
        let (chunk_len, segments) = (bench.settings.chunk_len, sample.unit.segments());
        let unit = UnitSpec::new(run.dtype, base.map(|b| b.0), chunk_len, segments)?;
        let base = base.map(|b| b.1);
        let found = estimate(&*encoder, &unit, &sample.target, base, Effort::Fast, cx)?;
        Ok(found.map_or(f64::INFINITY, |bits| bits.payload.iter().sum()))
    };
    bench.contexts.with(|cx| Ok(bits(Some((base_dtype, base)), cx)? <= bits(None, cx)?))
}

/// Returns true if the differences of floats are so short that the base helps.
///
/// No estimate is needed then. They are shorter than the mantissas, which coding without a base
/// would leave, unless many of those end in zeros.
fn clearly_near(dtype: Dtype, target: &[u8], base: &[u8]) -> bool {
    /// What a token takes at most beyond the length of the difference, and an exponent at least
    /// beyond its mantissa.
    const MARGIN: f64 = 4.0 - 2.0;
    fn look<const N: usize>(target: &[u8], base: &[u8]) -> (usize, u32, u32) {
        let load = |bytes: &[u8; N]| {
            let mut word = [0; 4];
            word[..N].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        };
        let (target, base) = (target.as_chunks::<N>().0, base.as_chunks::<N>().0);
        let (mut bits, mut odd) = (0, 0);
        for (t, b) in target.iter().zip(base) {
            let (t, b) = (load(t), load(b));
            // Where the sign differs, this is as long as the word.
            bits += 32 - t.abs_diff(b).leading_zeros();
            odd += t & 1;
        }
        (target.len(), bits, odd)
    }
    let DtypeClass::Float { mantissa, .. } = dtype.storage_class() else { return false };
    let (count, bits, odd) = match dtype.storage_bytes() {
        2 => look::<2>(target, base),
        4 => look::<4>(target, base),
        _ => return false,
    };
    odd as usize > count / 4 && f64::from(bits) < (f64::from(mantissa) - MARGIN) * count as f64
}

/// Counts the elements, of `width` bytes each, that are equal.
fn count_equal(a: &[u8], b: &[u8], width: usize) -> u64 {
    fn count<const N: usize>(a: &[u8], b: &[u8]) -> u64 {
        a.as_chunks::<N>().0.iter().zip(b.as_chunks::<N>().0).filter(|(a, b)| a == b).count() as u64
    }
    match width {
        1 => count::<1>(a, b),
        2 => count::<2>(a, b),
        4 => count::<4>(a, b),
        _ => count::<8>(a, b),
    }
}
