//! Clustering: many histograms into few, with the least loss of coded size.

use super::freq::{entropy_bits, log2, weighted_log2};
use crate::simd::{self, Kernel, Simd};
use std::ops::Range;

/// Approximate bits of a table in the parameter block for each symbol that occurs ...
const SYMBOL_BITS: f64 = 5.0;
/// ... and this much by itself.
const TABLE_BITS: f64 = 8.0;

/// Most histograms that are merged pair by pair.
const PAIRWISE: usize = 96;

/// Number of items in order that are left to be merged pair by pair.
#[cfg(feature = "lossless")]
const CHAIN: usize = 16;

/// A histogram kept as its occurring symbols.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sparse {
    /// (symbol, count), ascending, counts above zero.
    pub(crate) entries: Vec<(u32, u64)>,
}

impl Sparse {
    pub(crate) fn from_dense(counts: &[u64]) -> Sparse {
        Sparse { entries: (0..).zip(counts).filter(|e| *e.1 > 0).map(|(s, &c)| (s, c)).collect() }
    }

    pub(crate) fn total(&self) -> u64 {
        self.entries.iter().map(|e| e.1).sum()
    }
}

/// Computation of a histogram's own coded size. Symbols of an item may belong to several blocks of
/// `block` symbols, each with an entropy of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Symbols per block.
    pub(crate) block: usize,
    /// Bits charged per occurring symbol.
    pub(crate) symbol: f64,
    /// Bits charged per occurring block.
    pub(crate) used_block: f64,
    /// Histograms above this number are first grouped coarsely, then merged pair by pair.
    pub(crate) pairwise: usize,
    /// Items come in an order, and only neighbours are merged until this many are left. Zero: all
    /// pairs are tried.
    pub(crate) chain: usize,
}

impl Cost {
    /// Prices frequency tables: one block, the table's own cost included.
    pub(crate) fn of_table(tokens: usize) -> Cost {
        Cost {
            block: tokens,
            symbol: SYMBOL_BITS,
            used_block: TABLE_BITS,
            pairwise: PAIRWISE,
            chain: 0,
        }
    }

    /// Prices profiles: a block per key.
    ///
    /// What counts is the entropy given the key, and the look-up entry.
    #[cfg(feature = "lossless")]
    pub(crate) fn of_profile(tokens: usize) -> Cost {
        Cost { block: tokens, symbol: 0.0, used_block: 12.0, pairwise: PAIRWISE, chain: 0 }
    }

    /// Trades the last tenth of a percent for time.
    #[cfg(feature = "lossless")]
    pub(crate) fn quick(self) -> Cost {
        Cost { pairwise: PAIRWISE / 2, ..self }
    }

    /// Trades half a percent for time.
    #[cfg(feature = "lossless")]
    pub(crate) fn quickest(self) -> Cost {
        Cost { pairwise: PAIRWISE / 3, ..self }
    }

    /// Merges neighbours only.
    ///
    /// This is for items in an order in which neighbours are similar, such as that of levels.
    #[cfg(feature = "lossless")]
    pub(crate) fn chain(self) -> Cost {
        Cost { chain: CHAIN, pairwise: usize::MAX, ..self }
    }

    /// Computes the cost of two histograms in one.
    fn joint_bits(self, a: &[u64], b: &[u64], blocks: &[Range<usize>]) -> f64 {
        simd::run(Simd::from_env(), Joint { cost: self, a, b, blocks })
    }
}

struct Joint<'a> {
    cost: Cost,
    a: &'a [u64],
    b: &'a [u64],
    blocks: &'a [Range<usize>],
}

/// Sums side by side, each in the order of its symbols: the result does not depend on vectors.
const SUMS: usize = 8;

impl Kernel for Joint<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut bits = 0.0;
        for block in self.blocks {
            let (mut totals, mut used, mut sums) = ([0u64; SUMS], [0u64; SUMS], [0f64; SUMS]);
            let mut add = |a: &[u64], b: &[u64]| {
                for i in 0..a.len().min(SUMS) {
                    let c = a[i] + b[i];
                    totals[i] += c;
                    used[i] += u64::from(c > 0);
                    sums[i] += weighted_log2(c);
                }
            };
            let (a, a_rest) = self.a[block.clone()].as_chunks::<SUMS>();
            let (b, b_rest) = self.b[block.clone()].as_chunks::<SUMS>();
            a.iter().zip(b).for_each(|(a, b)| add(a, b));
            add(a_rest, b_rest);
            let used: u64 = used.iter().sum();
            if used > 0 {
                let entropy = weighted_log2(totals.iter().sum()) - sums.iter().sum::<f64>();
                bits += entropy.max(0.0) + self.cost.symbol * used as f64 + self.cost.used_block;
            }
        }
        bits
    }
}

