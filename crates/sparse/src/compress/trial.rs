//! Trying one way to code a tensor on a sample of its weights.

use super::pair::Pair;
use super::plan::{Coding, Job, OWN_UNIT};
use crate::Options;
use crate::context::Contexts;
use crate::reference::References;
use sparse_codecs::certificate::Tally;
use sparse_codecs::int8::Int8;
use sparse_codecs::sign::Sign;
use sparse_codecs::svd::Svd;
use sparse_core::{
    DeltaEncoder, EncodedUnit, ErrorKind, Result, TensorSource, UnitSpec, decode_unit, encode_unit,
};
use sparse_model::Model;
use sparse_select::{Bound, Policy, Sampler, Setting};
use std::ops::Range;
use std::sync::Arc;

/// A codec without a bound of its own must keep the policy's by this factor on the sample; the
/// certificate is checked in the end.
pub(super) const CLEAR: f64 = 0.9;

/// From this size on, tensors of narrow types have tables of their own under `sparse-int8`: the
/// points that codes come back at are shared with tables, and belong elsewhere for each, since
/// changes come in few sizes.
const ALONE: f64 = 16384.0;

/// Where a sample takes less, what chunks cost by themselves counts, and is measured.
const SMALL: usize = 4096;

/// What every trial of a compression needs.
#[derive(Clone, Copy)]
pub(super) struct Bench<'a> {
    pub(super) pair: &'a Pair<'a>,
    pub(super) references: &'a References<'a>,
    pub(super) options: &'a Options,
    pub(super) contexts: &'a Contexts,
}

/// A way to code a job, and what it came to on the sample.
pub(super) struct Trial {
    pub(super) setting: Setting,
    pub(super) coding: Option<Arc<dyn DeltaEncoder>>,
    /// The tensor of the base that it is coded against.
    pub(super) base: Option<usize>,
    pub(super) bits: f64,
    /// Squared norms of error and change, of the sample scaled to the whole.
    pub(super) error: f64,
    pub(super) change: f64,
    pub(super) allowed: bool,
    /// Whether the codec keeps a bound relative to the change by itself.
    pub(super) bounded: bool,
    /// Whether it was counted as a unit of its own.
    pub(super) alone: bool,
}

impl Trial {
    pub(super) fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.change).sqrt() }
    }
}

/// A codec to be tried, for a job that has `shared` of the tables of its unit.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job,
    pub(super) shared: f64,
    pub(super) setting: Setting,
    pub(super) encoder: Arc<dyn DeltaEncoder>,
}

/// Whether a codec is by factors of matrices.
pub(super) fn has_factors(setting: &Setting) -> bool {
    matches!(setting.codec.as_str(), "svd" | "layered")
}

/// Whether parameters of a job so coded are mostly factors.
fn is_by_factors(job: &Job, setting: &Setting) -> bool {
    has_factors(setting) || (job.coding == Coding::LowRank && setting.codec == "lossless")
}

/// Some of a job's weights.
pub(super) struct Sample {
    unit: UnitSpec,
    target: Vec<u8>,
    base: Option<Vec<u8>>,
    /// How many times larger the job is.
    scale: f64,
    /// Where the weights lie in the tensor, where they are coded without the base that their change
    /// is relative to.
    runs: Vec<Range<u64>>,
}

impl Sample {
    /// Takes about `elements` elements; whole rows if `by_rows`.
    pub(super) fn take(
        bench: Bench<'_>,
        job: &Job,
        elements: u64,
        by_rows: bool,
    ) -> Result<Sample> {
        let pair = bench.pair;
        let share = elements as f64 / job.segment.len().max(1) as f64;
        let mut sampler = Sampler::new(job.tensor as u64);
        let (shape, runs) = if by_rows {
            sampler.pick_rows(job.segment, share)
        } else {
            sampler.pick(job.segment, share)
        };
        let read = |model: &Model, tensor: usize, start: u64, width: usize| -> Result<Vec<u8>> {
            let mut out = vec![0; shape.len() as usize * width];
            let mut at = 0;
            for run in &runs {
                let len = (run.end - run.start) as usize * width;
                if let Some(out) = out.get_mut(at..at + len) {
                    model.read_range_into(tensor, (start + run.start) * width as u64, out)?;
                }
                at += len;
            }
            Ok(out)
        };
        let target = read(pair.target, job.tensor, job.start, job.dtype.storage_bytes())?;
        let of_base = match job.base.zip(pair.base) {
            Some((tensor, model)) => {
                let dtype = model.tensors()[tensor].spec.dtype();
                Some((dtype, read(model, tensor, job.start, dtype.storage_bytes())?))
            }
            None => None,
        };
        let dtype = of_base.as_ref().map(|b| b.0);
        let elsewhere = of_base.is_none() && bench.references.of(job.tensor).is_some();
        let in_tensor =
            runs.iter().filter(|_| elsewhere).map(|r| job.start + r.start..job.start + r.end);
        Ok(Sample {
            unit: UnitSpec::new(job.dtype, dtype, sparse_core::DEFAULT_CHUNK_LEN, [shape])?,
            target,
            base: of_base.map(|b| b.1),
            scale: job.segment.len() as f64 / shape.len().max(1) as f64,
            runs: in_tensor.collect(),
        })
    }

    /// Whether `attempt`, of a quarter as many directions as there are rows in the sample, leaves
    /// no more than a relative error of `e`. Where that fails, the rows of the whole share even
    /// less, and it is not worth decomposing.
    pub(super) fn may_have_factors(
        &self,
        attempt: Attempt<'_>,
        e: f64,
        bench: Bench<'_>,
    ) -> Result<bool> {
        let trial = self.attempt(attempt, &Policy::Lossless, bench)?;
        Ok(trial.is_some_and(|t| t.relative() <= e))
    }

