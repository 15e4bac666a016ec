//! Units whose elements are all widened numbers of a narrower type: a model trained in bfloat16 and
//! saved in float32, say. They are coded as units of that type, and widened again when decoded.

use super::analysis::Analysis;
use super::convert::Cast;
use super::decode::{BoundDecoder, Decoder};
use super::model::base_fits;
use crate::simd::Simd;
use crate::word::{Word, with_word};
use sparse_core::{
    ChunkDecoder, ChunkEncoder, CodecContext, Dtype, Effort, Error, EstimatedBits, Limits, Result,
    UnitAnalysis, UnitSpec, check_chunk,
};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Upper bits of the first byte of a parameter block that mark a narrowed unit, in place of the
/// number of a token scheme. The lower bits are the number of the narrower type, and the parameter
/// block of the narrower unit follows.
pub(super) const NARROW: u8 = 0xc0;

/// The narrower types, by their number in files.
const TYPES: [Dtype; 3] = [Dtype::Bf16, Dtype::F16, Dtype::F32];

/// The first byte of a chunk that is verbatim after all, in the wider type.
const WIDE: u8 = 0xff;

/// A type, and a wider one that has all of its numbers.
#[derive(Clone, Copy, Debug)]
struct Narrowing {
    number: u8,
    narrow: Dtype,
    wide: Dtype,
    down: Cast,
    up: Cast,
}

impl Narrowing {
    fn new(wide: Dtype, number: u8) -> Option<Narrowing> {
        let narrow = *TYPES.get(usize::from(number))?;
        if !matches!(wide, Dtype::F32 | Dtype::F64)
            || narrow.storage_bytes() >= wide.storage_bytes()
        {
            return None;
        }
        let (down, up) = (Cast::new(wide, narrow)?, Cast::new(narrow, wide)?);
        Some(Narrowing { number, narrow, wide, down, up })
    }

    /// Lists the narrower types of a type.
    fn all(wide: Dtype) -> impl Iterator<Item = Narrowing> {
        (0..TYPES.len() as u8).filter_map(move |n| Narrowing::new(wide, n))
    }

    /// Returns the unit of the narrower type.
    fn unit(self, unit: &UnitSpec) -> Result<UnitSpec> {
        UnitSpec::new(self.narrow, unit.base_dtype(), unit.chunk_len(), unit.segments().to_vec())
    }

    /// Returns true if the upper half of the wider word is the narrower word.
    fn is_upper_half(self) -> bool {
        (self.narrow, self.wide) == (Dtype::Bf16, Dtype::F32)
    }

    /// Narrows words, if that loses nothing.
    fn narrow(self, words: &[u8], out: &mut Vec<u8>) -> bool {
        fn by_cast<W: Word>(narrowing: Narrowing, words: &[u8], out: &mut Vec<u8>) -> bool {
            let width = narrowing.narrow.storage_bytes();
            for word in words.chunks_exact(W::BYTES).map(W::load) {
                let small = narrowing.down.apply(word);
                if narrowing.up.apply(small) != word {
                    return false;
                }
                out.extend_from_slice(&small.to_le_bytes()[..width]);
            }
            true
        }
        out.clear();
        if self.is_upper_half() {
            // In blocks: most data that is not widened shows it at once.
            for block in words.chunks(1 << 12) {
                let (block, _) = block.as_chunks::<4>();
                if block.iter().fold(0, |any, w| any | w[0] | w[1]) != 0 {
                    return false;
                }
                out.extend(block.iter().flat_map(|w| [w[2], w[3]]));
            }
            return true;
        }
        with_word!(self.wide.storage_bytes(), by_cast, self, words, out)
    }

    fn widen(self, words: &[u8], out: &mut [u8]) {
        self.up.apply_all(self.narrow.storage_bytes(), words, self.wide.storage_bytes(), out);
    }
}

/// Returns the narrower float type from which all elements were widened.
///
/// `None` if there is none. A unit of only such tensors is coded as if it had that type.
///
/// `elements` are little-endian words of `dtype`.
pub fn widened_from(dtype: Dtype, elements: &[u8]) -> Option<Dtype> {
    let mut scratch = Vec::new();
    Narrowing::all(dtype).find(|n| n.narrow(elements, &mut scratch)).map(|n| n.narrow)
}

/// [`UnitAnalysis`] of a unit that may be widened. The first pass analyses the unit as it is and
/// finds whether it is widened; if so, another analysis begins.
#[derive(Debug)]
pub(super) struct MaybeNarrow {
    simd: Simd,
    unit: UnitSpec,
    effort: Effort,
    analysis: Analysis,
    /// One bit for each narrowing that fits all elements so far; final after the first pass.
    fitting: AtomicU8,
    seen: AtomicBool,
    settled: bool,
    narrowing: Option<Narrowing>,
}

