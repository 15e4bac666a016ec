//! Runs of rows of a target's tensors, as a selector sees them.

use super::examine::Pair;
use super::job::Job;
use crate::reference::References;
use sparse_codecs::certificate::Tally;
use sparse_core::{Dtype, Error, Result, Segment};
use sparse_select::{Measured, Sample, Weights};
use std::ops::Range;

/// Some rows of a tensor, against some base or none.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) pair: &'a Pair<'a>,
    pub(super) references: &'a References<'a>,
    pub(super) tensor: usize,
    pub(super) start: u64,
    pub(super) segment: Segment,
    pub(super) dtype: Dtype,
    pub(super) base: Option<usize>,
    pub(super) base_start: u64,
    /// See [`Weights::ratio`].
    pub(super) ratio: f64,
}

impl<'a> Run<'a> {
    pub(super) fn of(pair: &'a Pair<'a>, references: &'a References<'a>, job: &Job) -> Run<'a> {
        let &Job { tensor, start, segment, dtype, base, base_start, .. } = job;
        Run { pair, references, tensor, start, segment, dtype, base, base_start, ratio: 1.0 }
    }
}

impl Weights for Run<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn base_dtype(&self) -> Option<Dtype> {
        let of = |(tensor, model): (usize, &dyn sparse_model::Checkpoint)| {
            model.tensors().get(tensor).map(|t| t.spec.dtype())
        };
        self.base.zip(self.pair.base).and_then(of)
    }

    fn segment(&self) -> Segment {
        self.segment
    }

    fn read_target(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let offset = (self.start + elements.start) * self.dtype.storage_bytes() as u64;
        self.pair.target.read_range_into(self.tensor, offset, out)
    }

    fn read_base(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let none = || {
            Error::invalid_argument(
                "weights of the base were asked for, but there is \
            no base",
            )
        };
        let (tensor, model) = self.base.zip(self.pair.base).ok_or_else(none)?;
        let width = self.base_dtype().ok_or_else(none)?.storage_bytes() as u64;
        model.read_range_into(tensor, (self.base_start + elements.start) * width, out)
    }

    /// Compares what came back with the change of the same weights.
    ///
    /// Whatever they are coded against.
    fn measure(&self, sample: &Sample, restored: &[u8]) -> Result<Measured> {
        let mut tally = Tally::default();
        if self.base.is_some() || self.references.of(self.tensor).is_none() {
            let base = sample.unit.base_dtype().zip(sample.base.as_deref());
            tally.observe(self.dtype, &sample.target, restored, base)?;
        } else {
            let (mut target, mut restored) = (&sample.target[..], restored);
            for run in &sample.runs {
                let len = (run.end - run.start) as usize * self.dtype.storage_bytes();
                let t = target.split_at(len.min(target.len()));
                let r = restored.split_at(len.min(restored.len()));
                let first = self.start + run.start;
                self.references.observe(&mut tally, self.tensor, first, [t.0, r.0])?;
                (target, restored) = (t.1, r.1);
            }
        }
        let found = tally.certificate();
        Ok(Measured { error: found.error.powi(2), change: found.change.powi(2) })
    }

    fn seed(&self) -> u64 {
        self.tensor as u64
    }

    fn ratio(&self) -> f64 {
        self.ratio
    }
}
