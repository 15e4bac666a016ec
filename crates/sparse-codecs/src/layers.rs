//! The first of two layers, alone.
//!
//! [`low_rank`](crate::low_rank), and [`svd`](crate::svd) if it also stores the residual, are
//! codecs of two layers: factors in the parameter block, and the residual in the chunks. A reader
//! may stop after the first layer, without reading the second.

use sparse_core::{ChunkDecoder, CodecContext, CodecId, Result};

/// The number of the codec `svd`, which may be left out of a build.
const SVD: CodecId = CodecId(9);

/// The number of the codec `low-rank`, which may be left out of a build, too.
const LOW_RANK: CodecId = CodecId(3);

/// Returns true if a codec has a first layer.
pub fn has_layers(codec: CodecId) -> bool {
    codec == SVD || codec == LOW_RANK
}

/// Decoder of the first layer of a unit alone: the base moved by the product of the factors.
///
/// # Examples
///
/// ```
/// use sparse_codecs::{layers::has_layers, lossless::Lossless, svd::Svd};
///
/// assert!(has_layers(Svd::ID) && !has_layers(Lossless::ID));
/// ```
pub struct FirstLayer(Box<dyn ChunkDecoder>);

impl FirstLayer {
    /// Takes the first layer of a decoder of a codec that [has layers](has_layers).
    pub fn of(decoder: Box<dyn ChunkDecoder>) -> FirstLayer {
        FirstLayer(decoder)
    }
}

impl std::fmt::Debug for FirstLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstLayer").finish_non_exhaustive()
    }
}

impl ChunkDecoder for FirstLayer {
    fn decode_chunk(
        &self,
        chunk: u64,
        _encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        // An empty chunk: everything is as predicted.
        self.0.decode_chunk(chunk, &[], base, out, cx)
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}
