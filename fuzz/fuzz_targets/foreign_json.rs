//! See `sparse_fuzz::foreign::json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::foreign::json::run(data));
