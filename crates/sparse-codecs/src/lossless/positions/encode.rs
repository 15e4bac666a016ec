//! Finding positions, settling their tables, encoding them.

use super::{
    Class, GAP_BITS, GAPS, MAX_CLASSES, MAX_ORDER, Positions, class_maps, count_bits, put_count,
};
use crate::entropy::bits::BitWriter;
use crate::entropy::cluster::{Cost, Sparse, cluster};
use crate::entropy::freq::{FreqTable, entropy_bits};
use crate::entropy::rans::{self, EncodeScratch, EncodeTables};
use crate::entropy::token::MAX_TOKENS;
use crate::entropy::varint;
use crate::lossless::model::{KEYS, Model};
use crate::simd::{self, Simd};

/// Classes that the encoder makes at most: each costs the decoder one more look at a chunk.
const CLASSES: usize = 12;

/// Cost of a class besides its changes, in bits: its parameters, and for each chunk the number of
/// changes. The time for a pass over the whole chunk is included as bits.
const CLASS_BITS: f64 = 24.0;
const CLASS_BITS_PER_CHUNK: f64 = 24.0;
const CLASS_BITS_PER_CHANGE: f64 = 1.0 / 256.0;

/// The changes of a chunk, class by class.
#[derive(Debug, Default)]
pub(in crate::lossless) struct Located {
    gaps: Vec<u32>,
    places: Vec<u32>,
    /// End of each class in these.
    ends: Vec<usize>,
    changed: Vec<u64>,
    members: Vec<u64>,
}

impl Located {
    /// Finds the elements whose token is not zero.
    ///
    /// `classes` has the class of each element, below `count`.
    pub(in crate::lossless) fn locate(
        &mut self,
        simd: Simd,
        classes: &[u8],
        tokens: &[u8],
        count: usize,
    ) {
        let Located { gaps, places, ends, changed, members } = self;
        gaps.clear();
        places.clear();
        ends.clear();
        simd::masks(simd, tokens, 0, changed);
        changed.iter_mut().for_each(|m| *m = !*m);
        if let Some(last) = changed.last_mut().filter(|_| !tokens.len().is_multiple_of(64)) {
            *last &= (1 << (tokens.len() % 64)) - 1;
        }
        for class in (0u8..).take(count) {
            simd::masks(simd, classes, class, members);
            // Elements of the class so far, and those up to the last change.
            let (mut seen, mut next) = (0u32, 0u32);
            for (start, (&changed, &members)) in
                (0u32..).step_by(64).zip(changed.iter().zip(&*members))
            {
                let mut hits = changed & members;
                while hits != 0 {
                    let bit = hits.trailing_zeros();
                    hits &= hits - 1;
                    let ordinal = seen + (members & ((1 << bit) - 1)).count_ones();
                    gaps.push(ordinal - next);
                    places.push(start + bit);
                    next = ordinal + 1;
                }
                seen += members.count_ones();
            }
            ends.push(gaps.len());
        }
    }

    /// Returns gaps and places per class.
    fn by_class(&self) -> impl Iterator<Item = (&[u32], &[u32])> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let range = std::mem::replace(&mut start, end)..end;
            (&self.gaps[range.clone()], &self.places[range])
        })
    }
}

/// Number of shifts of gaps that are tried, around the expected one.
const SHIFTS: usize = 5;

/// Mean gap over `2^shift`, at least: then the low bits of gaps are as good as uniform.
const MEAN_TOKEN: f64 = 4.0;

/// Sums over the chunks of one pass.
#[derive(Clone, Debug)]
pub(in crate::lossless) struct PositionCounts {
    /// Class of each frequency table.
    classes: Vec<u8>,
    sums: Vec<ClassCounts>,
    /// Raw bits of changes.
    raw_bits: u64,
    /// Chunks counted.
    pub(in crate::lossless) chunks: u64,
}

#[derive(Clone, Debug)]
struct ClassCounts {
    /// The first of the shifts tried.
    first_shift: u8,
    /// Gap tokens, by shift.
    gaps: [Vec<u64>; SHIFTS],
    gap_sum: u64,
    /// Tokens of changes.
    values: Vec<u64>,
    /// Bits of the numbers of changes, by order of their code.
    order_bits: [u64; MAX_ORDER as usize + 1],
}

