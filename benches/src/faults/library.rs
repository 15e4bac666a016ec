//! Trials within this process, on the libraries.

use super::kinds::Kind;
use super::lab::{Lab, difference, names};
use super::outcome::{Outcome, Verdict};
use crate::files::{get, put};
use sparse::{Codecs, Delta, Limits, Model, Overwrite, Result};
use sparse_core::ByteSource;
use sparse_dataset::{Dataset, DatasetDelta, Restorer};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// State that a process keeps between trials.
pub(super) struct Library<'a> {
    /// Where trials take place.
    pub(super) lab: &'a Lab,
    /// How long commands take, once measured.
    pub(super) durations: BTreeMap<String, Duration>,
    models: BTreeMap<PathBuf, Model>,
    datasets: BTreeMap<PathBuf, Dataset>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// Expected result for a changed delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// It is refused, or restores what the delta restored before.
    SameOrRefused,
    /// It is refused, or it restores files within its folder, whatever their content; `verify` and
    /// `reconstruct` agree.
    Consistent,
}

impl<'a> Library<'a> {
    /// Creates one that keeps nothing yet.
    pub(super) fn new(lab: &'a Lab) -> Library<'a> {
        Library {
            lab,
            durations: BTreeMap::new(),
            models: BTreeMap::new(),
            datasets: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// The bytes of a file that does not change.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn bytes(&mut self, path: &Path) -> Result<&[u8]> {
        if !self.files.contains_key(path) {
            self.files.insert(path.to_owned(), get(path)?);
        }
        Ok(self.files.get(path).map_or(&[], |b| b))
    }

    /// Closes the model or dataset at `path`, which no other trial uses.
    pub(super) fn forget(&mut self, path: &Path) {
        self.models.remove(path);
        self.datasets.remove(path);
    }

    fn model(&mut self, path: &Path) -> Result<&Model> {
        if !self.models.contains_key(path) {
            self.models.insert(path.to_owned(), Model::open(path)?);
        }
        self.models.get(path).ok_or_else(|| sparse::Error::invalid_argument("no such model"))
    }

    fn dataset(&mut self, path: &Path) -> Result<&Dataset> {
        if !self.datasets.contains_key(path) {
            self.datasets.insert(path.to_owned(), Dataset::open(path)?);
        }
        self.datasets.get(path).ok_or_else(|| sparse::Error::invalid_argument("no such dataset"))
    }

    /// The verdict on the changed delta `bytes` of a kind, against its base or another.
    ///
    /// # Errors
    /// `Io` of the trial itself.
    pub(super) fn judge(
        &mut self,
        kind: &Kind,
        bytes: Vec<u8>,
        base: Option<&Path>,
        right: Right,
    ) -> Result<Outcome> {
        let folder = self.lab.fresh(&self.lab.fast)?;
        let delta = folder.join("delta.sparse");
        let out = folder.join("restored");
        let base = base.map_or_else(|| kind.base(), Path::to_owned);
        put(&delta, &bytes)?;
        let tried = catch_unwind(AssertUnwindSafe(|| match kind.dataset {
            true => self.try_dataset(&delta, &base, &out),
            false => {
                let base = (!kind.alone).then_some(&*base);
                [Act::Verify, Act::Restore(&out)]
                    .map(|act| self.try_model(Box::new(bytes.clone()), base, act))
            }
        }));
        let [verified, restored] = match tried {
            Ok(tried) => tried,
            Err(e) => return Ok(Outcome::new(Verdict::Panic, panic_text(&*e))),
        };
        let there = out.exists();
        let stray: Vec<String> =
            names(&folder).into_iter().filter(|n| n != "delta.sparse" && n != "restored").collect();
        if !stray.is_empty() {
            return Ok(Outcome::new(Verdict::Leftover, format!("{stray:?}")));
        }
        Ok(match (verified, restored) {
            (_, Err(e)) if there => {
                Outcome::new(Verdict::Wrong, format!("an error, and an output: {e}"))
            }
            (Ok(()), Err(e)) => {
                Outcome::new(Verdict::Wrong, format!("verified, and not restored: {e}"))
            }
            (Err(_), Err(_)) => Outcome::refused(),
            // `verify` checks more than is restored (certificates, rows beside exact files), which
            // may be wrong; the files then have to be the original ones.
            (Err(_), Ok(())) => match difference(&out, &kind.restored()) {
                None => Outcome::restored(),
                Some(what) => Outcome::new(Verdict::Wrong, format!("not verified, and {what}")),
            },
            (_, Ok(())) if right == Right::SameOrRefused => {
                match difference(&out, &kind.restored()) {
                    None => Outcome::restored(),
                    Some(what) => Outcome::new(Verdict::Wrong, what),
                }
            }
            (_, Ok(())) => Outcome::restored(),
        })
    }

    /// Does something with the delta of a model that `source` gives.
    ///
    /// # Errors
    /// What the library reports.
    pub(super) fn try_model(
        &mut self,
        source: Box<dyn ByteSource>,
        base: Option<&Path>,
        act: Act<'_>,
    ) -> Result<()> {
        let delta = Delta::from_source(source, Codecs::default(), &Limits::default())?;
        let base = base.map(|path| self.model(path)).transpose()?;
        match act {
            Act::Verify => sparse::Verifier::new(&delta).base(base).verify()?,
            Act::Restore(out) => sparse::Restorer::new(&delta).base(base).write(out)?,
        };
        Ok(())
    }

    fn try_dataset(&mut self, delta: &Path, base: &Path, out: &Path) -> [Result<()>; 2] {
        // An error is told twice.
        let twice = |e: sparse::Error| {
            let again = sparse::Error::new(e.kind(), e.message().to_owned());
            [Err(e), Err(again)]
        };
        let delta = match DatasetDelta::open(delta) {
            Ok(delta) => delta,
            Err(e) => return twice(e),
        };
        let base = match self.dataset(base) {
            Ok(base) => base,
            Err(e) => return twice(e),
        };
        let verify = || -> Result<()> {
            let data = Restorer::new(&delta).base(base).open()?;
            data.verify().map(drop)
        };
        let restore = || -> Result<()> {
            let data = Restorer::new(&delta).base(base).open()?;
            data.write(out, None, Overwrite::Refuse).map(drop)
        };
        [verify(), restore()]
    }
}

/// Operation on a delta.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act<'a> {
    /// It is verified.
    Verify,
    /// It is restored to a path.
    Restore(&'a Path),
}

/// The text of a panic.
pub(super) fn panic_text(e: &(dyn std::any::Any + Send)) -> String {
    let text = e.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| e.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}
