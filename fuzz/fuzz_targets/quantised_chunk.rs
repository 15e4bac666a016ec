//! See `sparse_fuzz::quantised_chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::quantised_chunk::run(data));
