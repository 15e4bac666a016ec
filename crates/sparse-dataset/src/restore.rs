//! Writing a restored dataset to disk.

use crate::arrow::to_batch;
use crate::delta::DeltaDataset;
use crate::exact::{ExactFiles, Restyle, Style};
use crate::io::{FileWriter, Format};
use crate::manifest::{FileRows, SplitRecord};
use arrow_array::RecordBatch;
use sparse_core::{Error, Observer, Result};
use sparse_model::{AtomicDir, AtomicFile, Overwrite};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Rows. They were compared with their digests, or the bytes of their files were.
    pub rows: u64,
    /// Files written.
    pub files: u64,
    /// Whether the very bytes of the files came back.
    pub exact: bool,
}

/// Where files go.
pub(crate) enum Target<'a> {
    File(&'a AtomicFile),
    Folder(&'a AtomicDir),
}

impl<'a> Target<'a> {
    fn create(&self, relative: &str) -> Result<Box<dyn Write + Send + 'a>> {
        match self {
            Target::File(f) => Ok(Box::new(BufWriter::with_capacity(1 << 20, *f))),
            Target::Folder(folder) => {
                folder.create_file(relative, 0)?;
                let path = folder.temporary_path().join(relative);
                let f = File::options()
                    .write(true)
                    .open(&path)
                    .map_err(|e| Error::io("cannot write", e).in_file(relative))?;
                Ok(Box::new(BufWriter::with_capacity(1 << 20, f)))
            }
        }
    }
}

impl DeltaDataset<'_> {
    /// Write the derivative to `out`: a file if it was one, else a folder with the same files, row for row. Parquet files
    /// are written by this program's writer: values are the same, bytes are not. With `format`, all data files have that
    /// format. Without, a delta that was made with [`Options::exact`](crate::Options::exact) brings the very files back.
    ///
    /// Nothing appears at `out` before all rows, or all bytes of exact files, are compared with their digests.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); `AlreadyExists`; `InvalidArgument` when the format cannot hold a type; `Io`.
    pub fn write(
        &self,
        out: impl AsRef<Path>,
        format: Option<Format>,
        overwrite: Overwrite,
        observer: &dyn Observer,
    ) -> Result<RestoreReport> {
        let out = out.as_ref();
        let splits = &self.delta.manifest.splits;
        observer.begin("write the derivative", self.delta.decoded_bytes());
        let single = self.delta.is_single_file() && splits.iter().map(|s| s.files.len()).sum::<usize>() == 1;
        let report = if single {
            let file = AtomicFile::create(out, overwrite)?;
            let report = self.write_to(&Target::File(&file), format, observer)?;
            file.commit()?;
            report
        } else {
            let folder = AtomicDir::create(out, overwrite)?;
            let report = self.write_to(&Target::Folder(&folder), format, observer)?;
            folder.commit()?;
            report
        };
        observer.end();
        Ok(report)
    }

    fn write_to(
        &self,
        target: &Target<'_>,
        format: Option<Format>,
        observer: &dyn Observer,
    ) -> Result<RestoreReport> {
        let mut report = RestoreReport::default();
        if format.is_some() || !self.delta.is_exact() {
            self.write_splits(target, format, &BTreeMap::new(), &mut report, observer)?;
            return Ok(report);
        }
        let files = ExactFiles::new(self, observer)?;
        for (i, f) in self.delta.manifest.exact.iter().enumerate() {
            let mut out = target.create(&f.path)?;
            files.restore(i, &mut out)?;
            out.flush().map_err(|e| Error::io("cannot write", e).in_file(f.path.clone()))?;
            report.files += 1;
        }
        report.rows = self.delta.manifest.splits.iter().map(SplitRecord::rows).sum();
        report.exact = true;
        Ok(report)
    }

    /// Write the files of all splits, text files in the styles given by path.
    pub(crate) fn write_splits(
        &self,
        target: &Target<'_>,
        format: Option<Format>,
        styles: &BTreeMap<String, Style>,
        report: &mut RestoreReport,
        observer: &dyn Observer,
    ) -> Result<()> {
        for (i, split) in self.delta.manifest.splits.iter().enumerate() {
            let mut files = Files::new(target, format, split, styles, report);
            files.advance()?;
            self.each_group(i, observer, |block| files.rows(&to_batch(&split.schema, &block)?))?;
            files.end()?;
        }
        Ok(())
    }
}

/// The files of a split, one after the other.
pub(crate) struct Files<'a> {
    target: &'a Target<'a>,
    format: Option<Format>,
    split: &'a SplitRecord,
    styles: &'a BTreeMap<String, Style>,
    next: usize,
    open: Option<(FileWriter<Box<dyn Write + Send + 'a>>, u64)>,
    report: &'a mut RestoreReport,
}

impl<'a> Files<'a> {
    pub(crate) fn new(
        target: &'a Target<'a>,
        format: Option<Format>,
        split: &'a SplitRecord,
        styles: &'a BTreeMap<String, Style>,
        report: &'a mut RestoreReport,
    ) -> Files<'a> {
        Files { target, format, split, styles, next: 0, open: None, report }
    }

    /// Close the open file when it is full, and open the next, until one has room.
    pub(crate) fn advance(&mut self) -> Result<()> {
        loop {
            match self.open.take() {
                Some(open) if open.1 > 0 => {
                    self.open = Some(open);
                    return Ok(());
                }
                Some((writer, _)) => writer.finish()?,
                None => {}
            }
            let Some(file) = self.split.files.get(self.next) else { return Ok(()) };
            self.next += 1;
            self.report.files += 1;
            let format = self.format.unwrap_or(file.format);
            let style = self.styles.get(&file.path).copied().unwrap_or_default();
            let out = Box::new(Restyle::new(self.create(file, format)?, style));
            let writer = FileWriter::new(out as _, format, &self.split.schema, style.nulls)?;
            self.open = Some((writer, file.rows));
        }
    }

    fn create(&self, file: &FileRows, format: Format) -> Result<Box<dyn Write + Send + 'a>> {
        let mut relative = file.path.clone();
        if format != file.format {
            let stem = relative.rsplit_once('.').map_or(&*relative, |s| s.0);
            relative = format!("{stem}.{}", format.extension());
        }
        self.target.create(&relative)
    }

    pub(crate) fn rows(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            self.advance()?;
            let Some((writer, left)) = &mut self.open else {
                return Err(Error::corrupt("more rows than the files have"));
            };
            let n = usize::try_from(*left).unwrap_or(usize::MAX).min(batch.num_rows() - at);
            writer.write(&batch.slice(at, n))?;
            *left -= n as u64;
            at += n;
            self.report.rows += n as u64;
        }
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        self.advance()?;
        match self.open.take() {
            Some((writer, 0)) => writer.finish(),
            None => Ok(()),
            Some(_) => Err(Error::corrupt("fewer rows than the files have")),
        }
    }
}
