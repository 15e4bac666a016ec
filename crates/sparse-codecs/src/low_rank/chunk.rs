//! The chunk payload.
//!
//! ```text
//! (empty)                      every element equals its prediction
//! 0x00  bytes                  verbatim
//! mode  words  states  words*  raw bits
//! ```
//!
//! `mode` is `1 + log2(lanes)`.

use super::factors::Factors;
use super::float::{Predicted, restore};
use super::model::{KeyRule, Model, TOKENS};
use crate::entropy::bits::BitReader;
use crate::entropy::rans::{self, DecodeTables, LANES};
use crate::entropy::varint;
use crate::simd::{self, Kernel, Simd};
use sparse_core::{CodecContext, Error, Result, RowRun, UnitSpec};
use std::marker::PhantomData;

pub(super) const VERBATIM: u8 = 0;

/// Factors of all segments: predictions of whole chunks.
#[derive(Debug)]
pub(super) struct Predictor<R: Predicted> {
    pub(super) unit: UnitSpec,
    pub(super) factors: Vec<Factors<R>>,
    pub(super) simd: Simd,
}

impl<R: Predicted> Predictor<R> {
    /// Predicts a chunk: words and fractions.
    pub(super) fn predict(
        &self,
        chunk: u64,
        base: &[u8],
        words: &mut Vec<u32>,
        fractions: &mut Vec<u8>,
    ) {
        let len = base.len() / R::BYTES;
        words.resize(len, 0);
        fractions.resize(len, 0);
        let mut at = 0;
        for RowRun { segment, row, column, len } in self.unit.row_runs(self.unit.chunk_range(chunk))
        {
            let columns = self.unit.segments()[segment].row_len as usize;
            let (range, next) = (at..at + len, at + len);
            self.factors[segment].predict(
                self.simd,
                row as usize,
                column as usize,
                columns,
                &base[at * R::BYTES..next * R::BYTES],
                &mut words[range.clone()],
                &mut fractions[range],
            );
            at = next;
        }
    }
}

/// Everything about a unit that decoding its chunks needs.
#[derive(Debug)]
pub(super) struct Decoder<R: Predicted> {
    predictor: Predictor<R>,
    rule: KeyRule,
    model: Model,
    tables: DecodeTables,
    /// By token: number of raw bits, value.
    expansions: Vec<(u32, u32)>,
}

/// Scratch memory of a worker.
#[derive(Default)]
struct DecodeState {
    words: Vec<u32>,
    fractions: Vec<u8>,
    contexts: Vec<u8>,
    tokens: Vec<u8>,
}

pub(super) fn key_rule<R: Predicted>(origin: u32) -> KeyRule {
    KeyRule { mantissa: R::MANTISSA, sign: R::SIGN, origin }
}

impl<R: Predicted> Decoder<R> {
    pub(super) fn new(predictor: Predictor<R>, model: Model) -> Self {
        let expansions =
            (0..=255).map(|t| TOKENS.expand(t)).map(|(bits, value)| (bits, value as u32));
        Decoder {
            predictor,
            rule: key_rule::<R>(model.origin),
            tables: DecodeTables::new(&model.tables),
            expansions: expansions.collect(),
            model,
        }
    }

