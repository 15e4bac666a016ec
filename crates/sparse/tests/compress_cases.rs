//! What real fine-tunes have: each case comes back, and costs what it should.
#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::*;
use std::path::Path;
use support::{Files, Rng, T, put, safetensors, tree};

fn open(path: &Path) -> Model {
    Model::open(path).unwrap()
}

/// Compress and restore; returns the report and the target's size.
fn round_trip(base: Option<&Files>, target: &Files) -> (CompressReport, Delta) {
    let dir = tempfile::tempdir().unwrap();
    let (base_path, target_path) = (dir.path().join("base"), dir.path().join("target"));
    put(&target_path, target);
    let base = base.map(|files| {
        put(&base_path, files);
        open(&base_path)
    });
    let target_model = open(&target_path);
    let (bytes, report) =
        Compressor::new(&target_model).base(base.as_ref()).write_to(Vec::new()).unwrap();
    assert_eq!(bytes.len() as u64, report.delta_bytes);
    let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
    let out = dir.path().join("out");
    Restorer::new(&delta).base(base.as_ref()).write(&out).unwrap();
    assert_eq!(tree(&out), tree(&target_path));
    if let Some(base) = &base {
        assert_eq!(tree(base.root()), tree(&base_path), "the base was written to");
    }
    (report, delta)
}

fn model(tensors: &[T]) -> Files {
    Files::from([("model.safetensors".to_owned(), safetensors(tensors))])
}

/// A tensor of `T::random` in another type, value by value.
fn as_f32(t: &T) -> T {
    let bytes = t.bytes.chunks(2).flat_map(|w| [0, 0, w[0], w[1]]).collect();
    T { spec: TensorSpec::new(Dtype::F32, t.spec.shape()).unwrap(), bytes, name: t.name.clone() }
}

#[test]
fn unchanged_model() {
    let files = model(&[T::random("a.weight", &[200, 64], 1), T::random("b", &[64], 2)]);
    let (report, _) = round_trip(Some(&files), &files);
    assert_eq!(
        (report.tensors.identical, report.tensors.coded_against_base, report.tensors.standalone),
        (2, 0, 0)
    );
    assert!(report.delta_bytes < 300, "{}", report.delta_bytes);
}

#[test]
fn grown_vocabulary() {
    let old = T::random("embed.weight", &[500, 64], 1);
    let grown = old.with_rows(500, 20, 9);
    let (report, _) = round_trip(Some(&model(std::slice::from_ref(&old))), &model(&[grown]));
    // The new rows stand alone, at two thirds of their size; the old ones cost nothing.
    assert!(report.delta_bytes < 20 * 64 * 2 + 600, "{}", report.delta_bytes);
    let tuned = old.tuned(5).with_rows(500, 20, 9);
    let (report, _) = round_trip(Some(&model(std::slice::from_ref(&old))), &model(&[tuned]));
    assert_eq!(report.tensors.coded_against_base, 1);
    assert!(report.delta_bytes < 64_000 / 3, "{}", report.delta_bytes);
    // And the other way round: rows were cut off.
    let (report, _) =
        round_trip(Some(&model(std::slice::from_ref(&old))), &model(&[old.with_rows(300, 0, 0)]));
    assert!(report.delta_bytes < 600, "{}", report.delta_bytes);
}

#[test]
fn added_removed_and_renamed_tensors() {
    let names = ["layer.0.w", "layer.1.w", "layer.2.w", "layer.3.w"];
    let base: Vec<T> = (1..).zip(names).map(|(i, n)| T::random(n, &[80, 64], i)).collect();
    // The first is gone, another is new, all others have a new prefix and one another name.
    let mut target: Vec<T> =
        base[1..].iter().map(|t| t.tuned(7).named(&format!("model.{}", t.name))).collect();
    target.push(base[0].tuned(11).named("head.proj"));
    target.push(T::random("added", &[10, 64], 99));
    let (report, _) = round_trip(Some(&model(&base)), &model(&target));
    assert_eq!((report.tensors.coded_against_base, report.tensors.standalone), (4, 1));
    assert_eq!(report.notes.len(), 4);
}

