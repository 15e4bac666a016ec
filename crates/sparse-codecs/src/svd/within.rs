//! Factors of one matrix within an error of the restored weights, rounding to their type counted.
//!
//! An error can be met by any rank: a larger one with coarser integers, or a smaller one beside
//! words that are stored exactly, those that the product misses most. The combination that is
//! expected to be smallest is taken, so that a looser bound never costs more.

use super::factors::{self, Bound, Factors, quantise};
use super::norm::square_norm;
use super::product::predict;
use super::range::{Dense, Truncated};
use crate::real::{Real, with_real};
use crate::word::Word;
use sparse_core::{Dtype, Result, Segment, UnitSpec, Workers};
use std::borrow::Cow;

/// Rounding of the factors adds at least this share to the squared error that truncation leaves,
/// ...
pub(super) const NOISE_OF_LOSS: f64 = 0.01;
/// ... or this share of the squared change, where truncation leaves less.
pub(super) const NOISE_OF_CHANGE: f64 = 1e-6;

/// The number of singular vectors that are looked for first.
const FIRST_RANK: usize = 32;

/// Share of the allowed squared error that is used: sums of others are taken in another order.
const MARGIN: f64 = 1.0 - 1e-5;

/// Steps by which the noise of integers is found: each halves the interval, in logarithms.
const NOISE_STEPS: u32 = 4;

/// Factor by which the noise is lowered while all rows break what some kept.
const FINER: f64 = 0.9;

/// Elements, in whole rows, that ranks are compared on.
const SAMPLE: usize = 1 << 16;

/// Elements of a matrix that are predicted at once.
const BLOCK: u32 = 1 << 18;

/// Words of a segment that are stored exactly, beside those that always are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exact {
    /// Those whose error exceeds this, ...
    pub(super) above: f32,
    /// ... and those of just this error before this place.
    pub(super) ties_before: u64,
}

impl Exact {
    /// No further word.
    pub(super) const NONE: Exact = Exact { above: f32::INFINITY, ties_before: 0 };

    /// Returns true if the word at a place is stored, whose restored value is off by `error`.
    #[inline(always)]
    pub(super) fn stores(&self, error: f32, place: u64) -> bool {
        error > self.above || (error == self.above && place < self.ties_before)
    }
}

/// Returns how far a restored word is off, as [`Exact`] counts.
#[inline(always)]
pub(super) fn error_of<R: Real>(restored: u64, target: u64) -> f32 {
    (R::value(restored) - R::value(target)).abs() as f32
}

/// A matrix and its base.
pub(super) struct Matrix<'a> {
    dtype: Dtype,
    rows: usize,
    columns: usize,
    change: &'a [f32],
    whole: Part<'a>,
}

/// Rows of a matrix.
struct Part<'a> {
    unit: UnitSpec,
    /// Their numbers; empty for all.
    rows: Vec<usize>,
    target: Cow<'a, [u8]>,
    base: Cow<'a, [u8]>,
}

/// A number of vectors with what keeps the error, and the bits that this is expected to take.
#[derive(Clone, Copy)]
struct Candidate {
    rank: usize,
    /// Squared error that rounding the factors may add.
    noise: f64,
    bits: f64,
    /// Whether factors alone take more than the best before.
    over: bool,
}

/// What a search needs to know.
struct Search<'a> {
    found: &'a Truncated,
    part: &'a Part<'a>,
    /// The squared change, and the squared error that is allowed: of the matrix, and of the part.
    all: f64,
    room_of_part: f64,
    room: f64,
}

impl<'a> Matrix<'a> {
    /// Takes a matrix' words, those of its base in the same type, and their changes.
    pub(super) fn new(
        dtype: Dtype,
        segment: Segment,
        words: [&'a [u8]; 2],
        change: &'a [f32],
    ) -> Result<Matrix<'a>> {
        let (rows, columns) = (segment.rows as usize, segment.row_len as usize);
        let whole = Part {
            unit: UnitSpec::new(dtype, Some(dtype), BLOCK, [segment])?,
            rows: Vec::new(),
            target: Cow::Borrowed(words[0]),
            base: Cow::Borrowed(words[1]),
        };
        Ok(Matrix { dtype, rows, columns, change, whole })
    }

