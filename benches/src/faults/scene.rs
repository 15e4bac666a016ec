//! One run of the command, with or without an earlier output, and the checks afterwards.

use super::kinds::Kind;
use super::lab::{Lab, Ran, difference, names};
use super::outcome::{Outcome, Verdict};
use crate::files::put;
use crate::pair::show;
use sparse_core::{Error, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Operation of a command, by its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// `compress`.
    Compress,
    /// `reconstruct`.
    Reconstruct,
    /// `dataset-compress`.
    DatasetCompress,
    /// `dataset-reconstruct`.
    DatasetReconstruct,
    /// `dataset-compress --exact`.
    ExactCompress,
    /// `dataset-reconstruct` of what that made.
    ExactReconstruct,
    /// `compress-adapter`.
    AdapterCompress,
    /// `reconstruct` of what that made.
    AdapterReconstruct,
    /// `dataset-compress` of more rows than fit its memory.
    SpilledCompress,
    /// `dataset-reconstruct` likewise.
    SpilledReconstruct,
}

impl Op {
    /// All quick operations; the [`SPILLED`](Self::SPILLED) ones are not.
    pub(super) const ALL: [Op; 8] = [
        Op::Compress,
        Op::Reconstruct,
        Op::DatasetCompress,
        Op::DatasetReconstruct,
        Op::ExactCompress,
        Op::ExactReconstruct,
        Op::AdapterCompress,
        Op::AdapterReconstruct,
    ];

    /// Those that write rows to temporary files.
    pub(super) const SPILLED: [Op; 2] = [Op::SpilledCompress, Op::SpilledReconstruct];

    /// Its name in descriptions of trials.
    pub(super) fn name(self) -> &'static str {
        match self {
            Op::Compress => "compress",
            Op::Reconstruct => "reconstruct",
            Op::DatasetCompress => "dataset-compress",
            Op::DatasetReconstruct => "dataset-reconstruct",
            Op::ExactCompress => "exact-compress",
            Op::ExactReconstruct => "exact-reconstruct",
            Op::AdapterCompress => "adapter-compress",
            Op::AdapterReconstruct => "adapter-reconstruct",
            Op::SpilledCompress => "spilled-compress",
            Op::SpilledReconstruct => "spilled-reconstruct",
        }
    }

    /// Finds the command called `name`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none.
    pub(super) fn from_name(name: &str) -> Result<Op> {
        let found = Op::ALL.into_iter().chain(Op::SPILLED).find(|o| o.name() == name);
        found.ok_or_else(|| Error::invalid_argument(format!("no command is called {name}")))
    }

    /// Returns true if it writes a delta.
    pub(super) fn makes_delta(self) -> bool {
        use Op::{AdapterCompress, Compress, DatasetCompress, ExactCompress, SpilledCompress};
        matches!(
            self,
            Compress | DatasetCompress | ExactCompress | AdapterCompress | SpilledCompress
        )
    }

    /// The kind of delta that it is tried with.
    pub(super) fn kind(self, large: bool) -> &'static str {
        match (self, large) {
            (Op::Compress | Op::Reconstruct, false) => "lossless",
            (Op::Compress | Op::Reconstruct, true) => "model",
            (Op::DatasetCompress | Op::DatasetReconstruct, false) => "rows",
            (Op::DatasetCompress | Op::DatasetReconstruct, true) => "table",
            (Op::ExactCompress | Op::ExactReconstruct, _) => "exact",
            (Op::AdapterCompress | Op::AdapterReconstruct, _) => "adapter",
            (Op::SpilledCompress | Op::SpilledReconstruct, _) => "spilled",
        }
    }
}

/// Content of the output before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prior {
    /// Nothing.
    Absent,
    /// Something else, which is to be replaced (`--force`).
    Old,
}

impl Prior {
    /// Both.
    pub(super) const ALL: [Prior; 2] = [Prior::Absent, Prior::Old];

    /// The word for it in descriptions of trials.
    pub(super) fn name(self) -> &'static str {
        match self {
            Prior::Absent => "new",
            Prior::Old => "old",
        }
    }

    /// Reads the word for it.
    pub(super) fn from_name(name: &str) -> Prior {
        if name == "old" { Prior::Old } else { Prior::Absent }
    }
}

/// Content of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Absent,
    /// The earlier content.
    Old,
    /// The expected content.
    Right,
    /// Anything else.
    Other(String),
}

/// A trial's folder and command.
pub(super) struct Scene<'a> {
    lab: &'a Lab,
    op: Op,
    /// Delta that is made or restored.
    pub(super) kind: Kind,
    prior: Prior,
    /// The folder, with `out`, `tmp` and `log`.
    pub(super) folder: PathBuf,
}

const OLD: &[u8] = b"what was here before\n";

impl<'a> Scene<'a> {
    /// Prepares a run of `op`.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` for an unknown kind.
    pub(super) fn new(lab: &'a Lab, op: Op, large: bool, prior: Prior) -> Result<Scene<'a>> {
        let scene = Scene::bare(lab, op, large, prior)?;
        scene.put_old()?;
        Ok(scene)
    }

    /// Prepares a run of `op`, but for what is to be at the output before.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn bare(lab: &'a Lab, op: Op, large: bool, prior: Prior) -> Result<Scene<'a>> {
        let folder = lab.fresh(&lab.dir)?;
        let scene = Scene { lab, op, kind: lab.kind(op.kind(large))?, prior, folder };
        for name in ["out", "tmp"] {
            let path = scene.folder.join(name);
            fs::create_dir_all(&path)
                .map_err(|e| Error::io("cannot make", e).in_file(show(&path)))?;
        }
        Ok(scene)
    }