/// Groups `items` into at most `limit` clusters.
///
/// Symbols are below `symbols`. Returns each item's cluster; clusters are numbered from 0 without
/// gaps.
///
/// First Lloyd's algorithm from farthest-first seeds, then greedy merging of the pair that costs
/// least, on past the limit while merging saves more in side information than it loses in entropy.
pub(crate) fn cluster(items: &[Sparse], symbols: usize, limit: usize, cost: Cost) -> Vec<usize> {
    if items.is_empty() {
        return Vec::new();
    }
    let (items, blocks) = compact(items, symbols, cost.block);
    let symbols = blocks.last().map_or(0, |b| b.end);
    let mut assigned: Vec<usize> = if items.len() <= cost.pairwise {
        (0..items.len()).collect()
    } else {
        lloyd(&items, symbols, &blocks, cost.pairwise.max(limit), cost)
    };
    let count = assigned.iter().max().map_or(0, |m| m + 1);
    let mut sums = vec![vec![0u64; symbols]; count];
    for (item, &a) in items.iter().zip(&assigned) {
        add(&mut sums[a], item);
    }
    merge(&mut sums, &blocks, limit, cost, &mut assigned);
    assigned
}

/// Drops the symbols that occur in no item.
///
/// Also returns what became of the blocks: most of (key, token) never occurs.
fn compact(items: &[Sparse], symbols: usize, block: usize) -> (Vec<Sparse>, Vec<Range<usize>>) {
    let mut number = vec![u32::MAX; symbols];
    for item in items {
        item.entries.iter().for_each(|&(s, _)| number[s as usize] = 0);
    }
    let mut blocks = Vec::new();
    let mut next = 0;
    for block in number.chunks_mut(block) {
        let start = next;
        for n in block.iter_mut().filter(|n| **n == 0) {
            *n = next as u32;
            next += 1;
        }
        if next > start {
            blocks.push(start..next);
        }
    }
    let renumber = |item: &Sparse| Sparse {
        entries: item.entries.iter().map(|&(s, c)| (number[s as usize], c)).collect(),
    };
    (items.iter().map(renumber).collect(), blocks)
}

fn add(dense: &mut [u64], item: &Sparse) {
    for &(s, c) in &item.entries {
        dense[s as usize] += c;
    }
}

/// Merges greedily; renumbers `assigned`.
fn merge(
    sums: &mut [Vec<u64>],
    blocks: &[Range<usize>],
    limit: usize,
    cost: Cost,
    assigned: &mut [usize],
) {
    let n = sums.len();
    let nothing = vec![0; sums.first().map_or(0, Vec::len)];
    let mut own: Vec<f64> = sums.iter().map(|s| cost.joint_bits(s, &nothing, blocks)).collect();
    let mut alive: Vec<bool> = vec![true; n];
    let mut target: Vec<usize> = (0..n).collect();
    let joint = |a: &[u64], b: &[u64]| cost.joint_bits(a, b, blocks);
    // loss[i][j], i < j: bits lost by merging the two.
    let mut loss = vec![vec![f64::INFINITY; n]; n];
    let mut chain = cost.chain > 0 && n > cost.chain;
    for j in 1..n {
        for i in if chain { j - 1 } else { 0 }..j {
            loss[i][j] = joint(&sums[i], &sums[j]) - own[i] - own[j];
        }
    }
    let mut left = n;
    while left > 1 {
        let mut best = (f64::INFINITY, 0, 0);
        for i in (0..n).filter(|&i| alive[i]) {
            for j in (i + 1..n).filter(|&j| alive[j]) {
                if loss[i][j] < best.0 {
                    best = (loss[i][j], i, j);
                }
            }
        }
        let (bits, i, j) = best;
        if left <= limit && bits >= 0.0 {
            break;
        }
        let absorbed = std::mem::take(&mut sums[j]);
        sums[i].iter_mut().zip(&absorbed).for_each(|(a, b)| *a += b);
        own[i] = joint(&sums[i], &nothing);
        alive[j] = false;
        target[j] = i;
        left -= 1;
        let next = (i + 1..n).find(|&k| alive[k]);
        let before = (0..i).rev().find(|&k| alive[k]);
        for k in (0..n).filter(|&k| alive[k] && k != i) {
            if !chain || Some(k) == next || Some(k) == before {
                let (a, b) = (i.min(k), i.max(k));
                loss[a][b] = joint(&sums[a], &sums[b]) - own[a] - own[b];
            }
        }
        if chain && left == cost.chain {
            chain = false;
            let alive: Vec<usize> = (0..n).filter(|&k| alive[k]).collect();
            for (at, &b) in alive.iter().enumerate() {
                for &a in &alive[..at] {
                    loss[a][b] = joint(&sums[a], &sums[b]) - own[a] - own[b];
                }
            }
        }
    }
    let mut number = vec![usize::MAX; n];
    for (next, i) in (0..n).filter(|&i| alive[i]).enumerate() {
        number[i] = next;
    }
    for a in assigned {
        while !alive[*a] {
            *a = target[*a];
        }
        *a = number[*a];
    }
}

