//! Making deltas.

use crate::analysed::{Analysed, Read, analyse_split, level, load_both};
use crate::dataset::{Dataset, or_changed};
use crate::details::{StoredDetails, write_details};
use crate::exact::{CONTENT, Kept, Style, content_of, keep, regenerate};
use crate::executor::lock;
use crate::files::{Target, Writing};
use crate::gain::settle;
use crate::group::{GroupCoder, Learned, Tries, is_patch};
use crate::io::FoundSplit;
use crate::load::{Loaded, columns_digest};
use crate::manifest::{ATTRIBUTE, BaseRecord, FileRows, Manifest, SplitRecord, TABLE_CODEC};
use crate::plan::{Plan, Source};
use crate::proof::{FilesProof, prove_delta, prove_group};
use crate::rows::{Origin, Origins};
use crate::settings::Settings;
use crate::store::temporary_folder;
use crate::table::Digesting;
use sparse_container::{ContentHash, Entry, Index, Piece, PieceSource, Provenance, Writer};
use sparse_core::{
    Digest, Error, ErrorKind, Executor, Limits, Observer, Result, check_target_path,
};
use sparse_output::{AtomicDir, AtomicFile, Overwrite, ScratchDir, refuse_inside};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of a target, by where they come from.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// let (_, report) = Compressor::new(&target).base(&base).write_to(Vec::new())?;
/// let rows = report.rows;
/// assert_eq!(rows.copied + rows.edited + rows.new, rows.total);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RowCounts {
    /// Number of all rows.
    pub total: u64,
    /// Rows equal to a row of the base.
    pub copied: u64,
    /// Rows that are a row of the base with changes.
    pub edited: u64,
    /// Rows without a counterpart in the base.
    pub new: u64,
}

/// Composition of a delta that was made.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// let (delta, report) = Compressor::new(&target).base(&base).write_to(Vec::new())?;
/// assert_eq!(report.delta_bytes, delta.len() as u64);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CompressReport {
    /// Size of the delta, in bytes.
    pub delta_bytes: u64,
    /// Size of the target's files, in bytes.
    pub target_bytes: u64,
    /// Rows of the target.
    pub rows: RowCounts,
    /// Columns of the target, of all splits.
    pub columns: u64,
    /// Columns of the target without a counterpart in the base.
    pub new_columns: u64,
    /// The SHA-256 of the files, if it was asked for.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "sha256",
            serialize_with = "crate::serialise::text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub content: Option<ContentHash>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Inputs, settings and observer of a compression.
#[derive(Clone, Copy)]
pub(crate) struct Compressing<'a> {
    pub(crate) base: &'a Dataset,
    pub(crate) target: &'a Dataset,
    pub(crate) settings: &'a Settings,
    pub(crate) observer: &'a dyn Observer,
}

/// Implements [`Compressor::write_to`](crate::Compressor::write_to).
pub(crate) fn to_stream<W: Write>(job: &Compressing<'_>, out: W) -> Result<(W, CompressReport)> {
    let (out, report, _) = or_changed(make(job, out), &[job.base, job.target])?;
    Ok((out, report))
}

/// Implements [`Compressor::write`](crate::Compressor::write).
pub(crate) fn to_path(
    job: &Compressing<'_>,
    out: &Path,
    overwrite: Overwrite,
) -> Result<CompressReport> {
    refuse_inside(out, &[job.base.path(), job.target.path()])?;
    let error = match to_file(job, out, overwrite) {
        Err(e) if job.settings.exact && rows_may_be_at_fault(&e, job) => e,
        done => return done,
    };
    // An exact delta takes any file: if rows cannot be stored, its files are bytes.
    let bytes = || -> Result<CompressReport> {
        let target = job.target.without_rows(error.message())?;
        // Stamps of the target are those from when it was opened first.
        job.target.check_unchanged()?;
        to_file(&Compressing { target: &target, ..*job }, out, overwrite)
    };
    bytes().map_err(|_| error)
}

/// Returns true if a delta without rows may succeed where one with rows failed: not if the inputs
/// changed meanwhile.
fn rows_may_be_at_fault(e: &Error, job: &Compressing<'_>) -> bool {
    let about_rows = match e.kind() {
        ErrorKind::InvalidInput | ErrorKind::LimitExceeded => true,
        // Of a format that cannot store the rows; or of a key that is no column.
        ErrorKind::InvalidArgument => job.settings.key.is_empty(),
        _ => false,
    };
    about_rows && [job.base, job.target].iter().all(|d| d.check_unchanged().is_ok())
}

