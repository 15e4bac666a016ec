//! The calls that each codec's module has: one implementation, named once per codec.

/// Writes `decompress` and `decompress_bytes` for a codec's module.
macro_rules! decode_calls {
    ($codec:expr) => {
        /// Decodes a [packed tensor](crate::packed) of this codec.
        ///
        /// # Errors
        /// `NotThisFormat`, `UnsupportedVersion`, `Truncated` and `Corrupt` for the bytes;
        /// `BaseMismatch` for the base; `UnknownCodec` for a tensor of another codec;
        /// `InvalidArgument` when it has elements of another type, or a base is needed;
        /// `LimitExceeded` above [`MAX_BYTES`](crate::packed::MAX_BYTES).
        #[cfg(feature = "typed")]
        pub fn decompress<T: crate::Element>(
            bytes: &[u8],
            base: Option<&[T]>,
        ) -> sparse_core::Result<Vec<T>> {
            crate::packed::decompress_with(&$codec, bytes, base)
        }

        /// Decodes a [packed tensor](crate::packed) of this codec to type, shape and bytes.
        ///
        /// # Errors
        /// As [`decompress_bytes_with`](crate::packed::decompress_bytes_with).
        pub fn decompress_bytes(
            bytes: &[u8],
            base: Option<sparse_core::TensorView<'_>>,
        ) -> sparse_core::Result<(sparse_core::TensorSpec, Vec<u8>)> {
            crate::packed::decompress_bytes_with(&$codec, bytes, base)
        }
    };
}
pub(crate) use decode_calls;

/// Writes `compress_bytes` for a codec's module.
macro_rules! compress_bytes_call {
    ($codec:expr) => {
        /// Encodes a tensor given its base as a [packed tensor](crate::packed).
        ///
        /// With this codec's default settings.
        ///
        /// # Errors
        /// As [`Packer::compress`](crate::packed::Packer::compress).
        pub fn compress_bytes(
            target: sparse_core::TensorView<'_>,
            base: Option<sparse_core::TensorView<'_>>,
        ) -> sparse_core::Result<Vec<u8>> {
            crate::packed::Packer::new(&$codec).compress(target, base)
        }
    };
}
pub(crate) use compress_bytes_call;

/// Writes `compress` and the other calls for a codec that takes vectors.
macro_rules! codec_calls {
    ($codec:expr) => {
        /// Encodes weights given those of a base as a [packed tensor](crate::packed).
        ///
        /// The base has the same length. The codec has its default settings.
        ///
        /// They are taken for a vector; [`Packer::shape`](crate::packed::Packer::shape) makes
        /// a matrix of them, which is often smaller.
        ///
        /// # Errors
        /// As [`Packer::compress`](crate::packed::Packer::compress).
        #[cfg(feature = "typed")]
        pub fn compress<T: crate::Element>(
            target: &[T],
            base: Option<&[T]>,
        ) -> sparse_core::Result<Vec<u8>> {
            crate::packed::Packer::new(&$codec).compress_slice(target, base)
        }

        crate::packed::compress_bytes_call!($codec);
        crate::packed::decode_calls!($codec);
    };
}
pub(crate) use codec_calls;

/// Writes `compress` and `compress_bytes` for a codec of matrices.
#[cfg(any(feature = "low-rank-encode", feature = "svd-encode"))]
macro_rules! matrix_encode_calls {
    ($codec:expr) => {
        /// Encodes a matrix given that of a base as a [packed tensor](crate::packed).
        ///
        /// The shape is `[rows, columns]`; weights are given row by row. The codec has its default
        /// settings.
        ///
        /// # Errors
        /// As [`Packer::compress`](crate::packed::Packer::compress).
        #[cfg(feature = "typed")]
        pub fn compress<T: crate::Element>(
            target: &[T],
            base: Option<&[T]>,
            shape: [u64; 2],
        ) -> sparse_core::Result<Vec<u8>> {
            crate::packed::Packer::new(&$codec).shape(shape).compress_slice(target, base)
        }

        crate::packed::compress_bytes_call!($codec);
    };
}
#[cfg(any(feature = "low-rank-encode", feature = "svd-encode"))]
pub(crate) use matrix_encode_calls;
