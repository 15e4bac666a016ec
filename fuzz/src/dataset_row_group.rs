//! Decoding row groups that are garbage, by good plans.
//!
//! An input is the number of a plan, the number of rows, what they may take in 256 bytes, and the
//! row group.

use crate::Seed;
use crate::datasets::row_groups;
use crate::input::Input;

/// Decode. Whatever comes out has the rows, and takes no more than it may.
pub fn run(data: &[u8]) {
    let groups = row_groups();
    let mut input = Input(data);
    let case = usize::from(input.byte());
    let (rows, allowance) = (u64::from(input.u16()) % 3000, 256 * usize::from(input.byte()));
    if let Ok((found, bytes)) = groups.decode(case, input.0, rows, allowance) {
        assert_eq!(found, rows);
        // A run of rows is counted once it is there.
        assert!(bytes <= allowance + groups.base_bytes(), "{bytes} of {allowance}");
    }
}

/// The row groups of the example, in all layouts.
pub fn seeds() -> Vec<Seed> {
    let all = row_groups().all().into_iter().enumerate();
    let of = |(i, group): (usize, sparse_dataset::fuzzing::RowGroup)| {
        let mut seed = vec![i as u8];
        seed.extend((group.rows as u16).to_le_bytes());
        seed.push(group.allowance.div_ceil(256) as u8);
        seed.extend(group.encoded);
        (format!("group-{i}"), seed)
    };
    all.map(of).collect()
}
