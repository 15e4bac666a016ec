//! A scheme for a codec without settings.

use crate::scheme::Scheme;
use sparse_core::{DeltaDecoder, DeltaEncoder, Error, Result};
use std::sync::Arc;

/// [`Scheme`] of a codec that loses nothing and has no settings.
///
/// It is tried for all weights that the codec takes, and chosen where it is the smallest.
///
/// # Examples
///
/// ```
/// use sparse_core::{BaseUse, Chunk, CodecId, CodecInfo, Error, Fidelity, Result};
/// use sparse_core::{Simple, SimpleCodec};
/// use sparse_select::{Scheme, SimpleScheme};
/// use std::sync::Arc;
///
/// struct Verbatim;
///
/// impl SimpleCodec for Verbatim {
///     fn info(&self) -> CodecInfo {
///         CodecInfo::new(CodecId(0x8001), "verbatim", Fidelity::Lossless, BaseUse::Ignored)
///     }
///
///     fn encode(&self, _: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
///         out.extend_from_slice(target);
///         Ok(())
///     }
///
///     fn decode(&self, _: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
///         let wrong = || Error::corrupt("a chunk of another length");
///         out.copy_from_slice(encoded.get(..out.len()).ok_or_else(wrong)?);
///         Ok(())
///     }
/// }
///
/// let scheme = SimpleScheme::new(Arc::new(Simple::new(Verbatim)));
/// assert_eq!(scheme.name(), "verbatim");
/// ```
#[derive(Clone)]
pub struct SimpleScheme(Arc<dyn DeltaEncoder>);

impl SimpleScheme {
    /// Takes the codec.
    pub fn new(codec: Arc<dyn DeltaEncoder>) -> SimpleScheme {
        SimpleScheme(codec)
    }
}

impl Scheme for SimpleScheme {
    fn name(&self) -> &str {
        self.0.info().name
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        self.0.clone()
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        match value {
            None => Ok(self.0.clone()),
            Some(_) => Err(Error::invalid_argument("it takes no setting")),
        }
    }
}

impl std::fmt::Debug for SimpleScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimpleScheme").field(self.0.info()).finish()
    }
}
