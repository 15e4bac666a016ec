//! The log of decisions: requests append to it, and `sparse route review` reads it.

use crate::failure::Failure;
use crate::text_file;
use serde::de::IgnoredAny;
use sparse::{Error, ErrorKind};
use sparse_open::shown;
use sparse_route::{Journal, LoggedDecision};
use std::path::Path;

/// Longest log, in bytes.
const MAX_LOG: u64 = 1 << 30;

/// The end of an error about a file that is no log.
const WANTED: &str = "--log takes a file that has a decision or an outcome on each line, as JSON, \
                      or a new one";

/// Refuses a log that is one of the inputs, links resolved.
pub(super) fn refuse_inputs(log: &Path, inputs: &[&Path]) -> Result<(), Failure> {
    let Ok(real) = log.canonicalize() else { return Ok(()) };
    let same = |input: &&&Path| input.canonicalize().is_ok_and(|input| input == real);
    let Some(input) = inputs.iter().find(same) else { return Ok(()) };
    let what = format!("the log is the input {}: write it elsewhere", shown(input));
    Err(Error::invalid_argument(what).in_file(shown(log)).into())
}

/// Appends a decision, if the file is missing, empty, or a log without a decision of this id.
pub(super) fn append(log: &Path, decision: &LoggedDecision) -> Result<(), Failure> {
    let line = Journal::line(decision)?;
    text_file::append(log, &line, MAX_LOG, |bytes| {
        let (whole, torn) = split(bytes);
        let no_log = |e: Error| Error::new(e.kind(), format!("{}; {WANTED}", e.message()));
        let read = |bytes| text_file::decode(bytes).and_then(|text| Journal::from_lines(&text));
        // A line after it would make the whole log unreadable.
        if let Some(line) = torn
            && read(whole).is_ok_and(|journal| !journal.decisions().is_empty())
        {
            let what = format!("line {line}, the last, is cut off: complete or remove it");
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        let journal = read(bytes).map_err(no_log)?;
        match journal.decisions().iter().any(|one| one.id == decision.id) {
            true => Err(Error::invalid_argument(format!(
                "it has a decision {:?} already: give another --id",
                decision.id
            ))),
            false => Ok(()),
        }
    })
}

/// Reads a log; a last line that is cut off is passed over, which a note says.
pub(super) fn read(log: &Path) -> Result<(Journal, Vec<String>), Failure> {
    let bytes = text_file::read_bytes(log, MAX_LOG)?;
    let (whole, torn) = split(&bytes);
    let text = text_file::decode(whole).map_err(|e| e.in_file(shown(log)))?;
    let journal = Journal::from_lines(&text).map_err(|e| e.in_file(shown(log)))?;
    let note = |line| format!("line {line}, the last, is cut off: it was passed over");
    Ok((journal, torn.map(note).into_iter().collect()))
}

/// Splits off a last line that has no end and is not JSON, as a crash may leave it.
///
/// Returns what precedes it, and its number.
fn split(bytes: &[u8]) -> (&[u8], Option<usize>) {
    let start = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let (whole, last) = bytes.split_at(start);
    match last.trim_ascii().is_empty() || serde_json::from_slice::<IgnoredAny>(last).is_ok() {
        true => (bytes, None),
        false => (whole, Some(1 + whole.iter().filter(|&&b| b == b'\n').count())),
    }
}
