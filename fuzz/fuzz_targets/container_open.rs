//! See `sparse_fuzz::container_open`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::container_open::run(data));
