//! The decoders of all codecs of a build, and packed tensors of any of them.

#[cfg(feature = "typed")]
use crate::element::Element;
use crate::packed;
use sparse_core::{CodecId, DeltaDecoder, Registry, Result, TensorSpec, TensorView};
use std::sync::Arc;

/// Id of each codec, and its feature.
const FEATURES: [(CodecId, &str); 10] = [
    (CodecId(0), "raw"),
    (CodecId(1), "lossless"),
    (CodecId(2), "zstd"),
    (CodecId(3), "low-rank"),
    (CodecId(4), "sparse"),
    (CodecId(5), "int8"),
    (CodecId(6), "sparse-int8"),
    (CodecId(7), "sign"),
    (CodecId(8), "ulp-bounded"),
    (CodecId(9), "svd"),
];

/// Returns the decoders of the codecs of this build; of those left out it knows the features.
///
/// # Examples
/// ```
/// # #[cfg(feature = "raw")]
/// assert!(sparse_codecs::decoders().decoder(sparse_codecs::raw::ID).is_ok());
/// ```
pub fn decoders() -> Registry {
    let mut registry = Registry::new();
    for (id, feature) in FEATURES {
        registry.add_disabled(id, feature);
    }
    let decoders: Vec<Arc<dyn DeltaDecoder>> = vec![
        #[cfg(feature = "raw")]
        Arc::new(crate::raw::Raw),
        #[cfg(feature = "lossless")]
        Arc::new(crate::lossless::Lossless),
        #[cfg(feature = "zstd")]
        Arc::new(crate::zstd::frames(crate::zstd::DEFAULT_LEVEL)),
        #[cfg(feature = "low-rank")]
        Arc::new(crate::low_rank::LowRank),
        #[cfg(feature = "sparse")]
        Arc::new(crate::sparse::Sparse::default()),
        #[cfg(feature = "int8")]
        Arc::new(crate::int8::Int8::default()),
        #[cfg(feature = "sparse-int8")]
        Arc::new(crate::sparse_int8::SparseInt8::default()),
        #[cfg(feature = "sign")]
        Arc::new(crate::sign::Sign::default()),
        #[cfg(feature = "ulp-bounded")]
        Arc::new(crate::ulp_bounded::UlpBounded::default()),
        #[cfg(feature = "svd")]
        Arc::new(crate::svd::Svd::default()),
    ];
    for decoder in decoders {
        // Their ids differ, so adding them cannot fail.
        let _ = registry.add(decoder);
    }
    registry
}

/// Decodes a [packed tensor](crate::packed) to type, shape and bytes.
///
/// Of any codec of this build.
///
/// # Errors
/// As [`packed::decompress_bytes_with`], and `CodecDisabled`.
pub fn decompress_bytes(
    bytes: &[u8],
    base: Option<TensorView<'_>>,
) -> Result<(TensorSpec, Vec<u8>)> {
    let packed = packed::open(bytes)?;
    packed.unpack_bytes(&**decoders().decoder(packed.codec())?, base)
}

/// Decodes a [packed tensor](crate::packed) of any codec of this build.
///
/// # Errors
/// As [`packed::decompress_with`], and `CodecDisabled`.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "raw")] {
/// use sparse_codecs::packed::Packer;
/// use sparse_codecs::raw::Raw;
///
/// let packed = Packer::new(&Raw).shape([2, 2]).compress_slice(&[0.5f32, 1.0, 1.5, 2.0], None)?;
/// assert_eq!(sparse_codecs::decompress::<f32>(&packed, None)?, [0.5, 1.0, 1.5, 2.0]);
/// # }
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[cfg(feature = "typed")]
pub fn decompress<T: Element>(bytes: &[u8], base: Option<&[T]>) -> Result<Vec<T>> {
    let packed = packed::open(bytes)?;
    packed::unpack(&packed, &**decoders().decoder(packed.codec())?, base)
}
