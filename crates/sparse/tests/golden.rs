//! Files of every format version, written once and read for ever.
//!
//! `golden/vX_Y` holds what [`CASES`] names, as version X.Y writes it, and `digests.txt`: what each
//! restores to. Before format 1.0 a version may be dropped when the format changes; a file that has
//! landed is never rewritten. A new version: raise `sparse_container::FORMAT_VERSION`, then once
//! `cargo test -p sparse --test golden -- --ignored`, and commit the folder that it wrote.

#![allow(clippy::unwrap_used)]

mod container_support;
mod golden_pairs;
#[path = "restore_support/mod.rs"]
mod support;

use golden_pairs::Pair;
use sparse::{Delta, ErrorKind, Model, Restorer};
use sparse_codecs::entropy::{bytes, tables, varint};
use sparse_container::{BaseEntry, BaseKind, FORMAT_VERSION, digest};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use support::{Files, put, tree};

/// Versions that are no longer read. Their tables were of another resolution.
const REFUSED: [&str; 2] = ["v0_1", "v0_2"];

/// Where base and target of a case come from.
#[derive(Clone, Copy)]
enum Source {
    /// The folders `base` and `target` of `golden/v0_1`.
    Small,
    /// The fixture of this name.
    Fixture(&'static str),
    /// Made anew each time.
    Made(fn() -> Pair),
    /// Folders that are made anew each time.
    Folders(fn() -> [Files; 2]),
}

use Source::{Fixture, Folders, Made, Small};

/// Name of the delta, what it stands for, the codec that it was made with, and what is in it (see
/// [`kinds`]).
type Case = (&'static str, Source, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    ("delta", Small, "lossless", &["codec 1", "BF16", "F32", "without base"]),
    (
        "minilm-bf16",
        Fixture("minilm-bf16"),
        "lossless",
        &["codec 1", "4 lanes", "32 lanes", "64 lanes"],
    ),
    ("positions", Made(golden_pairs::hardly_changed), "lossless", &["codec 1", "positions"]),
    ("wide", Made(golden_pairs::wide), "lossless", &["codec 1", "F32 widened", "F64 widened"]),
    ("f64", Made(golden_pairs::doubles), "lossless", &["codec 1", "F64"]),
    (
        "fp8",
        Made(golden_pairs::bytes),
        "lossless",
        &["F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E8M0"],
    ),
    (
        "integers",
        Made(golden_pairs::integers),
        "lossless",
        &["BOOL", "U8", "I8", "I16", "I32", "I64"],
    ),
    ("alone", Made(golden_pairs::alone), "lossless", &["without base", "BF16", "F16", "F32", "U8"]),
    ("planes", Made(golden_pairs::planes), "lossless", &["F32", "F64", "planes"]),
    ("verbatim", Made(golden_pairs::noise_at_the_end), "lossless", &["U8", "verbatim"]),
    ("cast", Made(golden_pairs::cast), "lossless", &["BF16 from F32", "F32 from BF16"]),
    ("low-rank-sum", Made(golden_pairs::merged_sum), "lossless", &["codec 3", "sum rounded"]),
    (
        "low-rank-product",
        Made(golden_pairs::merged_product),
        "lossless",
        &["codec 3", "product rounded"],
    ),
    (
        "rearranged",
        Made(golden_pairs::rearranged),
        "lossless",
        &["codec 1", "turned", "several segments"],
    ),
    (
        "containers",
        Folders(container_support::pair),
        "lossless",
        &["codec 1", "head", "tensor of .bin", "tensor of .gguf", "tensor of .npz", "shared entry"],
    ),
    ("sparse", Made(golden_pairs::lossy), "sparse=0.3", &["codec 4", "BF16", "F16", "F32"]),
    ("int8", Made(golden_pairs::lossy), "int8", &["codec 5", "BF16", "F16", "F32"]),
    (
        "sparse-int8",
        Made(golden_pairs::lossy),
        "sparse-int8=0.1",
        &["codec 6", "BF16", "F16", "F32"],
    ),
    (
        "sparse-int8-absolute",
        Made(golden_pairs::lossy),
        "sparse-int8-absolute=0.0001",
        &["codec 6", "F32"],
    ),
    ("sign", Made(golden_pairs::lossy), "sign", &["codec 7", "BF16", "F16", "F32"]),
    ("ulp-bounded", Made(golden_pairs::lossy), "ulp-bounded=2", &["codec 8", "BF16", "F16", "F32"]),
    ("svd", Made(golden_pairs::lossy), "svd=4", &["codec 9", "BF16", "F16", "F32"]),
    ("svd-energy", Made(golden_pairs::lossy), "svd=0.9", &["codec 9", "BF16", "F16", "F32"]),
    ("layered", Made(golden_pairs::lossy), "layered=4", &["codec 9", "BF16", "F16", "F32"]),
];

fn golden(version: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", version].iter().collect()
}

fn current() -> String {
    format!("v{}_{}", FORMAT_VERSION.major, FORMAT_VERSION.minor)
}

/// Base and target of a case, on disk.
fn folders(source: Source, room: &Path) -> (Option<PathBuf>, PathBuf) {
    match source {
        Small => (Some(golden("v0_1").join("base")), golden("v0_1").join("target")),
        Fixture(name) => {
            let path: PathBuf =
                [env!("CARGO_MANIFEST_DIR"), "../../fixtures", name].iter().collect();
            (Some(path.join("base")), path.join("finetuned"))
        }
        Made(pair) => pair().put(room),
        Folders(pair) => {
            let [base, target] = ["base", "target"].map(|name| room.join(name));
            for (folder, files) in [&base, &target].into_iter().zip(pair()) {
                put(folder, &files);
            }
            (Some(base), target)
        }
    }
}

fn open(path: &Path) -> Model {
    Model::open(path).unwrap()
}

/// What a delta has in it.
fn kinds(delta: &Delta) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let turns = |base: &BaseEntry| matches!(base.kind, BaseKind::Turned { .. });
    if delta.index().bases.iter().any(turns) {
        found.insert("turned".to_owned());
    }
    if delta.index().entries.iter().any(|entry| entry.pieces.len() > 100) {
        found.insert("several segments".to_owned());
    }
    for base in &delta.index().bases {
        match &base.kind {
            BaseKind::FileHead if !base.file.ends_with(".safetensors") => {
                found.insert("head".to_owned());
            }
            BaseKind::Tensor { .. } => {
                let ending = base.file.rsplit('.').next().unwrap_or_default();
                found.insert(format!("tensor of .{ending}"));
            }
            _ => {}
        }
    }
    let parts = delta.index().files.iter().flat_map(|file| &file.parts);
    let mut seen = BTreeSet::new();
    if !parts.into_iter().all(|part| seen.insert(part)) {
        found.insert("shared entry".to_owned());
    }
    for (u, unit) in delta.index().units.iter().enumerate() {
        found.extend([format!("codec {}", unit.codec.0), unit.dtype.name().to_owned()]);
        match unit.base_dtype {
            None => found.extend(["without base".to_owned()]),
            Some(base) if base != unit.dtype => {
                found.extend([format!("{} from {base}", unit.dtype)]);
            }
            Some(_) => {}
        }
        let params = delta.reader().read_params(u).unwrap();
        match unit.codec.0 {
            1 if params.first().is_some_and(|b| *b >= 0xc0) => {
                found.insert(format!("{} widened", unit.dtype));
            }
            3 => drop(found.insert(merge(&params).to_owned())),
            _ => {}
        }
        for chunk in (0..unit.chunks.len() as u64).filter(|_| unit.codec.0 == 1) {
            found.insert(match delta.reader().read_chunk(u, chunk).unwrap().first() {
                None => "unchanged".to_owned(),
                Some(0 | 0xff) => "verbatim".to_owned(),
                Some(b) if b & 0x20 != 0 => "positions".to_owned(),
                Some(b) if b & 0x10 != 0 => "planes".to_owned(),
                Some(b) => format!("{} lanes", 1 << ((b & 0xf) - 1)),
            });
        }
    }
    found
}

