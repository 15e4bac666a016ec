//! What a delta says about its dataset: attribute 16 of the container's index, laid out as
//! docs/dataset.md says.
//!
//! All of it is checked when it is read, and what a reader refuses is not written.

use crate::arrow::{kinds_of, read_schema, write_schema};
use crate::details::StoredDetails;
use crate::exact::{ExactFile, Reference};
use crate::io::{Format, Rules};
use crate::limits::{MAX_FIELDS, MAX_FILES, MAX_GROUP_ROWS, MAX_SPLITS, Tally, check_count};
use crate::plan::Plan;
use crate::table::{Kind, read_kind, write_kind};
use crate::template::Templates;
use crate::wire::{Input, put_bytes, put_uint};
use arrow_schema::{Schema, SchemaRef};
use sparse_container::check_distinct;
use sparse_core::{Digest, Error, ErrorKind, Result, check_output_path};
use std::collections::HashSet;
use std::sync::Arc;

/// The key of the attribute.
pub(crate) const ATTRIBUTE: u16 = 16;

/// The codec of row groups, as the container knows it.
pub(crate) const TABLE_CODEC: sparse_core::CodecId = sparse_core::CodecId(16);

/// The layout of the manifest and of row groups.
const VERSION: u8 = 1;

/// The layout with files that are restored bit for bit.
const EXACT_VERSION: u8 = 2;

/// The layout with details of files, and with files that are restored bit for bit beside others.
/// JSON Lines are read by this program's own rules.
const DETAILS_VERSION: u8 = 3;

/// The layout with templates, and with row groups that are patches. It is written only where there
/// are some.
const TEMPLATES_VERSION: u8 = 4;

/// Flags since layout 3; the form of the details is above them.
const SINGLE: u8 = 1;
const ALL_EXACT: u8 = 2;
const SOME_EXACT: u8 = 4;
const DETAILS_SHIFT: u32 = 3;
const DETAILS_FORMS: u8 = 3;
/// The base has files that only the rules after the first builds of layout 3 read as its rows.
const RECENT: u8 = 32;

/// A file of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRows {
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) rows: u64,
}

/// A split.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SplitRecord {
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    pub(crate) plan: Plan,
    /// Rows of each row group.
    pub(crate) groups: Vec<u64>,
    pub(crate) files: Vec<FileRows>,
}

impl SplitRecord {
    pub(crate) fn rows(&self) -> u64 {
        self.groups.iter().fold(0, |a, b| a.saturating_add(*b))
    }
}

/// The base: columns, rows and digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseRecord {
    pub(crate) rows: u64,
    /// Digest of the names and kinds of its columns.
    pub(crate) columns: Digest,
    /// Digest of all its cells.
    pub(crate) fingerprint: Digest,
    pub(crate) kinds: Vec<Kind>,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) base: BaseRecord,
    pub(crate) splits: Vec<SplitRecord>,
    /// Whether the dataset was a single file.
    pub(crate) single: bool,
    /// Files that are restored bit for bit. Their entries follow those of row groups.
    pub(crate) exact: Vec<ExactFile>,
    /// Whether these are all files of the dataset; if not, they are those without rows.
    pub(crate) all_exact: bool,
    /// Details of the data files.
    pub(crate) details: StoredDetails,
    /// Whether JSON Lines of the base are read as before layout 3.
    pub(crate) old_json: bool,
    /// Whether there may be templates and patches: layout 4.
    pub(crate) templates: bool,
    /// Whether the base is read by the rules of today: compressed text, lists of JSON, CSV with any
    /// delimiter.
    pub(crate) recent: bool,
}

