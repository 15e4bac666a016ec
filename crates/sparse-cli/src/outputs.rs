//! Outputs of commands: paths, and objects in stores.

use crate::failure::Failure;
use crate::session::Session;
use sparse::{Error, ErrorKind, Overwrite};
use sparse_remote::{Location, ObjectName, RepoKind};
use std::path::{Path, PathBuf};

/// Returns the name to restore to if the command line gives none: the last part of the name that
/// the delta records for what was compressed, in the current folder.
///
/// # Errors
/// `InvalidArgument` when nothing fit for a name is recorded: a delta may come from a stranger.
pub(crate) fn restored_name(given: Option<PathBuf>, recorded: &str) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    let name = match Location::parse(recorded, RepoKind::Model) {
        Ok(Location::Hub(hub)) => hub.file.unwrap_or(hub.id),
        Ok(Location::Http(url)) => url.file_name(),
        _ => recorded.replace('\\', "/"),
    };
    let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if name.starts_with('.') || sparse_core::check_output_path(name).is_err() {
        return Err(Failure::Usage("the delta records no name to restore to: give -o".to_owned()));
    }
    Ok(name.into())
}

/// Where a command writes.
pub(crate) struct Output {
    path: PathBuf,
    overwrite: Overwrite,
    upload: Option<Upload>,
}

/// What becomes of a file that is to be an object.
struct Upload {
    name: ObjectName,
    #[cfg(feature = "object-store")]
    writer: sparse_remote::ObjectWriter,
}

impl Session {
    /// Prepares to write to `name`; `force` is whether what is there may be replaced.
    ///
    /// # Errors
    /// `InvalidArgument` for names that cannot be written to, such as a device's: nobody means to
    /// replace `/dev/null`; `AlreadyExists` for an object that may not be replaced.
    pub(crate) fn output(&self, name: &Path, force: bool) -> Result<Output, Failure> {
        let refuse = |what: &str| {
            let e = Error::new(ErrorKind::InvalidArgument, what.to_owned());
            Err(e.in_file(sparse_open::shown(name)).into())
        };
        if name == Path::new("-") {
            return refuse(
                "nothing is written to standard output: give a path (./- for this name)",
            );
        }
        let location = match name.to_str() {
            // A bare name is a path here, whatever it could be elsewhere.
            Some(text) if text.contains("://") => Location::parse(text, RepoKind::Model)?,
            _ => Location::Path(name.to_owned()),
        };
        match location {
            Location::Path(path) => {
                if std::fs::metadata(&path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
                    return refuse("there is a device, pipe or socket");
                }
                let overwrite = if force { Overwrite::Replace } else { Overwrite::Refuse };
                Ok(Output { path, overwrite, upload: None })
            }
            Location::Object(_) if name.to_string_lossy().ends_with('/') => {
                refuse("that would be a folder: name the object, as s3://bucket/folder/my.sparse")
            }
            Location::Object(name) => self.object_output(name, force),
            Location::Hub(_) => refuse("write to a path, then publish that with `sparse push`"),
            _ => refuse("nothing is written there: give a path or an object of a store (s3://)"),
        }
    }

    #[cfg(feature = "object-store")]
    fn object_output(&self, name: ObjectName, force: bool) -> Result<Output, Failure> {
        let bucket = sparse_remote::Bucket::open(&name)?.with_cancel(self.cancel_token());
        let options = sparse_remote::WriteOptions::new().overwrite(force);
        let writer = bucket.write(&name.key, options)?;
        let path = self.opener().scratch()?.join(name.file_name());
        let upload = Some(Upload { name, writer });
        Ok(Output { path, overwrite: Overwrite::Refuse, upload })
    }

    /// Checks that this build and the environment lead to a store, and asks it nothing.
    ///
    /// # Errors
    /// `InvalidArgument` without stores in this build, and for settings that contradict each other.
    #[cfg(all(feature = "hub", feature = "object-store"))]
    pub(crate) fn check_object(&self, name: &ObjectName) -> Result<(), Failure> {
        Ok(sparse_remote::Bucket::open(name).map(drop)?)
    }

    #[cfg(all(feature = "hub", not(feature = "object-store")))]
    pub(crate) fn check_object(&self, name: &ObjectName) -> Result<(), Failure> {
        self.object_output(name.clone(), false).map(drop)
    }

    #[cfg(not(feature = "object-store"))]
    fn object_output(&self, name: ObjectName, _force: bool) -> Result<Output, Failure> {
        let e = "this build of sparse cannot write to object stores (feature object-store)";
        Err(Error::invalid_argument(e).in_file(name.to_string()).into())
    }
}

impl Output {
    /// Returns the path to write to, on this machine.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether what is at the path may be replaced.
    pub(crate) fn overwrite(&self) -> Overwrite {
        self.overwrite
    }

    /// Refuses to write a folder where only a file can appear whole.
    pub(crate) fn expect_file(&self, is_file: bool) -> Result<(), Failure> {
        match &self.upload {
            Some(upload) if !is_file => {
                let e = "a folder cannot appear whole in a store: restore to a path";
                Err(Error::invalid_argument(e).in_file(upload.name.to_string()).into())
            }
            _ => Ok(()),
        }
    }

    /// Makes what was written appear under the name that was given.
    ///
    /// # Errors
    /// What uploading reports; nothing is visible then.
    pub(crate) fn finish(self, session: &Session) -> Result<(), Failure> {
        let Some(upload) = self.upload else { return Ok(()) };
        upload.send(&self.path, session)
    }
}

impl Upload {
    #[cfg(feature = "object-store")]
    fn send(mut self, path: &Path, session: &Session) -> Result<(), Failure> {
        let source = sparse_core::FileSource::new(sparse_core::open_file(path)?)?;
        let phase = ("uploading", &session.cancel_token());
        let copied = sparse_remote::copy(&source, &mut self.writer, phase, &*session.progress);
        copied.map_err(|e| e.in_file(self.name.to_string()))?;
        self.writer.commit()?;
        let removed = std::fs::remove_file(path);
        removed.map_err(|e| Error::io("cannot remove", e).in_file(path.display().to_string()))?;
        Ok(())
    }

    #[cfg(not(feature = "object-store"))]
    fn send(self, _path: &Path, _session: &Session) -> Result<(), Failure> {
        let e = "this build of sparse cannot write to object stores (feature object-store)";
        Err(Error::invalid_argument(e).in_file(self.name.to_string()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_to_restore_to() {
        let name = |recorded: &str| restored_name(None, recorded).ok();
        for (recorded, want) in [
            ("finetuned", "finetuned"),
            ("data/tuned/", "tuned"),
            ("/data/train.parquet", "train.parquet"),
            ("hf://datasets/org/squad_v2@0123", "squad_v2"),
            ("hf://org/name@main/a/b.safetensors", "b.safetensors"),
            ("https://example.com/a/b.safetensors?…", "b.safetensors"),
            ("C:\\models\\tuned", "tuned"),
        ] {
            assert_eq!(name(recorded), Some(want.into()), "{recorded}");
        }
        for bad in ["", "/", "..", "a/..", ".ssh", "a\u{202e}b", "nul"] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert_eq!(restored_name(Some("out".into()), "x").ok(), Some("out".into()));
    }
}
