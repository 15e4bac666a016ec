//! Names that people type: paths, ids on the Hub, URLs, and objects in stores.

use crate::url::{Url, decoded};
use sparse_core::{Error, Result, check_path};
use sparse_model::HubCache;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Host of the Hub, whose pages are names of repositories.
const HUB_HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];

/// First parts of names and pages that say what a repository is, and so name no organisation.
const KINDS: [&str; 3] = ["models", "datasets", "spaces"];

/// Kind of a repository on the Hub.
///
/// # Examples
///
/// ```
/// use sparse_remote::RepoKind;
///
/// assert_eq!(RepoKind::Dataset.plural(), "datasets");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// Weights, their configuration, and deltas of them.
    Model,
    /// Tables, and deltas of them.
    Dataset,
}

impl RepoKind {
    /// Returns the word that routes and cache folders begin with.
    pub fn plural(self) -> &'static str {
        match self {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        }
    }
}

/// Repository on the Hub, at a revision, and maybe a file in it.
///
/// Written `org/name`, `org/name@revision`, and in full `hf://datasets/org/name@revision/file`.
///
/// # Examples
///
/// ```
/// use sparse_remote::{HubName, RepoKind};
///
/// let name = HubName::parse("org/name@v2", RepoKind::Model).unwrap();
/// assert_eq!((name.id.as_str(), name.revision.as_deref()), ("org/name", Some("v2")));
/// assert!(HubName::parse("../name", RepoKind::Model).is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HubName {
    /// Whether it holds a model or a dataset.
    pub kind: RepoKind,
    /// `org/name`, or `name` alone as the oldest repositories have it.
    pub id: String,
    /// Branch, tag or commit; `main` where nothing is said.
    pub revision: Option<String>,
    /// File or folder below the root, with `/`.
    pub file: Option<String>,
}

impl HubName {
    /// Parses `org/name`, `name`, or either with `@revision`.
    ///
    /// A slash of the revision may be written as `%2F`, as in names in full.
    ///
    /// Returns `None` where the Hub has no such names.
    pub fn parse(text: &str, kind: RepoKind) -> Option<HubName> {
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(decoded(revision)?)),
            None => (text, None),
        };
        HubName::new(id, revision, kind)
    }

    /// Checks the parts of a name.
    fn new(id: &str, revision: Option<String>, kind: RepoKind) -> Option<HubName> {
        let revision_is_good = revision.as_deref().is_none_or(is_revision);
        let is_kind = id.split_once('/').is_some_and(|(first, _)| KINDS.contains(&first));
        (HubCache::is_id(id) && !is_kind && revision_is_good).then(|| HubName {
            kind,
            id: id.to_owned(),
            revision,
            file: None,
        })
    }

    /// Returns the same name at a commit, which stays what it is.
    #[must_use]
    pub fn at(&self, commit: impl Into<String>) -> HubName {
        HubName { revision: Some(commit.into()), ..self.clone() }
    }

    /// Parses what follows `hf://`.
    fn parse_full(text: &str, kind: RepoKind) -> Option<HubName> {
        let (kind, text) = match text.split_once('/') {
            Some(("datasets", rest)) => (RepoKind::Dataset, rest),
            Some(("models", rest)) => (RepoKind::Model, rest),
            _ => (kind, text),
        };
        // A revision with slashes is written with %2F, as the Python client has it.
        // An id of one part ends with its revision.
        let first = text.split('/').next().unwrap_or_default();
        let parts = if first.contains('@') { 1 } else { 2 };
        let end = text.match_indices('/').nth(parts - 1).map_or(text.len(), |(at, _)| at);
        let (id, file) = (text.get(..end)?, text.get(end + 1..));
        let (id, revision) = match id.split_once('@') {
            Some((id, revision)) => (id, Some(decoded(revision)?)),
            None => (id, None),
        };
        HubName::new(id, revision, kind)?.with_file(file)
    }

    /// Parses the path of a page of the Hub: `/org/name`, `/datasets/org/name`, and either with
    /// `/tree/revision`, `/blob/revision/file` or `/resolve/revision/file`.
    fn parse_page(path: &str) -> Option<HubName> {
        let path = path.trim_matches('/');
        let (kind, path) = match path.split_once('/') {
            Some(("datasets", rest)) => (RepoKind::Dataset, rest),
            _ => (RepoKind::Model, path),
        };
        let words = ["tree", "blob", "resolve"];
        // A slash in the name of a branch is written as %2F.
        let parts: Vec<String> = path.split('/').map(decoded).collect::<Option<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let at = parts.iter().skip(1).position(|part| words.contains(part)).map(|i| i + 1);
        let id = parts.get(..at.unwrap_or(parts.len()))?.join("/");
        let mut found = HubName::parse(&id, kind)?;
        if let Some(at) = at {
            // References of the Hub's own have slashes: refs/pr/1, refs/convert/parquet.
            let rest = parts.get(at + 1..)?;
            let len = if rest.first() == Some(&"refs") { 3 } else { 1 };
            let revision = rest.get(..len)?.join("/");
            found.revision = Some(revision).filter(|r| is_revision(r));
            found.revision.as_ref()?;
            let file = rest.get(len..)?.join("/");
            found = found.with_file(Some(&file).filter(|f| !f.is_empty()).map(String::as_str))?;
        }
        Some(found)
    }

    fn with_file(mut self, file: Option<&str>) -> Option<HubName> {
        self.file =
            file.map(|f| f.trim_end_matches('/')).filter(|f| !f.is_empty()).map(str::to_owned);
        self.file.as_deref().is_none_or(|f| check_path(f).is_ok()).then_some(self)
    }
}

