//! See `sparse_fuzz::foreign::csv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::foreign::csv::run(data));