impl MaybeNarrow {
    pub(super) fn new(simd: Simd, unit: &UnitSpec, effort: Effort) -> MaybeNarrow {
        let fitting = Narrowing::all(unit.dtype())
            .filter(|n| base_fits(n.narrow, unit.base_dtype()))
            .map(|n| 1u8 << n.number)
            .sum();
        MaybeNarrow {
            simd,
            unit: unit.clone(),
            effort,
            analysis: Analysis::new(simd, unit, effort),
            fitting: AtomicU8::new(fitting),
            seen: AtomicBool::new(false),
            settled: false,
            narrowing: None,
        }
    }

    fn narrowings(&self) -> impl Iterator<Item = Narrowing> {
        let fitting = self.fitting.load(Ordering::Relaxed);
        Narrowing::all(self.unit.dtype()).filter(move |n| fitting >> n.number & 1 != 0)
    }
}

#[derive(Default)]
struct Narrowed(Vec<u8>);

impl UnitAnalysis for MaybeNarrow {
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        check_chunk(&self.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        if let Some(narrowing) = self.narrowing {
            let mut words = cx.take::<Narrowed>();
            let result = if narrowing.narrow(target, &mut words.0) {
                self.analysis.observe(chunk, &words.0, base, cx)
            } else {
                Err(Error::invalid_argument("a chunk has changed since the pass before"))
            };
            cx.put(words);
            return result;
        }
        if !self.settled {
            let mut words = cx.take::<Narrowed>();
            for narrowing in self.narrowings().filter(|n| !n.narrow(target, &mut words.0)) {
                self.fitting.fetch_and(!(1 << narrowing.number), Ordering::Relaxed);
            }
            cx.put(words);
            self.seen.store(true, Ordering::Relaxed);
        }
        self.analysis.observe(chunk, target, base, cx)
    }

    fn end_pass(&mut self, cx: &mut CodecContext) -> Result<bool> {
        if self.settled {
            return self.analysis.end_pass(cx);
        }
        self.settled = true;
        let seen = *self.seen.get_mut();
        let narrowing = self.narrowings().next().filter(|_| seen);
        self.narrowing = narrowing;
        match narrowing {
            Some(narrowing) => {
                let unit = narrowing.unit(&self.unit)?;
                self.analysis = Analysis::new(self.simd, &unit, self.effort);
                Ok(true)
            }
            None => self.analysis.end_pass(cx),
        }
    }

    fn estimated_bits(&self) -> EstimatedBits {
        self.analysis.estimated_bits()
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        let inner = Box::new(self.analysis).finish()?;
        let Some(narrowing) = self.narrowing else { return Ok(inner) };
        let mut params = vec![NARROW | narrowing.number];
        params.extend_from_slice(inner.params());
        Ok(Box::new(NarrowEncoder { narrowing, params, unit: self.unit, inner }))
    }
}

struct NarrowEncoder {
    narrowing: Narrowing,
    params: Vec<u8>,
    unit: UnitSpec,
    inner: Box<dyn ChunkEncoder>,
}

impl ChunkEncoder for NarrowEncoder {
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
        check_chunk(&self.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        let mut words = cx.take::<Narrowed>();
        let result = if self.narrowing.narrow(target, &mut words.0) {
            self.inner.encode_chunk(chunk, &words.0, base, out, cx)
        } else {
            // Seen only if the analysis was of other data.
            out.push(WIDE);
            out.extend_from_slice(target);
            Ok(())
        };
        cx.put(words);
        result
    }
}

/// Reads the parameter block of a narrowed unit, without its first byte.
pub(super) fn bind(
    number: u8,
    unit: &UnitSpec,
    params: &[u8],
    simd: Simd,
    limits: &Limits,
) -> Result<Box<dyn ChunkDecoder>> {
    let fits = |n: &Narrowing| base_fits(n.narrow, unit.base_dtype());
    let narrowing = Narrowing::new(unit.dtype(), number).filter(fits).ok_or_else(|| {
        Error::corrupt(format!("{} cannot be widened from type {number}", unit.dtype()))
    })?;
    let narrow = narrowing.unit(unit)?;
    let decoder = Decoder::read(&narrow, params, simd, limits)?;
    Ok(Box::new(NarrowDecoder {
        unit: unit.clone(),
        narrowing,
        inner: BoundDecoder { unit: narrow, decoder },
    }))
}

struct NarrowDecoder {
    unit: UnitSpec,
    narrowing: Narrowing,
    inner: BoundDecoder,
}