fn to_file(job: &Compressing<'_>, out: &Path, overwrite: Overwrite) -> Result<CompressReport> {
    let file = AtomicFile::create(out, overwrite)?;
    let to = BufWriter::with_capacity(1 << 18, &file);
    let (to, report, manifest) = or_changed(make(job, to), &[job.base, job.target])?;
    to.into_inner().map_err(|e| Error::io("cannot write", e.into_error()))?;
    if job.settings.proof {
        prove_delta(&file, &manifest)?;
    }
    file.commit()?;
    Ok(report)
}

fn make<W: Write>(job: &Compressing<'_>, out: W) -> Result<(W, CompressReport, Manifest)> {
    let Compressing { base, target: derivative, settings, observer } = *job;
    check_names(derivative, settings)?;
    if settings.content_hash && !settings.exact {
        return Err(Error::invalid_argument(
            "a delta that restores rows has no SHA-256 of files to record: make it exact",
        ));
    }
    let mut writer = Writer::new(out)?;
    let mut report =
        CompressReport { target_bytes: derivative.byte_len()?, ..CompressReport::default() };
    let Read { base, derivative, loaded, mut first } =
        load_both(base, derivative, settings, observer)?;
    let (base, derivative) = (&*base, &*derivative);
    let mut index = Index::default();
    index.provenance = Provenance::new(
        concat!("sparse ", env!("CARGO_PKG_VERSION")),
        base.name(),
        derivative.name(),
    );
    report.notes.extend(derivative.notes().iter().cloned());
    let mut manifest = manifest_of(base, derivative, &loaded, settings)?;
    let mut exact = settings.exact.then(|| Exact::new(settings)).transpose()?;
    for split in derivative.found() {
        let to = (&mut writer, &mut index, &mut report);
        let (mut analysed, light) =
            analyse_split(&loaded, split, first.take(), settings, observer)?;
        settle(&mut analysed, light, &loaded, settings)?;
        let (record, patched) =
            compress_split(&loaded, split, analysed, to, exact.as_mut(), settings, observer)?;
        manifest.templates |= patched || !record.plan.templates.is_empty();
        manifest.splits.push(record);
    }
    let files: Vec<Kept> = match &exact {
        Some(exact) => exact.files(derivative)?,
        None => {
            let sidecars = derivative.sidecars().iter();
            sidecars
                .map(|(path, relative)| Kept {
                    path: path.clone(),
                    relative: relative.clone(),
                    written: None,
                })
                .collect()
        }
    };
    if !files.is_empty() {
        observer.begin("keep the files", 0);
        let hashes;
        (manifest.exact, hashes) = keep(&files, base, &mut writer, &mut index, settings, observer)?;
        observer.end();
        report.content = settings.content_hash.then(|| content_of(&hashes, manifest.single));
    }
    if let Some(content) = report.content {
        index.attributes.insert(CONTENT, content.as_bytes().to_vec());
    }
    index.attributes.insert(ATTRIBUTE, manifest.write()?);
    let (out, bytes) = writer.finish_sized(&index)?;
    report.delta_bytes = bytes;
    Ok((out, report, manifest))
}

/// Returns the manifest of a delta without splits.
pub(crate) fn manifest_of(
    base: &Dataset,
    derivative: &Dataset,
    loaded: &Loaded,
    settings: &Settings,
) -> Result<Manifest> {
    let kinds = loaded.store.kinds().to_vec();
    let mut details = Vec::new();
    write_details(derivative.found().iter().map(|s| &*s.details), &mut details)?;
    Ok(Manifest {
        base: BaseRecord {
            rows: loaded.store.rows(),
            columns: columns_digest(&loaded.names, &kinds),
            fingerprint: loaded.fingerprint.unwrap_or(Digest([0; 16])),
            kinds,
        },
        splits: Vec::new(),
        single: derivative.is_single_file()?,
        exact: Vec::new(),
        all_exact: settings.exact,
        details: StoredDetails::of(details, &base.details()?)?,
        old_json: false,
        templates: false,
        recent: base.is_recent(),
    })
}