    /// Puts at the output what is to be there before.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn put_old(&self) -> Result<()> {
        match (self.prior, self.expected().is_dir()) {
            (Prior::Absent, _) => Ok(()),
            (Prior::Old, true) => put(&self.out().join("old"), OLD),
            (Prior::Old, false) => put(&self.out(), OLD),
        }
    }

    /// The output.
    pub(super) fn out(&self) -> PathBuf {
        let expected = self.expected();
        self.folder.join("out").join(expected.file_name().unwrap_or_default())
    }

    /// Returns the folder of temporary files.
    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Returns the file for the command's output.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Returns the expected output.
    pub(super) fn expected(&self) -> PathBuf {
        if self.op.makes_delta() { self.kind.delta() } else { self.kind.restored() }
    }

    /// The command line.
    pub(super) fn words(&self) -> Vec<OsString> {
        self.words_to(self.prior == Prior::Old)
    }

    fn words_to(&self, force: bool) -> Vec<OsString> {
        let (kind, out) = (&self.kind, self.out());
        let mut words = match self.op.makes_delta() {
            true => self.lab.make_words(kind, &kind.base(), &kind.target(), &out),
            false => self.lab.restore_words(kind, &kind.base(), &kind.delta(), &out),
        };
        if force {
            words.push("--force".into());
        }
        words
    }

    /// Returns the present content of the output.
    pub(super) fn state(&self) -> State {
        let out = self.out();
        if fs::symlink_metadata(&out).is_err() {
            return State::Absent;
        }
        let old = if out.is_dir() { out.join("old") } else { out.clone() };
        let alone = !out.is_dir() || names(&out).len() == 1;
        if alone && fs::read(old).is_ok_and(|b| b == OLD) {
            return State::Old;
        }
        match difference(&out, &self.expected()) {
            None => State::Right,
            Some(_) if self.op.makes_delta() && self.restores(&out) => State::Right,
            Some(what) => State::Other(what),
        }
    }

    /// Whether a delta with other bytes (a fault may have led to another way to code) restores the
    /// same.
    fn restores(&self, delta: &Path) -> bool {
        let back = self.folder.join("back");
        let _ = fs::remove_dir_all(&back).or_else(|_| fs::remove_file(&back));
        let ran = self.lab.restore(&self.kind, &self.kind.base(), delta, &back);
        ran.is_ok_and(|r| r.code == Some(0)) && difference(&back, &self.kind.restored()).is_none()
    }

    /// Returns files left beside the output and among temporary files.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let own = self.out().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = names(&self.folder.join("out")).into_iter().filter(|n| *n != own);
        beside.chain(names(&self.temporary())).collect()
    }

    /// The verdict after the command has ended by itself.
    pub(super) fn after(&self, ran: &Ran) -> Outcome {
        let done = match ran.honest() {
            Ok(done) => done,
            Err(outcome) => return outcome,
        };
        let before = if self.prior == Prior::Old { State::Old } else { State::Absent };
        let outcome = match (done, self.state()) {
            (true, State::Right) => Outcome::restored(),
            (true, state) => {
                Outcome::new(Verdict::Wrong, format!("success, and the output is {state:?}"))
            }
            // An error after publishing (the folder could not be flushed) is said, though all is
            // there.
            (false, State::Right) => Outcome::refused(),
            (false, state) if state == before => Outcome::refused(),
            (false, State::Absent) => Outcome::new(Verdict::Lost, "what was there before is gone"),
            (false, state) => {
                Outcome::new(Verdict::Wrong, format!("an error, and the output is {state:?}"))
            }
        };
        match (self.leftovers(), outcome.verdict.is_right()) {
            (left, true) if !left.is_empty() => {
                Outcome::new(Verdict::Leftover, format!("{left:?}"))
            }
            _ => outcome,
        }
    }

    /// The verdict after an end in which the command could not remove its temporary, for the fault
    /// was in the way: the next run has to.
    ///
    /// # Errors
    /// `Io` when the next run cannot be started.
    pub(super) fn after_hindered(&self, ran: &Ran) -> Result<Outcome> {
        let outcome = self.after(ran);
        match outcome.verdict {
            Verdict::Leftover => self.after_kill(),
            _ => Ok(outcome),
        }
    }

    /// The verdict after the command was killed: what is there, and what the next run makes of it.
    ///
    /// # Errors
    /// `Io` when the next run cannot be started.
    pub(super) fn after_kill(&self) -> Result<Outcome> {
        let before = if self.prior == Prior::Old { State::Old } else { State::Absent };
        let published = match self.state() {
            State::Right => true,
            state if state == before => false,
            State::Absent => {
                return Ok(Outcome::new(Verdict::Lost, "what was there before is gone"));
            }
            state => {
                return Ok(Outcome::new(
                    Verdict::Wrong,
                    format!("killed, and the output is {state:?}"),
                ));
            }
        };
        let force = self.prior == Prior::Old || published;
        let next =
            self.lab.start(&self.words_to(force), &self.temporary(), &self.log())?.finish()?;
        Ok(match next.honest() {
            Err(outcome) => outcome,
            Ok(false) => Outcome::new(Verdict::Lost, format!("the next run fails: {}", next.text)),
            Ok(true) if self.state() != State::Right => Outcome::new(
                Verdict::Wrong,
                format!("after the next run, the output is {:?}", self.state()),
            ),
            Ok(true) if !self.leftovers().is_empty() => Outcome::new(
                Verdict::Leftover,
                format!("after the next run: {:?}", self.leftovers()),
            ),
            Ok(true) if published => Outcome::restored(),
            Ok(true) => Outcome::refused(),
        })
    }
}
