//! Merged adapters, with the adapter at hand: merges made here as PEFT makes them, number by
//! number.
#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::*;
use std::path::Path;
use std::sync::Arc;
use support::{Files, Rng, T, put, safetensors, tree};

/// Numbers of mean zero and variance one, nearly normal.
fn normal(rng: &mut Rng) -> f32 {
    (0..6).map(|_| (rng.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>() * 1.414
}

/// To bfloat16, to nearest, ties to even; numbers are finite here.
fn brain(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn widened(word: u16) -> f32 {
    f32::from_bits(u32::from(word) << 16)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Merge {
    /// The weight in binary32, its sum with the product, rounded once.
    Sum,
    /// The product rounded to the weight's type, then added.
    Product,
}

struct Case {
    dtype: Dtype,
    merge: Merge,
    rank: usize,
    alpha: f32,
    rslora: bool,
}

/// A module: name, rows and columns of the weight, and whether the weight is that of an embedding.
const MODULES: [(&str, usize, usize, bool); 4] = [
    ("layers.0.q", 256, 320, false),
    ("layers.0.up", 384, 256, false),
    ("layers.1.q", 256, 320, false),
    ("embed", 600, 128, true),
];

fn tensor(name: &str, dtype: Dtype, shape: &[u64], values: &[f32]) -> T {
    let bytes = values.iter().flat_map(|&v| match dtype {
        Dtype::Bf16 => brain(v).to_le_bytes().to_vec(),
        _ => v.to_le_bytes().to_vec(),
    });
    T { name: name.into(), spec: TensorSpec::new(dtype, shape).unwrap(), bytes: bytes.collect() }
}

/// Base, fine-tune and adapter.
fn merged(case: &Case) -> [Files; 3] {
    let mut rng = Rng(1);
    let (mut base, mut tuned, mut adapter) = (Vec::new(), Vec::new(), Vec::new());
    let r = case.rank;
    let scale = case.alpha / if case.rslora { (r as f32).sqrt() } else { r as f32 };
    for (name, rows, columns, embedding) in MODULES {
        let (inner, out) = if embedding { (rows, columns) } else { (columns, rows) };
        let a: Vec<f32> = (0..r * inner).map(|_| normal(&mut rng) * 0.05).collect();
        let b: Vec<f32> = (0..out * r).map(|_| normal(&mut rng) * 0.003 / scale.max(0.5)).collect();
        let words: Vec<f32> =
            (0..rows * columns).map(|_| widened(brain(normal(&mut rng) * 0.03))).collect();
        let after = words.iter().enumerate().map(|(at, &before)| {
            let (i, j) = (at / columns, at % columns);
            let (i, j) = if embedding { (j, i) } else { (i, j) };
            let product: f32 = (0..r).map(|k| b[i * r + k] * a[k * inner + j]).sum();
            let change = product * scale;
            let rounded = if case.dtype == Dtype::Bf16 { widened(brain(change)) } else { change };
            before + if case.merge == Merge::Product { rounded } else { change }
        });
        let shape = [rows as u64, columns as u64];
        let weight = format!("model.{name}.weight");
        tuned.push(tensor(&weight, case.dtype, &shape, &after.collect::<Vec<_>>()));
        base.push(tensor(&weight, case.dtype, &shape, &words));
        let names =
            if embedding { ["embedding_A", "embedding_B"] } else { ["A.weight", "B.weight"] };
        let path = |part: &str| format!("base_model.model.model.{name}.lora_{part}");
        adapter.push(tensor(&path(names[0]), Dtype::F32, &[r as u64, inner as u64], &a));
        adapter.push(tensor(&path(names[1]), Dtype::F32, &[out as u64, r as u64], &b));
    }
    let model = |tensors: &mut Vec<T>| {
        tensors.push(T::random("norm.weight", &[320], 5));
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Files::from([("model.safetensors".to_owned(), safetensors(tensors))])
    };
    let config = format!(
        r#"{{"peft_type": "LORA", "r": {r}, "lora_alpha": {}, "use_rslora": {}}}"#,
        case.alpha, case.rslora
    );
    adapter.sort_by(|a, b| a.name.cmp(&b.name));
    let adapter = Files::from([
        ("adapter_config.json".to_owned(), config.into_bytes()),
        ("adapter_model.safetensors".to_owned(), safetensors(&adapter)),
    ]);
    [model(&mut base), model(&mut tuned), adapter]
}

/// Compress with and without the adapter, restore; the two reports.
fn round_trips(dir: &Path, parts: &[Files; 3], effort: Effort) -> [CompressReport; 2] {
    for (name, files) in ["base", "tuned", "adapter"].into_iter().zip(parts) {
        put(&dir.join(name), files);
    }
    let open = |name: &str| Model::open(dir.join(name)).unwrap();
    let (base, tuned) = (open("base"), open("tuned"));
    let adapter = Adapter::open(dir.join("adapter")).unwrap();
    [None, Some(Arc::new(adapter))].map(|adapter| {
        let (bytes, report) = Compressor::new(&tuned)
            .base(&base)
            .effort(effort)
            .adapter(adapter.clone())
            .write_to(Vec::new())
            .unwrap();
        // All of so little is looked at.
        let expected = Compressor::new(&tuned)
            .base(&base)
            .effort(effort)
            .adapter(adapter.clone())
            .estimate(0.01)
            .unwrap()
            .delta_bytes;
        assert!(
            expected.abs_diff(report.delta_bytes) < report.delta_bytes / 20,
            "{expected} {report:?}"
        );
        let delta =
            Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
        let out = dir.join(format!("out-{}", adapter.is_some()));
        Restorer::new(&delta).base(&base).write(&out).unwrap();
        assert_eq!(tree(&out), tree(&dir.join("tuned")));
        report
    })
}

#[test]
fn the_delta_is_smaller_than_the_adapter() {
    // Bytes of the delta by bytes of the adapter, whose factors are binary32, at most.
    let cases = [
        (Dtype::Bf16, Merge::Sum, false, Effort::Default, 0.38),
        (Dtype::Bf16, Merge::Product, true, Effort::Default, 0.38),
        (Dtype::Bf16, Merge::Sum, true, Effort::Fast, 0.38),
        (Dtype::F32, Merge::Sum, false, Effort::Default, 0.95),
    ];
    for (dtype, merge, rslora, effort, most) in cases {
        let parts = merged(&Case { dtype, merge, rank: 8, alpha: 16.0, rslora });
        let dir = tempfile::tempdir().unwrap();
        let [alone, told] = round_trips(dir.path(), &parts, effort);
        let adapter = parts[2]["adapter_model.safetensors"].len() as f64;
        let share = told.delta_bytes as f64 / adapter;
        println!(
            "{dtype} {merge:?} {effort:?}: {} against {}, {share:.3}",
            told.delta_bytes, alone.delta_bytes
        );
        assert!(told.delta_bytes < alone.delta_bytes, "{dtype} {merge:?}");
        assert!(share < most, "{dtype} {merge:?} {effort:?}: {share}");
        assert!(
            told.notes.iter().any(|n| n.contains("explains how 4 tensors")),
            "{:?}",
            told.notes
        );
    }
}

#[test]
fn a_wrong_adapter_changes_nothing() {
    let case = Case { dtype: Dtype::Bf16, merge: Merge::Sum, rank: 4, alpha: 8.0, rslora: false };
    let mut parts = merged(&case);
    let other = Case { alpha: -20.0, ..case };
    parts[2] = merged(&other)[2].clone();
    let dir = tempfile::tempdir().unwrap();
    let [alone, told] = round_trips(dir.path(), &parts, Effort::Default);
    assert_eq!(told.delta_bytes, alone.delta_bytes);
    assert!(told.notes.iter().any(|n| n.contains("of no use")), "{:?}", told.notes);
}