impl Manifest {
    /// Encodes the manifest, and checks that a reader accepts it.
    ///
    /// # Errors
    /// `InvalidInput` or `LimitExceeded` for a dataset whose delta a reader would refuse.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        let out = self.encode()?;
        let back = Manifest::read(&out, usize::MAX).map_err(|e| match e.kind() {
            ErrorKind::Corrupt | ErrorKind::Truncated => Error::new(
                ErrorKind::InvalidInput,
                format!("the dataset cannot be stored: {}", e.message()),
            ),
            _ => e,
        })?;
        // What an older layout says is written as today.
        if (Manifest { old_json: self.old_json, ..back }) != *self {
            return Err(Error::invalid_argument(
                "the manifest was not written: it would not be read back unchanged",
            ));
        }
        Ok(out)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut flags = self.details.form() << DETAILS_SHIFT;
        for (flag, set) in [
            (SINGLE, self.single),
            (ALL_EXACT, self.all_exact),
            (SOME_EXACT, !self.exact.is_empty()),
            (RECENT, self.recent),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let version = if self.templates { TEMPLATES_VERSION } else { DETAILS_VERSION };
        let mut out = vec![version, flags];
        put_uint(&mut out, self.base.rows);
        put_uint(&mut out, self.base.kinds.len() as u64);
        self.base.kinds.iter().for_each(|k| write_kind(*k, &mut out));
        put_uint(&mut out, self.splits.len() as u64);
        for s in &self.splits {
            put_bytes(&mut out, s.name.as_bytes());
            // Metadata are in the details of files.
            write_schema(&Schema::new(s.schema.fields().clone()), &mut out)?;
            if self.templates {
                s.plan.templates.put(&mut out);
            }
            s.plan.write(&mut out);
            put_uint(&mut out, s.groups.len() as u64);
            s.groups.iter().for_each(|g| put_uint(&mut out, *g));
            put_uint(&mut out, s.files.len() as u64);
            for f in &s.files {
                put_bytes(&mut out, f.path.as_bytes());
                out.push(f.format.code());
                put_uint(&mut out, f.rows);
            }
        }
        if !self.exact.is_empty() {
            put_uint(&mut out, self.exact.len() as u64);
            self.exact.iter().for_each(|f| f.write(&mut out));
        }
        self.details.write(&mut out);
        // Digests come last, because they do not compress.
        out.extend(self.base.columns.0);
        out.extend(self.base.fingerprint.0);
        Ok(out)
    }

    /// Reads the manifest of a delta with this many entries in its index.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`, `UnsupportedVersion`, `LimitExceeded`; `InvalidInput` for a path
    /// that leaves its folder.
    pub(crate) fn read(bytes: &[u8], entries: usize) -> Result<Manifest> {
        let mut input = Input(bytes);
        let version = input.byte()?;
        if !(VERSION..=TEMPLATES_VERSION).contains(&version) {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "the dataset has layout {version}, but this program reads {VERSION} to \
                        {TEMPLATES_VERSION}: update Sparse"
                ),
            ));
        }
        let flags = input.byte()?;
        let (old_json, templates) = (version < DETAILS_VERSION, version >= TEMPLATES_VERSION);
        if old_json && flags > SINGLE {
            return Err(Error::corrupt(format!("unknown flags {flags} of a dataset")));
        }
        if flags >> DETAILS_SHIFT & !DETAILS_FORMS & !(RECENT >> DETAILS_SHIFT) != 0 {
            return Err(Error::corrupt(format!("unknown flags {flags} of a dataset")));
        }
        let (single, recent) = (flags & SINGLE != 0, flags & RECENT != 0);
        let rows = input.uint()?;
        let n = input.count()?;
        check_count("columns of the base", n, MAX_FIELDS)?;
        let kinds: Vec<Kind> = (0..n).map(|_| read_kind(&mut input)).collect::<Result<_>>()?;
        let base_kinds: Arc<[Kind]> = kinds.as_slice().into();
        let mut left = Left { tally: Tally::default(), entries, files: MAX_FILES };
        let n = input.count()?;
        check_count("splits", n, MAX_SPLITS)?;
        let mut splits = Vec::with_capacity(n);
        for _ in 0..n {
            splits.push(read_split(&mut input, (&base_kinds, rows), templates, &mut left)?);
        }
        let mut exact = Vec::new();
        if version == EXACT_VERSION || flags & SOME_EXACT != 0 {
            let n = input.count()?;
            left.entries(n)?;
            exact = (0..n).map(|_| ExactFile::read(&mut input)).collect::<Result<_>>()?;
        }
        let all_exact = flags & ALL_EXACT != 0 || (version == EXACT_VERSION && !exact.is_empty());
        let details = StoredDetails::read(flags >> DETAILS_SHIFT & DETAILS_FORMS, &mut input)?;
        let base = BaseRecord {
            rows,
            columns: Digest(input.array()?),
            fingerprint: Digest(input.array()?),
            kinds,
        };
        input.end()?;
        let manifest = Manifest {
            base,
            splits,
            single,
            exact,
            all_exact,
            details,
            old_json,
            templates,
            recent,
        };
        manifest.check_files()?;
        Ok(manifest)
    }

    /// Returns the rules by which the base is read.
    pub(crate) fn rules(&self) -> Rules {
        match (self.old_json, self.recent) {
            (true, _) => Rules::Old,
            (false, false) => Rules::Layout3,
            (false, true) => Rules::Current,
        }
    }

    /// Checks that all files can be written side by side, and that patches are against files that
    /// are written.
    fn check_files(&self) -> Result<()> {
        let mut names = HashSet::new();
        if let Some(twice) = self.splits.iter().find(|s| !names.insert(&s.name)) {
            return Err(Error::corrupt(format!("two splits have the name {:?}", twice.name)));
        }
        let paths: Vec<&str> =
            self.splits.iter().flat_map(|s| &s.files).map(|f| &*f.path).collect();
        let written: HashSet<&str> = paths.iter().copied().collect();
        let files = match (paths.len(), self.all_exact) {
            // A file without rows.
            (0, true) => self.exact.len(),
            (data, _) => data,
        };
        if self.single && (files != 1 || self.exact.len() > 1) {
            return Err(Error::corrupt(format!(
                "a single file is recorded as {} files",
                paths.len()
            )));
        }
        let exact: Vec<&str> = self.exact.iter().map(|f| &*f.path).collect();
        if self.all_exact {
            check_distinct(paths)?;
            check_distinct(exact)?;
        } else {
            check_distinct([paths, exact].concat())?;
        }
        let lost = |f: &&ExactFile| {
            matches!(f.reference, Reference::Written(_)) && !written.contains(&*f.path)
        };
        match self.exact.iter().find(lost) {
            Some(f) => Err(Error::corrupt(format!(
                "the patch of {:?} is against a file without rows",
                f.path
            ))),
            None => Ok(()),
        }
    }
}

