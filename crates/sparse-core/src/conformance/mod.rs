//! A test suite that any codec passes in one line.
//!
//! ```no_run
//! # fn codec() -> Box<dyn sparse_core::DeltaEncoder> { unimplemented!() }
//! # let my_codec = codec();
//! sparse_core::conformance::run(&*my_codec);
//! ```
//!
//! It encodes units of every type, shape and content that models have (and some that they should
//! not), and checks what the [codec traits](crate::DeltaDecoder) promise:
//!
//! - weights come back as the codec's [`Fidelity`] says, whatever their bits;
//! - the encoding depends on the data alone, the decoded weights on encoding and base alone: not on
//!   the order of chunks, threads, alignment, prior content of buffers, or what was done before;
//! - each wrong argument, a cancelled token and an exceeded limit report their own
//!   [`ErrorKind`](crate::ErrorKind);
//! - damaged, forged and swapped input is an error or other weights, never a panic;
//! - estimates are within 5 % and 1 KiB of the real size.
//!
//! Data and damage are pseudo-random with fixed seeds: a failure repeats. Not checked: the memory
//! and time that hostile input takes, but for sizes that no machine has (a decoder that believes
//! them aborts the test or hangs it). A fuzzer finds more than a suite can; this is the least that
//! a codec must pass before.

mod arguments;
mod cases;
mod data;
mod hostile;
mod random;
mod subject;
#[cfg(test)]
mod tests;
mod valid;

use crate::{DeltaEncoder, Dtype, Fidelity};
use cases::Pair;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use subject::{Check, Subject};

/// Threads that the suite runs on; more would not make it much shorter.
const MAX_THREADS: usize = 8;

/// Extent of a check.
///
/// # Examples
///
/// ```
/// use sparse_core::conformance::{Options, run_with};
/// use sparse_core::{DeltaEncoder, Dtype};
///
/// fn check(codec: &dyn DeltaEncoder) {
///     run_with(codec, &Options::default().dtypes(&[Dtype::Bf16]).mutations(100));
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Types of the target to try; all by default. Those that the codec declines are passed over.
    pub dtypes: Vec<Dtype>,
    /// How near the weights must come back; what the codec's own info says by default.
    pub fidelity: Option<Fidelity>,
    /// Ways to damage each small encoding of the common types (others get an eighth); 2000 by
    /// default. Those whose every truncation and flipped bit fit in this number are damaged
    /// exhaustively.
    pub mutations: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { dtypes: Dtype::ALL.to_vec(), fidelity: None, mutations: 2000 }
    }
}

impl Options {
    /// Restricts the types of target that are tried.
    #[must_use]
    pub fn dtypes(mut self, dtypes: &[Dtype]) -> Self {
        self.dtypes = dtypes.to_vec();
        self
    }

    /// Holds the codec to this fidelity instead of its own.
    #[must_use]
    pub fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = Some(fidelity);
        self
    }

    /// Damages each encoding in about this many ways.
    #[must_use]
    pub fn mutations(mut self, mutations: usize) -> Self {
        self.mutations = mutations;
        self
    }
}

/// Extent of what was checked: a codec that declines nearly everything passes, too.
///
/// # Examples
///
/// ```
/// use sparse_core::conformance::Report;
///
/// /// Returns true if a codec took most of the units.
/// fn takes_most(report: &Report) -> bool {
///     report.coded > report.declined
/// }
///
/// let mut report = Report::default();
/// (report.coded, report.declined) = (2000, 30);
/// assert!(takes_most(&report));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Units that were coded.
    pub coded: usize,
    /// Units that the codec declined with `InvalidArgument`.
    pub declined: usize,
}

/// Checks a codec against everything that the traits promise.
///
/// # Panics
/// When the codec breaks its contract, or takes no unit at all: with a sentence that says how and
/// on which unit.
pub fn run(encoder: &dyn DeltaEncoder) -> Report {
    run_with(encoder, &Options::default())
}

/// Checks a codec as [`run`] does, with a choice of what to check.
///
/// # Panics
/// As [`run`].
#[expect(clippy::panic, reason = "a test helper: panicking is how it reports")]
pub fn run_with(encoder: &dyn DeltaEncoder, options: &Options) -> Report {
    match try_run(encoder, options) {
        Ok(report) => report,
        Err(violation) => panic!("codec {} does not conform: {violation}", encoder.info().name),
    }
}

fn try_run(encoder: &dyn DeltaEncoder, options: &Options) -> Check<Report> {
    let fidelity = options.fidelity.unwrap_or(encoder.info().fidelity);
    let subject = || Subject::new(encoder, fidelity, options.mutations);
    let pairs: Vec<Pair> = options
        .dtypes
        .iter()
        .flat_map(|&d| cases::bases(d).into_iter().map(move |base| (d, base)))
        .collect();

    // Pairs are begun in order and none is left halfway, so the first failure does not depend on
    // timing.
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new(BTreeMap::new());
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(&pair) = pairs.get(i) else { break };
            let result = run_pair(&subject(), pair);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.lock().unwrap_or_else(PoisonError::into_inner).insert(i, result);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    let mut report = Report::default();
    for result in results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
        let Report { coded, declined } = result?;
        report.coded += coded;
        report.declined += declined;
    }
    let main = pairs.into_iter().filter(|&pair| cases::is_main(pair));
    let small: Vec<_> = main.flat_map(|pair| cases::small(pair).into_iter().take(1)).collect();
    let subject = subject();
    subject.guard("swapped units of different types", || hostile::swapped(&subject, &small))?;
    if report.coded == 0 {
        return Err("it declined every unit".into());
    }
    Ok(report)
}

fn run_pair(subject: &Subject<'_>, pair: Pair) -> Check<Report> {
    let mut report = Report::default();
    for case in cases::round_trips(pair) {
        let coded = subject.guard(&case.name, || valid::check(subject, &case))?;
        *if coded { &mut report.coded } else { &mut report.declined } += 1;
    }
    let budget = if cases::is_main(pair) { subject.mutations } else { subject.mutations / 8 };
    let small = cases::small(pair);
    for case in &small {
        subject.guard(&case.name, || arguments::check(subject, case))?;
        subject.guard(&case.name, || hostile::check(subject, case, budget))?;
    }
    for case in cases::larger(pair) {
        subject.guard(&case.name, || hostile::check(subject, &case, budget / 8))?;
    }
    subject.guard("swapped units", || hostile::swapped(subject, &small))?;
    Ok(report)
}
