//! Writing a restored dataset to disk, or nowhere.

use crate::arrow::Dictionaries;
use crate::dataset::or_changed;
use crate::delta::DeltaDataset;
use crate::details::FileDetails;
use crate::exact::{ContentWatch, ExactFiles, Restyle, Style};
use crate::form::WrittenForm;
use crate::io::{FileWriter, Format, Purpose, Said};
use crate::manifest::{FileRows, SplitRecord};
use crate::table::Block;
use sparse_container::ContentHash;
use sparse_core::{Error, Limits, Observer, Result};
use sparse_output::{AtomicDir, AtomicFile, Overwrite};
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
    /// The SHA-256 of the files, if the delta records one or one was expected; it was compared.
    pub content: Option<ContentHash>,
}

/// Where files go.
pub(crate) enum Target<'a> {
    File(&'a AtomicFile),
    Folder(&'a AtomicDir),
    /// They are written, to find out whether they can be, and not kept.
    Nowhere,
}

impl<'a> Target<'a> {
    fn purpose(&self) -> Purpose {
        match self {
            Target::Nowhere => Purpose::Trial,
            Target::File(_) | Target::Folder(_) => Purpose::Use,
        }
    }

    fn create(&self, relative: &str) -> Result<Box<dyn Write + Send + 'a>> {
        match self {
            Target::Nowhere => Ok(Box::new(std::io::sink())),
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
    /// Write the derivative to `out`: a file if it was one, else a folder with the same files, row
    /// for row. Parquet files are written by this program's writer: values are the same, bytes are
    /// not. With `format`, all data files have that format. Without, a delta that was made with
    /// [`Options::exact`](crate::Options::exact) brings the very files back.
    ///
    /// Nothing appears at `out` before all rows, or all bytes of exact files, are compared with
    /// their digests. What would take more than `limits.max_output_bytes`, counted by its exact
    /// files or else by its cells, is refused before it is begun.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); `AlreadyExists`; `InvalidArgument` when the format cannot hold
    /// a type; `Io`.
    pub fn write(
        &self,
        out: impl AsRef<Path>,
        format: Option<Format>,
        overwrite: Overwrite,
        observer: &dyn Observer,
    ) -> Result<RestoreReport> {
        let out = out.as_ref();
        let splits = &self.delta.manifest.splits;
        let limit = self.options.limits.max_output_bytes;
        Limits::check("the restored dataset", self.delta.output_bytes(), limit)?;
        observer.begin("write the derivative", self.delta.decoded_bytes());
        let single =
            self.delta.is_single_file() && splits.iter().map(|s| s.files.len()).sum::<usize>() == 1;
        let report = if single {
            let file = AtomicFile::create(out, overwrite)?;
            let report = or_changed(
                self.write_to(&Target::File(&file), format, observer),
                &[&self.dataset],
            )?;
            file.commit()?;
            report
        } else {
            let folder = AtomicDir::create(out, overwrite)?;
            let report = or_changed(
                self.write_to(&Target::Folder(&folder), format, observer),
                &[&self.dataset],
            )?;
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
        let exact = self.delta.is_exact() && format.is_none();
        let mut watch = ContentWatch::new(self.delta, exact, &self.options)?;
        if !exact {
            self.write_splits(target, format, &BTreeMap::new(), &mut report, observer)?;
        }
        if format.is_some() || self.delta.manifest.exact.is_empty() {
            return Ok(report);
        }
        let files = ExactFiles::new(self, observer)?;
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
            let details = self.details.get(i).map_or(&[][..], |d| d);
            let mut files = Files::new(target, format, (split, details), styles, report);
            files.old_json = self.delta.manifest.old_json;
            files.advance()?;
            self.each_group(i, observer, |block| files.rows(&block))?;
            files.end()?;
        }
        Ok(())
    }
}

/// A file in the making.
struct OpenFile<'a> {
    writer: FileWriter<Box<dyn Write + Send + 'a>>,
    /// Rows that are still to come.
    left: u64,
    form: WrittenForm,
    /// Dictionaries that go on from batch to batch, where the format has one for all of them.
    dictionaries: Option<Dictionaries>,
}

/// The files of a split, one after the other.
pub(crate) struct Files<'a> {
    target: &'a Target<'a>,
    format: Option<Format>,
    split: &'a SplitRecord,
    details: &'a [FileDetails],
    styles: &'a BTreeMap<String, Style>,
    /// Whether JSON Lines are written as for deltas before layout 3.
    pub(crate) old_json: bool,
    next: usize,
    open: Option<OpenFile<'a>>,
    report: &'a mut RestoreReport,
}

impl<'a> Files<'a> {
    pub(crate) fn new(
        target: &'a Target<'a>,
        format: Option<Format>,
        (split, details): (&'a SplitRecord, &'a [FileDetails]),
        styles: &'a BTreeMap<String, Style>,
        report: &'a mut RestoreReport,
    ) -> Files<'a> {
        Files {
            target,
            format,
            split,
            details,
            styles,
            old_json: false,
            next: 0,
            open: None,
            report,
        }
    }

    /// Close the open file when it is full, and open the next, until one has room.
    pub(crate) fn advance(&mut self) -> Result<()> {
        loop {
            match self.open.take() {
                Some(open) if open.left > 0 => {
                    self.open = Some(open);
                    return Ok(());
                }
                Some(open) => open.writer.finish()?,
                None => {}
            }
            let Some(file) = self.split.files.get(self.next) else { return Ok(()) };
            let details = self.details.get(self.next).cloned().unwrap_or_default();
            self.next += 1;
            self.report.files += 1;
            let format = self.format.unwrap_or(file.format);
            let style = self.styles.get(&file.path).copied().unwrap_or_default();
            let out = Box::new(Restyle::new(self.create(file, format)?, style));
            let form = WrittenForm::new(&self.split.schema, &details, format)?;
            let how = if self.old_json {
                Said::Old { nulls: style.nulls }
            } else {
                Said::Details { details: &details, native: format == file.format }
            };
            let writer =
                FileWriter::new(out as _, format, form.schema(), how, self.target.purpose())?;
            let go_on = format == Format::ArrowFile && Dictionaries::are_in(form.schema());
            let dictionaries = go_on.then(Dictionaries::default);
            self.open = Some(OpenFile { writer, left: file.rows, form, dictionaries });
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

    /// Write the rows of a row group to the files that they belong to.
    pub(crate) fn rows(&mut self, block: &Block) -> Result<()> {
        let mut at = 0;
        while at < block.rows {
            self.advance()?;
            let Some(open) = &mut self.open else {
                return Err(Error::corrupt("more rows than the files have"));
            };
            let n = usize::try_from(open.left).unwrap_or(usize::MAX).min(block.rows - at);
            for batch in open.form.batches(block, at, n, open.dictionaries.as_mut())? {
                open.writer.write(&batch)?;
            }
            open.left -= n as u64;
            at += n;
            self.report.rows += n as u64;
        }
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        self.advance()?;
        match self.open.take() {
            Some(open) if open.left == 0 => open.writer.finish(),
            None => Ok(()),
            Some(_) => Err(Error::corrupt("fewer rows than the files have")),
        }
    }
}
