//! An open delta file.

use crate::attributes::{ADAPTER, CONTENT, DATASET, SINGLE_FILE, TARGET_KIND};
use crate::{Codecs, ContentHash};
use sparse_container::{Entry, EntryKind, Index, Reader};
use sparse_core::{ByteSource, Error, ErrorKind, FileSource, FileStamp, Limits, Result, open_file};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Open delta file, with the codecs to decode it.
///
/// Opening reads and checks the index, not the payload. A delta with codecs that `codecs` lacks
/// can be opened and [inspected](crate::inspect); restoring from it is an error.
///
/// # Examples
/// ```
/// use sparse::Delta;
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let delta = Delta::open(path)?;
/// assert_eq!(delta.index().files.len(), 7);
/// assert!(!delta.is_adapter() && !delta.is_single_file());
/// # Ok::<(), sparse::Error>(())
/// ```
pub struct Delta {
    reader: Reader<Arc<dyn ByteSource>>,
    codecs: Codecs,
    path: Option<PathBuf>,
    /// What errors call it.
    place: Option<String>,
    /// As the file was when it was opened by path.
    stamp: Option<FileStamp>,
}

impl Delta {
    /// Opens the delta file at `path`.
    ///
    /// With all codecs of this build and the default limits.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Delta> {
        Delta::open_with(path, Codecs::default(), &Limits::default())
    }

    /// Opens the delta file at `path` with these codecs and limits.
    ///
    /// # Errors
    /// With the path: `NotFound` or `Io` when it cannot be read, `NotThisFormat`,
    /// `UnsupportedVersion`, `Truncated`, `Corrupt`, `InvalidInput` (for a path in it that leaves
    /// the folder), `LimitExceeded`.
    pub fn open_with(path: impl AsRef<Path>, codecs: Codecs, limits: &Limits) -> Result<Delta> {
        let path = path.as_ref();
        let open = || {
            if path.is_dir() {
                return Err(Error::new(ErrorKind::NotThisFormat, "it is a folder, not a delta"));
            }
            let source = FileSource::new(open_file(path)?)?;
            let stamp = source.stamp().clone();
            let delta = Delta::from_source(Box::new(source), codecs, limits)?;
            Ok(Delta { stamp: Some(stamp), ..delta })
        };
        let mut delta = open().map_err(|e: Error| e.in_file(path.display().to_string()))?;
        delta.path = Some(path.to_owned());
        Ok(delta.called(path.display().to_string()))
    }

    /// Opens a delta from anything that gives bytes by position.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with), without a path.
    pub fn from_source(
        source: Box<dyn ByteSource>,
        codecs: Codecs,
        limits: &Limits,
    ) -> Result<Delta> {
        let reader = Reader::open(Arc::from(source), limits)?;
        if reader.index().attributes.contains_key(&DATASET) {
            return Err(Error::new(
                ErrorKind::NotThisFormat,
                "it is a delta of a dataset, not of a model: use `sparse dataset-reconstruct`",
            ));
        }
        Ok(Delta { reader, codecs, path: None, place: None, stamp: None })
    }

    /// Returns the delta with `place` as what errors call it: a URL, for instance.
    #[must_use]
    pub fn called(self, place: impl Into<String>) -> Delta {
        Delta { place: Some(place.into()), ..self }
    }

    /// Returns the container underneath.
    pub fn reader(&self) -> &Reader<Arc<dyn ByteSource>> {
        &self.reader
    }

    /// Returns the index: what the delta holds.
    pub fn index(&self) -> &Index {
        self.reader.index()
    }

    /// Returns the codecs.
    pub fn codecs(&self) -> &Codecs {
        &self.codecs
    }

    /// Returns the file, if it was opened by path.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns true if the target was a single safetensors file, not a folder.
    pub fn is_single_file(&self) -> bool {
        let index = self.index();
        index.attributes.get(&TARGET_KIND).is_some_and(|v| v == SINGLE_FILE)
            && index.files.len() == 1
            && index.folders.is_empty()
    }

    /// Returns true if an adapter is restored and not a model.
    ///
    /// An adapter is to be merged into a base.
    pub fn is_adapter(&self) -> bool {
        self.index().attributes.contains_key(&ADAPTER)
    }

    /// Returns the SHA-256 of what the delta restores, if it records one.
    ///
    /// The delta alone does not prove it: compare it with one from somebody you trust, or let
    /// [`Verifier::expect_content`](crate::Verifier::expect_content) do so while restoring.
    ///
    /// # Errors
    /// `Corrupt` when it is not of 32 bytes.
    pub fn content_hash(&self) -> Result<Option<ContentHash>> {
        self.index()
            .attributes
            .get(&CONTENT)
            .map(|bytes| ContentHash::from_bytes(bytes))
            .transpose()
    }

    /// Checks that the delta is as it was when it was opened.
    ///
    /// Only as far as can be told without reading it.
    ///
    /// # Errors
    /// `InvalidInput`, with the path, saying how it changed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match (&self.stamp, &self.path) {
            (Some(stamp), Some(path)) => stamp.check_path(path),
            _ => self.reader.source().check_unchanged(),
        }
    }

    /// Adds the delta's path to an error.
    pub(crate) fn place(&self, e: Error) -> Error {
        match &self.place {
            Some(place) => e.in_file(place),
            None => e,
        }
    }

    /// Adds to an error what was being restored, and the delta's path.
    pub(crate) fn place_in(&self, e: Error, entry: &Entry) -> Error {
        self.place(match entry.kind {
            EntryKind::Tensor => e.in_tensor(&*entry.name),
            _ => e,
        })
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delta")
            .field("place", &self.place)
            .field("id", &self.reader.id())
            .field("codecs", &self.codecs)
            .finish_non_exhaustive()
    }
}
