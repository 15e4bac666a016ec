//! See `sparse_fuzz::foreign::parquet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::foreign::parquet::run(data));
