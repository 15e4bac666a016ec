//! Rows that are equal to one of the base.

/// Stands for no row.
const NONE: u64 = u64::MAX;

/// Memory of one entry while a part of the base's rows is looked up, in bytes.
const ENTRY: usize = 16;

/// For each row of the derivative, by the hash of its cells, a row of the base with the same hash.
///
/// Where there are several, the successor of the row before is preferred, so that runs stay long; then the predecessor
/// of the row after. Equal hashes are believed to be equal rows here: the caller compares the cells.
///
/// Rows are looked up part by part of the hash space, so that no more than `budget` bytes are taken beyond the input
/// and the result.
pub(crate) fn match_exact(base: &[u64], derivative: &[u64], budget: usize) -> Vec<Option<u64>> {
    let parts = (base.len().saturating_mul(ENTRY)).div_ceil(budget.max(1 << 20)).max(1).next_power_of_two();
    let bits = parts.trailing_zeros();
    let part_of = |h: u64| if bits == 0 { 0 } else { (h >> (64 - bits)) as usize };
    let mut found = vec![NONE; derivative.len()];
    for part in 0..parts {
        let mut rows: Vec<(u64, u64)> =
            base.iter().zip(0..).filter(|&(&h, _)| part_of(h) == part).map(|(&h, r)| (h, r)).collect();
        rows.sort_unstable();
        rows.dedup_by_key(|r| r.0);
        let table = Table::new(&rows, bits);
        for (&h, found) in derivative.iter().zip(&mut found) {
            if part_of(h) == part {
                *found = table.find(h).unwrap_or(NONE);
            }
        }
    }
    let hash = |r: u64| base.get(r as usize).copied();
    let mut before = NONE;
    for (&h, found) in derivative.iter().zip(&mut found) {
        if *found != NONE {
            let next = before.wrapping_add(1);
            if before != NONE && hash(next) == Some(h) {
                *found = next;
            }
            before = *found;
        }
    }
    for i in (1..derivative.len()).rev() {
        let (after, here) = (found[i], found[i - 1]);
        let wanted = after.wrapping_sub(1);
        if after == NONE || here == NONE || here == wanted || hash(wanted) != Some(derivative[i - 1]) {
            continue;
        }
        // Not at the price of a run that is there already.
        let runs_on = i >= 2 && found[i - 2] != NONE && found[i - 2].wrapping_add(1) == here;
        if !runs_on {
            found[i - 1] = wanted;
        }
    }
    found.into_iter().map(|f| (f != NONE).then_some(f)).collect()
}

/// Sorted (hash, row), and where each range of hashes begins, so that a look-up touches few places.
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

    #[test]
    fn runs_stay_long() {
        // 7 occurs three times; its neighbours say which one is meant.
        let base = [7, 1, 2, 7, 3, 7, 4];
        let found = match_exact(&base, &[2, 7, 3, 7, 4, 9, 7, 4], 1 << 20);
        assert_eq!(found, [Some(2), Some(3), Some(4), Some(5), Some(6), None, Some(5), Some(6)]);
    }

    proptest! {
        #[test]
        fn finds_all(base in prop::collection::vec(0u64..40, 0..100), derivative in prop::collection::vec(0u64..50, 0..100)) {
            let spread = |v: &[u64]| v.iter().map(|x| x.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect::<Vec<_>>();
            let (base, derivative) = (spread(&base), spread(&derivative));
            let found = match_exact(&base, &derivative, 64);
            for (h, f) in derivative.iter().zip(found) {
                match f {
                    Some(r) => prop_assert_eq!(base[r as usize], *h),
                    None => prop_assert!(!base.contains(h)),
                }
            }
        }
    }
}
