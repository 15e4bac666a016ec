//! The search for the plan whose delta fills a size, and not more.

use super::job::Plan;
use super::plan::Described;
use super::report::CompressReport;
use crate::delta::Delta;
use sparse_container::Index;
use sparse_core::{Error, ErrorKind, Result};
use sparse_select::Bar;

/// Deltas that are written to meet a size: each corrects the budget by what the one before was off.
const ATTEMPTS: usize = 10;
/// Budgets that are planned for.
const STEPS: usize = 30;

/// Rounds in which settings between those tried so far are tried: in any case, and where a plan
/// leaves bytes unspent.
const ROUNDS: usize = 2;
const FILLING: usize = 6;
/// Jobs whose settings are refined where a plan leaves bytes unspent.
const REFINED: usize = 4;

/// Parts of the size that may be left unspent: of an estimate, and of a delta.
const SPARE_OF_ESTIMATE: u64 = 400;
const SPARE: u64 = 250;

/// A delta with digests of the target, before what comes back is known.
pub(super) struct Provisional {
    pub(super) delta: Delta,
    pub(super) index: Index,
    pub(super) report: CompressReport,
    /// What certificates take at most.
    pub(super) certificates: u64,
}

impl Provisional {
    /// Returns the bytes that the delta will have with its certificates, at most.
    pub(super) fn size(&self) -> u64 {
        self.delta.reader().byte_len() + self.certificates
    }
}

/// Search for a delta of a size.
pub(super) struct Search {
    /// The most bytes that the delta may have.
    wanted: u64,
    /// What all but the weights takes, as far as is known.
    overhead: u64,
    rounds: usize,
}

impl Search {
    /// Begins a search for a delta of up to `wanted` bytes, of which about `overhead` are not the
    /// weights'.
    pub(super) fn new(wanted: u64, overhead: u64) -> Search {
        Search { wanted, overhead, rounds: 0 }
    }

    /// Leaves this many bytes of the size to what was not foreseen.
    pub(super) fn reserve(&mut self, bytes: u64) {
        self.wanted = self.wanted.saturating_sub(bytes);
    }

    /// Returns the delta that loses least within the size, as far as plans tell.
    ///
    /// # Errors
    /// `InvalidArgument` when none has the size; what planning and `make` report.
    pub(super) fn best(
        &mut self,
        tried: &mut Described<'_>,
        bars: &[Bar],
        make: &dyn Fn(&Plan) -> Result<Provisional>,
    ) -> Result<Provisional> {
        if let Some(made) = self.lossless(tried, bars.len(), make)? {
            return Ok(made);
        }
        let mut best: Option<Provisional> = None;
        // Plans by their codecs, with the sizes of their deltas: none is written twice.
        let mut seen: Vec<(Vec<String>, u64)> = Vec::new();
        // The largest budget whose delta fits, and the smallest whose delta does not.
        let (mut fits, mut exceeds) = (0u64, u64::MAX);
        let least = tried.least_bytes() + 1;
        let mut budget = self.wanted.saturating_sub(self.overhead).max(least);
        for _ in 0..STEPS {
            let plan = self.planned(tried, budget, bars)?;
            let codecs: Vec<String> = plan.choices.iter().map(|c| c.codec.clone()).collect();
            let size = match seen.iter().find(|s| s.0 == codecs) {
                Some(s) => s.1,
                None if seen.len() >= ATTEMPTS && best.is_some() => break,
                None => {
                    let made = make(&plan)?;
                    let size = made.size();
                    seen.push((codecs, size));
                    // Sizes grow with budgets, if not always.
                    if size <= self.wanted && best.as_ref().is_none_or(|b| b.size() < size) {
                        best = Some(made);
                    }
                    size
                }
            };
            self.overhead = size.saturating_sub(estimated(&plan));
            if size <= self.wanted {
                if size >= self.wanted - self.wanted / SPARE {
                    break;
                }
                fits = fits.max(budget);
                budget += self.wanted - size;
            } else {
                if budget <= least {
                    return best.ok_or_else(|| too_small(self.wanted, size));
                }
                exceeds = exceeds.min(budget);
                let over = size - self.wanted;
                budget = budget.saturating_sub(over + over / 8 + 16).max(least);
            }
            if budget <= fits || budget >= exceeds {
                budget = fits.max(least) + exceeds.saturating_sub(fits.max(least)) / 2;
            }
            if budget <= fits || budget >= exceeds {
                break;
            }
        }
        best.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "no delta of {} bytes was found: try a size a few per cent larger",
                    self.wanted
                ),
            )
        })
    }

    /// Returns the delta that loses nothing, if it may fit and does.
    fn lossless(
        &self,
        tried: &Described<'_>,
        tensors: usize,
        make: &dyn Fn(&Plan) -> Result<Provisional>,
    ) -> Result<Option<Provisional>> {
        // Estimates are nearer than this.
        const NEAR: f64 = 0.8;
        if NEAR * tried.lossless_bytes() > self.wanted as f64 {
            return Ok(None);
        }
        let made = make(&tried.plan(None, &vec![Bar::Lossy; tensors])?)?;
        Ok(Some(made).filter(|m| m.size() <= self.wanted))
    }

    /// Plans within a budget, with settings so close that hardly any of it is left.
    fn planned(&mut self, tried: &mut Described<'_>, budget: u64, bars: &[Bar]) -> Result<Plan> {
        while self.rounds < ROUNDS {
            self.rounds += 1;
            tried.refine(budget, bars, usize::MAX)?;
        }
        for _ in 0..FILLING {
            let plan = tried.plan(Some(budget), bars)?;
            let left = budget.saturating_sub(estimated(&plan));
            if left <= self.wanted / SPARE_OF_ESTIMATE || tried.refine(budget, bars, REFINED)? == 0
            {
                return Ok(plan);
            }
        }
        tried.plan(Some(budget), bars)
    }
}

/// Returns what the weights of a plan are expected to take.
fn estimated(plan: &Plan) -> u64 {
    plan.choices.iter().map(|c| c.estimated_bytes).sum()
}

fn too_small(wanted: u64, size: u64) -> Error {
    Error::invalid_argument(format!(
        "a delta of {wanted} bytes is too small: with the weights at their coarsest it takes \
            {size} bytes"
    ))
}