/// How the first matrix of a low-rank unit was rounded, by its parameters
/// (`docs/codecs/low-rank.md`).
fn merge(mut params: &[u8]) -> &'static str {
    let input = &mut params;
    varint::take(input).unwrap();
    let count = varint::take(input).unwrap() as usize;
    bytes::unpack(input, 256).unwrap();
    tables::read(input, count, 256).unwrap();
    assert!(varint::take(input).unwrap() > 0, "a rank");
    if varint::take(input).unwrap() & 1024 == 0 { "sum rounded" } else { "product rounded" }
}

/// A digest of all files, and their paths.
fn digest_of(folder: &Path) -> String {
    let mut all = Vec::new();
    for (path, bytes) in tree(folder) {
        all.extend(format!("{path} {}\n", bytes.len()).into_bytes());
        all.extend(bytes);
    }
    digest(&all).to_string()
}

/// Restore; returns what the delta has in it, and the digest.
fn restore(case: &Case, delta: &Path) -> (BTreeSet<String>, String) {
    let (name, source, codec, _) = *case;
    let room = tempfile::tempdir().unwrap();
    let (base, target) = folders(source, room.path());
    let base = base.map(|b| open(&b));
    let delta = Delta::open(delta).unwrap();
    let out = room.path().join("out");
    Restorer::new(&delta).base(base.as_ref()).write(&out).unwrap();
    let is_lossless = codec == "lossless" || codec.starts_with("layered");
    assert_eq!(tree(&out) == tree(&target), is_lossless, "{name}");
    (kinds(&delta), digest_of(&out))
}

