//! The stages between examination and encoding, in one.

use super::choose::{Bench, Trials, choose, try_jobs};
use super::describe::describe;
use super::examine::Pair;
use super::group::group;
use super::job::{Part, Plan};
use crate::context::Contexts;
use crate::reference::References;
use crate::settings::Settings;
use sparse_core::Result;
use sparse_select::{Bar, Policy};

/// Plans by the policy. Where it spreads bytes, the whole of its budget is for the weights.
pub(crate) fn plan(pair: &Pair<'_>, settings: &Settings) -> Result<Plan> {
    let budget = match settings.policy {
        Policy::TargetSize(bytes) => Some(bytes),
        _ => None,
    };
    Described::new(pair, settings)?.plan(budget, &[])
}

/// What plans are made from: how tensors are made up, and what was tried for their parts.
pub(super) struct Described<'a> {
    pair: &'a Pair<'a>,
    settings: &'a Settings,
    references: References<'a>,
    contexts: Contexts,
    parts: Vec<Vec<Part>>,
    trials: Trials,
}

impl<'a> Described<'a> {
    pub(super) fn new(pair: &'a Pair<'a>, settings: &'a Settings) -> Result<Described<'a>> {
        let contexts = Contexts::new(settings);
        let references = References::new(pair.base, pair.target, &pair.matches);
        let bench = Bench { pair, references: &references, settings, contexts: &contexts };
        let parts = describe(bench)?;
        let trials = try_jobs(bench, &parts)?;
        Ok(Described { pair, settings, references, contexts, parts, trials })
    }

    /// Returns [`Trials::least_bytes`].
    pub(super) fn least_bytes(&self) -> u64 {
        self.trials.least_bytes()
    }

    /// Returns [`Trials::lossless_bytes`].
    pub(super) fn lossless_bytes(&self) -> f64 {
        self.trials.lossless_bytes()
    }

    /// Tries more settings near those that a budget has chosen, see [`Trials::refine`].
    pub(super) fn refine(&mut self, budget: u64, bars: &[Bar], most: usize) -> Result<usize> {
        let Described { pair, settings, references, contexts, parts, trials } = self;
        let bench = Bench { pair, references, settings, contexts };
        trials.refine(bench, parts, budget, bars, most)
    }

    /// Plans once; `budget` is what the weights may take, and `bars` are what was found out by
    /// tensor.
    pub(super) fn plan(&self, budget: Option<u64>, bars: &[Bar]) -> Result<Plan> {
        let Described { pair, settings, references, contexts, trials, .. } = self;
        let bench = Bench { pair, references, settings, contexts };
        let mut parts = self.parts.clone();
        let (encoders, choices) = choose(bench, &mut parts, trials, budget, bars)?;
        group(bench, parts, encoders, choices)
    }
}
