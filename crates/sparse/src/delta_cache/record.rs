//! What a generation consists of, as a text file beside it.
//!
//! Lines of fields between tabs, the first of which says what the line is; the last line has the
//! digest of all before it. Whoever can write to the cache can write any record: what is read here
//! is checked like any other file, and never leads out of the folder.

use super::key::digest as parse_digest;
use sparse_core::{Digest, Error, ErrorKind, Limits, Result, check_output_path, is_deceptive};
use sparse_output::{Sharing, open_unfollowed};
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

/// First line. The number goes up when an older program would misread what follows.
const START: &str = "sparse-cache\t1";

/// Longest record that is read: a hundred thousand files with paths of 500 bytes.
const MAX_BYTES: u64 = 64 << 20;

/// What an entry is.
///
/// # Examples
/// ```
/// use sparse::CachedKind;
///
/// assert_eq!(CachedKind::Merged.to_string(), "merged");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum CachedKind {
    /// A model that a delta restores.
    Model,
    /// An adapter that a delta restores.
    Adapter,
    /// A base with an adapter merged into it.
    Merged,
}

const KINDS: [(CachedKind, &str); 3] = [
    (CachedKind::Model, "model"),
    (CachedKind::Adapter, "adapter"),
    (CachedKind::Merged, "merged"),
];

impl std::fmt::Display for CachedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = KINDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

/// How a file came to be.
const SHARING: [(Option<Sharing>, &str); 3] =
    [(None, "own"), (Some(Sharing::Clone), "clone"), (Some(Sharing::HardLink), "link")];

/// Description of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: CachedKind,
    /// What base and target are called, for people.
    pub(super) base_name: String,
    pub(super) target_name: String,
    /// Whether the target is the one file there is, and no folder.
    pub(super) is_file: bool,
    /// When it was built, in nanoseconds since 1970.
    pub(super) built: i128,
    /// How long that took, in milliseconds.
    pub(super) took: u64,
    pub(super) files: Vec<FileRecord>,
    /// All folders, by path below the model's.
    pub(super) folders: Vec<String>,
}

/// Description of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRecord {
    /// Path below the model's folder, with `/`.
    pub(super) path: String,
    pub(super) len: u64,
    /// When it was last written to, in nanoseconds since 1970.
    pub(super) modified: i128,
    pub(super) digest: Digest,
    /// How it shares the bytes of a file of the base.
    pub(super) sharing: Option<Sharing>,
}

