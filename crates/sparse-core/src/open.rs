//! Opening files for reading, and nothing that only looks like one.

use crate::{Error, ErrorKind, Result};
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::path::Path;

/// The flag with which opening a pipe does not wait for a writer. The standard library does not
/// name it; 0, where it is not known here, leaves the look before opening and the one after.
#[cfg(unix)]
const O_NONBLOCK: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
        0x80
    } else if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
        0x4000
    } else {
        0x800
    }
} else if cfg!(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
)) {
    0x4
} else {
    0
};

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
    let file = open_at_once(path).map_err(error)?;
    check_kind(&file.metadata().map_err(error)?)?;
    Ok(file)
}

/// Opens `path` for reading without waiting for the other end of a pipe.
fn open_at_once(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, O_NONBLOCK);
    options.open(path)
}

fn check_kind(meta: &Metadata) -> Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("it is {}, not a file", kind_of(meta.file_type())),
    ))
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
    use std::path::PathBuf;

    /// Creates a folder of its own for the test `name`.
    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sparse-core-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn only_files_are_opened() {
        let dir = folder("open");
        let path = dir.join("f");
        assert_eq!(open_file(&path).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(open_file(&path).unwrap().metadata().unwrap().len(), 1);
        let e = open_file(&dir).unwrap_err();
        assert_eq!(
            (e.kind(), e.message()),
            (ErrorKind::InvalidInput, "it is a folder, not a file")
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_waited_for() {
        let dir = folder("wait");
        let (pipe, socket) = (dir.join("pipe"), dir.join("socket"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, text) in [
            (pipe.as_path(), "it is a pipe, not a file"),
            (&socket, "it is a socket, not a file"),
            (Path::new("/dev/null"), "it is a device, not a file"),
        ] {
            let e = open_file(path).unwrap_err();
            assert_eq!((e.kind(), e.message()), (ErrorKind::InvalidInput, text));
        }
        // A link to a pipe is no way around it.
        let link = dir.join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        assert!(open_file(&link).is_err());
        // Nor is one that becomes a pipe after the first look.
        let (done, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(open_at_once(&pipe).map(drop)));
        opened.recv_timeout(std::time::Duration::from_secs(20)).unwrap().unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