/// Computes bits per symbol under smoothed frequencies, for every block.
fn prices(sum: &[u64], blocks: &[Range<usize>], out: &mut [f32]) {
    for block in blocks {
        let (counts, out) = (&sum[block.clone()], &mut out[block.clone()]);
        let total: u64 = counts.iter().sum();
        let smooth = 0.02;
        let all = log2(total as f64 + smooth * counts.len() as f64);
        for (o, &c) in out.iter_mut().zip(counts) {
            *o = (all - log2(c as f64 + smooth)) as f32;
        }
    }
}

/// Symbols and how often they occur.
type Weights = Vec<(u32, f64)>;

fn price(item: &[(u32, f64)], prices: &[f32]) -> f64 {
    // Four sums, because one would wait for itself.
    let mut sums = [0.0; 4];
    let price = |&(s, n): &(u32, f64)| n * f64::from(prices[s as usize]);
    let (fours, rest) = item.as_chunks::<4>();
    for four in fours {
        sums.iter_mut().zip(four).for_each(|(sum, entry)| *sum += price(entry));
    }
    sums.iter().sum::<f64>() + rest.iter().map(price).sum::<f64>()
}

/// Clusters by Lloyd's algorithm.
///
/// Seeds have the largest excess over the item's own entropy; then come a few rounds.
fn lloyd(
    items: &[Sparse],
    symbols: usize,
    blocks: &[Range<usize>],
    count: usize,
    cost: Cost,
) -> Vec<usize> {
    let floor: Vec<f64> = items
        .iter()
        .map(|item| {
            let mut dense = vec![0; symbols];
            add(&mut dense, item);
            blocks.iter().map(|b| entropy_bits(&dense[b.clone()])).sum()
        })
        .collect();
    let weights: Vec<Weights> = items
        .iter()
        .map(|item| item.entries.iter().map(|&(s, n)| (s, n as f64)).collect())
        .collect();
    let mut table = vec![0f32; symbols];
    let mut dense = vec![0u64; symbols];
    let mut best = vec![f64::INFINITY; items.len()];
    let mut assigned = vec![0; items.len()];
    let mut seed =
        (0..items.len()).max_by_key(|&i| (items[i].total(), std::cmp::Reverse(i))).unwrap_or(0);
    for cluster in 0..count {
        dense.fill(0);
        add(&mut dense, &items[seed]);
        prices(&dense, blocks, &mut table);
        for (i, item) in weights.iter().enumerate() {
            let bits = price(item, &table);
            if bits < best[i] {
                best[i] = bits;
                assigned[i] = cluster;
            }
        }
        let excess = |i: usize| best[i] - floor[i];
        seed = (0..items.len()).max_by(|&a, &b| excess(a).total_cmp(&excess(b))).unwrap_or(0);
        if excess(seed) < cost.used_block {
            break;
        }
    }
    for _ in 0..3 {
        let clusters = assigned.iter().max().map_or(0, |m| m + 1);
        let mut sums = vec![vec![0u64; symbols]; clusters];
        for (item, &a) in items.iter().zip(&assigned) {
            add(&mut sums[a], item);
        }
        best.fill(f64::INFINITY);
        for (c, sum) in sums.iter().enumerate().filter(|s| s.1.iter().any(|&n| n > 0)) {
            prices(sum, blocks, &mut table);
            for (i, item) in weights.iter().enumerate() {
                let bits = price(item, &table);
                if bits < best[i] {
                    best[i] = bits;
                    assigned[i] = c;
                }
            }
        }
    }
    // Close the gaps that emptied clusters left.
    let mut number = std::collections::BTreeMap::new();
    for &a in &assigned {
        let next = number.len();
        number.entry(a).or_insert(next);
    }
    assigned.iter().map(|a| number[a]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(counts: &[u64]) -> Sparse {
        Sparse::from_dense(counts)
    }

    #[test]
    fn alike_histograms_meet() {
        let items: Vec<_> = (0..300u64)
            .map(|i| {
                if i % 3 == 0 {
                    item(&[1000 + i % 7, 10, 1])
                } else {
                    item(&[10, 1000 + i % 7, 500])
                }
            })
            .collect();
        let c = cluster(&items, 3, 4, Cost::of_table(3));
        assert!(c.iter().all(|&c| c < 2), "{c:?}");
        assert_ne!(c[0], c[1]);
        assert!((0..300).all(|i| c[i] == c[i % 3]));
    }

    #[test]
    fn a_chain_merges_neighbours() {
        let items: Vec<_> = (0..120u64).map(|i| item(&[1000 + 10 * i, 3000 - 20 * i])).collect();
        let c = cluster(&items, 2, 5, Cost::of_profile(2).chain());
        assert!(c.is_sorted(), "{c:?}");
        assert_eq!(c.last(), Some(&4));
    }

    #[test]
    fn the_limit_holds() {
        let items: Vec<_> = (0..200usize)
            .map(|i| {
                let mut h = [0; 64];
                h[i % 64] = 1_000_000;
                item(&h)
            })
            .collect();
        let c = cluster(&items, 64, 7, Cost::of_table(64));
        assert_eq!(c.iter().max(), Some(&6));
        assert!(cluster(&[], 64, 7, Cost::of_table(64)).is_empty());
    }
}
