//! A file of a model as a byte source.

#[cfg(feature = "mmap")]
use crate::mmap::Map;
use sparse_core::{ByteSource, Error, ErrorKind, FileSource, FileStamp, Result, open_file};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Size below which a file is opened for each read instead of being kept open or mapped, unless it
/// holds tensors: a folder may hold more such files than there are file handles.
const KEEP_OPEN_FROM: u64 = 1 << 20;

/// File that is opened when it is first read.
#[derive(Debug)]
pub(crate) struct LazyFile {
    path: PathBuf,
    /// Name in errors.
    name: String,
    /// Stamp of the file when the model was opened.
    stamp: FileStamp,
    mmap: bool,
    keep: bool,
    opened: OnceLock<Opened>,
    /// Whether anything of the file was ever read.
    used: AtomicBool,
}

#[derive(Debug)]
enum Opened {
    #[cfg(feature = "mmap")]
    Mapped(Map),
    File(FileSource),
}

impl LazyFile {
    /// Describes the file at `path`.
    ///
    /// It has the stamp `stamp` and is called `name` in errors.
    pub(crate) fn new(
        path: PathBuf,
        name: String,
        stamp: FileStamp,
        mmap: bool,
        holds_tensors: bool,
    ) -> Self {
        LazyFile {
            path,
            name,
            mmap: mmap && !stamp.is_empty(),
            keep: holds_tensors || stamp.len() >= KEEP_OPEN_FROM,
            stamp,
            opened: OnceLock::new(),
            used: AtomicBool::new(false),
        }
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> Result<File> {
        self.used.store(true, Ordering::Relaxed);
        let file = open_file(&self.path)?;
        let now = file.metadata().map_err(|e| Error::io("cannot read the file's length", e))?;
        self.stamp.check(&now)?;
        Ok(file)
    }

    fn opened(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = self.open_kept()?;
        // Another thread may have been quicker; then its handle is used and this one closed.
        Ok(self.opened.get_or_init(|| opened))
    }

    fn open_kept(&self) -> Result<Opened> {
        let file = self.open()?;
        #[cfg(feature = "mmap")]
        if self.mmap {
            // Some file systems cannot map, and address space may be short: then read by position.
            if let Ok(map) = Map::new(&file) {
                return Ok(Opened::Mapped(map));
            }
        }
        Ok(Opened::File(FileSource::new(file)?))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if out.is_empty() && offset <= self.byte_len() {
            return Ok(());
        }
        if !self.keep {
            return FileSource::new(self.open()?)?.read_exact_at(offset, out);
        }
        match self.opened()? {
            #[cfg(feature = "mmap")]
            Opened::Mapped(map) => map.bytes().read_exact_at(offset, out),
            Opened::File(file) => file.read_exact_at(offset, out),
        }
    }
}

/// Bytes of a model's file, on disk or elsewhere.
pub(crate) enum FileBytes {
    Disk(LazyFile),
    Elsewhere(Box<dyn ByteSource>),
}

impl FileBytes {
    /// Returns the path of a file on disk.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            FileBytes::Disk(file) => Some(file.path()),
            FileBytes::Elsewhere(_) => None,
        }
    }

    fn source(&self) -> &dyn ByteSource {
        match self {
            FileBytes::Disk(file) => file,
            FileBytes::Elsewhere(source) => source,
        }
    }
}

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileBytes::Disk(file) => file.fmt(f),
            FileBytes::Elsewhere(source) => write!(f, "{} bytes elsewhere", source.byte_len()),
        }
    }
}

impl ByteSource for FileBytes {
    fn byte_len(&self) -> u64 {
        self.source().byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.source().read_exact_at(offset, out)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.source().slice(offset, len)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.source().check_unchanged()
    }
}

impl ByteSource for LazyFile {
    fn byte_len(&self) -> u64 {
        self.stamp.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.read(offset, out).map_err(|e| match e.kind() {
            // What was cut short under the reader ends too early; that it was cut says more.
            ErrorKind::Truncated | ErrorKind::InvalidInput => {
                match self.stamp.check_path(&self.path) {
                    Err(changed) => changed,
                    Ok(()) => e.in_file(&*self.name),
                }
            }
            _ => e.in_file(&*self.name),
        })
    }

    fn check_unchanged(&self) -> Result<()> {
        if self.used.load(Ordering::Relaxed) { self.stamp.check_path(&self.path) } else { Ok(()) }
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        if len == 0 && offset <= self.byte_len() {
            return Some(&[]);
        }
        if !(self.keep && self.mmap) {
            return None;
        }
        // An error here turns up, with its reason, in the read that follows.
        match self.opened().ok()? {
            #[cfg(feature = "mmap")]
            Opened::Mapped(map) => ByteSource::slice(map.bytes(), offset, len),
            Opened::File(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(path: &Path) -> FileStamp {
        FileStamp::of(&std::fs::metadata(path).unwrap())
    }

    #[test]
    fn all_ways_of_reading_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"0123456789").unwrap();
        for (mmap, tensors) in [(false, false), (false, true), (true, false), (true, true)] {
            let file = LazyFile::new(path.clone(), "f".into(), stamp(&path), mmap, tensors);
            assert_eq!(file.bytes_at(3, 4).unwrap(), &b"3456"[..]);
            assert_eq!(file.bytes_at(10, 0).unwrap(), &b""[..]);
            let e = file.read_exact_at(8, &mut [0; 3]).unwrap_err();
            assert_eq!((e.kind(), e.file()), (ErrorKind::Truncated, Some("f")));
            assert_eq!(
                file.slice(3, 4).is_some(),
                cfg!(feature = "mmap") && mmap && tensors,
                "{mmap} {tensors}"
            );
        }
    }

    #[test]
    fn changed_and_missing_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (mmap, tensors) in [(false, false), (false, true), (true, true)] {
            std::fs::write(&path, b"0123456789").unwrap();
            let file = LazyFile::new(path.clone(), "f".into(), stamp(&path), mmap, tensors);
            std::fs::remove_file(&path).unwrap();
            file.check_unchanged().unwrap();
            assert_eq!(file.bytes_at(0, 4).unwrap_err().kind(), ErrorKind::NotFound);
            std::fs::write(&path, b"012345678").unwrap();
            let e = file.bytes_at(0, 4).unwrap_err();
            assert!(e.to_string().contains("had 10 bytes, now it has 9"), "{e}");
            assert!(file.check_unchanged().is_err());
        }
    }

    #[test]
    fn a_file_cut_short_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for tensors in [false, true] {
            std::fs::write(&path, [7; 10_000]).unwrap();
            let file = LazyFile::new(path.clone(), "f".into(), stamp(&path), false, tensors);
            assert_eq!(file.bytes_at(9_000, 4).unwrap(), &[7; 4][..]);
            file.check_unchanged().unwrap();
            File::options().write(true).open(&path).unwrap().set_len(5_000).unwrap();
            let e = file.bytes_at(9_000, 4).unwrap_err();
            assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidInput, path.to_str()), "{e}");
            assert!(e.to_string().contains("had 10000 bytes, now it has 5000"), "{e}");
            assert!(file.check_unchanged().is_err());
        }
    }
}
