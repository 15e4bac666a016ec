//! Choosing each run's profile by its cost.

use super::model::{KEYS, Model, Tokens};
use super::scan::Run;
use crate::entropy::freq::PROB_BITS;
use crate::entropy::token::MAX_TOKENS;
use crate::simd::{self, PriceTable, Simd};

/// Profiles that the encoder makes: as many as fit one vector of prices.
pub(super) const LANES: usize = 8;

/// Price of a token without a code in a table: more than the rest of any chunk costs.
pub(super) const NO_CODE: f32 = 1e9;

/// Bits of naming a profile that a segment has not used in this chunk.
const NEW_PROFILE: f32 = 7.0;

/// Least number of elements in a part of a run.
const SAMPLE_MIN: usize = 64;

/// Returns the number of elements of a run that are priced if a part suffices.
pub(super) fn sample_len(len: usize, part: usize) -> usize {
    if len >= part * SAMPLE_MIN { len.div_ceil(part) } else { len }
}

/// Prices in bits of every token under every key, for all profiles side by side.
#[derive(Debug)]
pub(super) struct Prices {
    simd: Simd,
    /// Only the first of this many parts of a run is priced, as a sample.
    part: usize,
    prices: Box<PriceTable>,
}

impl Prices {
    /// Computes prices under `model` for `tokens`.
    ///
    /// There may be more exact values than the model has: these cost as much as the tokens that
    /// they take over from.
    pub(super) fn new(simd: Simd, model: &Model, tokens: &Tokens) -> Prices {
        let count = tokens.count();
        let known = model.tokens.count();
        let mut prices = Self::none();
        for (p, profile) in model.profiles.iter().enumerate().take(LANES) {
            for (key, &table) in profile.iter().enumerate() {
                let freqs = model.tables[table as usize].freqs();
                for (token, slot) in prices[key][..count].iter_mut().enumerate() {
                    let coded_as = match tokens.exact.get(token.wrapping_sub(known)) {
                        Some(&value) if token >= known => model.tokens.split(value).token as usize,
                        _ => token,
                    };
                    if let Some(&f) = freqs.get(coded_as).filter(|&&f| f > 0) {
                        slot[p] = PROB_BITS as f32 - f32::from(f).log2();
                    }
                }
            }
        }
        Prices { simd, part: 1, prices }
    }

    /// Prices only the first of `part` parts of each run.
    ///
    /// Where that is long enough to tell.
    pub(super) fn sampled(self, part: usize) -> Prices {
        Prices { part, ..self }
    }

    /// Creates prices from those of each table and token.
    pub(super) fn of_tables(simd: Simd, profiles: &[[u8; KEYS]], tables: &[Vec<f32>]) -> Prices {
        let mut prices = Self::none();
        for (p, profile) in profiles.iter().enumerate().take(LANES) {
            for (key, &table) in profile.iter().enumerate() {
                let slots = prices[key].iter_mut().map(|slot| &mut slot[p]);
                slots.zip(&tables[table as usize]).for_each(|(slot, &price)| *slot = price);
            }
        }
        Prices { simd, part: 1, prices }
    }

    fn none() -> Box<PriceTable> {
        vec![[[NO_CODE; LANES]; MAX_TOKENS]; KEYS]
            .into_boxed_slice()
            .try_into()
            .unwrap_or_else(|_| Box::new([[[NO_CODE; LANES]; MAX_TOKENS]; KEYS]))
    }

    /// Computes the cost of these elements under each profile.
    fn cost(&self, keys: &[u8], tokens: &[u8]) -> [f32; LANES] {
        let looked_at = sample_len(keys.len(), self.part);
        let costs = simd::price(self.simd, &self.prices, &keys[..looked_at], &tokens[..looked_at]);
        if looked_at == keys.len() {
            return costs;
        }
        let scale = keys.len() as f32 / looked_at as f32;
        costs.map(|c| c * scale)
    }
}

/// Scratch memory, and the result: the profile of each run.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) runs: Vec<Run>,
    pub(super) profiles: Vec<u8>,
    /// Cost of each run under its profile, in bits.
    pub(super) bits: Vec<f32>,
    costs: Vec<[f32; LANES]>,
}

impl Choice {
    /// Chooses profiles for `runs`; returns the expected bits.
    ///
    /// The cheapest, where each segment's own habits make a profile dear or cheap, and one profile
    /// for a whole segment where variety does not pay.
    pub(super) fn choose(
        &mut self,
        runs: impl Iterator<Item = Run>,
        keys: &[u8],
        tokens: &[u8],
        prices: &Prices,
    ) -> f64 {
        self.runs.clear();
        self.runs.extend(runs);
        self.costs.clear();
        self.costs.extend(self.runs.iter().map(|r| {
            let range = r.start..r.start + r.len;
            prices.cost(&keys[range.clone()], &tokens[range])
        }));
        self.profiles.clear();
        let mut bits = 0.0;
        let mut at = 0;
        for group in self.runs.chunk_by(|a, b| a.segment == b.segment) {
            let costs = &self.costs[at..at + group.len()];
            at += group.len();
            bits += choose_in_segment(costs, &mut self.profiles);
        }
        self.bits.clear();
        self.bits.extend(self.costs.iter().zip(&self.profiles).map(|(cost, &p)| cost[p as usize]));
        bits
    }
}

fn cheapest(cost: &[f32; LANES]) -> usize {
    (1..LANES).fold(0, |best, p| if cost[p] < cost[best] { p } else { best })
}

fn choose_in_segment(costs: &[[f32; LANES]], out: &mut Vec<u8>) -> f64 {
    let mut single = [0f64; LANES];
    let mut used = [0usize; LANES];
    for cost in costs {
        single.iter_mut().zip(cost).for_each(|(s, &c)| *s += f64::from(c));
        used[cheapest(cost)] += 1;
    }
    let best = (1..LANES).fold(0, |b, p| if single[p] < single[b] { p } else { b });
    if costs.len() > 1 {
        let total = costs.len() as f32 + 0.15 * LANES as f32;
        let habit = used
            .map(|n| (total / (n as f32 + 0.15)).log2() + if n == 0 { NEW_PROFILE } else { 0.0 });
        let start = out.len();
        let mut sum = f64::from(NEW_PROFILE) * used.iter().filter(|&&n| n > 0).count() as f64;
        for cost in costs {
            let with_habit: [f32; LANES] = std::array::from_fn(|p| cost[p] + habit[p]);
            let p = cheapest(&with_habit);
            sum += f64::from(with_habit[p]);
            out.push(p as u8);
        }
        if sum < single[best] {
            return sum;
        }
        out.truncate(start);
    }
    out.extend(std::iter::repeat_n(best as u8, costs.len()));
    single[best]
}
