//! The local Hugging Face cache: from a model id to the folder that holds it.
//!
//! `<cache>/models--org--name/` has `refs/<revision>`, files that hold a commit hash,
//! `snapshots/<hash>/`, the folders themselves, and `blobs/`, which the files of a snapshot are
//! links to.

use crate::scan::broken;
use sparse_core::check_path;
use sparse_core::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Place where model ids are looked up.
///
/// # Examples
///
/// ```no_run
/// use sparse_model::{HubCache, OpenOptions};
///
/// let mut options = OpenOptions::default();
/// options.cache = HubCache::At("/data/hub".into());
/// let model = options.open("org/name@main")?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubCache {
    /// The cache of the Hugging Face tools: `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else
    /// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`. The first that is set
    /// counts.
    #[default]
    Environment,
    /// This folder, which has the `models--...` folders.
    At(PathBuf),
    /// Nowhere: only paths are opened.
    Off,
}

impl HubCache {
    /// Returns the folder that has the `models--...` folders, whether or not it exists.
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            HubCache::Environment => {
                from_environment(|name| std::env::var_os(name), std::env::home_dir())
            }
            HubCache::At(path) => Some(path.clone()),
            HubCache::Off => None,
        }
    }

    /// Returns the folder of the Hugging Face tools.
    ///
    /// It is `$HF_HOME`, else `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`.
    pub fn home() -> Option<PathBuf> {
        home_from_environment(&|name| std::env::var_os(name), std::env::home_dir().as_deref())
    }

    /// Returns whether the Hub has ids like `text`, which are `org/name` or `name`.
    ///
    /// # Examples
    ///
    /// ```
    /// use sparse_model::HubCache;
    ///
    /// assert!(HubCache::is_id("org/name") && HubCache::is_id("gpt2"));
    /// assert!(!HubCache::is_id("../name") && !HubCache::is_id("org/name@main"));
    /// ```
    pub fn is_id(text: &str) -> bool {
        let part = |p: &str| {
            p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && p.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && !p.contains("--")
                && !p.contains("..")
                && p.len() <= 96
        };
        text.split('/').count() <= 2 && text.split('/').all(part)
    }

    /// Returns the name of a repository's folder, of `models` or `datasets` and its id.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(sparse_model::HubCache::repo_name("models", "org/name"), "models--org--name");
    /// ```
    pub fn repo_name(plural: &str, id: &str) -> String {
        format!("{plural}--{}", id.replace('/', "--"))
    }

    /// Returns the commit that `revision` is in the folder of a repository.
    ///
    /// A revision that is no branch or tag there is taken for a commit.
    ///
    /// # Errors
    /// `InvalidInput` when `revision`, or what the folder has for it, leads out of the folder;
    /// `Io`.
    pub fn commit(repo: &Path, revision: &str) -> Result<String> {
        check_path(revision)?;
        let reference = repo.join("refs").join(revision);
        match fs::metadata(&reference) {
            // A hash is 40 bytes; whatever is longer is none.
            Ok(meta) if meta.is_file() && meta.len() <= 4096 => {
                let text = fs::read_to_string(&reference)
                    .map_err(|e| Error::io(format!("cannot read {}", reference.display()), e))?;
                let hash = text.trim().to_owned();
                check_path(&hash)?;
                Ok(hash)
            }
            _ => Ok(revision.to_owned()),
        }
    }

    /// Returns the snapshot of `revision` in the folder of a repository.
    ///
    /// A revision is a branch, a tag or a commit hash.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); `NotFound`, with the revisions that are there.
    pub fn snapshot(repo: &Path, revision: &str) -> Result<PathBuf> {
        let snapshots = repo.join("snapshots");
        let path = snapshots.join(HubCache::commit(repo, revision)?);
        if path.is_dir() {
            return Ok(path);
        }
        let mut have: Vec<String> = fs::read_dir(&snapshots)
            .into_iter()
            .flatten()
            .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        have.sort();
        let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
        Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "revision {revision} is not in the Hugging Face cache (looked for {} and {}; \
                    revisions there: {have})",
                repo.join("refs").join(revision).display(),
                path.display()
            ),
        ))
    }
}

