//! Opening files for reading, and nothing that only looks like one.

use sparse_core::{Error, ErrorKind, Result};
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::path::Path;

/// Opens a regular file for reading, links followed, and never waits: a pipe, which might block for
/// ever, a device or a socket is refused, also when it takes the place of a file at this very
/// moment.
///
/// # Errors
/// `NotFound` or `Io` when it cannot be opened; `InvalidInput` when it is a folder or anything else
/// but a file. The path is left to the caller.
pub fn open_file(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let error = |e| Error::io("cannot open", e);
    // Opening a device can have effects of its own, so look first.
    check_kind(&std::fs::metadata(path).map_err(error)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options.open(path).map_err(error)?;
    check_kind(&file.metadata().map_err(error)?)?;
    Ok(file)
}

fn check_kind(meta: &Metadata) -> Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("{}, not a file", kind_of(meta.file_type()))))
}

fn kind_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    "a device"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(open_file(&path).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(open_file(&path).unwrap().metadata().unwrap().len(), 1);
        let e = open_file(dir.path()).unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::InvalidInput, "a folder, not a file"));
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, socket) = (dir.path().join("pipe"), dir.path().join("socket"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, text) in [
            (pipe.as_path(), "a pipe, not a file"),
            (&socket, "a socket, not a file"),
            (Path::new("/dev/null"), "a device, not a file"),
        ] {
            let e = open_file(path).unwrap_err();
            assert_eq!((e.kind(), e.message()), (ErrorKind::InvalidInput, text));
        }
        // A link to a pipe is no way around it.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        assert!(open_file(&link).is_err());
    }
}
