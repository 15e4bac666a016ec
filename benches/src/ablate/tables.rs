//! Size of tables, and the best number of them.

/// Bits of a table per symbol that occurs, and of a look-up entry that names a table.
pub const SYMBOL_BITS: f64 = 5.0;
/// Bits of a table by itself.
pub const TABLE_BITS: f64 = 8.0;

/// Bits of a histogram's symbols under their own table, and of that table.
pub fn table_bits(counts: &[u64]) -> f64 {
    bits_of(counts.iter().copied())
}

fn bits_of(counts: impl Iterator<Item = u64>) -> f64 {
    // The entropy is n log n less the sum of c log c.
    let (mut used, mut total, mut sum) = (0u32, 0u64, 0.0);
    for c in counts.filter(|&c| c > 0) {
        used += 1;
        total += c;
        sum += c as f64 * (c as f64).log2();
    }
    let all = if total == 0 { 0.0 } else { total as f64 * (total as f64).log2() };
    all - sum + SYMBOL_BITS * f64::from(used) + TABLE_BITS
}

/// Bits of two histograms under one table.
fn joint_bits(a: &[u64], b: &[u64]) -> f64 {
    bits_of(a.iter().zip(b).map(|(x, y)| x + y))
}

/// Finds the table after `i` with which merging costs least; returns the cost in bits (negative if
/// it saves) and the table.
fn best_partner(i: usize, tables: &[Vec<u64>], own: &[f64]) -> (f64, usize) {
    (i + 1..tables.len())
        .map(|j| (joint_bits(&tables[i], &tables[j]) - own[i] - own[j], j))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((f64::INFINITY, usize::MAX))
}

/// Merges histograms pair by pair as long as that saves bits. Returns the remaining ones, and all
/// bits: symbols, tables, and a look-up entry for each histogram.
pub fn merged_bits(mut tables: Vec<Vec<u64>>) -> (Vec<Vec<u64>>, f64) {
    let lookup = if tables.len() > 1 { SYMBOL_BITS * tables.len() as f64 } else { 0.0 };
    let mut own: Vec<f64> = tables.iter().map(|t| table_bits(t)).collect();
    let mut best: Vec<(f64, usize)> =
        (0..tables.len()).map(|i| best_partner(i, &tables, &own)).collect();
    while let Some((i, (_, j))) = best
        .iter()
        .copied()
        .enumerate()
        .min_by(|a, b| a.1.0.total_cmp(&b.1.0))
        .filter(|b| b.1.0 < 0.0)
    {
        // The last takes the place of the absorbed one, so that indices stay dense.
        let absorbed = tables.swap_remove(j);
        own.swap_remove(j);
        best.swap_remove(j);
        let last = tables.len();
        tables[i].iter_mut().zip(&absorbed).for_each(|(a, b)| *a += b);
        own[i] = table_bits(&tables[i]);
        for k in 0..tables.len() {
            let stale = k == i || k == j || [i, j, last].contains(&best[k].1);
            if stale {
                best[k] = best_partner(k, &tables, &own);
            } else {
                for n in [i, j] {
                    if n > k && n < tables.len() {
                        let new = joint_bits(&tables[k], &tables[n]) - own[k] - own[n];
                        if new < best[k].0 {
                            best[k] = (new, n);
                        }
                    }
                }
            }
        }
    }
    let bits = lookup + own.iter().sum::<f64>();
    (tables, bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn alike_histograms_meet() {
        let tables: Vec<Vec<u64>> = (0..60)
            .map(|i| if i % 2 == 0 { vec![10_000 + i, 100, 3] } else { vec![5, 90, 10_000 + i] })
            .collect();
        let apart: f64 = tables.iter().map(|t| table_bits(t)).sum();
        let (left, bits) = merged_bits(tables);
        assert_eq!(left.len(), 2);
        assert!(bits < apart);
        assert_eq!(merged_bits(Vec::new()).1, 0.0);
    }

    proptest! {
        #[test]
        fn no_pair_is_left_that_saves(
            tables in prop::collection::vec(prop::collection::vec(0u64..50, 4), 1..20)
        ) {
            let total: u64 = tables.iter().flatten().sum();
            let (left, _) = merged_bits(tables);
            prop_assert_eq!(left.iter().flatten().sum::<u64>(), total);
            for (i, a) in left.iter().enumerate() {
                for b in &left[i + 1..] {
                    let both: Vec<u64> = a.iter().zip(b).map(|(x, y)| x + y).collect();
                    prop_assert!(table_bits(&both) - table_bits(a) - table_bits(b) >= -1e-6);
                }
            }
        }
    }
}
