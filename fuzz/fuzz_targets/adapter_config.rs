//! See `sparse_fuzz::adapter_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::adapter_config::run(data));
