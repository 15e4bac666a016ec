//! Interleaved range asymmetric numeral systems (rANS; Duda, arXiv 1311.2540).
//!
//! Symbol `i` belongs to state `i mod lanes`. States are 32 bits wide, kept in `2^16 ..= 2^32 - 1`,
//! and refill from one shared stream of 16-bit little-endian words. One word always suffices, so a
//! decoder handles a round of `lanes` symbols without a branch: decode all, then hand the next
//! words to the states that fell below `2^16`, in ascending order. This is the layout of CRAM 3.1's
//! rANS 32x16, and what vector units like.
//!
//! All states begin (for the encoder) and so must end (for the decoder) at `2^16`, which is
//! checked.

use super::freq::{FreqTable, PROB_SCALE};
use super::symbol::{EncodeSymbol, SLOT_MASK};
pub use super::symbol::{LOW, Slot};
use super::token::MAX_TOKENS;
use crate::simd::{self, EncodeRounds, Padded, Rans, RawBits, Simd, Words};
use sparse_core::{Error, Result};

/// Least number of interleaved states that vectors are used for.
pub const LANES: usize = 32;

/// Largest number of interleaved states.
///
/// Twice [`LANES`] take half as long for each token: a vector unit then has twice as much to do
/// while it waits for the tables.
pub const MAX_LANES: usize = 64;

/// Decoding tables of several contexts, back to back: slot `s` of context `c` is at `c * PROB_SCALE
/// + s`.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::freq::{FreqTable, PROB_SCALE};
/// use sparse_codecs::entropy::rans::DecodeTables;
///
/// let often_zero = FreqTable::from_counts(&[7, 1]);
/// let often_one = FreqTable::from_counts(&[1, 7]);
/// let tables = DecodeTables::new(&[often_zero, often_one]);
/// assert_eq!(tables.contexts(), 2);
/// assert_eq!(tables.slots()[PROB_SCALE as usize].symbol(), 0);
/// assert_eq!(tables.slots().last().map(|slot| slot.symbol()), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct DecodeTables {
    slots: Vec<Slot>,
}

impl DecodeTables {
    /// Returns the memory of the tables, in bytes.
    #[cfg(any(feature = "lossless", feature = "low-rank"))]
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Expands frequency tables.
    pub fn new(tables: &[FreqTable]) -> Self {
        let mut slots = Vec::with_capacity(tables.len() * PROB_SCALE as usize);
        for table in tables {
            for (symbol, &f) in table.freqs().iter().enumerate() {
                slots.extend((0..u32::from(f)).map(|offset| Slot::new(symbol, f.into(), offset)));
            }
        }
        DecodeTables { slots }
    }

    /// Returns the number of contexts.
    pub fn contexts(&self) -> usize {
        self.slots.len() / PROB_SCALE as usize
    }

    /// Returns all slots.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

/// Encoding tables of several contexts.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::freq::FreqTable;
/// use sparse_codecs::entropy::rans::{self, DecodeTables, EncodeScratch, EncodeTables, LANES};
///
/// let tokens: Vec<u8> = (0..1000).map(|i| u8::from(i % 10 == 0)).collect();
/// let contexts = vec![0; tokens.len()];
/// let tables = [FreqTable::from_counts(&[900, 100])];
///
/// let mut out = Vec::new();
/// let (encode, mut scratch) = (EncodeTables::new(&tables), EncodeScratch::default());
/// rans::encode(&tokens, &contexts, &encode, LANES, &mut scratch, &mut out)?;
///
/// let (states, words) = out.split_at(4 * LANES);
/// let mut decoded = vec![0; tokens.len()];
/// rans::decode(states, words, &contexts, &DecodeTables::new(&tables), &mut decoded)?;
/// assert_eq!(decoded, tokens);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EncodeTables {
    simd: Simd,
    symbols: Vec<[EncodeSymbol; MAX_TOKENS]>,
}

