//! The same weights, arranged otherwise: stacked, taken apart, fused, split, turned, in another
//! order.
#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::*;
use std::sync::Arc;
use support::{Files, Rng, T, put, safetensors, tree};

/// What a program that converts models may do with tensors of bf16.
fn made(name: &str, shape: &[u64], bytes: Vec<u8>) -> T {
    T { name: name.into(), spec: TensorSpec::new(Dtype::Bf16, shape).unwrap(), bytes }
}

fn turned(t: &T) -> T {
    let mut shape = t.spec.shape().to_vec();
    let n = shape.len();
    let (rows, columns) = (shape[n - 2] as usize, shape[n - 1] as usize);
    shape.swap(n - 2, n - 1);
    let matrices = t.bytes.chunks_exact(2 * rows * columns);
    let bytes = matrices.flat_map(|m| {
        let word = move |at: usize| [m[2 * at], m[2 * at + 1]];
        (0..columns).flat_map(move |c| (0..rows).flat_map(move |r| word(r * columns + c)))
    });
    made(&t.name, &shape, bytes.collect())
}

fn stacked(name: &str, parts: &[&T]) -> T {
    let mut shape = parts[0].spec.shape().to_vec();
    shape.insert(0, parts.len() as u64);
    made(name, &shape, parts.iter().flat_map(|t| t.bytes.clone()).collect())
}

fn fused(name: &str, parts: &[&T]) -> T {
    let rows = parts.iter().map(|t| t.spec.shape()[0]).sum();
    let shape = [rows, parts[0].spec.row_len()];
    made(name, &shape, parts.iter().flat_map(|t| t.bytes.clone()).collect())
}

fn rows(name: &str, t: &T, order: &[usize]) -> T {
    let width = 2 * t.spec.row_len() as usize;
    let bytes = order.iter().flat_map(|&row| t.bytes[row * width..][..width].to_vec());
    made(name, &[order.len() as u64, t.spec.row_len()], bytes.collect())
}

/// Writes a delta, proves it by every way of reading, and returns its length and its notes.
fn delta(base: &[T], target: &[T]) -> (u64, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for (name, tensors) in [("base", base), ("target", target)] {
        let file = Files::from([("model.safetensors".to_owned(), safetensors(tensors))]);
        put(&dir.path().join(name), &file);
    }
    let open = |name: &str| Model::open(dir.path().join(name)).unwrap();
    let (base, target) = (open("base"), open("target"));
    let path = dir.path().join("d.sparse");
    let report = Compressor::new(&target).base(&base).write(&path).unwrap();
    let delta = Delta::open(&path).unwrap();
    Verifier::new(&delta).base(&base).verify().unwrap();
    Restorer::new(&delta).base(&base).write(dir.path().join("out")).unwrap();
    assert!(tree(&dir.path().join("out")) == tree(&dir.path().join("target")));
    // As a model: parts of tensors, in any order.
    let model = DeltaModel::new(Some(Arc::new(open("base"))), Arc::new(delta)).unwrap();
    let mut rng = Rng(7);
    for (i, entry) in target.tensors().iter().enumerate() {
        let whole = target.bytes(i).unwrap();
        for _ in 0..20 {
            let start = rng.next() as usize % whole.len();
            let len = rng.next() as usize % (whole.len() - start + 1).min(9000);
            let found = model.range(i, start as u64, len).unwrap();
            assert!(*found == whole[start..start + len], "{} {start} {len}", entry.name);
        }
        assert!(*model.bytes(i).unwrap() == *whole, "{}", entry.name);
    }
    // Another base is told, not decoded into something else, unless those rows are not needed.
    let mut wrong = tree(&dir.path().join("base"));
    let file = wrong.get_mut("model.safetensors").unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 1;
    put(&dir.path().join("wrong"), &wrong);
    let delta = Delta::open(&path).unwrap();
    let with_wrong = Restorer::new(&delta).base(&open("wrong")).write(dir.path().join("again"));
    match with_wrong {
        Ok(_) => assert!(tree(&dir.path().join("again")) == tree(&dir.path().join("target"))),
        Err(e) => assert_eq!(e.kind(), ErrorKind::BaseMismatch, "{e}"),
    }
    (report.delta_bytes, report.notes)
}

struct Case {
    plain: [Vec<T>; 2],
    moved: [Vec<T>; 2],
}

/// Compares the delta of moved tensors with that of tensors in their places.
fn check(what: &str, case: &Case, noted: bool) {
    let (plain, _) = delta(&case.plain[0], &case.plain[1]);
    let (moved, notes) = delta(&case.moved[0], &case.moved[1]);
    assert!(moved as f64 <= 1.3 * plain as f64 + 4096.0, "{what}: {moved}, in place {plain}");
    let told = notes.iter().any(|note| note.contains("lie elsewhere in the base"));
    assert_eq!(told, noted, "{what}: {notes:?}");
}

fn all(tensors: &[T], change: impl Fn(&[&T]) -> Vec<T>) -> Vec<T> {
    change(&tensors.iter().collect::<Vec<_>>())
}

fn tuned(tensors: &[T]) -> Vec<T> {
    tensors.iter().zip(50..).map(|(t, seed)| t.tuned(seed)).collect()
}

