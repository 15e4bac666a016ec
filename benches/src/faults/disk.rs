//! Rows: the disk is full, or files may not grow, or folders may not be written to.

use super::dice::thin;
use super::lab::Lab;
use super::library::Library;
use super::outcome::Outcome;
use super::row::{Plan, Row, number, word};
use super::scene::{Op, Prior, Scene};
use crate::pair::show;
use sparse_core::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "full-disk",
            fault: "full disk",
            place: "the output lies on a tmpfs of n pages, for n up to what is needed and beyond",
            plan: |lab| match mounts(lab) {
                Ok(()) => sizes(lab, "disk", 4096, lab.most(160, 2)),
                Err(e) => Ok(Plan::Skipped(format!("mounting is not permitted: {e}"))),
            },
            run: on_full_disk,
        },
        Row {
            name: "full-temporary",
            fault: "full disk for temporary files",
            place: "TMPDIR lies on a tmpfs of n pages, too few and enough; datasets that do not \
                fit `--memory`",
            plan: |lab| match mounts(lab) {
                Ok(()) => {
                    super::data::make_spilled(lab)?;
                    let trial =
                        |op: Op, i: usize| format!("temporary {} {}", op.name(), 1 + i * i * 4);
                    let of_op = |op| thin((0..48).map(|i| trial(op, i)).collect(), lab.most(48, 2));
                    Ok(Plan::Trials(Op::SPILLED.into_iter().flat_map(of_op).collect()))
                }
                Err(e) => Ok(Plan::Skipped(format!("mounting is not permitted: {e}"))),
            },
            run: on_full_temporary,
        },
        Row {
            name: "file-limit",
            fault: "files may not grow (RLIMIT_FSIZE)",
            place: "`ulimit -f n` before the command, SIGXFSZ ignored",
            plan: |lab| match cfg!(unix) {
                true => sizes(lab, "limit", 512, lab.most(80, 2)),
                false => Ok(Plan::Skipped("Unix only".into())),
            },
            run: with_limit,
        },
        Row {
            name: "no-folder",
            fault: "output folder missing, a file, or not writable",
            place: "the command's `-o`",
            plan: |_| {
                let all = Op::ALL.into_iter();
                let what = ["missing", "file", "device", "proc"];
                Ok(Plan::Trials(
                    all.flat_map(|op| what.map(|w| format!("{w} {}", op.name()))).collect(),
                ))
            },
            run: at_odd_places,
        },
    ]
}

/// A file system in memory, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, bytes: u64) -> Result<Mount> {
        let error = |e| Error::io("cannot mount a file system", e).in_file(show(at));
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0755"), "none"])
            .arg(at)
            .stderr(Stdio::null())
            .status()
            .map_err(error)?;
        match status.success() {
            true => Ok(Mount(at.to_owned())),
            false => Err(error(std::io::ErrorKind::PermissionDenied.into())),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn unmount(at: &Path) {
    // If unmounting fails, so does the removal of its folder, which reports it.
    let _ = Command::new("umount").arg(at).stderr(Stdio::null()).status();
}

/// Unmounts what killed processes left below `folder`.
pub(super) fn unmount_all(folder: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|l| l.split(' ').nth(1)).map(Path::new);
    places.filter(|p| p.starts_with(folder)).for_each(unmount);
}

fn mounts(lab: &Lab) -> Result<()> {
    if !cfg!(target_os = "linux") {
        return Err(Error::invalid_argument("Linux only"));
    }
    let folder = lab.fresh(&lab.dir)?;
    Mount::new(&folder, 1 << 16).map(drop)
}

/// Sizes from nothing to a little more than an output needs.
fn sizes(lab: &Lab, what: &str, unit: u64, most: usize) -> Result<Plan> {
    let mut all = Vec::new();
    for op in Op::ALL {
        for prior in Prior::ALL {
            let scene = Scene::bare(lab, op, true, prior)?;
            let needed = bytes(&scene.expected()) / unit + 8;
            let trials = (1..needed).map(|n| format!("{what} {} {} {n}", op.name(), prior.name()));
            all.extend(thin(trials.collect(), most / 2));
        }
    }
    Ok(Plan::Trials(all))
}

fn bytes(path: &Path) -> u64 {
    match fs::metadata(path) {
        Ok(m) if m.is_dir() => super::lab::names(path).iter().map(|n| bytes(&path.join(n))).sum(),
        Ok(m) => m.len(),
        Err(_) => 0,
    }
}

fn scene<'a>(lab: &'a Lab, trial: &str) -> Result<Scene<'a>> {
    Scene::bare(lab, Op::from_name(word(trial, 1))?, true, Prior::from_name(word(trial, 2)))
}

fn on_full_disk(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    unmount_all(&lab.dir.join("trials").join(std::process::id().to_string()));
    let scene = scene(lab, trial)?;
    let out = scene.folder.join("out");
    let mount = Mount::new(&out, number(trial, 3) * 4096)?;
    if scene.put_old().is_err() {
        return Ok(Outcome::new(
            super::outcome::Verdict::Missed,
            "no space for what was there before",
        ));
    }
    let ran = lab.start(&scene.words(), &scene.temporary(), &scene.log())?.finish()?;
    let outcome = scene.after(&ran);
    drop(mount);
    Ok(outcome)
}

fn on_full_temporary(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    unmount_all(&lab.dir.join("trials").join(std::process::id().to_string()));
    let scene = Scene::new(lab, Op::from_name(word(trial, 1))?, true, Prior::Absent)?;
    let mount = Mount::new(&scene.temporary(), number(trial, 2) * 4096)?;
    let ran = lab.start(&scene.words(), &scene.temporary(), &scene.log())?.finish()?;
    let outcome = scene.after(&ran);
    drop(mount);
    Ok(outcome)
}

fn with_limit(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let scene = scene(lab, trial)?;
    scene.put_old()?;
    let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", word(trial, 3)]).arg(&lab.sparse).args(scene.words());
    let ran = lab.start_as(&mut command, &scene.temporary(), &scene.log())?.finish()?;
    Ok(scene.after(&ran))
}

fn at_odd_places(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let scene = Scene::new(lab, Op::from_name(word(trial, 1))?, false, Prior::Absent)?;
    let place = match word(trial, 0) {
        "missing" => scene.folder.join("nowhere/out"),
        "file" => scene.log().join("out"),
        "device" => PathBuf::from("/dev/full"),
        _ => PathBuf::from("/proc/out"),
    };
    let own = scene.out();
    let words =
        scene.words().into_iter().map(|w| if *w == *own { place.clone().into() } else { w });
    let words: Vec<_> = words.collect();
    let ran = lab.start(&words, &scene.temporary(), &scene.log())?.finish()?;
    Ok(match scene.after(&ran) {
        // The output lies elsewhere: success would have been a wrong verdict.
        outcome if outcome.verdict.is_right() && word(trial, 0) == "device" && !place.exists() => {
            Outcome::new(super::outcome::Verdict::Lost, "the device is gone")
        }
        outcome => outcome,
    })
}
