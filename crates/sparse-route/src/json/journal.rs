//! Journals as JSON Lines.

use super::unreadable;
use crate::journal::{Journal, LoggedDecision, Outcome};
use serde::{Deserialize, Serialize};
use sparse_core::{Error, ErrorKind, Result};

/// A line of a journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Decision(LoggedDecision),
    Outcome(Outcome),
}

impl Journal {
    /// Reads a journal: on each line a decision or an outcome.
    ///
    /// ```json
    /// {"decision":{"id":"1","model":"small","quality":0.93,"cost":0.002}}
    /// {"outcome":{"id":"1","good":true,"cost":0.0021}}
    /// ```
    ///
    /// An outcome follows its decision; empty lines are skipped.
    ///
    /// # Errors
    /// `InvalidInput`, naming the line, when it is neither, or contradicts one before.
    ///
    /// # Examples
    ///
    /// ```
    /// use sparse_route::{Journal, LoggedDecision};
    ///
    /// let line = Journal::line(&LoggedDecision::new("1", "small", 0.9, 0.01))?;
    /// assert_eq!(Journal::from_lines(&line)?.decisions().len(), 1);
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn from_lines(text: &str) -> Result<Journal> {
        let mut journal = Journal::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("line {}", i + 1);
            let added = match serde_json::from_str(line).map_err(|e| unreadable(&e, &place))? {
                Line::Decision(decision) => journal.decide(decision),
                Line::Outcome(outcome) => journal.conclude(outcome),
            };
            added.map_err(|e| Error::new(e.kind(), format!("{place}: {}", e.message())))?;
        }
        Ok(journal)
    }

    /// Returns the line of a decision, with its end.
    ///
    /// # Errors
    /// `InvalidArgument` when a number is not finite.
    pub fn line(decision: &LoggedDecision) -> Result<String> {
        // JSON has no such numbers, and the writer makes null of them.
        let mut numbers =
            [decision.quality, decision.cost].into_iter().chain(decision.features.iter().copied());
        if !numbers.all(f64::is_finite) {
            return Err(Error::invalid_argument("a number of the decision is not finite"));
        }
        let line = serde_json::to_string(&Line::Decision(decision.clone()));
        let line = line.map_err(|e| {
            Error::new(ErrorKind::Internal, "the decision cannot be written").with_source(e)
        })?;
        Ok(line + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_order() {
        let decision = LoggedDecision::new("a \"b\"\n", "m", 0.5, 1.0).with_features(vec![2.5]);
        let line = Journal::line(&decision).unwrap();
        assert_eq!(line.lines().count(), 1);
        let text =
            format!("\r\n{line}\n{{\"outcome\":{{\"id\":\"a \\\"b\\\"\\n\",\"good\":true}}}}");
        let journal = Journal::from_lines(&text).unwrap();
        assert_eq!(journal.decisions(), [decision]);
        assert_eq!(journal.regret().outcomes, 1);
    }

    #[test]
    fn errors_name_the_line() {
        let message = |text: &str| Journal::from_lines(text).unwrap_err().message().to_owned();
        assert!(message("\n{\"outcome\":{\"id\":\"1\",\"good\":true}}").starts_with("line 2: "));
        assert!(message("{}").starts_with("line 1: "));
        assert!(message("{\"decision\":{\"id\":1}}").contains("line 1: invalid type"));
        assert!(message("{\"outcome\":{\"id\":\"1\",\"good\":true,\"x\":1}}").contains("`x`"));
        assert!(Journal::line(&LoggedDecision::new("a", "m", f64::NAN, 1.0)).is_err());
    }
}
