//! See `sparse_fuzz::packed_tensor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::packed_tensor::run(data));