    /// Finds factors, and words to store beside them, that keep `share` of the squared change.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn keeping(&self, share: f64, cx: Workers<'_>) -> Result<(Factors, Exact)> {
        let all = square_norm(self.change, cx);
        let none = (Factors::default(), Exact::NONE);
        if all == 0.0 || !all.is_finite() {
            return Ok(none);
        }
        let room = all * (1.0 - share).max(0.0) * MARGIN;
        let (part, change) = self.sampled()?;
        let room_of_part = room * change / all;
        let found = self.decomposed(&part, all, room_of_part, cx)?;
        let search = Search { found: &found, part: &part, all, room_of_part, room };
        let Some(best) = self.searched(&search, cx)? else { return Ok(none) };
        self.settled(&search, best, cx)
    }

    /// Returns rows to try candidates on, and their squared change.
    fn sampled(&self) -> Result<(Part<'a>, f64)> {
        let stride = (self.rows * self.columns / SAMPLE).clamp(1, self.rows.max(1));
        let rows: Vec<usize> = (stride / 2..self.rows).step_by(stride).collect();
        let length = self.columns * self.dtype.storage_bytes();
        let gather = |words: &[u8]| -> Vec<u8> {
            let row = |&i: &usize| words.get(i * length..(i + 1) * length).unwrap_or_default();
            rows.iter().flat_map(row).copied().collect()
        };
        let segment = Segment { rows: rows.len() as u64, row_len: self.columns as u64 };
        let part = Part {
            unit: UnitSpec::new(self.dtype, Some(self.dtype), BLOCK, [segment])?,
            target: Cow::Owned(gather(&self.whole.target)),
            base: Cow::Owned(gather(&self.whole.base)),
            rows,
        };
        let row = |&i: &usize| {
            self.change.get(i * self.columns..(i + 1) * self.columns).unwrap_or_default()
        };
        let change = part.rows.iter().map(|i| squares(row(i))).sum();
        Ok((part, change))
    }

    /// Finds as many singular vectors as it takes to keep the error, or as may pay.
    fn decomposed(
        &self,
        part: &Part<'_>,
        all: f64,
        room: f64,
        cx: Workers<'_>,
    ) -> Result<Truncated> {
        let matrix = Dense { rows: self.rows, columns: self.columns, entries: self.change };
        let share = part.unit.len() as f64 / (self.rows * self.columns).max(1) as f64;
        // Beyond, factors are as many numbers as the matrix.
        let useful = (self.rows * self.columns / (self.rows + self.columns))
            .clamp(1, self.rows.min(self.columns))
            .min(factors::MAX_RANK as usize);
        let mut size = FIRST_RANK.min(useful);
        loop {
            let found = matrix.truncated(size, cx)?;
            let last = share * found.sigma.last().map_or(0.0, |s| s * s);
            let rounded = self.rounded(&found, size, noise_floor(&found, size, all));
            let left = squares(&self.errors(part, &rounded, cx));
            // No later direction has more energy than the last one.
            let missing = (left - room) / last;
            if left <= room || size >= useful || last == 0.0 || missing > (useful - size) as f64 {
                return Ok(found);
            }
            size = (size + (missing.ceil() as usize).max(size)).min(useful);
        }
    }

    /// Returns the number of vectors that is expected to take the fewest bits.
    fn searched(&self, search: &Search<'_>, cx: Workers<'_>) -> Result<Option<Candidate>> {
        let most = search.found.sigma.iter().take_while(|s| **s > 0.0).count();
        let mut tried: Vec<Candidate> = Vec::new();
        let best =
            |tried: &[Candidate]| tried.iter().copied().min_by(|a, b| a.bits.total_cmp(&b.bits));
        // Twice as many each time, until factors alone take more than the best so far.
        let mut rank = 1;
        while rank <= most {
            let least = best(&tried).map_or(f64::INFINITY, |c| c.bits);
            tried.push(self.candidate(search, rank, least, cx)?);
            if tried.last().is_some_and(|c| c.over) || rank == most {
                break;
            }
            rank = (2 * rank).min(most);
        }
        // Then between the best and its neighbours.
        let Some(mut at) = best(&tried) else { return Ok(None) };
        let mut step = at.rank.div_ceil(2);
        while step > 0 {
            for rank in [at.rank.saturating_sub(step).max(1), (at.rank + step).min(most)] {
                if tried.iter().all(|t| t.rank != rank) {
                    tried.push(self.candidate(search, rank, at.bits, cx)?);
                }
            }
            at = best(&tried).unwrap_or(at);
            step /= 2;
        }
        Ok(Some(at))
    }

    /// Tries a number of vectors on a part of the rows.
    fn candidate(
        &self,
        search: &Search<'_>,
        rank: usize,
        least: f64,
        cx: Workers<'_>,
    ) -> Result<Candidate> {
        let &Search { found, part, all, room_of_part, room } = search;
        cx.cancel.check()?;
        let floor = noise_floor(found, rank, all);
        let bits = |f: &Factors| factor_bits(f, self.rows, self.columns);
        let factors = self.rounded(found, rank, floor);
        let errors = self.errors(part, &factors, cx);
        let mut candidate = Candidate { rank, noise: floor, bits: bits(&factors), over: false };
        if squares(&errors) > room_of_part {
            candidate.over = candidate.bits > least;
            let (_, count) = stored(&errors, room_of_part);
            let scale = (self.rows * self.columns) as f64 / errors.len().max(1) as f64;
            candidate.bits += scale * stored_bits(self.dtype, count, errors.len());
            return Ok(candidate);
        }
        // As coarse integers as the error allows.
        let (mut low, mut high) = (floor.ln(), (4.0 * room).max(2.0 * floor).ln());
        for _ in 0..NOISE_STEPS {
            let middle = (low + high) / 2.0;
            let coarser = self.rounded(found, rank, middle.exp());
            if squares(&self.errors(part, &coarser, cx)) <= room_of_part {
                candidate = Candidate { noise: middle.exp(), bits: bits(&coarser), ..candidate };
                low = middle;
            } else {
                high = middle;
            }
        }
        candidate.over = candidate.bits > least;
        Ok(candidate)
    }

    /// Returns factors, and the words that all rows need beside them.
    fn settled(
        &self,
        search: &Search<'_>,
        candidate: Candidate,
        cx: Workers<'_>,
    ) -> Result<(Factors, Exact)> {
        let &Search { found, all, room, .. } = search;
        let Candidate { rank, mut noise, .. } = candidate;
        let floor = noise_floor(found, rank, all);
        loop {
            cx.cancel.check()?;
            let factors = self.rounded(found, rank, noise);
            let errors = self.errors(&self.whole, &factors, cx);
            if squares(&errors) <= room {
                return Ok((factors, Exact::NONE));
            }
            if noise <= floor {
                return Ok((factors, stored(&errors, room).0));
            }
            noise = (FINER * noise).max(floor);
        }
    }

    fn rounded(&self, found: &Truncated, rank: usize, noise: f64) -> Factors {
        quantise(found, rank, self.rows, self.columns, noise)
    }

    /// Returns how far each restored word is off, 0 where it is stored in any case.
    fn errors(&self, part: &Part<'_>, factors: &Factors, cx: Workers<'_>) -> Vec<f32> {
        let mut bound = factors.bind(self.rows);
        if !part.rows.is_empty() {
            let row = |&i: &usize| {
                bound.left.get(i * bound.rank..(i + 1) * bound.rank).unwrap_or_default()
            };
            bound.left = part.rows.iter().flat_map(row).copied().collect();
        }
        let bound = [bound];
        let errors = cx.executor.map(part.unit.chunk_count() as usize, |chunk| {
            with_real!(self.dtype, errors, part, &bound, chunk as u64)
        });
        errors.concat()
    }
}

