//! How large a delta would be, without coding all of it.

use crate::analysed::{Read, analyse_split, load_both};
use crate::arrow::write_schema;
use crate::compress::{Coding, Compressing, count};
use crate::exact::alone_size;
use crate::gain::settle;
use crate::{CompressReport, RowCounts};
use sparse_core::Result;

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

/// Least number of row groups that are coded.
const AT_LEAST: usize = 6;

/// Approximate size of what the container adds, in bytes: header, trailer, and for each row group
/// its checksum, digest and length.
const FRAME: u64 = 180;
const PER_GROUP: u64 = 30;

/// Implements [`Compressor::estimate`](crate::Compressor::estimate).
pub(crate) fn estimate(job: &Compressing<'_>, share: f64) -> Result<Estimate> {
    let Compressing { base, target: derivative, settings, observer } = *job;
    let mut report =
        CompressReport { target_bytes: derivative.byte_len()?, ..CompressReport::default() };
    let Read { derivative, loaded, mut first, .. } =
        load_both(base, derivative, settings, observer)?;
    let (mut bytes, mut variance) = (FRAME as f64, 0.0);
    let (mut coded, mut all) = (0u64, 0u64);
    let mut certain = true;
    for split in derivative.found() {
        let (mut analysed, light) =
            analyse_split(&loaded, split, first.take(), settings, observer)?;
        settle(&mut analysed, light, &loaded, settings)?;
        count(&analysed.origins, split, &analysed.plan, &mut report)?;
        let n = analysed.loaded.store.blocks();
        let wanted = ((n as f64 * share).ceil() as usize).max(AT_LEAST).min(n);
        let groups: Vec<usize> = (0..wanted).map(|i| (2 * i + 1) * n / (2 * wanted)).collect();
        let mut sizes = Vec::new();
        observer.begin("encode a sample", 0);
        let coding = Coding { settings, observer, prove: false, files: None };
        analysed.encode(&loaded, &groups, coding, |c| {
            sizes.push(c.bytes.len() as f64);
            Ok(())
        })?;
        observer.end();
        let mut schema = Vec::new();
        write_schema(&split.schema, &mut schema)?;
        let schema_len = crate::pack::compress(&schema, &[], 19)?.len() as u64;
        let mean = sizes.iter().sum::<f64>() / wanted.max(1) as f64;
        bytes += mean * n as f64 + (PER_GROUP * n as u64 + schema_len) as f64;
        if wanted < n {
            let spread =
                sizes.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (wanted.max(2) - 1) as f64;
            let unseen = (n - wanted) as f64 / n as f64;
            variance += (n as f64).powi(2) * unseen * spread / wanted as f64;
            certain &= wanted >= AT_LEAST;
        }
        coded += wanted as u64;
        all += n as u64;
    }
    if !settings.exact {
        let files = derivative.sidecars();
        bytes += (alone_size(files, settings)? + PER_GROUP * files.len() as u64) as f64;
    }
    Ok(Estimate {
        delta_bytes: bytes as u64,
        target_bytes: report.target_bytes,
        share: if all == 0 { 1.0 } else { coded as f64 / all as f64 },
        uncertainty: certain.then(|| 2.0 * variance.sqrt() / bytes.max(1.0)),
        rows: report.rows,
        columns: report.columns,
        new_columns: report.new_columns,
        notes: report.notes,
    })
}
