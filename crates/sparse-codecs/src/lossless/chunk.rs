//! The chunk payload: writing and reading it.
//!
//! ```text
//! (empty)                      every element equals its prediction
//! 0x00  bytes                  verbatim
//! mode  profiles  words  states  words*  raw bits
//! ```
//!
//! `mode` is `1 + log2(lanes)`, plus `0x40` if the profiles are relative to their predecessors,
//! plus `0x20` if the words and the raw bits are of [positions](super::positions), plus `0x10` if
//! the raw bits are [planes](super::planes).

use super::model::{Kind, Model, Tokens};
use super::planes;
use super::positions::{Located, PositionEncoder, PositionScratch, fill_classes};
use super::profile::{Choice, NO_CODE, Prices};
use super::scan::{Predictor, Scan, Scanner, runs};
use crate::entropy::rans::{self, EncodeScratch, EncodeTables, LANES, MAX_LANES};
use crate::entropy::token::MAX_TOKENS;
use crate::entropy::{bits, bytes, varint};
use crate::simd::{self, Simd};
use sparse_core::{ChunkEncoder, CodecContext, Result, UnitSpec, check_chunk};

pub(super) const VERBATIM: u8 = 0;
pub(super) const RELATIVE: u8 = 0x40;
pub(super) const POSITIONS: u8 = 0x20;
pub(super) const PLANES: u8 = 0x10;

/// A chunk is tried as positions if at most one element in this many changed; with more changes,
/// decoding is faster with a token for each element.
const SPARSE: usize = 16;

/// Largest size of a chunk of positions relative to one of tokens, for it decodes faster.
pub(super) const POSITIONS_SLACK: f64 = 1.03;

/// Returns true if a chunk is tried as positions.
///
/// Positions are those of tokens that are not zero, so these must be few, and every change must
/// have one.
pub(super) fn is_sparse(scan: &Scan, tokens: &Tokens) -> bool {
    changed(&scan.tokens) <= scan.tokens.len() / SPARSE && !scan.hides_changes(tokens)
}

/// Counts the tokens that are not zero.
pub(super) fn changed(tokens: &[u8]) -> usize {
    // In pieces, so that a byte holds each lane's count.
    tokens.chunks(128).map(|c| usize::from(c.iter().map(|&t| u8::from(t != 0)).sum::<u8>())).sum()
}

/// Below this many bits of tokens, the states of 32 lanes would be a noticeable part of the chunk.
const FEW_BITS: f64 = 8.0 * 8192.0;
const FEW_LANES: usize = 4;

/// Least size of a chunk with 64 lanes, in bits: their states add at most 0.5 % over those of 32
/// lanes, which take a third longer.
const MANY_BITS: f64 = 8.0 * 24576.0;

fn lanes_for(token_bits: f64) -> usize {
    match token_bits {
        ..FEW_BITS => FEW_LANES,
        ..MANY_BITS => LANES,
        _ => MAX_LANES,
    }
}

/// Returns the number of lanes for this number of changes.
fn lanes_of_positions(changed: usize) -> usize {
    match changed {
        ..64 => 1,
        64..512 => 2,
        512..2048 => 4,
        2048..16384 => 8,
        _ => LANES,
    }
}

/// Estimates the overhead of a chunk coded as positions, in bytes.
///
/// That is all but words, raw bits and profiles.
pub(super) fn positions_overhead_bytes(changed: usize) -> f64 {
    4.0 * lanes_of_positions(changed) as f64 + 3.0
}

/// Estimates the overhead of a chunk whose tokens take `bits`, in bytes.
///
/// That is all but tokens, raw bits and profiles: mode, number of words, states, and the last
/// words' unused part.
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
    positions: Option<(PositionEncoder, Prices)>,
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
    located: Located,
    positions: PositionScratch,
}

impl Encoder {
    /// Creates the encoder of a unit.
    ///
    /// `positions` are the prices of positions, if the model has them. To choose a run's profile in
    /// other chunks, the first of `part` parts of it is priced.
    pub(super) fn new(
        simd: Simd,
        unit: UnitSpec,
        model: Model,
        positions: Option<Prices>,
        part: usize,
    ) -> Encoder {
        Encoder {
            scanner: Scanner {
                simd,
                kind: Kind::of(&unit),
                key: model.key,
                predictor: Predictor::of(&unit),
                tokens: model.tokens.clone(),
            },
            unit,
            prices: Prices::new(simd, &model, &model.tokens).sampled(part),
            tables: EncodeTables::on(simd, &model.tables),
            positions: model
                .positions
                .as_ref()
                .map(|p| PositionEncoder::new(simd, &model, p))
                .zip(positions),
            raw_counts: model.tokens.raw_counts(),
            model,
        }
    }