fn errors<R: Real>(part: &Part<'_>, bound: &[Bound], chunk: u64) -> Vec<f32> {
    let width = R::W::BYTES;
    let range = part.unit.chunk_range(chunk);
    let bytes = range.start as usize * width..range.end as usize * width;
    let target = part.target.get(bytes.clone()).unwrap_or_default();
    let base = part.base.get(bytes).unwrap_or_default();
    let (mut changes, mut restored) = (Vec::new(), Vec::new());
    predict::<R>(&part.unit, bound, chunk, base, &mut changes, &mut restored);
    let words = target.chunks_exact(width).zip(base.chunks_exact(width));
    words
        .zip(restored.chunks_exact(width))
        .map(|((t, p), r)| {
            let (t, p, r) = (R::W::load(t), R::W::load(p), R::W::load(r));
            if R::is_special(t) || R::is_special(p) { 0.0 } else { error_of::<R>(r, t) }
        })
        .collect()
}

fn squares(errors: &[f32]) -> f64 {
    errors.iter().map(|&e| f64::from(e).powi(2)).sum()
}

/// Returns the squared error that leaving out all but the first `rank` vectors leaves.
pub(super) fn loss(all: f64, found: &Truncated, rank: usize) -> f64 {
    (all - found.sigma.iter().take(rank).map(|s| s * s).sum::<f64>()).max(0.0)
}

