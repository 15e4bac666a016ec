//! The factors of a unit's matrices: integers, and their serial form.

use crate::entropy::varint;
use crate::lossless::Lossless;
use sparse_core::{
    CodecContext, DEFAULT_CHUNK_LEN, Dtype, EncodedUnit, Error, Limits, Result, Segment, UnitSpec,
    decode_unit, zeros,
};

/// Largest rank of a matrix.
pub(super) const MAX_RANK: u64 = 4096;

/// Least number of rows, and of columns, of a matrix.
const LEAST: u64 = 2;

/// Returns true if a segment is coded by factors.
pub(super) fn is_matrix(segment: &Segment) -> bool {
    segment.rows >= LEAST && segment.row_len >= LEAST
}

/// Factors of one matrix, as integers times a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Factors {
    pub(super) rank: usize,
    /// Component by component: a number for each row.
    pub(super) left: Vec<i16>,
    /// Component by component: a number for each column.
    pub(super) right: Vec<i16>,
    pub(super) left_step: f32,
    pub(super) right_step: f32,
}

/// Factors made ready for products.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound {
    pub(super) rank: usize,
    /// By rows.
    pub(super) left: Vec<f32>,
    /// By components.
    pub(super) right: Vec<f32>,
}

impl Factors {
    pub(super) fn bind(&self, rows: usize) -> Bound {
        let mut left = vec![0f32; self.left.len()];
        for (c, column) in self.left.chunks_exact(rows.max(1)).enumerate() {
            for (i, &x) in column.iter().enumerate() {
                // Each conversion, product and sum is rounded once, in order.
                left[i * self.rank + c] = f32::from(x) * self.left_step;
            }
        }
        let right = self.right.iter().map(|&x| f32::from(x) * self.right_step).collect();
        Bound { rank: self.rank, left, right }
    }
}

/// Returns the unit as which the integers of all factors are coded.
///
/// It has a segment for each side of each matrix.
fn integers(unit: &UnitSpec, ranks: &[u64]) -> Result<UnitSpec> {
    let sides =
        unit.segments().iter().zip(ranks).filter(|(_, r)| **r > 0).flat_map(|(s, &rank)| {
            [Segment { rows: rank, row_len: s.rows }, Segment { rows: rank, row_len: s.row_len }]
        });
    UnitSpec::new(Dtype::I16, None, DEFAULT_CHUNK_LEN, sides.collect::<Vec<_>>())
}

/// Returns the bytes of a parameter block that do not grow with its matrices.
///
/// Those are tables, of the residual and of the factors.
pub(super) fn table_bytes(unit: &UnitSpec, mut params: &[u8]) -> Result<u64> {
    let block = |input: &mut &[u8]| -> Result<u64> {
        let most = input.len() as u64;
        let len = varint::take_max(input, most, "length of tables")?;
        varint::take_bytes(input, len as usize, "tables")?;
        Ok(len)
    };
    let tables = block(&mut params)?;
    let mut coded = 0;
    for segment in unit.segments().iter().filter(|s| is_matrix(s)) {
        let most = MAX_RANK.min(segment.rows).min(segment.row_len);
        coded += usize::from(varint::take_max(&mut params, most, "rank")? > 0);
    }
    varint::take_bytes(&mut params, 8 * coded, "steps")?;
    Ok(tables + block(&mut params)?)
}

/// Reads the serial form off the front of `input`.
///
/// One entry per segment; rank zero for what is coded exactly.
pub(super) fn read(input: &mut &[u8], unit: &UnitSpec, limits: &Limits) -> Result<Vec<Bound>> {
    let mut ranks = Vec::new();
    for segment in unit.segments() {
        let most =
            if is_matrix(segment) { MAX_RANK.min(segment.rows).min(segment.row_len) } else { 0 };
        ranks.push(if most > 0 { varint::take_max(input, most, "rank")? } else { 0 });
    }
    let shape = integers(unit, &ranks)?;
    // Kept as binary32, twice as large.
    Limits::check("factors", shape.byte_len().saturating_mul(3), limits.max_params_bytes)?;
    let mut steps = Vec::new();
    for _ in ranks.iter().filter(|r| **r > 0) {
        let mut step = || -> Result<f32> {
            let b = varint::take_bytes(input, 4, "step")?;
            let step = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            if step.is_finite() && step > 0.0 {
                Ok(step)
            } else {
                Err(Error::corrupt(format!("a step of {step} is not a positive number")))
            }
        };
        steps.push((step()?, step()?));
    }
    let mut block = || -> Result<Vec<u8>> {
        let len = varint::take_max(input, limits.max_params_bytes, "length of factors")? as usize;
        varint::take_bytes(input, len, "factors").map(<[u8]>::to_vec)
    };
    let params = block()?;
    let mut chunks = Vec::new();
    for _ in 0..shape.chunk_count() {
        chunks.push(block()?);
    }
    let encoded = EncodedUnit { params, chunks };
    let mut bytes = zeros(shape.byte_len() as usize)?;
    let mut cx = CodecContext::with(limits.clone(), sparse_core::CancelToken::new());
    decode_unit(&Lossless, &shape, &encoded, None, &mut bytes, &mut cx)?;
    let mut numbers = bytes.as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b));
    let mut steps = steps.into_iter();
    let bound = unit.segments().iter().zip(&ranks).map(|(segment, &rank)| {
        if rank == 0 {
            return Bound::default();
        }
        let rank = rank as usize;
        let (left_step, right_step) = steps.next().unwrap_or_default();
        let left = numbers.by_ref().take(rank * segment.rows as usize).collect();
        let right = numbers.by_ref().take(rank * segment.row_len as usize).collect();
        Factors { rank, left, right, left_step, right_step }.bind(segment.rows as usize)
    });
    Ok(bound.collect())
}

