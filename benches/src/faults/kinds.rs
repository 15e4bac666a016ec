//! The kinds of deltas that faults happen to.

use std::path::{Path, PathBuf};

/// A delta with its inputs and the files that it restores.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Its name, which is also its folder's.
    pub(super) name: &'static str,
    /// The folder with `base`, `target`, `delta.sparse` and `restored`.
    folder: PathBuf,
    /// Names of base and target in the folder.
    files: [&'static str; 2],
    /// Whether the target is a dataset.
    pub(super) dataset: bool,
    /// Whether it restores without a base.
    pub(super) alone: bool,
    /// Options of the command that made it.
    pub(super) options: &'static [&'static str],
    /// Whether every bit is tried.
    pub(super) small: bool,
}

impl Kind {
    /// The base.
    pub(super) fn base(&self) -> PathBuf {
        self.folder.join(self.files[0])
    }

    /// The fine-tuned model, adapter or derivative.
    pub(super) fn target(&self) -> PathBuf {
        self.folder.join(self.files[1])
    }

    /// The delta.
    pub(super) fn delta(&self) -> PathBuf {
        self.folder.join("delta.sparse")
    }

    /// Returns the files that the delta restores, as the command wrote them.
    pub(super) fn restored(&self) -> PathBuf {
        if self.target().is_file() {
            self.folder
                .join(format!("restored.{}", self.files[1].rsplit('.').next().unwrap_or("bin")))
        } else {
            self.folder.join("restored")
        }
    }
}

const MODEL: [&str; 2] = ["base", "target"];
const PARQUET: [&str; 2] = ["base.parquet", "target.parquet"];
const JSON: [&str; 2] = ["base.jsonl", "target.jsonl"];

/// Describes a kind of deltas, in the folder of all data.
fn kind(
    data: &Path,
    name: &'static str,
    files: [&'static str; 2],
    options: &'static [&'static str],
    small: bool,
) -> Kind {
    Kind {
        name,
        folder: data.join(name),
        files,
        dataset: files != MODEL,
        alone: matches!(name, "alone" | "adapter"),
        options,
        small,
    }
}

/// Describes the delta between datasets of more rows than fit 16 MB of memory; only some rows need
/// it.
pub(super) fn spilled(data: &Path) -> Kind {
    kind(data, "spilled", PARQUET, &["--effort", "fast", "--memory", "16M"], false)
}

/// Lists the kinds of deltas, in the folder of all data.
pub(super) fn kinds(data: &Path) -> Vec<Kind> {
    let kind = |name, files, options, small| kind(data, name, files, options, small);
    vec![
        kind("lossless", MODEL, &[][..], true),
        kind("alone", MODEL, &["--no-base"], true),
        kind("int8", MODEL, &["--codec", "int8"], true),
        kind("svd", MODEL, &["--codec", "svd=2"], true),
        kind("within", MODEL, &["--max-error", "0.05"], true),
        kind("adapter", MODEL, &[], true),
        kind("rows", PARQUET, &[], true),
        kind("exact", JSON, &["--exact"], true),
        kind("model", MODEL, &[], false),
        kind("table", PARQUET, &["--effort", "fast"], false),
    ]
}
