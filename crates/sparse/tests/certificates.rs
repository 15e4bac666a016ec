//! Certificates, held against numbers that are worked out here from the weights alone.

#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::*;
use std::collections::BTreeMap;
use std::path::Path;
use support::{Files, Rng, T, put, safetensors};

/// Values and type of each tensor of a model, by name; all have rows of 128.
type Weights = BTreeMap<&'static str, (Dtype, Vec<f32>)>;

const COLUMNS: usize = 128;

fn normal(seed: u64, len: usize, size: f32) -> Vec<f32> {
    let mut rng = Rng(seed);
    let mut uniform = move || (rng.next() >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..len).map(|_| size * 1.4 * (0..6).map(|_| uniform()).sum::<f32>()).collect()
}

/// To bfloat16, to nearest, ties to even.
fn brain(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { 0x7fc0 } else { ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16 }
}

fn value(dtype: Dtype, x: f32) -> f32 {
    if dtype == Dtype::Bf16 { f32::from_bits(u32::from(brain(x)) << 16) } else { x }
}

fn model(path: &Path, weights: &Weights) -> Model {
    model_in("model.safetensors", path, weights)
}

fn model_in(file: &str, path: &Path, weights: &Weights) -> Model {
    let tensor = |(name, (dtype, values)): (&&str, &(Dtype, Vec<f32>))| {
        let bytes = values.iter().flat_map(|&x| match dtype {
            Dtype::Bf16 => brain(x).to_le_bytes().to_vec(),
            _ => x.to_le_bytes().to_vec(),
        });
        let shape = [(values.len() / COLUMNS) as u64, COLUMNS as u64];
        let spec = TensorSpec::new(*dtype, shape).unwrap();
        T { name: (*name).to_owned(), spec, bytes: bytes.collect() }
    };
    let tensors: Vec<T> = weights.iter().map(tensor).collect();
    put(path, &Files::from([(file.to_owned(), safetensors(&tensors))]));
    Model::open(path).unwrap()
}