    /// The number of directions for [`may_have_factors`](Self::may_have_factors).
    pub(super) fn quick_rank(&self) -> f64 {
        let rows = self.unit.segments().first().map_or(0, |s| s.rows.min(s.row_len));
        (rows / 4).clamp(8, 4096) as f64
    }

    /// Compares what came back with the change of the same weights, whatever they are coded
    /// against.
    fn measure(
        &self,
        tally: &mut Tally,
        job: &Job,
        restored: &[u8],
        bench: Bench<'_>,
    ) -> Result<()> {
        if self.runs.is_empty() {
            let base = self.unit.base_dtype().zip(self.base.as_deref());
            return tally.observe(job.dtype, &self.target, restored, base);
        }
        let (mut target, mut restored) = (&self.target[..], restored);
        for run in &self.runs {
            let len = (run.end - run.start) as usize * job.dtype.storage_bytes();
            let (t, r) = (
                target.split_at(len.min(target.len())),
                restored.split_at(len.min(restored.len())),
            );
            bench.references.observe(tally, job.tensor, run.start, [t.0, r.0])?;
            (target, restored) = (t.1, r.1);
        }
        Ok(())
    }

    /// How much longer the rows and columns of the job are than those of the sample.
    fn factor_growth(&self, job: &Job) -> f64 {
        let len = |s: sparse_core::Segment| (s.rows + s.row_len) as f64;
        len(job.segment) / len(self.unit.segments()[0]).max(1.0)
    }

    /// Codes the sample, decodes it, and measures. `None` if the codec does not take such weights.
    pub(super) fn attempt(
        &self,
        attempt: Attempt<'_>,
        policy: &Policy,
        bench: Bench<'_>,
    ) -> Result<Option<Trial>> {
        let Attempt { job, shared, setting, encoder } = attempt;
        let Bench { options, contexts, .. } = bench;
        let base = self.base.as_deref();
        let encoded = contexts
            .with(|cx| encode_unit(&*encoder, &self.unit, &self.target, base, options.effort, cx));
        let encoded = match encoded {
            Err(e) if e.kind() == ErrorKind::InvalidArgument => return Ok(None),
            other => other?,
        };
        let mut restored = vec![0; self.target.len()];
        contexts
            .with(|cx| decode_unit(&*encoder, &self.unit, &encoded, base, &mut restored, cx))?;
        let mut tally = Tally::default();
        self.measure(&mut tally, job, &restored, bench)?;
        let found = tally.certificate();

        let bytes = |unit: &EncodedUnit| unit.chunks.iter().map(Vec::len).sum::<usize>();
        let chunks = bytes(&encoded);
        // States and the like, which do not grow with the weights.
        let mut by_chunk = 0.0;
        if chunks < SMALL && self.unit.len() >= 4 {
            let halves = self.unit.len().div_ceil(2) as u32;
            let unit =
                UnitSpec::new(job.dtype, self.unit.base_dtype(), halves, self.unit.segments())?;
            let halved = contexts
                .with(|cx| encode_unit(&*encoder, &unit, &self.target, base, options.effort, cx))?;
            by_chunk = bytes(&halved).saturating_sub(chunks) as f64;
        }
        let count = job.segment.len() as f64 / f64::from(options.chunk_len.max(1));
        let payload = (chunks as f64 - by_chunk).max(0.0) * self.scale + by_chunk * count;
        let params = encoded.params.len() as f64;
        // Of a parameter block, tables are shared, steps by rows grow with the rows, factors with
        // rows and columns.
        let steps = |(now, then): (u64, f64)| (now as f64, then / (now as f64).max(1.0));
        let (grown, growth) = match setting.codec.as_str() {
            "int8" => steps(Int8::step_bytes(&self.unit, &encoded.params, self.scale)?),
            "sign" => steps(Sign::step_bytes(&self.unit, &encoded.params, self.scale)?),
            "svd" | "layered" => {
                let tables = Svd::table_bytes(&self.unit, &encoded.params)? as f64;
                (params - tables, self.factor_growth(job))
            }
            "lossless" if is_by_factors(job, &setting) => (params, self.factor_growth(job)),
            _ => (0.0, 1.0),
        };
        // Units of factors are no larger than this.
        let least = if is_by_factors(job, &setting) {
            job.segment.len() as f64 / OWN_UNIT as f64
        } else {
            0.0
        };
        let alone =
            setting.codec == "sparse-int8" && job.dtype.storage_bytes() == 2 && payload >= ALONE;
        let shared = if alone { 1.0 } else { shared.max(least.min(1.0)) };
        let tables = (params - grown) * shared;
        let bits = 8.0 * (payload + tables + grown * growth);
        let bounded = matches!(setting.codec.as_str(), "sparse" | "sparse-int8");
        let allowed = match policy {
            // Nothing is ever worse than leaving the change out.
            _ if bounded => true,
            Policy::Within(Bound::Relative(e)) => found.relative_error() <= e.min(1.0) * CLEAR,
            _ => found.relative_error() <= 1.0,
        };
        Ok(Some(Trial {
            setting,
            coding: Some(encoder),
            base: job.base,
            bits,
            error: found.error.powi(2) * self.scale,
            change: found.change.powi(2) * self.scale,
            allowed,
            bounded,
            alone,
        }))
    }
}
