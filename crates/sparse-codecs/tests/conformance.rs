//! Every codec passes the conformance suite.

#[cfg(feature = "lossless")]
#[test]
fn lossless() {
    sparse_core::conformance::run(&sparse_codecs::lossless::Lossless);
}