#[test]
fn tied_tensors_cost_nothing() {
    let base = T::random("embed", &[300, 64], 1);
    let tuned = base.tuned(3);
    let one = model(std::slice::from_ref(&tuned));
    let two = model(&[tuned.clone(), tuned.named("lm_head")]);
    let (single, _) = round_trip(Some(&model(std::slice::from_ref(&base))), &one);
    let (tied, _) = round_trip(Some(&model(std::slice::from_ref(&base))), &two);
    assert!(tied.delta_bytes < single.delta_bytes + 200);
    let (alone, _) = round_trip(None, &two);
    assert!(alone.delta_bytes < tuned.bytes.len() as u64);
}

#[test]
fn other_float_types() {
    let brain = T::random("w", &[100, 64], 1);
    let wide = as_f32(&brain);
    // Widened and otherwise untouched: predicted exactly.
    let (report, _) =
        round_trip(Some(&model(std::slice::from_ref(&brain))), &model(std::slice::from_ref(&wide)));
    assert!(report.delta_bytes < 400, "{}", report.delta_bytes);
    // Narrowed: the other way round.
    let (report, _) = round_trip(Some(&model(&[wide])), &model(std::slice::from_ref(&brain)));
    assert!(report.delta_bytes < 400, "{}", report.delta_bytes);
    // An integer tensor of the same name is no counterpart.
    let ints = T { spec: TensorSpec::new(Dtype::I16, [100, 64]).unwrap(), ..brain.clone() };
    let (report, _) = round_trip(Some(&model(&[ints])), &model(&[brain]));
    assert_eq!(report.tensors.standalone, 1);
}

#[test]
fn widened_models_take_what_the_narrow_ones_take() {
    let base: Vec<T> = (0..3).map(|i| T::random(&format!("w{i}"), &[200, 64], i)).collect();
    let target: Vec<T> = base.iter().map(|t| t.tuned(7)).collect();
    let wide = |tensors: &[T]| tensors.iter().map(as_f32).collect::<Vec<_>>();
    let (narrow, _) = round_trip(Some(&model(&base)), &model(&target));
    let (both, _) = round_trip(Some(&model(&wide(&base))), &model(&wide(&target)));
    assert!(
        both.delta_bytes < narrow.delta_bytes + 300,
        "{} {}",
        both.delta_bytes,
        narrow.delta_bytes
    );
    let (one, _) = round_trip(Some(&model(&base)), &model(&wide(&target)));
    assert!(
        one.delta_bytes < narrow.delta_bytes + 400,
        "{} {}",
        one.delta_bytes,
        narrow.delta_bytes
    );
    // A tensor that is not widened does not spoil it for the others.
    let mut mixed = wide(&target);
    let mut other = as_f32(&T::random("other", &[200, 64], 9));
    let mut rng = Rng(4);
    other.bytes.chunks_mut(4).for_each(|w| w[0] = rng.next() as u8);
    mixed.push(other.clone());
    let mut mixed_base = wide(&base);
    mixed_base.push(other);
    mixed_base[3].bytes.chunks_mut(4).for_each(|w| w[0] ^= 1);
    let (mixed, _) = round_trip(Some(&model(&mixed_base)), &model(&mixed));
    assert!(
        mixed.delta_bytes < narrow.delta_bytes + 2500,
        "{} {}",
        mixed.delta_bytes,
        narrow.delta_bytes
    );
}

#[test]
fn a_base_that_does_not_help_is_left_alone() {
    // Initialised anew: same name and shape, nothing else in common.
    let (old, new) = (T::random("head", &[200, 64], 1), T::random("head", &[200, 64], 2));
    let (report, _) = round_trip(Some(&model(&[old])), &model(std::slice::from_ref(&new)));
    assert_eq!((report.tensors.coded_against_base, report.tensors.standalone), (0, 1));
    let (alone, _) = round_trip(None, &model(&[new]));
    assert!(report.delta_bytes <= alone.delta_bytes + 100);
}

