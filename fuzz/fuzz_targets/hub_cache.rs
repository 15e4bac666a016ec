//! See `sparse_fuzz::hub_cache`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::hub_cache::run(data));
