//! See `sparse_fuzz::foreign::arrow`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::foreign::arrow::run(data));
