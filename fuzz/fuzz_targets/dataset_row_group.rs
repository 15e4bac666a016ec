//! See `sparse_fuzz::dataset_row_group`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::dataset_row_group::run(data));
