//! Output that appears complete or not at all.
//!
//! * [`AtomicFile`] and [`AtomicDir`] write a file or a folder under a temporary name beside it
//!   (`.<name>.<pid>.<random>.partial`), flush it to the disk, and rename it. A crash leaves the
//!   temporary behind, never half a result under the final name.
//! * [`ScratchDir`] is a private folder for intermediate files.
//! * [`ensure_own_folder`] and [`open_unfollowed`] are for folders that programs share with nobody
//!   but their user; [`AtomicDir::share_file`] makes a file of another without copying it.
//! * [`refuse_inside`] keeps outputs away from inputs; [`abandon_outputs`] removes every temporary
//!   of a process that is about to end.
//!
//! `tempfile` makes the names and removes what is dropped. This crate adds what outputs need
//! besides: a temporary is locked while its writer lives (on Unix, where the file system has
//! locks), and the next output of the same name removes what is there and not locked. Only its
//! writer may read a temporary; what is finished gets the permissions of what it replaces, or those
//! that the umask leaves.
//!
//! ```
//! use sparse_output::{AtomicFile, Overwrite};
//! use std::io::Write;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("report.txt");
//! let mut file = AtomicFile::create(&path, Overwrite::Refuse)?;
//! file.write_all(b"complete").unwrap();
//! assert!(!path.exists());
//! file.commit()?;
//! assert_eq!(std::fs::read(&path).unwrap(), b"complete");
//! # Ok::<(), sparse_core::Error>(())
//! ```

#![forbid(unsafe_code)]

mod dir;
mod file;
mod living;
mod mode;
mod own;
mod remove;
mod scratch;
mod share;
mod temp;

pub use dir::{AtomicDir, OutputFile};
pub use file::AtomicFile;
pub use living::abandon_outputs;
pub use own::{ensure_own_folder, open_unfollowed};
pub use scratch::ScratchDir;
pub use share::Sharing;

use sparse_core::{Error, ErrorKind, Result};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Behaviour when the output exists.
///
/// # Examples
///
/// ```
/// use sparse_core::ErrorKind;
/// use sparse_output::{AtomicFile, Overwrite};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("report.txt");
/// std::fs::write(&path, "old").unwrap();
/// let refused = AtomicFile::create(&path, Overwrite::Refuse).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overwrite {
    /// Reports `AlreadyExists`.
    #[default]
    Refuse,
    /// Replaces it, once the new output is complete.
    Replace,
}

/// Checks that writing to `output` touches none of `inputs`: it must not be, contain, or lie inside
/// any of them, links resolved. An output that does not exist yet is taken where it would be.
///
/// # Errors
/// `InvalidArgument`, naming both; `Io` or `NotFound` when a path cannot be resolved.
pub fn refuse_inside<P: AsRef<Path>>(output: impl AsRef<Path>, inputs: &[P]) -> Result<()> {
    let output = output.as_ref();
    let real_output = resolve_output(output)?;
    for input in inputs {
        let input = input.as_ref();
        let real = std::fs::canonicalize(input).map_err(|e| {
            Error::io("cannot resolve the input's path", e).in_file(input.display().to_string())
        })?;
        let how = if real == real_output {
            "is"
        } else if real_output.starts_with(&real) {
            "lies inside"
        } else if real.starts_with(&real_output) {
            "contains"
        } else {
            continue;
        };
        return Err(Error::invalid_argument(format!(
            "the output {how} the input {}: write it elsewhere",
            real.display()
        ))
        .in_file(output.display().to_string()));
    }
    Ok(())
}

/// Resolves the canonical path of something that may not exist yet.
fn resolve_output(path: &Path) -> Result<PathBuf> {
    let error =
        |e| Error::io("cannot resolve the output's path", e).in_file(path.display().to_string());
    if path.as_os_str().is_empty() {
        return Err(Error::invalid_argument("the name of the output is empty"));
    }
    let mut missing = Vec::new();
    let mut at = std::path::absolute(path).map_err(error)?;
    loop {
        match std::fs::canonicalize(&at) {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |p, name| p.join(name))),
            // A link to nothing must not pass for something that is not there.
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && std::fs::symlink_metadata(&at).is_err() =>
            {
                let Some(name) = at.file_name() else {
                    return Err(Error::invalid_argument(
                        "the path has `..` below a folder that \
                        does not exist",
                    )
                    .in_file(path.display().to_string()));
                };
                missing.push(name.to_owned());
                if !at.pop() {
                    return Err(error(e));
                }
            }
            Err(e) => return Err(error(e)),
        }
    }
}

fn already_exists(path: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "it exists already, and overwriting was not asked for")
        .in_file(path.display().to_string())
}

/// Writes all of `bytes` at `offset`; safe to call from many threads.
fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let (mut offset, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = bytes.get(n..).unwrap_or_default();
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Makes a folder's entries durable. Only Unix has a way to ask for that.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        match File::open(path)?.sync_all() {
            // Some network file systems do not sync folders.
            Err(e)
                if e.kind() == io::ErrorKind::InvalidInput
                    || e.kind() == io::ErrorKind::Unsupported =>
            {
                Ok(())
            }
            other => other,
        }
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn outputs_keep_away_from_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let p = |s: &str| dir.path().join(s);
        fs::create_dir_all(p("models/base/sub")).unwrap();
        fs::write(p("models/file.safetensors"), b"").unwrap();
        let inputs = [p("models/base"), p("models/file.safetensors")];
        for bad in [
            "models/base",
            "models/base/new",
            "models/base/new/deep",
            "models",
            "models/file.safetensors",
            ".",
        ] {
            let e = refuse_inside(p(bad), &inputs).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}: {e}");
        }
        for good in ["models/base2", "models/new", "new/deep", "models/base/../other"] {
            refuse_inside(p(good), &inputs).unwrap();
        }
        refuse_inside("relative-and-new", &inputs).unwrap();
        assert!(refuse_inside(p("missing/../../models/base"), &inputs).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_hide_inputs() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let p = |s: &str| dir.path().join(s);
        fs::create_dir_all(p("base")).unwrap();
        symlink(p("base"), p("link")).unwrap();
        symlink(p("nothing"), p("dangling")).unwrap();
        assert!(refuse_inside(p("link/new"), &[p("base")]).is_err());
        assert!(refuse_inside(p("base"), &[p("link")]).is_err());
        assert!(refuse_inside(p("dangling"), &[p("base")]).is_err());
        assert!(refuse_inside(p("dangling/new"), &[p("base")]).is_err());
    }
}
