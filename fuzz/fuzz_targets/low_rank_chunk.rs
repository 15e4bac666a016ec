//! See `sparse_fuzz::low_rank_chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::low_rank_chunk::run(data));
