//! Writing the rows of splits as data files, to disk or nowhere.

use crate::arrow::Dictionaries;
use crate::delta::DeltaDataset;
use crate::details::FileDetails;
use crate::exact::{Restyle, Style};
use crate::executor::lock;
use crate::form::WrittenForm;
use crate::io::{FileWriter, Format, How, Packer, Packing, Purpose, Said};
use crate::manifest::{FileRows, SplitRecord};
use crate::table::Block;
use sparse_core::{Error, ErrorKind, Executor, Result};
use sparse_output::{AtomicDir, AtomicFile};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex};

/// Destination of the files.
pub(crate) enum Target<'a> {
    File(&'a AtomicFile),
    Folder(&'a AtomicDir),
    /// Nowhere: files are written, which proves that they can be, and discarded.
    Nowhere,
}

impl<'a> Target<'a> {
    fn purpose(&self) -> Purpose {
        match self {
            Target::Nowhere => Purpose::Trial,
            Target::File(_) | Target::Folder(_) => Purpose::Use,
        }
    }

    /// Begins a file at a path in the folder.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn create(&self, relative: &str) -> Result<Box<dyn Write + Send + 'a>> {
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

/// Settings for writing the files of splits.
#[derive(Clone)]
pub(crate) struct Writing<'a> {
    target: &'a Target<'a>,
    /// Format of all files; `None` for each file's own.
    format: Option<Format>,
    /// Styles of text files, by path.
    styles: &'a BTreeMap<String, Style>,
    /// Whether JSON Lines are written as for deltas before layout 3.
    old_json: bool,
    /// Runs the work that is parallel.
    executor: Arc<dyn Executor>,
    /// Limit of the bytes of all files together.
    room: Option<&'a Room>,
    /// Whether text is compressed as the file's details say.
    packed: bool,
}

static NO_STYLES: BTreeMap<String, Style> = BTreeMap::new();

impl<'a> Writing<'a> {
    /// Writes in each file's own format, text in this program's style.
    pub(crate) fn new(target: &'a Target<'a>, executor: Arc<dyn Executor>) -> Writing<'a> {
        Writing {
            target,
            format: None,
            styles: &NO_STYLES,
            old_json: false,
            executor,
            room: None,
            packed: true,
        }
    }

    /// Writes all files in this format, if there is one.
    pub(crate) fn in_format(self, format: Option<Format>) -> Writing<'a> {
        Writing { format, ..self }
    }

    /// Writes no more than there is room for.
    pub(crate) fn within(self, room: &'a Room) -> Writing<'a> {
        Writing { room: Some(room), ..self }
    }

    /// Writes text files in these styles, by path, and without compression.
    pub(crate) fn styled(self, styles: &'a BTreeMap<String, Style>) -> Writing<'a> {
        Writing { styles, packed: false, ..self }
    }
}

/// Budget of bytes for all files together.
#[derive(Debug)]
pub(crate) struct Room {
    limit: u64,
    /// Bytes left; `None` once they did not suffice.
    left: Mutex<Option<u64>>,
}

impl Room {
    /// Creates a budget of `limit` bytes, of which `taken` are spent.
    pub(crate) fn new(limit: u64, taken: u64) -> Room {
        Room { limit, left: Mutex::new(limit.checked_sub(taken)) }
    }

    /// Spends some bytes; returns false if too few are left.
    fn take(&self, bytes: usize) -> bool {
        let mut left = lock(&self.left);
        *left = left.and_then(|left| left.checked_sub(bytes as u64));
        left.is_some()
    }

    /// Replaces `error` by that of the limit if it was exceeded: writers of formats hide the errors
    /// of the stream below them.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if lock(&self.left).is_some() {
            return error;
        }
        let text =
            format!("the restored dataset: files have more than {0} bytes, limit {0}", self.limit);
        Error::new(ErrorKind::LimitExceeded, text)
    }
}

/// Writes within a room.
struct Limited<'a> {
    out: Box<dyn Write + Send + 'a>,
    room: &'a Room,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.room.take(bytes.len()) {
            true => self.out.write_all(bytes).map(|()| bytes.len()),
            false => Err(std::io::Error::other("the limit of the output is reached")),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Amounts written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) files: u64,
    pub(crate) rows: u64,
}

impl DeltaDataset<'_> {
    /// Decodes all rows, and writes the files of all splits.
    pub(crate) fn write_splits(&self, writing: &Writing<'_>) -> Result<Written> {
        let mut sum = Written::default();
        for (i, split) in self.delta.manifest.splits.iter().enumerate() {
            let details = self.details.get(i).map_or(&[][..], |d| d);
            let old_json = self.delta.manifest.old_json;
            let mut files = Files::new(Writing { old_json, ..writing.clone() }, split, details);
            files.advance()?;
            self.each_group(i, |block| files.rows(&block))?;
            let written = files.end()?;
            sum.files += written.files;
            sum.rows += written.rows;
        }
        Ok(sum)
    }
}

