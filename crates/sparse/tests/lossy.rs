//! Policies that let something be lost: bounds, certificates, sizes.

#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::{Bound, Codecs, Compressor, Delta, Limits, Model, Policy, Restorer, Rule, Verifier};
use std::path::{Path, PathBuf};

fn pair_part(pair: &str, part: &str) -> Model {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fixtures", pair, part].iter().collect();
    Model::open(path).unwrap()
}

fn fixture(part: &str) -> Model {
    pair_part("minilm-bf16", part)
}

fn fixed(text: &str) -> Policy {
    Policy::Fixed(text.parse().unwrap())
}

struct Made {
    delta: Delta,
    report: sparse::CompressReport,
}

fn make(policy: Policy) -> Made {
    let (base, target) = (fixture("base"), fixture("finetuned"));
    let (bytes, report) =
        Compressor::new(&target).base(&base).policy(policy).write_to(Vec::new()).unwrap();
    assert_eq!(report.delta_bytes, bytes.len() as u64);
    let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
    Verifier::new(&delta).base(&base).verify().unwrap();
    let found = Verifier::new(&delta).base(&base).quality(&target).unwrap();
    assert!(found.agrees());
    assert_eq!(report.certificate.unwrap().exact, found.total.exact);
    Made { delta, report }
}

fn lossless_bytes() -> u64 {
    let (base, target) = (fixture("base"), fixture("finetuned"));
    Compressor::new(&target).base(&base).write_to(Vec::new()).unwrap().1.delta_bytes
}

#[test]
fn within_an_error() {
    let mut last = lossless_bytes() + 1000;
    for error in [0.02, 0.3] {
        let made = make(Policy::Within(Bound::Relative(error)));
        assert!(made.report.delta_bytes < last, "{error}: {} {last}", made.report.delta_bytes);
        last = made.report.delta_bytes;
        let (base, target) = (fixture("base"), fixture("finetuned"));
        let found = Verifier::new(&made.delta).base(&base).quality(&target).unwrap();
        assert!(found.tensors.iter().all(|t| t.found.relative_error() <= error));
        // By tensor, what was achieved is a share of a unit that many tensors have in common.
        let sum =
            |of: fn(&sparse::ChoiceReport) -> u64| made.report.choices.iter().map(of).sum::<u64>();
        let (estimated, achieved) = (sum(|c| c.estimated_bytes), sum(|c| c.achieved_bytes));
        assert!(
            estimated.abs_diff(achieved) <= achieved / 20 + 1024,
            "{error}: {estimated} {achieved}"
        );
    }
    let exact = make(Policy::Within(Bound::Relative(0.0)));
    assert_eq!(exact.report.certificate.unwrap().max_ulps, 0);
}

/// What the selector expects, and what comes of it, tables included: within 5 %, or half a kilobyte
/// for each type of weights, whose tables are a good part of so little.
#[test]
fn estimates_are_near() {
    const SLACK: u64 = 512;
    for pair in ["minilm-bf16", "minilm-f32", "minilm-narrow"] {
        let (base, target) = (pair_part(pair, "base"), pair_part(pair, "finetuned"));
        for codec in [
            "lossless",
            "int8",
            "sign",
            "sparse=0.2",
            "sparse-int8=0.02",
            "sparse-int8=0.2",
            "sparse-int8=0.5",
            "ulp-bounded=1",
            "ulp-bounded=8",
            "svd=4",
            "layered=4",
        ] {
            let (_, report) = Compressor::new(&target)
                .base(&base)
                .policy(fixed(codec))
                .write_to(std::io::sink())
                .unwrap();
            let sum =
                |of: fn(&sparse::ChoiceReport) -> u64| report.choices.iter().map(of).sum::<u64>();
            let (estimated, achieved) = (sum(|c| c.estimated_bytes), sum(|c| c.achieved_bytes));
            println!(
                "{pair} {codec}: {estimated}, {achieved}, {:+.1} %",
                100.0 * estimated as f64 / achieved as f64 - 100.0
            );
            assert!(
                estimated.abs_diff(achieved) <= achieved / 20 + SLACK,
                "{pair} {codec}: {estimated} {achieved}"
            );
        }
    }
}