impl EncodeTables {
    /// Expands frequency tables.
    pub fn new(tables: &[FreqTable]) -> Self {
        Self::on(Simd::from_env(), tables)
    }

    /// Expands frequency tables, for encoding on the given level.
    pub fn on(simd: Simd, tables: &[FreqTable]) -> Self {
        let mut symbols = vec![[EncodeSymbol::default(); MAX_TOKENS]; tables.len()];
        for (symbols, table) in symbols.iter_mut().zip(tables) {
            let mut cum = 0;
            for (s, &f) in symbols.iter_mut().zip(table.freqs()).filter(|s| *s.1 > 0) {
                *s = EncodeSymbol::new(f.into(), cum);
                cum += u32::from(f);
            }
        }
        EncodeTables { simd, symbols }
    }

    #[cfg(test)]
    pub(crate) fn symbols(&self) -> &[[EncodeSymbol; MAX_TOKENS]] {
        &self.symbols
    }
}

/// Scratch memory of [`encode`].
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::freq::FreqTable;
/// use sparse_codecs::entropy::rans::{EncodeScratch, EncodeTables, encode};
///
/// let tables = EncodeTables::new(&[FreqTable::from_counts(&[1, 1])]);
/// // One for all streams of a thread: what was coded before does not matter.
/// let (mut scratch, mut first, mut second) = (EncodeScratch::default(), vec![], vec![]);
/// encode(&[0, 1, 1], &[0; 3], &tables, 1, &mut scratch, &mut first)?;
/// encode(&[0, 1, 1], &[0; 3], &tables, 1, &mut scratch, &mut second)?;
/// assert_eq!(first, second);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct EncodeScratch {
    words: Vec<u16>,
}

/// Appends `tokens`, coded with the tables of `contexts`, to `out`.
///
/// There is one context per token. `out` gets `lanes` final states, four bytes each, then the words
/// in the order in which a decoder takes them. Returns the number of words.
///
/// # Errors
/// `InvalidArgument` when a token has no code in its context, the two lengths differ, or there are
/// no lanes.
pub fn encode(
    tokens: &[u8],
    contexts: &[u8],
    tables: &EncodeTables,
    lanes: usize,
    scratch: &mut EncodeScratch,
    out: &mut Vec<u8>,
) -> Result<usize> {
    if tokens.len() != contexts.len() || lanes == 0 || lanes > MAX_LANES {
        return Err(Error::invalid_argument(
            "there are not as many tokens as contexts, or the number of lanes is not supported",
        ));
    }
    let count = tables.symbols.len();
    // The maximum, and not a search for one that is too large, so that it is vectorised.
    if !contexts.is_empty() && contexts.iter().copied().fold(0, u8::max) as usize >= count {
        return Err(Error::invalid_argument("a context is out of range"));
    }
    // A decoder reads last what is written first, so words are written from the end of a buffer to
    // its front. A token takes at most one word.
    let words = &mut scratch.words;
    words.resize(words.len().max(tokens.len() + MAX_LANES), 0);
    let first = words.len();
    let mut job = EncodeRounds {
        states: [LOW; MAX_LANES],
        lanes,
        tables: &tables.symbols,
        words,
        first,
        missing: false,
    };
    let vectors = lanes >= LANES && lanes.is_power_of_two();
    let whole = if vectors { tokens.len() - tokens.len() % lanes } else { 0 };
    for (tokens, contexts) in
        tokens[whole..].chunks(lanes).zip(contexts[whole..].chunks(lanes)).rev()
    {
        for (state, (&token, &context)) in
            job.states.iter_mut().zip(tokens.iter().zip(contexts)).rev()
        {
            let symbol = tables.symbols[context as usize][token as usize];
            job.missing |= symbol.is_missing();
            job.words[job.first - 1] = *state as u16;
            job.first -= usize::from(symbol.step(state));
        }
    }
    simd::encode_rounds(tables.simd, &mut job, &contexts[..whole], &tokens[..whole]);
    if job.missing {
        return Err(Error::invalid_argument("the data have symbols that the analysis did not see"));
    }
    for state in &job.states[..lanes] {
        out.extend_from_slice(&state.to_le_bytes());
    }
    let words = &job.words[job.first..];
    let start = out.len();
    out.resize(start + 2 * words.len(), 0);
    out[start..].as_chunks_mut().0.iter_mut().zip(words).for_each(|(o, w)| *o = w.to_le_bytes());
    Ok(words.len())
}

