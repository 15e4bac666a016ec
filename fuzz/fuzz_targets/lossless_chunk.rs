//! See `sparse_fuzz::lossless_chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::lossless_chunk::run(data));