impl ChunkDecoder for NarrowDecoder {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        check_chunk(&self.unit, chunk, out.len(), base.map(<[u8]>::len))?;
        if let Some((&WIDE, bytes)) = encoded.split_first() {
            if bytes.len() != out.len() {
                return Err(Error::corrupt("a verbatim chunk has the wrong length"));
            }
            out.copy_from_slice(bytes);
            return Ok(());
        }
        let mut words = cx.take::<Narrowed>();
        words.0.resize(self.inner.unit.chunk_bytes(chunk), 0);
        let result = self.inner.decode_chunk(chunk, encoded, base, &mut words.0, cx);
        if result.is_ok() {
            self.narrowing.widen(&words.0, out);
        }
        cx.put(words);
        result
    }

    fn memory_bytes(&self) -> usize {
        self.unit.memory_bytes() + self.inner.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lossless::Lossless;
    use proptest::prelude::*;
    use sparse_core::{Segment, decode_unit, encode_unit};

    fn widened(narrow: Dtype, wide: Dtype, words: &[u64]) -> Vec<u8> {
        let up = Cast::new(narrow, wide).unwrap();
        let mask = u64::MAX >> (64 - 8 * narrow.storage_bytes());
        let bytes = words
            .iter()
            .flat_map(|w| up.apply(w & mask).to_le_bytes()[..wide.storage_bytes()].to_vec());
        bytes.collect()
    }

    fn round_trip(unit: &UnitSpec, target: &[u8], base: Option<&[u8]>) -> usize {
        let mut cx = CodecContext::new();
        let encoded = encode_unit(&Lossless, unit, target, base, Effort::Default, &mut cx).unwrap();
        let mut out = vec![0xAA; target.len()];
        decode_unit(&Lossless, unit, &encoded, base, &mut out, &mut cx).unwrap();
        assert!(out == target);
        encoded.chunks.iter().map(Vec::len).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn every_narrower_word(words in prop::collection::vec(any::<u64>(), 1..300),
            against in 0usize..4) {
            for (narrow, wide) in [
                (Dtype::Bf16, Dtype::F32),
                (Dtype::F16, Dtype::F32),
                (Dtype::Bf16, Dtype::F64),
                (Dtype::F16, Dtype::F64),
                (Dtype::F32, Dtype::F64),
            ] {
                let target = widened(narrow, wide, &words);
                prop_assert!(widened_from(wide, &target).is_some());
                let base_type = [None, Some(wide), Some(narrow), Some(Dtype::F32)][against];
                let base = base_type.map(|b| widened(narrow, b, &words.iter().map(|w| w ^ 1)
                    .collect::<Vec<_>>()));
                let segment = Segment { rows: 1, row_len: words.len() as u64 };
                let unit = UnitSpec::new(wide, base_type, 100, [segment]).unwrap();
                round_trip(&unit, &target, base.as_deref());
            }
        }
    }

    #[test]
    fn as_small_as_in_the_narrower_type() {
        let words: Vec<u64> = (0..20_000u64).map(|i| 0x3c00 + ((i * 7919) >> 3) % 900).collect();
        let changed: Vec<u64> = (0..).zip(&words).map(|(i, w)| w + u64::from(i % 3 == 0)).collect();
        let size = |dtype: Dtype| {
            let base = widened(Dtype::Bf16, dtype, &words);
            let target = widened(Dtype::Bf16, dtype, &changed);
            let segment = Segment { rows: 100, row_len: 200 };
            let unit = UnitSpec::new(dtype, Some(dtype), 1 << 16, [segment]).unwrap();
            round_trip(&unit, &target, Some(&base))
        };
        assert_eq!(size(Dtype::F32), size(Dtype::Bf16));
        assert_eq!(size(Dtype::F64), size(Dtype::Bf16));
    }

    #[test]
    fn one_wide_number_is_enough() {
        let mut target = widened(Dtype::Bf16, Dtype::F32, &[0x3f80; 500]);
        target[1600] = 1;
        assert_eq!(widened_from(Dtype::F32, &target), None);
        let unit =
            UnitSpec::new(Dtype::F32, None, 100, [Segment { rows: 1, row_len: 500 }]).unwrap();
        round_trip(&unit, &target, None);
    }

    #[test]
    fn what_the_analysis_did_not_see_is_verbatim() {
        let mut cx = CodecContext::new();
        let target = widened(Dtype::Bf16, Dtype::F32, &[0x3f80; 100]);
        let unit =
            UnitSpec::new(Dtype::F32, None, 100, [Segment { rows: 1, row_len: 100 }]).unwrap();
        let mut analysis =
            sparse_core::DeltaEncoder::analyze(&Lossless, &unit, Effort::Fast).unwrap();
        loop {
            analysis.observe(0, &target, None, &mut cx).unwrap();
            if !analysis.end_pass(&mut cx).unwrap() {
                break;
            }
        }
        let encoder = analysis.finish().unwrap();
        let mut bytes = Vec::new();
        encoder.encode_chunk(0, &[1; 400], None, &mut bytes, &mut cx).unwrap();
        let decoder =
            sparse_core::DeltaDecoder::bind(&Lossless, &unit, encoder.params(), &cx.limits)
                .unwrap();
        let mut out = vec![0; 400];
        decoder.decode_chunk(0, &bytes, None, &mut out, &mut cx).unwrap();
        assert_eq!(out, [1; 400]);
        assert!(decoder.decode_chunk(0, &bytes[..300], None, &mut out, &mut cx).is_err());
    }
}
