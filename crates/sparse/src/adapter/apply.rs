//! The values of a merged tensor.
//!
//! As PEFT computes them with factors in binary32: each product and each sum in binary32, rounded
//! to the weight's type at the end.

use super::changes::{Change, Sum};
use super::values::{cast, invalid, is_float};
use crate::settings::Settings;
use sparse_codecs::values::{put, value};
use sparse_core::{Dtype, Result};
use sparse_model::{Adapter, AdapterFactors, AdapterKind, AdapterModule, Checkpoint};
use std::borrow::Cow;

/// Rows that are merged at a time.
const BLOCK: usize = 64;

/// Computes a tensor of the base after the merge.
pub(super) fn apply(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    tensor: usize,
    change: &Change,
    settings: &Settings,
) -> Result<Vec<u8>> {
    let spec = &base.tensors()[tensor].spec;
    let dtype = spec.dtype();
    if !is_float(dtype) {
        return Err(invalid(format!("cannot merge into weights of {dtype}")));
    }
    let len = spec.byte_len() as usize;
    let mut weights = match change.start {
        Some(start) => Cow::Owned(cast(adapter, start, dtype)?),
        None => base.bytes(tensor)?,
    };
    if let Some((rows, places)) = &change.rows {
        let width = len / spec.shape().first().map_or(1, |&n| n.max(1) as usize);
        let rows = cast(adapter, *rows, dtype)?;
        let weights = weights.to_mut();
        for (row, &place) in rows.chunks_exact(width.max(1)).zip(places) {
            let at = place as usize * width;
            let place = weights.get_mut(at..at + width);
            place.ok_or_else(|| invalid("there is no such row"))?.copy_from_slice(row);
        }
    }
    let merged = match &change.sum {
        None => weights.into_owned(),
        Some(Sum::Scaled(bias, scale)) => {
            let bias = adapter.values(*bias)?;
            let mut out = Vec::with_capacity(weights.len());
            for (x, add) in values(dtype, &weights).zip(bias) {
                put(dtype, f64::from(x + add * *scale as f32), &mut out);
            }
            out
        }
        Some(Sum::Product(module)) => product(adapter, module, dtype, &weights, settings)?,
        Some(Sum::Experts(stack)) => {
            let (a, b) = (adapter.values(stack.module.a)?, adapter.values(stack.module.b)?);
            let mut out = Vec::with_capacity(weights.len());
            let each = (weights.len() / stack.experts.max(1)).max(1);
            for (expert, weights) in weights.chunks_exact(each).enumerate() {
                let factors = stack.factors(&a, &b, expert);
                let merge = Merge { factors: &factors, dtype, rounds_sum: true };
                out.extend(merge.rows(weights, settings, |_, _| 1.0)?);
            }
            out
        }
    };
    if merged.len() != len {
        return Err(invalid("the adapter's factors do not fit the weight"));
    }
    Ok(merged)
}

/// Adds a module's product, and scales outputs to their magnitudes if it is a DoRA.
fn product(
    adapter: &Adapter,
    module: &AdapterModule,
    dtype: Dtype,
    weights: &[u8],
    settings: &Settings,
) -> Result<Vec<u8>> {
    let factors = adapter.factors(module)?;
    let is_embedding = module.kind == AdapterKind::Embedding;
    let rounds_sum = is_embedding && module.magnitude.is_none();
    let merge = Merge { factors: &factors, dtype, rounds_sum };
    let Some(magnitude) = module.magnitude else {
        return merge.rows(weights, settings, |_, _| 1.0);
    };
    let magnitudes = adapter.values(magnitude)?;
    let norms = merge.norms(weights, module.transposed, settings)?;
    let scales: Vec<f32> = magnitudes.iter().zip(&norms).map(|(m, n)| m / n).collect();
    let at = |i: usize| scales.get(i).copied().unwrap_or(1.0);
    match module.transposed {
        true => merge.rows(weights, settings, |_, column| at(column)),
        false => merge.rows(weights, settings, |row, _| at(row)),
    }
}

