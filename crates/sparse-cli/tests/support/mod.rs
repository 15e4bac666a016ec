//! Models on disk, made here, and the program run as a user runs it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program, ready for arguments.
pub fn sparse() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sparse"));
    command.stdin(Stdio::null());
    // Nothing of the machine's own models or settings plays a part.
    command.env("HF_HUB_CACHE", "/nonexistent").env("HF_HUB_OFFLINE", "1");
    command.env_remove("RAYON_NUM_THREADS");
    command
}

/// What a run left.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Run {
        let Output { status, stdout, stderr } = command.output().unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// The one JSON object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        let value: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert_eq!(value["schema"], 1);
        value
    }

    #[track_caller]
    pub fn succeeded(self) -> Run {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "nothing on standard error");
        self
    }
}

/// Run with these arguments.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    Run::of(sparse().args(args))
}

/// Run with these arguments, expecting failure with `code`, in text and again with `--json`;
/// returns the sentence.
#[track_caller]
pub fn fails<S: AsRef<OsStr>>(args: &[S], code: i32, kind: &str) -> String {
    let text = run(args);
    assert_eq!((text.code, text.stdout.as_str()), (Some(code), ""), "{text:?}");
    let sentence =
        text.stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{text:?}")).trim_end();
    assert_eq!(sentence.lines().count(), 1, "one line: {sentence}");
    let json = Run::of(sparse().args(args).arg("--json"));
    assert_eq!((json.code, json.stderr.as_str()), (Some(code), ""), "{json:?}");
    let value = json.json();
    assert_eq!(value["error"]["kind"], kind, "{value}");
    assert_eq!(value["error"]["message"], sentence);
    sentence.to_owned()
}

/// Numbers that look random and are always the same.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// About normal, standard deviation 1.
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum();
        sum * 1.73
    }
}

/// A tensor to write: name, type, shape, bytes.
pub type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// A safetensors file.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut offset = 0;
    let mut head = serde_json::Map::new();
    head.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    for (name, dtype, shape, bytes) in tensors {
        let end = offset + bytes.len();
        head.insert(
            name.clone(),
            serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut head = serde_json::to_vec(&head).unwrap();
    while !head.len().is_multiple_of(8) {
        head.push(b' ');
    }
    let mut out = (head.len() as u64).to_le_bytes().to_vec();
    out.extend(head);
    tensors.iter().for_each(|t| out.extend(&t.3));
    out
}

/// bf16 weights, and the same after a small update of each.
fn weights(n: usize, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let bf16 = |x: f32| ((x.to_bits() + 0x8000) >> 16) as u16;
    let (mut base, mut tuned) = (Vec::with_capacity(2 * n), Vec::with_capacity(2 * n));
    for _ in 0..n {
        let w = 0.02 * random.normal();
        base.extend(bf16(w).to_le_bytes());
        tuned.extend(bf16(w + 1e-4 * random.normal()).to_le_bytes());
    }
    (base, tuned)
}

/// A base and a fine-tuned model, in a temporary folder that outputs go to as well.
pub struct Pair {
    pub dir: tempfile::TempDir,
}

impl Pair {
    /// Folders with two shards each, an index, a configuration, and odds and ends; a quarter of a
    /// megabyte.
    pub fn small() -> Pair {
        Pair::new(2, 64, 256)
    }

    /// As large as `layers` tensors of `rows` rows of `columns` weights.
    pub fn new(layers: usize, rows: usize, columns: usize) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut base, mut tuned): (Vec<Vec<Tensor>>, Vec<Vec<Tensor>>) =
            (vec![vec![]; 2], vec![vec![]; 2]);
        let mut map = serde_json::Map::new();
        for layer in 0..layers {
            let shard = layer % 2;
            let file = format!("model-0000{}-of-00002.safetensors", shard + 1);
            let mut add = |name: String, shape: Vec<usize>, (b, t): (Vec<u8>, Vec<u8>)| {
                map.insert(name.clone(), file.clone().into());
                base[shard].push((name.clone(), "BF16", shape.clone(), b));
                tuned[shard].push((name, "BF16", shape, t));
            };
            add(
                format!("layers.{layer}.weight"),
                vec![rows, columns],
                weights(rows * columns, &mut random),
            );
            let (frozen, _) = weights(columns, &mut random);
            add(format!("layers.{layer}.norm"), vec![columns], (frozen.clone(), frozen));
        }
        let index =
            serde_json::to_vec(&serde_json::json!({"metadata": {}, "weight_map": map})).unwrap();
        for (name, shards) in [("base", base), ("finetuned", tuned)] {
            let root = dir.path().join(name);
            fs::create_dir_all(root.join("extra/deep")).unwrap();
            for (i, shard) in shards.iter().enumerate() {
                let file = format!("model-0000{}-of-00002.safetensors", i + 1);
                fs::write(root.join(file), safetensors(shard)).unwrap();
            }
            fs::write(root.join("model.safetensors.index.json"), &index).unwrap();
            fs::write(root.join("config.json"), format!("{{\"model\": {name:?}}}\n")).unwrap();
            fs::write(root.join("tokenizer.txt"), "the same in both\n".repeat(100)).unwrap();
        }
        fs::write(dir.path().join("finetuned/extra/deep/notes ü.md"), "only here\n").unwrap();
        fs::write(dir.path().join("finetuned/empty"), "").unwrap();
        Pair { dir }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path in the folder, as an argument.
    pub fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Compress to `d.sparse`, if that is not there yet.
    pub fn delta(&self) -> String {
        let delta = self.arg("d.sparse");
        if !Path::new(&delta).exists() {
            run(["compress", &self.arg("base"), &self.arg("finetuned"), "-o", &delta]).succeeded();
        }
        delta
    }

    /// Names in the folder, sorted, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Every file (with its bytes) and folder below `root`.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                found.insert(below, None);
                todo.push(path);
            } else {
                found.insert(below, Some(fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// Fail unless both folders hold the same files with the same bytes.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (tree(a), tree(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (path, bytes) in &a {
        assert!(b[path] == *bytes, "{} differs", path.display());
    }
}
