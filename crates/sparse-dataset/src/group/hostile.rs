//! Row groups and manifests that nobody wrote: an error or other rows, never a panic, never more
//! than was allowed.

use super::example::{Case, Cases, KINDS};
use super::{GroupCoder, Learned, Tries};
use crate::details::StoredDetails;
use crate::manifest::{BaseRecord, FileRows, Manifest, SplitRecord};
use crate::plan::Plan;
use crate::template::Templates;
use crate::wire::Input;
use proptest::prelude::*;
use sparse_core::Digest;
use std::sync::{Arc, OnceLock};

fn cases() -> &'static Cases {
    static CASES: OnceLock<Cases> = OnceLock::new();
    CASES.get_or_init(|| Cases::new().unwrap())
}

fn decode(case: &Case, encoded: &[u8], rows: u64, allowance: usize) -> bool {
    let coder = GroupCoder {
        plan: &case.plan,
        base: &cases().base,
        learned: &case.learned,
        tries: Tries::ALL,
    };
    match coder.decode(encoded, rows, allowance) {
        Ok(block) => {
            assert_eq!(block.rows as u64, rows);
            // A run of rows is counted once it is there.
            assert!(
                block.bytes() <= allowance + cases().base.bytes() as usize,
                "{}",
                block.bytes()
            );
            assert!(block.columns.iter().all(|c| c.rows() == block.rows));
            true
        }
        Err(_) => false,
    }
}

fn manifest() -> Vec<u8> {
    use arrow_schema::{DataType, Field, Schema, TimeUnit};
    let list = Field::new("l", DataType::new_list(DataType::Float32, true), true);
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into()));
    let inner = DataType::Struct(vec![Field::new("a", DataType::Utf8View, false), list].into());
    let schema = Schema::new(vec![
        Field::new("text", DataType::LargeUtf8, true),
        Field::new("id", DataType::Int64, false),
        Field::new("nested", inner, true),
        Field::new("time", time, true).with_metadata([("k".to_owned(), "v".to_owned())].into()),
    ]);
    let kinds = crate::arrow::kinds_of(&schema).unwrap();
    let mut plan = cases().cases[0].plan.clone();
    plan.kinds = kinds.clone();
    let file = |path: String| FileRows { path, format: crate::Format::Parquet, rows: 45 };
    let split = |name: &str| SplitRecord {
        name: name.into(),
        schema: Arc::new(schema.clone()),
        plan: plan.clone(),
        groups: vec![60, 30],
        files: vec![file(format!("{name}-0.parquet")), file(format!("more/{name}-1.parquet"))],
    };
    let base = BaseRecord {
        rows: 80,
        columns: Digest([1; 16]),
        fingerprint: Digest([2; 16]),
        kinds: KINDS.to_vec(),
    };
    Manifest {
        base,
        splits: vec![split("train"), split("test")],
        single: false,
        exact: Vec::new(),
        all_exact: false,
        details: StoredDetails::None,
        old_json: false,
        templates: true,
        recent: false,
    }
    .write()
    .unwrap()
}

fn mutated(bytes: &[u8], changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for &(at, value) in changes {
        let at = at % out.len();
        out[at] ^= value;
    }
    // One in four is cut short.
    if cut.is_multiple_of(4) {
        out.truncate(cut / 4 % (out.len() + 1));
    }
    out
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((any::<usize>(), 1u8..), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn damaged_row_groups(case in 0usize..100, changes in changes(), cut: usize) {
        let case = &cases().cases[case % cases().cases.len()];
        decode(case, &mutated(&case.encoded, &changes, cut), case.rows, case.allowance);
    }

    #[test]
    fn row_groups_of_random_bytes(case in 0usize..100, layout in 0u8..4, bytes: Vec<u8>,
        rows in 0u64..2000, allowance in 0usize..100_000) {
        let case = &cases().cases[case % cases().cases.len()];
        let mut encoded = vec![layout];
        encoded.extend(bytes);
        decode(case, &encoded, rows, allowance);
    }

    /// Decodes random bytes: what Zstandard unpacks to is not trusted either.
    #[test]
    fn streams_of_random_bytes(bytes: Vec<u8>,
        streams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..70),
        rows in 0u64..300) {
        let case = cases().cases.iter().find(|c| c.plan.is_plain()).unwrap();
        let mut inside = Vec::new();
        crate::wire::put_uint(&mut inside, streams.len() as u64);
        streams.iter().for_each(|s| crate::wire::put_bytes(&mut inside, s));
        for inside in [inside, bytes] {
            let mut encoded = vec![1];
            crate::wire::put_uint(&mut encoded, inside.len() as u64);
            crate::wire::put_bytes(&mut encoded, &crate::pack::compress(&inside, &case.learned
                .prefix, 1).unwrap());
            decode(case, &encoded, rows, case.allowance);
        }
    }

    #[test]
    fn damaged_manifests(changes in changes(), cut: usize) {
        static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
        let whole = WHOLE.get_or_init(manifest);
        if let Ok(m) = Manifest::read(&mutated(whole, &changes, cut), usize::MAX) {
            // What was read can be written.
            m.write().unwrap();
        }
    }

    #[test]
    fn manifests_of_random_bytes(version in 1u8..5, bytes: Vec<u8>) {
        let _ = Manifest::read(&[vec![version], bytes].concat(), usize::MAX);
    }

    #[test]
    fn plans_of_random_bytes(bytes: Vec<u8>, bits in 12u8..23, order in Just([0u8, 1, 2, 3])
        .prop_shuffle()) {
        // Mostly with a beginning that is let through.
        for head in [vec![], [vec![bits, 2, 3], order.to_vec()].concat()] {
            let all = [head, bytes.clone()].concat();
            let Ok(plan) = Plan::read(&mut Input(&all), KINDS.to_vec(), (&KINDS.into(),
                cases().base.rows()), Templates::default()) else { continue };
            // A plan that is let through codes nothing wrong, whatever it says.
            let Ok(learned) = Learned::new(&plan, &cases().base) else { continue };
            let other = &cases().cases[0];
            let (encoded, predictions, allowance) = (Vec::new(), None, other.allowance);
            let case = Case { plan, learned, encoded, predictions, rows: 24, allowance };
            decode(&case, &other.encoded, 24, other.allowance);
        }
    }
}
