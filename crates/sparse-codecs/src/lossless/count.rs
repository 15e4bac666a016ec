//! Counting tokens, and how large the changes of a run are.

use super::model::KEYS;
use super::scan::Scan;
use crate::word::{Word, with_word};
use std::collections::BTreeMap;
use std::ops::Range;

/// The sum of absolute changes of a piece of a run, in units of the smallest key's unit in the last place; keys are
/// exponents, or half-exponents.
pub(super) fn sum_of_changes(scan: &Scan, range: Range<usize>, word_bytes: usize, halves: bool) -> f64 {
    let by_key = with_word!(word_bytes, sum_by_key, scan, range);
    // Four sums, because one would wait for itself.
    let mut sums = [0f64; 4];
    for (i, four) in by_key.as_chunks::<4>().0.iter().enumerate() {
        for (j, (sum, &n)) in sums.iter_mut().zip(four).enumerate() {
            let key = 4 * i + j;
            let (exponent, half) = if halves { (key / 2, key % 2 == 1) } else { (key, false) };
            let scale = f64::from_bits((1023 + exponent as u64) << 52);
            *sum += n as f64 * if half { scale * std::f64::consts::SQRT_2 } else { scale };
        }
    }
    sums.iter().sum()
}

fn sum_by_key<W: Word>(scan: &Scan, range: Range<usize>) -> [u64; KEYS] {
    let values = scan.values[range.start * W::BYTES..range.end * W::BYTES].chunks_exact(W::BYTES);
    // Two sums for each, because one would wait for itself.
    let mut sums = [[0u64; KEYS]; 2];
    for (i, (value, &key)) in values.zip(&scan.keys[range]).enumerate() {
        sums[i % 2][key as usize % KEYS] += W::load(value).div_ceil(2).min(1 << 40);
    }
    std::array::from_fn(|k| sums[0][k] + sums[1][k])
}

/// Count tokens by key; each counts as `weight`.
pub(super) fn add_counts(counts: &mut [u32], count: usize, keys: &[u8], tokens: &[u8], weight: u32) {
    for (&key, &token) in keys.iter().zip(tokens) {
        counts[key as usize * count + token as usize] += weight;
    }
}

/// The counts of a level or profile, by key and token.
pub(super) fn group(counts: &mut BTreeMap<i32, Vec<u32>>, key: i32, tokens: usize) -> &mut Vec<u32> {
    counts.entry(key).or_insert_with(|| vec![0; KEYS * tokens])
}
