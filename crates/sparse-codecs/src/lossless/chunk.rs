//! The chunk payload: writing and reading it.
//!
//! ```text
//! (empty)                      every element equals its prediction
//! 0x00  bytes                  verbatim
//! mode  profiles  words  states  words*  raw bits
//! ```
//!
//! `mode` is `1 + log2(lanes)`, plus `0x40` if the profiles are relative to their predecessors.

use super::model::Model;
use super::profile::{Choice, NO_CODE, Prices};
use super::scan::{Predictor, Run, Scan, runs};
use super::word::{Word, magnitude, restore, with_word};
use super::{Kind, model};
use crate::entropy::rans::{self, DecodeTables, EncodeScratch, EncodeTables, LANES};
use crate::entropy::{bits, bytes, varint};
use sparse_core::{CodecContext, Error, Result, UnitSpec};

const VERBATIM: u8 = 0;
const RELATIVE: u8 = 0x40;

/// Below this many bits of tokens, the states of 32 lanes would be a noticeable part of the chunk.
const FEW_BITS: f64 = 8.0 * 8192.0;
const FEW_LANES: usize = 4;

fn lanes_for(token_bits: f64) -> usize {
    if token_bits < FEW_BITS { FEW_LANES } else { LANES }
}

/// What a chunk with so many bits of tokens takes beside tokens, raw bits and profiles: mode, number of words, states,
/// and the last words' unused part.
pub(super) fn overhead_bytes(token_bits: f64) -> f64 {
    4.0 * lanes_for(token_bits) as f64 + 4.0
}

/// Everything about a unit that encoding its chunks needs.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) unit: UnitSpec,
    pub(super) kind: Kind,
    pub(super) predictor: Predictor,
    pub(super) model: Model,
    pub(super) prices: Prices,
    pub(super) tables: EncodeTables,
}

#[derive(Default)]
struct EncodeState {
    scan: Scan,
    choice: Choice,
    tokens: Vec<u8>,
    contexts: Vec<u8>,
    symbols: Vec<u8>,
    raw: bits::BitWriter,
    rans: EncodeScratch,
}

impl Encoder {
    pub(super) fn new(unit: UnitSpec, model: Model) -> Encoder {
        Encoder {
            kind: Kind::of(&unit),
            predictor: Predictor::of(&unit),
            unit,
            prices: Prices::new(&model, &model.tokens),
            tables: EncodeTables::new(&model.tables),
            model,
        }
    }

    /// Append one chunk.
    pub(super) fn encode(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        let mut state = cx.take::<EncodeState>();
        let EncodeState { scan, choice, tokens, contexts, symbols, raw, rans } = &mut *state;
        let start = out.len();
        if !scan.scan(self.kind, self.model.key, self.predictor, target, base) {
            tokens.clear();
            for &value in &scan.values {
                let t = self.model.tokens.split(value);
                tokens.push(t.token as u8);
                raw.put(t.raw, t.raw_bits);
            }
            let bits = choice.choose(runs(&self.unit, chunk), &scan.keys, tokens, &self.prices);
            contexts.clear();
            for (run, &p) in choice.runs.iter().zip(&choice.profiles) {
                let profile = &self.model.profiles[p as usize];
                contexts
                    .extend(scan.keys[run.start..run.start + run.len].iter().map(|&k| profile[k as usize]));
            }
            let lanes = lanes_for(bits);
            out.push(1 + lanes.ilog2() as u8);
            if self.model.profiles.len() > 1 && write_profiles(&choice.profiles, symbols, out) {
                out[start] |= RELATIVE;
            }
            let coded = bits < f64::from(NO_CODE) && {
                symbols.clear();
                match rans::encode(tokens, contexts, &self.tables, lanes, rans, symbols) {
                    Ok(words) => {
                        varint::put(out, words as u64);
                        out.extend_from_slice(symbols);
                        true
                    }
                    // Seen only if the analysis was of a sample, or of other data.
                    Err(_) => false,
                }
            };
            raw.finish_into(out);
            if !coded || out.len() - start > target.len() {
                out.truncate(start);
                out.push(VERBATIM);
                out.extend_from_slice(target);
            }
        }
        cx.put(state);
        Ok(())
    }
}

/// Append packed profile numbers, plain or relative to their predecessors, whichever is shorter; returns which.
pub(super) fn write_profiles(profiles: &[u8], symbols: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    bytes::pack(profiles, out);
    let plain = out.len() - start;
    symbols.clear();
    let mut last = 0;
    // 0 for the same profile as before, else one more than the profile.
    symbols.extend(profiles.iter().map(|&p| if std::mem::replace(&mut last, p) == p { 0 } else { p + 1 }));
    bytes::pack(symbols, out);
    let relative = out.len() - start - plain < plain;
    if relative {
        out.drain(start..start + plain);
    } else {
        out.truncate(start + plain);
    }
    relative
}

