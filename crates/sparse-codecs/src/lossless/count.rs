//! Counting tokens, and how large the changes of a run are.

use super::model::KEYS;
use super::scan::Scan;
use crate::simd::{self, Kernel, Simd};
use crate::word::{Word, with_word};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;

/// Sums the absolute changes of a piece of a run.
///
/// In units of the smallest key's unit in the last place; keys are exponents, or half-exponents.
pub(super) fn sum_of_changes(
    simd: Simd,
    scan: &Scan,
    range: Range<usize>,
    word_bytes: usize,
    halves: bool,
) -> f32 {
    let values = &scan.values[range.start * word_bytes..range.end * word_bytes];
    with_word!(word_bytes, sum_of, simd, values, &scan.keys[range], halves)
}

fn sum_of<W: Word>(simd: Simd, values: &[u8], keys: &[u8], halves: bool) -> f32 {
    simd::run(simd, Sum::<W> { values, keys, halves, word: PhantomData })
}

struct Sum<'a, W> {
    /// Zig-zag values.
    values: &'a [u8],
    keys: &'a [u8],
    halves: bool,
    word: PhantomData<W>,
}

/// Sums side by side; each is taken in the order of its elements, so that the result does not
/// depend on vectors.
const SUMS: usize = 16;

/// The mantissa of the square root of two.
const HALF: u32 = 0x35_04f3;

impl<W: Word> Kernel for Sum<'_, W> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let Sum { values, keys, halves, .. } = self;
        let half = u32::from(halves);
        let add = |sum: &mut f32, value: &[u8], key: u8| {
            let v = W::load(value);
            // Up to 2^40: times the largest scale, 2^63, and the number of elements it is far from
            // infinite.
            let change = ((v >> 1) + (v & 1)).min(1 << 40);
            let change = if W::BITS <= 32 { change as u32 as f32 } else { change as f32 };
            let key = u32::from(key) % KEYS as u32;
            *sum += change * f32::from_bits(((127 + (key >> half)) << 23) | ((key & half) * HALF));
        };
        let mut sums = [0f32; SUMS];
        let (blocks, rest) = keys.as_chunks::<SUMS>();
        let (value_blocks, value_rest) = values.split_at(blocks.len() * SUMS * W::BYTES);
        for (keys, values) in blocks.iter().zip(value_blocks.chunks_exact(SUMS * W::BYTES)) {
            for ((sum, &key), value) in sums.iter_mut().zip(keys).zip(values.chunks_exact(W::BYTES))
            {
                add(sum, value, key);
            }
        }
        for ((sum, &key), value) in sums.iter_mut().zip(rest).zip(value_rest.chunks_exact(W::BYTES))
        {
            add(sum, value, key);
        }
        sums.iter().sum()
    }
}

/// Counts tokens by key; each counts as `weight`.
pub(super) fn add_counts(
    counts: &mut [u32],
    count: usize,
    keys: &[u8],
    tokens: &[u8],
    weight: u32,
) {
    for (&key, &token) in keys.iter().zip(tokens) {
        counts[key as usize * count + token as usize] += weight;
    }
}

/// Returns the counts of a level or profile, by key and token.
pub(super) fn group(
    counts: &mut BTreeMap<i32, Vec<u32>>,
    key: i32,
    tokens: usize,
) -> &mut Vec<u32> {
    counts.entry(key).or_insert_with(|| vec![0; KEYS * tokens])
}