fn read(model: &Model, name: &str) -> Vec<f64> {
    let tensor = model.find(name).unwrap();
    let bytes = model.bytes(tensor).unwrap();
    match model.tensors()[tensor].spec.dtype() {
        Dtype::Bf16 => {
            let words =
                bytes.as_chunks::<2>().0.iter().map(|w| u32::from(u16::from_le_bytes(*w)) << 16);
            words.map(|w| f32::from_bits(w).into()).collect()
        }
        _ => bytes.as_chunks::<4>().0.iter().map(|w| f32::from_le_bytes(*w).into()).collect(),
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let at = |i: usize| b.get(i).copied().unwrap_or(0.0);
    a.iter().enumerate().map(|(i, a)| (a - at(i)).powi(2)).sum::<f64>().sqrt()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * a.abs().max(b.abs()) + 1e-12
}

/// Compresses by `policy` and compares every certificate with the norms of the weights. `reference`
/// names the tensor of the base that the change of a tensor is relative to. Returns the report, and
/// by tensor the error as a share of the change.
fn certified(
    [base, target]: [&Weights; 2],
    reference: &dyn Fn(&str) -> String,
    policy: Policy,
) -> (CompressReport, Vec<f64>) {
    let dir = tempfile::tempdir().unwrap();
    let [base, tuned] =
        [("base", base), ("tuned", target)].map(|(n, w)| model(&dir.path().join(n), w));
    let (bytes, report) =
        Compressor::new(&tuned).base(&base).policy(policy).write_to(Vec::new()).unwrap();
    let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
    Verifier::new(&delta).base(&base).verify().unwrap();
    let out = dir.path().join("out");
    Restorer::new(&delta).base(&base).write(&out).unwrap();
    let restored = Model::open(&out).unwrap();
    let found = Verifier::new(&delta).base(&base).quality(&tuned).unwrap();
    assert!(found.agrees() && found.tensors.iter().all(|t| t.same_change));
    let (mut sums, mut shares) = ([0.0; 2], Vec::new());
    for (name, (dtype, _)) in target {
        let before = match base.find(&reference(name)) {
            Some(_) => read(&base, &reference(name)),
            None => Vec::new(),
        };
        // As compress casts it.
        let before: Vec<f64> = before.iter().map(|&x| value(*dtype, x as f32).into()).collect();
        let (want, got) = (read(&tuned, name), read(&restored, name));
        let (error, change) = (distance(&got, &want), distance(&want, &before));
        let t = found.tensors.iter().find(|t| t.name == *name).unwrap();
        assert!(
            near(t.found.error, error) && near(t.found.change, change),
            "{name} {t:?} {error} {change}"
        );
        if let Some(recorded) = t.recorded {
            assert!(
                near(recorded.error, error) && near(recorded.change, change),
                "{name} {recorded:?}"
            );
        }
        assert!(error <= change * (1.0 + 1e-9), "{name}: {error} of {change}");
        shares.push(if error == 0.0 { 0.0 } else { error / change });
        sums[0] += error * error;
        sums[1] += change * change;
    }
    let total = (sums[0] / sums[1]).sqrt();
    assert!(near(found.total.relative_error(), total), "{} {total}", found.total.relative_error());
    assert!(near(report.certificate.unwrap().relative_error(), total));
    (report, shares)
}

/// Weights, and what rounding to few levels makes of them: smaller on their own than against the
/// base.
fn stepped(dtype: Dtype, step: f32) -> [Weights; 2] {
    let old = normal(1, 256 * COLUMNS, 0.02);
    let new = old.iter().map(|x| (x / step).round() * step).collect();
    [old, new].map(|w| Weights::from([("layer.0.up.weight", (dtype, w))]))
}

fn same(name: &str) -> String {
    name.to_owned()
}

#[test]
fn tensors_coded_without_the_base_are_measured_against_it() {
    for (dtype, step) in [(Dtype::F32, 0.005), (Dtype::Bf16, 0.04)] {
        let [base, tuned] = stepped(dtype, step);
        for bound in [0.1, 0.5] {
            let policy = Policy::Within(Bound::Relative(bound));
            let (report, shares) = certified([&base, &tuned], &same, policy);
            assert!(shares.iter().all(|&s| s <= bound), "{dtype} {bound} {shares:?}");
            assert_eq!(report.tensors.total, 1);
        }
        for codec in
            ["sparse-int8=0.3", "sparse=0.5", "int8", "sign", "svd=0.5", "svd=4", "ulp-bounded=9"]
        {
            certified([&base, &tuned], &same, Policy::Fixed(codec.parse().unwrap()));
        }
        certified([&base, &tuned], &same, Policy::TargetSize(4000));
    }
}

#[test]
fn other_names_types_and_shapes() {
    let sizes =
        [("a.up.weight", 64), ("b.down.weight", 96), ("c.gate.weight", 80), ("d.o.weight", 48)];
    let (mut base, mut tuned) = (Weights::new(), Weights::new());
    let renamed = |name: &str| -> &'static str {
        match name {
            "a.up.weight" => "model.a.up.weight",
            "b.down.weight" => "model.b.down.weight",
            "c.gate.weight" => "model.c.gate.weight",
            _ => "model.d.o.weight",
        }
    };
    for (i, (name, rows)) in (1..).zip(sizes) {
        let old = normal(i, rows * COLUMNS, 0.02);
        let move_by = normal(10 + i, rows * COLUMNS, 0.002);
        let new = old.iter().zip(&move_by).map(|(a, b)| a + b).collect();
        base.insert(name, (Dtype::F32, old));
        tuned.insert(renamed(name), (Dtype::Bf16, new));
    }
    let bound = || Policy::Within(Bound::Relative(0.3));
    let old_name = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    let (report, shares) = certified([&base, &tuned], &old_name, bound());
    assert!(shares.iter().all(|&s| s <= 0.3) && shares.iter().any(|&s| s > 0.1), "{shares:?}");
    assert_eq!(report.tensors.coded_against_base, 4);
    // A vocabulary that grew: rows of both, and new ones, which are relative to nothing.
    let old = normal(20, 200 * COLUMNS, 0.02);
    let mut new: Vec<f32> =
        old.iter().zip(normal(21, old.len(), 0.002)).map(|(a, b)| a + b).collect();
    new.extend(normal(22, 50 * COLUMNS, 0.02));
    let [base, tuned] = [old, new].map(|w| Weights::from([("embed.weight", (Dtype::Bf16, w))]));
    let (_, shares) = certified([&base, &tuned], &same, bound());
    assert!(shares[0] <= 0.3, "{shares:?}");
}