impl ClassCounts {
    fn new(first_shift: u8) -> ClassCounts {
        ClassCounts {
            first_shift,
            gaps: std::array::from_fn(|_| vec![0; GAPS.token_count(GAP_BITS)]),
            gap_sum: 0,
            values: vec![0; MAX_TOKENS],
            order_bits: [0; MAX_ORDER as usize + 1],
        }
    }

    fn changes(&self) -> u64 {
        self.values.iter().sum()
    }

    /// Returns the best order, and its bits.
    fn order(&self) -> (u8, u64) {
        (0..).zip(&self.order_bits).min_by_key(|o| *o.1).map_or((0, 0), |(k, &bits)| (k, bits))
    }

    /// Chooses the shift that leaves the same mean in all classes.
    ///
    /// They can then share tables. Also returns the tokens with it.
    fn gaps(&self) -> (u8, &[u64]) {
        let mean = self.gap_sum as f64 / self.changes().max(1) as f64;
        let shift = shift_for(mean).clamp(self.first_shift, self.first_shift + SHIFTS as u8 - 1);
        (shift, &self.gaps[usize::from(shift - self.first_shift)])
    }
}

fn shift_for(mean_gap: f64) -> u8 {
    (mean_gap / MEAN_TOKEN).max(1.0).log2() as u8
}

impl PositionCounts {
    /// Sorts tables into classes.
    ///
    /// `tables` has, for each, the counts of tokens that were coded with it; `chunks` is how many
    /// chunks will be coded.
    pub(in crate::lossless) fn new(tables: &[Vec<u64>], chunks: u64) -> PositionCounts {
        let shares: Vec<(u64, u64)> = tables.iter().map(|t| share(t)).collect();
        let classes = classify(&shares, chunks);
        let count = classes.iter().max().map_or(1, |&c| usize::from(c) + 1);
        let sums = (0..count).map(|class| {
            let own = classes.iter().zip(&shares).filter(|c| usize::from(*c.0) == class);
            let (all, changed) = own.fold((0, 0), |(a, c), (_, s)| (a + s.0, c + s.1));
            let expected = shift_for((all - changed) as f64 / changed.max(1) as f64);
            ClassCounts::new(expected.saturating_sub(SHIFTS as u8 / 2))
        });
        PositionCounts { sums: sums.collect(), classes, raw_bits: 0, chunks: 0 }
    }

    /// Returns the class of each table.
    pub(in crate::lossless) fn classes(&self) -> &[u8] {
        &self.classes
    }

    /// Returns the number of classes.
    pub(in crate::lossless) fn count(&self) -> usize {
        self.sums.len()
    }

    /// Changes counted.
    pub(in crate::lossless) fn changes(&self) -> u64 {
        self.sums.iter().map(ClassCounts::changes).sum()
    }

    /// Counts a chunk.
    pub(in crate::lossless) fn add(
        &mut self,
        located: &Located,
        tokens: &[u8],
        raw_counts: &[u8; MAX_TOKENS],
    ) {
        for (sums, (gaps, places)) in self.sums.iter_mut().zip(located.by_class()) {
            for &gap in gaps {
                for (shift, counts) in (sums.first_shift..).zip(&mut sums.gaps) {
                    counts[GAPS.split(u64::from(gap) >> shift).token as usize] += 1;
                }
                sums.gap_sum += u64::from(gap);
            }
            for &place in places {
                let token = usize::from(tokens[place as usize]);
                sums.values[token] += 1;
                self.raw_bits += u64::from(raw_counts[token]);
            }
            for (k, bits) in (0..).zip(&mut sums.order_bits) {
                *bits += u64::from(count_bits(gaps.len() as u64, k));
            }
        }
        self.chunks += 1;
    }

    /// Adds what was counted elsewhere, with the same classes.
    pub(in crate::lossless) fn merge(&mut self, other: &PositionCounts) {
        fn add(a: &mut [u64], b: &[u64]) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
        for (a, b) in self.sums.iter_mut().zip(&other.sums) {
            a.gaps.iter_mut().zip(&b.gaps).for_each(|(a, b)| add(a, b));
            a.gap_sum += b.gap_sum;
            add(&mut a.values, &b.values);
            add(&mut a.order_bits, &b.order_bits);
        }
        self.raw_bits += other.raw_bits;
        self.chunks += other.chunks;
    }