impl fmt::Display for HubName {
    /// Writes the name in full, as [`Location::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == RepoKind::Dataset { "datasets/" } else { "" };
        write!(f, "hf://{kind}{}", self.id)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{}", revision.replace('%', "%25").replace('/', "%2F"))?;
        }
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        Ok(())
    }
}

/// Returns a name that could not be read, without what may be secret in it.
fn hidden(text: &str) -> String {
    let (text, query) = match text.split_once('?') {
        Some((text, _)) => (text, "?…"),
        None => (text, ""),
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let rest = match rest.rsplit_once('@') {
        Some((user, rest)) if user.contains(':') => rest,
        _ => rest,
    };
    format!("{scheme}://{rest}{query}")
}

/// Returns true if a branch, tag or commit may be called so.
fn is_revision(text: &str) -> bool {
    check_path(text).is_ok() && !text.contains(char::is_control)
}

/// Object, or folder of objects, in a store.
///
/// # Examples
///
/// ```
/// use sparse_remote::ObjectName;
///
/// let object: ObjectName = "s3://bucket/models/mine.sparse".parse()?;
/// assert_eq!((object.bucket.as_str(), object.key.as_str()), ("bucket", "models/mine.sparse"));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ObjectName {
    /// `s3`, `gs` or `az`.
    pub scheme: String,
    /// Bucket, or container.
    pub bucket: String,
    /// Key below it; nothing for the bucket itself.
    pub key: String,
}

impl ObjectName {
    fn parse(scheme: &str, rest: &str) -> Result<ObjectName> {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        // The text is not repeated: before an `@` and after a `?`, secrets may stand.
        if bucket.is_empty() || !bucket.bytes().all(good) || key.contains(['?', '#']) {
            let e = format!("this names no object: write {scheme}://bucket/key, and nothing more");
            return Err(Error::invalid_argument(e));
        }
        let key = key.trim_end_matches('/').to_owned();
        Ok(ObjectName { scheme: scheme.to_owned(), bucket: bucket.to_owned(), key })
    }

    /// Returns the last part of the key, or the bucket.
    pub fn file_name(&self) -> &str {
        let last = self.key.rsplit('/').next().unwrap_or_default();
        if last.is_empty() { &self.bucket } else { last }
    }
}

impl FromStr for ObjectName {
    type Err = Error;

    fn from_str(text: &str) -> Result<ObjectName> {
        match text.split_once("://") {
            Some((scheme @ ("s3" | "gs" | "az"), rest)) => ObjectName::parse(scheme, rest),
            _ => Err(Error::invalid_argument("write s3://bucket/key, gs://… or az://…")),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.bucket)?;
        if self.key.is_empty() { Ok(()) } else { write!(f, "/{}", self.key) }
    }
}