    /// Returns the memory of factors and tables, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let factors = self.predictor.factors.iter();
        let factors = factors.map(|f| size_of_val(&*f.left) + size_of_val(&*f.right));
        self.unit().memory_bytes()
            + factors.sum::<usize>()
            + self.tables.memory_bytes()
            + size_of_val(&*self.expansions)
    }

    /// Returns the unit.
    pub(super) fn unit(&self) -> &UnitSpec {
        &self.predictor.unit
    }

    /// Decodes one chunk, whose buffers have been checked.
    pub(super) fn decode(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: &[u8],
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        if let Some((&VERBATIM, bytes)) = encoded.split_first() {
            if bytes.len() != out.len() {
                let lens = (bytes.len(), out.len());
                return Err(Error::corrupt(format!(
                    "a verbatim chunk has {} bytes instead of {}",
                    lens.0, lens.1
                )));
            }
            out.copy_from_slice(bytes);
            return Ok(());
        }
        let mut state = cx.take::<DecodeState>();
        self.predictor.predict(chunk, base, &mut state.words, &mut state.fractions);
        let result = match encoded.split_first() {
            None => {
                for (out, &word) in out.chunks_exact_mut(R::BYTES).zip(&state.words) {
                    R::store(word, out);
                }
                Ok(())
            }
            Some((&mode, body)) => self.decode_coded(mode, body, out, &mut state),
        };
        cx.put(state);
        result
    }

    fn decode_coded(
        &self,
        mode: u8,
        mut input: &[u8],
        out: &mut [u8],
        state: &mut DecodeState,
    ) -> Result<()> {
        let log_lanes = mode.checked_sub(1).filter(|&l| u32::from(l) <= LANES.ilog2());
        let lanes = 1usize
            << log_lanes.ok_or_else(|| Error::corrupt(format!("unknown chunk mode {mode}")))?;
        let DecodeState { words, fractions, contexts, tokens } = state;
        let simd = self.predictor.simd;
        contexts.resize(words.len(), 0);
        simd::run(simd, Keys { rule: self.rule, words, fractions, keys: contexts });
        contexts.iter_mut().for_each(|c| *c = self.model.contexts[*c as usize]);
        let most = input.len() as u64 / 2;
        let word_count = varint::take_max(&mut input, most, "number of words")? as usize;
        let states = varint::take_bytes(&mut input, 4 * lanes, "coder states")?;
        let coded = varint::take_bytes(&mut input, 2 * word_count, "coder words")?;
        tokens.resize(contexts.len(), 0);
        rans::decode(states, coded, contexts, &self.tables, tokens)?;
        let mut raw = BitReader::new(input);
        let mut values = [0u32; BLOCK];
        let blocks = tokens.chunks(BLOCK).zip(words.chunks(BLOCK)).zip(fractions.chunks(BLOCK));
        for (out, ((tokens, words), fractions)) in out.chunks_mut(BLOCK * R::BYTES).zip(blocks) {
            let values = &mut values[..tokens.len()];
            self.expand(tokens, &mut raw, values);
            simd::run(simd, Restore::<R> { values, words, fractions, out, width: PhantomData });
        }
        if !raw.is_exact() {
            return Err(Error::corrupt("raw bits do not end where they should"));
        }
        Ok(())
    }

    /// Expands tokens and raw bits to zigzag residuals.
    ///
    /// They are not yet cut to the type's width.
    fn expand(&self, tokens: &[u8], raw: &mut BitReader<'_>, values: &mut [u32]) {
        const STRIP: usize = 32;
        for (tokens, values) in tokens.chunks(STRIP).zip(values.chunks_mut(STRIP)) {
            values.iter_mut().zip(tokens).for_each(|(v, &t)| *v = t.into());
            // Small tokens are values, and few others occur.
            if tokens.iter().all(|&t| t < FIRST_SPLIT) {
                continue;
            }
            for (value, &token) in values.iter_mut().zip(tokens).filter(|(_, t)| **t >= FIRST_SPLIT)
            {
                let (bits, low) = self.expansions.get(token as usize).copied().unwrap_or_default();
                *value = low.wrapping_add((raw.take(bits) as u32) << TOKENS.raw_shift());
            }
        }
    }
}

/// Elements that are restored at a time.
const BLOCK: usize = 2048;

/// Tokens below this are whole values.
const FIRST_SPLIT: u8 = 8;

/// The keys of predictions.
struct Keys<'a> {
    rule: KeyRule,
    words: &'a [u32],
    fractions: &'a [u8],
    keys: &'a mut [u8],
}

impl Kernel for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((key, &word), &fraction) in self.keys.iter_mut().zip(self.words).zip(self.fractions) {
            *key = self.rule.key(word, fraction);
        }
    }
}

/// Elements from residuals and predictions.
struct Restore<'a, R> {
    values: &'a [u32],
    words: &'a [u32],
    fractions: &'a [u8],
    out: &'a mut [u8],
    width: PhantomData<R>,
}

impl<R: Predicted> Kernel for Restore<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let places = self
            .out
            .chunks_exact_mut(R::BYTES)
            .zip(self.values)
            .zip(self.words)
            .zip(self.fractions);
        for (((out, &value), &word), &fraction) in places {
            R::store(restore::<R>(value & R::MASK, word, fraction), out);
        }
    }
}

#[cfg(feature = "low-rank-encode")]
pub(super) mod encode {
    use super::super::float::residual;
    use super::*;
    use crate::entropy::bits::BitWriter;
    use crate::entropy::freq::PROB_BITS;
    use crate::entropy::rans::{EncodeScratch, EncodeTables};