    /// Returns the tables, and the bits that the chunks take with them.
    ///
    /// States are not counted.
    pub(in crate::lossless) fn finish(&self) -> (Positions, f64) {
        let gaps: Vec<(u8, &[u64])> = self.sums.iter().map(ClassCounts::gaps).collect();
        let orders: Vec<(u8, u64)> = self.sums.iter().map(ClassCounts::order).collect();
        let mut bits = (self.raw_bits + orders.iter().map(|o| o.1).sum::<u64>()) as f64;
        for &(shift, counts) in &gaps {
            let raw =
                |(token, &n): (u32, &u64)| n * u64::from(GAPS.expand(token).0 + u32::from(shift));
            bits += (0..).zip(counts).map(raw).sum::<u64>() as f64;
        }
        let mut tables = Vec::new();
        let mut share = |counts: Vec<&[u64]>| {
            let items: Vec<Sparse> = counts.iter().map(|c| Sparse::from_dense(c)).collect();
            let symbols = counts.iter().map(|c| c.len()).max().unwrap_or(1);
            let table_of = cluster(&items, symbols, MAX_CLASSES, Cost::of_table(symbols));
            let first = tables.len();
            for t in 0..table_of.iter().max().map_or(0, |m| m + 1) {
                let mut sum = vec![0u64; symbols];
                let own =
                    items.iter().zip(&table_of).filter(|i| *i.1 == t).flat_map(|i| &i.0.entries);
                own.for_each(|&(s, n)| sum[s as usize] += n);
                bits += entropy_bits(&sum);
                tables.push(FreqTable::from_counts(&sum));
            }
            table_of.into_iter().map(|t| (first + t) as u8).collect::<Vec<_>>()
        };
        let gap_tables = share(gaps.iter().map(|g| g.1).collect());
        let value_tables = share(self.sums.iter().map(|s| &s.values[..]).collect());
        let coding = (gaps.iter().zip(&orders)).zip(gap_tables.iter().zip(&value_tables));
        let coding = coding
            .map(|((&(shift, _), &(order, _)), (&gaps, &values))| Class {
                order,
                shift,
                gaps,
                values,
            })
            .collect();
        (Positions { classes: self.classes.clone(), coding, tables }, bits)
    }
}

/// Returns the number of elements that a table coded, and the number of these that changed.
fn share(counts: &[u64]) -> (u64, u64) {
    let all = counts.iter().sum::<u64>();
    (all, all - counts.first().copied().unwrap_or(0))
}

/// Computes the cost of tokens as positions, in bits.
///
/// For each of `tables` (the counts of tokens coded with it), by token. Every token has a price.
pub(in crate::lossless) fn prices(
    tables: &[Vec<u64>],
    classes: &[u8],
    tokens: usize,
) -> Vec<Vec<f32>> {
    const UNSEEN: f64 = 0.1;
    let mut by_class =
        vec![vec![0; tokens]; classes.iter().max().map_or(1, |&c| usize::from(c) + 1)];
    for (&class, counts) in classes.iter().zip(tables) {
        by_class[usize::from(class)].iter_mut().zip(counts).for_each(|(a, b)| *a += b);
    }
    let price = |counts: &Vec<u64>| -> Vec<f32> {
        let (all, changed) = share(counts);
        let (all, changed) = (all as f64 + 1.0, changed as f64 + 0.5);
        let of_change = |n: u64| {
            let value = (n as f64 + UNSEEN) / (changed + UNSEEN * tokens as f64);
            -(changed / all * value).log2()
        };
        let unchanged = -(1.0 - changed / all).log2();
        std::iter::once(unchanged)
            .chain(counts.iter().skip(1).map(|&n| of_change(n)))
            .map(|p| p as f32)
            .collect()
    };
    let by_class: Vec<Vec<f32>> = by_class.iter().map(price).collect();
    classes.iter().map(|&c| by_class[usize::from(c)].clone()).collect()
}