fn from_environment(
    var: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    // The second is the older name of the first.
    folder_of("HF_HUB_CACHE", &var, home.as_deref())
        .or_else(|| folder_of("HUGGINGFACE_HUB_CACHE", &var, home.as_deref()))
        .or_else(|| home_from_environment(&var, home.as_deref()).map(|d| d.join("hub")))
}

fn home_from_environment(
    var: &impl Fn(&str) -> Option<OsString>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    folder_of("HF_HOME", var, home)
        .or_else(|| folder_of("XDG_CACHE_HOME", var, home).map(|d| d.join("huggingface")))
        .or_else(|| home.map(|d| d.join(".cache/huggingface")))
}

/// Returns the folder that a variable names; a `~` at its begin is the home, as the Python client
/// has it.
fn folder_of(
    name: &str,
    var: &impl Fn(&str) -> Option<OsString>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    let path = var(name).filter(|v| !v.is_empty()).map(PathBuf::from)?;
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => Some(home.join(rest)),
        _ => Some(path),
    }
}

/// File or folder that a path or an id stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// A file.
    File(PathBuf),
    /// A folder.
    Folder(PathBuf),
}

/// Finds what `given`, a path or else a model id, stands for.
pub(crate) fn resolve(given: &Path, cache: &HubCache) -> Result<Resolved> {
    resolve_inner(given, cache).map_err(|e| e.in_file(given.display().to_string()))
}

fn resolve_inner(given: &Path, cache: &HubCache) -> Result<Resolved> {
    match fs::metadata(given) {
        Ok(meta) if meta.is_dir() => {
            // The folder of a model in a cache, given by path.
            if given.join("snapshots").is_dir()
                && (given.join("refs").is_dir() || given.join("blobs").is_dir())
            {
                return found(given, "main");
            }
            Ok(Resolved::Folder(given.to_owned()))
        }
        Ok(meta) if meta.is_file() => Ok(Resolved::File(given.to_owned())),
        Ok(_) => Err(Error::new(ErrorKind::InvalidInput, "it is neither a file nor a folder")),
        // Something is there, but not to be had.
        Err(e) if fs::symlink_metadata(given).is_ok() => Err(broken(given, e)),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Error::io("cannot read", e))
        }
        Err(_) => {
            let id = given.to_str().and_then(ModelId::parse);
            let Some(id) = id else {
                return Err(Error::new(ErrorKind::NotFound, "no such file or folder"));
            };
            let Some(cache) = cache.folder() else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "no such file or folder, and there is no Hugging Face cache to look in",
                ));
            };
            let folder = cache.join(HubCache::repo_name("models", id.name));
            if !folder.is_dir() && is_file_name(id.name) {
                return Err(Error::new(ErrorKind::NotFound, "no such file"));
            }
            if !folder.is_dir() {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "no such file or folder, and no such model in the Hugging Face cache \
                            (looked for {}). \
                         Nothing is downloaded: fetch it first, for instance with `hf download {}`",
                        folder.display(),
                        id.name
                    ),
                ));
            }
            found(&folder, id.revision)
        }
    }
}

/// Returns whether a name that could be an id is much likelier that of a file.
fn is_file_name(name: &str) -> bool {
    let endings = ["sparse", "safetensors", "bin", "pt", "pth", "gguf", "json", "delta"];
    name.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending))
}

/// Returns the snapshot of `revision` in the folder of a model.
fn found(folder: &Path, revision: &str) -> Result<Resolved> {
    match HubCache::snapshot(folder, revision) {
        Ok(path) => Ok(Resolved::Folder(path)),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Error::new(e.kind(), format!("{}. Nothing is downloaded", e.message())))
        }
        Err(e) => Err(e),
    }
}

