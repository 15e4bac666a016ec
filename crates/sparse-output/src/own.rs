//! Folders that are the user's alone, and opening what is in them without being led elsewhere.

use sparse_core::{Error, ErrorKind, Result};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;

/// Makes a folder that nobody else may look into, or checks the one that is there.
///
/// Its mode is 0700 on Unix, and so is that of the folders that it lies in and that are missing.
/// A link in its place is refused, and so is a folder to which others may write: what is found in
/// such a folder may have been put there. The super-user may use everybody's. Only Unix has such
/// owners and permissions; elsewhere a folder inherits its protection.
///
/// # Errors
/// `InvalidInput` when `path` is something else than a folder, or others may write to it, or it
/// belongs to another user; `Io` when it cannot be made.
///
/// # Examples
///
/// ```
/// use sparse_output::ensure_own_folder;
///
/// # let folder = tempfile::tempdir().unwrap();
/// let cache = folder.path().join("cache/v1");
/// ensure_own_folder(&cache)?;
/// ensure_own_folder(&cache)?;
/// assert!(cache.is_dir());
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn ensure_own_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let in_place = |e: Error| e.in_file(path.display().to_string());
    if fs::symlink_metadata(path).is_err() {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(|e| in_place(Error::io("cannot make the folder", e)))?;
    }
    let found = fs::symlink_metadata(path)
        .map_err(|e| in_place(Error::io("cannot examine the folder", e)))?;
    let refused = |what: &'static str| Err(in_place(Error::new(ErrorKind::InvalidInput, what)));
    if !found.is_dir() {
        return refused("it is a link or a file, but a folder of one's own is wanted: remove it");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let user = rustix::process::geteuid();
        if found.uid() != user.as_raw() && !user.is_root() {
            return refused("it belongs to another user: choose another folder");
        }
        if found.mode() & 0o022 != 0 {
            return refused("others may write to it: take that right from them (chmod go-w)");
        }
    }
    Ok(())
}

/// Opens a file, but neither follows a link in its place nor waits for a pipe.
///
/// # Errors
/// What opening reports; `InvalidInput` when it is no regular file.
///
/// # Examples
///
/// ```
/// use sparse_output::open_unfollowed;
/// use std::fs::OpenOptions;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("lock");
/// open_unfollowed(OpenOptions::new().write(true).create(true), &path)?;
/// assert_eq!(open_unfollowed(OpenOptions::new().read(true), &path)?.metadata()?.len(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn open_unfollowed(options: &OpenOptions, path: impl AsRef<Path>) -> io::Result<File> {
    let file = open_itself(options, path.as_ref())?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"))
}

/// Opens what has the name `path`, a folder too.
pub(super) fn open_itself(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let mut options = options.clone();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    #[cfg(windows)]
    {
        // FILE_FLAG_OPEN_REPARSE_POINT: the link itself, which is no file.
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, 0x0020_0000);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_is_ones_own() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("a/b");
        ensure_own_folder(&own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&own, fs::Permissions::from_mode(0o775)).unwrap();
        let e = ensure_own_folder(&own).unwrap_err();
        assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidInput, own.to_str()));
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        ensure_own_folder(&own).unwrap();
        let link = dir.path().join("link");
        symlink(&own, &link).unwrap();
        assert_eq!(ensure_own_folder(&link).unwrap_err().kind(), ErrorKind::InvalidInput);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(ensure_own_folder(&file).is_err() && ensure_own_folder(file.join("a")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let open = |name: &str| open_unfollowed(OpenOptions::new().read(true), at(name));
        open("file").unwrap();
        for bad in ["link", "pipe", ".", "missing"] {
            assert!(open(bad).is_err(), "{bad}");
        }
        let through = open_unfollowed(OpenOptions::new().write(true).create(true), at("link"));
        assert!(through.is_err());
        assert_eq!(fs::read(at("file")).unwrap(), b"x");
    }
}
