use super::state::{Fit, fit};
use super::*;
use crate::testing::{Memory, T, memory, t, u8s};
use proptest::prelude::*;
use sparse_core::{Dtype, ErrorKind, TensorSpec};
use std::sync::atomic::Ordering;

/// Returns numbers that look like weights.
///
/// From a small generator: about normal, of standard deviation 0.02.
fn weights(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| ((0..6).map(|_| next()).sum::<f32>() - 3.0) * 0.028).collect()
}

fn bf16(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| ((v.to_bits() + 0x8000) >> 16).to_le_bytes()[..2].to_vec()).collect()
}

/// Returns a fine-tune of `weights(seed)`.
fn tuned(seed: u64, n: usize) -> Vec<f32> {
    weights(seed, n).iter().zip(weights(seed + 1000, n)).map(|(w, d)| w + 0.02 * d).collect()
}

fn w(name: &str, shape: &[u64], values: &[f32]) -> T {
    t(name, Dtype::Bf16, shape, bf16(values))
}

fn found(base: &Memory, target: &Memory) -> Vec<(String, Counterpart)> {
    let matches = match_tensors(base, target, &CancelToken::new()).unwrap();
    let names = target.tensors().iter().map(|e| e.name.clone());
    names.zip(matches.into_iter().map(|m| m.counterpart)).collect()
}

fn renamed(base: usize, evidence: RenameEvidence) -> Counterpart {
    Counterpart::Renamed { base, evidence }
}

#[test]
fn by_name() {
    let zeros = |name: &str, dtype, shape: &[u64], len| t(name, dtype, shape, vec![0; len]);
    let base = memory(vec![
        zeros("cast", Dtype::F32, &[2, 3], 24),
        zeros("grown", Dtype::Bf16, &[2, 3], 12),
        zeros("grown.bias", Dtype::Bf16, &[2], 4),
        zeros("packed", Dtype::F4, &[1, 2], 1),
        zeros("quantised", Dtype::F32, &[2, 3], 24),
        zeros("reshaped", Dtype::Bf16, &[2, 3], 12),
        zeros("same", Dtype::I64, &[2], 16),
        zeros("scalar", Dtype::F32, &[], 4),
        zeros("shrunk", Dtype::F32, &[5, 3], 60),
    ]);
    let target = memory(vec![
        zeros("cast", Dtype::F16, &[2, 3], 12),
        zeros("grown", Dtype::Bf16, &[4, 3], 24),
        zeros("grown.bias", Dtype::Bf16, &[4], 8),
        zeros("packed", Dtype::F4, &[3, 2], 3),
        zeros("quantised", Dtype::I8, &[2, 3], 6),
        zeros("reshaped", Dtype::Bf16, &[3, 2], 12),
        zeros("same", Dtype::I64, &[2], 16),
        zeros("scalar", Dtype::F32, &[], 4),
        zeros("shrunk", Dtype::Bf16, &[0, 3], 0),
    ]);
    let counterparts: Vec<_> = found(&base, &target).into_iter().map(|(_, c)| c).collect();
    use Counterpart::{None, Rows, Same};
    let want = [
        Same { base: 0 },
        Rows { base: 1, rows: 2 },
        Rows { base: 2, rows: 2 },
        Rows { base: 3, rows: 1 },
        None,
        None,
        Same { base: 6 },
        Same { base: 7 },
        None,
    ];
    assert_eq!(counterparts, want);
}

#[test]
fn names_that_agree_cost_no_reading() {
    let list = |seed| -> Vec<T> {
        let sized = |i: u64| tuned(seed + i, 10_000 + 100 * i as usize);
        (0..4).map(|i| w(&format!("w{i}"), &[100, 100 + i], &sized(i))).collect()
    };
    let (base, target) = (memory(list(1)), memory(list(9)));
    assert!(found(&base, &target).iter().all(|(_, c)| matches!(c, Counterpart::Same { .. })));
    assert_eq!(base.read.load(Ordering::Relaxed) + target.read.load(Ordering::Relaxed), 0);
}