#[test]
fn within_bounds_of_each_weight() {
    let made = make(Policy::Within(Bound::Ulps(2)));
    let found = made.report.certificate.unwrap();
    assert!(found.max_ulps <= 2 && found.exact < found.weights, "{found:?}");
    let made = make(Policy::Within(Bound::Absolute(1e-4)));
    let found = made.report.certificate.unwrap();
    assert!(found.max_error <= 1e-4 && found.exact < found.weights, "{found:?}");
    assert!(made.report.delta_bytes < lossless_bytes());
}

#[test]
fn to_a_size() {
    let lossless = lossless_bytes();
    let mut last = 0.0;
    for share in [0.6, 0.4] {
        let wanted = (lossless as f64 * share) as u64;
        let made = make(Policy::TargetSize(wanted));
        let error = made.report.certificate.unwrap().relative_error();
        assert!(made.report.delta_bytes <= wanted);
        assert!(
            made.report.delta_bytes * 100 >= wanted * 85,
            "{} of {wanted}",
            made.report.delta_bytes
        );
        assert!(error > last, "{share} {error} {last}");
        last = error;
    }
    let (base, target) = (fixture("base"), fixture("finetuned"));
    let e =
        Compressor::new(&target).base(&base).policy(Policy::TargetSize(100)).write_to(Vec::new());
    assert_eq!(e.unwrap_err().kind(), sparse::ErrorKind::InvalidArgument);
}

#[test]
fn by_codec_and_by_tensor() {
    // Lossless coding is half as large as `int8` here.
    for codec in ["int8", "sign", "sparse=0.3", "sparse-int8", "ulp-bounded=3", "svd=4"] {
        let made = make(fixed(codec));
        let taken = made.report.choices.iter().filter(|c| c.codec == codec).count();
        let loses = made.report.certificate.unwrap().exact_rate() < 1.0;
        assert_eq!((taken > 0, loses), (codec != "int8", codec != "int8"), "{codec}");
        assert!(made.report.delta_bytes <= lossless_bytes() + 128, "{codec}");
        let said = made.report.notes.iter().any(|n| n.contains("the codec that was asked for"));
        assert_eq!(said, taken < made.report.choices.len(), "{codec}");
    }
    let rule = |pattern: &str, policy| Rule { pattern: pattern.to_owned(), policy };
    let made =
        make(Policy::PerTensor(vec![rule("*bias", fixed("lossless")), rule("*", fixed("sign"))]));
    for c in &made.report.choices {
        // Of the embeddings few rows changed, which `sign` takes more for.
        let matrix = c.tensor.starts_with("encoder") && c.bytes > 1 << 16;
        assert!(c.codec == if matrix { "sign" } else { "lossless" }, "{c:?}");
    }
    let (base, target) = (fixture("base"), fixture("finetuned"));
    for wrong in ["int9", "int8=3", "sparse=1.5", "ulp-bounded=0.5"] {
        let e = Compressor::new(&target)
            .base(&base)
            .policy(fixed(wrong))
            .write_to(Vec::new())
            .unwrap_err();
        assert_eq!(e.kind(), sparse::ErrorKind::InvalidArgument, "{wrong}");
    }
}

#[test]
fn layers_stop_after_the_first_or_bring_back_everything() {
    let (base, target) = (fixture("base"), fixture("finetuned"));
    let made = make(fixed("layered=8"));
    assert!(made.report.choices.iter().any(|c| c.codec == "layered=8"));
    let whole = made.report.certificate.unwrap();
    assert_eq!(whole.exact, whole.weights);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("first");
    Restorer::new(&made.delta).base(&base).layers(1).write(&out).unwrap();
    // What comes of it is what the factors alone say.
    let first = Model::open(&out).unwrap();
    let (bytes, report) = Compressor::new(&target).base(&first).write_to(Vec::new()).unwrap();
    assert!(report.tensors.identical < report.tensors.total && !bytes.is_empty());
    let svd = make(fixed("svd=8"));
    let lossy = dir.path().join("svd");
    Restorer::new(&svd.delta).base(&base).write(&lossy).unwrap();
    let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&out) == weights(&lossy), "one layer is the lossy codec");
    // The base is checked all the same.
    let e = Restorer::new(&made.delta).base(&target).layers(1).write(dir.path().join("x"));
    assert_eq!(e.unwrap_err().kind(), sparse::ErrorKind::BaseMismatch);
}

