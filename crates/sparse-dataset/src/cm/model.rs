//! Prediction of decisions by mixing.
//!
//! Each context has an adaptive probability in a hash table; a small neural network (a weight for
//! each input, one set for each selector) mixes them in the logistic domain and learns from each
//! decision. This is the scheme of Mahoney's lpaq (2007), in integers only, so that every machine
//! predicts the same.

use super::coder::Coder;
use super::memory::{Memory, Predictions};
use super::streams::Streams;
use sparse_core::Result;
use std::sync::OnceLock;

/// Most contexts of one decision.
pub(crate) const MAX_CONTEXTS: usize = 16;

/// Largest logarithm of odds, in units of 1/256.
const MAX_STRETCH: i32 = 2815;

/// Number of decisions that an adaptive probability remembers.
const MAX_COUNT: u32 = 60;

struct Tables {
    /// `65536 / (1 + exp(-i / 256))`, from `-MAX_STRETCH` on.
    squash: Vec<u16>,
    /// The inverse of `squash`, of probabilities below 4096.
    stretch_low: Vec<i16>,
    /// The inverse of `squash`, of multiples of 16.
    stretch: Vec<i16>,
    /// `65536 / (n + 1.5)`.
    rate: [u32; MAX_COUNT as usize + 1],
    /// Weight of an input after n decisions, in 1/16.
    trust: [i32; MAX_COUNT as usize + 1],
}

impl Tables {
    fn new() -> Tables {
        // exp(1/256) in units of 2^-48, by its series.
        let (mut step, mut term) = (1u128 << 48, 1u128 << 48);
        for k in 1..12 {
            term /= 256 * k;
            step += term;
        }
        let n = 2 * MAX_STRETCH as usize + 1;
        let mut squash = vec![32768u16; n];
        let mut odds = 1u128 << 48;
        for i in 1..=MAX_STRETCH as usize {
            odds = (odds * step) >> 48;
            let p = ((odds << 16) / (odds + (1 << 48))).min(65535) as u16;
            squash[MAX_STRETCH as usize + i] = p;
            squash[MAX_STRETCH as usize - i] = (65536 - u32::from(p)).min(65535) as u16;
        }
        let inverse = |p: u32| {
            let at = squash.partition_point(|&s| u32::from(s) < p).min(n - 1);
            (at as i32 - MAX_STRETCH) as i16
        };
        let stretch_low = (0..4096).map(inverse).collect();
        let stretch = (0..4096).map(|p| inverse(p * 16 + 8)).collect();
        let mut rate = [0; MAX_COUNT as usize + 1];
        let mut trust = [0; MAX_COUNT as usize + 1];
        for (i, (r, t)) in rate.iter_mut().zip(&mut trust).enumerate() {
            *r = (2 * 65536) / (2 * i as u32 + 3);
            *t = match i {
                0 => 0,
                1 => 12,
                2 => 16,
                3 => 18,
                _ => 20,
            };
        }
        Tables { squash, stretch_low, stretch, rate, trust }
    }

    fn get() -> &'static Tables {
        static TABLES: OnceLock<Tables> = OnceLock::new();
        TABLES.get_or_init(Tables::new)
    }

    #[inline]
    fn squash(&self, x: i32) -> i32 {
        self.squash[(x.clamp(-MAX_STRETCH, MAX_STRETCH) + MAX_STRETCH) as usize].into()
    }

    #[inline]
    fn stretch(&self, p: u32) -> i32 {
        match p {
            0..4096 => self.stretch_low[p as usize].into(),
            4096..61440 => self.stretch[(p >> 4) as usize].into(),
            _ => -i32::from(self.stretch_low[(65535 - p.min(65535)) as usize]),
        }
    }
}

/// Adaptive probability: 16 bits of probability, 6 of count, 10 of the context's hash.
type Slot = u32;

const EMPTY: Slot = 32768 << 16;

/// One set of weights.
#[derive(Clone, Copy)]
struct Weights {
    weight: [i32; MAX_CONTEXTS],
    /// Decisions seen, for a learning rate that falls.
    seen: u32,
}