/// Everything about a unit that decoding its chunks needs.
#[derive(Debug)]
pub(super) struct Decoder {
    unit: UnitSpec,
    kind: Kind,
    predictor: Predictor,
    key: model::KeyRule,
    profiles: Vec<[u8; model::KEYS]>,
    /// Raw bits and value, by token.
    expansions: Vec<(u32, u64)>,
    raw_shift: u32,
    tables: DecodeTables,
}

#[derive(Default)]
struct DecodeState {
    predictions: Vec<u8>,
    work: DecodeWork,
}

#[derive(Default)]
struct DecodeWork {
    contexts: Vec<u8>,
    tokens: Vec<u8>,
    runs: Vec<Run>,
}

impl Decoder {
    pub(super) fn new(unit: UnitSpec, model: Model) -> Decoder {
        Decoder {
            kind: Kind::of(&unit),
            predictor: Predictor::of(&unit),
            unit,
            key: model.key,
            expansions: model.tokens.expansions(),
            raw_shift: model.tokens.scheme.raw_shift(),
            tables: DecodeTables::new(&model.tables),
            profiles: model.profiles,
        }
    }

    /// Decode one chunk, whose buffers have been checked.
    pub(super) fn decode(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        let word_bytes = self.kind.bits as usize / 8;
        let mut state = cx.take::<DecodeState>();
        let DecodeState { predictions, work } = &mut *state;
        let predictions = self.predictor.predict(base, word_bytes, out.len() / word_bytes, predictions);
        let result = match encoded.split_first() {
            None => {
                out.copy_from_slice(predictions);
                Ok(())
            }
            Some((&VERBATIM, bytes)) if bytes.len() == out.len() => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            Some((&VERBATIM, bytes)) => Err(Error::corrupt(format!(
                "verbatim chunk of {} bytes instead of {}",
                bytes.len(),
                out.len()
            ))),
            Some((&mode, body)) => {
                with_word!(word_bytes, decode_coded, self, chunk, mode, body, predictions, out, work)
            }
        };
        cx.put(state);
        result
    }

    fn read_profiles(&self, input: &mut &[u8], relative: bool, count: usize) -> Result<Vec<u8>> {
        if self.profiles.len() == 1 {
            return Ok(vec![0; count]);
        }
        let mut profiles = bytes::unpack(input, count)?;
        if relative {
            let mut last = 0;
            for p in &mut profiles {
                last = if *p == 0 { last } else { *p - 1 };
                *p = last;
            }
        }
        if profiles.iter().any(|&p| p as usize >= self.profiles.len()) {
            return Err(Error::corrupt("a row names a profile that is not there"));
        }
        Ok(profiles)
    }
}

fn decode_coded<W: Word>(
    decoder: &Decoder,
    chunk: u64,
    mode: u8,
    mut input: &[u8],
    predictions: &[u8],
    out: &mut [u8],
    work: &mut DecodeWork,
) -> Result<()> {
    let log_lanes = (mode & !RELATIVE).checked_sub(1).filter(|&l| u32::from(l) <= LANES.ilog2());
    let lanes = 1usize << log_lanes.ok_or_else(|| Error::corrupt(format!("unknown chunk mode {mode}")))?;
    let DecodeWork { contexts, tokens, runs: run_list } = work;
    run_list.clear();
    run_list.extend(runs(&decoder.unit, chunk));
    let profiles = decoder.read_profiles(&mut input, mode & RELATIVE != 0, run_list.len())?;
    let most = input.len() as u64 / 2;
    let words = varint::take_max(&mut input, most, "number of words")? as usize;
    let states = varint::take_bytes(&mut input, 4 * lanes, "coder states")?;
    let words = varint::take_bytes(&mut input, 2 * words, "coder words")?;

    let float = decoder.kind.float;
    let len = out.len() / W::BYTES;
    contexts.clear();
    for (run, p) in run_list.iter().zip(profiles) {
        let profile = &decoder.profiles[p as usize];
        let range = run.start * W::BYTES..(run.start + run.len) * W::BYTES;
        contexts.extend(
            predictions[range]
                .chunks_exact(W::BYTES)
                .map(|p| profile[decoder.key.key(magnitude::<W>(W::load(p), float)) as usize % model::KEYS]),
        );
    }
    tokens.resize(len, 0);
    rans::decode(states, words, contexts, &decoder.tables, tokens)?;

    let mut raw = bits::BitReader::new(input);
    for ((o, p), &token) in
        out.chunks_exact_mut(W::BYTES).zip(predictions.chunks_exact(W::BYTES)).zip(tokens.iter())
    {
        // Tables have no more symbols than there are tokens, so the look-up cannot miss.
        let (raw_bits, value) = decoder.expansions.get(token as usize).copied().unwrap_or_default();
        let value = value.wrapping_add(raw.take(raw_bits) << decoder.raw_shift);
        W::store(restore::<W>(value & W::MASK, W::load(p), float), o);
    }
    if !raw.is_exact() {
        return Err(Error::corrupt("raw bits do not end where they should"));
    }
    Ok(())
}