/// Decoder of a stream of tokens, some at a time.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::freq::FreqTable;
/// use sparse_codecs::entropy::rans::{DecodeTables, Decoder, EncodeScratch, EncodeTables, encode};
/// use sparse_codecs::simd::{Padded, Simd};
///
/// let freqs = [FreqTable::from_counts(&[7, 1])];
/// let (mut coded, mut words, mut tokens) = (Vec::new(), Padded::new(), [9; 5]);
/// let mut scratch = EncodeScratch::default();
/// encode(&[0, 0, 1, 0, 0], &[0; 5], &EncodeTables::new(&freqs), 1, &mut scratch, &mut coded)?;
/// words.fill(&coded[4..]);
/// let tables = DecodeTables::new(&freqs);
/// let mut decoder = Decoder::new(Simd::from_env(), &coded[..4], &words, &tables)?;
/// decoder.decode(&[0; 5], &mut tokens)?;
/// decoder.finish()?;
/// assert_eq!(tokens, [0, 0, 1, 0, 0]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Decoder<'a> {
    simd: Simd,
    rans: Rans<'a>,
    contexts: usize,
}

impl<'a> Decoder<'a> {
    /// Begins with `states` (four bytes a lane) and `words`.
    ///
    /// Both are as [`encode`] wrote them.
    ///
    /// # Errors
    /// `InvalidArgument` when there are no tables, or no or too many states.
    pub fn new(
        simd: Simd,
        states: &[u8],
        words: &'a Padded,
        tables: &'a DecodeTables,
    ) -> Result<Decoder<'a>> {
        let (states, odd) = states.as_chunks::<4>();
        if states.is_empty()
            || states.len() > MAX_LANES
            || !odd.is_empty()
            || tables.contexts() == 0
        {
            return Err(Error::invalid_argument("the number of states or tables is not supported"));
        }
        let mut x = [LOW; MAX_LANES];
        x.iter_mut().zip(states).for_each(|(x, bytes)| *x = u32::from_le_bytes(*bytes));
        let words = Words { bytes: words, next: 0 };
        let rans = Rans { states: x, lanes: states.len(), words, slots: tables.slots() };
        Ok(Decoder { simd, rans, contexts: tables.contexts() })
    }

    /// Returns the number of tokens in whole rounds that vectors can decode.
    fn whole_rounds(&self, tokens: usize) -> usize {
        let lanes = self.rans.lanes;
        if lanes >= LANES && lanes.is_power_of_two() { tokens - tokens % lanes } else { 0 }
    }

    /// Decodes as many tokens as there are `contexts` into `tokens`.
    ///
    /// All calls but the last must ask for whole rounds, a multiple of the number of lanes. Past
    /// the end of the words come zeros, and a context out of range is taken for the last one:
    /// [`finish`](Self::finish) tells whether all was well with the words.
    ///
    /// # Errors
    /// `InvalidArgument` when the two lengths differ.
    pub fn decode(&mut self, contexts: &[u8], tokens: &mut [u8]) -> Result<()> {
        if tokens.len() != contexts.len() {
            return Err(Error::invalid_argument("there are not as many tokens as contexts"));
        }
        let whole = self.whole_rounds(tokens.len());
        let (whole_tokens, tokens) = tokens.split_at_mut(whole);
        simd::rans_rounds(self.simd, &mut self.rans, &contexts[..whole], whole_tokens);
        let contexts = &contexts[whole..];
        // Few states stay in registers.
        match self.rans.lanes {
            1 => simd::rounds_by::<1>(&mut self.rans, contexts, tokens),
            2 => simd::rounds_by::<2>(&mut self.rans, contexts, tokens),
            4 => simd::rounds_by::<4>(&mut self.rans, contexts, tokens),
            8 => simd::rounds_by::<8>(&mut self.rans, contexts, tokens),
            _ => {
                self.decode_rest(contexts, tokens);
                return Ok(());
            }
        }
        let whole = contexts.len() - contexts.len() % self.rans.lanes;
        self.decode_rest(&contexts[whole..], &mut tokens[whole..]);
        Ok(())
    }

    fn decode_rest(&mut self, contexts: &[u8], tokens: &mut [u8]) {
        let lanes = self.rans.lanes;
        let Rans { states, words, slots, .. } = &mut self.rans;
        for (tokens, contexts) in tokens.chunks_mut(lanes).zip(contexts.chunks(lanes)) {
            for (x, (token, &context)) in states.iter_mut().zip(tokens.iter_mut().zip(contexts)) {
                let table = (context as usize).min(self.contexts - 1) * PROB_SCALE as usize;
                *token = simd::rans_step(x, words, slots[table + (*x & SLOT_MASK) as usize]);
            }
        }
    }

    /// Decodes tokens and restores 16-bit words from them.
    ///
    /// As [`simd::decode16`] does. All slices are of the same length; all calls but the last must
    /// ask for a multiple of the number of lanes.
    #[cfg_attr(not(feature = "lossless"), allow(dead_code))]
    pub(crate) fn restore16(
        &mut self,
        contexts: &[u8],
        float: bool,
        expansion: &simd::Expansion16,
        predictions: &[[u8; 2]],
        raw: &mut RawBits<'_>,
        out: &mut [[u8; 2]],
    ) -> Result<()> {
        let whole = self.whole_rounds(contexts.len());
        let (whole_out, o) = out.split_at_mut(whole);
        let (whole_contexts, c) = contexts.split_at(whole);
        let (whole_predictions, p) = predictions.split_at(whole);
        simd::decode16(
            self.simd,
            &mut self.rans,
            whole_contexts,
            float,
            expansion,
            whole_predictions,
            raw,
            whole_out,
        );
        let mut tokens = [0; 256];
        for ((c, p), o) in
            c.chunks(tokens.len()).zip(p.chunks(tokens.len())).zip(o.chunks_mut(tokens.len()))
        {
            let tokens = &mut tokens[..c.len()];
            self.decode(c, tokens)?;
            simd::restore16(self.simd, float, expansion, tokens, p, raw, o);
        }
        Ok(())
    }

    /// Checks that the tokens took exactly the words that there are.
    ///
    /// To be called when all tokens are decoded.
    ///
    /// # Errors
    /// `Truncated` when words were missing, `Corrupt` when some are left over or a state does not
    /// end as it began.
    pub fn finish(self) -> Result<()> {
        let words = self.rans.words.bytes.len();
        if 2 * self.rans.words.next > words {
            return Err(Error::truncated("entropy-coded words end too early"));
        }
        if 2 * self.rans.words.next < words
            || self.rans.states[..self.rans.lanes].iter().any(|&x| x != LOW)
        {
            return Err(Error::corrupt("entropy-coded data do not end where they should"));
        }
        Ok(())
    }
}