    /// The price of a token without a code.
    pub(in super::super) const NO_CODE: f32 = 1e9;

    /// Below this many bits of tokens, the states of all lanes would be a noticeable part of the
    /// chunk.
    const FEW_BITS: f64 = 8.0 * 8192.0;
    const FEW_LANES: usize = 4;

    fn lanes_for(token_bits: f64) -> usize {
        if token_bits < FEW_BITS { FEW_LANES } else { LANES }
    }

    /// Estimates the overhead of a chunk, in bytes.
    ///
    /// That is all but tokens and raw bits.
    pub(in super::super) fn overhead_bytes(token_bits: f64) -> f64 {
        4.0 * lanes_for(token_bits) as f64 + 4.0
    }

    /// Computes the bits of each token in each table, `symbols` per table.
    pub(in super::super) fn prices(model: &Model, symbols: usize) -> Vec<f32> {
        let mut prices = vec![NO_CODE; symbols * model.tables.len()];
        for (table, prices) in model.tables.iter().zip(prices.chunks_mut(symbols)) {
            for (&f, price) in table.freqs().iter().zip(prices).filter(|(f, _)| **f > 0) {
                *price = PROB_BITS as f32 - f32::from(f).log2();
            }
        }
        prices
    }

    /// Everything about a unit that encoding its chunks needs.
    #[derive(Debug)]
    pub(in super::super) struct Encoder<R: Predicted> {
        pub(in super::super) predictor: Predictor<R>,
        pub(in super::super) model: Model,
        prices: Vec<f32>,
        symbols: usize,
        tables: EncodeTables,
    }

    /// Scratch memory of a worker.
    #[derive(Default)]
    struct EncodeState {
        words: Vec<u32>,
        fractions: Vec<u8>,
        contexts: Vec<u8>,
        tokens: Vec<u8>,
        coded: Vec<u8>,
        raw: BitWriter,
        rans: EncodeScratch,
    }

    impl<R: Predicted> Encoder<R> {
        pub(in super::super) fn new(predictor: Predictor<R>, model: Model) -> Self {
            let symbols = TOKENS.token_count(R::BITS);
            let (prices, tables) = (prices(&model, symbols), EncodeTables::new(&model.tables));
            Encoder { predictor, prices, symbols, tables, model }
        }

        /// Appends one chunk, whose buffers have been checked.
        pub(in super::super) fn encode(
            &self,
            chunk: u64,
            target: &[u8],
            base: &[u8],
            out: &mut Vec<u8>,
            cx: &mut CodecContext,
        ) {
            let mut state = cx.take::<EncodeState>();
            let EncodeState { words, fractions, contexts, tokens, coded, raw, rans } = &mut *state;
            self.predictor.predict(chunk, base, words, fractions);
            contexts.clear();
            tokens.clear();
            let rule = key_rule::<R>(self.model.origin);
            let (mut bits, mut unequal) = (0.0, false);
            for (target, (&word, &fraction)) in
                target.chunks_exact(R::BYTES).zip(words.iter().zip(&*fractions))
            {
                let value = residual::<R>(R::load(target), word, fraction);
                unequal |= value != 0;
                let t = TOKENS.split(value.into());
                let context = self.model.contexts[rule.key(word, fraction) as usize];
                bits += f64::from(self.prices[context as usize * self.symbols + t.token as usize]);
                contexts.push(context);
                tokens.push(t.token as u8);
                raw.put(t.raw, t.raw_bits);
            }
            let start = out.len();
            if unequal {
                let lanes = lanes_for(bits);
                out.push(1 + lanes.ilog2() as u8);
                coded.clear();
                // A token has no code only if other data were analysed.
                let words = if bits < f64::from(NO_CODE) {
                    rans::encode(tokens, contexts, &self.tables, lanes, rans, coded).ok()
                } else {
                    None
                };
                if let Some(words) = words {
                    varint::put(out, words as u64);
                    out.extend_from_slice(coded);
                }
                raw.finish_into(out);
                if words.is_none() || out.len() - start > target.len() {
                    out.truncate(start);
                    out.push(VERBATIM);
                    out.extend_from_slice(target);
                }
            }
            // Empties the writer in any case.
            coded.clear();
            raw.finish_into(coded);
            cx.put(state);
        }
    }
}