#[test]
fn by_content() {
    let n = 100_000;
    let base = memory(vec![
        w("a.weight", &[n as u64], &weights(1, n)),
        w("b.weight", &[n as u64], &weights(2, n)),
        u8s("ones.a.norm", &[1; 40]),
        u8s("ones.b.norm", &[1; 40]),
    ]);
    let target = memory(vec![
        w("neu", &[n as u64], &weights(2, n)),
        u8s("x.b.norm", &[1; 40]),
        u8s("other", &[2; 40]),
    ]);
    assert_eq!(
        found(&base, &target),
        [
            ("neu".into(), renamed(1, RenameEvidence::Content)),
            ("other".into(), Counterpart::None),
            ("x.b.norm".into(), renamed(3, RenameEvidence::Content)),
        ]
    );
    // Samples, not everything: two bases and one target of 64 KiB, and what is small.
    assert!(base.read.load(Ordering::Relaxed) <= 2 * 65_536 * 2);
    assert!(target.read.load(Ordering::Relaxed) <= 65_536 * 2);
}

#[test]
fn by_prefix() {
    // Unrelated contents: only the names can tell.
    let layers = |prefix: &str, seed: u64, rows: u64| {
        let mut list: Vec<T> = (0..6)
            .map(|i| w(&format!("{prefix}layer.{i}.weight"), &[10, 10], &weights(seed + i, 100)))
            .collect();
        list.push(w(
            &format!("{prefix}embed"),
            &[rows, 10],
            &weights(seed + 50, 10 * rows as usize),
        ));
        list
    };
    for (from, to) in
        [("", "bert."), ("bert.", ""), ("model.", "language_model.model."), ("a.", "b/m.st:")]
    {
        let base = memory(layers(from, 1, 20));
        let mut list = layers(to, 100, 23);
        list.push(w("head.weight", &[3, 10], &weights(7, 30)));
        let target = memory(list);
        for (name, counterpart) in found(&base, &target) {
            let other = counterpart.base().map(|b| base.tensors()[b].name.clone());
            let want = name
                .strip_prefix(to)
                .filter(|_| name != "head.weight")
                .map(|n| format!("{from}{n}"));
            assert_eq!(other, want, "{name}");
            match counterpart {
                Counterpart::Rows { rows, .. } => {
                    assert_eq!((name, rows), (format!("{to}embed"), 20))
                }
                Counterpart::Renamed { evidence, .. } => {
                    assert_eq!(evidence, RenameEvidence::Prefix)
                }
                Counterpart::None => assert_eq!(name, "head.weight"),
                Counterpart::Same { .. } => panic!("{name}"),
            }
        }
    }
}

#[test]
fn layers_that_are_new_are_not_a_rule() {
    let layers = |range: std::ops::Range<u64>, seed: u64| -> Vec<T> {
        range.map(|i| w(&format!("layer.{i}.weight"), &[10, 10], &weights(seed + i, 100))).collect()
    };
    let (base, target) = (memory(layers(0..4, 1)), memory(layers(0..8, 100)));
    let new = found(&base, &target).into_iter().filter(|(_, c)| *c == Counterpart::None).count();
    assert_eq!(new, 4);
}

#[test]
fn by_similarity() {
    let n = 20_000;
    let shape = [n as u64];
    let base = memory((0..8).map(|i| w(&format!("old{i}"), &shape, &weights(i, n))).collect());
    let mut list: Vec<T> =
        (0..6).map(|i| w(&format!("new{}", 7 - i), &shape, &tuned(i, n))).collect();
    list.push(w("stranger", &shape, &weights(77, n)));
    // A layer that was duplicated and then trained: its base is used already.
    list.push(w("copy", &shape, &tuned(3, n).iter().map(|w| w * 1.001).collect::<Vec<_>>()));
    list.push(w("small", &[4], &weights(5, 4)));
    let target = memory(list);
    for (name, counterpart) in found(&base, &target) {
        let want = match name.as_str() {
            "stranger" | "small" => Counterpart::None,
            "copy" => renamed(3, RenameEvidence::Similarity),
            new => renamed(7 - new[3..].parse::<usize>().unwrap(), RenameEvidence::Similarity),
        };
        assert_eq!(counterpart, want, "{name}");
    }
}

#[test]
fn values_alike_are_no_evidence() {
    // All in one binade with few mantissas: agreement by chance is high, kappa is not.
    let norms = |seed| weights(seed, 1000).iter().map(|w| 1.0 + w.abs()).collect::<Vec<_>>();
    let base = memory((0..3).map(|i| w(&format!("old{i}"), &[1000], &norms(i))).collect());
    let target = memory((0..3).map(|i| w(&format!("new{i}"), &[1000], &norms(50 + i))).collect());
    assert!(found(&base, &target).iter().all(|(_, c)| *c == Counterpart::None));
}

