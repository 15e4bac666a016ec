//! Origins of rows as runs, and their coding.

use super::Origin;
use crate::cm::{Coder, Model, uniform};
use sparse_core::{Error, Result};

/// A run of rows of the derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Rows of the base from `start` on, equal in all columns that are copied.
    Copy {
        /// First row of the base.
        start: u64,
        /// Number of rows.
        len: u64,
    },
    /// Rows of the base from `start` on, with changes.
    Edit {
        /// First row of the base.
        start: u64,
        /// Number of rows.
        len: u64,
    },
    /// Rows without a counterpart in the base.
    New {
        /// Number of rows.
        len: u64,
    },
}

impl Op {
    pub(crate) fn len(self) -> u64 {
        match self {
            Op::Copy { len, .. } | Op::Edit { len, .. } | Op::New { len } => len,
        }
    }

    /// Returns the first row of the base, if there is one.
    pub(crate) fn start(self) -> Option<u64> {
        match self {
            Op::Copy { start, .. } | Op::Edit { start, .. } => Some(start),
            Op::New { .. } => None,
        }
    }

    fn kind(self) -> u64 {
        match self {
            Op::Copy { .. } => 0,
            Op::Edit { .. } => 1,
            Op::New { .. } => 2,
        }
    }
}

/// Joins origins to runs.
pub(crate) fn ops_of(origins: &[Origin]) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    for &origin in origins {
        let next = match origin {
            Origin::Copy(start) => Op::Copy { start, len: 1 },
            Origin::Edit(start) => Op::Edit { start, len: 1 },
            Origin::New => Op::New { len: 1 },
        };
        match (ops.last_mut(), next) {
            (Some(Op::Copy { start, len }), Op::Copy { start: s, .. }) if *start + *len == s => {
                *len += 1
            }
            (Some(Op::Edit { start, len }), Op::Edit { start: s, .. }) if *start + *len == s => {
                *len += 1
            }
            (Some(Op::New { len }), Op::New { .. }) => *len += 1,
            _ => ops.push(next),
        }
    }
    ops
}

/// Rows of the base that were not referred to yet. A permutation costs no more than its entropy,
/// because each row is one of those that are left.
struct Unused {
    /// Fenwick tree over the numbers of rows that are left.
    tree: Vec<u32>,
    used: Vec<bool>,
    left: u64,
}

/// Rows of the base above which rows are addressed by plain numbers.
const UNUSED_LIMIT: u64 = 1 << 20;

impl Unused {
    fn new(rows: u64) -> Unused {
        let n = rows as usize;
        let tree = (0..=n as u32).map(|i| i & i.wrapping_neg()).collect();
        Unused { tree, used: vec![false; n], left: rows }
    }

    fn take(&mut self, row: u64) {
        let Some(used) = self.used.get_mut(row as usize).filter(|u| !**u) else { return };
        *used = true;
        self.left -= 1;
        let mut i = row as usize + 1;
        while let Some(t) = self.tree.get_mut(i) {
            *t -= 1;
            i += i & i.wrapping_neg();
        }
    }

    /// Returns the number of rows before `row` that are left.
    fn rank(&self, row: u64) -> u64 {
        let (mut i, mut sum) = (row as usize, 0);
        while i > 0 {
            sum += u64::from(self.tree.get(i).copied().unwrap_or(0));
            i -= i & i.wrapping_neg();
        }
        sum
    }

    /// Returns the row that has `rank` rows before it that are left.
    fn row(&self, mut rank: u64) -> u64 {
        let mut at = 0usize;
        let mut step = self.used.len().next_power_of_two();
        while step > 0 {
            if let Some(&t) = self.tree.get(at + step)
                && u64::from(t) <= rank
            {
                rank -= u64::from(t);
                at += step;
            }
            step >>= 1;
        }
        at as u64
    }
}

