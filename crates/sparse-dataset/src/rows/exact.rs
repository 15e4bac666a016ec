//! Rows that are equal to one of the base.

use crate::executor::sort;
use crate::numbers::Numbers;
use crate::store::Spill;
use sparse_core::{Executor, Result};

/// Value that means no row.
pub(crate) const NONE: u64 = u64::MAX;

/// Memory of one entry while a part of the base's rows is looked up, in bytes.
const ENTRY: u64 = 16;

/// Finds for each row of the derivative an equal row of the base, by hashes.
///
/// If there are several, it prefers the successor of the row before, so that runs stay long, then
/// the predecessor of the row after. Rows of equal hashes count as equal here: the caller compares
/// the cells.
///
/// Rows are looked up part by part of the hash space, so that no more than `budget` bytes are taken
/// beyond the input and the result.
///
/// # Errors
/// `Io` from temporary files.
pub(crate) fn match_exact(
    (base, derivative): (&Numbers, &Numbers),
    executor: &dyn Executor,
    budget: usize,
    spill: &Spill,
) -> Result<Numbers> {
    let parts = (base.len().saturating_mul(ENTRY))
        .div_ceil(budget.max(1 << 20) as u64)
        .max(1)
        .next_power_of_two();
    let bits = parts.trailing_zeros();
    let part_of = |h: u64| if bits == 0 { 0 } else { h >> (64 - bits) };
    let mut result = Numbers::new(derivative.len(), NONE, spill)?;
    let mut found = result.cursor();
    for part in 0..parts {
        let mut rows: Vec<(u64, u64)> = Vec::new();
        let mut reader = base.reader();
        for row in 0..base.len() {
            let hash = reader.get(row)?;
            if part_of(hash) == part {
                rows.push((hash, row));
            }
        }
        sort(executor, &mut rows);
        rows.dedup_by_key(|r| r.0);
        let table = Table::new(&rows, bits);
        let mut reader = derivative.reader();
        for i in 0..derivative.len() {
            let hash = reader.get(i)?;
            if let Some(row) = (part_of(hash) == part).then(|| table.find(hash)).flatten() {
                found.set(i, row)?;
            }
        }
    }
    let (mut base_hash, mut hash) = (base.reader(), derivative.reader());
    let mut same = |row: u64, hash: u64| -> Result<bool> {
        Ok(row < base.len() && base_hash.get(row)? == hash)
    };
    let mut before = NONE;
    for i in 0..derivative.len() {
        let here = found.get(i)?;
        if here == NONE {
            continue;
        }
        let next = before.wrapping_add(1);
        if before != NONE && here != next && same(next, hash.get(i)?)? {
            found.set(i, next)?;
            before = next;
        } else {
            before = here;
        }
    }
    for i in (1..derivative.len()).rev() {
        let (after, here) = (found.get(i)?, found.get(i - 1)?);
        let wanted = after.wrapping_sub(1);
        if after == NONE || here == NONE || here == wanted || !same(wanted, hash.get(i - 1)?)? {
            continue;
        }
        // But not if that breaks a run.
        let runs_on = i >= 2 && {
            let earlier = found.get(i - 2)?;
            earlier != NONE && earlier.wrapping_add(1) == here
        };
        if !runs_on {
            found.set(i - 1, wanted)?;
        }
    }
    found.finish()?;
    Ok(result)
}

/// Sorted pairs of hash and row, and the start of each range of hashes, so that a look-up touches
/// few places.
struct Table<'a> {
    rows: &'a [(u64, u64)],
    starts: Vec<u32>,
    /// Hash bits above those of the range, which all rows share; and bits of the range.
    skip: u32,
    bits: u32,
}

impl<'a> Table<'a> {
    fn new(rows: &'a [(u64, u64)], skip: u32) -> Table<'a> {
        let bits = (rows.len() / 4).next_power_of_two().trailing_zeros().clamp(1, 24);
        let mut table = Table { rows, starts: vec![0; (1 << bits) + 1], skip, bits };
        for &(h, _) in rows {
            let range = table.range(h);
            table.starts[range + 1] += 1;
        }
        for i in 1..table.starts.len() {
            table.starts[i] += table.starts[i - 1];
        }
        table
    }

    fn range(&self, hash: u64) -> usize {
        ((hash << self.skip) >> (64 - self.bits)) as usize
    }

    fn find(&self, hash: u64) -> Option<u64> {
        let range = self.range(hash);
        let (from, to) = (self.starts[range] as usize, self.starts[range + 1] as usize);
        self.rows.get(from..to)?.iter().find(|r| r.0 == hash).map(|r| r.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sparse_core::Inline;

    fn numbers(list: &[u64], budget: usize) -> Numbers {
        let mut out = Numbers::new(list.len() as u64, 0, &Spill { budget, folder: None }).unwrap();
        let mut cursor = out.cursor();
        list.iter().zip(0..).for_each(|(&n, i)| cursor.set(i, n).unwrap());
        cursor.finish().unwrap();
        out
    }

    fn found(base: &[u64], derivative: &[u64], budget: usize) -> Vec<Option<u64>> {
        let spill = Spill { budget, folder: None };
        let (base, derivative) = (numbers(base, budget), numbers(derivative, budget));
        let out = match_exact((&base, &derivative), &Inline, budget, &spill).unwrap();
        out.range(0, out.len()).unwrap().into_iter().map(|n| (n != NONE).then_some(n)).collect()
    }

    #[test]
    fn runs_stay_long() {
        // 7 occurs three times; its neighbours say which one is meant.
        let base = [7, 1, 2, 7, 3, 7, 4];
        let found = found(&base, &[2, 7, 3, 7, 4, 9, 7, 4], 1 << 20);
        assert_eq!(found, [Some(2), Some(3), Some(4), Some(5), Some(6), None, Some(5), Some(6)]);
    }

    proptest! {
        #[test]
        fn finds_all(base in prop::collection::vec(0u64..40, 0..100),
            derivative in prop::collection::vec(0u64..50, 0..100)) {
            let spread = |v: &[u64]| v.iter().map(|x| x.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .collect::<Vec<_>>();
            let (base, derivative) = (spread(&base), spread(&derivative));
            for (h, f) in derivative.iter().zip(found(&base, &derivative, 64)) {
                match f {
                    Some(r) => prop_assert_eq!(base[r as usize], *h),
                    None => prop_assert!(!base.contains(h)),
                }
            }
        }
    }
}
