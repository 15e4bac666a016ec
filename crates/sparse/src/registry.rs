//! The codecs of this build.

use sparse_codecs::lossless::Lossless;
use sparse_codecs::low_rank::LowRank;
use sparse_codecs::raw::Raw;
use sparse_core::Registry;
use std::sync::Arc;

/// All decoders of this build.
pub fn default_registry() -> Registry {
    let mut registry = Registry::new();
    // Their ids differ, so adding them cannot fail.
    let _ = registry.add(Arc::new(Raw));
    let _ = registry.add(Arc::new(Lossless));
    let _ = registry.add(Arc::new(LowRank));
    registry
}
