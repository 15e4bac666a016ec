//! See `sparse_fuzz::remote_names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::remote_names::run(data));