#[cfg(feature = "svd-encode")]
mod build {
    use super::*;
    use crate::svd::range::Truncated;
    use sparse_core::{Effort, encode_unit};

    /// Appends the serial form.
    pub(in super::super) fn write(
        unit: &UnitSpec,
        factors: &[Factors],
        effort: Effort,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let ranks: Vec<u64> = factors.iter().map(|f| f.rank as u64).collect();
        for (segment, &rank) in unit.segments().iter().zip(&ranks) {
            if is_matrix(segment) {
                varint::put(out, rank);
            }
        }
        for f in factors.iter().filter(|f| f.rank > 0) {
            out.extend_from_slice(&f.left_step.to_le_bytes());
            out.extend_from_slice(&f.right_step.to_le_bytes());
        }
        let numbers = factors.iter().flat_map(|f| f.left.iter().chain(&f.right));
        let bytes: Vec<u8> = numbers.flat_map(|x| x.to_le_bytes()).collect();
        let mut cx = CodecContext::new();
        let encoded =
            encode_unit(&Lossless, &integers(unit, &ranks)?, &bytes, None, effort, &mut cx)?;
        for block in std::iter::once(&encoded.params).chain(&encoded.chunks) {
            varint::put(out, block.len() as u64);
            out.extend_from_slice(block);
        }
        Ok(())
    }

    /// Rounds the first `rank` components to integers.
    ///
    /// Each side has the root of the singular values. Rounding adds about `noise` to the squared
    /// error.
    pub(in super::super) fn quantise(
        found: &Truncated,
        rank: usize,
        rows: usize,
        columns: usize,
        noise: f64,
    ) -> Factors {
        let size = found.sigma.len();
        let sum: f64 = found.sigma.iter().take(rank).sum();
        if rank == 0 || sum == 0.0 || !sum.is_finite() {
            return Factors::default();
        }
        // An error of a step's variance in each entry of one side, times the squared length of its
        // partner in the other.
        let step = |len: usize| (6.0 * noise / (sum * len as f64)).sqrt();
        let largest = |step: f64, entries: &mut dyn Iterator<Item = f64>| {
            // Entries must fit 16 bits.
            let most = entries.map(f64::abs).fold(0.0, f64::max);
            step.max(most / 32_000.0).max(1e-30) as f32
        };
        let left = |c: usize| {
            let root = found.sigma[c].sqrt();
            let scale = if root > 0.0 { root.recip() } else { 0.0 };
            (0..rows).map(move |i| f64::from(found.left[i * size + c]) * scale)
        };
        let right = |c: usize| {
            let root = found.sigma[c].sqrt();
            found.right[c * columns..(c + 1) * columns].iter().map(move |&x| f64::from(x) * root)
        };
        let left_step = largest(step(rows), &mut (0..rank).flat_map(left));
        let right_step = largest(step(columns), &mut (0..rank).flat_map(right));
        let round =
            |x: f64, step: f32| (x / f64::from(step)).round().clamp(-32_767.0, 32_767.0) as i16;
        Factors {
            rank,
            left: (0..rank).flat_map(left).map(|x| round(x, left_step)).collect(),
            right: (0..rank).flat_map(right).map(|x| round(x, right_step)).collect(),
            left_step,
            right_step,
        }
    }
}
#[cfg(feature = "svd-encode")]
pub(super) use build::{quantise, write};
