//! The adapter that was merged, as a hint.

use super::examine::Pair;
use super::job::UnitPlan;
use crate::settings::Settings;
use sparse_core::{DeltaEncoder, Product, Result, Segment, TensorSource};
use sparse_model::{Adapter, AdapterModule};
use sparse_select::Rows;
use std::ops::Range;
use std::sync::Arc;

/// Rows that are looked at to see whether a module explains a change.
const SAMPLE_ROWS: u64 = 64;

/// Finds the adapter's module that explains how a tensor differs from the base.
///
/// Of the target's tensor, the first rows (`segment`) are compared with a tensor of the base of the
/// same type, on a sample of rows. Returns the number of the scheme that makes use of it, and that
/// of the module.
pub(super) fn explanation(
    pair: &Pair<'_>,
    target: usize,
    base: usize,
    segment: Segment,
    settings: &Settings,
) -> Result<Option<(usize, usize)>> {
    let (Some(adapter), Some(base_model)) = (&settings.adapter, pair.base) else { return Ok(None) };
    let (old, new) = (&base_model.tensors()[base], &pair.target.tensors()[target]);
    if old.spec.dtype() != new.spec.dtype() {
        return Ok(None);
    }
    // Adapters are made for the base, so it is the base's name that counts.
    let Some(module) = adapter.find(&old.name, &old.spec) else { return Ok(None) };
    // DoRA's sum is scaled row by row afterwards.
    let fits = segment.row_len == module.columns && segment.rows <= module.rows && segment.rows > 0;
    if !fits || module.magnitude.is_some() {
        return Ok(None);
    }
    let dtype = new.spec.dtype();
    let count = segment.rows.min(SAMPLE_ROWS);
    let rows: Vec<u64> = (0..count).map(|i| i * segment.rows / count).collect();
    let row_bytes = segment.row_len as usize * dtype.storage_bytes();
    let read = |model: &dyn TensorSource, tensor: usize| -> Result<Vec<u8>> {
        let mut out = vec![0; rows.len() * row_bytes];
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(row_bytes)) {
            model.read_range_into(tensor, row * row_bytes as u64, out)?;
        }
        Ok(out)
    };
    let (new, old) = (read(pair.target, target)?, read(base_model, base)?);
    let product = hint(adapter, module, 0..module.rows)?.of_rows(&rows);
    let (row_len, effort) = (segment.row_len as usize, settings.effort);
    let rows = Rows { dtype, row_len, target: &new, base: &old, effort };
    let mut schemes = settings.codecs.schemes().iter();
    let scheme = schemes.position(|scheme| scheme.is_explained(&product, &rows));
    Ok(scheme.zip(adapter.modules().iter().position(|m| m == module)))
}

/// Returns what a module says of some rows.
fn hint(adapter: &Adapter, module: &AdapterModule, rows: Range<u64>) -> Result<Product> {
    let factors = adapter.factors(module)?;
    let entries = rows.start as usize * factors.rank..rows.end as usize * factors.rank;
    let scaled = |x: &f32| (f64::from(*x) * factors.scale) as f32;
    let left = factors.left.get(entries).unwrap_or_default().iter().map(scaled).collect();
    Ok(Product { rank: factors.rank, left, right: factors.right })
}

impl UnitPlan {
    /// Returns an encoder that knows what the adapter says of this unit.
    ///
    /// `None` if it says nothing of it.
    pub(super) fn hinted(&self, settings: &Settings) -> Result<Option<Arc<dyn DeltaEncoder>>> {
        self.hinted_rows(settings, None)
    }

    /// Returns the [`hinted`](Self::hinted) encoder of some rows of each segment.
    pub(crate) fn hinted_rows(
        &self,
        settings: &Settings,
        picked: Option<&[Vec<u64>]>,
    ) -> Result<Option<Arc<dyn DeltaEncoder>>> {
        let Some(adapter) = &settings.adapter else { return Ok(None) };
        if self.segments.iter().all(|s| s.module.is_none()) {
            return Ok(None);
        }
        let mut hints = Vec::with_capacity(self.segments.len());
        for (i, (segment, plan)) in self.spec.segments().iter().zip(&self.segments).enumerate() {
            let module = plan.module.and_then(|m| adapter.modules().get(m));
            let first = plan.start.checked_div(segment.row_len).unwrap_or(0);
            let all = module.map(|m| hint(adapter, m, first..first + segment.rows)).transpose()?;
            hints.push(all.map(|all| match picked.and_then(|p| p.get(i)) {
                Some(rows) => all.of_rows(rows),
                None => all,
            }));
        }
        Ok(self.scheme.hinted(hints))
    }
}

#[cfg(all(test, feature = "low-rank-encode"))]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::job::TEST_UNIT_BYTES;
    use crate::*;
    use std::path::Path;

    const ROWS: usize = 300;
    const COLUMNS: usize = 64;

    /// Creates a model of one bf16 matrix with these words.
    fn model(path: &Path, words: &[u16]) -> Model {
        let json = format!(
            r#"{{"m.weight":{{"dtype":"BF16","shape":[{ROWS},{COLUMNS}],"data_offsets":[0,{}]}}}}"#,
            2 * words.len()
        );
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json.as_bytes());
        file.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        std::fs::write(path, file).unwrap();
        Model::open(path).unwrap()
    }

    #[test]
    fn what_is_too_large_is_coded_in_parts() {
        let rows_at_once = TEST_UNIT_BYTES / 2 / COLUMNS as u64;
        assert!(rows_at_once > 64 && rows_at_once < ROWS as u64 / 2, "or this test shows nothing");
        // Weights of all kinds, and a change of rank one.
        let wave = |i: usize, step: f32| (i as f32 * step).sin();
        let weight = |i: usize| 0.03 * wave(i, 1.7) + 0.02 * wave(i, 0.61);
        let words = |size: f32| -> Vec<u16> {
            let change = |i: usize| size * wave(i / COLUMNS, 0.9) * (0.5 + wave(i % COLUMNS, 2.3));
            let round = |x: f32| ((x.to_bits() + 0x8000) >> 16) as u16;
            let old = |i: usize| f32::from_bits(u32::from(round(weight(i))) << 16);
            (0..ROWS * COLUMNS).map(|i| round(old(i) + change(i))).collect()
        };
        let dir = tempfile::tempdir().unwrap();
        let base = model(&dir.path().join("base.safetensors"), &words(0.0));
        let target = model(&dir.path().join("target.safetensors"), &words(1e-3));
        let (bytes, report) = Compressor::new(&target).base(&base).write_to(Vec::new()).unwrap();
        assert_eq!((report.tensors.coded_against_base, report.tensors.standalone), (1, 0));
        assert!(report.delta_bytes < report.target_bytes / 5, "{}", report.delta_bytes);
        let delta =
            Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
        let summary = inspect(&delta);
        // Parts of so few elements share a unit.
        let [unit] = &summary.units[..] else { panic!("{:?}", summary.units) };
        assert_eq!((&*unit.codec, unit.segments), ("low-rank", 3));
        let out = dir.path().join("out.safetensors");
        Restorer::new(&delta).base(&base).write(&out).unwrap();
        assert!(
            std::fs::read(out).unwrap()
                == std::fs::read(dir.path().join("target.safetensors")).unwrap()
        );
    }
}