#[test]
fn other_sharding() {
    let tensors: Vec<T> = (0..6).map(|i| T::random(&format!("l{i}"), &[40, 64], i)).collect();
    let tuned: Vec<T> = tensors.iter().map(|t| t.tuned(100)).collect();
    let shards = |tensors: &[T], cut: usize| {
        Files::from([
            ("model-00001-of-00002.safetensors".to_owned(), safetensors(&tensors[..cut])),
            ("model-00002-of-00002.safetensors".to_owned(), safetensors(&tensors[cut..])),
        ])
    };
    let (report, _) = round_trip(Some(&shards(&tensors, 2)), &shards(&tuned, 4));
    assert_eq!(report.tensors.coded_against_base, 6);
    let (report, _) = round_trip(Some(&shards(&tensors, 2)), &model(&tuned));
    assert_eq!(report.tensors.coded_against_base, 6);
}

#[test]
fn the_whole_folder() {
    let base = T::random("w", &[50, 64], 1);
    let mut rng = Rng(4);
    let tokenizer: Vec<u8> = (0..40_000).map(|_| rng.next() as u8 % 60 + 32).collect();
    let mut old = model(std::slice::from_ref(&base));
    old.insert("tokenizer.json".into(), tokenizer.clone());
    old.insert("config.json".into(), b"{\"a\": 1, \"b\": 2}".to_vec());
    let mut new = model(&[base.tuned(2)]);
    let mut edited = tokenizer;
    edited.splice(10_000..10_003, *b"an inserted run");
    new.insert("tokenizer.json".into(), edited);
    new.insert("config.json".into(), old["config.json"].clone());
    new.insert("nested/deeper/notes.txt".into(), b"hello".to_vec());
    new.insert("empty.bin".into(), Vec::new());
    new.insert("empty folder/inside/".into(), Vec::new());
    new.insert("broken.safetensors".into(), b"not one at all".to_vec());
    let (report, delta) = round_trip(Some(&old), &new);
    // The tokenizer is patched: an edit, not forty kilobytes.
    assert!(report.delta_bytes < 6_000, "{}", report.delta_bytes);
    assert_eq!(inspect(&delta).files.len(), 6);
}

#[test]
fn no_weights_at_all() {
    let empty: &[T] = &[];
    round_trip(None, &model(empty));
    round_trip(Some(&Files::new()), &Files::from([("readme.txt".to_owned(), b"x".to_vec())]));
    round_trip(None, &model(&[T::random("none", &[0, 7], 1), T::random("one", &[1], 2)]));
}

#[test]
fn special_values_of_every_kind() {
    // All 65,536 patterns, against a base of other patterns.
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let shuffled: Vec<u8> =
        (0..=u16::MAX).flat_map(|i| i.wrapping_mul(40_503).to_le_bytes()).collect();
    let tensor = |bytes: &[u8], dtype| T {
        name: "w".into(),
        spec: TensorSpec::new(dtype, [256, 256]).unwrap(),
        bytes: bytes.to_vec(),
    };
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::I16] {
        round_trip(Some(&model(&[tensor(&shuffled, dtype)])), &model(&[tensor(&all, dtype)]));
        round_trip(None, &model(&[tensor(&all, dtype)]));
    }
}

#[test]
fn estimates_are_near() {
    let dir = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    for pair in ["minilm-bf16", "minilm-f32"] {
        let (base, target) =
            (open(&fixtures.join(pair).join("base")), open(&fixtures.join(pair).join("finetuned")));
        let out = dir.path().join(pair);
        let report = Compressor::new(&target).base(&base).write(&out).unwrap();
        let estimate = Compressor::new(&target).base(&base).estimate(0.01).unwrap();
        let error = estimate.delta_bytes as f64 / report.delta_bytes as f64 - 1.0;
        assert!(error.abs() < 0.03, "{pair}: {error}");
    }
}