fn digests(version: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(golden(version).join("digests.txt")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect()
}

#[test]
fn every_file_restores_what_it_did() {
    let mut versions: Vec<String> = std::fs::read_dir(golden(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|version| !REFUSED.contains(&&**version))
        .collect();
    versions.sort();
    assert!(versions.contains(&current()), "{} is missing", current());
    for version in versions {
        let digests = digests(&version);
        for case @ (name, _, _, expected) in CASES {
            // Cases that came later are not in older folders.
            let Some(digest) = digests.get(*name) else {
                assert_ne!(version, current(), "{name} is missing");
                continue;
            };
            let (found, restored) = restore(case, &golden(&version).join(format!("{name}.sparse")));
            assert_eq!(&restored, digest, "{version} {name}");
            for kind in *expected {
                assert!(found.contains(*kind), "{version} {name} has {found:?}, not {kind}");
            }
        }
        assert!(digests.keys().all(|d| CASES.iter().any(|c| c.0 == d)), "{version} has others");
    }
}

#[test]
fn older_versions_are_refused() {
    for version in REFUSED {
        for entry in std::fs::read_dir(golden(version)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "sparse") {
                continue;
            }
            let e = Delta::open(&path).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::UnsupportedVersion);
            assert!(e.to_string().contains(&version[1..].replace('_', ".")), "{e}");
        }
    }
}

/// Writes the files of the current version that are not there, and what they restore to.
#[cfg(feature = "encode")]
#[test]
#[ignore = "golden files are immutable"]
fn write() {
    let folder = golden(&current());
    std::fs::create_dir_all(&folder).unwrap();
    let mut digests = digests(&current());
    for case @ (name, source, codec, _) in CASES {
        let path = folder.join(format!("{name}.sparse"));
        if path.exists() {
            continue;
        }
        let room = tempfile::tempdir().unwrap();
        let (base, target) = folders(*source, room.path());
        let (base, target) = (base.map(|b| open(&b)), open(&target));
        let policy = match *codec {
            "lossless" => sparse::Policy::Lossless,
            codec => sparse::Policy::Fixed(codec.parse().unwrap()),
        };
        sparse::Compressor::new(&target).base(base.as_ref()).policy(policy).write(&path).unwrap();
        let (found, digest) = restore(case, &path);
        println!("{name}: {} bytes, {found:?}", path.metadata().unwrap().len());
        digests.insert((*name).to_owned(), digest);
    }
    let lines: String = digests.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect();
    std::fs::write(folder.join("digests.txt"), lines).unwrap();
}
