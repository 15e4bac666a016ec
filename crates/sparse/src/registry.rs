//! The codecs of this build.

use sparse_codecs::int8::Int8;
use sparse_codecs::lossless::Lossless;
use sparse_codecs::low_rank::LowRank;
use sparse_codecs::raw::Raw;
use sparse_codecs::sign::Sign;
use sparse_codecs::sparse::Sparse;
use sparse_codecs::sparse_int8::SparseInt8;
use sparse_codecs::svd::Svd;
use sparse_codecs::ulp_bounded::UlpBounded;
use sparse_core::Registry;
use std::sync::Arc;

/// All decoders of this build.
pub fn default_registry() -> Registry {
    let mut registry = Registry::new();
    // Their ids differ, so adding them cannot fail.
    let _ = registry.add(Arc::new(Raw));
    let _ = registry.add(Arc::new(Lossless));
    let _ = registry.add(Arc::new(LowRank));
    // Settings matter to encoders only.
    let _ = registry.add(Arc::new(Sparse::default()));
    let _ = registry.add(Arc::new(Int8::default()));
    let _ = registry.add(Arc::new(SparseInt8::default()));
    let _ = registry.add(Arc::new(Sign::default()));
    let _ = registry.add(Arc::new(UlpBounded::default()));
    let _ = registry.add(Arc::new(Svd::default()));
    registry
}
