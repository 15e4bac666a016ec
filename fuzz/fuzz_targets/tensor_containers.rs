//! See `sparse_fuzz::tensor_containers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::tensor_containers::run(data));
