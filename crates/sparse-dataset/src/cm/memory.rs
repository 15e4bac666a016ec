//! Predictions that an encoder made, kept so that a proof decodes without predicting again.
//!
//! The predictions of a model follow from the contexts and decisions before, by code that encoders
//! and decoders share and that computes in integers only. A decoder that is given the predictions,
//! meets the same contexts in the same order and reads the same decisions is therefore as good as
//! one that predicts: the proof runs all of its code except the prediction, and compares a hash of
//! contexts and decisions.

use sparse_core::{Error, Result};

/// Most predictions that are kept, which takes 64 MiB; row groups with more are decoded in full.
const MAX_PREDICTIONS: usize = 1 << 25;

/// Use of a model's predictions.
#[derive(Debug)]
pub(super) enum Memory {
    /// Predictions are made and not kept.
    Off,
    /// Predictions are made and kept.
    Keeps(Predictions),
    /// Predictions are taken from kept ones, in order.
    Recalls { kept: Predictions, next: usize, trace: Trace },
}

/// Predictions of an encoder, and a hash of their contexts and decisions.
#[derive(Debug, Default)]
pub(crate) struct Predictions {
    probabilities: Vec<u16>,
    trace: Trace,
    too_many: bool,
}

impl Predictions {
    /// Returns true if all predictions were kept.
    pub(crate) fn are_complete(&self) -> bool {
        !self.too_many
    }

    fn push(&mut self, p: u32) {
        if self.probabilities.len() < MAX_PREDICTIONS {
            self.probabilities.push(p as u16);
        } else if !self.too_many {
            self.too_many = true;
            // Above the limit, none of them is of use.
            self.probabilities = Vec::new();
        }
    }
}

/// Hash of contexts and decisions, in order. It finds mistakes, not forgeries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    contexts: [u64; 4],
    decisions: u64,
}

impl Trace {
    /// Hashes contexts in four lanes, which a processor runs in parallel.
    #[inline]
    fn contexts(&mut self, contexts: &[u64], selector: u64) {
        let step = |h: u64, c: u64| (h.rotate_left(23) ^ c).wrapping_mul(0x9fb2_1c65_1e98_df25);
        for four in contexts.chunks(4) {
            for (h, &c) in self.contexts.iter_mut().zip(four) {
                *h = step(*h, c);
            }
        }
        self.contexts[0] = step(self.contexts[0], selector << 8 | contexts.len() as u64);
    }

    #[inline]
    fn decision(&mut self, bit: bool) {
        self.decisions = (self.decisions.rotate_left(29) ^ u64::from(bit))
            .wrapping_mul(0x9fb2_1c65_1e98_df25)
            .wrapping_add(1);
    }
}

impl Memory {
    /// Begins to recall.
    pub(super) fn of(kept: Predictions) -> Memory {
        Memory::Recalls { kept, next: 0, trace: Trace::default() }
    }

    fn trace(&mut self) -> Option<&mut Trace> {
        match self {
            Memory::Off => None,
            Memory::Keeps(kept) => Some(&mut kept.trace),
            Memory::Recalls { trace, .. } => Some(trace),
        }
    }

    /// Records the contexts of the next predictions.
    #[inline]
    pub(super) fn contexts(&mut self, contexts: &[u64], selector: usize) {
        if let Some(trace) = self.trace() {
            trace.contexts(contexts, selector as u64);
        }
    }

    /// Records a decision.
    #[inline]
    pub(super) fn decision(&mut self, bit: bool) {
        if let Some(trace) = self.trace() {
            trace.decision(bit);
        }
    }

    /// Keeps the prediction by which a decision was coded.
    #[inline]
    pub(super) fn predicted(&mut self, p: u32) {
        if let Memory::Keeps(kept) = self {
            kept.push(p);
        }
    }

    /// Returns the prediction for the next decision that is `coded`, if predictions are recalled;
    /// any number for one that is not.
    #[inline]
    pub(super) fn recalled(&mut self, coded: bool) -> Option<u32> {
        let Memory::Recalls { kept, next, .. } = self else { return None };
        if !coded {
            return Some(1);
        }
        // Past the end, the traces differ.
        let p = kept.probabilities.get(*next).copied().unwrap_or(1 << 15);
        *next += 1;
        Some(p.into())
    }

