//! Reading deltas, and restoring from them.

use crate::base_rows::BaseRows;
use crate::dataset::{Dataset, or_changed};
use crate::details::{FileDetails, read_details};
use crate::exact::CONTENT;
use crate::group::{GroupCoder, Learned, Tries};
use crate::io::Format;
use crate::load::{BASE_BLOCK, columns_digest, load};
use crate::manifest::{ATTRIBUTE, Manifest, SplitRecord, TABLE_CODEC};
use crate::parts::Parts;
use crate::settings::Settings;
use crate::table::{Block, Digesting};
use arrow_schema::{ArrowError, SchemaRef};
use sparse_container::{BlobRef, ContentHash, Entry, PieceSource, Reader};
use sparse_core::open_file;
use sparse_core::{ByteSource, Digest, Error, ErrorKind, FileSource, Limits, Observer, Result};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Open delta of a dataset.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset, DatasetDelta};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("d.sparse");
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// Compressor::new(&target).base(&base).write(&path)?;
/// let delta = DatasetDelta::open(&path)?;
/// assert!(delta.is_single_file() && !delta.is_exact());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct DatasetDelta {
    reader: Arc<Reader<Box<dyn ByteSource>>>,
    pub(crate) manifest: Arc<Manifest>,
}

impl fmt::Debug for DatasetDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatasetDelta").field("id", &self.reader.id()).finish_non_exhaustive()
    }
}

/// Contents of one split of a delta.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset, DatasetDelta};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("d.sparse");
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// let report = Compressor::new(&target).base(&base).write(&path)?;
/// let splits = DatasetDelta::open(&path)?.splits();
/// assert_eq!(splits.iter().map(|s| s.rows).sum::<u64>(), report.rows.total);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SplitInfo {
    /// Name of the split.
    pub name: String,
    /// Schema of the split.
    pub schema: SchemaRef,
    /// Number of rows.
    pub rows: u64,
    /// Number of row groups, each of which can be decoded alone.
    pub groups: usize,
    /// Files of the split: path, format, number of rows.
    pub files: Vec<(String, Format, u64)>,
}

impl DatasetDelta {
    /// Opens a delta and checks its index.
    ///
    /// # Errors
    /// `NotThisFormat` when it is not a delta, or one of a model; `Corrupt`, `Truncated`,
    /// `UnsupportedVersion`, `LimitExceeded`, `NotFound`, `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<DatasetDelta> {
        DatasetDelta::open_with(path, &Limits::default())
    }

    /// Opens the delta at `path` with these limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, limits: &Limits) -> Result<DatasetDelta> {
        let path = path.as_ref();
        let open = || {
            let source = FileSource::new(open_file(path)?)?;
            DatasetDelta::from_source(Box::new(source), limits)
        };
        open().map_err(|e| e.in_file(path.display().to_string()))
    }

    /// Opens a delta from anything that gives bytes by position.
    ///
    /// # Errors
    /// As [`open`](Self::open), without a path.
    pub fn from_source(source: Box<dyn ByteSource>, limits: &Limits) -> Result<DatasetDelta> {
        let reader = Reader::open(source, limits)?;
        let bytes = reader.index().attributes.get(&ATTRIBUTE).ok_or_else(|| {
            let e = "it is a delta of a model, not of a dataset: use `sparse reconstruct`";
            Error::new(ErrorKind::NotThisFormat, e)
        })?;
        let manifest = Manifest::read(bytes, reader.index().entries.len())?;
        let groups: usize = manifest.splits.iter().map(|s| s.groups.len()).sum();
        if groups.saturating_add(manifest.exact.len()) != reader.index().entries.len() {
            return Err(Error::corrupt("the manifest of a dataset does not fit its row groups"));
        }
        Ok(DatasetDelta { reader: Arc::new(reader), manifest: Arc::new(manifest) })
    }

    /// Returns the name that its base had when the delta was made.
    pub fn base_id(&self) -> &str {
        &self.reader.index().provenance.base_id
    }

    /// Returns the name that its target had when the delta was made.
    pub fn target_id(&self) -> &str {
        &self.reader.index().provenance.target_id
    }

    /// Returns the size of the delta in bytes.
    pub fn byte_len(&self) -> u64 {
        self.reader.byte_len()
    }

    /// Returns the least number of bytes that restoring writes: those of exact files, or of all
    /// cells.
    pub(crate) fn output_bytes(&self) -> u64 {
        let entries = &self.reader.index().entries;
        let files = entries.iter().skip(self.groups());
        let exact = files.fold(0u64, |sum, e| sum.saturating_add(e.spec.byte_len()));
        if self.is_exact() { exact } else { exact.saturating_add(self.decoded_bytes()) }
    }

    /// Returns the bytes of all cells that it restores.
    pub fn decoded_bytes(&self) -> u64 {
        let entries = self.reader.index().entries.iter().take(self.groups());
        entries.fold(0, |sum, e| sum.saturating_add(e.spec.byte_len()))
    }

    fn groups(&self) -> usize {
        self.manifest.splits.iter().map(|s| s.groups.len()).sum()
    }

    /// Returns true if files are restored bit for bit, and not only their rows.
    pub fn is_exact(&self) -> bool {
        self.manifest.all_exact
    }

    /// Returns the entry of an exact file.
    pub(crate) fn exact_entry(&self, file: usize) -> Option<&Entry> {
        self.entry(self.groups().checked_add(file)?)
    }

    /// Returns entry `i` of the index: row groups first.
    pub(crate) fn entry(&self, i: usize) -> Option<&Entry> {
        self.reader.index().entries.get(i)
    }

    pub(crate) fn read_blob(&self, blob: &BlobRef, max: u64) -> Result<Cow<'_, [u8]>> {
        self.reader.read_blob(blob, max)
    }

    /// Returns the SHA-256 of the files that it restores, if it records that.
    ///
    /// # Errors
    /// `Corrupt` when the recorded value is not a SHA-256.
    pub fn content_hash(&self) -> Result<Option<ContentHash>> {
        let carried = self.reader.index().attributes.get(&CONTENT);
        carried.map(|bytes| ContentHash::from_bytes(bytes)).transpose()
    }

    /// Returns true if the file at `path` is a delta of a dataset.
    ///
    /// For a delta of a model, or any other file, it returns false.
    pub fn is_one(path: impl AsRef<Path>, limits: &Limits) -> bool {
        let open = || Reader::open(FileSource::new(open_file(path).ok()?).ok()?, limits).ok();
        open().is_some_and(|r| r.index().attributes.contains_key(&ATTRIBUTE))
    }

    /// Returns true if the dataset was a single file, false if it was a folder.
    pub fn is_single_file(&self) -> bool {
        self.manifest.single
    }

    /// Returns the splits, in the order of the delta.
    pub fn splits(&self) -> Vec<SplitInfo> {
        let info = |s: &SplitRecord| SplitInfo {
            name: s.name.clone(),
            schema: s.schema.clone(),
            rows: s.rows(),
            groups: s.groups.len(),
            files: s.files.iter().map(|f| (f.path.clone(), f.format, f.rows)).collect(),
        };
        self.manifest.splits.iter().map(info).collect()
    }
}