/// Model of decisions: probabilities by context, weights by selector.
pub(crate) struct Model {
    tables: &'static Tables,
    slots: Vec<Slot>,
    shift: u32,
    sets: Vec<Weights>,
    /// Streams for the decisions, if nothing is modelled.
    pub(crate) streams: Option<Streams>,
    pub(super) memory: Memory,
    /// Decisions that were predicted anew: how much work that was.
    pub(crate) decisions: u64,
}

/// Number of selectors.
pub(crate) const SELECTORS: usize = 2048;

/// Sizes of the table of contexts, as powers of two.
pub(crate) const MIN_BITS: u8 = 12;
pub(crate) const MAX_BITS: u8 = 22;

impl Model {
    /// Creates a model with `2^bits` contexts.
    pub(crate) fn new(bits: u8) -> Model {
        let bits = bits.clamp(MIN_BITS, MAX_BITS);
        Model {
            tables: Tables::get(),
            slots: vec![EMPTY; 1 << bits],
            shift: 64 - u32::from(bits),
            sets: vec![Weights { weight: [20_000; MAX_CONTEXTS], seen: 0 }; SELECTORS],
            streams: None,
            memory: Memory::Off,
            decisions: 0,
        }
    }

    /// Keeps all predictions from here on.
    pub(crate) fn keep_predictions(&mut self) {
        self.memory = Memory::Keeps(Predictions::default());
    }

    /// Takes the kept predictions out, unless there were too many.
    pub(crate) fn take_predictions(&mut self) -> Option<Predictions> {
        self.memory.take()
    }

    /// Returns a model that recalls the predictions of another one.
    pub(crate) fn recalling(kept: Predictions) -> Model {
        Model { memory: Memory::of(kept), streams: None, ..Model::plain(Streams::default()) }
    }

    /// Returns true if predictions are recalled.
    pub(super) fn recalls(&self) -> bool {
        matches!(self.memory, Memory::Recalls { .. })
    }

    /// Checks that all predictions were recalled, in the contexts in which they were made.
    ///
    /// # Errors
    /// `Corrupt` when they were not.
    pub(crate) fn check_recalled(&self) -> Result<()> {
        self.memory.check()
    }

    /// Returns a model that predicts nothing: decisions are written to streams, or read from them.
    pub(crate) fn plain(streams: Streams) -> Model {
        let sets = Vec::new();
        let memory = Memory::Off;
        Model {
            tables: Tables::get(),
            slots: Vec::new(),
            shift: 0,
            sets,
            streams: Some(streams),
            memory,
            decisions: 0,
        }
    }

    /// Codes one decision in `contexts` (hashes, at most [`MAX_CONTEXTS`]), mixed with the weights
    /// of two selectors.
    #[inline]
    pub(crate) fn bit<C: Coder>(
        &mut self,
        coder: &mut C,
        contexts: &[u64],
        selectors: [usize; 2],
        bit: bool,
    ) -> bool {
        self.memory.contexts(contexts, selectors[0]);
        self.decide(coder, contexts, selectors, bit)
    }

