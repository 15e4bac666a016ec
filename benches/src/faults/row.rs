//! A row of the table: one kind of fault.

use super::lab::Lab;
use super::library::Library;
use super::outcome::Outcome;
use sparse_core::Result;

/// One kind of fault, and how it is brought about.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// What `--only` calls it.
    pub(super) name: &'static str,
    /// The fault, for the table.
    pub(super) fault: &'static str,
    /// Where it is injected, for the table.
    pub(super) place: &'static str,
    /// Lists the trials.
    pub(super) plan: fn(&Lab) -> Result<Plan>,
    /// Runs one of them.
    pub(super) run: fn(&mut Library<'_>, &str) -> Result<Outcome>,
}

/// The trials of a row.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// A line of words for each, from which it can be repeated.
    Trials(Vec<String>),
    /// They cannot take place here, for this reason.
    Skipped(String),
}

/// Word `n` of a trial; empty if there is none.
pub(super) fn word(trial: &str, n: usize) -> &str {
    trial.split(' ').nth(n).unwrap_or("")
}

/// Word `n` of a trial as a number; 0 if it is none.
pub(super) fn number(trial: &str, n: usize) -> u64 {
    word(trial, n).parse().unwrap_or(0)
}
