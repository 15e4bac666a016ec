//! Packing and unpacking with any codec.

use super::layout::{self, Head, Parts};
use super::xxh64::xxh64;
use sparse_core::{
    BaseUse, CodecContext, CodecId, DEFAULT_CHUNK_LEN, DeltaDecoder, DeltaEncoder, Dtype, Effort,
    Error, ErrorKind, Fidelity, Limits, Result, TensorSpec, TensorView, encode_unit, zeros,
};
use std::fmt;

/// Largest tensor in bytes that is packed and unpacked unless other limits are given: 4 GiB.
///
/// A few bytes can encode a large tensor of one value, so set a lower [`Limits::max_output_bytes`]
/// to unpack bytes from strangers.
pub const MAX_BYTES: u64 = 4 << 30;

/// Returns a context with default limits, but for [`MAX_BYTES`].
pub(super) fn default_context() -> CodecContext {
    let mut cx = CodecContext::new();
    cx.limits.max_output_bytes = MAX_BYTES;
    cx
}

/// Encoder of single tensors with a codec.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "raw")] {
/// use sparse_codecs::decompress_bytes;
/// use sparse_codecs::packed::Packer;
/// use sparse_codecs::raw::Raw;
/// use sparse_core::{Dtype, Effort, TensorSpec, TensorView};
///
/// let spec = TensorSpec::new(Dtype::I16, [2, 3])?;
/// let weights = TensorView::new(&spec, &[7; 12])?;
/// let packed = Packer::new(&Raw).effort(Effort::Fast).compress(weights, None)?;
/// assert_eq!(decompress_bytes(&packed, None)?, (spec, vec![7; 12]));
/// # }
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct Packer<'a> {
    encoder: &'a dyn DeltaEncoder,
    effort: Effort,
    cx: CodecContext,
    #[cfg(feature = "typed")]
    pub(super) shape: Option<Vec<u64>>,
}

impl fmt::Debug for Packer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("codec", self.encoder.info())
            .field("effort", &self.effort)
            .field("cx", &self.cx)
            .finish_non_exhaustive()
    }
}

impl<'a> Packer<'a> {
    /// Creates a packer of default effort, for tensors of up to [`MAX_BYTES`].
    pub fn new(encoder: &'a dyn DeltaEncoder) -> Packer<'a> {
        Packer {
            encoder,
            effort: Effort::default(),
            cx: default_context(),
            #[cfg(feature = "typed")]
            shape: None,
        }
    }

    /// Sets how much time to spend.
    #[must_use]
    pub fn effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    /// Sets limits, cancel token and executor; the default runs on the calling thread.
    #[must_use]
    pub fn context(mut self, cx: CodecContext) -> Self {
        self.cx = cx;
        self
    }

    /// Encodes `target` given `base`, a tensor of as many storage elements.
    ///
    /// Their shapes and types may differ. A codec that ignores bases is given none.
    ///
    /// With a lossy codec, the hash in the result is that of the restored weights.
    ///
    /// # Errors
    /// `InvalidArgument` when the codec cannot code such weights or the base has another length,
    /// `LimitExceeded`, `Cancelled`.
    pub fn compress(
        mut self,
        target: TensorView<'_>,
        base: Option<TensorView<'_>>,
    ) -> Result<Vec<u8>> {
        let (encoder, spec, cx) = (self.encoder, target.spec(), &mut self.cx);
        let base = base.filter(|_| encoder.info().base != BaseUse::Ignored);
        Limits::check("packed tensor", spec.byte_len(), cx.limits.max_output_bytes)?;
        if let Some(base) = base
            && base.spec().storage_len() != spec.storage_len()
        {
            let message = format!(
                "{} weights were given with a base of {}",
                spec.storage_len(),
                base.spec().storage_len()
            );
            return Err(Error::invalid_argument(message));
        }
        let base_dtype = base.map(|b| b.spec().dtype());
        let base = base.map(|b| b.bytes());
        let unit = layout::unit_of(spec, base_dtype, DEFAULT_CHUNK_LEN)?;
        let encoded = encode_unit(encoder, &unit, target.bytes(), base, self.effort, cx)?;
        let mut head = Head {
            codec: encoder.info().id,
            spec: spec.clone(),
            unit,
            digest: 0,
            base_digest: base.map_or(0, xxh64),
        };
        head.digest = if encoder.info().fidelity == Fidelity::Lossless {
            xxh64(target.bytes())
        } else {
            let mut restored = zeros(target.bytes().len())?;
            let chunks = encoded.chunks.iter().map(|c| &**c).collect();
            let parts = Parts { head: head.clone(), params: &encoded.params, chunks };
            decode(&parts, encoder, base, &mut restored, cx)?;
            xxh64(&restored)
        };
        Ok(layout::write(&head, &encoded))
    }
}

/// Packed tensor whose checksum has been verified; its content is known before it is decoded.
///
/// # Examples
///
/// ```
/// # #[cfg(all(feature = "raw", feature = "typed"))] {
/// use sparse_codecs::packed::Packed;
/// use sparse_codecs::raw;
/// use sparse_core::{Dtype, Limits};
///
/// let mut bytes = raw::compress(&[1i16, 2, 3], None)?;
/// let packed = Packed::open(&bytes, &Limits::default())?;
/// assert_eq!((packed.codec(), packed.spec().dtype()), (raw::ID, Dtype::I16));
/// assert_eq!((packed.spec().shape(), packed.base_dtype()), (&[3][..], None));
/// bytes[9] ^= 1;
/// assert!(Packed::open(&bytes, &Limits::default()).is_err());
/// # }
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Packed<'a>(Parts<'a>);

