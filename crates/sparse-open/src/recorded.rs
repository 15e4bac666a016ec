//! Bases that a delta records, for when none is named.
//!
//! A delta may come from a stranger. So a recorded path opens nothing outside the delta's folder,
//! and other places have to be named, but for the Hub's.

use sparse::Delta;
#[cfg(feature = "dataset")]
use sparse::{Error, ErrorKind, Result};
use sparse_remote::{Location, RepoKind};
use std::path::PathBuf;
#[cfg(feature = "dataset")]
use std::path::{Component, Path, absolute};

/// Returns whether a recorded name is that of a repository of the Hub.
///
/// # Examples
///
/// ```
/// assert!(sparse_open::is_on_hub("hf://org/name@0123"));
/// assert!(!sparse_open::is_on_hub("org/name"));
/// ```
pub fn is_on_hub(recorded: &str) -> bool {
    let location = Location::parse(recorded, RepoKind::Model);
    recorded.starts_with("hf://") && matches!(location, Ok(Location::Hub(_)))
}

/// Returns the base that a delta records and needs.
///
/// Only one on the Hub is opened without being named.
///
/// # Examples
///
/// ```
/// # let pair = "../../fixtures/minilm-bf16";
/// # let (base, finetuned) = (format!("{pair}/base"), format!("{pair}/finetuned"));
/// use sparse::{Codecs, Compressor, Delta, Limits, Model};
///
/// let base = Model::open(base)?.named("hf://org/base@0123");
/// let finetuned = Model::open(finetuned)?;
/// let (bytes, _) = Compressor::new(&finetuned).base(&base).write_to(Vec::new())?;
/// let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default())?;
/// assert_eq!(sparse_open::recorded_model(&delta), Some("hf://org/base@0123".into()));
/// # Ok::<(), sparse::Error>(())
/// ```
pub fn recorded_model(delta: &Delta) -> Option<PathBuf> {
    let recorded = &delta.index().provenance.base_id;
    (is_on_hub(recorded) && sparse::inspect(delta).needs_base).then(|| recorded.into())
}

/// Finds the base that a delta of a dataset records.
///
/// It is on the Hub, or in the folder of `delta` or below. `how` says how to name the base instead.
///
/// # Errors
/// `InvalidArgument` when it was not recorded, lies elsewhere, or is not there; `Io`.
#[cfg(feature = "dataset")]
pub fn recorded_dataset(recorded: &str, delta: &Path, how: &str) -> Result<PathBuf> {
    // A repository of the Hub gives away nothing of this machine, and what comes is compared.
    if is_on_hub(recorded) {
        return Ok(recorded.into());
    }
    let refuse = |kind, what: String| {
        let e = Error::new(kind, format!("{what}; give the base with {how}"));
        Err(e.in_file(delta.display().to_string()))
    };
    let elsewhere = || {
        let what = format!("it was made against {recorded:?}, which is outside the delta's folder");
        refuse(ErrorKind::InvalidArgument, what)
    };
    if recorded.is_empty() {
        return refuse(ErrorKind::InvalidArgument, "it does not name its base".to_owned());
    }
    if !delta.exists() {
        return refuse(ErrorKind::InvalidArgument, format!("it was made against {recorded:?}"));
    }
    let error = |e| Error::io("cannot resolve the path", e).in_file(delta.display().to_string());
    let folder =
        absolute(delta).map_err(error)?.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let real_folder = folder.canonicalize().map_err(error)?;
    // Nothing is looked at before its name alone says that it lies inside.
    let candidates = candidates(Path::new(recorded), &folder, &real_folder);
    if candidates.is_empty() {
        return elsewhere();
    }
    match candidates.iter().find_map(|c| Some((c, c.canonicalize().ok()?))) {
        Some((path, real)) if real.starts_with(&real_folder) => Ok(path.clone()),
        // A link leads out.
        Some(_) => elsewhere(),
        None => refuse(
            ErrorKind::InvalidArgument,
            format!("it was made against {recorded:?}, which is not in the delta's folder"),
        ),
    }
}

/// Returns the paths inside the folder that `recorded` may stand for: relative to the current
/// folder, and to the delta's.
#[cfg(feature = "dataset")]
fn candidates(recorded: &Path, folder: &Path, real_folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    if recorded.components().any(|c| c == Component::ParentDir) {
        return out;
    }
    if let Ok(path) = absolute(recorded)
        && (path.starts_with(folder) || path.starts_with(real_folder))
    {
        out.push(path);
    }
    if recorded.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        out.push(folder.join(recorded));
    }
    out
}

#[cfg(all(test, feature = "dataset"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_inside_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("in/sub")).unwrap();
        for name in ["outside", "in/base", "in/sub/base", "in/d.sparse"] {
            std::fs::write(root.join(name), b"x").unwrap();
        }
        let delta = root.join("in/d.sparse");
        let find = |recorded: &str| recorded_dataset(recorded, &delta, "--base");
        let inside = root.join("in/base");
        assert_eq!(find("base").unwrap(), inside);
        assert_eq!(find("./sub/base").unwrap(), root.join("in/sub/base"));
        assert_eq!(find(inside.to_str().unwrap()).unwrap(), inside);
        let outside = root.join("outside");
        let around = root.join("in/../outside");
        for bad in [
            outside.to_str().unwrap(),
            around.to_str().unwrap(),
            "../outside",
            "..",
            "/",
            "/etc/passwd",
        ] {
            let e = find(bad).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}: {e}");
            assert!(e.to_string().contains(bad) && e.to_string().ends_with("--base"), "{e}");
        }
        let e = find("missing").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(find("").is_err());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&outside, root.join("in/link")).unwrap();
            assert!(find("link").is_err(), "a link leads out");
        }
    }
}
