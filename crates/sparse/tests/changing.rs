//! Inputs that change while they are read: refused by name, and nothing is published.
#![cfg(all(feature = "encode", unix))]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::*;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use support::{Files, T, put, safetensors, tree};
use tempfile::TempDir;

/// Does something to a file as a phase begins.
struct Disturb<'a> {
    phase: &'a str,
    file: &'a Path,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// Cuts it to a third.
    Cut,
    /// Changes its last bytes.
    Overwrite,
    /// Changes its last bytes, and has it look as if nobody had.
    OverwriteUnseen,
    /// Puts a file with the same bytes in its place.
    Replace,
    Remove,
}

impl Observer for Disturb<'_> {
    fn begin(&self, phase: &str, _total: u64) {
        if phase == self.phase {
            disturb(self.file, self.how);
        }
    }
}

fn disturb(path: &Path, how: How) {
    let before: SystemTime = fs::metadata(path).unwrap().modified().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    match how {
        How::Cut => file.set_len(len / 3).unwrap(),
        How::Overwrite | How::OverwriteUnseen => {
            let mut last = [0; 64];
            file.read_exact_at(&mut last, len - 64).unwrap();
            last.iter_mut().for_each(|b| *b ^= 0x55);
            file.write_all_at(&last, len - 64).unwrap();
            let seen = before + std::time::Duration::from_secs(u64::from(how == How::Overwrite));
            file.set_modified(seen).unwrap();
        }
        How::Replace => {
            let beside = path.with_extension("new");
            fs::write(&beside, fs::read(path).unwrap()).unwrap();
            File::options().write(true).open(&beside).unwrap().set_modified(before).unwrap();
            fs::rename(&beside, path).unwrap();
        }
        How::Remove => fs::remove_file(path).unwrap(),
    }
}

/// A base and a fine-tune of it in which every tensor changed.
struct Models {
    dir: TempDir,
}

impl Models {
    fn new() -> Models {
        let dir = tempfile::tempdir().unwrap();
        let tensors =
            [T::random("a.weight", &[300, 200], 1), T::random("b.weight", &[300, 200], 2)];
        let tuned = tensors.clone().map(|t| t.tuned(5));
        let files =
            |tensors: &[T]| Files::from([("model.safetensors".to_owned(), safetensors(tensors))]);
        put(&dir.path().join("base"), &files(&tensors));
        put(&dir.path().join("target"), &files(&tuned));
        Models { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> Model {
        Model::open(self.path(name)).unwrap()
    }

    fn compress(&self, observer: &dyn Observer) -> Result<CompressReport> {
        let (base, target) = (self.open("base"), self.open("target"));
        let job = Compressor::new(&target).base(&base).overwrite(Overwrite::Replace);
        job.observer(observer).write(self.path("d.sparse"))
    }

    fn delta(&self) -> Delta {
        Delta::open(self.path("d.sparse")).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn assert_named(e: &Error, file: &Path, what: &str) {
    assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidInput, file.to_str()), "{e}");
    assert!(e.message().starts_with(&format!("{what} changed while in use")), "{e}");
}

#[test]
fn compress_refuses_models_that_change() {
    for (victim, what) in [("base", "the base"), ("target", "the fine-tuned model")] {
        for phase in ["reading", "compressing", "verifying"] {
            for how in [How::Cut, How::Overwrite, How::OverwriteUnseen, How::Replace, How::Remove] {
                // A target that changes unseen after all of it was read twice is what it was when
                // it was read. What changes unseen before the first pass is what is compressed.
                let unseen = how == How::OverwriteUnseen;
                if unseen && (phase == "reading" || phase == "verifying" && victim == "target") {
                    continue;
                }
                let models = Models::new();
                let file = models.path(victim).join("model.safetensors");
                let observer = Disturb { phase, file: &file, how };
                let e = models.compress(&observer).expect_err(&format!("{observer:?}"));
                assert_named(&e, &file, what);
                assert_eq!(models.names(), ["base", "target"], "{observer:?}");
            }
        }
    }
}

impl std::fmt::Debug for Disturb<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} while {}", self.how, self.file.display(), self.phase)
    }
}