#[test]
fn on_disk_as_in_memory_and_on_any_number_of_threads() {
    let (base, target) = (fixture("base"), fixture("finetuned"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sparse");
    let policy = || Policy::Within(Bound::Relative(0.1));
    Compressor::new(&target).base(&base).policy(policy()).write(&path).unwrap();
    let (bytes, _) =
        Compressor::new(&target).base(&base).policy(policy()).write_to(Vec::new()).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no scratch file is left");
    // A base that is not the one is told, and nothing is written.
    let delta = Delta::open(&path).unwrap();
    let out = dir.path().join("out");
    let e = Restorer::new(&delta).base(&target).write(&out);
    assert_eq!(e.unwrap_err().kind(), sparse::ErrorKind::BaseMismatch);
    assert!(!Path::exists(&out));
}

mod bounds {
    //! Any weights, infinities and what is no number among them.
    use super::*;
    use crate::support::{Files, T, put, safetensors};
    use proptest::prelude::*;
    use sparse::{Dtype, TensorSpec};

    /// Base and target of a tensor: type, rows, columns, and for each weight its bits and those
    /// that change.
    type Weights = (Dtype, u64, u64, Vec<(u32, u32)>);

    fn weights() -> impl Strategy<Value = Weights> {
        let shape =
            (prop::sample::select(vec![Dtype::Bf16, Dtype::F16, Dtype::F32]), 1u64..40, 1u64..30);
        shape.prop_flat_map(|(dtype, rows, columns)| {
            // Of 20 weights one is any word, the others are about as large as weights are, and move
            // a little.
            let usual = (0x3c00_0000u32..0x3d80_0000, 0u32..0x0002_0000);
            let weight = prop_oneof![19 => usual, 1 => (any::<u32>(), any::<u32>())];
            let len = (rows * columns) as usize;
            (Just(dtype), Just(rows), Just(columns), prop::collection::vec(weight, len))
        })
    }

    fn tensors(list: &[Weights]) -> [Vec<T>; 2] {
        let of = |target: bool| {
            let tensor = |(i, (dtype, rows, columns, words)): (usize, &Weights)| {
                let word = |&(word, change): &(u32, u32)| {
                    let word = if target { word ^ change } else { word };
                    word.to_le_bytes()[4 - dtype.storage_bytes()..].to_vec()
                };
                T {
                    name: format!("t{i}"),
                    spec: TensorSpec::new(*dtype, [*rows, *columns]).unwrap(),
                    bytes: words.iter().flat_map(word).collect(),
                }
            };
            list.iter().enumerate().map(tensor).collect()
        };
        [of(false), of(true)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn hold_and_never_cost_more_than_losing_nothing(
            list in prop::collection::vec(weights(), 1..4),
            relative in prop::sample::select(vec![0.0, 0.01, 0.1, 0.5, 1.0]),
            absolute in prop::sample::select(vec![0.0, 1e-6, 1e-3, 1e3]),
            ulps in prop::sample::select(vec![0u32, 1, 5, 1000]),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let [base, target] = tensors(&list);
            for (name, tensors) in [("base", &base), ("target", &target)] {
                put(&dir.path().join(name), &Files::from([("m.safetensors".to_owned(),
                    safetensors(tensors))]));
            }
            let open = |name| Model::open(dir.path().join(name)).unwrap();
            let (base, target) = (open("base"), open("target"));
            let make = |policy| {
                Compressor::new(&target).base(&base).policy(policy).write_to(Vec::new()).unwrap().0
            };
            let most = make(Policy::Lossless).len();
            for bound in [Bound::Relative(relative), Bound::Absolute(absolute), Bound::Ulps(ulps)] {
                let bytes = make(Policy::Within(bound));
                // The certificate of a delta that lost nothing takes its place.
                prop_assert!(bytes.len() <= most + 128, "{bound:?}: {} {most}", bytes.len());
                let delta = Delta::from_source(Box::new(bytes), Codecs::default(),
                    &Limits::default()).unwrap();
                let found = Verifier::new(&delta).base(&base).quality(&target).unwrap();
                prop_assert!(found.agrees());
                for t in &found.tensors {
                    match bound {
                        Bound::Relative(e) => prop_assert!(t.found.relative_error() <= e, "{e} \
                            {t:?}"),
                        Bound::Absolute(e) => prop_assert!(t.found.max_error <= e, "{e} {t:?}"),
                        _ => prop_assert!(t.found.max_ulps <= u64::from(ulps), "{ulps} {t:?}"),
                    }
                }
            }
        }
    }
}
