//! One chunk, seen as zig-zag differences and keys.

use super::convert::Cast;
use super::model::{KEYS, KeyRule, Kind, Tokens};
use crate::simd::{self, ContextRule, Simd};
use crate::word::{Word, difference, magnitude};
use sparse_core::{RowRun, UnitSpec};

/// Longest run of one row that has a profile of its own: longer rows are cut, so that a profile can
/// change along a vector of millions.
const MAX_RUN: usize = 4096;

/// Consecutive elements that share a profile: a row, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) segment: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Returns the runs of a chunk, in order; they tile it.
pub(super) fn runs(unit: &UnitSpec, chunk: u64) -> impl Iterator<Item = Run> + '_ {
    let mut start = 0;
    unit.row_runs(unit.chunk_range(chunk))
        .flat_map(|RowRun { segment, column, len, .. }| {
            // Cuts are at multiples of MAX_RUN from the row's start, wherever the chunk begins.
            let first = (MAX_RUN - (column % MAX_RUN as u64) as usize).min(len);
            let rest = len - first;
            std::iter::once(first)
                .chain((0..rest.div_ceil(MAX_RUN)).map(move |i| MAX_RUN.min(rest - i * MAX_RUN)))
                .map(move |len| (segment, len))
        })
        .map(move |(segment, len)| {
            let run = Run { segment, start, len };
            start += len;
            run
        })
}

/// Source of predictions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Predictor {
    /// No base: every prediction is zero.
    Zero,
    /// The base's bits.
    Same,
    /// The base's bits, cast to the target's type, and the number of bytes of the base's words.
    Cast(Cast, usize),
}

impl Predictor {
    pub(crate) fn of(unit: &UnitSpec) -> Predictor {
        match unit.base_dtype() {
            None => Predictor::Zero,
            Some(b) if b == unit.dtype() => Predictor::Same,
            Some(b) => Cast::new(b, unit.dtype())
                .map_or(Predictor::Zero, |cast| Predictor::Cast(cast, b.storage_bytes())),
        }
    }

    /// Returns the prediction words of a chunk as bytes of the target's type.
    ///
    /// They are in `scratch` unless they are the base itself.
    pub(crate) fn predict<'a>(
        self,
        base: Option<&'a [u8]>,
        word_bytes: usize,
        len: usize,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        match (self, base) {
            (Predictor::Same, Some(base)) => base,
            (Predictor::Cast(c, base_bytes), Some(base)) => {
                scratch.resize(len * word_bytes, 0);
                c.apply_all(base_bytes, base, word_bytes, scratch);
                scratch
            }
            _ => {
                scratch.clear();
                scratch.resize(len * word_bytes, 0);
                scratch
            }
        }
    }
}

/// Parameters for scanning the chunks of a unit.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    pub(super) simd: Simd,
    pub(super) kind: Kind,
    pub(super) key: KeyRule,
    pub(super) predictor: Predictor,
    pub(super) tokens: Tokens,
}

/// Scratch memory of one worker: a chunk's differences, tokens and keys.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Zig-zag of the mirrored difference, as little-endian words of the target's width.
    pub(super) values: Vec<u8>,
    pub(super) tokens: Vec<u8>,
    pub(super) keys: Vec<u8>,
    predictions: Vec<u8>,
}

impl Scan {
    /// Returns true if an element may differ from its prediction in raw bits alone.
    ///
    /// Its token is then zero: without a base, that happens to negative zero and the smallest
    /// numbers.
    pub(super) fn hides_changes(&self, tokens: &Tokens) -> bool {
        let (raw_bits, _) = tokens.scheme.expand(0);
        let word_bytes = self.values.len() / self.tokens.len().max(1);
        let mut elements = self.tokens.iter().zip(self.values.chunks_exact(word_bytes.max(1)));
        raw_bits > 0
            && elements.any(|(&token, value)| token == 0 && value.iter().any(|&byte| byte != 0))
    }
}