/// `org/name`, `name`, or either with `@revision`.
#[derive(Debug, PartialEq, Eq)]
struct ModelId<'a> {
    name: &'a str,
    revision: &'a str,
}

impl<'a> ModelId<'a> {
    /// Parses an id; returns `None` where the Hub has no such names.
    fn parse(text: &'a str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        (HubCache::is_id(name) && !revision.is_empty()).then_some(ModelId { name, revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let name = |id: &ModelId<'_>| HubCache::repo_name("models", id.name);
        let id = |text| ModelId::parse(text).map(|id| (name(&id), id.revision));
        assert_eq!(id("a/b"), Some(("models--a--b".into(), "main")));
        assert_eq!(id("gpt2@v1.0"), Some(("models--gpt2".into(), "v1.0")));
        assert_eq!(id("a/b@refs/pr/1"), Some(("models--a--b".into(), "refs/pr/1")));
        for bad in ["", "a/b/c", "/a", "a/", "../a", "a/..", "a b", "a/b@", "a--b", "./a", "a\0"] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }

    #[test]
    fn environment() {
        let folder = |vars: &[(&str, &str)]| {
            let get = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| OsString::from(v.1));
            from_environment(get, Some("home".into())).unwrap()
        };
        assert_eq!(folder(&[]), Path::new("home/.cache/huggingface/hub"));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "x")]), Path::new("x/huggingface/hub"));
        assert_eq!(folder(&[("HF_HOME", "h"), ("XDG_CACHE_HOME", "x")]), Path::new("h/hub"));
        assert_eq!(folder(&[("HF_HUB_CACHE", "c"), ("HF_HOME", "h")]), Path::new("c"));
        assert_eq!(folder(&[("HF_HUB_CACHE", ""), ("HF_HOME", "h")]), Path::new("h/hub"));
        assert_eq!(folder(&[("HF_HUB_CACHE", "~/c")]), Path::new("home/c"));
        assert_eq!(folder(&[("HF_HOME", "~")]), Path::new("home/hub"));
        assert_eq!(from_environment(|_| None, None), None);
    }

    #[test]
    fn layout() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("models--org--name");
        fs::create_dir_all(model.join("refs/pr")).unwrap();
        for hash in ["aaaa", "bbbb"] {
            fs::create_dir_all(model.join("snapshots").join(hash)).unwrap();
        }
        fs::write(model.join("refs/main"), "aaaa\n").unwrap();
        fs::write(model.join("refs/pr/1"), "bbbb").unwrap();
        fs::write(model.join("refs/evil"), "../../..").unwrap();
        fs::write(model.join("refs/gone"), "cccc").unwrap();
        let cache = HubCache::At(dir.path().into());
        let at = |hash: &str| Resolved::Folder(model.join("snapshots").join(hash));
        let resolve = |id: &str| resolve(Path::new(id), &cache);
        assert_eq!(resolve("org/name").unwrap(), at("aaaa"));
        assert_eq!(resolve("org/name@pr/1").unwrap(), at("bbbb"));
        assert_eq!(resolve("org/name@bbbb").unwrap(), at("bbbb"));
        assert_eq!(resolve(model.to_str().unwrap()).unwrap(), at("aaaa"));
        assert_eq!(resolve("org/name@evil").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(resolve("org/name@../..").unwrap_err().kind(), ErrorKind::InvalidInput);

        let e = resolve("org/name@gone").unwrap_err();
        assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("aaaa, bbbb"), "{e}");
        let e = resolve("org/other").unwrap_err().to_string();
        assert!(e.contains("models--org--other") && e.contains("Nothing is downloaded"), "{e}");
        let e = resolve("./no/such/path").unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::NotFound, "no such file or folder"));
        let e = super::resolve(Path::new("org/name"), &HubCache::Off).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
    }
}
