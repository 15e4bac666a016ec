//! The chunk payload of a quantised unit.
//!
//! ```text
//! (empty)                         every weight equals its prediction
//! 0x00  length  lossless  words   codes as differences, coded by the lossless codec; stored words
//! bits  codes  words              codes of so many bits each, two's complement; stored words
//! ```

use super::quantise::Quantiser;
use super::rule::{Groups, Rule, Step, apply_ulps, stored_ulps, ulps, zigzag};
use crate::entropy::{bits::BitReader, bits::BitWriter, varint};
use crate::lossless::Predictor;
use crate::real::{Real, with_real};
use crate::word::{Word, restore};
use sparse_core::{ChunkDecoder, ChunkEncoder, CodecContext, Error, Result, RowRun, UnitSpec};

/// First byte of a chunk whose codes the lossless codec has coded.
const CODED: u8 = 0;

/// Weights that are looked at together.
const BLOCK: usize = 256;

/// Scratch memory of a worker.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) predictions: Vec<u8>,
    /// What the lossless codec codes: words that differ from the prediction by the code.
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

/// Words that differ from their predictions by the codes; returns the widest code in bits. Stored words are appended to
/// `stored`.
pub(super) fn surrogates<R: Real>(
    quantiser: &Quantiser,
    chunk: u64,
    target: &[u8],
    predictions: &[u8],
    surrogate: &mut Vec<u8>,
    stored: &mut Vec<u8>,
) -> u32 {
    surrogate.clear();
    surrogate.resize(target.len(), 0);
    stored.clear();
    let mut out = surrogate.chunks_exact_mut(R::W::BYTES);
    let mut widest = 0u64;
    quantiser.each::<R>(chunk, target, predictions, |_, t, p, coded| {
        let z = zigzag::<R>(coded.code);
        widest |= z;
        if let Some(out) = out.next() {
            R::W::store(restore::<R::W>(z, p, true), out);
        }
        if coded.stored {
            let at = stored.len();
            stored.resize(at + R::W::BYTES, 0);
            R::W::store(t, &mut stored[at..]);
        }
    });
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
        let bits =
            with_real!(dtype, surrogates, &self.quantiser, chunk, target, predictions, surrogate, stored);
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
        let predictions = self.predictor.predict(base, width, out.len() / width, &mut scratch.predictions);
        let result = with_real!(self.unit.dtype(), decode_words, self, chunk, encoded, predictions, out, cx);
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
        let (out, predictions) = (&mut out[range.clone()], &predictions[range]);
        match &decoder.rule {
            Rule::Ulps(k) => {
                for (o, p) in out.chunks_exact_mut(width).zip(predictions.chunks_exact(width)) {
                    let (surrogate, p) = (R::W::load(o), R::W::load(p));
                    if surrogate != p {
                        let code = ulps::<R>(surrogate, p);
                        let is_stored = code == stored_ulps::<R>();
                        R::W::store(if is_stored { next(p) } else { apply_ulps::<R>(code, *k, p) }, o);
                    }
                }
            }
            Rule::Steps(steps) => {
                let step = Step::new::<R>(steps, decoder.groups.of(segment, row));
                if step.is_exact() {
                    continue;
                }
                let stored_code = -(steps.max_code as i64) - 1;
                // A block without stored words takes no branch.
                let blocks = out.chunks_mut(BLOCK * width).zip(predictions.chunks(BLOCK * width));
                for (out, predictions) in blocks {
                    let pairs = out.chunks_exact(width).zip(predictions.chunks_exact(width));
                    let code = |o: &[u8], p: &[u8]| ulps::<R>(R::W::load(o), R::W::load(p));
                    let any_stored = pairs.fold(false, |any, (o, p)| any | (code(o, p) == stored_code));
                    for (o, p) in out.chunks_exact_mut(width).zip(predictions.chunks_exact(width)) {
                        let code = code(o, p);
                        let (surrogate, p) = (R::W::load(o), R::W::load(p));
                        if any_stored && code == stored_code {
                            R::W::store(next(p), o);
                            continue;
                        }
                        // Where units in the last place are counted, the surrogate is the word.
                        let moves = (code != 0) & !step.counts_ulps::<R>(p);
                        let moved = step.moved::<R>(code, p);
                        R::W::store(if moves { moved } else { surrogate }, o);
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