/// Decodes the details of a delta's data files; those of the base's files may be their prefix.
fn resolve(manifest: &Manifest, base: &Dataset) -> Result<Vec<Vec<FileDetails>>> {
    let bytes = manifest
        .details
        .resolve(&base.details()?)
        .map_err(|e| e.in_file(base.path().display().to_string()))?;
    let splits: Vec<_> =
        manifest.splits.iter().map(|s| (s.schema.clone(), s.files.len())).collect();
    read_details(&bytes, &splits)
}

/// Base and delta as one dataset: the target, readable from any row.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset, DatasetDelta, Restorer};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("d.sparse");
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// Compressor::new(&target).base(&base).write(&path)?;
/// let delta = DatasetDelta::open(&path)?;
/// let data = Restorer::new(&delta).base(&base).open()?;
/// assert_eq!(data.verify()?.rows, delta.splits()[0].rows);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct DeltaDataset<'a> {
    pub(crate) delta: DatasetDelta,
    base: Box<dyn BaseRows + Send>,
    pub(crate) dataset: Dataset,
    pub(crate) settings: Settings,
    pub(crate) observer: &'a dyn Observer,
    /// Models' training data of the splits that were read last.
    learned: Mutex<VecDeque<(usize, Arc<Learned>)>>,
    /// Details of the data files, by split.
    pub(crate) details: Vec<Vec<FileDetails>>,
}

impl std::fmt::Debug for DeltaDataset<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeltaDataset")
            .field("delta", &self.delta)
            .field("dataset", &self.dataset)
            .finish_non_exhaustive()
    }
}

/// Splits whose training data are kept.
const LEARNED_SPLITS: usize = 4;

/// How much of the base is read when a delta is joined with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All, at once: somebody wants the whole target.
    All,
    /// What rows that are asked for need, where the base's files say where that is.
    Parts,
}

/// Names of the base's columns, its rows, and the digest of these if it was made.
type Base = (Vec<String>, Box<dyn BaseRows + Send>, Option<Digest>);

