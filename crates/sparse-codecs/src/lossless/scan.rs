//! One chunk, seen as zig-zag differences and keys.

use super::convert::Cast;
use super::model::{KeyRule, Kind};
use crate::word::{Word, difference, magnitude, with_word};
use sparse_core::{RowRun, UnitSpec};

/// Longest run of one row that has a profile of its own: longer rows are cut, so that a profile can change along
/// a vector of millions.
const MAX_RUN: usize = 4096;

/// Consecutive elements that share a profile: a row, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) segment: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// The runs of a chunk, in order; they tile it.
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

/// Where predictions come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Predictor {
    /// There is no base: everything is predicted as zero.
    Zero,
    /// The base's bits.
    Same,
    /// The base's bits, cast to the target's type; the base's words have so many bytes.
    Cast(Cast, usize),
}

impl Predictor {
    pub(super) fn of(unit: &UnitSpec) -> Predictor {
        match unit.base_dtype() {
            None => Predictor::Zero,
            Some(b) if b == unit.dtype() => Predictor::Same,
            Some(b) => Cast::new(b, unit.dtype())
                .map_or(Predictor::Zero, |cast| Predictor::Cast(cast, b.storage_bytes())),
        }
    }

    /// The prediction words of a chunk as bytes of the target's type, in `scratch` unless they are the base itself.
    pub(super) fn predict<'a>(
        self,
        base: Option<&'a [u8]>,
        word_bytes: usize,
        len: usize,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        fn cast<W: Word>(cast: Cast, base: &[u8], base_bytes: usize, out: &mut [u8]) {
            for (o, b) in out.chunks_exact_mut(W::BYTES).zip(base.chunks_exact(base_bytes)) {
                let mut word = [0; 8];
                word[..base_bytes].copy_from_slice(b);
                W::store(cast.apply(u64::from_le_bytes(word)), o);
            }
        }
        match (self, base) {
            (Predictor::Same, Some(base)) => base,
            (Predictor::Cast(c, base_bytes), Some(base)) => {
                scratch.resize(len * word_bytes, 0);
                with_word!(word_bytes, cast, c, base, base_bytes, scratch);
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

/// Scratch memory of one worker: a chunk's differences and keys.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Zig-zag of the mirrored difference.
    pub(super) values: Vec<u64>,
    pub(super) keys: Vec<u8>,
    predictions: Vec<u8>,
}

impl Scan {
    /// Look at a chunk. Returns whether all of it equals its prediction.
    pub(super) fn scan(
        &mut self,
        kind: Kind,
        rule: KeyRule,
        predictor: Predictor,
        target: &[u8],
        base: Option<&[u8]>,
    ) -> bool {
        let word_bytes = kind.bits as usize / 8;
        let len = target.len() / word_bytes;
        self.values.resize(len, 0);
        self.keys.resize(len, 0);
        let predictions = predictor.predict(base, word_bytes, len, &mut self.predictions);
        if target == predictions {
            return true;
        }
        with_word!(
            word_bytes,
            differences,
            kind,
            rule,
            target,
            predictions,
            &mut self.values,
            &mut self.keys
        );
        false
    }
}

fn differences<W: Word>(
    kind: Kind,
    rule: KeyRule,
    target: &[u8],
    predictions: &[u8],
    values: &mut [u64],
    keys: &mut [u8],
) {
    let words = target.chunks_exact(W::BYTES).zip(predictions.chunks_exact(W::BYTES));
    for ((t, p), (value, key)) in words.zip(values.iter_mut().zip(keys)) {
        let (t, p) = (W::load(t), W::load(p));
        *value = difference::<W>(t, p, kind.float);
        *key = rule.key(magnitude::<W>(p, kind.float));
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
        let lens: Vec<Vec<usize>> = (0..2).map(|c| runs(&unit, c).map(|r| r.len).collect()).collect();
        assert_eq!(lens[0], [5, 5, 5, 4096, 1889]);
        assert_eq!(lens[1], [2207, 1808]);
        let first: Vec<_> = runs(&unit, 0).collect();
        assert_eq!(first[3], Run { segment: 1, start: 15, len: 4096 });
    }
}
