//! Looking at a unit: histograms by level and by profile, pass after pass.

use super::build::{Bounds, Built, Histogram, MANY_REFINEMENTS, build};
use super::chunk::{
    BoundEncoder, Encoder, POSITIONS_SLACK, changed, is_sparse, overhead_bytes,
    positions_overhead_bytes, write_profiles,
};
use super::count::{add_counts, group, sum_of_changes};
use super::model::{Kind, Model, Tokens};
use super::planes;
use super::positions::{self, Located, PositionCounts, class_maps, fill_classes};
use super::profile::{Choice, Prices, sample_len};
use super::scan::{Predictor, Scan, Scanner, runs};
use crate::entropy::token::MAX_TOKENS;
use crate::simd::{self, Simd};
use crate::word::{Word, with_word};
use sparse_core::{
    ChunkEncoder, CodecContext, Effort, EstimatedBits, Result, UnitAnalysis, UnitSpec, check_chunk,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Number of parts of each run of which the first is sampled when effort is fast.
const SAMPLE: usize = 4;

/// Least entropy, in bits per element, at which a part of a run is enough to choose its profile.
const DENSE_BITS: f64 = 1.5;

/// Values this frequent get a token of their own, where a token would leave raw bits: one in so
/// many.
const EXACT_SHARE: u64 = 1000;
const MAX_EXACT: usize = 16;

/// Stride of the search for frequent values.
const EXACT_STRIDE: usize = 7;
/// Number of candidates that this search keeps.
const EXACT_CANDIDATES: usize = 64;

/// Variance over mean of the number of changes in a row, up to which rows count as alike; it is one
/// if changes are independent.
const ALIKE: f64 = 2.0;

/// Fraction of a bit in which costs are summed, so that the sum does not depend on its order.
const COST_SCALE: f64 = 256.0;

/// Sums over the chunks of one pass.
#[derive(Debug, Default)]
struct Sums {
    /// By level in the first pass, by profile later: counts by key and token.
    groups: BTreeMap<i32, Histogram>,
    /// Candidates for tokens of their own.
    frequent: BTreeMap<u64, u64>,
    /// By key: a bound of the tokens that occur, see [`simd::bound_tokens`]. Zeros unless `groups`
    /// counts a sample only.
    bounds: Bounds,
    /// Bits by segment under the prices of the pass before, in units of `1 / COST_SCALE`.
    segment_cost: Vec<u64>,
    /// Chunks that hold anything.
    coded_chunks: u64,
    /// Number of chunks in which few elements change.
    sparse_chunks: u64,
    /// As `segment_cost`, for these alone; in the pass that counts positions only.
    sparse_cost: Vec<u64>,
    positions: Option<PositionCounts>,
    /// Bytes of packed profile numbers.
    profile_bytes: u64,
    /// Bytes that planes save of the raw bits.
    saved_bytes: u64,
}

/// [`UnitAnalysis`] of the lossless codec.
///
/// The first pass sorts rows by the mean size of their change (its *level*, in half powers of two)
/// and counts tokens by level and key. Levels are merged into profiles, and the histograms of
/// (profile, key) into tables. Later passes let each row choose its cheapest profile under these
/// tables, and make the tables anew: Lloyd's algorithm.
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

    /// Returns true if this pass counts only a part of each run.
    ///
    /// All tokens that may occur anywhere then get a code.
    fn samples(&self) -> bool {
        self.pass == 0 && self.refinements < MANY_REFINEMENTS
    }

    /// Computes the level of a piece of a run.
    ///
    /// It is twice the logarithm of the mean absolute change, relative to the type's one.
    fn level(&self, scan: &Scan, range: Range<usize>) -> i32 {
        let Scanner { kind, key, .. } = &self.scanner;
        let len = range.len();
        let sum: f64 = if kind.float && kind.has_base && kind.bits > 8 {
            // Key by key, since the unit in the last place depends on it alone.
            let (bytes, halves) = (kind.bits as usize / 8, key.shift < kind.mantissa);
            sum_of_changes(self.scanner.simd, scan, range, bytes, halves).into()
        } else {
            let tokens = &scan.tokens[range];
            let sum = tokens.iter().map(|&t| u64::from(t)).sum::<u64>() as f64;
            if let Some(in_an_exponent) = self.scanner.tokens.in_an_exponent(*kind) {
                // Tokens are logarithms themselves. Zeros have no size.
                let sizes = changed(tokens) as f64;
                return if sum == 0.0 {
                    i32::MIN
                } else {
                    (2.0 * sum / sizes / in_an_exponent).round() as i32
                };
            }
            sum
        };
        if sum == 0.0 { i32::MIN } else { (2.0 * (sum / len as f64).log2()).round() as i32 }
    }

    fn first_look(&self, chunk: u64, sparse: bool, state: &mut ObserveState) {
        let count = self.scanner.tokens.count();
        if sparse && self.rows_are_alike(chunk, &state.scan) {
            for range in segments(&self.unit, chunk) {
                let counts =
                    group(&mut state.counts, self.level(&state.scan, range.clone()), count);
                add_counts(
                    counts,
                    count,
                    &state.scan.keys[range.clone()],
                    &state.scan.tokens[range],
                    1,
                );
            }
            return;
        }
        for run in runs(&self.unit, chunk) {
            let looked_at = sample_len(run.len, if self.samples() { SAMPLE } else { 1 });
            let (range, part) =
                (run.start..run.start + looked_at, run.len.div_ceil(looked_at.max(1)));
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

    /// Returns true if the rows of each tensor change at random.
    ///
    /// Their numbers of changes then differ no more than those of random rows. Such rows share a
    /// profile, because profiles would only describe chance.
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

    /// Chooses profiles, and counts positions of changes if the chunk is sparse.
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
        let maps = class_maps(model, empty.classes());
        fill_classes(&maps, &choice.runs, &choice.profiles, classes, |map, range, out| {
            simd::look_up(self.scanner.simd, map, &scan.keys[range], out);
        });
        located.locate(self.scanner.simd, classes, &scan.tokens, empty.count());
        counts.add(located, &scan.tokens, &self.scanner.tokens.raw_counts());
        Some(counts)
    }

    /// Adds the counted positions to the model, if they make it smaller.
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
        let overhead =
            8.0 * chunks * positions_overhead_bytes((counted.changes() / counted.chunks) as usize);
        if bits + overhead + params > as_tokens * POSITIONS_SLACK {
            return;
        }
        *model = with;
        let others = sums.coded_chunks - counted.chunks;
        let all = sums.coded_chunks.max(1) as f64;
        let overheads = overhead
            + 8.0 * sums.profile_bytes as f64
            + 8.0 * others as f64 * overhead_bytes(dense / others.max(1) as f64);
        let payload = (sums.segment_cost.iter().zip(&sums.sparse_cost))
            .map(|(&d, &s)| d as f64 / COST_SCALE + s as f64 / COST_SCALE * bits / sparse.max(1.0));
        let entropy = self.estimate.entropy;
        self.estimate = EstimatedBits::new(payload.collect());
        self.estimate.per_chunk = overheads / all;
        self.estimate.chunks = sums.coded_chunks;
        self.estimate.fixed = params;
        self.estimate.entropy = entropy;
    }

    /// Collects frequent values among those whose token leaves raw bits.
    ///
    /// By the algorithm of Misra and Gries (1982).
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

    /// Returns the tokens, and one for each value that is frequent enough.
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

    /// Computes bits by segment, in units of `1 / COST_SCALE`.
    ///
    /// Raw bits are included.
    fn segment_costs(&self, state: &ObserveState) -> Vec<(usize, u64)> {
        let ObserveState { choice, scan, .. } = state;
        choice
            .runs
            .iter()
            .zip(&choice.bits)
            .map(|(run, &bits)| {
                let tokens = &scan.tokens[run.start..run.start + run.len];
                let raw = self.scanner.tokens.raw_bits(tokens);
                (run.segment, (f64::from(bits) * COST_SCALE) as u64 + raw * COST_SCALE as u64)
            })
            .collect()
    }

    /// Sums the raw bits of all tokens counted.
    fn raw_bits(&self, groups: &BTreeMap<i32, Histogram>) -> u64 {
        let count = self.scanner.tokens.count();
        let raw_counts = self.scanner.tokens.raw_counts();
        let bits = |h: &[u64]| {
            h.iter().zip(&*raw_counts).map(|(&n, &bits)| n * u64::from(bits)).sum::<u64>()
        };
        groups.values().flat_map(|g| g.chunks(count)).map(bits).sum()
    }

    /// Builds the model from histograms.
    fn build(&self, groups: &BTreeMap<i32, Histogram>, bounds: &Bounds) -> Built {
        build(groups, bounds, &self.scanner.tokens, self.scanner.key, self.refinements)
    }

    fn estimate(&self, model: &Model, sums: &Sums, raw_bits: u64) -> EstimatedBits {
        let count = self.scanner.tokens.count();
        // Every cell is priced by its cheapest table: what `look_again` will find, or a little
        // less.
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
        let mut bits = EstimatedBits::new(payload);
        bits.per_chunk =
            8.0 * (overhead_bytes(token_bits / chunks) + sums.profile_bytes as f64 / chunks);
        bits.chunks = sums.coded_chunks;
        bits.fixed = 8.0 * params.len() as f64;
        bits
    }
}

