//! See `sparse_fuzz::entropy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::entropy::run(data));