    /// Appends one chunk.
    pub(super) fn encode(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        let mut state = cx.take::<EncodeState>();
        let start = out.len();
        let unchanged = self.scanner.scan(target, base, &mut state.scan);
        if !unchanged && !self.encode_positions(chunk, &mut state, out) {
            let EncodeState { scan, choice, contexts, symbols, raw, rans, .. } = &mut *state;
            let bits =
                choice.choose(runs(&self.unit, chunk), &scan.keys, &scan.tokens, &self.prices);
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
                let raw_start = out.len();
                raw.finish_into(out);
                let planes = planes::count(&self.model.tokens);
                if planes.is_some_and(|n| planes::write(self.scanner.simd, n, out, raw_start)) {
                    out[start] |= PLANES;
                }
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

    /// Appends the chunk as positions, if it is sparse enough.
    ///
    /// Returns true if it was.
    fn encode_positions(&self, chunk: u64, state: &mut EncodeState, out: &mut Vec<u8>) -> bool {
        let EncodeState { scan, choice, contexts: classes, symbols, .. } = state;
        let EncodeState { raw, rans, located, positions, .. } = state;
        let Some((encoder, prices)) = &self.positions else { return false };
        if !is_sparse(scan, &self.model.tokens) {
            return false;
        }
        let changed = changed(&scan.tokens);
        let simd = self.scanner.simd;
        choice.choose(runs(&self.unit, chunk), &scan.keys, &scan.tokens, prices);
        fill_classes(
            &encoder.class_maps,
            &choice.runs,
            &choice.profiles,
            classes,
            |map, range, out| {
                simd::look_up(simd, map, &scan.keys[range], out);
            },
        );
        located.locate(simd, classes, &scan.tokens, encoder.count());
        let start = out.len();
        let lanes = lanes_of_positions(changed);
        out.push(POSITIONS | (1 + lanes.ilog2() as u8));
        if self.model.profiles.len() > 1 && write_profiles(&choice.profiles, symbols, out) {
            out[start] |= RELATIVE;
        }
        let word_bytes = self.scanner.kind.bits as usize / 8;
        let raw_of = |i: usize| {
            let mut word = [0; 8];
            word[..word_bytes].copy_from_slice(&scan.values[i * word_bytes..(i + 1) * word_bytes]);
            let t = self.model.tokens.split(u64::from_le_bytes(word));
            (t.raw, t.raw_bits)
        };
        let coded =
            encoder.encode(located, &scan.tokens, &raw_of, lanes, raw, positions, rans, out);
        raw.finish_into(out);
        // A change has no code only if other data were analysed.
        if !coded || out.len() - start > scan.values.len() {
            out.truncate(start);
            return false;
        }
        true
    }

    fn put_raw(&self, scan: &Scan, writer: &mut bits::BitWriter) {
        let Scan { tokens, values, .. } = scan;
        let (simd, shift) = (self.scanner.simd, self.model.tokens.scheme.raw_shift());
        match self.scanner.kind.bits {
            16 => {
                simd::put_raw16(simd, writer, &self.raw_counts, shift, tokens, values.as_chunks().0)
            }
            32 => {
                simd::put_raw32(simd, writer, &self.raw_counts, shift, tokens, values.as_chunks().0)
            }
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

/// Appends packed profile numbers, plain or relative to their predecessors.
///
/// Whichever is shorter; returns which.
pub(super) fn write_profiles(profiles: &[u8], symbols: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    bytes::pack(profiles, out);
    let plain = out.len() - start;
    symbols.clear();
    let mut last = 0;
    // 0 for the same profile as before, else one more than the profile.
    symbols.extend(
        profiles.iter().map(|&p| if std::mem::replace(&mut last, p) == p { 0 } else { p + 1 }),
    );
    bytes::pack(symbols, out);
    let relative = out.len() - start - plain < plain;
    if relative {
        out.drain(start..start + plain);
    } else {
        out.truncate(start + plain);
    }
    relative
}

/// An encoder of one unit's chunks, with its parameter block.
pub(super) struct BoundEncoder {
    encoder: Encoder,
    params: Vec<u8>,
}

impl BoundEncoder {
    pub(super) fn new(encoder: Encoder) -> Self {
        let mut params = Vec::new();
        encoder.model.write(&mut params);
        BoundEncoder { encoder, params }
    }
}

impl ChunkEncoder for BoundEncoder {
    fn params(&self) -> &[u8] {
        &self.params
    }

    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.encoder.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        self.encoder.encode(chunk, target, base, out, cx)
    }
}
