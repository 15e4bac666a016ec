//! How large a delta would be, without coding all of it.

use crate::analysed::{Analysed, Read, analyse_split, level, load_both};
use crate::compress::{Compressing, count, manifest_of, record_of};
use crate::exact::alone_size;
use crate::executor::lock;
use crate::gain::{settle, settle_by};
use crate::group::{GroupCoder, Learned, Rows, Tried};
use crate::load::Loaded;
use crate::manifest::{ATTRIBUTE, Manifest};
use crate::plan::Plan;
use crate::settings::Settings;
use crate::{CompressReport, RowCounts};
use sparse_container::{Index, Provenance, Writer};
use sparse_core::{Effort, Result};
use std::ops::Range;
use std::sync::Mutex;

/// Expected size of a delta.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// let estimate = Compressor::new(&target).base(&base).estimate(0.1)?;
/// assert_eq!(estimate.share, 1.0, "so few rows are all coded");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Estimate {
    /// Size of the delta, in bytes.
    #[cfg_attr(feature = "serde", serde(rename = "estimated_bytes"))]
    pub delta_bytes: u64,
    /// Size of the target's files, in bytes.
    pub target_bytes: u64,
    /// Share of the target that was coded for the estimate, from 0 to 1.
    pub share: f64,
    /// Twice the standard error of `delta_bytes`, as a share of it; `None` if too few row groups
    /// were coded.
    pub uncertainty: Option<f64>,
    /// Rows of the target, by origin.
    pub rows: RowCounts,
    /// Columns of the target, of all splits.
    pub columns: u64,
    /// Columns of the target without a counterpart in the base.
    pub new_columns: u64,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Row groups of which there is a share that tells how they differ.
const AT_LEAST: usize = 6;

/// Cells of a row group that are coded at least, in bytes.
const LEAST_BYTES: f64 = 96e3;

/// Share of the way to a size that grows with the rows that counts as what may be wrong.
const RISE: f64 = 0.25;

/// Share by which sizes that were extrapolated are off, beside that: the median of the pairs in
/// docs/BENCHMARKS.md.
const OFF: f64 = 0.08;

/// Ranges of a row group of which its sample consists.
const RANGES: u64 = 4;

/// Approximate size of what the container adds for each row group, in bytes: checksum, digest and
/// length.
const PER_GROUP: u64 = 30;

/// Implements [`Compressor::estimate`](crate::Compressor::estimate).
pub(crate) fn estimate(job: &Compressing<'_>, share: f64) -> Result<Estimate> {
    let Compressing { base, target: derivative, settings, observer } = *job;
    let mut report =
        CompressReport { target_bytes: derivative.byte_len()?, ..CompressReport::default() };
    let Read { base, derivative, loaded, mut first } =
        load_both(base, derivative, settings, observer)?;
    let mut manifest = manifest_of(&base, &derivative, &loaded, settings)?;
    let (mut bytes, mut variance) = (0.0, 0.0);
    let (mut coded, mut all) = (0.0, 0.0);
    let mut certain = true;
    for split in derivative.found() {
        let (mut analysed, light) =
            analyse_split(&loaded, split, first.take(), settings, observer)?;
        count(&analysed.origins, split, &analysed.plan, &mut report)?;
        manifest.templates |= !analysed.plan.templates.is_empty();
        manifest.splits.push(record_of(split, &analysed));
        let groups = analysed.loaded.store.blocks();
        let size = analysed.loaded.bytes as f64;
        all += size;
        if groups == 0 {
            continue;
        }
        observer.begin("encode a sample", 0);
        let wanted = ((groups as f64 * share).ceil() as usize).max(AT_LEAST).min(groups);
        // Of few row groups, a part of each is coded.
        let part = (share * groups as f64 / wanted as f64)
            .max(LEAST_BYTES * groups as f64 / size.max(1.0))
            .min(1.0);
        let sample = Sample::new(&mut analysed, light, &loaded, part, settings)?;
        let chosen: Vec<usize> = (0..wanted).map(|i| (2 * i + 1) * groups / (2 * wanted)).collect();
        let sizes = settings.executor().try_map(wanted, |i| sample.size(chosen[i]))?;
        observer.end();
        let n = groups as f64;
        let mean = sizes.iter().map(|s| s.0).sum::<f64>() / wanted as f64;
        bytes += mean * n + (PER_GROUP * groups as u64) as f64;
        // What a row group's own part may be wrong by, the same way in all.
        variance += (sizes.iter().map(|s| s.1).sum::<f64>() / wanted as f64 * n).powi(2);
        if wanted < groups {
            let spread = sizes.iter().map(|s| (s.0 - mean).powi(2)).sum::<f64>()
                / (wanted.max(2) - 1) as f64;
            let unseen = (groups - wanted) as f64 / n;
            variance += n.powi(2) * unseen * spread / wanted as f64;
            certain &= wanted >= AT_LEAST;
        }
        coded += size * sample.part * wanted as f64 / n;
    }
    if !settings.exact {
        let files = derivative.sidecars();
        bytes += (alone_size(files, settings)? + PER_GROUP * files.len() as u64) as f64;
    }
    let names = Provenance::new(
        concat!("sparse ", env!("CARGO_PKG_VERSION")),
        base.name(),
        derivative.name(),
    );
    bytes += around(&manifest, names)? as f64;
    Ok(Estimate {
        delta_bytes: bytes as u64,
        target_bytes: report.target_bytes,
        share: if all == 0.0 { 1.0 } else { coded / all },
        uncertainty: certain.then(|| 2.0 * variance.sqrt() / bytes.max(1.0)),
        rows: report.rows,
        columns: report.columns,
        new_columns: report.new_columns,
        notes: report.notes,
    })
}