/// Sorts tables into classes of about equal probability of change.
///
/// It finds the best partition of the tables, in order of that probability, by dynamic programming.
fn classify(tables: &[(u64, u64)], chunks: u64) -> Vec<u8> {
    let share = |&(all, changed): &(u64, u64)| changed as f64 / all.max(1) as f64;
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by(|&a, &b| share(&tables[a]).total_cmp(&share(&tables[b])).then(a.cmp(&b)));
    let changes: u64 = tables.iter().map(|t| t.1).sum();
    let class_bits =
        CLASS_BITS + CLASS_BITS_PER_CHUNK * chunks as f64 + CLASS_BITS_PER_CHANGE * changes as f64;
    // Least bits for the first tables, by their number and that of classes, and the first table of
    // the last class.
    let mut best: Vec<Vec<(f64, usize)>> = vec![vec![(0.0, 0)]];
    for end in 1..=order.len() {
        let mut by_count = vec![(f64::INFINITY, 0); CLASSES.min(end) + 1];
        let (mut all, mut changed) = (0, 0);
        for start in (0..end).rev() {
            let (a, c) = tables[order[start]];
            all += a;
            changed += c;
            let bits = entropy_bits(&[all - changed.min(all), changed]) + class_bits;
            for (count, &(before, _)) in best[start].iter().enumerate().take(CLASSES) {
                // No class at all is only before the first table.
                if (count == 0) == (start == 0) && before + bits < by_count[count + 1].0 {
                    by_count[count + 1] = (before + bits, start);
                }
            }
        }
        best.push(by_count);
    }
    let last = &best[order.len()];
    let mut count = (1..last.len()).min_by(|&a, &b| last[a].0.total_cmp(&last[b].0)).unwrap_or(0);
    let mut classes = vec![0; tables.len()];
    let mut end = order.len();
    while count > 0 {
        let start = best[end][count].1;
        count -= 1;
        order[start..end].iter().for_each(|&t| classes[t] = count as u8);
        end = start;
    }
    classes
}

/// Parameters of a unit for encoding positions.
#[derive(Debug)]
pub(in crate::lossless) struct PositionEncoder {
    /// From key to class, per profile.
    pub(in crate::lossless) class_maps: Vec<[u8; KEYS]>,
    coding: Vec<Class>,
    tables: EncodeTables,
}

impl PositionEncoder {
    pub(in crate::lossless) fn new(
        simd: Simd,
        model: &Model,
        positions: &Positions,
    ) -> PositionEncoder {
        PositionEncoder {
            class_maps: class_maps(model, &positions.classes),
            coding: positions.coding.clone(),
            tables: EncodeTables::on(simd, &positions.tables),
        }
    }

    /// Returns the number of classes.
    pub(in crate::lossless) fn count(&self) -> usize {
        self.coding.len()
    }

    /// Appends the changes to `out`, and their raw bits to `raw`.
    ///
    /// `out` gets the number of words, states and words. `value` returns the raw bits of the
    /// element at a place, and their number. Returns true if all changes have a code; else `out` is
    /// unchanged.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::lossless) fn encode(
        &self,
        located: &Located,
        tokens: &[u8],
        values: &dyn Fn(usize) -> (u64, u32),
        lanes: usize,
        raw: &mut BitWriter,
        scratch: &mut PositionScratch,
        rans: &mut EncodeScratch,
        out: &mut Vec<u8>,
    ) -> bool {
        let PositionScratch { symbols, contexts, coded } = scratch;
        symbols.clear();
        contexts.clear();
        coded.clear();
        for ((gaps, _), class) in located.by_class().zip(&self.coding) {
            put_count(raw, gaps.len() as u32, class.order);
        }
        for ((gaps, places), class) in located.by_class().zip(&self.coding) {
            for &gap in gaps {
                let t = class.split(gap);
                symbols.push(t.token as u8);
                raw.put(t.raw, t.raw_bits);
            }
            for &place in places {
                symbols.push(tokens[place as usize]);
                let (value, bits) = values(place as usize);
                raw.put(value, bits);
            }
            contexts.resize(contexts.len() + gaps.len(), class.gaps);
            contexts.resize(contexts.len() + gaps.len(), class.values);
        }
        match rans::encode(symbols, contexts, &self.tables, lanes, rans, coded) {
            Ok(words) => {
                varint::put(out, words as u64);
                out.extend_from_slice(coded);
                true
            }
            Err(_) => false,
        }
    }
}

/// Scratch memory of [`PositionEncoder::encode`].
#[derive(Debug, Default)]
pub(in crate::lossless) struct PositionScratch {
    symbols: Vec<u8>,
    contexts: Vec<u8>,
    coded: Vec<u8>,
}
