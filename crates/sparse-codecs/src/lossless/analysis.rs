//! Settling a unit's model: histograms, profiles, tables.

use super::chunk::{
    Encoder, POSITIONS_SLACK, changed, is_sparse, overhead_bytes, positions_overhead_bytes, write_profiles,
};
use super::model::{KEYS, Kind, Model, Tokens};
use super::positions::{self, Located, PositionCounts, fill_classes};
use super::profile::{Choice, LANES as MAX_PROFILES, Prices};
use super::scan::{Predictor, Scan, Scanner, runs};
use crate::entropy::cluster::{Cost, Sparse, cluster};
use crate::entropy::freq::{FreqTable, entropy_bits};
use crate::entropy::token::MAX_TOKENS;
use crate::simd::{self, Simd};
use crate::word::{Word, with_word};
use sparse_core::{
    ChunkEncoder, CodecContext, Effort, EstimatedBits, Result, UnitAnalysis, UnitSpec, check_chunk,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Passes after the first at the highest effort.
const MANY_REFINEMENTS: u32 = 3;

/// Most frequency tables that the encoder makes.
const MAX_TABLES: usize = 32;

/// A quick analysis counts the first of so many parts of each run ...
const SAMPLE: usize = 4;
/// ... if a part has at least so many elements.
const SAMPLE_MIN: usize = 64;

/// Values this frequent get a token of their own, where a token would leave raw bits: one in so many.
const EXACT_SHARE: u64 = 1000;
const MAX_EXACT: usize = 16;

/// In the search for frequent values, one value in so many is looked at ...
const EXACT_STRIDE: usize = 7;
/// ... and so many are kept in mind.
const EXACT_CANDIDATES: usize = 64;

/// Variance over mean of the number of changes in a row, up to which rows count as alike; it is one if changes are
/// independent.
const ALIKE: f64 = 2.0;

/// Fraction of a bit in which costs are summed, so that the sum does not depend on its order.
const COST_SCALE: f64 = 256.0;

type Histogram = Vec<u64>;

/// A model, and what it was made of.
struct Built {
    model: Model,
    /// Of the tokens given their contexts, in bits.
    entropy: f64,
    /// By table: counts by token.
    counts: Vec<Vec<u64>>,
}

/// What the chunks of one pass add up to.
#[derive(Debug, Default)]
struct Sums {
    /// By level in the first pass, by profile later: counts by key and token.
    groups: BTreeMap<i32, Histogram>,
    /// Candidates for tokens of their own.
    frequent: BTreeMap<u64, u64>,
    /// By key: the tokens that occur. Empty unless `groups` counts a sample only.
    seen: Vec<[bool; MAX_TOKENS]>,
    /// Bits by segment under the prices of the pass before, in units of `1 / COST_SCALE`.
    segment_cost: Vec<u64>,
    /// Chunks that hold anything.
    coded_chunks: u64,
    /// Those of them that hardly change.
    sparse_chunks: u64,
    /// As `segment_cost`, for these alone; in the pass that counts positions only.
    sparse_cost: Vec<u64>,
    positions: Option<PositionCounts>,
    /// Bytes of packed profile numbers.
    profile_bytes: u64,
}

/// [`UnitAnalysis`] of the lossless codec.
///
/// The first pass sorts rows by the mean size of their change (its *level*, in half powers of two) and counts tokens
/// by level and key. Levels are merged into profiles, and the histograms of (profile, key) into tables. Later passes
/// let each row choose its cheapest profile under these tables, and make the tables anew: Lloyd's algorithm.
#[derive(Debug)]
pub(super) struct Analysis {
    unit: UnitSpec,
    scanner: Scanner,
    refinements: u32,
    pass: u32,
    model: Option<(Model, Prices)>,
    /// Empty, in the pass that counts positions.
    positions: Option<PositionCounts>,
    /// From that pass on.
    position_prices: Option<Prices>,
    sums: Mutex<Sums>,
    estimate: EstimatedBits,
}

#[derive(Default)]
struct ObserveState {
    scan: Scan,
    choice: Choice,
    counts: BTreeMap<i32, Vec<u32>>,
    packed: Vec<u8>,
    symbols: Vec<u8>,
    classes: Vec<u8>,
    located: Located,
}

impl Analysis {
    pub(super) fn new(simd: Simd, unit: &UnitSpec, effort: Effort) -> Analysis {
        let kind = Kind::of(unit);
        Analysis {
            scanner: Scanner {
                simd,
                kind,
                key: kind.key_rule(),
                predictor: Predictor::of(unit),
                tokens: Tokens::new(kind.scheme(), Vec::new(), kind.bits),
            },
            refinements: match effort {
                Effort::Fast => 0,
                Effort::Max => MANY_REFINEMENTS,
                _ => 1,
            },
            unit: unit.clone(),
            pass: 0,
            model: None,
            positions: None,
            position_prices: None,
            sums: Mutex::default(),
            estimate: EstimatedBits::default(),
        }
    }

    /// Whether a part of each run is counted only. Then all tokens are given a code that occur anywhere.
    fn samples(&self) -> bool {
        self.refinements == 0
    }

    /// The level of a piece of a run: twice the logarithm of the mean absolute change, relative to the type's one.
    fn level(&self, scan: &Scan, range: Range<usize>) -> i32 {
        let Scanner { kind, key, .. } = &self.scanner;
        let key_steps = if key.shift < kind.mantissa { 0.5 } else { 1.0 };
        let len = range.len();
        let sum: f64 = if kind.float && kind.has_base && kind.bits > 8 {
            // Key by key, since the unit in the last place depends on it alone.
            let by_key = with_word!(kind.bits / 8, sum_by_key, scan, range);
            (0..).zip(by_key).map(|(k, n)| n as f64 * (f64::from(k) * key_steps).exp2()).sum()
        } else {
            scan.tokens[range].iter().map(|&t| u64::from(t)).sum::<u64>() as f64
        };
        if sum == 0.0 { i32::MIN } else { (2.0 * (sum / len as f64).log2()).round() as i32 }
    }

    fn first_look(&self, chunk: u64, sparse: bool, state: &mut ObserveState) {
        let count = self.scanner.tokens.count();
        if sparse && self.rows_are_alike(chunk, &state.scan) {
            for range in segments(&self.unit, chunk) {
                let counts = group(&mut state.counts, self.level(&state.scan, range.clone()), count);
                add_counts(counts, count, &state.scan.keys[range.clone()], &state.scan.tokens[range], 1);
            }
            return;
        }
        for run in runs(&self.unit, chunk) {
            let part = if self.samples() && run.len >= SAMPLE * SAMPLE_MIN { SAMPLE } else { 1 };
            let range = run.start..run.start + run.len.div_ceil(part);
            let counts = group(&mut state.counts, self.level(&state.scan, range.clone()), count);
            add_counts(
                counts,
                count,
                &state.scan.keys[range.clone()],
                &state.scan.tokens[range],
                part as u32,
            );
        }
    }

    /// Whether the numbers of changes in the rows of each tensor are no more different than chance makes them: then rows
    /// are not told apart, since what would be told is the chance.
    fn rows_are_alike(&self, chunk: u64, scan: &Scan) -> bool {
        let (mut rows, mut dispersion) = (0.0, 0.0);
        let mut runs = runs(&self.unit, chunk).peekable();
        for segment in segments(&self.unit, chunk) {
            let mean = changed(&scan.tokens[segment.clone()]) as f64 / segment.len().max(1) as f64;
            while let Some(run) = runs.next_if(|r| r.start < segment.end) {
                let expected = mean * run.len as f64;
                if expected > 0.0 {
                    let n = changed(&scan.tokens[run.start..run.start + run.len]) as f64;
                    dispersion += (n - expected) * (n - expected) / expected;
                    rows += 1.0;
                }
            }
        }
        dispersion < ALIKE * rows
    }

    fn look_again(&self, chunk: u64, state: &mut ObserveState, prices: &Prices, profiles: usize) {
        let ObserveState { scan, choice, counts, packed, symbols, .. } = state;
        choice.choose(runs(&self.unit, chunk), &scan.keys, &scan.tokens, prices);
        packed.clear();
        if profiles > 1 {
            write_profiles(&choice.profiles, symbols, packed);
        }
        let count = self.scanner.tokens.count();
        for (run, &p) in choice.runs.iter().zip(&choice.profiles) {
            let range = run.start..run.start + run.len;
            let counts = group(counts, p.into(), count);
            add_counts(counts, count, &scan.keys[range.clone()], &scan.tokens[range], 1);
        }
    }

    /// Choose profiles, and count the positions of changes if the chunk is sparse.
    fn look_at_positions(
        &self,
        chunk: u64,
        state: &mut ObserveState,
        model: &Model,
        prices: &Prices,
        sparse: bool,
    ) -> Option<PositionCounts> {
        let ObserveState { scan, choice, packed, symbols, classes, located, .. } = state;
        let prices = if sparse { self.position_prices.as_ref()? } else { prices };
        choice.choose(runs(&self.unit, chunk), &scan.keys, &scan.tokens, prices);
        packed.clear();
        if model.profiles.len() > 1 {
            write_profiles(&choice.profiles, symbols, packed);
        }
        let empty = self.positions.as_ref().filter(|_| sparse)?;
        let mut counts = empty.clone();
        let class = |&t: &u8| empty.classes()[usize::from(t)];
        let maps: Vec<[u8; KEYS]> =
            model.profiles.iter().map(|p| std::array::from_fn(|key| class(&p[key]))).collect();
        fill_classes(&maps, &choice.runs, &choice.profiles, classes, |map, range, out| {
            simd::look_up(self.scanner.simd, map, &scan.keys[range], out);
        });
        located.locate(self.scanner.simd, classes, &scan.tokens, empty.count());
        counts.add(located, &scan.tokens, &self.scanner.tokens.raw_counts());
        Some(counts)
    }

    /// Take the positions that were counted into the model, if they are worth it.
    fn settle_positions(&mut self, sums: &Sums) {
        let (Some((model, _)), Some(counted)) = (&mut self.model, &sums.positions) else { return };
        if counted.chunks == 0 {
            return;
        }
        let serial_len = |model: &Model| {
            let mut params = Vec::new();
            model.write(&mut params);
            8.0 * params.len() as f64
        };
        let (positions, bits) = counted.finish();
        let mut with = model.clone();
        with.positions = Some(positions);
        if counted.chunks == sums.coded_chunks {
            with.drop_tables();
        }
        let params = serial_len(&with);
        let total = |costs: &[u64]| costs.iter().sum::<u64>() as f64 / COST_SCALE;
        let (dense, sparse) = (total(&sums.segment_cost), total(&sums.sparse_cost));
        let chunks = counted.chunks as f64;
        let as_tokens = sparse + 8.0 * chunks * overhead_bytes(sparse / chunks) + serial_len(model);
        let overhead = 8.0 * chunks * positions_overhead_bytes((counted.changes() / counted.chunks) as usize);
        if bits + overhead + params > as_tokens * POSITIONS_SLACK {
            return;
        }
        *model = with;
        let others = sums.coded_chunks - counted.chunks;
        let all = sums.coded_chunks.max(1) as f64;
        let overheads = overhead
            + 8.0 * sums.profile_bytes as f64
            + 8.0 * others as f64 * overhead_bytes(dense / others.max(1) as f64);
        self.estimate = EstimatedBits {
            payload: (sums.segment_cost.iter().zip(&sums.sparse_cost))
                .map(|(&d, &s)| d as f64 / COST_SCALE + s as f64 / COST_SCALE * bits / sparse.max(1.0))
                .collect(),
            per_chunk: overheads / all,
            chunks: sums.coded_chunks,
            fixed: params,
            entropy: self.estimate.entropy,
        };
    }

    /// Frequent values among those whose token leaves raw bits (Misra and Gries 1982).
    fn frequent(&self, scan: &Scan) -> BTreeMap<u64, u64> {
        let mut candidates: BTreeMap<u64, u64> = BTreeMap::new();
        // They are used from the second pass on.
        if self.scanner.kind.bits < 32 || !self.scanner.kind.has_base || self.refinements == 0 {
            return candidates;
        }
        let word_bytes = self.scanner.kind.bits as usize / 8;
        let raw_counts = self.scanner.tokens.raw_counts();
        let values = scan.values.chunks_exact(word_bytes).zip(&scan.tokens).step_by(EXACT_STRIDE);
        for (value, _) in values.filter(|v| raw_counts[*v.1 as usize] > 0) {
            let v = with_word!(word_bytes, load, value);
            if let Some(n) = candidates.get_mut(&v) {
                *n += 1;
            } else if candidates.len() < EXACT_CANDIDATES {
                candidates.insert(v, 1);
            } else {
                candidates.retain(|_, n| {
                    *n -= 1;
                    *n > 0
                });
            }
        }
        candidates
    }

    /// The tokens, and one for each value that is frequent enough.
    fn with_exact(&self, sums: &Sums) -> Tokens {
        let seen: u64 = sums.groups.values().flatten().sum();
        let enough = (seen / EXACT_SHARE / EXACT_STRIDE as u64).max(8);
        let mut frequent: Vec<(u64, u64)> =
            sums.frequent.iter().filter(|f| *f.1 > enough).map(|(&v, &n)| (n, v)).collect();
        frequent.sort_unstable_by(|a, b| b.cmp(a));
        frequent.truncate(MAX_EXACT.min(MAX_TOKENS - self.scanner.tokens.count()));
        let mut exact: Vec<u64> = frequent.into_iter().map(|f| f.1).collect();
        exact.sort_unstable();
        Tokens::new(self.scanner.tokens.scheme, exact, self.scanner.kind.bits)
    }

    /// Bits by segment, raw bits included, in units of `1 / COST_SCALE`.
    fn segment_costs(&self, state: &ObserveState) -> Vec<(usize, u64)> {
        let raw_counts = self.scanner.tokens.raw_counts();
        let ObserveState { choice, scan, .. } = state;
        choice
            .runs
            .iter()
            .zip(&choice.bits)
            .map(|(run, &bits)| {
                let tokens = &scan.tokens[run.start..run.start + run.len];
                let raw: u64 = tokens.iter().map(|&t| u64::from(raw_counts[t as usize])).sum();
                (run.segment, (f64::from(bits) * COST_SCALE) as u64 + raw * COST_SCALE as u64)
            })
            .collect()
    }

    /// The raw bits of all tokens counted.
    fn raw_bits(&self, groups: &BTreeMap<i32, Histogram>) -> u64 {
        let count = self.scanner.tokens.count();
        let raw_counts = self.scanner.tokens.raw_counts();
        let bits = |h: &[u64]| h.iter().zip(&*raw_counts).map(|(&n, &bits)| n * u64::from(bits)).sum::<u64>();
        groups.values().flat_map(|g| g.chunks(count)).map(bits).sum()
    }

    /// Make the model from the histograms of `groups`.
    fn build(&self, groups: &BTreeMap<i32, Histogram>, seen: &[[bool; MAX_TOKENS]]) -> Built {
        let count = self.scanner.tokens.count();
        let items: Vec<Sparse> = groups.values().map(|h| Sparse::from_dense(h)).collect();
        let quick = |cost: Cost| if self.refinements < MANY_REFINEMENTS { cost.quick() } else { cost };
        let profile_of = cluster(&items, KEYS * count, MAX_PROFILES, quick(Cost::of_profile(count)));
        let profile_count = profile_of.iter().max().map_or(1, |m| m + 1);
        let mut sums = vec![vec![0u64; KEYS * count]; profile_count];
        for (histogram, &p) in groups.values().zip(&profile_of) {
            sums[p].iter_mut().zip(histogram).for_each(|(a, b)| *a += b);
        }
        // What a sample missed needs a code too, whichever profile its row will choose.
        for (cells, seen) in sums.iter_mut().flat_map(|s| s.chunks_mut(count).zip(seen)) {
            cells.iter_mut().zip(seen).filter(|(_, seen)| **seen).for_each(|(n, _)| *n = (*n).max(1));
        }

        // One item for each (profile, key) that occurs.
        let cells: Vec<(usize, usize, Sparse)> = sums
            .iter()
            .enumerate()
            .flat_map(|(p, sum)| {
                sum.chunks(count).enumerate().map(move |(key, h)| (p, key, Sparse::from_dense(h)))
            })
            .filter(|c| !c.2.entries.is_empty())
            .collect();
        let items: Vec<Sparse> = cells.iter().map(|c| c.2.clone()).collect();
        let table_of = cluster(&items, count, MAX_TABLES, quick(Cost::of_table(count)));
        let table_count = table_of.iter().max().map_or(1, |m| m + 1);
        let mut counts = vec![vec![0u64; count]; table_count];
        for (item, &t) in items.iter().zip(&table_of) {
            item.entries.iter().for_each(|&(s, c)| counts[t][s as usize] += c);
        }

        // In order of the mean token, so that neighbouring keys have neighbouring tables.
        let mean = |h: &[u64]| {
            let total: u64 = h.iter().sum();
            h.iter().enumerate().map(|(s, &c)| s as f64 * c as f64).sum::<f64>() / total.max(1) as f64
        };
        let mut order: Vec<usize> = (0..table_count).collect();
        order.sort_by(|&a, &b| mean(&counts[a]).total_cmp(&mean(&counts[b])).then(a.cmp(&b)));
        let mut rank = vec![0u8; table_count];
        (0..).zip(&order).for_each(|(r, &t)| rank[t] = r);

        let mut profiles = vec![[u8::MAX; KEYS]; profile_count];
        for ((p, key, _), &t) in cells.iter().zip(&table_of) {
            profiles[*p][*key] = rank[t];
        }
        profiles.iter_mut().for_each(fill_gaps);
        let model = Model {
            tokens: self.scanner.tokens.clone(),
            key: self.scanner.key,
            profiles,
            tables: order.iter().map(|&t| FreqTable::from_counts(&counts[t])).collect(),
            positions: None,
        };
        Built {
            model,
            entropy: counts.iter().map(|c| entropy_bits(c)).sum(),
            counts: order.iter().map(|&t| std::mem::take(&mut counts[t])).collect(),
        }
    }

    fn estimate(&self, model: &Model, sums: &Sums, raw_bits: u64) -> EstimatedBits {
        let count = self.scanner.tokens.count();
        // Every cell is priced by its cheapest table: what `look_again` will find, or a little less.
        let mut token_bits = 0.0;
        for histogram in sums.groups.values() {
            let by_profile = model.profiles.iter().map(|profile| {
                histogram
                    .chunks(count)
                    .zip(profile)
                    .filter(|(h, _)| h.iter().any(|&c| c > 0))
                    .map(|(h, &t)| model.tables[t as usize].cost_bits(h).min(1e15))
                    .sum::<f64>()
            });
            token_bits += by_profile.fold(f64::INFINITY, f64::min);
        }
        let mut params = Vec::new();
        model.write(&mut params);
        let payload_bits = token_bits + raw_bits as f64;
        let cost: u64 = sums.segment_cost.iter().sum();
        let payload = if cost > 0 {
            sums.segment_cost.iter().map(|&c| payload_bits * c as f64 / cost as f64).collect()
        } else {
            let len = self.unit.len().max(1) as f64;
            self.unit.segments().iter().map(|s| payload_bits * s.len() as f64 / len).collect()
        };
        let chunks = sums.coded_chunks.max(1) as f64;
        EstimatedBits {
            payload,
            per_chunk: 8.0 * (overhead_bytes(token_bits / chunks) + sums.profile_bytes as f64 / chunks),
            chunks: sums.coded_chunks,
            fixed: 8.0 * params.len() as f64,
            entropy: 0.0,
        }
    }
}

/// Keys that do not occur get the table of a neighbour, which costs nothing to write.
fn fill_gaps(profile: &mut [u8; KEYS]) {
    let first = profile.iter().copied().find(|&t| t != u8::MAX).unwrap_or(0);
    let mut last = first;
    for t in profile.iter_mut() {
        if *t == u8::MAX {
            *t = last;
        }
        last = *t;
    }
}

/// The parts of a chunk that belong to one segment each.
fn segments(unit: &UnitSpec, chunk: u64) -> Vec<Range<usize>> {
    let mut parts: Vec<(usize, Range<usize>)> = Vec::new();
    for run in runs(unit, chunk) {
        match parts.last_mut() {
            Some((segment, range)) if *segment == run.segment => range.end = run.start + run.len,
            _ => parts.push((run.segment, run.start..run.start + run.len)),
        }
    }
    parts.into_iter().map(|p| p.1).collect()
}

fn load<W: Word>(bytes: &[u8]) -> u64 {
    W::load(bytes)
}

/// The sum of absolute changes under each key.
fn sum_by_key<W: Word>(scan: &Scan, range: Range<usize>) -> [u64; KEYS] {
    let values = scan.values[range.start * W::BYTES..range.end * W::BYTES].chunks_exact(W::BYTES);
    // Two sums for each, because one would wait for itself.
    let mut sums = [[0u64; KEYS]; 2];
    for (i, (value, &key)) in values.zip(&scan.keys[range]).enumerate() {
        sums[i % 2][key as usize % KEYS] += W::load(value).div_ceil(2).min(1 << 40);
    }
    std::array::from_fn(|k| sums[0][k] + sums[1][k])
}

fn add_counts(counts: &mut [u32], count: usize, keys: &[u8], tokens: &[u8], weight: u32) {
    for (&key, &token) in keys.iter().zip(tokens) {
        counts[key as usize * count + token as usize] += weight;
    }
}

/// The tokens that occur under each key.
fn seen_tokens(scan: &Scan) -> Vec<[bool; MAX_TOKENS]> {
    let mut seen = vec![[false; MAX_TOKENS]; KEYS];
    if let Some(seen) = seen.first_chunk_mut::<KEYS>() {
        for (&key, &token) in scan.keys.iter().zip(&scan.tokens) {
            seen[key as usize % KEYS][token as usize] = true;
        }
    }
    seen
}

fn group(counts: &mut BTreeMap<i32, Vec<u32>>, key: i32, tokens: usize) -> &mut Vec<u32> {
    counts.entry(key).or_insert_with(|| vec![0; KEYS * tokens])
}

impl UnitAnalysis for Analysis {
    fn observe(&self, chunk: u64, target: &[u8], base: Option<&[u8]>, cx: &mut CodecContext) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        let mut state = cx.take::<ObserveState>();
        state.counts.clear();
        let mut cost = Vec::new();
        let (mut profile_bytes, mut frequent) = (0, BTreeMap::new());
        let unchanged = self.scanner.scan(target, base, &mut state.scan);
        let sparse = !unchanged && is_sparse(state.scan.tokens.len(), changed(&state.scan.tokens));
        let mut positions = None;
        if !unchanged {
            match &self.model {
                Some((model, prices)) if self.positions.is_some() => {
                    positions = self.look_at_positions(chunk, &mut state, model, prices, sparse);
                    profile_bytes = state.packed.len() as u64;
                    cost = self.segment_costs(&state);
                }
                None => {
                    self.first_look(chunk, sparse, &mut state);
                    frequent = self.frequent(&state.scan);
                }
                Some((model, prices)) => {
                    self.look_again(chunk, &mut state, prices, model.profiles.len());
                    profile_bytes = state.packed.len() as u64;
                    cost = self.segment_costs(&state);
                }
            }
        }
        let seen = if self.samples() && !unchanged { seen_tokens(&state.scan) } else { Vec::new() };
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if sums.seen.is_empty() {
            sums.seen = seen;
        } else {
            sums.seen.as_flattened_mut().iter_mut().zip(seen.as_flattened()).for_each(|(a, &b)| *a |= b);
        }
        for (&key, counts) in &state.counts {
            let total = sums.groups.entry(key).or_insert_with(|| vec![0; counts.len()]);
            total.iter_mut().zip(counts).for_each(|(t, &c)| *t += u64::from(c));
        }
        for (v, n) in frequent {
            *sums.frequent.entry(v).or_default() += n;
        }
        sums.profile_bytes += profile_bytes;
        sums.segment_cost.resize(self.unit.segments().len(), 0);
        sums.sparse_cost.resize(self.unit.segments().len(), 0);
        for (segment, bits) in cost {
            if positions.is_some() {
                sums.sparse_cost[segment] += bits;
            } else {
                sums.segment_cost[segment] += bits;
            }
        }
        if let Some(positions) = positions {
            match &mut sums.positions {
                Some(sum) => sum.merge(&positions),
                none => *none = Some(positions),
            }
        }
        sums.coded_chunks += u64::from(!unchanged);
        sums.sparse_chunks += u64::from(sparse);
        drop(sums);
        cx.put(state);
        Ok(())
    }

    fn end_pass(&mut self) -> Result<bool> {
        let sums = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        if self.positions.take().is_some() {
            self.settle_positions(&sums);
            return Ok(false);
        }
        let again = self.pass < self.refinements;
        let raw_bits = self.raw_bits(&sums.groups);
        let Built { model, entropy, counts } = self.build(&sums.groups, &sums.seen);
        self.estimate = self.estimate(&model, &sums, raw_bits);
        self.estimate.entropy = entropy + raw_bits as f64;
        if self.pass == 0 && again {
            self.scanner.tokens = self.with_exact(&sums);
        }
        let prices = Prices::new(self.scanner.simd, &model, &self.scanner.tokens);
        self.model = Some((model, prices));
        self.pass += 1;
        if !again && sums.sparse_chunks > 0 {
            let positions = PositionCounts::new(&counts, sums.sparse_chunks);
            let prices = positions::prices(&counts, positions.classes(), self.scanner.tokens.count());
            let profiles = self.model.as_ref().map_or(&[][..], |m| &m.0.profiles);
            self.position_prices = Some(Prices::of_tables(self.scanner.simd, profiles, &prices));
            self.positions = Some(positions);
        }
        Ok(again || self.positions.is_some())
    }

    fn estimated_bits(&self) -> EstimatedBits {
        self.estimate.clone()
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        let model = match self.model {
            Some((model, _)) => model,
            None => self.build(&BTreeMap::new(), &[]).model,
        };
        Ok(Box::new(super::BoundEncoder::new(Encoder::new(
            self.scanner.simd,
            self.unit,
            model,
            self.position_prices,
        ))))
    }
}