impl Record {
    /// Returns the bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len).fold(0, u64::saturating_add)
    }

    /// Returns the bytes that lie on the disk for this entry alone.
    pub(super) fn own_bytes(&self) -> u64 {
        let own = self.files.iter().filter(|f| f.sharing.is_none());
        own.map(|f| f.len).fold(0, u64::saturating_add)
    }

    /// Formats the record.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let kind = self.kind;
        let form = if self.is_file { "file" } else { "folder" };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{START}\nkind\t{kind}\nform\t{form}");
        let _ =
            writeln!(out, "base\t{}\ntarget\t{}", plain(&self.base_name), plain(&self.target_name));
        let _ = writeln!(out, "built\t{}\t{}", self.built, self.took);
        for folder in &self.folders {
            let _ = writeln!(out, "folder\t{folder}");
        }
        for file in &self.files {
            let sharing = SHARING.iter().find(|(s, _)| *s == file.sharing).map_or("own", |s| s.1);
            let FileRecord { path, len, modified, digest, .. } = file;
            let _ = writeln!(out, "path\t{len}\t{modified}\t{digest}\t{sharing}\t{path}");
        }
        let digest = sparse_container::digest(out.as_bytes());
        let _ = writeln!(out, "end\t{digest}");
        out
    }

    /// Reads the record at `path`.
    ///
    /// # Errors
    /// `NotFound` or `Io` when it cannot be read; as [`parse`](Self::parse).
    pub(super) fn read(path: &Path) -> Result<Record> {
        let failed = |e| Error::io("cannot read the record", e);
        let file = open_unfollowed(OpenOptions::new().read(true), path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Limits::check("the record of an entry", len, MAX_BYTES)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Record::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Parses the text of a record.
    ///
    /// # Errors
    /// `Corrupt`; `UnsupportedVersion` when a newer program wrote it; `InvalidInput` for a path
    /// that leads out of the folder.
    pub(super) fn parse(text: &str) -> Result<Record> {
        let damaged = || Error::corrupt("the record of the entry is damaged");
        if !text.starts_with("sparse-cache\t") {
            return Err(damaged());
        }
        if text.lines().next() != Some(START) {
            let e = "the entry was made by a newer version of sparse";
            return Err(Error::new(ErrorKind::UnsupportedVersion, e));
        }
        let lines = text.strip_suffix('\n').ok_or_else(damaged)?;
        let end = lines.rfind('\n').map(|at| at + 1).ok_or_else(damaged)?;
        let (body, last) =
            (text.get(..end), lines.get(end..).and_then(|l| l.strip_prefix("end\t")));
        let (body, last) = body.zip(last).ok_or_else(damaged)?;
        if parse_digest(last) != Some(sparse_container::digest(body.as_bytes())) {
            return Err(damaged());
        }
        let mut lines = body.lines().skip(1);
        let mut field = |name: &str| {
            let line = lines.next()?;
            line.strip_prefix(name)?.strip_prefix('\t')
        };
        let kind = field("kind").and_then(|k| KINDS.iter().find(|(_, name)| *name == k));
        let is_file = field("form").map(|form| form == "file");
        let (base_name, target_name) = (field("base"), field("target"));
        let built = field("built").and_then(|times| times.split_once('\t'));
        let built = built.and_then(|(at, took)| Some((at.parse().ok()?, took.parse().ok()?)));
        let head = || Some((kind?.0, is_file?, plain(base_name?), plain(target_name?), built?));
        let (kind, is_file, base_name, target_name, (built, took)) = head().ok_or_else(damaged)?;
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for line in lines {
            let path = match line.split_once('\t') {
                Some(("folder", path)) => {
                    folders.push(path.to_owned());
                    path
                }
                Some(("path", rest)) => {
                    let file = FileRecord::parse(rest).ok_or_else(damaged)?;
                    files.push(file);
                    files.last().map_or("", |f| &*f.path)
                }
                _ => return Err(damaged()),
            };
            check_output_path(path)?;
        }
        if is_file && files.len() != 1 {
            return Err(damaged());
        }
        Ok(Record { kind, base_name, target_name, is_file, built, took, files, folders })
    }
}

impl FileRecord {
    /// Parses what stands behind the first field.
    fn parse(rest: &str) -> Option<FileRecord> {
        let mut fields = rest.splitn(5, '\t');
        let mut next = || fields.next();
        let (len, modified) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let digest = parse_digest(next()?)?;
        let name = next()?;
        let sharing = SHARING.iter().find(|(_, n)| *n == name)?.0;
        Some(FileRecord { path: next()?.to_owned(), len, modified, digest, sharing })
    }
}

/// Returns a name without what would end a line, or mislead who reads it.
fn plain(name: &str) -> String {
    let odd = |c: char| c.is_control() || is_deceptive(c);
    name.chars().map(|c| if odd(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let file = |path: &str, sharing| FileRecord {
            path: path.into(),
            len: 17,
            modified: -5,
            digest: Digest([3; 16]),
            sharing,
        };
        Record {
            kind: CachedKind::Merged,
            base_name: "org/base".into(),
            target_name: "ü\u{fffd}".into(),
            is_file: false,
            built: 1_700_000_000_000_000_000,
            took: 1234,
            files: vec![file("a/b c", None), file("d", Some(Sharing::Clone))],
            folders: vec!["a".into(), "empty".into()],
        }
    }

    #[test]
    fn records_come_back() {
        let record = record();
        assert_eq!(Record::parse(&record.text()).unwrap(), record);
        assert_eq!((record.bytes(), record.own_bytes()), (34, 17));
        let odd = Record { target_name: "a\tb\nc\u{202e}".into(), ..record };
        let back = Record::parse(&odd.text()).unwrap();
        assert_eq!(back.target_name, "a\u{fffd}b\u{fffd}c\u{fffd}");
    }

    /// Changes every byte, and cuts the text everywhere.
    #[test]
    fn damage_is_noticed() {
        let text = record().text();
        for end in 0..text.len() {
            if let Some(part) = text.get(..end) {
                assert!(Record::parse(part).is_err(), "{end}");
            }
        }
        for at in 0..text.len() {
            for change in [1, 0x20, 0x55] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= change;
                if let Ok(other) = String::from_utf8(bytes) {
                    assert!(Record::parse(&other).is_err(), "{at}: {other}");
                }
            }
        }
    }

    #[test]
    fn whatever_it_says_stays_in_the_folder() {
        let signed = |body: String| {
            let digest = sparse_container::digest(body.as_bytes());
            format!("{body}end\t{digest}\n")
        };
        let text = record().text();
        let body = &text[..text.rfind("end\t").unwrap()];
        Record::parse(&signed(body.to_owned())).unwrap();
        for path in ["../x", "/etc/passwd", "a/../../x", "", "a//b", "nul"] {
            for line in
                [format!("folder\t{path}"), format!("path\t1\t1\t{}\town\t{path}", "0".repeat(32))]
            {
                assert!(Record::parse(&signed(format!("{body}{line}\n"))).is_err(), "{line}");
            }
        }
        let newer = signed(body.replacen("\t1\n", "\t2\n", 1));
        assert_eq!(Record::parse(&newer).unwrap_err().kind(), ErrorKind::UnsupportedVersion);
        for other in ["", "end", "sparse-cache\t1", "sparse-cache\t1\n", "x\ny\n"] {
            assert!(Record::parse(other).is_err(), "{other}");
        }
    }
}
