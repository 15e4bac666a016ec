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
use super::scan::{Predictor, Scan, Scanner, runs};
use crate::entropy::rans::{self, EncodeScratch, EncodeTables, LANES, MAX_LANES};
use crate::entropy::token::MAX_TOKENS;
use crate::entropy::{bits, bytes, varint};
use crate::simd::{self, Simd};
use sparse_core::{CodecContext, Result, UnitSpec};

pub(super) const VERBATIM: u8 = 0;
pub(super) const RELATIVE: u8 = 0x40;

/// Below this many bits of tokens, the states of 32 lanes would be a noticeable part of the chunk.
const FEW_BITS: f64 = 8.0 * 8192.0;
const FEW_LANES: usize = 4;

/// From so many bits on, the states of 64 lanes are no more than 0.25 % of the chunk above those of 32.
const MANY_BITS: f64 = 8.0 * 49152.0;

fn lanes_for(token_bits: f64) -> usize {
    match token_bits {
        ..FEW_BITS => FEW_LANES,
        ..MANY_BITS => LANES,
        _ => MAX_LANES,
    }
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
    pub(super) model: Model,
    scanner: Scanner,
    prices: Prices,
    tables: EncodeTables,
    /// Raw bits by token.
    raw_counts: Box<[u8; MAX_TOKENS]>,
}

#[derive(Default)]
struct EncodeState {
    scan: Scan,
    choice: Choice,
    contexts: Vec<u8>,
    symbols: Vec<u8>,
    raw: bits::BitWriter,
    rans: EncodeScratch,
}

impl Encoder {
    pub(super) fn new(simd: Simd, unit: UnitSpec, model: Model) -> Encoder {
        Encoder {
            scanner: Scanner {
                simd,
                kind: Kind::of(&unit),
                key: model.key,
                predictor: Predictor::of(&unit),
                tokens: model.tokens.clone(),
            },
            unit,
            prices: Prices::new(simd, &model, &model.tokens),
            tables: EncodeTables::on(simd, &model.tables),
            raw_counts: model.tokens.raw_counts(),
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
        let EncodeState { scan, choice, contexts, symbols, raw, rans } = &mut *state;
        let start = out.len();
        if !self.scanner.scan(target, base, scan) {
            let bits = choice.choose(runs(&self.unit, chunk), &scan.keys, &scan.tokens, &self.prices);
            contexts.resize(scan.keys.len(), 0);
            for (run, &p) in choice.runs.iter().zip(&choice.profiles) {
                let range = run.start..run.start + run.len;
                let (keys, contexts) = (&scan.keys[range.clone()], &mut contexts[range]);
                simd::look_up(self.scanner.simd, &self.model.profiles[p as usize], keys, contexts);
            }
            let lanes = lanes_for(bits);
            out.push(1 + lanes.ilog2() as u8);
            if self.model.profiles.len() > 1 && write_profiles(&choice.profiles, symbols, out) {
                out[start] |= RELATIVE;
            }
            let coded = bits < f64::from(NO_CODE) && {
                symbols.clear();
                match rans::encode(&scan.tokens, contexts, &self.tables, lanes, rans, symbols) {
                    Ok(words) => {
                        varint::put(out, words as u64);
                        out.extend_from_slice(symbols);
                        true
                    }
                    // Seen only if the analysis was of a sample, or of other data.
                    Err(_) => false,
                }
            };
            if coded {
                self.put_raw(scan, raw);
                raw.finish_into(out);
            }
            if !coded || out.len() - start > target.len() {
                out.truncate(start);
                out.push(VERBATIM);
                out.extend_from_slice(target);
            }
        }
        cx.put(state);
        Ok(())
    }

    fn put_raw(&self, scan: &Scan, writer: &mut bits::BitWriter) {
        let Scan { tokens, values, .. } = scan;
        let (simd, shift) = (self.scanner.simd, self.model.tokens.scheme.raw_shift());
        match self.scanner.kind.bits {
            16 => simd::put_raw16(simd, writer, &self.raw_counts, shift, tokens, values.as_chunks().0),
            32 => simd::put_raw32(simd, writer, &self.raw_counts, shift, tokens, values.as_chunks().0),
            // A byte is a token.
            8 => {}
            _ => {
                for value in values.as_chunks().0 {
                    let t = self.model.tokens.split(u64::from_le_bytes(*value));
                    writer.put(t.raw, t.raw_bits);
                }
            }
        }
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