/// Returns the parts of a chunk that belong to one segment each.
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

impl UnitAnalysis for Analysis {
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        let mut state = cx.take::<ObserveState>();
        state.counts.clear();
        let mut cost = Vec::new();
        let (mut profile_bytes, mut frequent) = (0, BTreeMap::new());
        let unchanged = self.scanner.scan(target, base, &mut state.scan);
        let sparse = !unchanged && is_sparse(&state.scan, &self.scanner.tokens);
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
        let planes = planes::count(&self.scanner.tokens).filter(|_| !unchanged);
        let word_bytes = self.scanner.kind.bits as usize / 8;
        let saved = planes.map_or(0, |n| planes::saved(&state.scan.values, word_bytes, n));
        let mut bounds = Bounds::default();
        if self.samples() && !unchanged {
            simd::bound_tokens(
                self.scanner.simd,
                &state.scan.keys,
                &state.scan.tokens,
                &mut bounds.0,
            );
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.bounds.0.iter_mut().zip(bounds.0).for_each(|(a, b)| *a = (*a).max(b));
        for (&key, counts) in &state.counts {
            let total = sums.groups.entry(key).or_insert_with(|| vec![0; counts.len()]);
            total.iter_mut().zip(counts).for_each(|(t, &c)| *t += u64::from(c));
        }
        for (v, n) in frequent {
            *sums.frequent.entry(v).or_default() += n;
        }
        sums.profile_bytes += profile_bytes;
        sums.saved_bytes += saved as u64;
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

    fn end_pass(&mut self, _cx: &mut CodecContext) -> Result<bool> {
        let sums = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        if self.positions.take().is_some() {
            self.settle_positions(&sums);
            return Ok(false);
        }
        let again = self.pass < self.refinements;
        let raw_bits = self.raw_bits(&sums.groups).saturating_sub(8 * sums.saved_bytes);
        let Built { model, entropy, counts } = self.build(&sums.groups, &sums.bounds);
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
            let prices =
                positions::prices(&counts, positions.classes(), self.scanner.tokens.count());
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
        // If few elements change, a part of a row says too little about the rest.
        let dense =
            self.estimate.payload.iter().sum::<f64>() >= DENSE_BITS * self.unit.len() as f64;
        let part = if self.refinements == 0 && dense { SAMPLE } else { 1 };
        let model = match self.model {
            Some((model, _)) => model,
            None => self.build(&BTreeMap::new(), &Bounds::default()).model,
        };
        Ok(Box::new(BoundEncoder::new(Encoder::new(
            self.scanner.simd,
            self.unit,
            model,
            self.position_prices,
            part,
        ))))
    }
}
