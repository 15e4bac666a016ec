//! What all commands share: threads, cancellation, progress, and where reports go.

use crate::args::{Command, Common};
use crate::commands;
use crate::failure::{ErrorJson, Failure};
use crate::progress::{Progress, eprint};
use serde::Serialize;
use sparse::{CancelToken, Effort, Error, ErrorKind, Model, OpenOptions, Options, Overwrite};
use std::io::{self, Write};
use std::path::Path;
use std::process::exit;

/// The version of the JSON schema; it grows by fields without a new number.
const SCHEMA: u32 = 1;

/// One run of the program.
pub(crate) struct Session {
    name: &'static str,
    common: Common,
    cancel: CancelToken,
    pool: rayon::ThreadPool,
    pub(crate) progress: Progress,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: u32,
    command: Option<&'a str>,
    #[serde(flatten)]
    body: T,
}

impl Session {
    /// Start threads, and watch for Ctrl-C.
    pub(crate) fn new(name: &'static str, common: Common) -> Result<Session, Failure> {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = common.threads.unwrap_or_else(all);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
            Error::new(ErrorKind::Io, format!("cannot start {threads} threads")).with_source(e)
        })?;
        let cancel = CancelToken::new();
        let on_signal = cancel.clone();
        // Only fails where a signal is ignored already, as under nohup: it stays ignored then.
        let _ = ctrlc::try_set_handler(move || {
            if on_signal.is_cancelled() {
                // Asked twice: at once. The next run removes the temporary file.
                exit(130);
            }
            on_signal.cancel();
        });
        let progress = Progress::new(!common.quiet && !common.json, common.verbose);
        Ok(Session { name, common, cancel, pool, progress })
    }

    /// Run `command` on this session's threads.
    pub(crate) fn run(&self, command: Command) -> Result<(), Failure> {
        let result = self.pool.install(|| match command {
            Command::Compress(args) => commands::compress(self, args),
            Command::Reconstruct(args) => commands::reconstruct(self, args),
            Command::Verify(args) => commands::verify(self, args),
            Command::Quality(args) => commands::quality(self, args),
            Command::Info(args) => commands::info(self, &args),
            Command::ExportAdapter(args) => commands::export_adapter(self, &args),
            Command::CompressAdapter(args) => commands::compress_adapter(self, &args),
            Command::Estimate(args) => commands::estimate(self, args),
            #[cfg(feature = "dataset")]
            Command::DatasetCompress(args) => commands::dataset::compress(self, args),
            #[cfg(feature = "dataset")]
            Command::DatasetReconstruct(args) => commands::dataset::reconstruct(self, args),
            #[cfg(feature = "dataset")]
            Command::DatasetEstimate(args) => commands::dataset::estimate(self, args),
        });
        self.progress.clear();
        result
    }

    /// Threads in use.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Cancelled by Ctrl-C.
    #[cfg(feature = "dataset")]
    pub(crate) fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// The library's options for this run.
    pub(crate) fn options(&self, effort: Effort) -> Options {
        let mut options = Options::default();
        options.effort = effort;
        options.cancel = self.cancel.clone();
        options
    }

    /// The options for a run on datasets.
    #[cfg(feature = "dataset")]
    pub(crate) fn dataset_options(
        &self,
        effort: Effort,
        memory: &crate::args::Memory,
    ) -> sparse_dataset::Options {
        let mut options = sparse_dataset::Options::default();
        options.effort = effort;
        options.cancel = self.cancel.clone();
        options.memory = memory.memory;
        options.temporary = memory.temporary.clone();
        options
    }

    /// Open a model: `role` is what it is to the command.
    pub(crate) fn open(&self, role: &str, path: &Path) -> Result<Model, Failure> {
        let model = Model::open(path, &OpenOptions::default())?;
        if self.common.verbose {
            eprint(&format!("{role}: {}\n", model.root().display()));
        }
        Ok(model)
    }

    /// Whether everything is to be told.
    pub(crate) fn verbose(&self) -> bool {
        self.common.verbose
    }

    /// Report what was done: `body` as JSON, or `text` unless `--quiet`.
    pub(crate) fn report(&self, body: impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        self.progress.clear();
        if self.common.quiet && !self.common.json {
            return Ok(());
        }
        self.answer(body, text)
    }

    /// Report what was asked for: also with `--quiet`.
    pub(crate) fn answer(&self, body: impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        self.progress.clear();
        if self.common.json { print(&json(Some(self.name), body)?) } else { print(&text()) }
    }
}

/// What `--force` means for the output at `path`.
///
/// # Errors
/// `InvalidArgument` when a device, pipe or socket is there: replacing `/dev/null` by a file is never what is meant.
pub(crate) fn overwrite(path: &Path, force: bool) -> Result<Overwrite, Failure> {
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        let e = Error::new(ErrorKind::InvalidArgument, "the output is neither a file nor a folder");
        return Err(e.in_file(path.display().to_string()).into());
    }
    Ok(if force { Overwrite::Replace } else { Overwrite::Refuse })
}

fn json(command: Option<&str>, body: impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string(&Envelope { schema: SCHEMA, command, body })
        .map_err(|e| Failure::Report(e.into()))?;
    text.push('\n');
    Ok(text)
}

/// Write all of `text` to standard output.
///
/// # Errors
/// `Report`; a closed pipe too, see [`Failure::is_broken_pipe`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Report)
}

/// Tell of a failure: a line on standard error, or with `--json` an object on standard output.
pub(crate) fn print_error(command: Option<&str>, as_json: bool, failure: &Failure) {
    #[derive(Serialize)]
    struct Body<'a> {
        error: ErrorJson<'a>,
    }
    let printed = as_json && {
        let text = json(command, Body { error: failure.json() });
        text.and_then(|t| print(&t)).is_ok()
    };
    if !printed {
        eprint(&format!("error: {}\n", failure.sentence()));
    }
}
