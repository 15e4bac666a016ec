//! The place of trials, and running the command there.

use super::kinds::{Kind, kinds, spilled};
use super::outcome::{Outcome, Verdict};
use crate::pair::show;
use sparse_core::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time that a command may take: of the processor, and without using any. On a busy machine it may
/// wait longer for its turn.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Place and programs of the trials.
#[derive(Clone, Debug)]
pub(super) struct Lab {
    /// The folder of data, plans and trials.
    pub(super) dir: PathBuf,
    /// A folder in memory for what is written very often, where there is one.
    pub(super) fast: PathBuf,
    /// The command `sparse`.
    pub(super) sparse: PathBuf,
    /// Everything random follows from it.
    pub(super) seed: u64,
    /// Whether the run is limited to about a minute.
    pub(super) quick: bool,
}

/// End of a command.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    /// The exit code, if it ended by itself.
    pub(super) code: Option<i32>,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
    /// Whether it did not end in time, and was killed.
    pub(super) late: bool,
    /// What its threads were doing then.
    pub(super) threads: String,
    /// Standard output and error.
    pub(super) text: String,
    /// Wall time.
    pub(super) wall: Duration,
}

impl Ran {
    /// Returns true if it succeeded.
    ///
    /// # Errors
    /// The verdict on an end that is neither success nor a clean error.
    pub(super) fn honest(&self) -> std::result::Result<bool, Outcome> {
        let tail = || {
            let skip = self.text.trim().chars().count().saturating_sub(200);
            self.text.trim().chars().skip(skip).collect::<String>()
        };
        if self.late {
            let what = format!("no end within {LIMIT:?}; threads: {}", self.threads);
            return Err(Outcome::new(Verdict::Hung, what));
        }
        if let Some(signal) = self.signal {
            return Err(Outcome::new(Verdict::Signal, format!("signal {signal}: {}", tail())));
        }
        if self.text.contains("panicked at") {
            return Err(Outcome::new(Verdict::Panic, tail()));
        }
        match self.code {
            Some(0) => Ok(true),
            Some(1..=6 | 130) if !self.text.trim().is_empty() => Ok(false),
            code => Err(Outcome::new(Verdict::Wrong, format!("exit {code:?}: {}", tail()))),
        }
    }
}

/// A running command.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
    start: Instant,
}

impl Running {
    /// Returns true if it has ended.
    pub(super) fn is_done(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Kills it (SIGKILL).
    pub(super) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
    }

    /// Waits until it ends, or has hung for [`LIMIT`].
    ///
    /// # Errors
    /// `Io` when it cannot be waited for.
    pub(super) fn finish(mut self) -> Result<Ran> {
        let (mut late, mut threads) = (false, String::new());
        let mut worked = (Duration::ZERO, self.start);
        let status = loop {
            let ended =
                self.child.try_wait().map_err(|e| Error::io("cannot wait for a command", e))?;
            if let Some(status) = ended {
                break status;
            }
            if !late && worked.1.elapsed() > LIMIT {
                let now = processor_time(self.child.id());
                late = now == worked.0 || now > LIMIT;
                worked = (now, Instant::now());
                if late {
                    threads = doing(self.child.id());
                    self.kill();
                }
            }
            sleep(Duration::from_micros(500));
        };
        Ok(Ran { late, threads, ..ran(status, &self.log, self.start.elapsed()) })
    }
}

/// Returns the processor's time that a process has used; zero where the system does not tell.
fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which may hold anything: user and system time are fields 14 and 15, in
    // hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// Returns for each thread of a process its state, and the place in the kernel where it waits.
fn doing(process: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let one = |task: fs::DirEntry| {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next());
        let name = read("comm");
        format!("{} {} {} {}", name.trim(), state.unwrap_or('?'), read("wchan"), read("syscall"))
    };
    tasks.map(one).collect::<Vec<_>>().join("; ")
}

/// Describes an end.
pub(super) fn ran(status: ExitStatus, log: &Path, wall: Duration) -> Ran {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None;
    Ran { code: status.code(), signal, late: false, threads: String::new(), text, wall }
}

/// Words of a command line.
pub(super) fn words<const N: usize>(list: [&dyn AsRef<std::ffi::OsStr>; N]) -> Vec<OsString> {
    list.map(|w| w.as_ref().to_owned()).to_vec()
}

