//! Whether models, and what they learn from the base, gain what their time is worth.
//!
//! Models take a thousand times as long as copying. Where streams are nearly as small, or models do
//! as well without having learnt from the base, whoever restores should not wait for them. A row
//! group is coded both ways to see.

use crate::analysed::{Analysed, level};
use crate::group::{Encoded, GroupCoder, Learned, Rows, Tried, Tries};
use crate::load::Loaded;
use crate::plan::Plan;
use crate::settings::Settings;
use sparse_core::{Effort, Result};
use std::sync::Mutex;

/// Decisions of models that count as a second. A number, and no clock: what a delta looks like does
/// not depend on the machine.
const SECOND: f64 = 5e6;

/// Share of the size that a second of models must gain.
const WORTH: f64 = 0.03;

/// Share of what models learn from the base with which that is tried.
const SAMPLE: u64 = 8;

/// How many times the gain of that share learning the rest gains, at most.
const RISE: f64 = 2.0;

/// Chooses between models and streams, and how much models learn; `light` is the plan by which
/// they learn next to nothing. With the highest effort both stay as they are.
///
/// # Errors
/// `Cancelled`; `Io`.
pub(crate) fn settle(
    analysed: &mut Analysed,
    light: Plan,
    base: &Loaded,
    settings: &Settings,
) -> Result<()> {
    let groups = analysed.loaded.store.blocks();
    if settings.effort == Effort::Max || groups == 0 || analysed.plan.is_plain() {
        return Ok(());
    }
    let rows = analysed.group(groups / 2, base, settings)?;
    let tried = settle_by(&rows, analysed, light, base, settings)?;
    analysed.tried = Mutex::new(Some((groups / 2, tried)));
    Ok(())
}

/// Chooses as [`settle`] does, by some rows. Returns how these were coded.
///
/// # Errors
/// `Cancelled`; `Io`.
pub(crate) fn settle_by(
    rows: &Rows,
    analysed: &mut Analysed,
    light: Plan,
    base: &Loaded,
    settings: &Settings,
) -> Result<Tried> {
    let trial = Trial { base, rows, level: level(settings), keep: settings.proof };
    let streams = trial.streams(&light)?;
    let some = analysed.plan.learning(1.0 / SAMPLE as f64, base.store.rows());
    let learns = analysed.plan != light;
    let (bare, some) = settings
        .executor()
        .both(|| trial.modelled(light), || learns.then(|| trial.modelled(some)).transpose());
    let (mut best, some) = (bare?, some?);
    if let Some(some) = some
        && is_worth(best.len(), some.len(), some.decisions.saturating_sub(best.decisions))
    {
        // So much gains and costs learning all of it, at most and about.
        let gain = 1.0 - some.len() as f64 / best.len() as f64;
        let work = some.decisions.saturating_sub(best.decisions) * (SAMPLE - 1);
        best = some;
        if RISE * gain > worth(work) {
            let all = trial.modelled(analysed.plan.clone())?;
            if is_worth(best.len(), all.len(), all.decisions.saturating_sub(best.decisions)) {
                best = all;
            }
        }
    }
    analysed.tries.models = is_worth(streams.0.len(), best.len(), best.decisions);
    // What is packed apart begins with what was learnt.
    let same = !best.plan.columns.iter().any(|column| column.bulk);
    let tried = Tried { streams: same.then_some(streams), modelled: Some(best.coded) };
    analysed.plan = best.plan;
    Ok(tried)
}

/// Returns true if going from `before` to `after` bytes is worth so many decisions.
fn is_worth(before: usize, after: usize, decisions: u64) -> bool {
    1.0 - after as f64 / before.max(1) as f64 > worth(decisions)
}

/// Returns the share of the size that so many decisions must gain.
fn worth(decisions: u64) -> f64 {
    WORTH * decisions as f64 / SECOND
}

/// A row group as models code it by a plan.
struct Modelled {
    plan: Plan,
    coded: Encoded,
    /// Number of decisions that models took.
    decisions: u64,
}

impl Modelled {
    fn len(&self) -> usize {
        self.coded.bytes.len()
    }
}

/// Rows that are coded by several plans.
struct Trial<'a> {
    base: &'a Loaded,
    rows: &'a Rows,
    level: i32,
    /// Whether predictions are kept for a proof.
    keep: bool,
}

impl Trial<'_> {
    /// Codes the rows in streams; returns their level, too.
    fn streams(&self, plan: &Plan) -> Result<(Vec<u8>, i32)> {
        let learned = Learned::new(plan, &self.base.store)?;
        let coder =
            GroupCoder { plan, base: &self.base.store, learned: &learned, tries: Tries::ALL };
        coder.streams(self.rows, self.level)
    }

    fn modelled(&self, plan: Plan) -> Result<Modelled> {
        let learned = Learned::new(&plan, &self.base.store)?;
        let (base, tries) = (&self.base.store, Tries::ALL);
        let coder = GroupCoder { plan: &plan, base, learned: &learned, tries };
        let (coded, decisions) = coder.modelled(self.rows, self.level, self.keep)?;
        Ok(Modelled { plan, coded, decisions })
    }
}
