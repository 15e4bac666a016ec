//! A small base and row groups coded against it, for tests and fuzz targets.

use super::{Encoded, GroupCoder, Learned, Rows, Tried, Tries};
use crate::analysis::{Table, Tuning, analyse};
use crate::cm::Predictions;
use crate::plan::{PLAIN, Plan};
use crate::store::{Spill, Store};
use crate::table::{Block, Digesting, Kind};
use crate::template::Shape;
use sparse_core::{CancelToken, Inline, Result, Workers};

/// Columns of the base, and of the rows.
pub(crate) const KINDS: [Kind; 4] =
    [Kind::Text, Kind::Int { width: 8, signed: true }, Kind::Bytes, Kind::Float { width: 8 }];

/// Rows in a row group.
const ROWS: u64 = 24;

fn spill() -> Spill {
    Spill { budget: 1 << 20, folder: None }
}

/// Returns rows with text, of which some are edited if `edited`.
fn store(rows: std::ops::Range<u64>, edited: bool) -> Result<Store> {
    let mut block = Block::new(KINDS);
    for i in rows {
        let mark = if edited && i % 5 == 0 { "edited" } else { "left" };
        let text = format!("the text of row {i} was {mark} as it is, {}", i * i % 91);
        let float = (i as f64 / 8.0).to_le_bytes();
        let cells = [
            (i % 9 != 4).then_some(text.as_bytes()),
            Some(&(i * 3).to_le_bytes()[..]),
            Some(&[i as u8; 7][..i as usize % 7]),
            (i % 6 != 1).then_some(&float[..]),
        ];
        block.columns.iter_mut().zip(cells).try_for_each(|(c, cell)| c.push(cell))?;
        block.rows += 1;
    }
    let mut store = Store::new(KINDS.to_vec(), spill(), true);
    let hashes = Store::hash(&block);
    store.push(block, hashes)?;
    store.close()?;
    Ok(store)
}

/// A row group under a plan.
pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) learned: Learned,
    pub(crate) encoded: Vec<u8>,
    /// Predictions of the coding, if they were kept.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests prove"))]
    pub(crate) predictions: Option<Predictions>,
    pub(crate) rows: u64,
    pub(crate) allowance: usize,
}

/// A base, and a row group under several plans: modelled, with long values apart, all in streams.
pub(crate) struct Cases {
    pub(crate) base: Store,
    pub(crate) cases: Vec<Case>,
}

impl Cases {
    /// Codes the row group under every plan.
    ///
    /// # Errors
    /// As coding.
    pub(crate) fn new() -> Result<Cases> {
        let (base, derivative) = (store(0..ROWS, false)?, store(8..8 + ROWS, true)?);
        let names: Vec<String> = (0..KINDS.len()).map(|c| format!("column {c}")).collect();
        let tuning = Tuning {
            modelled_bytes: 8 << 20,
            modelled_share: 256,
            prime_bytes: 1 << 20,
            lookup_bytes: 1 << 20,
            key: Vec::new(),
            spill: spill(),
        };
        let shapes = KINDS.map(Shape::Leaf);
        let [b, d] =
            [&base, &derivative].map(|store| Table { names: &names, store, shapes: &shapes });
        let cancel = CancelToken::new();
        let found = analyse(b, d, &tuning, Workers { cancel: &cancel, executor: &Inline })?;
        // Models learn little from the base, so that a case is fast.
        let mut plan = found.plan;
        plan.prime_rows = plan.prime_rows.min(2);
        let (mut bulk, mut plain) = (plan.clone(), plan.clone());
        bulk.columns.iter_mut().take(1).for_each(|c| c.bulk = true);
        plain.bits = PLAIN;
        let mut cases = Vec::new();
        for plan in [plan, bulk, plain] {
            let learned = Learned::new(&plan, &base)?;
            let block = derivative.block(0)?;
            let coder =
                GroupCoder { plan: &plan, base: &base, learned: &learned, tries: Tries::ALL };
            let origins = found.origins.range(0, ROWS)?;
            let rows = Rows::gather(block.clone(), origins, &plan, &base)?;
            let allowance = 2 * Digesting::of(&block).1 as usize + 2000;
            // The layout that is chosen, and all others.
            let mut all = vec![coder.encode(&rows, 12, false, Tried::default())?];
            all.extend(coder.layouts(&rows, 3, true, Tried::default())?);
            for Encoded { bytes: encoded, predictions } in all {
                let (learned, plan) = (Learned::new(&plan, &base)?, plan.clone());
                cases.push(Case { plan, learned, encoded, predictions, rows: ROWS, allowance });
            }
        }
        Ok(Cases { base, cases })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::prove_group;
    use sparse_core::{Digest, Limits};

    #[test]
    fn row_groups_come_back_and_are_proven() {
        let Cases { base, mut cases } = Cases::new().unwrap();
        let derivative = store(8..8 + ROWS, true).unwrap();
        let block = derivative.block(0).unwrap();
        let digest = Digesting::of(&block);
        assert!(cases.iter().any(|case| case.predictions.is_some()));
        for case in &mut cases {
            let coder = GroupCoder {
                plan: &case.plan,
                base: &base,
                learned: &case.learned,
                tries: Tries::ALL,
            };
            let limits = Limits::default();
            let mut predictions = case.predictions.take();
            for _ in 0..2 {
                // With kept predictions, if there are any, and without.
                let mut coded = Encoded { bytes: case.encoded.clone(), predictions };
                prove_group(&coder, &mut coded, &block, digest, &limits).unwrap();
                predictions = None;
            }
            let prove = |bytes: &[u8], digest| {
                let mut coded = Encoded { bytes: bytes.to_vec(), predictions: None };
                prove_group(&coder, &mut coded, &block, digest, &limits)
            };
            // A coder that lies, or forgets.
            assert!(prove(&case.encoded, (Digest([7; 16]), digest.1)).is_err());
            assert!(prove(&case.encoded, (digest.0, digest.1 - 1)).is_err());
            assert!(prove(&case.encoded[..case.encoded.len() / 2], digest).is_err());
            let back = coder.decode(&case.encoded, ROWS, case.allowance).unwrap();
            assert_eq!(Digesting::of(&back), digest);
        }
    }
}