/// Returns the size of a delta without row groups.
fn around(manifest: &Manifest, provenance: Provenance) -> Result<u64> {
    let mut index = Index::default();
    index.provenance = provenance;
    index.attributes.insert(ATTRIBUTE, manifest.write()?);
    Ok(Writer::new(Vec::new())?.finish_sized(&index)?.1)
}

/// How row groups are sampled.
struct Sample<'a> {
    analysed: &'a Analysed,
    base: &'a Loaded,
    learned: Learned,
    settings: &'a Settings,
    /// The part of each row group that is coded.
    part: f64,
}

impl<'a> Sample<'a> {
    /// Chooses the plan by a part of the middle row group. With a part, models also learn from a
    /// part of what they would.
    fn new(
        analysed: &'a mut Analysed,
        light: Plan,
        base: &'a Loaded,
        part: f64,
        settings: &'a Settings,
    ) -> Result<Sample<'a>> {
        // Half of it would take nearly as long as all.
        let part = if part > 0.5 { 1.0 } else { part };
        if part == 1.0 {
            settle(analysed, light, base, settings)?;
        } else if settings.effort != Effort::Max && !analysed.plan.is_plain() {
            let rows = base.store.rows();
            analysed.plan = analysed.plan.learning(part, rows);
            let middle = analysed.loaded.store.blocks() / 2;
            let ranges = ranges(&analysed.loaded, middle, part);
            let some = analysed.some(&ranges, base, settings)?;
            let light = light.learning(part, rows);
            let tried = settle_by(&some, analysed, light, base, settings)?;
            analysed.tried = Mutex::new(Some((middle, tried)));
        }
        let learned = Learned::new(&analysed.plan, &base.store)?;
        Ok(Sample { analysed, base, learned, settings, part })
    }

    /// Returns the expected size of a row group, and by how much it may be wrong.
    fn size(&self, g: usize) -> Result<(f64, f64)> {
        let tried = lock(&self.analysed.tried).take_if(|(group, _)| *group == g);
        let tried = tried.map(|(_, tried)| tried).unwrap_or_default();
        if self.part == 1.0 {
            let rows = self.analysed.group(g, self.base, self.settings)?;
            return Ok((self.coded(&rows, tried)?, 0.0));
        }
        let ranges = ranges(&self.analysed.loaded, g, self.part);
        let some = |ranges: &[Range<u64>]| self.analysed.some(ranges, self.base, self.settings);
        let whole = self.coded(&some(&ranges)?, tried)?;
        let half = |odd: usize| ranges.iter().skip(odd).step_by(2).cloned().collect::<Vec<_>>();
        let (even, odd) = (some(&half(0))?, some(&half(1))?);
        // Streams are quick, and tell how much halves differ.
        let streams = [self.streams(&even)?, self.streams(&odd)?];
        let both = streams[0] + streams[1];
        let half = self.coded(&even, Tried::default())? * both / (2.0 * streams[0]);
        // A size grows by the same power of the rows from one doubling to the next, or nearly.
        let power = (whole / half).log2().clamp(0.5, 1.0);
        let size = whole * (1.0 / self.part).powf(power);
        // The power may come closer to 1.
        let rise = RISE * (whole / self.part - size);
        let spread = (streams[0] - streams[1]).abs() / both / 2f64.sqrt() * size;
        Ok((size, spread.hypot(rise).hypot(OFF * size)))
    }

    fn streams(&self, rows: &Rows) -> Result<f64> {
        Ok(self.coder().streams(rows, level(self.settings))?.0.len() as f64)
    }

    fn coded(&self, rows: &Rows, tried: Tried) -> Result<f64> {
        let coded = self.coder().encode(rows, level(self.settings), false, tried)?;
        Ok(coded.bytes.len() as f64)
    }

    fn coder(&self) -> GroupCoder<'_> {
        let Sample { analysed, base, learned, .. } = self;
        let (plan, tries) = (&analysed.plan, analysed.tries);
        GroupCoder { plan, base: &base.store, learned, tries }
    }
}

/// Returns ranges of rows that are a part of a row group, spread over it.
fn ranges(loaded: &Loaded, g: usize, part: f64) -> Vec<Range<u64>> {
    let (start, end) = (loaded.store.start(g), loaded.store.start(g + 1));
    let rows = end - start;
    let each = ((rows as f64 * part / RANGES as f64).ceil() as u64).clamp(1, rows.max(1));
    let at = |i: u64| start + (2 * i + 1) * rows / (2 * RANGES) - (each / 2);
    (0..RANGES).map(|i| at(i).max(start)..(at(i).max(start) + each).min(end)).collect()
}
