//! Rows: inputs that change while the command reads them.

use super::dice::{Dice, thin};
use super::kinds::Kind;
use super::lab::{Lab, Ran, difference};
use super::library::Library;
use super::outcome::{Outcome, Verdict};
use super::row::{Plan, Row, word};
use crate::files::{get, put};
use crate::pair::show;
use sparse_core::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    let place = "a file of base, target or delta at a random moment of the command's run";
    let row = |name, fault, plan| Row { name, fault, place, plan, run };
    vec![
        row(
            "changing-models",
            "inputs cut, emptied, overwritten, replaced or removed: models",
            |lab| plan(lab, "model"),
        ),
        row(
            "changing-datasets",
            "inputs cut, emptied, overwritten, replaced or removed: datasets",
            |lab| plan(lab, "table"),
        ),
    ]
}

const RUNS: [(&str, &str); 6] = [
    ("compress", "base"),
    ("compress", "target"),
    ("verify", "base"),
    ("verify", "delta"),
    ("reconstruct", "base"),
    ("reconstruct", "delta"),
];
const ACTS: [&str; 6] = ["cut", "empty", "overwrite", "slowly", "replace", "remove"];

fn plan(lab: &Lab, kind: &str) -> Result<Plan> {
    let n = lab.most(12, 1);
    let mut all = Vec::new();
    for i in 0..n {
        for (command, victim) in RUNS {
            all.extend(ACTS.map(|act| format!("{kind} {command} {victim} {act} {i}")));
        }
    }
    Ok(Plan::Trials(thin(all, lab.most(usize::MAX, 14))))
}

/// Copies of the inputs that may be changed.
struct Inputs {
    kind: Kind,
    folder: PathBuf,
}

impl Inputs {
    fn new(lab: &Lab, kind: &str) -> Result<Inputs> {
        let kind = lab.kind(kind)?;
        let folder = lab.fresh(&lab.dir)?;
        let inputs = Inputs { kind, folder };
        copy(&inputs.kind.base(), &inputs.base())?;
        copy(&inputs.kind.target(), &inputs.target())?;
        copy(&inputs.kind.delta(), &inputs.delta())?;
        for name in ["out", "tmp"] {
            let path = inputs.folder.join(name);
            fs::create_dir_all(&path)
                .map_err(|e| Error::io("cannot make", e).in_file(show(&path)))?;
        }
        Ok(inputs)
    }

    fn base(&self) -> PathBuf {
        self.folder.join(self.kind.base().file_name().unwrap_or_default())
    }

    fn target(&self) -> PathBuf {
        self.folder.join(self.kind.target().file_name().unwrap_or_default())
    }

    fn delta(&self) -> PathBuf {
        self.folder.join("delta.sparse")
    }

    fn out(&self) -> PathBuf {
        self.folder.join("out").join("out")
    }

    fn words(&self, lab: &Lab, command: &str) -> Vec<OsString> {
        let (kind, base, delta, out) = (&self.kind, self.base(), self.delta(), self.out());
        match command {
            "compress" => lab.make_words(kind, &base, &self.target(), &out),
            "verify" => lab.verify_words(kind, &base, &delta),
            _ => lab.restore_words(kind, &base, &delta, &out),
        }
    }

    /// The file that changes.
    fn victim(&self, name: &str) -> PathBuf {
        let path = match name {
            "base" => self.base(),
            "target" => self.target(),
            _ => self.delta(),
        };
        if path.is_dir() { path.join("model.safetensors") } else { path }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return put(to, get(from)?);
    }
    super::lab::names(from).iter().try_for_each(|n| copy(&from.join(n), &to.join(n)))
}

/// Changes a file.
fn change(path: &Path, act: &str, span: Duration, dice: &mut Dice) -> Result<()> {
    let error = |e| Error::io("cannot change", e).in_file(show(path));
    let len = fs::metadata(path).map_err(error)?.len();
    let open = || File::options().write(true).open(path);
    let noise = dice.bytes((len * 3 / 4) as usize);
    match act {
        "cut" => open().and_then(|f| f.set_len(len / 3)),
        "empty" => open().and_then(|f| f.set_len(0)),
        "overwrite" => open().and_then(|mut f| {
            f.seek(SeekFrom::Start(len / 20))?;
            f.write_all(&noise)
        }),
        // From its end to its start: reads before and after then belong to different files.
        "slowly" => open().and_then(|mut f| {
            let parts: Vec<&[u8]> = noise.chunks((noise.len() / 16).max(1)).collect();
            for (i, part) in parts.iter().enumerate().rev() {
                f.seek(SeekFrom::Start(len / 20 + (i * part.len()) as u64))?;
                f.write_all(part)?;
                sleep(span / 16);
            }
            Ok(())
        }),
        "replace" => {
            let other = path.with_extension("other");
            fs::write(&other, &noise).and_then(|()| fs::rename(&other, path))
        }
        _ => fs::remove_file(path),
    }
    .map_err(error)
}

