//! See `sparse_fuzz::dataset_manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::dataset_manifest::run(data));
