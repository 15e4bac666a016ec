//! Restoring a dataset to disk, or to nowhere.

use crate::dataset::or_changed;
use crate::delta::DeltaDataset;
use crate::exact::{ContentWatch, ExactFiles};
use crate::files::{Room, Target, Writing};
use crate::io::Format;
use crate::manifest::SplitRecord;
use sparse_container::ContentHash;
use sparse_core::{Error, Limits, Result};
use sparse_output::{AtomicDir, AtomicFile, Overwrite};
use std::io::Write;
use std::path::Path;

/// Extent of what was restored.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset, DatasetDelta, Verifier};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("d.sparse");
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// Compressor::new(&target).base(&base).exact(true).write(&path)?;
/// let report = Verifier::new(&DatasetDelta::open(&path)?).base(&base).verify()?;
/// assert!(report.exact && report.files == 1);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RestoreReport {
    /// Rows restored. They, or the bytes of their files, matched their digests.
    pub rows: u64,
    /// Files written, or that restoring would write.
    pub files: u64,
    /// Bytes of all cells, decoded.
    pub bytes: u64,
    /// Whether the files were restored bit for bit.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "exactness", serialize_with = "crate::serialise::exactness")
    )]
    pub exact: bool,
    /// SHA-256 of the files, if the delta records one or one was expected; it matched.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "sha256",
            serialize_with = "crate::serialise::text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub content: Option<ContentHash>,
}

impl DeltaDataset<'_> {
    /// Writes the derivative to `out`: a file if it was one, else a folder.
    ///
    /// Files have the same rows in the same order. They are written anew: values are the same,
    /// bytes are not. With `format`, all data files have that format. Without it, a delta that was
    /// made with [`Compressor::exact`](crate::Compressor::exact) restores the files bit for bit.
    ///
    /// Nothing appears at `out` before all rows, or all bytes of exact files, were compared with
    /// their digests. A delta that restores more than `limits.max_output_bytes`, counted in exact
    /// files or else in cells, is refused at the start; so are files that are written anew, as soon
    /// as they exceed it.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); `AlreadyExists`; `InvalidArgument` when the format cannot hold
    /// a type; `Io`.
    pub fn write(
        &self,
        out: impl AsRef<Path>,
        format: Option<Format>,
        overwrite: Overwrite,
    ) -> Result<RestoreReport> {
        let observer = self.observer;
        let out = out.as_ref();
        let splits = &self.delta.manifest.splits;
        let limit = self.settings.limits.max_output_bytes;
        Limits::check("the restored dataset", self.delta.output_bytes(), limit)?;
        observer.begin("write the derivative", self.delta.decoded_bytes());
        let data_files = splits.iter().map(|s| s.files.len()).sum::<usize>();
        // A file without rows comes back in an exact delta only.
        let single = self.delta.is_single_file() && (data_files == 1 || format.is_none());
        let report = if single {
            let file = AtomicFile::create(out, overwrite)?;
            let report = or_changed(self.write_to(&Target::File(&file), format), &[&self.dataset])?;
            file.commit()?;
            report
        } else {
            let folder = AtomicDir::create(out, overwrite)?;
            let report =
                or_changed(self.write_to(&Target::Folder(&folder), format), &[&self.dataset])?;
            folder.commit()?;
            report
        };
        observer.end();
        Ok(report)
    }

    fn write_to(&self, target: &Target<'_>, format: Option<Format>) -> Result<RestoreReport> {
        let bytes = self.delta.decoded_bytes();
        let mut report = RestoreReport { bytes, ..RestoreReport::default() };
        let exact = self.delta.is_exact() && format.is_none();
        let mut watch = self.watch(exact)?;
        if !exact {
            // Text can be much longer than its cells.
            let kept = self.delta.output_bytes().saturating_sub(bytes);
            let room = Room::new(self.settings.limits.max_output_bytes, kept);
            let writing = Writing::new(target, self.settings.executor()).in_format(format);
            let written = self.write_splits(&writing.within(&room));
            let written = written.map_err(|e| room.explain(e))?;
            (report.files, report.rows) = (written.files, written.rows);
        }
        if format.is_some() || self.delta.manifest.exact.is_empty() {
            return Ok(report);
        }
        let files = ExactFiles::new(self)?;
        for (i, f) in self.delta.manifest.exact.iter().enumerate() {
            let mut out = target.create(&f.path)?;
            files.restore_watched(i, &mut out, watch.as_mut())?;
            out.flush().map_err(|e| Error::io("cannot write", e).in_file(f.path.clone()))?;
            report.files += 1;
        }
        report.rows = self.delta.manifest.splits.iter().map(SplitRecord::rows).sum();
        report.exact = exact;
        report.content = watch.map(|w| w.finish(self.delta.is_single_file())).transpose()?;
        Ok(report)
    }

    /// Does all that [`write`](Self::write) does, except keeping the files: decodes all rows and
    /// exact files, compares them with their digests, and discards what it writes.
    ///
    /// # Errors
    /// `BaseMismatch` when the base is not the one that the delta was made against, `Corrupt` when
    /// the delta is damaged; `InvalidArgument` when a file's format cannot hold a type;
    /// `Cancelled`, `Io`.
    pub fn verify(&self) -> Result<RestoreReport> {
        or_changed(self.try_verify(), &[&self.dataset])
    }

    fn try_verify(&self) -> Result<RestoreReport> {
        let exact = self.delta.is_exact();
        let mut watch = self.watch(exact)?;
        self.observer.begin("verify", self.delta.decoded_bytes());
        let manifest = &self.delta.manifest;
        let files = (!manifest.exact.is_empty()).then(|| ExactFiles::new(self)).transpose()?;
        if !files.as_ref().is_some_and(ExactFiles::has_rows) {
            self.write_splits(&Writing::new(&Target::Nowhere, self.settings.executor()))?;
        }
        if let Some(files) = files {
            (0..manifest.exact.len())
                .try_for_each(|i| files.restore_watched(i, &mut std::io::sink(), watch.as_mut()))?;
        }
        let content = watch.map(|w| w.finish(self.delta.is_single_file())).transpose()?;
        self.observer.end();
        let data_files = manifest.splits.iter().map(|s| s.files.len()).sum::<usize>();
        let files = manifest.exact.len() + if exact { 0 } else { data_files };
        Ok(RestoreReport {
            rows: manifest.splits.iter().fold(0, |sum, s| sum.saturating_add(s.rows())),
            files: files as u64,
            bytes: self.delta.decoded_bytes(),
            exact,
            content,
        })
    }

    /// Returns a watch on the SHA-256 of the files, if it is recorded or expected, and files are
    /// `exact`.
    fn watch(&self, exact: bool) -> Result<Option<ContentWatch>> {
        let carried = if exact { self.delta.content_hash()? } else { None };
        ContentWatch::new(carried, exact, self.settings.expected_content)
    }
}