/// Budgets for the rest of a manifest.
struct Left {
    tally: Tally,
    /// Entries of the index: each row group and each exact file has one.
    entries: usize,
    files: usize,
}

impl Left {
    fn entries(&mut self, n: usize) -> Result<()> {
        let left = self.entries.checked_sub(n);
        self.entries = left.ok_or_else(|| {
            Error::corrupt("the manifest of a dataset does not fit its row groups")
        })?;
        Ok(())
    }
}

fn read_split(
    input: &mut Input<'_>,
    base: (&Arc<[Kind]>, u64),
    templates: bool,
    left: &mut Left,
) -> Result<SplitRecord> {
    let name = input.string()?;
    let schema: Schema = read_schema(input, &mut left.tally)?;
    let kinds = kinds_of(&schema).map_err(|e| Error::corrupt(e.message().to_owned()))?;
    let templates = match templates {
        true => Templates::take(input, base.0.len())?,
        false => Templates::default(),
    };
    let plan = Plan::read(input, kinds, (base.0, base.1), templates)?;
    let n = input.count()?;
    left.entries(n)?;
    let groups: Vec<u64> = (0..n).map(|_| input.uint()).collect::<Result<_>>()?;
    if let Some(rows) = groups.iter().find(|rows| !(1..=MAX_GROUP_ROWS as u64).contains(*rows)) {
        return Err(Error::corrupt(format!(
            "a row group of split {name:?} has {rows} rows, which \
            is not possible"
        )));
    }
    let n = input.count()?;
    left.files = left.files.checked_sub(n).ok_or_else(|| {
        Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "the dataset has more than {MAX_FILES} \
            files"
            ),
        )
    })?;
    let mut files = Vec::with_capacity(n);
    for _ in 0..n {
        let path = input.string()?;
        check_output_path(&path)?;
        let code = input.byte()?;
        let format = Format::ALL.get(usize::from(code)).copied();
        let format = format
            .ok_or_else(|| Error::corrupt(format!("unknown format {code} of a data file")))?;
        files.push(FileRows { path, format, rows: input.uint()? });
    }
    let by_group = groups.iter().try_fold(0u64, |a, &b| a.checked_add(b));
    let by_file = files.iter().try_fold(0u64, |a, f| a.checked_add(f.rows));
    if by_group.is_none() || by_group != by_file {
        return Err(Error::corrupt(format!(
            "the rows of split {name:?} do not add up to those of \
            its files"
        )));
    }
    Ok(SplitRecord { name, schema: Arc::new(schema), plan, groups, files })
}

#[cfg(test)]
mod tests;
