//! Outcomes of trials, and their counts.

/// Outcome of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Success, and what is there is bit for bit what it has to be.
    Restored,
    /// A clean error; nothing was published, and what was there before is unchanged.
    Refused,
    /// Success, or a published output, that is not what it has to be.
    Wrong,
    /// What was there before is gone, or the next run fails.
    Lost,
    /// No end within the limit.
    Hung,
    /// A panic, caught or printed.
    Panic,
    /// Death by a signal that nobody sent.
    Signal,
    /// Temporaries remain after an end in which they could be removed.
    Leftover,
    /// The fault did not take place: the program was done before it.
    Missed,
}

impl Verdict {
    /// All verdicts, in the order of the table's columns.
    pub(super) const ALL: [Verdict; 9] = [
        Verdict::Restored,
        Verdict::Refused,
        Verdict::Wrong,
        Verdict::Lost,
        Verdict::Hung,
        Verdict::Panic,
        Verdict::Signal,
        Verdict::Leftover,
        Verdict::Missed,
    ];

    /// The name in the table and between processes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Restored => "restored",
            Verdict::Refused => "refused",
            Verdict::Wrong => "wrong",
            Verdict::Lost => "lost",
            Verdict::Hung => "hung",
            Verdict::Panic => "panic",
            Verdict::Signal => "signal",
            Verdict::Leftover => "leftover",
            Verdict::Missed => "missed",
        }
    }

    /// Finds the verdict of a name.
    pub(super) fn from_name(name: &str) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|v| v.name() == name)
    }

    /// Returns true if the program behaved as promised.
    pub(super) fn is_right(self) -> bool {
        matches!(self, Verdict::Restored | Verdict::Refused | Verdict::Missed)
    }
}

/// A verdict and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The verdict.
    pub(super) verdict: Verdict,
    /// What was seen, on one line; empty for what is right.
    pub(super) detail: String,
}

impl Outcome {
    /// Creates an outcome; line ends in `detail` become spaces.
    pub(super) fn new(verdict: Verdict, detail: impl AsRef<str>) -> Outcome {
        let line: Vec<&str> = detail.as_ref().split_whitespace().collect();
        Outcome { verdict, detail: line.join(" ") }
    }

    /// Success, and what is there is right.
    pub(super) fn restored() -> Outcome {
        Outcome::new(Verdict::Restored, "")
    }

    /// A clean error.
    pub(super) fn refused() -> Outcome {
        Outcome::new(Verdict::Refused, "")
    }
}

/// Counts of one row.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counts: [u64; 9],
    /// Trials that were not right, with what was seen: the first few.
    pub(super) failures: Vec<(String, Outcome)>,
}

/// Failures that a row remembers.
const REMEMBERED: usize = 20;

impl Tally {
    /// Counts an outcome of the trial that `trial` describes.
    pub(super) fn add(&mut self, trial: &str, outcome: Outcome) {
        if let Some(n) = self.counts.get_mut(outcome.verdict as usize) {
            *n += 1;
        }
        if !outcome.verdict.is_right() && self.failures.len() < REMEMBERED {
            self.failures.push((trial.to_owned(), outcome));
        }
    }

    /// Adds the counts of `other`.
    pub(super) fn merge(&mut self, other: Tally) {
        for (n, m) in self.counts.iter_mut().zip(other.counts) {
            *n += m;
        }
        self.failures.extend(other.failures);
        self.failures.truncate(REMEMBERED);
    }

    /// How often `verdict` was given.
    pub(super) fn count(&self, verdict: Verdict) -> u64 {
        self.counts.get(verdict as usize).copied().unwrap_or(0)
    }

    /// Trials in which the fault took place.
    pub(super) fn trials(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.count(Verdict::Missed)
    }

    /// Whether every trial was right.
    pub(super) fn is_right(&self) -> bool {
        Verdict::ALL.into_iter().all(|v| v.is_right() || self.count(v) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_count_what_is_wrong() {
        let mut tally = Tally::default();
        tally.add("a", Outcome::restored());
        tally.add("b", Outcome::refused());
        tally.add("c", Outcome::new(Verdict::Missed, ""));
        assert!(tally.is_right());
        assert_eq!(tally.trials(), 2);
        let mut other = Tally::default();
        other.add("d", Outcome::new(Verdict::Lost, "two\nlines"));
        tally.merge(other);
        assert!(!tally.is_right());
        assert_eq!((tally.trials(), tally.count(Verdict::Lost)), (3, 1));
        assert_eq!(tally.failures[0].1.detail, "two lines");
    }

    #[test]
    fn names_are_distinct_and_in_order() {
        for (i, v) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!((v as usize, Verdict::from_name(v.name())), (i, Some(v)));
        }
    }
}