/// A file in the making.
struct OpenFile<'a> {
    writer: FileWriter<Box<dyn Write + Send + 'a>>,
    /// Compression below the writer, if the file has one.
    packer: Option<Packer<'a>>,
    /// Rows that are still to come.
    left: u64,
    form: WrittenForm,
    /// Dictionaries that batches continue, in formats with one dictionary for all batches.
    dictionaries: Option<Dictionaries>,
}

impl OpenFile<'_> {
    fn finish(self) -> Result<()> {
        self.writer.finish()?;
        self.packer.map_or(Ok(()), Packer::finish)
    }
}

/// The files of a split, one after the other.
pub(crate) struct Files<'a> {
    writing: Writing<'a>,
    split: &'a SplitRecord,
    details: &'a [FileDetails],
    next: usize,
    open: Option<OpenFile<'a>>,
    written: Written,
}

impl<'a> Files<'a> {
    pub(crate) fn new(
        writing: Writing<'a>,
        split: &'a SplitRecord,
        details: &'a [FileDetails],
    ) -> Files<'a> {
        Files { writing, split, details, next: 0, open: None, written: Written::default() }
    }

    /// Closes the open file when it is full, and opens the next, until one has room.
    pub(crate) fn advance(&mut self) -> Result<()> {
        loop {
            match self.open.take() {
                Some(open) if open.left > 0 => {
                    self.open = Some(open);
                    return Ok(());
                }
                Some(open) => open.finish()?,
                None => {}
            }
            let Some(file) = self.split.files.get(self.next) else { return Ok(()) };
            let details = self.details.get(self.next).cloned().unwrap_or_default();
            self.next += 1;
            self.written.files += 1;
            let format = self.writing.format.unwrap_or(file.format);
            let style = self.writing.styles.get(&file.path).cloned().unwrap_or_default();
            let mut out = self.create(file, details.text.packing)?;
            let mut packer = None;
            if self.packs() && details.text.packing != Packing::None {
                let compressed = Packer::new(out, details.text.packing)?;
                out = Box::new(compressed.clone());
                packer = Some(compressed);
            }
            let nulls = style.nulls;
            let out = Box::new(Restyle::new(out, style));
            let form = WrittenForm::new(&self.split.schema, &details, format)?;
            let said = if self.writing.old_json {
                Said::Old { nulls }
            } else {
                Said::Details { details: &details, native: format == file.format }
            };
            let executor = self.writing.executor.clone();
            let how = How { said, purpose: self.writing.target.purpose(), executor };
            let writer = FileWriter::new(out as _, format, form.schema(), &how)?;
            let go_on = format == Format::ArrowFile && Dictionaries::are_in(form.schema());
            let dictionaries = go_on.then(Dictionaries::default);
            self.open = Some(OpenFile { writer, packer, left: file.rows, form, dictionaries });
        }
    }

    /// Returns true if text is compressed: not for a trial, nor in a format that was asked for.
    fn packs(&self) -> bool {
        let Writing { target, format, packed, .. } = &self.writing;
        *packed && format.is_none() && target.purpose() == Purpose::Use
    }

    fn create(&self, file: &FileRows, packing: Packing) -> Result<Box<dyn Write + Send + 'a>> {
        let mut relative = file.path.clone();
        let format = self.writing.format.unwrap_or(file.format);
        if self.writing.format.is_some() && packing != Packing::None {
            relative = Packing::of_name(&relative).0.to_owned();
        }
        if format != file.format {
            let stem = relative.rsplit_once('.').map_or(&*relative, |s| s.0);
            relative = format!("{stem}.{}", format.extension());
        }
        let out = self.writing.target.create(&relative)?;
        Ok(match self.writing.room {
            Some(room) => Box::new(Limited { out, room }),
            None => out,
        })
    }

    /// Writes the rows of a row group to their files.
    pub(crate) fn rows(&mut self, block: &Block) -> Result<()> {
        let mut at = 0;
        while at < block.rows {
            self.advance()?;
            let Some(open) = &mut self.open else {
                return Err(Error::corrupt("there are more rows than the files have"));
            };
            let n = usize::try_from(open.left).unwrap_or(usize::MAX).min(block.rows - at);
            for batch in open.form.batches(block, at, n, open.dictionaries.as_mut())? {
                open.writer.write(&batch)?;
            }
            open.left -= n as u64;
            at += n;
            self.written.rows += n as u64;
        }
        Ok(())
    }

    /// Ends the last file, and returns what was written.
    pub(crate) fn end(mut self) -> Result<Written> {
        self.advance()?;
        match self.open.take() {
            Some(open) if open.left == 0 => open.finish()?,
            None => {}
            Some(_) => return Err(Error::corrupt("there are fewer rows than the files have")),
        }
        Ok(self.written)
    }
}
