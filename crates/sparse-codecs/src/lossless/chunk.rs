//! The chunk payload: writing and reading it.
//!
//! ```text
//! (empty)                      every element equals its prediction
//! 0x00  bytes                  verbatim
//! mode  profiles  words  states  words*  raw bits
//! ```
//!
//! `mode` is `1 + log2(lanes)`, plus `0x40` if the profiles are relative to their predecessors.

use super::model::{Kind, Model};
use super::profile::{Choice, NO_CODE, Prices};
use super::scan::{Predictor, Scan, runs};
use crate::entropy::rans::{self, EncodeScratch, EncodeTables, LANES};
use crate::entropy::{bits, bytes, varint};
use sparse_core::{CodecContext, Result, UnitSpec};

pub(super) const VERBATIM: u8 = 0;
pub(super) const RELATIVE: u8 = 0x40;

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
