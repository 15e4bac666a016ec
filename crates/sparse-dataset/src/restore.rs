//! Writing a restored dataset to disk.

use crate::arrow::to_batch;
use crate::delta::DeltaDataset;
use crate::io::{FileWriter, Format};
use crate::manifest::{FileRows, SplitRecord};
use arrow_array::RecordBatch;
use sparse_core::{Error, Observer, Result};
use sparse_model::{AtomicDir, AtomicFile, Overwrite};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Rows, all of them compared with their digests.
    pub rows: u64,
    /// Files written.
    pub files: u64,
}

/// Where files go.
enum Target<'a> {
    File(&'a AtomicFile),
    Folder(&'a AtomicDir),
}

impl DeltaDataset<'_> {
    /// Write the derivative to `out`: a file if it was one, else a folder with the same files, row for row. Parquet files
    /// are written by this program's writer: values are the same, bytes are not. With `format`, all files have that
    /// format.
    ///
    /// Nothing appears at `out` before all rows are compared with their digests.
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
            let report = self.write_splits(&Target::File(&file), format, observer)?;
            file.commit()?;
            report
        } else {
            let folder = AtomicDir::create(out, overwrite)?;
            let report = self.write_splits(&Target::Folder(&folder), format, observer)?;
            folder.commit()?;
            report
        };
        observer.end();
        Ok(report)
    }

    fn write_splits(
        &self,
        target: &Target<'_>,
        format: Option<Format>,
        observer: &dyn Observer,
    ) -> Result<RestoreReport> {
        let mut report = RestoreReport::default();
        for (i, split) in self.delta.manifest.splits.iter().enumerate() {
            let mut files = Files { target, format, split, next: 0, open: None, report: &mut report };
            files.advance()?;
            self.each_group(i, observer, |block| files.rows(&to_batch(&split.schema, &block)?))?;
            files.end()?;
        }
        Ok(report)
    }
}

/// The files of a split, one after the other.
struct Files<'a> {
    target: &'a Target<'a>,
    format: Option<Format>,
    split: &'a SplitRecord,
    next: usize,
    open: Option<(FileWriter<Box<dyn std::io::Write + Send + 'a>>, u64)>,
    report: &'a mut RestoreReport,
}

impl<'a> Files<'a> {
    /// Close the open file when it is full, and open the next, until one has room.
    fn advance(&mut self) -> Result<()> {
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
            let writer = FileWriter::new(self.create(file, format)?, format, &self.split.schema)?;
            self.open = Some((writer, file.rows));
        }
    }

    fn create(&self, file: &FileRows, format: Format) -> Result<Box<dyn std::io::Write + Send + 'a>> {
        match self.target {
            Target::File(f) => Ok(Box::new(BufWriter::with_capacity(1 << 20, *f))),
            Target::Folder(folder) => {
                let mut relative = file.path.clone();
                if format != file.format {
                    let stem = relative.rsplit_once('.').map_or(&*relative, |s| s.0);
                    relative = format!("{stem}.{}", format.extension());
                }
                folder.create_file(&relative, 0)?;
                let path = folder.temporary_path().join(&relative);
                let f = File::options()
                    .write(true)
                    .open(&path)
                    .map_err(|e| Error::io("cannot write", e).in_file(relative))?;
                Ok(Box::new(BufWriter::with_capacity(1 << 20, f)))
            }
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<()> {
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

    fn end(&mut self) -> Result<()> {
        self.advance()?;
        match self.open.take() {
            Some((writer, 0)) => writer.finish(),
            None => Ok(()),
            Some(_) => Err(Error::corrupt("fewer rows than the files have")),
        }
    }
}
