//! Decoding a good row group by the plan that an input is: how columns follow from the base.

use crate::Seed;
use crate::datasets::row_groups;

/// Decode each row group of the example.
pub fn run(data: &[u8]) {
    let groups = row_groups();
    for group in groups.all() {
        if let Ok((rows, bytes)) = groups.decode_with(data, &group) {
            assert_eq!(rows, group.rows);
            assert!(bytes <= group.allowance + groups.base_bytes(), "{bytes}");
        }
    }
}

/// The plans of the example.
pub fn seeds() -> Vec<Seed> {
    let mut plans: Vec<Vec<u8>> = row_groups().all().into_iter().map(|g| g.plan).collect();
    plans.dedup();
    plans.into_iter().enumerate().map(|(i, plan)| (format!("plan-{i}"), plan)).collect()
}
