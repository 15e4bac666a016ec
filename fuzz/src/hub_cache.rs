//! Resolving a model in a Hugging Face cache whose references are the input.
//!
//! An input is the content of `refs/main`, a byte of zero, the name of a snapshot that is there, a
//! byte of zero, and the revision that is asked for.

use crate::Seed;
use crate::models::safetensors;
use crate::room::{put, room};
use sparse_core::check_path;
use sparse_model::{HubCache, OpenOptions};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A cache with a model.
fn cache() -> &'static PathBuf {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let cache = room("hub_cache");
        let model = safetensors(&[("a", "U8", &[3], b"abc".to_vec())]);
        put(
            &cache,
            &[
                ("models--org--name/refs/main", &b"c0ffee"[..]),
                ("models--org--name/refs/pr/1", b"c0ffee\n"),
                ("models--org--name/snapshots/c0ffee/model.safetensors", &model),
                ("models--org--name/secret/model.safetensors", &model),
            ],
        );
        cache
    })
}

/// Resolve; what is opened lies in a snapshot.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (reference, snapshot, revision) = (part(), part(), part());
    let folder = cache().join("models--org--name");
    fs::write(folder.join("refs/main"), reference).expect("files can be written");
    let named = std::str::from_utf8(snapshot).ok().filter(|n| check_path(n).is_ok());
    let made = named.map(|n| folder.join("snapshots").join(n)).filter(|p| !p.exists());
    let made = made.filter(|p| fs::create_dir_all(p).is_ok());
    let mut options = OpenOptions::default();
    options.cache = HubCache::At(cache().clone());
    let revision = String::from_utf8_lossy(revision);
    for id in [format!("org/name@{revision}"), "org/name".to_owned()] {
        if let Ok(model) = options.open(&id) {
            let root = model.root().canonicalize().expect("it was opened");
            let snapshots = folder.join("snapshots").canonicalize().expect("it is there");
            assert!(root.starts_with(&snapshots) && root != snapshots, "{}", root.display());
        }
    }
    if made.is_some() {
        // With all folders that were made on the way.
        let first = named.and_then(|n| n.split('/').next()).expect("it was made");
        if first != "c0ffee" {
            let _ = fs::remove_dir_all(folder.join("snapshots").join(first));
        }
    }
}

/// Revisions that are there, and paths that leave the cache.
pub fn seeds() -> Vec<Seed> {
    let of = |parts: [&str; 3]| parts.join("\0").into_bytes();
    vec![
        ("main".into(), of(["c0ffee\n", "", "main"])),
        ("by-hash".into(), of(["c0ffee", "beef", "beef"])),
        ("by-reference".into(), of(["beef", "beef", "pr/1"])),
        ("gone".into(), of(["cafe", "beef", "gone"])),
        ("outside".into(), of(["../secret", "", "../secret"])),
        ("absolute".into(), of(["/", "a/b", "/"])),
        ("dots".into(), of(["c0ffee/..", ".", "c0ffee/../../secret"])),
    ]
}
