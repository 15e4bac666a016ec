//! The schemes of all codecs of a build, for a selector.

use sparse_select::Scheme;
use std::sync::Arc;

/// Returns the schemes of the codecs of this build.
///
/// In the order in which a selector should try them.
///
/// # Examples
/// ```
/// let names: Vec<String> =
///     sparse_codecs::schemes().iter().map(|s| s.name().to_owned()).collect();
/// assert_eq!(names[0], "lossless");
/// ```
pub fn schemes() -> Vec<Arc<dyn Scheme>> {
    vec![
        #[cfg(feature = "lossless")]
        Arc::new(crate::lossless::LosslessScheme),
        #[cfg(feature = "low-rank-encode")]
        Arc::new(crate::low_rank::LowRankScheme),
        #[cfg(feature = "sparse-int8")]
        Arc::new(crate::sparse_int8::SparseInt8Scheme),
        #[cfg(feature = "sparse-int8")]
        Arc::new(crate::sparse_int8::SparseInt8AbsoluteScheme),
        #[cfg(feature = "sparse")]
        Arc::new(crate::sparse::SparseScheme),
        #[cfg(feature = "int8")]
        Arc::new(crate::int8::Int8Scheme),
        #[cfg(feature = "sign")]
        Arc::new(crate::sign::SignScheme),
        #[cfg(feature = "ulp-bounded")]
        Arc::new(crate::ulp_bounded::UlpBoundedScheme),
        #[cfg(feature = "svd-encode")]
        Arc::new(crate::svd::SvdScheme),
        #[cfg(feature = "svd-encode")]
        Arc::new(crate::svd::LayeredScheme),
    ]
}
