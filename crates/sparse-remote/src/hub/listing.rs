//! Names, sizes and digests of files.

use super::layout::Layout;
use crate::Answer;
use serde_json::Value;
use sparse_core::{Error, ErrorKind, Result, check_path};
use std::fs;
use std::path::Path;

/// Longest answer with a list of files, in bytes.
pub(super) const MOST_LIST: u64 = 8 << 20;
/// Deepest nesting of folders in a snapshot.
const MOST_DEPTH: usize = 32;

/// Digest by which a file is known, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    /// Of a large file's content.
    Sha256(String),
    /// Git's name for any other file.
    Git(String),
}

impl Digest {
    /// Returns the digits.
    pub(super) fn text(&self) -> &str {
        match self {
            Digest::Sha256(text) | Digest::Git(text) => text,
        }
    }
}

/// File of a repository on the Hub.
///
/// # Examples
///
/// ```no_run
/// use sparse_remote::{Hub, RepoKind};
///
/// for file in Hub::from_env()?.repo(RepoKind::Model, "org/name").files()? {
///     println!("{} {}", file.size(), file.path());
/// }
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) digest: Digest,
}

impl HubFile {
    /// Returns the path below the root, with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the SHA-256 of the content, of files that the Hub keeps as large ones.
    pub fn sha256(&self) -> Option<&str> {
        match &self.digest {
            Digest::Sha256(text) => Some(text),
            Digest::Git(_) => None,
        }
    }

    /// Reads an entry of a list; `None` for a folder.
    fn of_entry(entry: &Value) -> Result<Option<HubFile>> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        if text("type").is_some_and(|kind| kind != "file") {
            return Ok(None);
        }
        let large = entry.get("lfs").filter(|lfs| !lfs.is_null());
        let sha256 = large.and_then(|lfs| lfs.get("oid")?.as_str());
        let size = large.and_then(|lfs| lfs.get("size")).or_else(|| entry.get("size"));
        HubFile::new(text("path"), size, (sha256, text("oid"))).map(Some)
    }

    fn new(
        path: Option<&str>,
        size: Option<&Value>,
        digests: (Option<&str>, Option<&str>),
    ) -> Result<HubFile> {
        let digest = match digests {
            (Some(sha256), _) if is_hex(sha256, 64) => Digest::Sha256(sha256.to_owned()),
            (None, Some(git)) if is_hex(git, 40) => Digest::Git(git.to_owned()),
            _ => return Err(strange("the digest of a file")),
        };
        let (Some(path), Some(size)) = (path, size.and_then(Value::as_u64)) else {
            return Err(strange("the name or size of a file"));
        };
        check_path(path)?;
        Ok(HubFile { path: path.to_owned(), size, digest })
    }
}

/// Returns whether `text` is of that many hexadecimal digits, letters in lower case.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Returns the error of an answer without what it should have.
pub(super) fn strange(what: &str) -> Error {
    let e = format!("the answer of the Hub lacks {what}, or has it in a form that is not known");
    Error::new(ErrorKind::Io, e)
}

/// Reads an answer in JSON.
pub(super) fn json_of(answer: Answer) -> Result<Value> {
    let place = answer.url().to_string();
    let bytes = answer.into_bytes(MOST_LIST)?;
    serde_json::from_slice(&bytes).map_err(|e| strange("JSON").with_source(e).in_file(place))
}

/// Reads one page of a list of files; returns the address of the next one.
pub(super) fn page_of(answer: Answer, into: &mut Vec<HubFile>) -> Result<Option<crate::Url>> {
    let url = answer.url().clone();
    let next = answer.header("link").and_then(next_of).map(|next| url.join(&next)).transpose();
    let place = |e: Error| e.in_file(url.to_string());
    let next = next.map_err(place)?;
    if next.as_ref().is_some_and(|next| next.origin() != url.origin()) {
        return Err(place(strange("the rest of the list at its own host")));
    }
    let page = json_of(answer)?;
    for entry in page.as_array().ok_or_else(|| place(strange("the list of files")))? {
        into.extend(HubFile::of_entry(entry).map_err(place)?);
    }
    Ok(next)
}

/// Returns the address of the next page in a header `Link`.
fn next_of(header: &str) -> Option<String> {
    let link = header.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// Returns the files of a commit as the Python client noted them, if it did.
pub(super) fn noted(layout: &Layout, commit: &str) -> Option<Vec<HubFile>> {
    let path = layout.tree(commit);
    if fs::metadata(&path).ok()?.len() > MOST_LIST {
        return None;
    }
    let tree: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    if tree.get("format_version")?.as_u64()? != 1 {
        return None;
    }
    let file = |(path, entry): (&String, &Value)| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let digests = (text("lfs_sha256"), text("blob_id"));
        HubFile::new(Some(path), entry.get("lfs_size").or_else(|| entry.get("size")), digests).ok()
    };
    tree.get("files")?.as_object()?.iter().map(file).collect()
}

/// Lists the files that are in a folder; links that lead nowhere are left out.
pub(super) fn present(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut todo = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = todo.pop() {
        let failed = |e| Error::io("cannot list", e).in_file(folder.display().to_string());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let name = format!("{prefix}{name}");
            match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => names.push(name),
                Ok(meta) if meta.is_dir() && depth < MOST_DEPTH => {
                    todo.push((path, format!("{name}/"), depth + 1));
                }
                _ => {}
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries() {
        let (sha1, sha256) = ("a".repeat(40), "b".repeat(64));
        let entry = json!({ "type": "file", "oid": sha1, "size": 5, "path": "a/b" });
        let file = HubFile::of_entry(&entry).unwrap().unwrap();
        assert_eq!((file.path(), file.size(), file.sha256()), ("a/b", 5, None));
        let mut large = entry.clone();
        large["lfs"] = json!({ "oid": sha256, "size": 7, "pointerSize": 100 });
        let file = HubFile::of_entry(&large).unwrap().unwrap();
        assert_eq!((file.size(), file.sha256()), (7, Some(&*sha256)));
        assert_eq!(HubFile::of_entry(&json!({ "type": "directory", "path": "a" })).unwrap(), None);
        for (name, value) in [
            ("path", json!("../a")),
            ("path", json!(null)),
            ("oid", json!("../../x")),
            ("size", json!(-1)),
            ("lfs", json!({ "oid": "x", "size": 7 })),
        ] {
            let mut bad = entry.clone();
            bad[name] = value;
            assert!(HubFile::of_entry(&bad).is_err(), "{name}");
        }
    }

    #[test]
    fn links() {
        let header = r#"<https://a/1>; rel="prev", <https://a/2?x=1>; rel="next""#;
        assert_eq!(next_of(header).as_deref(), Some("https://a/2?x=1"));
        assert_eq!(next_of(r#"<https://a/1>; rel="prev""#), None);
    }
}