#[test]
fn no_codec_loses_more_than_the_change() {
    let old = |seed| normal(seed, 96 * COLUMNS, 0.02);
    let moved = |seed: u64, size: f32| -> Vec<f32> {
        old(seed).iter().zip(normal(seed + 50, 96 * COLUMNS, size)).map(|(a, b)| a + b).collect()
    };
    let few = |seed: u64| -> Vec<f32> {
        old(seed).iter().enumerate().map(|(i, x)| if i % 997 == 3 { x * 1.5 } else { *x }).collect()
    };
    let bf16 = |list: [(&'static str, Vec<f32>); 4]| -> Weights {
        list.into_iter().map(|(n, w)| (n, (Dtype::Bf16, w))).collect()
    };
    let base = bf16([("a", old(1)), ("b", old(2)), ("c", old(3)), ("d", old(4))]);
    let mut tuned =
        bf16([("a", moved(1, 1e-3)), ("b", few(2)), ("c", moved(3, 3e-5)), ("d", moved(4, 0.01))]);
    tuned.insert("new", (Dtype::Bf16, normal(9, 3 * COLUMNS, 0.02)));
    // `certified` checks every tensor.
    for codec in ["int8", "sign", "sparse=1", "sparse-int8=1", "svd=1", "svd=16", "ulp-bounded=40"]
    {
        certified([&base, &tuned], &same, Policy::Fixed(codec.parse().unwrap()));
    }
    for size in [3000, 9000, 30000] {
        certified([&base, &tuned], &same, Policy::TargetSize(size));
    }
    certified([&base, &tuned], &same, Policy::Within(Bound::Ulps(200)));
    certified([&base, &tuned], &same, Policy::Within(Bound::Relative(7.0)));
}

#[test]
fn weights_that_are_not_finite_are_said() {
    let old = normal(1, 64 * COLUMNS, 0.02);
    let mut new: Vec<f32> =
        old.iter().zip(normal(2, old.len(), 0.002)).map(|(a, b)| a + b).collect();
    (new[5], new[700]) = (f32::NAN, f32::INFINITY);
    let [base, tuned] = [old, new].map(|w| Weights::from([("layer.weight", (Dtype::F32, w))]));
    let dir = tempfile::tempdir().unwrap();
    let base = model(&dir.path().join("base"), &base);
    let tuned = model(&dir.path().join("tuned"), &tuned);
    for policy in [Policy::Lossless, Policy::Within(Bound::Relative(0.2))] {
        let (bytes, report) =
            Compressor::new(&tuned).base(&base).policy(policy).write_to(Vec::new()).unwrap();
        assert!(
            report.notes.iter().any(|n| n.contains("2 of 8192 weights of layer.weight are NaN")),
            "{:?}",
            report.notes
        );
        let delta =
            Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
        let Some(certificate) = report.certificate else { continue };
        assert!(certificate.not_finite == 2 && certificate.relative_error() <= 0.2);
        let found = Verifier::new(&delta).base(&base).quality(&tuned).unwrap();
        assert!(
            found.agrees()
                && found.recorded.unwrap().not_finite == 2
                && found.total.not_finite == 2
        );
        assert_eq!(inspect(&delta).certificate.unwrap().not_finite, 2);
    }
}

/// The same payload under another index.
fn rewritten(delta: &Delta, change: impl Fn(&mut sparse_container::Index)) -> Delta {
    let (reader, mut index) = (delta.reader(), delta.index().clone());
    change(&mut index);
    let mut writer = sparse_container::Writer::new(Vec::new()).unwrap();
    let payload = reader.payload();
    let len = (payload.end - payload.start) as usize;
    writer.append(&reader.source().bytes_at(payload.start, len).unwrap()).unwrap();
    let bytes = writer.finish(&index).unwrap();
    Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap()
}

#[test]
fn what_a_certificate_is_relative_to_is_recorded() {
    const CERTIFICATE: u16 = 2;
    const REFERENCE: u16 = 6;
    let [base, mut tuned] = stepped(Dtype::Bf16, 0.04);
    // A little beside the levels, which is what is lost.
    let beside = |(i, x): (usize, &mut f32)| *x += 2.4e-4 * ((i % 3) as f32 - 1.0);
    tuned.values_mut().for_each(|(_, w)| w.iter_mut().enumerate().for_each(beside));
    let dir = tempfile::tempdir().unwrap();
    // In a file of another name, so that nothing but the tensor has to do with it.
    let base = model_in("other.safetensors", &dir.path().join("base"), &base);
    let tuned = model(&dir.path().join("tuned"), &tuned);
    let (bytes, _) = Compressor::new(&tuned)
        .base(&base)
        .policy(Policy::Within(Bound::Relative(0.1)))
        .write_to(Vec::new())
        .unwrap();
    let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
    let tensor = |index: &sparse_container::Index| {
        index.entries.iter().position(|e| e.attributes.contains_key(&CERTIFICATE)).unwrap()
    };
    let entry = &delta.index().entries[tensor(delta.index())];
    assert!(entry.attributes.contains_key(&REFERENCE), "it is coded without the base");
    let measured = |delta: &Delta| Verifier::new(delta).base(&base).quality(&tuned);
    let checked = |delta: &Delta, base| Verifier::new(delta).base(base).verify();
    assert!(measured(&delta).unwrap().agrees());
    checked(&delta, Some(&base)).unwrap();
    // It restores without the base, of which then less can be said.
    checked(&delta, None).unwrap();
    checked(&delta, Some(&tuned)).unwrap();
    // An earlier version's says nothing of the base.
    let earlier = rewritten(&delta, |index| {
        let at = tensor(index);
        index.entries[at].attributes.remove(&REFERENCE);
    });
    let found = measured(&earlier).unwrap();
    assert!(found.agrees() && found.tensors.iter().any(|t| !t.same_change));
    // Lies: of the change, and of what it is relative to.
    let lie = rewritten(&delta, |index| {
        let at = tensor(index);
        let bytes = index.entries[at].attributes.get_mut(&CERTIFICATE).unwrap();
        let place = bytes.len() - 16;
        let [a, b, c, d] = bytes[place..place + 4] else { unreachable!() };
        let change = 2.0 * f32::from_le_bytes([a, b, c, d]);
        bytes[place..place + 4].copy_from_slice(&change.to_le_bytes());
    });
    assert!(!measured(&lie).unwrap().agrees());
    for bytes in
        [vec![0, 0], vec![9, 1], vec![0, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0], vec![0, 1, 1]]
    {
        let lie = rewritten(&delta, |index| {
            let at = tensor(index);
            index.entries[at].attributes.insert(REFERENCE, bytes.clone());
        });
        assert!(checked(&lie, Some(&base)).is_err(), "{bytes:?}");
        assert!(measured(&lie).map_or(true, |found| found.agrees()), "it is measured all the same");
    }
}
