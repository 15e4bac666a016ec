//! The chunk payload of a quantised unit.
//!
//! ```text
//! (empty)                         every weight equals its prediction
//! 0x00  length  lossless  words   codes as differences, coded by the lossless codec; stored words
//! bits  codes  words              codes of `bits` bits each, two's complement; stored words
//! ```

use super::block::BLOCK;
use super::kernel::{move_block, multiply_block};
use super::quantise::Quantiser;
use super::rule::{Groups, Rule, Step, apply_ulps, stored_ulps, ulps, zigzag};
use crate::entropy::{bits::BitReader, bits::BitWriter, varint};
use crate::lossless::Predictor;
use crate::real::{Real, with_real};
use crate::word::{Word, restore};
use sparse_core::{ChunkDecoder, ChunkEncoder, CodecContext, Error, Result, RowRun, UnitSpec};

/// First byte of a chunk whose codes the lossless codec has coded.
const CODED: u8 = 0;

/// Scratch memory of a worker.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) predictions: Vec<u8>,
    /// Input of the lossless codec: words that differ from the prediction by the code.
    pub(super) surrogate: Vec<u8>,
    pub(super) stored: Vec<u8>,
    inner: Vec<u8>,
    writer: BitWriter,
}

/// Encodes chunks.
pub(super) struct Encoder {
    pub(super) quantiser: Quantiser,
    pub(super) predictor: Predictor,
    pub(super) inner: Box<dyn ChunkEncoder>,
    pub(super) params: Vec<u8>,
}

/// Writes words that differ from their predictions by the codes.
///
/// Returns the widest code in bits. Stored words are appended to `stored`, and counted by segment.
pub(super) fn surrogates<R: Real>(
    quantiser: &Quantiser,
    chunk: u64,
    target: &[u8],
    predictions: &[u8],
    surrogate: &mut Vec<u8>,
    stored: &mut Vec<u8>,
    mut count: impl FnMut(usize, usize),
) -> u32 {
    let width = R::W::BYTES;
    surrogate.clear();
    surrogate.resize(target.len(), 0);
    stored.clear();
    let mut widest = 0u64;
    for (segment, range, rules) in quantiser.runs::<R>(chunk) {
        let (target, predictions) = (&target[range.clone()], &predictions[range.clone()]);
        let out = &mut surrogate[range];
        let (bits, any) = rules.surrogates::<R>(target, predictions, out);
        widest |= bits;
        if any {
            let (before, code) = (stored.len(), rules.stored_code::<R>());
            let words = target
                .chunks_exact(width)
                .zip(out.chunks_exact(width).zip(predictions.chunks_exact(width)));
            for (t, (o, p)) in words {
                if ulps::<R>(R::W::load(o), R::W::load(p)) == code {
                    stored.extend_from_slice(t);
                }
            }
            count(segment, (stored.len() - before) / width);
        }
    }
    64 - widest.leading_zeros()
}

impl Encoder {
    pub(super) fn encode(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        let width = self.quantiser.unit.dtype().storage_bytes();
        let mut scratch = cx.take::<Scratch>();
        let Scratch { predictions, surrogate, stored, inner, writer } = &mut *scratch;
        let predictions = self.predictor.predict(base, width, target.len() / width, predictions);
        let dtype = self.quantiser.unit.dtype();
        let bits = with_real!(
            dtype,
            surrogates,
            &self.quantiser,
            chunk,
            target,
            predictions,
            surrogate,
            stored,
            |_, _| {}
        );
        inner.clear();
        self.inner.encode_chunk(chunk, surrogate, Some(predictions), inner, cx)?;
        let packed = (surrogate.len() / width * bits as usize).div_ceil(8);
        if inner.is_empty() {
            // Stored words have codes, so there are none.
        } else if inner.len() <= packed || !(1..=16).contains(&bits) {
            out.push(CODED);
            varint::put(out, inner.len() as u64);
            out.extend_from_slice(inner);
            out.extend_from_slice(stored);
        } else {
            out.push(bits as u8);
            with_real!(dtype, pack_codes, surrogate, predictions, bits, writer);
            writer.finish_into(out);
            out.extend_from_slice(stored);
        }
        cx.put(scratch);
        Ok(())
    }
}

fn pack_codes<R: Real>(surrogate: &[u8], predictions: &[u8], bits: u32, writer: &mut BitWriter) {
    let mask = u64::MAX >> (64 - bits);
    for (s, p) in surrogate.chunks_exact(R::W::BYTES).zip(predictions.chunks_exact(R::W::BYTES)) {
        writer.put(ulps::<R>(R::W::load(s), R::W::load(p)) as u64 & mask, bits);
    }
}