    /// Takes the kept predictions out.
    pub(super) fn take(&mut self) -> Option<Predictions> {
        match std::mem::replace(self, Memory::Off) {
            Memory::Keeps(kept) if kept.are_complete() => Some(kept),
            _ => None,
        }
    }

    /// Checks that all kept predictions were recalled, for the same contexts and decisions.
    ///
    /// # Errors
    /// `Corrupt` when it differs.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Memory::Recalls { kept, next, trace }
                if *next != kept.probabilities.len() || *trace != kept.trace =>
            {
                Err(Error::corrupt(
                    "a row group was decoded in other contexts than it was coded in",
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::coder::{Decoder, Encoder, Trainer};
    use super::super::model::Model;
    use super::*;

    fn contexts(i: usize) -> [u64; 15] {
        std::array::from_fn(|k| (i * (k + 3) % 11) as u64)
    }

    /// Returns a model's decisions on 2000 bytes, of which a few are learned first.
    fn coded() -> (Vec<u8>, Predictions) {
        let mut model = Model::new(12);
        model.keep_predictions();
        for i in 0..20 {
            model.byte(&mut Trainer, &contexts(i), 0, i as u8);
        }
        let mut coder = Encoder::new();
        for i in 0..2000 {
            model.byte(&mut coder, &contexts(i), 4, (i % 13) as u8);
            model.flag(&mut coder, 7, &[i as u64 % 3], i % 3 == 1);
        }
        (coder.finish(), model.take_predictions().unwrap())
    }

    /// Decodes with kept predictions; the contexts of one byte may differ.
    fn recalled(
        bytes: &[u8],
        kept: Predictions,
        learned: usize,
        differs: Option<usize>,
    ) -> Result<bool> {
        let mut model = Model::recalling(kept);
        for i in 0..learned {
            model.byte(&mut Trainer, &contexts(i), 0, i as u8);
        }
        let mut coder = Decoder::new(bytes);
        let mut same = true;
        for i in 0..2000 {
            let at = if differs == Some(i) { i + 1 } else { i };
            same &= model.byte(&mut coder, &contexts(at), 4, 0) == (i % 13) as u8;
            same &= model.flag(&mut coder, 7, &[i as u64 % 3], false) == (i % 3 == 1);
        }
        model.check_recalled().map(|()| same)
    }

    #[test]
    fn what_is_recalled_is_decoded() {
        let (bytes, kept) = coded();
        assert!(recalled(&bytes, kept, 20, None).unwrap());
        // By itself, a decoder reads the same.
        let mut model = Model::new(12);
        for i in 0..20 {
            model.byte(&mut Trainer, &contexts(i), 0, i as u8);
        }
        let mut coder = Decoder::new(&bytes);
        for i in 0..2000 {
            assert_eq!(model.byte(&mut coder, &contexts(i), 4, 0), (i % 13) as u8);
            assert_eq!(model.flag(&mut coder, 7, &[i as u64 % 3], false), i % 3 == 1);
        }
    }

    #[test]
    fn a_decoder_in_other_contexts_is_found_out() {
        let (bytes, kept) = coded();
        assert!(recalled(&bytes, kept, 20, Some(1999)).is_err());
        assert!(recalled(&bytes, coded().1, 19, None).is_err());
        assert!(recalled(&bytes[..bytes.len() - 4], coded().1, 20, None).is_err());
        let mut fewer = coded().1;
        fewer.probabilities.pop();
        assert!(recalled(&bytes, fewer, 20, None).is_err());
    }

    #[test]
    fn predictions_are_not_kept_without_end() {
        let mut kept = Predictions::default();
        (0..=MAX_PREDICTIONS).for_each(|_| kept.push(1));
        assert!(kept.probabilities.is_empty());
        assert!(Memory::Keeps(kept).take().is_none());
    }
}
