//! How large a delta would be.

use crate::compress::{Compressing, Pair, UnitPlan, Views, files_size, matched, plan};
use crate::context::Contexts;
use crate::inputs::Inputs;
use crate::settings::Settings;
use sparse_core::{EstimatedBits, Result, Segment, UnitSpec};
use sparse_model::Checkpoint;
use sparse_select::Sampler;

/// Least number of elements in all samples together: those of small models would tell too little.
const AT_LEAST: f64 = (4 << 20) as f64;

/// The same for each unit of low rank.
const LOW_RANK_AT_LEAST: f64 = (4 << 20) as f64;

/// Bytes of a record in the index: type, shape, name, references; with its digests.
const RECORD: u64 = 8;
const DIGEST: u64 = 16;
/// Bytes of the record of a tensor that is another's: the index is compressed, and it repeats.
const TIED: u64 = 4;
/// Bytes of the index by itself, header and trailer included.
const FRAME: u64 = 100;
/// Bytes of a chunk's record.
const CHUNK_RECORD: f64 = 5.0;

/// Result of [`Compressor::estimate`](crate::Compressor::estimate). Sizes in bytes.
///
/// # Examples
/// ```
/// use sparse::Compressor;
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// let estimate = Compressor::new(&target).base(&base).estimate(0.01)?;
/// assert!(estimate.delta_bytes * 5 < estimate.target_bytes);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Estimate {
    /// Expected size of the delta file.
    pub delta_bytes: u64,
    /// All files of the target.
    pub target_bytes: u64,
    /// Bytes of target tensors that were looked at.
    pub sampled_bytes: u64,
    /// Bytes of all target tensors.
    pub tensor_bytes: u64,
    /// By tensor, in order of name.
    pub tensors: Vec<TensorEstimate>,
}

/// Part of an [`Estimate`] that a tensor has.
///
/// # Examples
/// ```
/// use sparse::Compressor;
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// let estimate = Compressor::new(&target).base(&base).estimate(0.01)?;
/// let largest = estimate.tensors.iter().max_by_key(|t| t.stored_bytes);
/// assert!(largest.is_some_and(|t| t.stored_bytes < t.bytes));
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TensorEstimate {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its expected share of the payload.
    pub stored_bytes: u64,
    /// `bytes / stored_bytes`; `None` when nothing is stored.
    pub ratio: Option<f64>,
}

/// Does what [`Compressor::estimate`](crate::Compressor::estimate) says.
pub(crate) fn estimate(job: &Compressing<'_>, share: f64) -> Result<Estimate> {
    Inputs::new(job.base, Some(job.target), None).settle(sampled(job, share))
}

fn sampled(job: &Compressing<'_>, share: f64) -> Result<Estimate> {
    let Compressing { base, target, settings, observer } = *job;
    let views = base.map(Views::new);
    let pair = matched(views.as_ref(), target, settings)?;
    let plan = plan(&pair, settings)?;
    let elements: u64 = plan.units.iter().map(|u| u.spec.len()).sum();
    let share = share.max(AT_LEAST / elements.max(1) as f64).min(1.0);
    observer.begin("sampling", plan.units.iter().map(|u| u.spec.byte_len()).sum());
    let contexts = Contexts::new(settings);
    let units = settings.executor().try_map(plan.units.len(), |unit| {
        let estimate =
            estimate_unit(&pair, &plan.units[unit], unit as u64, share, settings, &contexts);
        observer.advance(plan.units[unit].spec.byte_len());
        estimate
    })?;
    observer.end();

    let mut tensors: Vec<TensorEstimate> = target
        .tensors()
        .iter()
        .map(|t| TensorEstimate {
            name: t.name.clone(),
            bytes: t.spec.byte_len(),
            ..TensorEstimate::default()
        })
        .collect();
    let mut result = Estimate {
        target_bytes: target.files().iter().map(|f| f.len).sum(),
        tensor_bytes: tensors.iter().map(|t| t.bytes).sum(),
        delta_bytes: FRAME + files_size(&pair, settings, observer)?,
        ..Estimate::default()
    };
    let mut delta_bits = 0.0;
    for (unit, estimated) in plan.units.iter().zip(units) {
        result.sampled_bytes += estimated.sampled_bytes;
        delta_bits += estimated.overhead_bits;
        for (segment, bits) in unit.segments.iter().zip(estimated.segment_bits) {
            delta_bits += bits;
            tensors[segment.tensor].stored_bytes += (bits / 8.0) as u64;
        }
    }
    for part in &plan.stored {
        let bytes = part.compressed(target, settings.effort)?.len() as u64;
        result.delta_bytes += bytes;
        tensors[part.tensor].stored_bytes += bytes;
    }
    let tied = pair.matches.iter().filter(|m| m.tied.is_some()).count();
    let records = tensors.len() - tied + target.files().len();
    // What seems unchanged is a reference to the base, whose digest stands for both.
    let based = tensors.iter().zip(&pair.matches);
    let based = based.filter(|(t, m)| m.counterpart.base().is_some() && t.stored_bytes > 0).count();
    result.delta_bytes += records as u64 * (RECORD + DIGEST) + tied as u64 * TIED;
    result.delta_bytes += based as u64 * DIGEST + (delta_bits / 8.0) as u64;
    for t in tensors.iter_mut().filter(|t| t.stored_bytes > 0) {
        t.ratio = Some(t.bytes as f64 / t.stored_bytes as f64);
    }
    result.tensors = tensors;
    Ok(result)
}

