//! See `sparse_fuzz::dataset_restore`, and `sparse_fuzz::crafted` for the mutator.
#![no_main]

use libfuzzer_sys::fuzzer_mutate;
use sparse_fuzz::crafted::mutate_in_place;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sparse_fuzz::dataset_restore::run(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_in_place(data, size, max_size, seed, fuzzer_mutate)
});
