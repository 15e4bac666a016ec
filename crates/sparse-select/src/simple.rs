//! A scheme for a codec without settings.

use crate::scheme::Scheme;
use sparse_core::{DeltaDecoder, DeltaEncoder, Error, Result};
use std::sync::Arc;

/// [`Scheme`] of a codec that loses nothing and has no settings.
///
/// It is tried for all weights that the codec takes, and chosen where it is the smallest.
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
