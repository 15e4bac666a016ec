//! Candidates whose figures somebody gives: in a file, or by a command.

use crate::{Candidate, Interval, Provenance};
use serde::Deserialize;
use sparse_core::{Error, ErrorKind, Result};
use std::path::Path;

/// Figures as a file or a command has them. Unknown fields are mistakes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figures {
    pub(crate) bytes: Option<u64>,
    ppl_delta: Option<Difference>,
    ppl: Option<f64>,
    base_ppl: Option<f64>,
    latency_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    tokens_per_second: Option<f64>,
    memory: Option<u64>,
    price_per_hour: Option<f64>,
}

/// A difference with or without its interval.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Difference {
    Exact(f64),
    Within { value: f64, low: f64, high: f64 },
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Figures {
    /// Makes the candidate `name` of them.
    ///
    /// # Errors
    /// `InvalidArgument` for figures that cannot be.
    pub(crate) fn candidate(self, name: String, provenance: Provenance) -> Result<Candidate> {
        let bad = |what: &str| Err(Error::invalid_argument(format!("candidate {name:?}: {what}")));
        if [self.ppl, self.base_ppl].into_iter().flatten().any(|ppl| !(1.0..).contains(&ppl)) {
            return bad("a perplexity is at least 1");
        }
        if self.ppl_delta.is_some() && (self.ppl.is_some() || self.base_ppl.is_some()) {
            return bad("give ppl_delta, or ppl and base_ppl");
        }
        if self.ppl.is_some() != self.base_ppl.is_some() {
            return bad("ppl and base_ppl go together");
        }
        if self.bytes == Some(0) {
            return bad("bytes is 0");
        }
        let ppl_delta = match (self.ppl_delta, self.ppl, self.base_ppl) {
            (Some(Difference::Exact(value)), ..) => Some(Interval::exact(value)?),
            (Some(Difference::Within { value, low, high }), ..) => {
                Some(Interval::new(value, low, high)?)
            }
            (None, Some(ppl), Some(base)) => Some(Interval::exact(ppl - base)?),
            _ => None,
        };
        let candidate = Candidate {
            bytes: self.bytes,
            ppl_delta,
            latency_ms: self.latency_ms,
            latency_p99_ms: self.latency_p99_ms,
            tokens_per_second: self.tokens_per_second,
            memory: self.memory,
            price_per_hour: self.price_per_hour,
            ..Candidate::new(name, provenance)
        };
        candidate.check()?;
        Ok(candidate)
    }
}

/// Reads candidates from a file: a JSON list of objects with `name` and any of `bytes`,
/// `ppl_delta` (a number, or `value`, `low` and `high`), `ppl` with `base_ppl`, `latency_ms`,
/// `latency_p99_ms`, `tokens_per_second`, `memory` and `price_per_hour`.
///
/// # Errors
/// `InvalidInput` with the candidate and the field; errors of reading the file.
///
/// # Examples
/// ```no_run
/// let given = sparse_optimize::read_candidates("gptq.json".as_ref())?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn read_candidates(path: &Path) -> Result<Vec<Candidate>> {
    let file = path.display().to_string();
    let text = std::fs::read(path).map_err(|e| Error::io("cannot read", e).in_file(&file))?;
    parse(&text)
        .map_err(|e| Error::new(ErrorKind::InvalidInput, e.message().to_owned()).in_file(&file))
}

fn parse(text: &[u8]) -> Result<Vec<Candidate>> {
    let bad = |e: serde_json::Error| {
        Error::invalid_argument(format!("a list of candidates is wanted: {e}"))
    };
    let all: Vec<Named> = serde_json::from_slice(text).map_err(bad)?;
    all.into_iter()
        .map(|Named { name, rest }| {
            let figures: Figures = serde_json::from_value(serde_json::Value::Object(rest))
                .map_err(|e| Error::invalid_argument(format!("candidate {name:?}: {e}")))?;
            figures.candidate(name, Provenance::Given)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_all_kinds() {
        let text = br#"[
            {"name": "gptq", "bytes": 10, "ppl_delta": 0.2, "tokens_per_second": 90},
            {"name": "awq", "ppl_delta": {"value": 0.1, "low": 0.0, "high": 0.3}},
            {"name": "hqq", "ppl": 7.5, "base_ppl": 7.0, "price_per_hour": 1.5}
        ]"#;
        let all = parse(text).unwrap();
        assert_eq!(all[0].ppl_delta.map(|d| d.high()), Some(0.2));
        assert_eq!(all[1].ppl_delta.map(|d| d.high()), Some(0.3));
        assert_eq!(all[2].ppl_delta.map(|d| d.value()), Some(0.5));
        assert!(all.iter().all(|c| c.provenance == Provenance::Given));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, want) in [
            (r#"{}"#, "a list of candidates is wanted"),
            (r#"[{"bytes": 1}]"#, "missing field `name`"),
            (r#"[{"name": "a", "byte": 1}]"#, r#"candidate "a": unknown field `byte`"#),
            (r#"[{"name": "a", "bytes": -1}]"#, r#"candidate "a": invalid value"#),
            (r#"[{"name": "a", "latency_ms": -1}]"#, r#"candidate "a": latency_ms is -1"#),
            (r#"[{"name": "a", "bytes": 0}]"#, r#"candidate "a": bytes is 0"#),
            (r#"[{"name": "a", "ppl": 0.5, "base_ppl": 7}]"#, "at least 1"),
            (r#"[{"name": "a", "ppl": 7}]"#, "go together"),
            (r#"[{"name": "a", "ppl_delta": 1, "ppl": 7, "base_ppl": 6}]"#, "give ppl_delta, or"),
        ] {
            let e = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(want), "{e}");
        }
    }
}
