//! Settling a unit's factors and tables.

use super::chunk::Predictor;
use super::chunk::encode::{Encoder, NO_CODE, overhead_bytes, prices};
use super::factors::{self, Factors, is_matrix};
use super::fit::{Fit, Matrix, PATIENCE, key_rule};
use super::float::{self, CENTRE, Predicted};
use super::model::{KEYS, KeyRule, Model, TOKENS};
use super::{LowRank, check_unit};
use crate::real::with_real;
use crate::simd::Simd;
use sparse_core::{
    ChunkEncoder, CodecContext, DeltaEncoder, Effort, Error, EstimatedBits, Product, Result,
    UnitAnalysis, UnitSpec, Workers, check_chunk,
};
use std::sync::{Mutex, PoisonError};

/// Directions that a sketch finds beyond those that are wanted.
const OVERSAMPLING: usize = 8;

/// Ranks to try; a cliff in the singular values is tried as well.
const RANKS: [usize; 8] = [1, 2, 4, 8, 12, 16, 32, 64];

/// Sizes of the sketches: the second only if the first finds no end.
const SKETCHES: [usize; 2] = [16 + OVERSAMPLING, 64 + OVERSAMPLING];

/// Approximate bits of an entry of a factor, for choosing the rank.
pub(super) const ENTRY_BITS: f64 = 9.0;

/// Least fall of a cliff: one singular value over the next.
const CLIFF: f64 = 1.3;

/// A sample looks low-rank if factors leave at most this share of its bits.
const LOW_RANK_SHARE: f64 = 0.6;

/// Above this share, more directions are not worth a try.
const HOPELESS_SHARE: f64 = 0.95;

/// Rounds of projections.
fn rounds(effort: Effort) -> usize {
    match effort {
        Effort::Fast => 3,
        Effort::Max => 40,
        _ => 10,
    }
}

/// Data observed so far.
#[derive(Debug, Default)]
struct Data {
    target: Vec<u8>,
    base: Vec<u8>,
    seen: Vec<bool>,
}

/// [`UnitAnalysis`] of the low-rank codec: collects the unit in one pass, then works on all of it.
struct Analysis {
    unit: UnitSpec,
    /// By segment; segments past the end have none.
    hints: Vec<Option<Product>>,
    effort: Effort,
    data: Mutex<Data>,
    result: Option<(Box<dyn ChunkEncoder>, EstimatedBits)>,
}

impl DeltaEncoder for LowRank {
    /// Starts the analysis of a unit.
    ///
    /// The analysis holds target and base of the whole unit in memory, and uses the executor of the
    /// context between passes. At effort `Fast` it declines a unit whose changes do not look
    /// low-rank.
    fn analyze(&self, unit: &UnitSpec, effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        analyze_with_hints(unit, effort, Vec::new())
    }
}

/// Starts the analysis of a unit of which some segments have hints.
pub(super) fn analyze_with_hints(
    unit: &UnitSpec,
    effort: Effort,
    hints: Vec<Option<Product>>,
) -> Result<Box<dyn UnitAnalysis>> {
    check_unit(unit)?;
    if unit.byte_len() > LowRank::MAX_BYTES {
        return Err(Error::invalid_argument(format!(
            "low-rank holds a unit in memory and takes at most {} bytes, not {}",
            LowRank::MAX_BYTES,
            unit.byte_len()
        )));
    }
    let data = Mutex::default();
    Ok(Box::new(Analysis { unit: unit.clone(), hints, effort, data, result: None }))
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
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.unit.byte_len() as usize;
        if data.seen.is_empty() {
            data.target.resize(bytes, 0);
            data.base.resize(bytes, 0);
            data.seen.resize(self.unit.chunk_count() as usize, false);
        }
        let start = self.unit.chunk_range(chunk).start as usize * self.unit.dtype().storage_bytes();
        data.target[start..start + target.len()].copy_from_slice(target);
        data.base[start..start + target.len()].copy_from_slice(base.unwrap_or_default());
        data.seen[chunk as usize] = true;
        Ok(())
    }

    fn end_pass(&mut self, cx: &mut CodecContext) -> Result<bool> {
        let data = std::mem::take(&mut *self.data.lock().unwrap_or_else(PoisonError::into_inner));
        if data.seen.is_empty() || data.seen.contains(&false) {
            return Err(Error::invalid_argument("low-rank needs to see the whole unit"));
        }
        let (unit, effort, hints) = (&self.unit, self.effort, &self.hints);
        let settled = with_real!(unit.dtype(), settle, unit, hints, &data, effort, cx.workers());
        self.result = Some(settled?);
        Ok(false)
    }

    fn estimated_bits(&self) -> EstimatedBits {
        let nothing = || EstimatedBits::new(vec![0.0; self.unit.segments().len()]);
        self.result.as_ref().map_or_else(nothing, |r| r.1.clone())
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        let missing = || Error::invalid_argument("low-rank needs to see the whole unit");
        self.result.map(|r| r.0).ok_or_else(missing)
    }
}