/// Checks that all files to be kept can be restored under their names.
fn check_names(derivative: &Dataset, settings: &Settings) -> Result<()> {
    let mut data = derivative.found().iter().flat_map(|s| &s.files);
    data.try_for_each(|f| check_target_path(&f.relative))?;
    if settings.exact {
        derivative.all_files()?.iter().try_for_each(|(_, relative)| check_target_path(relative))?;
    }
    Ok(())
}

/// A coded row group.
pub(crate) struct Coded {
    pub(crate) bytes: Vec<u8>,
    digest: Digest,
    len: u64,
}

/// Settings and inputs for coding row groups.
pub(crate) struct Coding<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) observer: &'a dyn Observer,
    /// Whether each row group is restored as soon as it is coded.
    pub(crate) prove: bool,
    /// The proof of the files, which runs at the same time.
    pub(crate) files: Option<FilesProof<'a>>,
}

/// Row groups up to which each is tried as a patch.
const FEW: usize = 4;

/// Least number of row groups that are coded before they are handed on: with hardly more row groups
/// than threads, threads would often wait for the last one.
const ROUND: usize = 8;

impl Analysed {
    /// Codes some of the row groups, several at once, and hands them on in order.
    pub(crate) fn encode(
        &self,
        base: &Loaded,
        groups: &[usize],
        coding: Coding<'_>,
        mut each: impl FnMut(Coded) -> Result<()>,
    ) -> Result<()> {
        let Coding { settings, observer, prove, files } = coding;
        let store = &self.loaded.store;
        let learned = Learned::new(&self.plan, &base.store)?;
        let coder = GroupCoder {
            plan: &self.plan,
            base: &base.store,
            learned: &learned,
            tries: self.tries,
        };
        // A patch takes long to find, so that of many row groups one shows whether to look.
        let patches = match groups.get(groups.len() / 2) {
            Some(&middle) if groups.len() > FEW => {
                let rows = self.group(middle, base, settings)?;
                let streams = lock(&self.tried)
                    .as_ref()
                    .and_then(|(group, tried)| tried.streams.clone().filter(|_| *group == middle));
                coder.prefers_patch(&rows, level(settings), streams)?
            }
            _ => true,
        };
        let coder = GroupCoder { tries: Tries { patches, ..self.tries }, ..coder };
        let encode = |g: usize| {
            let rows = self.group(g, base, settings)?;
            let block = &rows.block;
            let tried = lock(&self.tried).take_if(|(group, _)| *group == g);
            let tried = tried.map(|(_, tried)| tried).unwrap_or_default();
            let mut coded = coder.encode(&rows, level(settings), prove, tried)?;
            let (digest, len) = Digesting::of(block);
            if prove {
                prove_group(&coder, &mut coded, block, (digest, len), &Limits::default())?;
            }
            observer.advance(store.block_bytes(g) as u64);
            Ok::<_, Error>(Coded { bytes: coded.bytes, digest, len })
        };
        let (executor, files) = (settings.executor(), Mutex::new(files));
        for part in groups.chunks(executor.width().max(ROUND)) {
            let end = part.last().map_or(0, |g| g + 1);
            let write_files = || match &mut *lock(&files) {
                Some(files) => files.write(end, &settings.cancel),
                None => Ok(()),
            };
            let mut done = executor
                .map(part.len() + 1, |i| match i.checked_sub(1).and_then(|i| part.get(i)) {
                    Some(&group) => encode(group).map(Some),
                    None => write_files().map(|()| None),
                })
                .into_iter();
            let written = done.next();
            done.try_for_each(|coded| coded?.map_or(Ok(()), &mut each))?;
            written.transpose()?;
        }
        let files = files.into_inner().unwrap_or_else(PoisonError::into_inner);
        files.map_or(Ok(()), FilesProof::end)
    }
}

/// Returns what the manifest says about a split.
pub(crate) fn record_of(split: &FoundSplit, analysed: &Analysed) -> SplitRecord {
    let Loaded { store, file_rows, .. } = &analysed.loaded;
    let file_rows = file_rows.first().map_or(&[][..], |f| f);
    let files = split.files.iter().zip(file_rows).map(|(f, &rows)| FileRows {
        path: f.relative.clone(),
        format: f.format,
        rows,
    });
    SplitRecord {
        name: split.name.clone(),
        schema: split.schema.clone(),
        plan: analysed.plan.clone(),
        groups: (0..store.blocks()).map(|g| store.start(g + 1) - store.start(g)).collect(),
        files: files.collect(),
    }
}