/// Decodes chunks.
pub(super) struct Decoder {
    pub(super) unit: UnitSpec,
    pub(super) rule: Rule,
    pub(super) groups: Groups,
    pub(super) predictor: Predictor,
    pub(super) inner: Box<dyn ChunkDecoder>,
}

impl Decoder {
    pub(super) fn decode(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        let width = self.unit.dtype().storage_bytes();
        let mut scratch = cx.take::<Scratch>();
        let predictions =
            self.predictor.predict(base, width, out.len() / width, &mut scratch.predictions);
        let result =
            with_real!(self.unit.dtype(), decode_words, self, chunk, encoded, predictions, out, cx);
        cx.put(scratch);
        result
    }
}

fn decode_words<R: Real>(
    decoder: &Decoder,
    chunk: u64,
    mut input: &[u8],
    predictions: &[u8],
    out: &mut [u8],
    cx: &mut CodecContext,
) -> Result<()> {
    let Some((&mode, rest)) = input.split_first() else {
        out.copy_from_slice(predictions);
        return Ok(());
    };
    input = rest;
    let width = R::W::BYTES;
    if mode == CODED {
        let most = input.len() as u64;
        let len = varint::take_max(&mut input, most, "length of codes")? as usize;
        let codes = varint::take_bytes(&mut input, len, "codes")?;
        decoder.inner.decode_chunk(chunk, codes, Some(predictions), out, cx)?;
    } else if mode <= 16 {
        let bits = u32::from(mode);
        let len = (out.len() / width * bits as usize).div_ceil(8);
        let mut reader = BitReader::new(varint::take_bytes(&mut input, len, "codes")?);
        let unused = 64 - bits;
        for (o, p) in out.chunks_exact_mut(width).zip(predictions.chunks_exact(width)) {
            let code = (reader.take(bits) << unused) as i64 >> unused;
            R::W::store(restore::<R::W>(zigzag::<R>(code), R::W::load(p), true), o);
        }
        if !reader.is_exact() {
            return Err(Error::corrupt("codes do not end where they should"));
        }
    } else {
        return Err(Error::corrupt(format!("unknown chunk mode {mode}")));
    }
    let mut stored = input.chunks_exact(width);
    let mut missing = false;
    let mut next = |p: u64| match stored.next() {
        Some(word) => R::W::load(word),
        None => {
            missing = true;
            p
        }
    };
    let mut at = 0;
    for RowRun { segment, row, len, .. } in decoder.unit.row_runs(decoder.unit.chunk_range(chunk)) {
        let range = at..at + len * width;
        at = range.end;
        let blocks = out[range.clone()]
            .chunks_mut(BLOCK * width)
            .zip(predictions[range].chunks(BLOCK * width));
        match &decoder.rule {
            Rule::Ulps(k) => {
                for (out, predictions) in blocks {
                    if multiply_block::<R>(*k, out, predictions) {
                        continue;
                    }
                    for (o, p) in out.chunks_exact_mut(width).zip(predictions.chunks_exact(width)) {
                        let p = R::W::load(p);
                        let code = ulps::<R>(R::W::load(o), p);
                        let is_stored = code == stored_ulps::<R>();
                        R::W::store(
                            if is_stored { next(p) } else { apply_ulps::<R>(code, *k, p) },
                            o,
                        );
                    }
                }
            }
            Rule::Steps(steps) => {
                let step = Step::new::<R>(steps, decoder.groups.of(segment, row));
                if step.is_exact() {
                    continue;
                }
                for (out, predictions) in blocks {
                    if move_block::<R>(&step, out, predictions) {
                        continue;
                    }
                    for (o, p) in out.chunks_exact_mut(width).zip(predictions.chunks_exact(width)) {
                        let (surrogate, p) = (R::W::load(o), R::W::load(p));
                        let is_stored = ulps::<R>(surrogate, p) == step.stored_code();
                        R::W::store(
                            if is_stored { next(p) } else { step.restored::<R>(surrogate, p) },
                            o,
                        );
                    }
                }
            }
        }
    }
    if missing || !stored.remainder().is_empty() {
        return Err(Error::truncated("stored words end too early"));
    }
    if stored.next().is_some() {
        return Err(Error::corrupt("stored words do not end where they should"));
    }
    Ok(())
}