impl Matrix<'_> {
    /// Computes the bits without factors, tables not counted.
    fn plain_cost<R: Predicted>(&self) -> f64 {
        self.cost::<R>(|_, base, words, fractions| {
            words.iter_mut().zip(base.chunks_exact(R::BYTES)).for_each(|(w, b)| *w = R::load(b));
            fractions.fill(CENTRE);
        })
    }

    /// Finds the rank that takes the fewest bits, if fewer than `most_bits`.
    ///
    /// For a sketch of this size and `per_rank` bits a component. Also returns these bits and the
    /// largest rank that the sketch allows.
    fn best_rank<R: Predicted>(
        &self,
        fit: &Fit,
        size: usize,
        per_rank: f64,
        most_bits: f64,
    ) -> (f64, Option<usize>, usize) {
        let most = fit.rank.min(size - OVERSAMPLING);
        let floor = fit.sigma.first().copied().unwrap_or(0.0) * 1e-6;
        let mut ranks: Vec<usize> = RANKS.into_iter().filter(|&r| r <= most).collect();
        ranks.extend(cliff(&fit.sigma, most).filter(|c| c.1 > CLIFF).map(|c| c.0));
        ranks.retain(|&r| fit.sigma.get(r - 1).is_some_and(|&s| s > floor));
        ranks.sort_unstable();
        ranks.dedup();
        let mut best = (most_bits, None, most);
        for rank in ranks {
            let bits = self.cost_of::<R>(fit, rank, false) + per_rank * rank as f64;
            if bits < best.0 {
                best = (bits, Some(rank), most);
            }
        }
        best
    }

    /// Returns true if the merge seems to have rounded the product.
    ///
    /// Also returns the bits that residuals take then.
    fn cheaper_merge<R: Predicted>(&self, fit: &Fit) -> (f64, bool) {
        let [sum, product] = [false, true].map(|product| self.cost_of::<R>(fit, fit.rank, product));
        if product < sum { (product, true) } else { (sum, false) }
    }

    /// Returns true if a hint leaves few enough bits of a sample of rows.
    pub(super) fn is_explained_by<R: Predicted>(&self, hint: &Product) -> bool {
        let Some(fit) = Fit::of_product(self, hint) else { return false };
        self.cheaper_merge::<R>(&fit).0 < LOW_RANK_SHARE * self.plain_cost::<R>()
    }

    /// Returns true if a sample of rows looks like a change of low rank.
    pub(super) fn looks_low_rank<R: Predicted>(&self, cx: Workers<'_>) -> Result<bool> {
        let plain = self.plain_cost::<R>();
        // As if the matrix were square: the other side's factors are shared by rows that are not in
        // the sample.
        let per_rank = 2.0 * ENTRY_BITS * self.rows as f64;
        for size in SKETCHES {
            let fit = self.sketch::<R>(size.min(self.rows / 2), cx)?;
            let (bits, ..) = self.best_rank::<R>(&fit, size, per_rank, plain);
            if bits < LOW_RANK_SHARE * plain {
                return Ok(true);
            }
            if bits > HOPELESS_SHARE * plain {
                break;
            }
        }
        Ok(false)
    }
}

