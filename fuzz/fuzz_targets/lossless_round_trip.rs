//! See `sparse_fuzz::lossless_round_trip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::lossless_round_trip::run(data));
