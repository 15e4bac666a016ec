//! The files of a folder, links followed.

use sparse_core::{Error, ErrorKind, FileStamp, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 64;
/// Most files and folders: links to folders could otherwise multiply without end.
const MAX_ENTRIES: usize = 1 << 20;

/// File of a folder.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its path below the root, with `/`.
    pub(crate) relative: String,
    /// Its path.
    pub(crate) path: PathBuf,
    /// Stamp of the file when it was found.
    pub(crate) stamp: FileStamp,
}

/// Contents of a folder.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Every file, sorted by relative path.
    pub(crate) files: Vec<Found>,
    /// Folders without any entry, by relative path, sorted.
    pub(crate) empty_folders: Vec<String>,
    entries: usize,
    /// The real paths of the folders that enclose the one being read: what a link must not lead
    /// back to.
    enclosing: Vec<PathBuf>,
}

/// Lists the folder `root`, without the relative paths in `exclude`.
pub(crate) fn scan(root: &Path, exclude: &[String]) -> Result<Scan> {
    let mut scan = Scan::default();
    scan.folder(root, "", exclude)?;
    scan.files.sort_by(|a, b| a.relative.cmp(&b.relative));
    scan.empty_folders.sort();
    Ok(scan)
}

impl Scan {
    fn folder(&mut self, path: &Path, relative: &str, exclude: &[String]) -> Result<()> {
        let place =
            || if relative.is_empty() { path.display().to_string() } else { relative.to_owned() };
        let real =
            fs::canonicalize(path).map_err(|e| Error::io("cannot open", e).in_file(place()))?;
        if self.enclosing.contains(&real) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "it is a link to a folder that contains it, so the folder has no end: remove \
                    the link",
            )
            .in_file(place()));
        }
        if self.enclosing.len() >= MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("folders nest more than {MAX_DEPTH} deep"),
            )
            .in_file(place()));
        }
        self.enclosing.push(real);
        let mut empty = true;
        let list_error = |e| Error::io("cannot list the folder", e).in_file(place());
        for entry in fs::read_dir(path).map_err(list_error)? {
            let entry = entry.map_err(list_error)?;
            empty = false;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("there are more than {MAX_ENTRIES} files and folders"),
                ));
            }
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "the file name {:?} is not UTF-8: rename the file",
                        name.to_string_lossy()
                    ),
                )
                .in_file(place())
            })?;
            let relative =
                if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
            if !exclude.contains(&relative) {
                self.entry(entry.path(), relative, exclude)?;
            }
        }
        if empty && !relative.is_empty() {
            self.empty_folders.push(relative.to_owned());
        }
        self.enclosing.pop();
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, relative: String, exclude: &[String]) -> Result<()> {
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(e) => return Err(broken(&path, e).in_file(relative)),
        };
        if meta.is_dir() {
            return self.folder(&path, &relative, exclude);
        }
        if !meta.is_file() {
            // Reading a pipe or a device might block for ever.
            return Err(Error::new(ErrorKind::InvalidInput, "it is neither a file nor a folder")
                .in_file(relative));
        }
        self.files.push(Found { relative, path, stamp: FileStamp::of(&meta) });
        Ok(())
    }
}

/// Says why `path`, which is there, has no metadata.
pub(crate) fn broken(path: &Path, e: std::io::Error) -> Error {
    if e.kind() == std::io::ErrorKind::PermissionDenied {
        return Error::io("cannot read", e);
    }
    match fs::read_link(path) {
        Ok(to) => Error::new(
            ErrorKind::NotFound,
            format!(
                "it is a link to {}, which does not exist (an interrupted download?)",
                to.display()
            ),
        )
        .with_source(e),
        Err(_) => Error::io("cannot read", e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, relative: &str) {
        let path = root.join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, relative).unwrap();
    }

    #[test]
    fn lists_nested_and_empty_folders() {
        let dir = tempfile::tempdir().unwrap();
        for f in ["b", "a/b/c", "a.txt", "a/a", "skip/me"] {
            touch(dir.path(), f);
        }
        fs::create_dir_all(dir.path().join("void/inner")).unwrap();
        let scan = scan(dir.path(), &["skip".into()]).unwrap();
        let names: Vec<_> =
            scan.files.iter().map(|f| (f.relative.as_str(), f.stamp.len())).collect();
        assert_eq!(names, [("a.txt", 5), ("a/a", 3), ("a/b/c", 5), ("b", 1)]);
        assert_eq!(scan.empty_folders, ["void/inner"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_must_not_loop() {
        use std::os::unix::fs::symlink;
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        touch(other.path(), "x/y");
        symlink(other.path().join("x"), dir.path().join("one")).unwrap();
        symlink(other.path().join("x"), dir.path().join("two")).unwrap();
        symlink(other.path().join("x/y"), dir.path().join("file")).unwrap();
        let found = scan(dir.path(), &[]).unwrap();
        assert_eq!(
            found.files.iter().map(|f| &*f.relative).collect::<Vec<_>>(),
            ["file", "one/y", "two/y"]
        );

        symlink(dir.path(), dir.path().join("zone")).unwrap();
        let e = scan(dir.path(), &[]).unwrap_err();
        assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidInput, Some("zone")), "{e}");
        fs::remove_file(dir.path().join("zone")).unwrap();

        symlink(dir.path().join("self"), dir.path().join("self")).unwrap();
        let e = scan(dir.path(), &[]).unwrap_err();
        assert_eq!((e.kind(), e.file()), (ErrorKind::NotFound, Some("self")), "{e}");
        fs::remove_file(dir.path().join("self")).unwrap();

        symlink("missing", dir.path().join("dangling")).unwrap();
        let e = scan(dir.path(), &[]).unwrap_err();
        assert!(e.to_string().contains("dangling: it is a link to missing"), "{e}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf8_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let name = std::ffi::OsStr::from_bytes(b"bad\xff");
        fs::write(dir.path().join(name), b"").unwrap();
        let e = scan(dir.path(), &[]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains("not UTF-8"), "{e}");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        assert_eq!(scan(dir.path(), &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn depth_is_limited() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("d/".repeat(MAX_DEPTH + 1))).unwrap();
        assert_eq!(scan(dir.path(), &[]).unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}