    /// Codes one decision, as [`bit`](Self::bit) does, in contexts that were noted.
    #[inline]
    pub(super) fn decide<C: Coder>(
        &mut self,
        coder: &mut C,
        contexts: &[u64],
        selectors: [usize; 2],
        bit: bool,
    ) -> bool {
        if let Some(p) = self.memory.recalled(C::CODES) {
            let bit = coder.code(bit, p);
            self.memory.decision(bit);
            return bit;
        }
        self.decisions += 1;
        let t = self.tables;
        let n = contexts.len().min(MAX_CONTEXTS);
        let mut at = [0usize; MAX_CONTEXTS];
        let mut input = [0i32; MAX_CONTEXTS];
        for ((&c, at), input) in contexts.iter().zip(&mut at).zip(&mut input) {
            let h = c.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let i = (h >> self.shift) as usize;
            let check = (h >> 12) as u32 & 0x3ff;
            let mut slot = self.slots[i];
            if slot & 0x3ff != check {
                slot = EMPTY | check;
                self.slots[i] = slot;
            }
            *at = i;
            let count = (slot >> 10 & 63) as usize;
            *input = (t.stretch(slot >> 16) * t.trust[count]) >> 4;
        }
        let sets = selectors.map(|s| s % SELECTORS);
        let dots = sets.map(|s| {
            let w = &self.sets[s].weight;
            let sum: i64 =
                w.iter().zip(&input[..n]).map(|(&w, &x)| i64::from(w) * i64::from(x)).sum();
            (sum >> 16).clamp(-i64::from(MAX_STRETCH), i64::from(MAX_STRETCH)) as i32
        });
        let p = t.squash((dots[0] + dots[1]) >> 1).clamp(1, 65535);
        if C::CODES {
            self.memory.predicted(p as u32);
        }
        let bit = coder.code(bit, p as u32);
        self.memory.decision(bit);
        let target = if bit { 65535 } else { 0 };
        for (s, dot) in sets.into_iter().zip(dots) {
            let set = &mut self.sets[s];
            let rate = 6 + 24 * 64 / (64 + set.seen as i32);
            set.seen = (set.seen + 1).min(1 << 12);
            let error = (target - t.squash(dot)) * rate;
            for (w, &x) in set.weight.iter_mut().zip(&input[..n]) {
                *w = (*w + ((x * (error >> 4) + 0x8000) >> 16)).clamp(-(1 << 20), 1 << 20);
            }
        }
        for &i in &at[..n] {
            let slot = self.slots[i];
            let (p, count) = ((slot >> 16) as i32, slot >> 10 & 63);
            let step = (i64::from(target - p) * i64::from(t.rate[count as usize])) >> 16;
            let p = (p + step as i32).clamp(0, 65535) as u32;
            self.slots[i] = p << 16 | (count + 1).min(MAX_COUNT) << 10 | slot & 0x3ff;
        }
        bit
    }

    /// Returns the number of times that a context was seen, up to a limit.
    #[inline]
    pub(super) fn seen(&self, context: u64) -> u32 {
        let h = context.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = self.slots[(h >> self.shift) as usize];
        if slot & 0x3ff == (h >> 12) as u32 & 0x3ff { slot >> 10 & 63 } else { 0 }
    }
}

/// Combines two hashes.
#[inline]
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::super::coder::{Decoder, Encoder};
    use super::*;

    #[test]
    fn tables_are_what_they_say() {
        let t = Tables::get();
        for p in [100, 1000, 4095, 4096, 30_000, 32_768, 50_000, 61_440, 65_000] {
            let exact = 256.0 * (f64::from(p) / (65_536.0 - f64::from(p))).ln();
            assert!((f64::from(t.stretch(p)) - exact).abs() <= 2.0 + exact.abs() / 100.0, "{p}");
        }
        assert_eq!(t.squash(0), 32768);
        for x in -2815..2815 {
            let exact = 65_536.0 / (1.0 + (-f64::from(x) / 256.0).exp());
            assert!((f64::from(t.squash(x)) - exact).abs() <= 1.5, "{x}");
        }
    }

    #[test]
    fn learns_and_decodes() {
        let bits: Vec<(u64, bool)> =
            (0..20_000u64).map(|i| (i % 7, (i % 7) * (i / 7 % 2) % 3 == 1)).collect();
        let mut e = Encoder::new();
        let mut m = Model::new(16);
        let mut last = false;
        for &(c, b) in &bits {
            m.bit(&mut e, &[c, c << 8 | u64::from(last), 99], [0, 1], b);
            last = b;
        }
        let bytes = e.finish();
        assert!(bytes.len() < 1000, "{}", bytes.len());
        let mut d = Decoder::new(&bytes);
        let mut m = Model::new(16);
        last = false;
        for &(c, b) in &bits {
            last = m.bit(&mut d, &[c, c << 8 | u64::from(last), 99], [0, 1], false);
            assert_eq!(last, b);
        }
    }
}