/// Decodes as many tokens as there are `contexts` into `tokens`.
///
/// `states` and `words` are as [`encode`] wrote them.
///
/// # Errors
/// As [`Decoder`], and `InvalidArgument` when a context is out of range.
pub fn decode(
    states: &[u8],
    words: &[u8],
    contexts: &[u8],
    tables: &DecodeTables,
    tokens: &mut [u8],
) -> Result<()> {
    let count = tables.contexts();
    if contexts.iter().any(|&c| c as usize >= count) {
        return Err(Error::invalid_argument("a context is out of range"));
    }
    let mut padded = Padded::new();
    padded.fill(words);
    let mut decoder = Decoder::new(Simd::from_env(), states, &padded, tables)?;
    decoder.decode(contexts, tokens)?;
    decoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::freq::{PROB_BITS, entropy_bits};
    use proptest::prelude::*;

    fn round_trip(tokens: &[u8], contexts: &[u8], lanes: usize) -> usize {
        let count = contexts.iter().max().map_or(1, |&c| c as usize + 1);
        let mut counts = vec![vec![0u64; 256]; count];
        for (&t, &c) in tokens.iter().zip(contexts) {
            counts[c as usize][t as usize] += 1;
        }
        let tables: Vec<_> = counts.iter().map(|c| FreqTable::from_counts(c)).collect();
        let mut out = Vec::new();
        let words = encode(
            tokens,
            contexts,
            &EncodeTables::new(&tables),
            lanes,
            &mut EncodeScratch::default(),
            &mut out,
        )
        .unwrap();
        assert_eq!(out.len(), 4 * lanes + 2 * words);
        let decode_tables = DecodeTables::new(&tables);
        let mut back = vec![0xAA; tokens.len()];
        let (states, words) = out.split_at(4 * lanes);
        decode(states, words, contexts, &decode_tables, &mut back).unwrap();
        assert_eq!(back, tokens);
        if !words.is_empty() {
            assert!(
                decode(states, &words[..words.len() - 2], contexts, &decode_tables, &mut back)
                    .is_err()
            );
        }
        out.len()
    }

    proptest! {
        #[test]
        fn any_tokens(
            pairs in prop::collection::vec((0u8..=255, 0u8..5), 0..500),
            lanes in prop::sample::select(vec![1usize, 3, 4, 32, 40, 64]),
        ) {
            let (tokens, contexts): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            round_trip(&tokens, &contexts, lanes);
        }

        #[test]
        fn garbage_is_an_error_or_tokens(bytes: Vec<u8>, len in 0usize..200) {
            let tables = DecodeTables::new(&[FreqTable::from_counts(&[5, 3, 1])]);
            let (states, words) = bytes.split_at(bytes.len().min(128));
            let mut out = vec![0; len];
            let _ = decode(states, words, &vec![0; len], &tables, &mut out);
        }
    }

    #[test]
    fn division_is_exact() {
        for freq in 1..=PROB_SCALE {
            let symbol = EncodeSymbol::new(freq, 0);
            let complement = PROB_SCALE - freq;
            // Around multiples, where an inexact quotient would show; the largest state comes last.
            let most = 1u32 << (32 - PROB_BITS);
            for k in (0..most).step_by(4093).chain([1, 2, most - 1]) {
                for x in [k * freq, k * freq + freq / 2, k * freq + (freq - 1)] {
                    let mut state = x;
                    assert!(!symbol.step(&mut state));
                    assert_eq!(
                        state,
                        x.wrapping_add((x / freq).wrapping_mul(complement)),
                        "{x} / {freq}"
                    );
                }
            }
        }
    }

    #[test]
    fn near_the_entropy() {
        // A linear congruential walk, skewed: about 1.3 bits a token.
        let mut seed = 1u32;
        let tokens: Vec<u8> = (0..200_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 16).trailing_zeros().min(7) as u8 / 2
            })
            .collect();
        let mut counts = [0u64; 256];
        tokens.iter().for_each(|&t| counts[t as usize] += 1);
        let floor = entropy_bits(&counts) / 8.0;
        let size = round_trip(&tokens, &vec![0; tokens.len()], 32) as f64;
        assert!(size < floor * 1.002 + 128.0, "{size} against {floor}");
    }

    #[test]
    fn certain_tokens_cost_nothing() {
        assert_eq!(round_trip(&[9; 10_000], &[0; 10_000], 32), 128);
    }
}