/// Codes the runs of `rows` rows, which refer to a base of `base_rows` rows. A decoder ignores
/// `ops`.
///
/// # Errors
/// `Corrupt` when decoded runs reach past the base or are too long.
pub(crate) fn code_ops<C: Coder>(
    model: &mut Model,
    coder: &mut C,
    rows: u64,
    base_rows: u64,
    ops: &[Op],
) -> Result<Vec<Op>> {
    let mut out = Vec::new();
    let mut input = ops.iter().copied();
    let mut done = 0;
    let (mut kinds, mut expected) = (0u64, 0u64);
    let (mut last_len, mut last_gap) = ([0u64; 3], 0u64);
    // The tree is not worth it if few rows are referred to by number.
    let jumps = ops.iter().filter(|o| o.start().is_some()).count() as u64;
    let ranked = model.flag(coder, 20, &[0], base_rows <= UNUSED_LIMIT && jumps > 64);
    let mut unused = (ranked && base_rows <= UNUSED_LIMIT).then(|| Unused::new(base_rows));
    while done < rows {
        let op = input.next().unwrap_or(Op::New { len: 1 });
        let kind = op.kind();
        let c = [kinds & 15, kinds & 255, 0];
        let kind = if model.flag(coder, 21, &c, kind == 0) {
            0
        } else {
            1 + u64::from(model.flag(coder, 22, &c, kind == 2))
        };
        let mut start = 0;
        if kind < 2 {
            let c = [kinds & 3, kinds & 15, last_gap.min(63)];
            start = jump(
                model,
                coder,
                &c,
                expected,
                base_rows,
                op.start().unwrap_or(0),
                unused.as_mut(),
            )?;
            last_gap = 64 - start.wrapping_sub(expected).leading_zeros() as u64;
        }
        let index = kind as usize;
        let size = u64::from(64 - last_len[index].leading_zeros());
        let len = model
            .uint(coder, 24 + 2 * kind, &[size, kinds & 15], op.len().wrapping_sub(1))
            .wrapping_add(1);
        last_len[index] = len;
        let end = start.checked_add(len).filter(|&e| kind == 2 || e <= base_rows);
        done = match (end, done.checked_add(len).filter(|&d| d <= rows && len > 0)) {
            (Some(_), Some(d)) => d,
            _ => return Err(Error::corrupt("a run of rows reaches past its table")),
        };
        if let Some(unused) = unused.as_mut().filter(|_| kind < 2) {
            (start..start + len).for_each(|r| unused.take(r));
        }
        if kind < 2 {
            expected = start + len;
        }
        kinds = kinds << 2 | kind;
        if C::DECODES {
            out.push(match kind {
                0 => Op::Copy { start, len },
                1 => Op::Edit { start, len },
                _ => Op::New { len },
            });
        }
    }
    Ok(out)
}

/// Codes the first row of a run: where the last one ended, near that, or anywhere.
fn jump<C: Coder>(
    model: &mut Model,
    coder: &mut C,
    c: &[u64; 3],
    expected: u64,
    base_rows: u64,
    start: u64,
    unused: Option<&mut Unused>,
) -> Result<u64> {
    if model.flag(coder, 30, c, start == expected) {
        return Ok(expected);
    }
    let distance = start.abs_diff(expected);
    let bits = |n: u64| 64 - n.leading_zeros();
    let near = bits(distance) + 4 < bits(base_rows) || (distance < 8);
    if model.flag(coder, 31, c, near) {
        let forward = model.flag(coder, 32, c, start > expected);
        let distance = model
            .uint(coder, 33, &[u64::from(forward), c[2]], distance.wrapping_sub(1))
            .wrapping_add(1);
        let start =
            if forward { expected.checked_add(distance) } else { expected.checked_sub(distance) };
        return start
            .filter(|&s| s < base_rows)
            .ok_or_else(|| Error::corrupt("a run of rows reaches past the base"));
    }
    if let Some(unused) = unused {
        let fresh = !unused.used.get(start as usize).copied().unwrap_or(true);
        if model.flag(coder, 35, &[0], fresh && unused.left > 0) {
            return match unused.left {
                0 => Err(Error::corrupt("no unused row of the base is left")),
                left => Ok(unused.row(uniform(coder, unused.rank(start), left))),
            };
        }
    }
    match base_rows {
        0 => Err(Error::corrupt("a row refers to an empty base")),
        n => Ok(uniform(coder, start, n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cm::{Decoder, Encoder};
    use proptest::prelude::*;

    fn round_trip(origins: &[Origin], base_rows: u64) -> usize {
        let ops = ops_of(origins);
        let mut e = Encoder::new();
        let rows = origins.len() as u64;
        code_ops(&mut Model::new(16), &mut e, rows, base_rows, &ops).unwrap();
        let bytes = e.finish();
        let mut d = Decoder::new(&bytes);
        let back = code_ops(&mut Model::new(16), &mut d, rows, base_rows, &[]).unwrap();
        assert_eq!(back, ops);
        bytes.len()
    }

    proptest! {
        #[test]
        fn any_origins(origins in prop::collection::vec((0u8..3, 0u64..50), 0..300)) {
            let origins: Vec<Origin> = origins.into_iter().map(|(k, r)| match k {
                0 => Origin::Copy(r),
                1 => Origin::Edit(r),
                _ => Origin::New,
            }).collect();
            round_trip(&origins, 50);
        }

        #[test]
        fn garbage(bytes: Vec<u8>, rows in 0u64..5000, base_rows in 0u64..5000) {
            if let Ok(ops) = code_ops(&mut Model::new(12), &mut Decoder::new(&bytes), rows,
                base_rows, &[]) {
                prop_assert_eq!(ops.iter().map(|o| o.len()).sum::<u64>(), rows);
            }
        }
    }

    #[test]
    fn identity_costs_next_to_nothing() {
        let origins: Vec<Origin> = (0..100_000).map(Origin::Copy).collect();
        assert!(round_trip(&origins, 100_000) < 12);
    }

    #[test]
    fn a_shuffle_costs_its_entropy() {
        let mut rows: Vec<u64> = (0..8192).collect();
        let mut x = 1u64;
        for i in (1..rows.len()).rev() {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            rows.swap(i, (x >> 33) as usize % (i + 1));
        }
        let origins: Vec<Origin> = rows.into_iter().map(Origin::Copy).collect();
        // log2(8192!) is 94,681 bits.
        let bytes = round_trip(&origins, 8192);
        assert!(bytes < 12_300, "{bytes}");
    }
}