#[test]
fn a_stream_gets_nothing_of_a_delta_that_is_not_proved() {
    struct Strict;
    impl std::io::Write for Strict {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            panic!("written to");
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let models = Models::new();
    let (base, target) = (models.open("base"), models.open("target"));
    let file = models.path("base/model.safetensors");
    let observer = Disturb { phase: "verifying", file: &file, how: How::OverwriteUnseen };
    let e =
        Compressor::new(&target).base(&base).observer(&observer).write_to(Strict).err().unwrap();
    assert_named(&e, &file, "the base");
}

#[test]
fn a_lossy_delta_of_a_model_that_changes_is_refused() {
    for (victim, what) in [("base", "the base"), ("target", "the fine-tuned model")] {
        for how in [How::Cut, How::Overwrite] {
            let models = Models::new();
            let file = models.path(victim).join("model.safetensors");
            let observer = Disturb { phase: "measuring", file: &file, how };
            let policy = Policy::Within(Bound::Relative(0.2));
            let (base, target) = (models.open("base"), models.open("target"));
            let job = Compressor::new(&target).base(&base).policy(policy).observer(&observer);
            let e = job.write(models.path("d.sparse")).unwrap_err();
            assert_named(&e, &file, what);
            assert_eq!(models.names(), ["base", "target"]);
        }
    }
}

#[test]
fn without_the_proof_the_delta_is_the_same() {
    let models = Models::new();
    models.compress(&Unobserved).unwrap();
    let proved = fs::read(models.path("d.sparse")).unwrap();
    struct NoProof;
    impl Observer for NoProof {
        fn begin(&self, phase: &str, _: u64) {
            assert_ne!(phase, "verifying");
        }
    }
    let (base, target) = (models.open("base"), models.open("target"));
    let job = Compressor::new(&target).base(&base).proof(false).observer(&NoProof);
    job.overwrite(Overwrite::Replace).write(models.path("d.sparse")).unwrap();
    assert!(fs::read(models.path("d.sparse")).unwrap() == proved);
}

#[test]
fn verify_and_reconstruct_refuse_inputs_that_change() {
    for how in [How::Cut, How::Overwrite, How::Replace, How::Remove] {
        for (victim, what) in [("base/model.safetensors", "the base"), ("d.sparse", "the delta")] {
            let models = Models::new();
            models.compress(&Unobserved).unwrap();
            let file = models.path(victim);
            let kept = fs::read(&file).unwrap();
            let again = || {
                fs::write(&file, &kept).unwrap();
                (models.open("base"), models.delta())
            };

            let (base, delta) = again();
            let observer = Disturb { phase: "verifying", file: &file, how };
            assert_named(
                &Verifier::new(&delta).base(&base).observer(&observer).verify().unwrap_err(),
                &file,
                what,
            );

            let (base, delta) = again();
            let out = models.path("out");
            let observer = Disturb { phase: "reconstructing", file: &file, how };
            let e = Restorer::new(&delta).base(&base).observer(&observer).write(&out);
            assert_named(&e.unwrap_err(), &file, what);
            let left: Vec<String> =
                models.names().into_iter().filter(|n| n != "d.sparse").collect();
            assert_eq!(left, ["base", "target"]);

            let (base, delta) = again();
            let observer = Disturb { phase: "measuring", file: &file, how };
            let e = Verifier::new(&delta)
                .base(&base)
                .observer(&observer)
                .quality(&models.open("target"))
                .unwrap_err();
            assert_named(&e, &file, what);

            let (base, delta) = again();
            Restorer::new(&delta).base(&base).write(&out).unwrap();
            assert_eq!(tree(&out), tree(&models.path("target")));
        }
    }
}

#[test]
fn estimate_and_export_refuse_models_that_change() {
    let models = Models::new();
    let file = models.path("base/model.safetensors");
    let (base, target) = (models.open("base"), models.open("target"));
    let observer = Disturb { phase: "sampling", file: &file, how: How::Overwrite };
    let e = Compressor::new(&target).base(&base).observer(&observer).estimate(0.01).unwrap_err();
    assert_named(&e, &file, "the base");

    let (base, target) = (models.open("base"), models.open("target"));
    let observer = Disturb { phase: "factoring", file: &file, how: How::Overwrite };
    let out = models.path("adapter");
    let e = AdapterExporter::new(&base, &target).observer(&observer).write(&out);
    assert_named(&e.unwrap_err(), &file, "the base");
    assert_eq!(models.names(), ["base", "target"]);
}

#[test]
fn a_new_mode_or_link_is_no_change() {
    use std::os::unix::fs::PermissionsExt;
    struct Touch(PathBuf, PathBuf);
    impl Observer for Touch {
        fn begin(&self, phase: &str, _: u64) {
            if phase == "compressing" {
                fs::set_permissions(&self.0, PermissionsExt::from_mode(0o400)).unwrap();
                fs::hard_link(&self.0, &self.1).unwrap();
            }
        }
    }
    let models = Models::new();
    let touch = Touch(models.path("base/model.safetensors"), models.path("link"));
    models.compress(&touch).unwrap();
}