/// Where a model, an adapter, a dataset or a delta is.
///
/// # Examples
///
/// ```
/// use sparse_remote::{Location, RepoKind};
///
/// let parse = |text: &str| Location::parse(text, RepoKind::Model);
/// assert!(matches!(parse("org/name@v2")?, Location::Hub(_)));
/// assert!(matches!(parse("./org/name")?, Location::Path(_)));
/// assert!(matches!(parse("https://example.com/mine.sparse")?, Location::Http(_)));
/// let page = parse("https://huggingface.co/datasets/org/name/tree/v2")?;
/// assert_eq!(page.to_string(), "hf://datasets/org/name@v2");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// File or folder on this machine.
    Path(PathBuf),
    /// Repository on the Hub.
    Hub(HubName),
    /// File on a web server.
    Http(Url),
    /// Object in a store.
    Object(ObjectName),
}

impl Location {
    /// Says what `text` names.
    ///
    /// A path that exists is always taken for a path; else the text decides. A bare `org/name` is a
    /// repository of the kind `kind`. Pages of the Hub, and of the one that `HF_ENDPOINT` names,
    /// are names of repositories.
    ///
    /// # Errors
    /// `InvalidArgument` for a scheme that is not known, and what a scheme's name may not be.
    pub fn parse(text: &str, kind: RepoKind) -> Result<Location> {
        if text.is_empty() {
            return Err(Error::invalid_argument("the name is empty"));
        }
        if Path::new(text).symlink_metadata().is_ok() {
            return Ok(Location::Path(text.into()));
        }
        let scheme =
            text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        let Some((scheme, rest)) = scheme else {
            let hub = if is_path(text) { None } else { HubName::parse(text, kind) };
            return Ok(hub.map_or_else(|| Location::Path(text.into()), Location::Hub));
        };
        match scheme.as_str() {
            "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => {
                    let path = decoded(path).unwrap_or_else(|| path.to_owned());
                    Ok(Location::Path(path.into()))
                }
                _ => Err(Error::invalid_argument(format!(
                    "{}: write file:///path/to/it",
                    hidden(text)
                ))),
            },
            "hf" => HubName::parse_full(rest, kind).map(Location::Hub).ok_or_else(|| {
                let forms = "hf://org/name, hf://datasets/org/name or hf://org/name@revision/file";
                Error::invalid_argument(format!(
                    "{} is no name on the Hub: write {forms}",
                    hidden(text)
                ))
            }),
            "http" | "https" => Url::parse(text).map(Location::of_url),
            "s3" | "gs" | "az" => ObjectName::parse(&scheme, rest).map(Location::Object),
            _ => Err(Error::invalid_argument(format!(
                "{scheme}:// is not a scheme that is read: hf, https, http, s3, gs, az and file are"
            ))),
        }
    }

    fn of_url(url: Url) -> Location {
        let endpoint = std::env::var("HF_ENDPOINT").ok().and_then(|text| Url::parse(&text).ok());
        let of_hub = HUB_HOSTS.contains(&url.host())
            || endpoint.is_some_and(|endpoint| endpoint.origin() == url.origin());
        let page = of_hub.then(|| HubName::parse_page(url.path()));
        page.flatten().map_or(Location::Http(url), Location::Hub)
    }

    /// Returns the path, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Location::Path(path) => Some(path),
            _ => None,
        }
    }

    /// Says what kind of name it is, and what was not there.
    pub fn explain(&self) -> &'static str {
        match self {
            Location::Path(path) if path.exists() => "a path, which exists and so wins",
            Location::Path(_) => "a path",
            Location::Hub(_) => "a repository of the Hub, for there is no such path",
            Location::Http(_) => "a file on a web server",
            Location::Object(_) => "an object in a store",
        }
    }
}

impl fmt::Display for Location {
    /// Writes the name without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Path(path) => write!(f, "{}", path.display()),
            Location::Hub(name) => write!(f, "{name}"),
            Location::Http(url) => write!(f, "{url}"),
            Location::Object(object) => write!(f, "{object}"),
        }
    }
}