/// Returns a share of `rows` rows, evenly spread.
fn spread_rows(rows: u64, share: f64) -> Vec<u64> {
    let count = ((rows as f64 * share).ceil() as u64).clamp(rows.min(1), rows);
    (0..count).map(|i| i * rows / count).collect()
}

struct UnitEstimate {
    segment_bits: Vec<f64>,
    overhead_bits: f64,
    sampled_bytes: u64,
}

fn estimate_unit(
    pair: &Pair<'_>,
    unit: &UnitPlan,
    seed: u64,
    share: f64,
    settings: &Settings,
    contexts: &Contexts,
) -> Result<UnitEstimate> {
    let spec = &unit.spec;
    // How well factors fit is not seen in few rows.
    let by_factors = unit.scheme.needs_rows();
    let share =
        if by_factors { share.max(LOW_RANK_AT_LEAST / spec.len().max(1) as f64) } else { share };
    // What an adapter says, it says of whole rows.
    let rows: Option<Vec<Vec<u64>>> = (by_factors && settings.adapter.is_some())
        .then(|| spec.segments().iter().map(|s| spread_rows(s.rows, share)).collect());
    let hinted = unit.hinted_rows(settings, rows.as_deref())?;
    let mut sampler = Sampler::new(seed);
    let (mut target, mut base) = (Vec::new(), Vec::new());
    let mut shapes: Vec<Segment> = Vec::new();
    for (i, (segment, place)) in spec.segments().iter().zip(&unit.segments).enumerate() {
        let len = segment.row_len;
        let (shape, runs) = match rows.as_ref().and_then(|r| r.get(i)) {
            Some(rows) => (
                Segment { rows: rows.len() as u64, row_len: len },
                rows.iter().map(|r| r * len..(r + 1) * len).collect(),
            ),
            None => sampler.pick(*segment, share),
        };
        shapes.push(shape);
        for run in runs {
            settings.cancel.check()?;
            let read = |model: &dyn Checkpoint,
                        tensor: usize,
                        first: u64,
                        width: usize,
                        out: &mut Vec<u8>| {
                let at = out.len();
                out.resize(at + (run.end - run.start) as usize * width, 0);
                model.read_range_into(tensor, (first + run.start) * width as u64, &mut out[at..])
            };
            read(
                pair.target,
                place.tensor,
                place.start,
                spec.dtype().storage_bytes(),
                &mut target,
            )?;
            if let (Some(model), Some((tensor, _)), Some(dtype)) =
                (pair.base, place.base, spec.base_dtype())
            {
                read(model, tensor, place.base_start, dtype.storage_bytes(), &mut base)?;
            }
        }
    }
    let sample = UnitSpec::new(spec.dtype(), spec.base_dtype(), spec.chunk_len(), shapes)?;
    let base = spec.base_dtype().map(|_| base.as_slice());
    let encoder = hinted.as_deref().unwrap_or(&*unit.encoder);
    let bits = contexts
        .with(|cx| sparse_select::estimate(encoder, &sample, &target, base, settings.effort, cx))?
        .unwrap_or_else(|| {
            let mut bits = EstimatedBits::new(Vec::new());
            bits.fixed = 8.0 * spec.byte_len() as f64;
            bits
        });
    let segment_bits = (spec.segments().iter().zip(sample.segments()).zip(&bits.payload))
        .map(|((whole, part), bits)| bits * whole.len() as f64 / part.len().max(1) as f64)
        .collect();
    let coded_share = bits.chunks as f64 / sample.chunk_count().max(1) as f64;
    let chunk_bits = bits.per_chunk * coded_share + 8.0 * CHUNK_RECORD;
    // Parameters hardly grow, but for factors of matrices, which grow with rows and columns.
    let factor_len =
        |s: &UnitSpec| s.segments().iter().map(|s| (s.rows + s.row_len) as f64).sum::<f64>();
    let growth = if by_factors { factor_len(spec) / factor_len(&sample).max(1.0) } else { 1.0 };
    Ok(UnitEstimate {
        segment_bits,
        overhead_bits: bits.fixed * growth + chunk_bits * spec.chunk_count() as f64,
        sampled_bytes: target.len() as u64,
    })
}
