//! See `sparse_fuzz::routing_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::routing_files::run(data));