/// Returns whether a text without scheme can only be a path, or is much likelier one: a file that
/// was mistyped is not to be looked for on the Hub.
fn is_path(text: &str) -> bool {
    const ENDINGS: [&str; 8] =
        [".sparse", ".safetensors", ".parquet", ".jsonl", ".csv", ".arrow", ".json", ".delta"];
    text.starts_with(['/', '.', '~']) || ENDINGS.iter().any(|ending| text.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::ErrorKind;

    fn hub(text: &str) -> String {
        match Location::parse(text, RepoKind::Model) {
            Ok(Location::Hub(name)) => name.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn names_on_the_hub() {
        assert_eq!(hub("gpt2"), "hf://gpt2");
        assert_eq!(hub("org/name@refs/pr/1"), "hf://org/name@refs%2Fpr%2F1");
        assert_eq!(hub("org/name@refs%2Fpr%2F1"), "hf://org/name@refs%2Fpr%2F1");
        assert_eq!(hub("hf://org/name"), "hf://org/name");
        assert_eq!(hub("hf://datasets/squad_v2"), "hf://datasets/squad_v2");
        assert_eq!(hub("hf://gpt2@main/a/config.json"), "hf://gpt2@main/a/config.json");
        assert_eq!(
            hub("hf://datasets/o/n@refs%2Fconvert%2Fparquet/a/b.parquet"),
            "hf://datasets/o/n@refs%2Fconvert%2Fparquet/a/b.parquet"
        );
        assert_eq!(hub("https://huggingface.co/org/name"), "hf://org/name");
        assert_eq!(hub("https://hf.co/org/name/blob/main/a/b.json"), "hf://org/name@main/a/b.json");
        assert_eq!(
            hub("https://huggingface.co/datasets/o/n/tree/refs%2Fconvert%2Fparquet/default"),
            "hf://datasets/o/n@refs%2Fconvert%2Fparquet/default"
        );
        // A space is no model, and no organisation is called as a kind is.
        for text in ["models/x", "datasets/x", "https://hf.co/spaces/org", "https://hf.co/models/x"]
        {
            assert!(HubName::parse(text, RepoKind::Dataset).is_none(), "{text}");
            assert!(!hub(text).starts_with("hf://"), "{text}");
        }
        assert_eq!(hub("hf://models/datasets"), "hf://datasets");
        // What is written is read back as the same.
        for text in ["hf://org/name@refs%2Fpr%2F1/f", "hf://datasets/a/b"] {
            assert_eq!(hub(text), text);
        }
    }

    #[test]
    fn everything_else() {
        let parse = |text: &str| Location::parse(text, RepoKind::Model);
        let path = |text: &str| parse(text).unwrap().path().map(|p| p.display().to_string());
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(path(here).as_deref(), Some(here));
        // Exists, though it could be an id: tests run in the crate's folder.
        assert_eq!(path("src").as_deref(), Some("src"));
        for text in ["./a/b", "/a/b", "a/b/c", "mine.sparse", "~/a", "a b"] {
            assert_eq!(path(text).as_deref(), Some(text));
        }
        assert_eq!(path("file:///a%20b").as_deref(), Some("/a b"));
        assert_eq!(path("file://localhost/a").as_deref(), Some("/a"));
        assert!(matches!(parse("https://example.com/org/name").unwrap(), Location::Http(_)));
        assert_eq!(parse("gs://b-1/x/").unwrap().to_string(), "gs://b-1/x");
        assert_eq!(parse("gs://b-1/").unwrap().to_string(), "gs://b-1");
        for bad in ["", "ftp://a/b", "hf://../x", "s3://", "s3:///x", "file://a", "hf://a/b/../c"] {
            assert_eq!(parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
        for bad in ["s3://me:s3cret@b/x", "gs://b/x?X-Goog-Signature=s3cret", "ftp://s3cret"] {
            let e = bad.parse::<ObjectName>().unwrap_err();
            assert!(!e.to_string().contains("s3cret"), "{e}");
        }
    }
}