fn run(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let (kind, command, victim, act) =
        (word(trial, 0), word(trial, 1), word(trial, 2), word(trial, 3));
    let mut dice = Dice::new(lab.seed, trial);
    let inputs = Inputs::new(lab, kind)?;
    let (temporary, log) = (inputs.folder.join("tmp"), inputs.folder.join("log"));
    let words = inputs.words(lab, command);
    let key = format!("{kind} {command}");
    let whole = match library.durations.get(&key) {
        Some(&known) => known,
        None => {
            let ran = lab.start(&words, &temporary, &log)?.finish()?;
            lab.must(&ran)?;
            let _ = fs::remove_dir_all(inputs.out()).or_else(|_| fs::remove_file(inputs.out()));
            library.durations.insert(key, ran.wall);
            ran.wall
        }
    };
    let mut running = lab.start(&words, &temporary, &log)?;
    sleep(whole.mul_f64(0.8 * dice.share()));
    let early = running.is_done();
    change(&inputs.victim(victim), act, whole.mul_f64(0.5), &mut dice)?;
    let ran = running.finish()?;
    let outcome = verdict(lab, &inputs, command, &ran)?;
    Ok(match outcome.verdict {
        Verdict::Restored if early => Outcome::new(Verdict::Missed, ""),
        _ => outcome,
    })
}

fn verdict(lab: &Lab, inputs: &Inputs, command: &str, ran: &Ran) -> Result<Outcome> {
    let left = || {
        let beside =
            super::lab::names(&inputs.folder.join("out")).into_iter().filter(|n| n != "out");
        beside.chain(super::lab::names(&inputs.folder.join("tmp"))).collect::<Vec<_>>()
    };
    let done = match ran.honest() {
        Ok(done) => done,
        Err(outcome) => return Ok(outcome),
    };
    if !left().is_empty() {
        return Ok(Outcome::new(Verdict::Leftover, format!("{:?}", left())));
    }
    let out = inputs.out();
    Ok(match (done, command) {
        (false, "verify") => Outcome::refused(),
        (false, _) if fs::symlink_metadata(&out).is_ok() => {
            Outcome::new(Verdict::Wrong, "an error, and an output")
        }
        (false, _) => Outcome::refused(),
        (true, "verify") => Outcome::restored(),
        (true, "reconstruct") => match difference(&out, &inputs.kind.restored()) {
            None => Outcome::restored(),
            Some(what) => Outcome::new(Verdict::Wrong, what),
        },
        (true, _) => made(lab, inputs)?,
    })
}

/// The verdict on a delta that was made while something changed: it has to restore the target as it
/// was or as it is, from the base as it was or as it is.
fn made(lab: &Lab, inputs: &Inputs) -> Result<Outcome> {
    let kind = &inputs.kind;
    let mut seen = String::new();
    for base in [kind.base(), inputs.base()] {
        let back = inputs.folder.join("back");
        let _ = fs::remove_dir_all(&back).or_else(|_| fs::remove_file(&back));
        let ran = lab.restore(kind, &base, &inputs.out(), &back)?;
        if let Err(outcome) = ran.honest() {
            return Ok(outcome);
        }
        if ran.code != Some(0) {
            seen.push_str(&ran.text);
            continue;
        }
        for target in [kind.target(), inputs.target()] {
            // Parquet files are written anew, so rows are compared.
            let same = match kind.dataset {
                true => super::parquet::difference(&back, &target).is_ok_and(|d| d.is_none()),
                false => difference(&back, &target).is_none(),
            };
            if same {
                return Ok(Outcome::restored());
            }
        }
        seen.push_str("restores neither the target as it was nor as it is; ");
    }
    Ok(Outcome::new(Verdict::Wrong, format!("compress succeeded, and {seen}")))
}
