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
    Model::open(path, &OpenOptions::default()).unwrap()
}

fn case() -> Case {
    let base = open(&path("minilm-bf16/base"));
    let target = open(&path("minilm-bf16/finetuned"));
    Case { dir: tempfile::tempdir().unwrap(), base, target }
}

fn asking() -> Options {
    let mut options = Options::default();
    options.content_hash = true;
    options
}

impl Case {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn compress(&self, name: &str, options: &Options) -> (Delta, CompressReport) {
        let out = self.path(name);
        let refuse = Overwrite::Refuse;
        let report =
            compress_to_path(Some(&self.base), &self.target, &out, refuse, options, &Unobserved)
                .unwrap();
        (self.delta(name), report)
    }

    fn delta(&self, name: &str) -> Delta {
        Delta::open(&self.path(name), Codecs::default(), &Limits::default()).unwrap()
    }

    fn restore(&self, delta: &Delta, options: &Options) -> Result<RestoreReport> {
        let out = self.path("restored");
        reconstruct(Some(&self.base), delta, &out, Overwrite::Replace, options, &Unobserved)
    }
}

#[test]
fn one_number_is_made_carried_and_checked() {
    let case = case();
    let hash = content_hash(&case.target, &Options::default()).unwrap();
    let (delta, report) = case.compress("delta", &asking());
    assert_eq!((report.content, delta.content_hash().unwrap()), (Some(hash), Some(hash)));
    assert_eq!(inspect(&delta).content, Some(hash));
    let verified = verify(Some(&case.base), &delta, &Options::default(), &Unobserved).unwrap();
    assert_eq!(verified.content, Some(hash));

    let mut expecting = Options::default();
    expecting.expected_content = Some(hash);
    assert_eq!(case.restore(&delta, &expecting).unwrap().content, Some(hash));
    let restored = open(&case.path("restored"));
    assert_eq!(content_hash(&restored, &Options::default()).unwrap(), hash);

    // A delta that carries none costs nothing, and can be held against one all the same.
    let (plain, report) = case.compress("plain", &Options::default());
    assert_eq!((report.content, plain.content_hash().unwrap()), (None, None));
    assert_eq!(case.restore(&plain, &Options::default()).unwrap().content, None);
    assert_eq!(case.restore(&plain, &expecting).unwrap().content, Some(hash));
}

#[test]
fn another_number_is_refused_before_anything_appears() {
    let case = case();
    let (delta, _) = case.compress("delta", &Options::default());
    let mut expecting = Options::default();
    expecting.expected_content = Some("ab".repeat(32).parse().unwrap());
    let e = case.restore(&delta, &expecting).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert!(e.to_string().contains("abababab"), "{e}");
    assert!(!case.path("restored").exists());
    assert!(verify(Some(&case.base), &delta, &expecting, &Unobserved).is_err());
    // What one layer of two restores has no number.
    expecting.layers = Some(1);
    assert_eq!(case.restore(&delta, &expecting).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_forged_record_is_noticed() {
    let case = case();
    let (delta, _) = case.compress("delta", &asking());
    for (forged, kind) in [(vec![7; 32], ErrorKind::Corrupt), (vec![7; 31], ErrorKind::Corrupt)] {
        let mut index = delta.index().clone();
        index.attributes.insert(CONTENT, forged);
        let payload = delta.reader().payload();
        let len = (payload.end - payload.start) as usize;
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.append(&delta.reader().source().bytes_at(payload.start, len).unwrap()).unwrap();
        std::fs::write(case.path("forged"), writer.finish(&index).unwrap()).unwrap();
        let e = case.restore(&case.delta("forged"), &Options::default()).unwrap_err();
        assert_eq!(e.kind(), kind);
        assert!(e.to_string().contains("SHA-256"), "{e}");
        assert!(!case.path("restored").exists());
    }
}

#[test]
fn of_a_lossy_delta_it_is_that_of_what_comes_back() {
    let case = case();
    let mut options = asking();
    options.policy = Policy::Within(Bound::Relative(0.2));
    let (delta, report) = case.compress("delta", &options);
    let target = content_hash(&case.target, &Options::default()).unwrap();
    let restored = case.restore(&delta, &Options::default()).unwrap().content;
    let on_disk = content_hash(&open(&case.path("restored")), &Options::default()).unwrap();
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
    let report = compress_to_path(
        Some(&case.base),
        &target,
        &out,
        Overwrite::Refuse,
        &asking(),
        &Unobserved,
    )
    .unwrap();
    let mut hasher = sparse_container::FileHasher::new();
    hasher.update(&std::fs::read(&file).unwrap());
    assert_eq!(report.content, Some(ContentHash::of_file(&hasher.finish())));
    case.restore(&case.delta("delta"), &Options::default()).unwrap();
}