/// Reads the base. All of it is hashed if models are to decode from it: they take long over a wrong
/// one.
fn read_base(
    dataset: &Dataset,
    (rows, hashed): (u64, bool),
    reading: Reading,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<Base> {
    let found = dataset.found();
    if reading == Reading::Parts
        && let Some(mut parts) = Parts::of(found, settings)?
        // Else files that cannot be read may be among them, which reading all shows.
        && parts.rows() == rows
    {
        return Ok((std::mem::take(&mut parts.columns.names), Box::new(parts), None));
    }
    let loaded = load(found, BASE_BLOCK, settings.spill(4), hashed, settings, observer)?;
    Ok((loaded.names, Box::new(loaded.store), loaded.fingerprint))
}

impl<'a> DeltaDataset<'a> {
    /// Implements [`Restorer::open`](crate::Restorer::open).
    pub(crate) fn new(
        delta: &DatasetDelta,
        base: &Dataset,
        reading: Reading,
        settings: Settings,
        observer: &'a dyn Observer,
    ) -> Result<DeltaDataset<'a>> {
        observer.begin("read the base", 0);
        let searched = match delta.manifest.splits.is_empty() {
            // Files alone: rows of the base are not needed, and need not be readable.
            true => Cow::Owned(base.without_rows("not needed")?),
            false => base.by_rules(delta.manifest.rules(), delta.is_exact())?,
        };
        let record = &delta.manifest.base;
        let read = Dataset::without_unreadable(searched, &settings, |dataset| {
            let models = delta.manifest.splits.iter().any(|split| !split.plan.is_plain());
            read_base(dataset, (record.rows, models), reading, &settings, observer)
        });
        let (dataset, read) = or_changed(read, &[base])?;
        let dataset = dataset.into_owned();
        observer.end();
        let mismatch = |what: String| {
            let id = delta.base_id();
            Err(Error::new(
                ErrorKind::BaseMismatch,
                format!("{what}; the delta was made against {id}"),
            )
            .in_file(base.path().display().to_string()))
        };
        let (names, rows_of_base, digest) = read;
        let (rows, kinds) = (rows_of_base.rows(), rows_of_base.kinds());
        let needed = !delta.manifest.splits.is_empty();
        if needed && (kinds != record.kinds || columns_digest(&names, kinds) != record.columns) {
            return mismatch("the base has other columns than expected".into());
        }
        if needed && rows != record.rows {
            return mismatch(format!("the base has {rows} rows instead of {}", record.rows));
        }
        if needed && digest.is_some_and(|digest| digest != record.fingerprint) {
            return mismatch("the content of the base differs".into());
        }
        let details = resolve(&delta.manifest, &dataset)?;
        Ok(DeltaDataset {
            delta: delta.clone(),
            base: rows_of_base,
            dataset,
            settings,
            observer,
            learned: Mutex::default(),
            details,
        })
    }

    /// Lets go of the observer, so that this outlives the builder.
    pub fn unobserved(self) -> DeltaDataset<'static> {
        let DeltaDataset { delta, base, dataset, settings, learned, details, .. } = self;
        let observer = &sparse_core::Unobserved;
        DeltaDataset { delta, base, dataset, settings, observer, learned, details }
    }

    /// Returns the rows of the base that the models of a split learn from.
    fn learned(&self, split: usize, record: &SplitRecord) -> Result<Arc<Learned>> {
        // Locked meanwhile: all row groups of a split need the same data.
        let mut recent = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, learned)) = recent.iter().find(|(s, _)| *s == split) {
            return Ok(learned.clone());
        }
        let learned = Arc::new(Learned::new(&record.plan, &*self.base)?);
        while recent.len() >= LEARNED_SPLITS {
            recent.pop_front();
        }
        recent.push_back((split, learned.clone()));
        Ok(learned)
    }

    pub(crate) fn split(&self, name: &str) -> Result<usize> {
        self.delta.manifest.splits.iter().position(|s| s.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.delta.manifest.splits.iter().map(|s| &*s.name).collect();
            Error::new(
                ErrorKind::NotFound,
                format!("there is no split {name:?}: choose one of {}", names.join(", ")),
            )
        })
    }

    /// Returns the index entry of a split's first row group.
    fn first_entry(&self, split: usize) -> usize {
        self.delta.manifest.splits.iter().take(split).map(|s| s.groups.len()).sum()
    }

    /// Decodes a row group and compares it with its digest.
    pub(crate) fn group(&self, split: usize, group: usize) -> Result<Block> {
        let record = self.delta.manifest.splits.get(split);
        let record = record.ok_or_else(|| {
            Error::invalid_argument(format!(
                "there is no split \
            {split}"
            ))
        })?;
        let reader = &self.delta.reader;
        let entry = reader.index().entries.get(self.first_entry(split) + group);
        let (rows, entry) = match (record.groups.get(group), entry) {
            (Some(&r), Some(e)) => (r, e),
            _ => {
                return Err(Error::invalid_argument(format!(
                    "there is no row group {group} in split {:?}",
                    record.name
                )));
            }
        };
        let within = |e: Error| {
            let text = format!("row group {group} of split {:?}: {}", record.name, e.message());
            let out = Error::new(e.kind(), text);
            match e.offset() {
                Some(at) => out.at_offset(at),
                None => out,
            }
        };
        let learned = self.learned(split, record).map_err(within)?;
        let block = self.decode(entry, rows, record, &learned).map_err(within)?;
        let (digest, len) = Digesting::of(&block);
        if digest != entry.digest || len != entry.spec.byte_len() {
            return Err(within(Error::corrupt("its rows do not have the recorded digest")));
        }
        Ok(block)
    }

    fn decode(
        &self,
        entry: &Entry,
        rows: u64,
        record: &SplitRecord,
        learned: &Learned,
    ) -> Result<Block> {
        let len = entry.spec.byte_len();
        let max = self.settings.limits.max_chunk_bytes;
        Limits::check("row group", len, max)?;
        let empty = Block::new(record.plan.kinds.iter().copied());
        let [piece] = *entry.pieces else {
            // A table without columns has rows but no cells.
            let rows = usize::try_from(rows).map_err(|_| Error::corrupt("it has too many rows"))?;
            let fits = entry.pieces.is_empty() && record.plan.kinds.is_empty();
            return if fits {
                Ok(Block { rows, ..empty })
            } else {
                Err(Error::corrupt("it does not have exactly one piece"))
            };
        };
        let PieceSource::Blob { codec, blob, base: None } = piece.source else {
            return Err(Error::corrupt("it is not a blob"));
        };
        if codec != TABLE_CODEC {
            return Err(Error::new(
                ErrorKind::UnknownCodec,
                format!("it has the unknown codec {}", codec.0),
            ));
        }
        let bytes = self.delta.reader.read_blob(&blob, max)?;
        let coder =
            GroupCoder { plan: &record.plan, base: &*self.base, learned, tries: Tries::ALL };
        coder.decode(&bytes, rows, usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Decodes the row groups of a split, several at once, and hands them on in order. The next
    /// ones are decoded while these are handled.
    pub(crate) fn each_group(
        &self,
        split: usize,
        mut each: impl FnMut(Block) -> Result<()> + Send,
    ) -> Result<()> {
        let groups = self.delta.manifest.splits.get(split).map_or(0, |s| s.groups.len());
        let executor = self.settings.executor();
        let at_once = executor.width().clamp(1, 8);
        let decode = |from: usize| -> Vec<Result<Block>> {
            let count = groups.min(from + at_once).saturating_sub(from);
            executor.map(count, |g| self.group(split, from + g))
        };
        let mut ready = decode(0);
        let mut next = at_once;
        while !ready.is_empty() {
            self.settings.cancel.check()?;
            let handle = || -> Result<()> {
                for block in ready {
                    let block = block.map_err(|e| self.blame(e))?;
                    self.observer.advance(block.bytes() as u64);
                    each(block)?;
                }
                Ok(())
            };
            let (handled, decoded) = executor.both(handle, || decode(next));
            handled?;
            ready = decoded;
            next += at_once;
        }
        Ok(())
    }

    /// Turns an error of decoding into `BaseMismatch` if the base's content differs.
    pub(crate) fn blame(&self, error: Error) -> Error {
        if !matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::Truncated | ErrorKind::LimitExceeded
        ) {
            return error;
        }
        let spill = self.settings.spill(4);
        match load(
            self.dataset.found(),
            BASE_BLOCK,
            spill,
            true,
            &self.settings,
            &sparse_core::Unobserved,
        ) {
            Ok(l) if l.fingerprint.is_some_and(|f| f != self.delta.manifest.base.fingerprint) => {
                let id = self.delta.base_id();
                let text = format!(
                    "the content of the base differs; the delta was made against \
                    {id}"
                );
                Error::new(ErrorKind::BaseMismatch, text)
                    .in_file(self.dataset.path().display().to_string())
            }
            _ => error,
        }
    }
}

/// Recovers the error inside one that passed through Arrow.
///
/// Errors of [`Batches`](crate::Batches) pass through Arrow as `RecordBatchReader`. Others become
/// `Corrupt`.
pub fn from_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(e) => match e.downcast::<Error>() {
            Ok(e) => *e,
            Err(e) => Error::corrupt("an entry is not a record batch").with_source(e),
        },
        e => Error::corrupt("an entry is not a record batch").with_source(e),
    }
}
