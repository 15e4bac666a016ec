//! See `sparse_fuzz::dataset_batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::dataset_batch::run(data));
