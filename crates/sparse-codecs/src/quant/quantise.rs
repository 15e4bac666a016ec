//! Quantising weights to codes.

use super::kernel::Rules;
use super::pick::{Larger, Nearest, NearestUlps, Sign};
use super::rule::{Groups, Rule, Step};
use crate::real::Real;
use crate::word::Word;
use sparse_core::{RowRun, UnitSpec};
use std::ops::Range;

/// Choice of codes by an encoder, where the rule allows several.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// The code `floor(change / step + offset)`: 0.5 rounds to the nearest, less makes a dead zone.
    /// A weight with an error above `bound` is stored. Some rows of each segment drop more.
    Steps { offset: f64, bound: f64, thinned: Vec<Thinned> },
    /// One step up or down.
    Sign,
    /// Changes of at least this size, by segment.
    Larger(Vec<f64>),
    /// The nearest multiple.
    Ulps,
}

/// Rows of a segment that drop more than the step's dead zone does.
///
/// Changes of narrow types come in few sizes, so that the error jumps with the step: from one step
/// to the next, all changes of a size are dropped. Dropping them in a part of the rows reaches what
/// lies between, in error and in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Thinned {
    /// Changes below this are dropped there.
    pub(super) least: f64,
    /// Share of the rows, in parts of `2^64`.
    pub(super) share: u64,
}

impl Thinned {
    fn least_of(self, row: u64) -> f64 {
        // Multiples of the golden ratio: any run of rows holds its share.
        let place = row.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if place < self.share { self.least } else { 0.0 }
    }
}

/// Everything that decides a unit's codes.
#[derive(Clone, Debug)]
pub(super) struct Quantiser {
    pub(super) unit: UnitSpec,
    pub(super) rule: Rule,
    pub(super) groups: Groups,
    pub(super) choice: Choice,
}

impl Quantiser {
    /// Returns the runs of a chunk.
    ///
    /// Of each: segment, place in its bytes, and how its weights become codes.
    pub(super) fn runs<R: Real>(
        &self,
        chunk: u64,
    ) -> impl Iterator<Item = (usize, Range<usize>, Rules)> {
        let mut at = 0;
        self.unit.row_runs(self.unit.chunk_range(chunk)).map(
            move |RowRun { segment, row, len, .. }| {
                let range = at..at + len * R::W::BYTES;
                at = range.end;
                (segment, range, self.rules::<R>(segment, row))
            },
        )
    }

    fn rules<R: Real>(&self, segment: usize, row: u64) -> Rules {
        let steps = match &self.rule {
            Rule::Ulps(k) => return Rules::Ulps(NearestUlps { k: *k }),
            Rule::Steps(steps) => steps,
        };
        if let Choice::Larger(least) = &self.choice {
            return Rules::Larger(Larger { least: least.get(segment).copied().unwrap_or(0.0) });
        }
        let step = Step::new::<R>(steps, self.groups.of(segment, row));
        match &self.choice {
            _ if step.is_exact() => Rules::Exact,
            Choice::Steps { offset, bound, thinned } => {
                let least = thinned.get(segment).map_or(0.0, |t| t.least_of(row));
                Rules::Nearest(Nearest { step, offset: *offset, bound: *bound, least })
            }
            _ => Rules::Sign(Sign { step }),
        }
    }
}
