//! What can be asked.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sparse_core::{Error, ErrorKind, Result};
use sparse_eval::LatencyPlan;
use std::io::{BufRead, Read};
use std::path::PathBuf;

/// Version of the protocol.
const PROTOCOL: u64 = 1;
/// Longest request, in bytes.
const LONGEST: u64 = 16 << 20;

/// A request, with what all jobs have.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) threads: Option<usize>,
    pub(super) until_input_ends: bool,
    pub(super) job: Job,
}

#[derive(Debug)]
pub(super) enum Job {
    Evaluate(Box<Evaluate>),
    Quantise(Quantise),
}

/// A model: a folder or file, with a delta over it or not, or a GGUF file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelRef {
    pub(super) base: Option<PathBuf>,
    pub(super) delta: Option<PathBuf>,
    pub(super) gguf: Option<PathBuf>,
    /// Instead of the model's own.
    pub(super) config: Option<PathBuf>,
    pub(super) tokenizer: Option<PathBuf>,
    pub(super) weights: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Evaluate {
    pub(super) model: ModelRef,
    pub(super) against: Option<ModelRef>,
    pub(super) text: Option<PathBuf>,
    pub(super) context: Option<usize>,
    pub(super) stride: Option<usize>,
    /// Most tokens of the text.
    pub(super) max_tokens: Option<usize>,
    /// Most windows of the text.
    pub(super) samples: Option<usize>,
    pub(super) weights: Option<String>,
    #[serde(default)]
    pub(super) prompts: Vec<String>,
    pub(super) latency: Option<LatencyRequest>,
}

/// `true`, or how to measure.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum LatencyRequest {
    Wanted(bool),
    How(LatencyFields),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LatencyFields {
    prompt: Option<usize>,
    generated: Option<usize>,
    runs: Option<usize>,
}

impl LatencyRequest {
    /// Returns how to measure, if that is wanted.
    pub(super) fn plan(&self) -> Option<LatencyPlan> {
        let usual = LatencyPlan::default();
        match self {
            LatencyRequest::Wanted(wanted) => wanted.then_some(usual),
            LatencyRequest::How(fields) => Some(LatencyPlan {
                prompt: fields.prompt.unwrap_or(usual.prompt),
                generated: fields.generated.unwrap_or(usual.generated),
                runs: fields.runs.unwrap_or(usual.runs),
            }),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quantise {
    pub(super) model: ModelRef,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) output: PathBuf,
    #[serde(default)]
    pub(super) overwrite: bool,
}

/// Reads the request: the first line of standard input, or what an earlier process of this program
/// read and passed on.
pub(super) fn read() -> Result<String> {
    if let Some(passed) = super::threads::passed_on() {
        return Ok(passed);
    }
    let mut line = Vec::new();
    let mut input = std::io::stdin().lock().take(LONGEST + 1);
    input
        .read_until(b'\n', &mut line)
        .map_err(|e| Error::io("cannot read the request from standard input", e))?;
    if line.len() as u64 > LONGEST {
        let message = format!("the request is longer than {LONGEST} bytes");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    String::from_utf8(line).map_err(|_| Error::invalid_argument("the request is not UTF-8"))
}

impl Request {
    /// Parses a request.
    ///
    /// # Errors
    /// `InvalidArgument`; `UnsupportedVersion` when the protocol is another.
    pub(super) fn parse(text: &str) -> Result<Request> {
        let mut fields: Map<String, Value> = serde_json::from_str(text).map_err(|e| {
            Error::invalid_argument("the request must be a JSON object on one line").with_source(e)
        })?;
        match fields.remove("protocol").as_ref().and_then(Value::as_u64) {
            Some(PROTOCOL) => {}
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::UnsupportedVersion,
                    format!(
                        "the request is of protocol {other}, and this program knows {PROTOCOL}"
                    ),
                ));
            }
            None => {
                return Err(Error::invalid_argument(format!(
                    "the request must have the field \"protocol\": {PROTOCOL}"
                )));
            }
        }
        let job = fields.remove("job");
        let threads = field(&mut fields, "threads")?;
        let until_input_ends: Option<bool> = field(&mut fields, "until_input_ends")?;
        let job = match job.as_ref().and_then(Value::as_str) {
            Some("evaluate") => Job::Evaluate(typed(Value::Object(fields))?),
            Some("quantize") => Job::Quantise(typed(Value::Object(fields))?),
            _ => {
                return Err(Error::invalid_argument(
                    "\"job\" must be \"evaluate\" or \"quantize\"",
                ));
            }
        };
        Ok(Request { threads, until_input_ends: until_input_ends.unwrap_or(false), job })
    }
}

fn field<T: DeserializeOwned>(fields: &mut Map<String, Value>, name: &str) -> Result<Option<T>> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => typed(value).map(Some).map_err(|e| {
            Error::invalid_argument(format!("the field {name:?} is wrong")).with_source(e)
        }),
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Error::invalid_argument("the request is wrong").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(json: &str) -> Result<Box<Evaluate>> {
        match Request::parse(json)?.job {
            Job::Evaluate(job) => Ok(job),
            Job::Quantise(_) => Err(Error::invalid_argument("another job")),
        }
    }

    #[test]
    fn fields_are_checked() {
        let job = evaluate(
            r#"{"protocol": 1, "job": "evaluate", "model": {"base": "m"}, "latency": {"runs": 2}}"#,
        );
        let job = job.unwrap();
        assert_eq!(job.model.base, Some(PathBuf::from("m")));
        let plan = job.latency.unwrap().plan().unwrap();
        assert_eq!((plan.runs, plan.prompt), (2, 128));
        for (json, word) in [
            ("", "one line"),
            ("[]", "one line"),
            ("{}", "protocol"),
            (r#"{"protocol": "1"}"#, "protocol"),
            (r#"{"protocol": 1}"#, "quantize"),
            (r#"{"protocol": 1, "job": 3}"#, "quantize"),
            (r#"{"protocol": 1, "job": "evaluate"}"#, "model"),
            (r#"{"protocol": 1, "job": "evaluate", "model": {}, "txt": 1}"#, "txt"),
            (r#"{"protocol": 1, "job": "evaluate", "model": {"dleta": ""}}"#, "dleta"),
            (r#"{"protocol": 1, "job": "evaluate", "model": {}, "context": -1}"#, "-1"),
            (r#"{"protocol": 1, "job": "evaluate", "threads": "x", "model": {}}"#, "threads"),
            (r#"{"protocol": 1, "job": "quantize", "model": {}, "type": "q"}"#, "output"),
        ] {
            let e = Request::parse(json).unwrap_err();
            assert!(e.to_string().contains(word), "{json}: {e}");
        }
        let e = Request::parse(r#"{"protocol": 2}"#).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnsupportedVersion);
    }
}
