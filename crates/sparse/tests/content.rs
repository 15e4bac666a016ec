//! The SHA-256 of what a delta restores: made, carried, expected, forged.
#![cfg(all(feature = "encode", feature = "sha256"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use sparse::*;
use sparse_container::Writer;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CONTENT: u16 = 5;

struct Case {
    dir: TempDir,
    base: Model,
    target: Model,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn open(path: &Path) -> Model {
    Model::open(path).unwrap()
}

fn case() -> Case {
    let base = open(&path("minilm-bf16/base"));
    let target = open(&path("minilm-bf16/finetuned"));
    Case { dir: tempfile::tempdir().unwrap(), base, target }
}

impl Case {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn compress(&self, name: &str, content_hash: bool) -> (Delta, CompressReport) {
        let job = Compressor::new(&self.target).base(&self.base).content_hash(content_hash);
        let report = job.write(self.path(name)).unwrap();
        (self.delta(name), report)
    }

    fn delta(&self, name: &str) -> Delta {
        Delta::open(self.path(name)).unwrap()
    }

    fn restorer<'a>(&'a self, delta: &'a Delta) -> Restorer<'a> {
        Restorer::new(delta).base(&self.base).overwrite(Overwrite::Replace)
    }

    fn restore(&self, delta: &Delta) -> Result<RestoreReport> {
        self.restorer(delta).write(self.path("restored"))
    }

    fn expect(&self, delta: &Delta, hash: ContentHash) -> Result<RestoreReport> {
        self.restorer(delta).expect_content(hash).write(self.path("restored"))
    }
}

#[test]
fn one_number_is_made_carried_and_checked() {
    let case = case();
    let hash = content_hash(&case.target, &Inline, &CancelToken::new()).unwrap();
    let (delta, report) = case.compress("delta", true);
    assert_eq!((report.content, delta.content_hash().unwrap()), (Some(hash), Some(hash)));
    assert_eq!(inspect(&delta).content, Some(hash));
    let verified = Verifier::new(&delta).base(&case.base).verify().unwrap();
    assert_eq!(verified.content, Some(hash));

    assert_eq!(case.expect(&delta, hash).unwrap().content, Some(hash));
    let restored = open(&case.path("restored"));
    assert_eq!(content_hash(&restored, &Inline, &CancelToken::new()).unwrap(), hash);

    // A delta that carries none costs nothing, and can be held against one all the same.
    let (plain, report) = case.compress("plain", false);
    assert_eq!((report.content, plain.content_hash().unwrap()), (None, None));
    assert_eq!(case.restore(&plain).unwrap().content, None);
    assert_eq!(case.expect(&plain, hash).unwrap().content, Some(hash));
}

#[test]
fn another_number_is_refused_before_anything_appears() {
    let case = case();
    let (delta, _) = case.compress("delta", false);
    let other: ContentHash = "ab".repeat(32).parse().unwrap();
    let e = case.expect(&delta, other).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert!(e.to_string().contains("abababab"), "{e}");
    assert!(!case.path("restored").exists());
    assert!(Verifier::new(&delta).base(&case.base).expect_content(other).verify().is_err());
    // What one layer of two restores has no number.
    let first = case.restorer(&delta).layers(1).expect_content(other);
    let e = first.write(case.path("restored")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_forged_record_is_noticed() {
    let case = case();
    let (delta, _) = case.compress("delta", true);
    for (forged, kind) in [(vec![7; 32], ErrorKind::Corrupt), (vec![7; 31], ErrorKind::Corrupt)] {
        let mut index = delta.index().clone();
        index.attributes.insert(CONTENT, forged);
        let payload = delta.reader().payload();
        let len = (payload.end - payload.start) as usize;
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.append(&delta.reader().source().bytes_at(payload.start, len).unwrap()).unwrap();
        std::fs::write(case.path("forged"), writer.finish(&index).unwrap()).unwrap();
        let e = case.restore(&case.delta("forged")).unwrap_err();
        assert_eq!(e.kind(), kind);
        assert!(e.to_string().contains("SHA-256"), "{e}");
        assert!(!case.path("restored").exists());
    }
}

#[test]
fn of_a_lossy_delta_it_is_that_of_what_comes_back() {
    let case = case();
    let job = Compressor::new(&case.target).base(&case.base).content_hash(true);
    let lossy = job.policy(Policy::Within(Bound::Relative(0.2)));
    let report = lossy.write(case.path("delta")).unwrap();
    let delta = case.delta("delta");
    let target = content_hash(&case.target, &Inline, &CancelToken::new()).unwrap();
    let restored = case.restore(&delta).unwrap().content;
    let on_disk =
        content_hash(&open(&case.path("restored")), &Inline, &CancelToken::new()).unwrap();
    assert!(report.certificate.unwrap().restored > 0.0);
    assert_eq!((restored, report.content), (Some(on_disk), Some(on_disk)));
    assert_ne!(on_disk, target);
}

#[test]
fn of_a_single_file_it_is_that_of_its_bytes() {
    let case = case();
    let file = path("minilm-bf16/finetuned/model.safetensors");
    let target = open(&file);
    let out = case.path("delta");
    let report = Compressor::new(&target).base(&case.base).content_hash(true).write(&out).unwrap();
    let mut hasher = sparse_container::FileHasher::new();
    hasher.update(&std::fs::read(&file).unwrap());
    assert_eq!(report.content, Some(ContentHash::of_file(&hasher.finish())));
    case.restore(&case.delta("delta")).unwrap();
}
