//! See `sparse_fuzz::svd_chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::svd_chunk::run(data));