impl Lab {
    /// The folder of all data.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// All kinds of deltas.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        kinds(&self.data())
    }

    /// The kind of delta called `name`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none.
    pub(super) fn kind(&self, name: &str) -> Result<Kind> {
        let spilled = spilled(&self.data());
        let found = self.kinds().into_iter().chain([spilled]).find(|k| k.name == name);
        found.ok_or_else(|| Error::invalid_argument(format!("no kind of delta is called {name}")))
    }

    /// `most`, or `quick` where a minute has to suffice.
    pub(super) fn most(&self, most: usize, quick: usize) -> usize {
        if self.quick { quick } else { most }
    }

    /// An empty folder for a trial, below `root`; what an earlier trial of this process left is
    /// removed.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn fresh(&self, root: &Path) -> Result<PathBuf> {
        let folder = root.join("trials").join(std::process::id().to_string());
        let error = |e| Error::io("cannot make a folder", e).in_file(show(&folder));
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(error(e)),
            _ => {}
        }
        fs::create_dir_all(&folder).map_err(error)?;
        Ok(folder)
    }

    /// The command that makes the delta of a kind.
    pub(super) fn make_words(
        &self,
        kind: &Kind,
        base: &Path,
        target: &Path,
        out: &Path,
    ) -> Vec<OsString> {
        let mut list = match (kind.dataset, kind.name) {
            (true, _) => words([&"dataset-compress", &base, &target]),
            (false, "adapter") => words([&"compress-adapter", &base, &target]),
            (false, _) if kind.alone => words([&"compress", &target]),
            (false, _) => words([&"compress", &base, &target]),
        };
        list.extend(kind.options.iter().map(OsString::from));
        list.extend(words([&"-o", &out, &"-q"]));
        list
    }

    /// The command that restores what a delta of a kind is of.
    pub(super) fn restore_words(
        &self,
        kind: &Kind,
        base: &Path,
        delta: &Path,
        out: &Path,
    ) -> Vec<OsString> {
        match kind.dataset {
            true => {
                let mut list =
                    words([&"dataset-reconstruct", &delta, &"--base", &base, &"-o", &out, &"-q"]);
                let memory = kind.options.iter().skip_while(|o| **o != "--memory").take(2);
                list.extend(memory.map(OsString::from));
                list
            }
            false if kind.alone => words([&"reconstruct", &delta, &"-o", &out, &"-q"]),
            false => words([&"reconstruct", &base, &delta, &"-o", &out, &"-q"]),
        }
    }

    /// The command that verifies a delta.
    pub(super) fn verify_words(&self, kind: &Kind, base: &Path, delta: &Path) -> Vec<OsString> {
        match kind.alone {
            true => words([&"verify", &delta, &"-q"]),
            false => words([&"verify", &base, &delta, &"-q"]),
        }
    }

    /// Makes a delta.
    pub(super) fn make_delta(
        &self,
        kind: &Kind,
        base: &Path,
        target: &Path,
        out: &Path,
    ) -> Result<Ran> {
        self.run(&self.make_words(kind, base, target, out))
    }

    /// Restores what a delta is of.
    pub(super) fn restore(
        &self,
        kind: &Kind,
        base: &Path,
        delta: &Path,
        out: &Path,
    ) -> Result<Ran> {
        self.run(&self.restore_words(kind, base, delta, out))
    }

    /// Starts the command with `words`; temporary files go to `temporary`, what it prints to `log`.
    ///
    /// # Errors
    /// `Io` or `NotFound` when it cannot be started.
    pub(super) fn start(
        &self,
        words: &[OsString],
        temporary: &Path,
        log: &Path,
    ) -> Result<Running> {
        self.start_as(Command::new(&self.sparse).args(words), temporary, log)
    }

    /// Starts `command` likewise.
    ///
    /// # Errors
    /// `Io` or `NotFound` when it cannot be started.
    pub(super) fn start_as(
        &self,
        command: &mut Command,
        temporary: &Path,
        log: &Path,
    ) -> Result<Running> {
        let child = prepare(command, temporary, log)?
            .spawn()
            .map_err(|e| Error::io("cannot start", e).in_file(show(&self.sparse)))?;
        Ok(Running { child, log: log.to_owned(), start: Instant::now() })
    }

    /// Runs the command with `words` to its end.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) fn run(&self, words: &[OsString]) -> Result<Ran> {
        let log = self.dir.join(format!("log-{}", std::process::id()));
        self.start(words, &self.dir, &log)?.finish()
    }

    /// Reports a run that had to succeed and did not.
    ///
    /// # Errors
    /// `InvalidInput` with what the command said.
    pub(super) fn must(&self, ran: &Ran) -> Result<()> {
        match ran.code {
            Some(0) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a command that must succeed ended otherwise: {ran:?}"),
            )),
        }
    }
}

/// Sets where a command writes what it prints, and its temporary files.
///
/// # Errors
/// `Io` when the file for what it prints cannot be made.
pub(super) fn prepare<'a>(
    command: &'a mut Command,
    temporary: &Path,
    log: &Path,
) -> Result<&'a mut Command> {
    let error = |e| Error::io("cannot write", e).in_file(show(log));
    let file = File::create(log).map_err(error)?;
    let copy = file.try_clone().map_err(error)?;
    Ok(command.env("TMPDIR", temporary).stdin(Stdio::null()).stdout(file).stderr(copy))
}

/// Reports the first difference between two files, or two folders with all that is in them; none if
/// they are equal.
pub(super) fn difference(a: &Path, b: &Path) -> Option<String> {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(x), Ok(y)) if x.is_dir() && y.is_dir() => {
            let (names, others) = (names(a), names(b));
            if names != others {
                return Some(format!("{} has {names:?}, not {others:?}", show(a)));
            }
            names.iter().find_map(|n| difference(&a.join(n), &b.join(n)))
        }
        (Ok(x), Ok(y)) if x.is_file() && y.is_file() => match (fs::read(a), fs::read(b)) {
            (Ok(x), Ok(y)) if x == y => None,
            (Ok(x), Ok(y)) => {
                let at = x.iter().zip(&y).take_while(|(p, q)| p == q).count();
                Some(format!(
                    "{} differs from byte {at} of {} (right: {})",
                    show(a),
                    x.len(),
                    y.len()
                ))
            }
            _ => Some(format!("{} cannot be read", show(a))),
        },
        _ => Some(format!("{} is missing or of another type", show(a))),
    }
}

/// Names in a folder, sorted; none if it cannot be read.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
