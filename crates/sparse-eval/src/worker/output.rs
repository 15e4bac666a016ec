//! Lines of standard output.

use serde_json::{Value, json};
use sparse_core::{CancelToken, Error, Observer};
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two lines of progress.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes lines of progress, and one last line.
#[derive(Debug)]
pub(super) struct Output {
    state: Mutex<State>,
    /// Cancelled when nobody reads the lines any more.
    cancel: CancelToken,
}

#[derive(Debug, Default)]
struct State {
    what: String,
    total: u64,
    done: u64,
    told: Option<Instant>,
    ended: bool,
}

impl Output {
    pub(super) fn new(cancel: CancelToken) -> Output {
        Output { state: Mutex::default(), cancel }
    }

    /// Writes the result as the last line.
    pub(super) fn result(&self, result: Value) -> ExitCode {
        match self.last(&json!({ "result": result })) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    /// Writes an error as the last line.
    pub(super) fn error(&self, error: &Error) -> ExitCode {
        let mut fields = json!({ "kind": error.kind().name(), "message": message(error) });
        let places = [("file", error.file()), ("tensor", error.tensor())];
        for (name, place) in places {
            if let Some(place) = place {
                fields[name] = place.into();
            }
        }
        if let Some(offset) = error.offset() {
            fields["offset"] = offset.into();
        }
        self.last(&json!({ "error": fields }));
        ExitCode::FAILURE
    }

    /// Writes the last line, unless there was one; tells whether it was written.
    fn last(&self, line: &Value) -> bool {
        let mut state = self.state();
        if std::mem::replace(&mut state.ended, true) {
            return false;
        }
        write(line)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &mut State) {
        if state.ended {
            return;
        }
        state.told = Some(Instant::now());
        let line = json!({ "what": state.what, "done": state.done, "total": state.total });
        if !write(&json!({ "progress": line })) {
            self.cancel.cancel();
        }
    }
}

/// Returns the sentence and its causes, without the places.
fn message(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        // What follows the first line are frames of candle's backtrace.
        text.push_str(error.to_string().lines().next().unwrap_or_default());
        cause = error.source();
    }
    text
}

fn write(line: &Value) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

impl Observer for Output {
    fn begin(&self, phase: &str, total: u64) {
        let mut state = self.state();
        (state.what, state.total, state.done) = (phase.to_owned(), total, 0);
        self.tell(&mut state);
    }

    fn advance(&self, count: u64) {
        let mut state = self.state();
        state.done = state.done.saturating_add(count);
        if state.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            self.tell(&mut state);
        }
    }

    fn end(&self) {
        let mut state = self.state();
        self.tell(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::io("cannot read", cause).in_file("model");
        assert_eq!(message(&error), "cannot read: disk on fire");
    }

    #[test]
    fn there_is_one_last_line() {
        let output = Output::new(CancelToken::new());
        assert!(output.last(&json!({})));
        assert!(!output.last(&json!({})));
        output.begin("late", 1);
        assert!(output.state().told.is_none());
    }
}