fn values(dtype: Dtype, bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(dtype.storage_bytes()).map(move |b| value(dtype, b) as f32)
}

/// A product that is added to a matrix.
struct Merge<'a> {
    factors: &'a AdapterFactors,
    dtype: Dtype,
    /// Whether the product is rounded to the weight's type before it is added, as PEFT does with
    /// parameters and embeddings.
    rounds_sum: bool,
}

impl Merge<'_> {
    fn columns(&self) -> usize {
        self.factors.right.len() / self.factors.rank.max(1)
    }

    /// Calls `each` with each block of rows: its first row, and each row's weights after the sum.
    fn blocks<T: Send>(
        &self,
        weights: &[u8],
        settings: &Settings,
        each: impl Fn(usize, &mut dyn Iterator<Item = Vec<f32>>) -> T + Sync,
    ) -> Result<Vec<T>> {
        let row_bytes = (self.columns() * self.dtype.storage_bytes()).max(1);
        let rows = weights.len() / row_bytes;
        settings.executor().try_map(rows.div_ceil(BLOCK), |block| {
            settings.cancel.check()?;
            let first = block * BLOCK;
            let row = |i: usize| -> Vec<f32> {
                let mut sums = self.sums(i);
                let row = weights.get(i * row_bytes..(i + 1) * row_bytes).unwrap_or_default();
                sums.iter_mut().zip(values(self.dtype, row)).for_each(|(s, x)| *s += x);
                sums
            };
            Ok(each(first, &mut (first..rows.min(first + BLOCK)).map(row)))
        })
    }

    /// Computes what is added to a row.
    fn sums(&self, i: usize) -> Vec<f32> {
        let AdapterFactors { rank, left, right, scale, .. } = self.factors;
        let mut sums = vec![0f32; self.columns()];
        let left = left.get(i * rank..(i + 1) * rank).unwrap_or_default();
        for (&l, right) in left.iter().zip(right.chunks_exact(self.columns().max(1))) {
            // A fused multiplication and addition, as libraries use where they can: the product of
            // two binary32 is exact in binary64.
            for (s, &r) in sums.iter_mut().zip(right) {
                *s = (f64::from(l) * f64::from(r) + f64::from(*s)) as f32;
            }
        }
        let scale = *scale as f32;
        for s in &mut sums {
            *s *= scale;
            if self.rounds_sum {
                let mut word = Vec::with_capacity(4);
                put(self.dtype, f64::from(*s), &mut word);
                *s = value(self.dtype, &word) as f32;
            }
        }
        sums
    }

    /// Merges all rows; each weight is multiplied by what `scale` says of row and column.
    fn rows(
        &self,
        weights: &[u8],
        settings: &Settings,
        scale: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Result<Vec<u8>> {
        let blocks = self.blocks(weights, settings, |first, rows| {
            let mut out = Vec::new();
            for (i, row) in rows.enumerate() {
                for (j, x) in row.into_iter().enumerate() {
                    put(self.dtype, f64::from(scale(first + i, j) * x), &mut out);
                }
            }
            out
        })?;
        Ok(blocks.concat())
    }

    /// Computes the norms of all rows after the sum, or of all columns.
    fn norms(&self, weights: &[u8], of_columns: bool, settings: &Settings) -> Result<Vec<f32>> {
        let squares = |row: Vec<f32>| row.into_iter().map(|x| f64::from(x) * f64::from(x));
        let blocks = self.blocks(weights, settings, |_, rows| match of_columns {
            true => rows.fold(vec![0f64; self.columns()], |mut sums, row| {
                sums.iter_mut().zip(squares(row)).for_each(|(sum, x)| *sum += x);
                sums
            }),
            false => rows.map(|row| squares(row).sum()).collect(),
        })?;
        let sums = match of_columns {
            true => blocks.into_iter().fold(vec![0f64; self.columns()], |mut sums, block| {
                sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
                sums
            }),
            false => blocks.concat(),
        };
        Ok(sums.into_iter().map(|x| x.sqrt() as f32).collect())
    }
}