fn compress_split<W: Write>(
    base: &Loaded,
    split: &FoundSplit,
    analysed: Analysed,
    (writer, index, report): (&mut Writer<W>, &mut Index, &mut CompressReport),
    exact: Option<&mut Exact>,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<(SplitRecord, bool)> {
    count(&analysed.origins, split, &analysed.plan, report)?;
    let store = &analysed.loaded.store;
    let groups: Vec<usize> = (0..store.blocks()).collect();
    let record = record_of(split, &analysed);
    observer.begin("encode", analysed.loaded.bytes);
    let mut patched = false;
    let each = |coded: Coded| {
        patched |= is_patch(&coded.bytes);
        let mut pieces = Vec::new();
        if coded.len > 0 {
            let blob = writer.append(&coded.bytes)?;
            let source = PieceSource::Blob { codec: TABLE_CODEC, blob, base: None };
            pieces.push(Piece { len: coded.len, source });
        }
        index.entries.push(Entry::bytes(split.name.clone(), coded.len, coded.digest, pieces));
        Ok(())
    };
    // Exact files are written in any case, below.
    let prove = settings.proof && exact.is_none();
    let files = || FilesProof::new(store, (&record, &split.details), settings.executor());
    let files = prove.then(files).transpose()?;
    let coding = Coding { settings, observer, prove: settings.proof, files };
    analysed.encode(base, &groups, coding, each)?;
    observer.end();
    if let Some(exact) = exact {
        exact.regenerate(&analysed.loaded, split, &record, settings.executor())?;
    }
    Ok((record, patched))
}

/// Files that are written anew, to find what turns them into the original files.
struct Exact {
    written: AtomicDir,
    styles: BTreeMap<String, Style>,
    /// Removed when this is dropped.
    _folder: ScratchDir,
}

impl Exact {
    fn new(settings: &Settings) -> Result<Exact> {
        let folder = temporary_folder(settings.temporary.as_deref())?;
        let written = AtomicDir::create(folder.path().join("written"), Overwrite::Refuse)?;
        Ok(Exact { written, styles: BTreeMap::new(), _folder: folder })
    }

    /// Writes a split's files as restoring does.
    fn regenerate(
        &mut self,
        loaded: &Loaded,
        split: &FoundSplit,
        record: &SplitRecord,
        executor: Arc<dyn Executor>,
    ) -> Result<()> {
        let files = split.files.iter().map(|f| (f.path.clone(), f.relative.clone(), f.format));
        let files: Vec<_> = files.collect();
        let target = Target::Folder(&self.written);
        let writing = Writing::new(&target, executor);
        let record = (record, &split.details[..]);
        self.styles.extend(regenerate(writing, &loaded.store, record, &files)?);
        Ok(())
    }

    /// Returns all files of the derivative.
    fn files(&self, derivative: &Dataset) -> Result<Vec<Kept>> {
        let written = |relative: &str| {
            let style = self.styles.get(relative)?.clone();
            Some((self.written.temporary_path().join(relative), style))
        };
        let files = derivative.all_files()?.into_iter();
        Ok(files
            .map(|(path, relative)| Kept { written: written(&relative), path, relative })
            .collect())
    }
}

pub(crate) fn count(
    origins: &Origins,
    split: &FoundSplit,
    plan: &Plan,
    report: &mut CompressReport,
) -> Result<()> {
    let (mut copied, mut edited) = (0, 0);
    origins.each(|_, o| match o {
        Origin::Copy(_) => copied += 1,
        Origin::Edit(_) => edited += 1,
        Origin::New => {}
    })?;
    report.rows.total += origins.len();
    report.rows.copied += copied;
    report.rows.edited += edited;
    report.rows.new += origins.len() - copied - edited;
    report.columns += plan.columns.len() as u64;
    for (c, f) in plan.columns.iter().zip(split.schema.fields()) {
        if c.source == Source::None {
            report.new_columns += 1;
            report.notes.push(format!("column {:?} has no counterpart in the base", f.name()));
        }
    }
    if origins.len() > 100 && copied + edited < origins.len() / 20 {
        report.notes.push(format!(
            "split {:?} shares hardly any rows with the base, so the delta is about as large as \
                the dataset compressed alone",
            split.name
        ));
    }
    Ok(())
}