/// Finds the rank at which singular values fall most steeply.
///
/// Also returns the factor by which they fall.
fn cliff(sigma: &[f64], most: usize) -> Option<(usize, f64)> {
    let floor = sigma.first()? * 1e-9;
    sigma
        .windows(2)
        .take(most)
        .enumerate()
        .filter(|(_, w)| w[0] > floor)
        .map(|(i, w)| (i + 1, w[0] / w[1].max(floor)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Finds factors for one matrix, if they pay.
fn fit_matrix<R: Predicted>(
    matrix: &Matrix<'_>,
    hint: Option<&Product>,
    effort: Effort,
    cx: Workers<'_>,
) -> Result<Option<Factors<R>>> {
    let plain = matrix.plain_cost::<R>();
    if let Some(fit) = hint.and_then(|hint| Fit::of_product(matrix, hint)) {
        let (bits, product) = matrix.cheaper_merge::<R>(&fit);
        if bits < LOW_RANK_SHARE * plain {
            let quantised = cheapest_quantisation::<R>(matrix, &fit, product, cx)?;
            if let Some(quantised) = quantised.filter(|q| q.0 < plain) {
                return Ok(Some(quantised.1));
            }
        }
    }
    if effort == Effort::Fast {
        let step = matrix.rows.div_ceil(256);
        if !matrix.every::<R, _>(step, |sample| sample.looks_low_rank::<R>(cx))? {
            return Ok(None);
        }
    }
    let (rows, columns) = (matrix.rows, matrix.columns);
    let per_rank = ENTRY_BITS * (rows + columns) as f64;
    let mut best: (f64, Option<(Fit, usize)>) = (plain, None);
    for size in SKETCHES {
        let fit = matrix.sketch::<R>(size, cx)?;
        let (bits, chosen, most) = matrix.best_rank::<R>(&fit, size, per_rank, best.0);
        let at_the_end = chosen.is_none_or(|r| r == most) && fit.rank == size;
        if let Some(rank) = chosen {
            best = (bits, Some((fit, rank)));
        }
        if !at_the_end || effort == Effort::Fast {
            break;
        }
    }
    let Some((mut fit, rank)) = best.1 else { return Ok(None) };
    fit.truncate(columns, rank);
    matrix.project::<R>(&mut fit, rounds(effort), PATIENCE, cx)?;
    let (_, product) = matrix.cheaper_merge::<R>(&fit);
    let quantised = cheapest_quantisation::<R>(matrix, &fit, product, cx)?;
    Ok(quantised.filter(|q| q.0 < plain).map(|q| q.1))
}

/// Searches for the scale of the factors that takes the fewest bits.
///
/// Bits of factors and residuals together.
fn cheapest_quantisation<R: Predicted>(
    matrix: &Matrix<'_>,
    fit: &Fit,
    product: bool,
    cx: Workers<'_>,
) -> Result<Option<(f64, Factors<R>)>> {
    let segment = sparse_core::Segment { rows: matrix.rows as u64, row_len: matrix.columns as u64 };
    let columns = matrix.columns;
    let bits = |exponent: i32| -> Result<Option<(f64, Factors<R>)>> {
        cx.cancel.check()?;
        let Some(f) = matrix.quantise::<R>(fit, exponent, product) else { return Ok(None) };
        let residual = matrix.cost::<R>(|i, base, words, fractions| {
            f.predict(Simd::from_env(), i, 0, columns, base, words, fractions);
        });
        Ok(Some((residual + factors::write::bits::<R>(&segment, &f), f)))
    };
    let mut exponent = matrix.first_exponent::<R>(fit);
    // Too fine at first, perhaps.
    let mut best = bits(exponent)?;
    for _ in 0..64 {
        if best.is_some() {
            break;
        }
        exponent += 1;
        best = bits(exponent)?;
    }
    let Some(mut best) = best else { return Ok(None) };
    let start = exponent;
    for step in [-1, 1] {
        exponent = start;
        // A step may be worse by chance; two are a trend.
        let mut worse = 0;
        while worse < 2 {
            exponent += step;
            match bits(exponent)? {
                Some(next) if next.0 < best.0 => {
                    best = next;
                    worse = 0;
                }
                Some(_) => worse += 1,
                None => break,
            }
        }
    }
    Ok(Some(best))
}

/// Counts by key and token of a whole unit.
struct Counts {
    tokens: Vec<u64>,
    raw_bits: u64,
    chunks: u64,
}

fn settle<R: Predicted>(
    unit: &UnitSpec,
    hints: &[Option<Product>],
    data: &Data,
    effort: Effort,
    cx: Workers<'_>,
) -> Result<(Box<dyn ChunkEncoder>, EstimatedBits)> {
    let rule = key_rule::<R>(&data.base);
    let mut factors = Vec::new();
    let hints = hints.iter().map(Option::as_ref).chain(std::iter::repeat(None));
    for ((segment, &start), hint) in unit.segments().iter().zip(unit.segment_starts()).zip(hints) {
        let mut found = None;
        if is_matrix(segment) {
            let bytes = start as usize * R::BYTES..(start + segment.len()) as usize * R::BYTES;
            let (target, base) = (&data.target[bytes.clone()], &data.base[bytes]);
            let shape = (segment.rows as usize, segment.row_len as usize);
            if let Some(matrix) = Matrix::new::<R>(shape, target, base, rule) {
                found = fit_matrix::<R>(&matrix, hint, effort, cx)?;
            }
        }
        factors.push(found.unwrap_or_else(Factors::none));
    }
    if effort == Effort::Fast && factors.iter().all(|f| f.rank == 0) {
        return Err(Error::invalid_argument("the change has no low rank"));
    }
    let predictor = Predictor { unit: unit.clone(), factors, simd: Simd::from_env() };
    let counts = count(&predictor, data, rule, cx)?;
    let symbols = TOKENS.token_count(R::BITS);
    let (model, entropy) = Model::build(rule.origin, &counts.tokens, symbols);
    let mut params = Vec::new();
    model.write(&mut params);
    factors::write::write::<R>(unit, &predictor.factors, &mut params)?;
    let mut estimate = price(&predictor, data, &model, cx)?;
    estimate.chunks = counts.chunks;
    estimate.fixed = 8.0 * params.len() as f64;
    estimate.entropy = entropy + counts.raw_bits as f64;
    Ok((Box::new(BoundEncoder { encoder: Encoder::new(predictor, model), params }), estimate))
}

/// Returns the byte range of a chunk in a whole unit.
fn bytes_of<R: Predicted>(unit: &UnitSpec, chunk: u64) -> std::ops::Range<usize> {
    let range = unit.chunk_range(chunk);
    range.start as usize * R::BYTES..range.end as usize * R::BYTES
}

fn count<R: Predicted>(
    predictor: &Predictor<R>,
    data: &Data,
    rule: KeyRule,
    cx: Workers<'_>,
) -> Result<Counts> {
    let symbols = TOKENS.token_count(R::BITS);
    let none = || Counts { tokens: vec![0; KEYS * symbols], raw_bits: 0, chunks: 0 };
    let total = Mutex::new(none());
    cx.executor.map(predictor.unit.chunk_count() as usize, |chunk| {
        let bytes = bytes_of::<R>(&predictor.unit, chunk as u64);
        let (mut words, mut fractions, mut counts) =
            (Vec::new(), Vec::new(), vec![0u32; KEYS * symbols]);
        let (mut raw_bits, mut unequal) = (0u64, false);
        predictor.predict(chunk as u64, &data.base[bytes.clone()], &mut words, &mut fractions);
        for (t, (&word, &fraction)) in
            data.target[bytes].chunks_exact(R::BYTES).zip(words.iter().zip(&fractions))
        {
            let value = float::residual::<R>(R::load(t), word, fraction);
            let t = TOKENS.split(value.into());
            counts[rule.key(word, fraction) as usize * symbols + t.token as usize] += 1;
            raw_bits += u64::from(t.raw_bits);
            unequal |= value != 0;
        }
        if unequal && !cx.cancel.is_cancelled() {
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.tokens.iter_mut().zip(&counts).for_each(|(t, &c)| *t += u64::from(c));
            total.raw_bits += raw_bits;
            total.chunks += 1;
        }
    });
    cx.cancel.check()?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Computes what contents of chunks take under a model.
fn price<R: Predicted>(
    predictor: &Predictor<R>,
    data: &Data,
    model: &Model,
    cx: Workers<'_>,
) -> Result<EstimatedBits> {
    let unit = &predictor.unit;
    let symbols = TOKENS.token_count(R::BITS);
    let prices = prices(model, symbols);
    let rule = super::chunk::key_rule::<R>(model.origin);
    let chunks = cx.executor.map(unit.chunk_count() as usize, |chunk| {
        let bytes = bytes_of::<R>(unit, chunk as u64);
        let (target, base) = (&data.target[bytes.clone()], &data.base[bytes]);
        let (mut words, mut fractions, mut by_segment) = (Vec::new(), Vec::new(), Vec::new());
        predictor.predict(chunk as u64, base, &mut words, &mut fractions);
        let mut unequal = false;
        let mut places = target.chunks_exact(R::BYTES).zip(words.iter().zip(&fractions));
        let (mut token_bits, mut raw_bits) = (0.0, 0.0);
        for run in unit.row_runs(unit.chunk_range(chunk as u64)) {
            let mut bits = 0.0;
            for (t, (&word, &fraction)) in places.by_ref().take(run.len) {
                let value = float::residual::<R>(R::load(t), word, fraction);
                let t = TOKENS.split(value.into());
                let table = model.contexts[rule.key(word, fraction) as usize] as usize;
                // A chunk that equals its prediction is not counted, so its tokens may have no
                // code.
                let price = f64::from(prices[table * symbols + t.token as usize].min(NO_CODE));
                bits += price + f64::from(t.raw_bits);
                token_bits += price;
                raw_bits += f64::from(t.raw_bits);
                unequal |= value != 0;
            }
            by_segment.push((run.segment, bits));
        }
        let verbatim = 8.0 * target.len() as f64;
        let overhead = 8.0 * overhead_bytes(token_bits);
        let coded = token_bits + raw_bits + overhead;
        // Shares of what the chunk takes at most.
        let factor = if coded > verbatim { verbatim / coded.max(1.0) } else { 1.0 };
        by_segment.iter_mut().for_each(|s| s.1 *= factor);
        unequal.then_some((by_segment, overhead * factor))
    });
    cx.cancel.check()?;
    let mut estimate = EstimatedBits::new(vec![0.0; unit.segments().len()]);
    let mut count = 0.0;
    for (by_segment, overhead) in chunks.into_iter().flatten() {
        by_segment.into_iter().for_each(|(segment, bits)| estimate.payload[segment] += bits);
        estimate.per_chunk += overhead;
        count += 1.0;
    }
    estimate.per_chunk /= f64::max(count, 1.0);
    Ok(estimate)
}

struct BoundEncoder<R: Predicted> {
    encoder: Encoder<R>,
    params: Vec<u8>,
}

impl<R: Predicted> ChunkEncoder for BoundEncoder<R> {
    fn params(&self) -> &[u8] {
        &self.params
    }

    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.encoder.predictor.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        self.encoder.encode(chunk, target, base.unwrap_or_default(), out, cx);
        Ok(())
    }
}
