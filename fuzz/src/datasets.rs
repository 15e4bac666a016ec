//! What the targets of datasets share: files of other programs, deltas, a hook for panics.

use crate::Seed;
use crate::room::room;
use sparse_core::Limits;
use sparse_dataset::fuzzing::RowGroups;
use sparse_dataset::{Compressor, Dataset, Format};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

/// The folder of tests of `sparse-dataset`.
fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sparse-dataset/tests")
}

/// The base of all deltas but the golden ones.
pub(crate) const BASE: &[u8] =
    include_bytes!("../../crates/sparse-dataset/tests/fixtures/polars-base.jsonl");

/// All formats of data files.
pub(crate) const FORMATS: [Format; 5] =
    [Format::Parquet, Format::ArrowFile, Format::ArrowStream, Format::JsonLines, Format::Csv];

/// A base on disk, and the folder that it lies in, for what a target writes.
pub(crate) struct Bench {
    pub(crate) base: Dataset,
    pub(crate) room: PathBuf,
}

impl Bench {
    /// Makes a folder for `target`, and in it the base as `file`.
    pub(crate) fn new(target: &str, file: &str, base: &[u8]) -> Bench {
        let room = room(target);
        let path = room.join(file);
        fs::write(&path, base).expect("files can be written");
        let base = Dataset::open(path).expect("it was written well");
        Bench { base, room }
    }
}

/// Data files that other programs wrote, with the endings of these formats.
pub(crate) fn foreign(endings: &[&str]) -> Vec<Seed> {
    let read = |path: PathBuf| (name_of(&path), std::fs::read(path).expect("a fixture"));
    fixtures(endings).into_iter().map(read).collect()
}

/// The name of a file.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

/// Their paths.
pub(crate) fn fixtures(endings: &[&str]) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(tests().join("fixtures")).expect("fixtures");
    let paths = folder.map(|e| e.expect("a fixture").path()).filter(|p| p.is_file());
    let fits = |p: &PathBuf| p.extension().is_some_and(|e| endings.iter().any(|x| e == *x));
    let mut paths: Vec<PathBuf> = paths.filter(fits).collect();
    paths.sort();
    paths
}

/// Limits under which no input takes long.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_index_bytes = 1 << 20;
    limits.max_params_bytes = 1 << 20;
    limits.max_chunk_bytes = 1 << 20;
    limits.max_output_bytes = 16 << 20;
    limits
}

/// Memory to work with.
pub(crate) const MEMORY: usize = 64 << 20;

/// The golden deltas of every layout.
const GOLDEN: [&str; 6] = ["v1", "v1-streams", "v2-exact", "v3", "v4-template", "v4-patch"];

/// Lines made of the text and the kind of those of [`BASE`], in a prompt and in messages.
fn wrapped() -> String {
    let base = String::from_utf8_lossy(BASE);
    let cell = |line: &str, key: &str| {
        let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    let lines = base.lines().filter_map(|line| {
        let (text, kind) = (cell(line, "text")?, cell(line, "kind")?);
        let prompt = format!(r#""prompt":"Of kind {kind}: {text}.""#);
        Some(format!(r#"{{{prompt},"messages":[{{"role":"user","content":"{text}"}}]}}"#))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Deltas: golden ones, of other bases, and those of several datasets against [`BASE`].
pub(crate) fn deltas() -> Vec<Seed> {
    let golden = |name: &str| {
        let file = tests().join("golden").join(format!("{name}.sparse"));
        (name.to_owned(), std::fs::read(file).expect("a golden file"))
    };
    let mut out: Vec<Seed> = GOLDEN.map(golden).into();
    let open = |name: &str| Dataset::open(tests().join("fixtures").join(name)).expect("a fixture");
    let base = open("polars-base.jsonl");
    for (name, exact) in [
        ("polars-derivative.jsonl", false),
        ("polars-derivative.jsonl", true),
        ("polars-derivative.csv", true),
        ("polars-derivative.arrow", false),
        ("pyarrow-derivative.arrow", false),
        ("datasets-derivative", false),
    ] {
        let target = open(name);
        let job = Compressor::new(&target).base(&base).memory(MEMORY).limits(limits());
        let (file, _) = job.exact(exact).write_to(Vec::new()).expect("it can be coded");
        out.push((format!("{name}{}", if exact { "-exact" } else { "" }), file));
    }
    let path = room("wrapped").join("wrapped.jsonl");
    fs::write(&path, wrapped()).expect("files can be written");
    let target = Dataset::open(path).expect("it was written well");
    let job = Compressor::new(&target).base(&base).memory(MEMORY).limits(limits());
    let (file, _) = job.write_to(Vec::new()).expect("it can be coded");
    out.push(("wrapped".into(), file));
    out
}

/// The manifest in a delta.
pub(crate) fn manifest_of(file: &[u8]) -> Option<Vec<u8>> {
    crate::crafted::parse(file)?.attribute(16)
}

/// An example of row groups.
pub(crate) fn row_groups() -> &'static RowGroups {
    static GROUPS: OnceLock<RowGroups> = OnceLock::new();
    GROUPS.get_or_init(|| RowGroups::new().expect("it can be coded"))
}

/// Lets panics of other projects' code be, which are caught and reported.
///
/// libFuzzer's hook would end the process before. All other panics still reach it.
pub(crate) fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !sparse_dataset::in_foreign_code() {
                usual(panic);
            }
        }));
    });
}