impl Scanner {
    /// Scans a chunk; returns whether all of it equals its prediction.
    ///
    /// Nothing is filled in then.
    pub(super) fn scan(&self, target: &[u8], base: Option<&[u8]>, scan: &mut Scan) -> bool {
        let word_bytes = self.kind.bits as usize / 8;
        let len = target.len() / word_bytes;
        let Scan { values, tokens, keys, predictions } = scan;
        let predictions = self.predictor.predict(base, word_bytes, len, predictions);
        if target == predictions {
            return true;
        }
        values.resize(target.len(), 0);
        tokens.resize(len, 0);
        keys.resize(len, 0);
        let (simd, float, scheme) = (self.simd, self.kind.float, self.tokens.scheme);
        let rule = ContextRule { shift: self.key.shift, origin: self.key.origin, float };
        let same: [u8; KEYS] = std::array::from_fn(|i| i as u8);
        match word_bytes {
            2 => {
                let (t, p) = (target.as_chunks().0, predictions.as_chunks().0);
                simd::split16(simd, float, scheme, t, p, values.as_chunks_mut().0, tokens);
                simd::contexts16(simd, rule, &same, p, keys);
                self.use_exact::<u16>(values, tokens);
            }
            4 => {
                let (t, p) = (target.as_chunks().0, predictions.as_chunks().0);
                simd::split32(simd, float, scheme, t, p, values.as_chunks_mut().0, tokens);
                simd::contexts32(simd, rule, &same, p, keys);
                self.use_exact::<u32>(values, tokens);
            }
            1 => self.split::<u8>(target, predictions, values, tokens, keys),
            _ => self.split::<u64>(target, predictions, values, tokens, keys),
        }
        false
    }

    fn split<W: Word>(
        &self,
        target: &[u8],
        predictions: &[u8],
        values: &mut [u8],
        tokens: &mut [u8],
        keys: &mut [u8],
    ) {
        let words = target.chunks_exact(W::BYTES).zip(predictions.chunks_exact(W::BYTES));
        let out = values.chunks_exact_mut(W::BYTES).zip(tokens.iter_mut().zip(keys));
        for ((t, p), (value, (token, key))) in words.zip(out) {
            let (t, p) = (W::load(t), W::load(p));
            let v = difference::<W>(t, p, self.kind.float);
            W::store(v, value);
            *token = self.tokens.split(v).token as u8;
            *key = self.key.key(magnitude::<W>(p, self.kind.float));
        }
    }

    /// Replaces the tokens of values that have tokens of their own.
    fn use_exact<W: Word>(&self, values: &[u8], tokens: &mut [u8]) {
        if self.tokens.exact.is_empty() {
            return;
        }
        // One bit for each value of a small hash, which rules out most values at once.
        let hash = |v: u64| (v.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize;
        let mut maybe = [0u64; 64];
        for &v in &self.tokens.exact {
            maybe[hash(v) / 64] |= 1 << (hash(v) % 64);
        }
        for (value, token) in values.chunks_exact(W::BYTES).zip(tokens) {
            let v = W::load(value);
            if maybe[hash(v) / 64] >> (hash(v) % 64) & 1 != 0 {
                *token = self.tokens.split(v).token as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::{Dtype, Segment};

    #[test]
    fn runs_tile_and_are_short() {
        let segments = [Segment { rows: 3, row_len: 5 }, Segment { rows: 1, row_len: 10_000 }];
        let unit = UnitSpec::new(Dtype::Bf16, None, 6000, segments).unwrap();
        let lens: Vec<Vec<usize>> =
            (0..2).map(|c| runs(&unit, c).map(|r| r.len).collect()).collect();
        assert_eq!(lens[0], [5, 5, 5, 4096, 1889]);
        assert_eq!(lens[1], [2207, 1808]);
        let first: Vec<_> = runs(&unit, 0).collect();
        assert_eq!(first[3], Run { segment: 1, start: 15, len: 4096 });
    }
}
