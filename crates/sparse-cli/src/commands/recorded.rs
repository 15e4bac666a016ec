//! Finds the base of a dataset if the command line names none.
//!
//! A delta records the name of its base. The delta may come from a stranger, so the recorded name
//! opens nothing outside the delta's folder; a base elsewhere has to be given.

use crate::failure::Failure;
use crate::find::is_on_hub;
use sparse::{Error, ErrorKind};
use std::path::{Component, Path, PathBuf, absolute};

/// Finds the base that was `recorded` in `delta`, in the delta's folder or below it. `how` says how
/// to give the base instead.
///
/// # Errors
/// `InvalidArgument` when it was not recorded or lies elsewhere; `NotFound`; `Io`.
pub(super) fn recorded_base(recorded: &str, delta: &Path, how: &str) -> Result<PathBuf, Failure> {
    // A repository of the Hub gives away nothing of this machine, and what comes is compared.
    if is_on_hub(recorded) {
        return Ok(recorded.into());
    }
    let refuse = |kind, what: String| {
        let e = Error::new(kind, format!("{what}; give the base with {how}"));
        Err(e.in_file(delta.display().to_string()).into())
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
            ErrorKind::NotFound,
            format!("it was made against {recorded:?}, which is not in the delta's folder"),
        ),
    }
}

/// Returns the paths inside the folder that `recorded` may stand for: relative to the current
/// folder, and to the delta's.
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

#[cfg(test)]
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
        let find = |recorded: &str| recorded_base(recorded, &delta, "--base");
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
            let Err(Failure::Sparse(e)) = find(bad) else { panic!("{bad}") };
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}: {e}");
            assert!(e.to_string().contains(bad) && e.to_string().ends_with("--base"), "{e}");
        }
        let Err(Failure::Sparse(e)) = find("missing") else { panic!() };
        assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
        assert!(find("").is_err());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&outside, root.join("in/link")).unwrap();
            assert!(find("link").is_err(), "a link leads out");
        }
    }
}