/// Returns the least noise of rounding factors that is worth its bits.
pub(super) fn noise_floor(found: &Truncated, rank: usize, all: f64) -> f64 {
    (NOISE_OF_LOSS * loss(all, found, rank)).max(NOISE_OF_CHANGE * all)
}

/// Returns the words to store so that the others are off by a squared error of at most `room`, and
/// their number: the largest errors first.
fn stored(errors: &[f32], room: f64) -> (Exact, u64) {
    // Exponents and eight bits of mantissas.
    const SHIFT: u32 = 15;
    let mut buckets = vec![(0u64, 0f64); 1 << (32 - SHIFT)];
    for e in errors {
        let bucket = &mut buckets[(e.to_bits() >> SHIFT) as usize];
        bucket.0 += 1;
        bucket.1 += f64::from(*e).powi(2);
    }
    let (mut left, mut dropped) = (0.0, 0u64);
    let mut last = 0;
    for (number, (count, square)) in buckets.iter().enumerate() {
        last = number as u32;
        if left + square > room {
            break;
        }
        left += square;
        dropped += count;
    }
    let mut inside: Vec<f32> =
        errors.iter().copied().filter(|e| e.to_bits() >> SHIFT == last).collect();
    inside.sort_unstable_by(f32::total_cmp);
    let fits = |e: &&f32| {
        left += f64::from(**e).powi(2);
        left <= room
    };
    let fit = inside.iter().take_while(fits).count();
    let Some(&above) = inside.get(fit) else { return (Exact::NONE, 0) };
    let free = inside[..fit].iter().rev().take_while(|e| **e == above).count();
    let ties = inside.iter().filter(|e| **e == above).count();
    // Of equal errors the first ones are stored.
    let mut places = (0u64..).zip(errors).filter(|(_, e)| **e == above).map(|(at, _)| at);
    let ties_before = places.nth(ties - free - 1).map_or(0, |at| at + 1);
    let count = errors.len() as u64 - dropped - fit as u64;
    (Exact { above, ties_before }, count)
}

/// Returns the bits that integers of this size are expected to take.
fn factor_bits(factors: &Factors, rows: usize, columns: usize) -> f64 {
    let side = |numbers: &[i16], len: usize| -> f64 {
        let component = |c: &[i16]| {
            let square: f64 = c.iter().map(|&x| f64::from(x).powi(2)).sum();
            // The entropy of normal numbers, made to end in 0 for small ones.
            let mean = square / len as f64;
            len as f64
                * 0.5
                * (1.0 + 2.0 * std::f64::consts::PI * std::f64::consts::E * mean).log2()
        };
        numbers.chunks_exact(len.max(1)).map(component).sum()
    };
    side(&factors.left, rows) + side(&factors.right, columns)
}

/// Returns the bits that words stored among others are expected to take.
fn stored_bits(dtype: Dtype, count: u64, all: usize) -> f64 {
    // A sign and a small difference; in wider types, what is left of the mantissa.
    let word = if dtype.storage_bytes() == 2 { 2.0 } else { 12.0 };
    let (n, all) = (count as f64, all as f64);
    let part = |n: f64| if n > 0.0 { n * (all / n).log2() } else { 0.0 };
    part(n) + part(all - n) + word * n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_errors_are_stored_first() {
        let errors = [1.0, 3.0, 0.0, 2.0, 2.0, 2.0, 0.5];
        // 1 + 0.25 + two times 4.
        let (exact, count) = stored(&errors, 9.5);
        assert_eq!((exact, count), (Exact { above: 2.0, ties_before: 4 }, 2));
        let left: f32 =
            (0u64..).zip(errors).filter(|&(at, e)| !exact.stores(e, at)).map(|(_, e)| e * e).sum();
        assert_eq!(left, 9.25);
        assert_eq!(stored(&errors, 100.0).1, 0);
        let (exact, count) = stored(&errors, 0.0);
        assert_eq!((exact, count), (Exact { above: 0.5, ties_before: 7 }, 6));
    }
}