#[test]
fn experts() {
    let base: Vec<T> = (0..6)
        .map(|i| T::random(&format!("mlp.experts.{i}.up_proj.weight"), &[96, 64], i))
        .collect();
    let new = tuned(&base);
    let stack = |tensors: &[T]| all(tensors, |t| vec![stacked("mlp.experts.up_proj", t)]);
    let turn = |tensors: &[T]| all(tensors, |t| vec![turned(&stacked("mlp.experts.up_proj", t))]);
    let each = |tensors: &[T]| tensors.iter().map(turned).collect::<Vec<_>>();
    let plain = || [base.clone(), new.clone()];
    for (what, moved) in [
        ("stacked", [base.clone(), stack(&new)]),
        ("taken apart", [stack(&base), new.clone()]),
        ("stacked and turned", [base.clone(), turn(&new)]),
        ("turned and taken apart", [turn(&base), new.clone()]),
        ("turned one by one", [base.clone(), each(&new)]),
    ] {
        check(what, &Case { plain: plain(), moved }, true);
    }
    // Halves of a stack from two tensors of each expert.
    let gates: Vec<T> = (0..6)
        .map(|i| T::random(&format!("mlp.experts.{i}.gate_proj.weight"), &[96, 64], 20 + i))
        .collect();
    let new_gates = tuned(&gates);
    let halves: Vec<T> =
        new_gates.iter().zip(&new).map(|(gate, up)| fused("", &[gate, up])).collect();
    let joined = all(&halves, |t| vec![stacked("mlp.experts.gate_up_proj", t)]);
    let turned_halves = vec![turned(&joined[0])];
    let both = [base, gates].concat();
    let in_place = [both.clone(), [new.clone(), new_gates.clone()].concat()];
    let case = Case { plain: in_place, moved: [both.clone(), turned_halves] };
    check("halves of turned rows", &case, true);
    let case = Case { plain: [both.clone(), [new, new_gates].concat()], moved: [both, joined] };
    check("halves", &case, true);
}

#[test]
fn attention() {
    let base: Vec<T> = ["q_proj", "k_proj", "v_proj"]
        .iter()
        .zip([128, 64, 64])
        .zip(30..)
        .map(|((name, rows), seed)| T::random(&format!("attn.{name}.weight"), &[rows, 80], seed))
        .collect();
    let new = tuned(&base);
    let fuse = |tensors: &[T]| all(tensors, |t| vec![fused("attn.qkv_proj.weight", t)]);
    let plain = || [base.clone(), new.clone()];
    check("fused", &Case { plain: plain(), moved: [base.clone(), fuse(&new)] }, true);
    check("split", &Case { plain: plain(), moved: [fuse(&base), new.clone()] }, true);
    // Head by head: queries, keys and values of one, then of the next.
    let (square, heads) = (T::random("attn.query.weight", &[96, 80], 40), 6);
    let parts: Vec<T> = [40, 41, 42]
        .iter()
        .zip(["query", "key", "value"])
        .map(|(&seed, name)| T {
            name: format!("attn.{name}.weight"),
            ..T::random("", &[96, 80], seed)
        })
        .collect();
    assert!(parts[0].bytes == square.bytes);
    let changed = tuned(&parts);
    let order: Vec<usize> = (0..heads)
        .flat_map(|h| (0..3).flat_map(move |part| (0..16).map(move |r| part * 96 + h * 16 + r)))
        .collect();
    let whole = all(&changed, |t| vec![fused("", t)]);
    let woven = vec![rows("attn.query_key_value.weight", &whole[0], &order)];
    check("woven", &Case { plain: [parts.clone(), changed], moved: [parts, woven] }, true);
}

#[test]
fn vocabularies() {
    let base = vec![T::random("embed_tokens.weight", &[900, 64], 60)];
    let new = tuned(&base);
    let order = |seed: u64, count: usize| {
        let mut rng = Rng(seed);
        let mut order: Vec<(u64, usize)> = (0..900).map(|row| (rng.next(), row)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, row)| row).take(count).collect::<Vec<_>>()
    };
    let without: Vec<usize> = (0..100).chain(350..900).collect();
    let mut pruned = order(1, 700);
    pruned.sort_unstable();
    let plain = || [base.clone(), new.clone()];
    for (what, order) in
        [("rows removed", without), ("rows picked", pruned), ("another order", order(2, 900))]
    {
        let moved = [base.clone(), vec![rows("embed_tokens.weight", &new[0], &order)]];
        check(what, &Case { plain: plain(), moved }, true);
    }
}

#[test]
fn what_is_new_is_told() {
    let base = vec![T::random("a.weight", &[96, 64], 1)];
    let target = vec![base[0].tuned(2), T::random("b.weight", &[96, 64], 3)];
    let (_, notes) = delta(&base, &target);
    assert!(notes.iter().any(|n| n.contains("1 tensor, 50.0 %")), "{notes:?}");
    // In their places nothing is looked for.
    let case = Case { plain: [base.clone(), tuned(&base)], moved: [base.clone(), tuned(&base)] };
    check("in place", &case, false);
}

/// Rows that are equal, all zero, or of one sign have no place of their own.
#[test]
fn rows_that_say_nothing() {
    let zeros = made("mask", &[300, 64], vec![0; 300 * 128]);
    let ones = made("other", &[200, 64], [0x80, 0x3f].repeat(200 * 64));
    let (len, _) = delta(&[zeros.clone(), ones.clone()], &[zeros.named("new"), ones.named("also")]);
    assert!(len < 2000, "{len}");
    let repeated = rows("r", &T::random("r", &[4, 64], 9), &[0, 1, 2, 3].repeat(80));
    let (len, _) =
        delta(std::slice::from_ref(&repeated), &[rows("s", &repeated, &[3, 2, 1, 0].repeat(80))]);
    assert!(len < 4000, "{len}");
}