impl<'a> Packed<'a> {
    /// Reads what stands before the weights, and verifies the checksum of all of it.
    ///
    /// Takes memory for at most a constant times the length of `bytes`.
    ///
    /// # Errors
    /// `NotThisFormat`, `UnsupportedVersion`, `Truncated`, `Corrupt`, `LimitExceeded`.
    pub fn open(bytes: &'a [u8], limits: &Limits) -> Result<Packed<'a>> {
        layout::read(bytes, limits).map(Packed)
    }

    /// Returns the number of the codec.
    pub fn codec(&self) -> CodecId {
        self.0.head.codec
    }

    /// Returns type and shape.
    pub fn spec(&self) -> &TensorSpec {
        &self.0.head.spec
    }

    /// Returns the type of the base's weights, if decoding needs a base.
    pub fn base_dtype(&self) -> Option<Dtype> {
        self.0.head.unit.base_dtype()
    }

    /// Decodes into `out`, which is as long as the tensor. A base that is not needed is not looked
    /// at.
    ///
    /// The base is blamed only where the result does not have the recorded hash: then it is hashed,
    /// too.
    ///
    /// # Errors
    /// `UnknownCodec` when `decoder` is not of the codec; `InvalidArgument` when a base is needed
    /// and none given, or `out` has another length; `BaseMismatch`; `Corrupt`; `LimitExceeded`;
    /// `Cancelled`. `out` is unspecified then.
    pub fn decode_into(
        &self,
        decoder: &dyn DeltaDecoder,
        base: Option<TensorView<'_>>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        let head = &self.0.head;
        let info = decoder.info();
        if info.id != head.codec {
            let message = format!("it was coded by codec {}, not by {}", head.codec, info.name);
            return Err(Error::new(ErrorKind::UnknownCodec, message));
        }
        if out.len() as u64 != head.spec.byte_len() {
            let (want, have) = (head.spec.byte_len(), out.len());
            return Err(Error::invalid_argument(format!(
                "the weights have {want} bytes, but the \
                buffer has {have}"
            )));
        }
        let base = self.base_bytes(base)?;
        let decoded = decode(&self.0, decoder, base, out, cx).and_then(|()| {
            let fits = xxh64(out) == head.digest;
            fits.then_some(()).ok_or_else(|| {
                Error::corrupt(
                    "the hash of the decoded weights \
                does not match",
                )
            })
        });
        let damage = |e: &Error| matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Truncated);
        match (decoded, base) {
            (Err(e), Some(base)) if damage(&e) && xxh64(base) != head.base_digest => {
                Err(wrong_base("its content differs"))
            }
            (result, _) => result,
        }
    }

