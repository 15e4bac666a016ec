//! What all commands share: threads, cancellation, progress, and where reports go.

use crate::args::Common;
use crate::failure::{ErrorJson, Failure};
use crate::human::plain_json;
use crate::progress::{Progress, eprint};
use crate::signals::{Signals, tell};
use serde::Serialize;
use sparse::{CancelToken, Compressor, Delta, Error, ErrorKind, Limits, Model, Restorer, Verifier};
use sparse_open::Opener;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

/// The version of the JSON schema; it grows by fields without a new number.
const SCHEMA: u32 = 1;

/// One run of the program.
pub(crate) struct Session {
    name: &'static str,
    start: Instant,
    common: Common,
    signals: Signals,
    pool: rayon::ThreadPool,
    opener: Opener,
    pub(crate) progress: Arc<Progress>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: u32,
    command: Option<&'a str>,
    #[serde(flatten)]
    body: T,
}

impl Session {
    /// Starts threads, and watches for signals.
    pub(crate) fn new(name: &'static str, common: Common) -> Result<Session, Failure> {
        // First, so that a signal finds somebody from here on.
        let signals = Signals::watch();
        let json = common.json;
        signals.insist(move |code| tell_of(Some(name), json, &Failure::Stopped(code)));
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = common.threads.unwrap_or_else(all);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
            Error::new(ErrorKind::Io, format!("cannot start {threads} threads")).with_source(e)
        })?;
        let progress = Progress::new(!common.quiet && !common.json, common.verbose && !common.json);
        let progress = Arc::new(progress);
        let opener = Opener::new().with_cancel(signals.token()).with_limits(common.limits());
        let opener = opener.with_observer(progress.clone()).with_streaming(common.streams());
        Ok(Session { name, start: Instant::now(), common, signals, pool, opener, progress })
    }

    /// Runs `command` on this session's threads.
    pub(crate) fn run(
        &self,
        command: impl FnOnce() -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        let result = self.pool.install(command);
        self.progress.clear();
        result.map_err(|failure| match failure {
            Failure::Sparse(e) if e.kind() == ErrorKind::Cancelled => {
                Failure::Stopped(self.signals.exit_code())
            }
            Failure::Sparse(e) if may_be_damage(e.kind()) => self.damaged().unwrap_or(e).into(),
            other => other,
        })
    }

    /// Returns the error of an input that is damaged in the cache of the Hub, if one is.
    #[cfg(feature = "hub")]
    fn damaged(&self) -> Option<Error> {
        let path = self.opener.damaged().ok().flatten()?;
        let why = "this file of the Hugging Face cache is damaged: its content is not the one that \
            its name states; remove it, and it is fetched again";
        Some(Error::corrupt(why).in_file(path.display().to_string()))
    }

    #[cfg(not(feature = "hub"))]
    fn damaged(&self) -> Option<Error> {
        None
    }

    /// Checks what came from the cache of the Hub, before a delta says that it was made from it.
    pub(crate) fn check_cached(&self) -> Result<(), Failure> {
        self.damaged().map_or(Ok(()), |e| Err(e.into()))
    }

    /// Threads in use.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Returns the token that a signal cancels.
    pub(crate) fn cancel_token(&self) -> CancelToken {
        self.signals.token()
    }

    /// Returns the limits that `--max-memory` and `--max-output` set.
    pub(crate) fn limits(&self) -> Limits {
        self.common.limits()
    }

    /// Prepares to compress `target` in this run.
    pub(crate) fn compressor<'a>(&'a self, target: &'a Model) -> Compressor<'a> {
        let job = Compressor::new(target).limits(self.limits());
        job.cancel(self.cancel_token()).observer(&*self.progress)
    }

    /// Prepares to restore `delta` in this run.
    pub(crate) fn restorer<'a>(&'a self, delta: &'a Delta) -> Restorer<'a> {
        let job = Restorer::new(delta).limits(self.limits());
        job.cancel(self.cancel_token()).observer(&*self.progress)
    }

    /// Prepares to check `delta` in this run.
    pub(crate) fn verifier<'a>(&'a self, delta: &'a Delta) -> Verifier<'a> {
        let job = Verifier::new(delta).limits(self.limits());
        job.cancel(self.cancel_token()).observer(&*self.progress)
    }

    /// Returns when the session began.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Returns what opens the inputs of this run, by name.
    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Returns true with `-v`.
    pub(crate) fn verbose(&self) -> bool {
        self.common.verbose
    }

    /// Prints what was done: `body` as JSON, or `text` unless `--quiet`.
    pub(crate) fn report(
        &self,
        body: impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        self.progress.clear();
        if self.common.quiet && !self.common.json {
            return Ok(());
        }
        self.answer(body, text)
    }

    /// Prints an answer and then fails; with `--json` both are in one object.
    ///
    /// # Errors
    /// `failure` itself, or `Told` if it was printed; as [`answer`](Self::answer).
    pub(crate) fn answer_and_fail(
        &self,
        body: impl Serialize,
        text: impl FnOnce() -> String,
        failure: Failure,
    ) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Body<'a, T> {
            #[serde(flatten)]
            body: T,
            error: ErrorJson<'a>,
        }
        if !self.common.json {
            self.answer(body, text)?;
            return Err(failure);
        }
        self.answer(Body { body, error: failure.json() }, text)?;
        Err(Failure::Told(failure.exit_code()))
    }

    /// Prints what the user asked for, even with `--quiet`.
    pub(crate) fn answer(
        &self,
        body: impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        self.progress.clear();
        tell();
        if self.common.json { print(&json(Some(self.name), body)?) } else { print(&text()) }
    }
}

/// Returns whether an error of this kind may come of an input that was damaged.
fn may_be_damage(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BaseMismatch
            | ErrorKind::Corrupt
            | ErrorKind::Truncated
            | ErrorKind::InvalidInput
            | ErrorKind::NotThisFormat
    )
}

fn json(command: Option<&str>, body: impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(&Envelope { schema: SCHEMA, command, body })
        .map_err(|e| Failure::Report(e.into()))?;
    Ok(format!("{}\n", plain_json(&text)))
}

/// Prints `text`, which clap made, as it is or as the field `field` of an object.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_help(as_json: bool, field: &'static str, text: &str) -> Result<(), Failure> {
    let body = std::collections::BTreeMap::from([(field, text.trim_end())]);
    if as_json { print(&json(None, body)?) } else { print(text) }
}

/// Writes all of `text` to standard output.
///
/// # Errors
/// `Report`; a closed pipe too, see [`Failure::is_broken_pipe`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Report)
}

/// Prints a failure, unless it was printed: a line on standard error, or with `--json` an object on
/// standard output.
pub(crate) fn print_error(command: Option<&str>, as_json: bool, failure: &Failure) {
    tell();
    tell_of(command, as_json, failure);
}

fn tell_of(command: Option<&str>, as_json: bool, failure: &Failure) {
    #[derive(Serialize)]
    struct Body<'a> {
        error: ErrorJson<'a>,
    }
    if matches!(failure, Failure::Told(_)) {
        return;
    }
    let printed = as_json && {
        let text = json(command, Body { error: failure.json() });
        text.and_then(|t| print(&t)).is_ok()
    };
    if !printed {
        eprint(&format!("error: {}\n", failure.sentence()));
    }
}