#[test]
fn tied_tensors() {
    let n = 200_000;
    let mut almost = weights(1, n);
    almost[2_000] += 1.0; // Between two windows of the sample.
    let target = memory(vec![
        w("a", &[n as u64], &weights(1, n)),
        w("b", &[n as u64], &almost),
        w("c", &[n as u64], &weights(1, n)),
        w("d", &[2, n as u64 / 2], &weights(1, n)),
        w("e", &[n as u64], &almost),
        u8s("f", b""),
        u8s("g", b""),
        t("h", Dtype::U8, &[2], [1, 1]),
        t("i", Dtype::I8, &[2], [1, 1]),
        t("j", Dtype::I8, &[2], [1, 1]),
    ]);
    let tied: Vec<_> = match_tensors(&memory(vec![]), &target, &CancelToken::new())
        .unwrap()
        .iter()
        .map(|m| m.tied)
        .collect();
    assert_eq!(tied, [None, None, Some(0), None, Some(1), None, None, None, None, Some(8)]);
}

#[test]
fn cancelling() {
    let cancel = CancelToken::new();
    cancel.cancel();
    let source = memory(vec![u8s("a", b"x"), u8s("b", b"x")]);
    assert_eq!(match_tensors(&source, &source, &cancel).unwrap_err().kind(), ErrorKind::Cancelled);
}

proptest! {
    /// Checks that indices are in range and that counterparts fit.
    #[test]
    fn matches_are_sound(
        base in models(),
        target in models(),
    ) {
        let (base, target) = (memory(base), memory(target));
        let matches = match_tensors(&base, &target, &CancelToken::new()).unwrap();
        prop_assert_eq!(matches.len(), target.tensors().len());
        for (i, (m, entry)) in matches.iter().zip(target.tensors()).enumerate() {
            if let Some(b) = m.counterpart.base() {
                let fits = fit(&base.tensors()[b].spec, &entry.spec);
                let want = match m.counterpart {
                    Counterpart::Rows { rows, .. } => Fit::Rows(rows),
                    _ => Fit::Whole,
                };
                prop_assert_eq!(fits, Some(want));
            }
            if let Some(first) = m.tied {
                prop_assert!(first < i && target.tensors()[first].spec == entry.spec);
                prop_assert_eq!(target.bytes(first).unwrap(), target.bytes(i).unwrap());
            }
        }
    }
}

fn models() -> impl Strategy<Value = Vec<T>> {
    let tensor = ("([ab][.]){0,3}[ab]", 0usize..4, prop::collection::vec(0u64..4, 0..3), 0u8..3);
    prop::collection::vec(tensor, 0..10).prop_map(|list| {
        let mut list: Vec<T> = list
            .into_iter()
            .map(|(name, dtype, mut shape, value)| {
                let dtype = [Dtype::Bf16, Dtype::F32, Dtype::U8, Dtype::F4][dtype];
                shape.push(2);
                let len = TensorSpec::new(dtype, shape.clone()).unwrap().byte_len();
                t(&name, dtype, &shape, vec![value; len as usize])
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.dedup_by(|a, b| a.name == b.name);
        list
    })
}

#[test]
fn every_step_can_be_cancelled() {
    let (base, target) = (memory(vec![u8s("a.x", &[1; 64])]), memory(vec![u8s("b.x", &[2; 64])]));
    let cancelled = CancelToken::new();
    let mut matching = Matching::by_name(&base, &target);
    content::match_by_content(&mut matching, &cancelled).unwrap();
    prefix::match_by_prefix(&mut matching, &cancelled).unwrap();
    similar::match_by_similarity(&mut matching, &cancelled).unwrap();
    cancelled.cancel();
    let mut matching = Matching::by_name(&base, &target);
    let kind = |r: Result<()>| r.unwrap_err().kind();
    assert_eq!(kind(content::match_by_content(&mut matching, &cancelled)), ErrorKind::Cancelled);
    assert_eq!(kind(prefix::match_by_prefix(&mut matching, &cancelled)), ErrorKind::Cancelled);
    assert_eq!(kind(similar::match_by_similarity(&mut matching, &cancelled)), ErrorKind::Cancelled);
}