    /// Returns the bytes of the base, if one is needed.
    fn base_bytes<'b>(&self, base: Option<TensorView<'b>>) -> Result<Option<&'b [u8]>> {
        let unit = &self.0.head.unit;
        let Some(dtype) = unit.base_dtype() else { return Ok(None) };
        let Some(base) = base else {
            return Err(Error::invalid_argument(
                "it was packed against a base, and none was given",
            ));
        };
        let found = base.spec();
        if found.dtype() != dtype || found.storage_len() != unit.len() {
            return Err(wrong_base(&format!(
                "expected {} weights of {dtype}, found {} of {}",
                unit.len(),
                found.storage_len(),
                found.dtype()
            )));
        }
        Ok(Some(base.bytes()))
    }
}

fn wrong_base(why: &str) -> Error {
    Error::new(ErrorKind::BaseMismatch, format!("wrong base: {why}"))
}

/// Decodes all chunks.
fn decode(
    parts: &Parts<'_>,
    decoder: &dyn DeltaDecoder,
    base: Option<&[u8]>,
    out: &mut [u8],
    cx: &mut CodecContext,
) -> Result<()> {
    let unit = &parts.head.unit;
    let bound = decoder.bind(unit, parts.params, &cx.limits)?;
    let part = |chunk: u64, dtype: Dtype| {
        let (range, width) = (unit.chunk_range(chunk), dtype.storage_bytes());
        range.start as usize * width..range.end as usize * width
    };
    let short = || Error::new(ErrorKind::Internal, "buffers are shorter than their chunks");
    for (chunk, encoded) in (0..).zip(&parts.chunks) {
        let out = out.get_mut(part(chunk, unit.dtype())).ok_or_else(short)?;
        let base = base.zip(unit.base_dtype());
        let base = base.map(|(b, dtype)| b.get(part(chunk, dtype)).ok_or_else(short));
        bound.decode_chunk(chunk, encoded, base.transpose()?, out, cx)?;
    }
    Ok(())
}

/// Decodes a packed tensor with the one codec that made it, in one call. Returns type, shape and
/// bytes.
///
/// # Errors
/// As [`Packed::open`] and [`Packed::decode_into`].
pub fn decompress_bytes_with(
    decoder: &dyn DeltaDecoder,
    bytes: &[u8],
    base: Option<TensorView<'_>>,
) -> Result<(TensorSpec, Vec<u8>)> {
    open(bytes)?.unpack_bytes(decoder, base)
}

/// Opens a packed tensor with the default limits of the calls that take no context.
///
/// # Errors
/// As [`Packed::open`].
pub(crate) fn open(bytes: &[u8]) -> Result<Packed<'_>> {
    Packed::open(bytes, &default_context().limits)
}

impl Packed<'_> {
    /// Decodes to type, shape and bytes.
    ///
    /// # Errors
    /// As [`decode_into`](Self::decode_into).
    pub(crate) fn unpack_bytes(
        &self,
        decoder: &dyn DeltaDecoder,
        base: Option<TensorView<'_>>,
    ) -> Result<(TensorSpec, Vec<u8>)> {
        let mut out = zeros(address(self.spec().byte_len())?)?;
        self.decode_into(decoder, base, &mut out, &mut default_context())?;
        Ok((self.spec().clone(), out))
    }
}

pub(super) fn address(len: u64) -> Result<usize> {
    usize::try_from(len)
        .map_err(|_| Error::new(ErrorKind::LimitExceeded, "it is larger than the address space"))
}
