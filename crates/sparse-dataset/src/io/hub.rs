//! Folders of the Hugging Face cache, and the snapshot that each means.

use sparse_core::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Longest text of a ref, in bytes; a commit has 40.
const MAX_REF_BYTES: u64 = 256;

/// Returns true if `path` is the folder of a repository in the cache.
pub(super) fn is_cache(path: &Path) -> bool {
    path.join("snapshots").is_dir() && (path.join("refs").is_dir() || path.join("blobs").is_dir())
}

/// Returns the snapshot that `path` means.
///
/// That is `path` itself, unless it is the folder of a repository in the cache; then it is the
/// snapshot that `refs/main` names, or the only one.
///
/// # Errors
/// `InvalidInput` when there are several snapshots and no valid `refs/main`; `Io`.
pub(crate) fn snapshot(path: &Path) -> Result<PathBuf> {
    if !is_cache(path) {
        return Ok(path.to_path_buf());
    }
    let place = || path.display().to_string();
    let unreadable = |e| Error::io("cannot list the snapshots", e).in_file(place());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path.join("snapshots")).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let main = path.join("refs").join("main");
    let refused = |what: String| {
        let text =
            format!("{what}: give the folder of one of its snapshots ({})", names.join(", "));
        Err(Error::new(ErrorKind::InvalidInput, text).in_file(place()))
    };
    match std::fs::metadata(&main) {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_REF_BYTES => {
            let text = std::fs::read_to_string(&main)
                .map_err(|e| Error::io("cannot read", e).in_file(main.display().to_string()))?;
            let name = text.trim();
            if names.iter().any(|n| n == name) {
                Ok(path.join("snapshots").join(name))
            } else {
                refused(format!("refs/main names {name:?}, but there is no such snapshot"))
            }
        }
        Ok(_) => refused("refs/main is not the name of a commit".into()),
        Err(_) => match &names[..] {
            [] => Err(Error::new(
                ErrorKind::InvalidInput,
                "this folder of the Hugging Face cache has no snapshots",
            )
            .in_file(place())),
            [only] => Ok(path.join("snapshots").join(only)),
            _ => refused("this folder of the Hugging Face cache has no refs/main".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_tells_which_snapshot_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(snapshot(root).unwrap(), root);
        for name in ["blobs", "snapshots/aaa"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        assert_eq!(snapshot(root).unwrap(), root.join("snapshots/aaa"));
        std::fs::create_dir_all(root.join("snapshots/bbb")).unwrap();
        let refused = snapshot(root).unwrap_err();
        assert!(refused.message().contains("aaa, bbb"), "{}", refused.message());
        std::fs::create_dir_all(root.join("refs")).unwrap();
        std::fs::write(root.join("refs/main"), "bbb\n").unwrap();
        assert_eq!(snapshot(root).unwrap(), root.join("snapshots/bbb"));
        std::fs::write(root.join("refs/main"), "../../x").unwrap();
        assert_eq!(snapshot(root).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
