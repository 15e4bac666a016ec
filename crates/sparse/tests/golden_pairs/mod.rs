//! Pairs that golden files stand for, made of integers and of single IEEE operations: the same
//! bytes everywhere, for ever. What a committed file was made from never changes here; add
//! functions instead.

use super::support::{Files, Rng, T, put, safetensors};
use sparse::{Dtype, TensorSpec};
use std::path::{Path, PathBuf};

/// A model, or two.
pub(crate) struct Pair {
    pub(crate) base: Option<Vec<T>>,
    pub(crate) target: Vec<T>,
}

impl Pair {
    /// As folders below `root`.
    pub(crate) fn put(&self, root: &Path) -> (Option<PathBuf>, PathBuf) {
        let model = |name: &str, tensors: &[T]| {
            let files = Files::from([
                ("model.safetensors".to_owned(), safetensors(tensors)),
                ("config.json".to_owned(), format!("{{\"name\": \"{name}\"}}").into_bytes()),
            ]);
            put(&root.join(name), &files);
            root.join(name)
        };
        (self.base.as_ref().map(|b| model("base", b)), model("target", &self.target))
    }
}

/// Between -1 and 1, more often near zero.
fn number(rng: &mut Rng) -> f32 {
    let part = |r: u64| (r >> 40) as f32 / (1 << 24) as f32;
    part(rng.next()) + part(rng.next()) - 1.0
}

fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut rng = Rng(seed);
    (0..count).map(|_| number(&mut rng) * scale).collect()
}

/// The nearest bfloat16, ties to even, of a finite number.
fn brain(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn widened(word: u16) -> f32 {
    f32::from_bits(u32::from(word) << 16)
}

/// As bfloat16 or binary32; as the upper half of a binary16 of the same exponent range otherwise.
fn tensor(name: &str, dtype: Dtype, shape: &[u64], values: &[f32]) -> T {
    let half = |x: f32| {
        // Numbers here are below 1; what is below the least normal number becomes zero.
        let bits = x.to_bits();
        let exponent = (bits >> 23 & 0xff).saturating_sub(127 - 15);
        let magnitude = if exponent == 0 { 0 } else { exponent << 10 | (bits >> 13 & 0x3ff) };
        (bits >> 16 & 0x8000 | magnitude) as u16
    };
    let bytes = values.iter().flat_map(|&x| match dtype {
        Dtype::F32 => x.to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(x).to_le_bytes().to_vec(),
        Dtype::F16 => half(x).to_le_bytes().to_vec(),
        _ => brain(x).to_le_bytes().to_vec(),
    });
    T { name: name.into(), spec: TensorSpec::new(dtype, shape).unwrap(), bytes: bytes.collect() }
}

fn raw(name: &str, dtype: Dtype, shape: &[u64], bytes: Vec<u8>) -> T {
    T { name: name.into(), spec: TensorSpec::new(dtype, shape).unwrap(), bytes }
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The product of `left` (by rows) and `right` (by components).
fn product(left: &[f32], right: &[f32], rank: usize) -> Vec<f32> {
    let columns = right.len() / rank;
    let row = |l: &[f32]| -> Vec<f32> {
        (0..columns)
            .map(|j| (0..rank).fold(0.0, |s, k| s + l[k] * right[k * columns + j]))
            .collect()
    };
    left.chunks(rank).flat_map(row).collect()
}

/// A matrix of low rank beside noise, another type beside it, a vector, and words that are no
/// numbers.
pub(crate) fn lossy() -> Pair {
    let rows_of = |dtype, name: &str, seed: u64| {
        let (rows, columns) = (40usize, 64usize);
        let shape = [rows as u64, columns as u64];
        let before = numbers(seed, rows * columns, 0.05);
        let change =
            product(&numbers(seed + 1, rows * 2, 0.05), &numbers(seed + 2, 2 * columns, 0.05), 2);
        let mut after = sum(&sum(&before, &change), &numbers(seed + 3, rows * columns, 3e-4));
        after[70] = 0.0;
        (tensor(name, dtype, &shape, &before), tensor(name, dtype, &shape, &after))
    };
    let (b0, t0) = rows_of(Dtype::Bf16, "a.bf16", 10);
    let (b1, mut t1) = rows_of(Dtype::F16, "b.f16", 20);
    let (b2, mut t2) = rows_of(Dtype::F32, "c.f32", 30);
    // Infinities and what is no number.
    t1.bytes[200..204].copy_from_slice(&[0x00, 0x7c, 0x01, 0xfe]);
    t2.bytes[400..408].copy_from_slice(&[0, 0, 0x80, 0xff, 1, 0, 0xc0, 0x7f]);
    let bias = numbers(40, 48, 0.1);
    let moved = sum(&bias, &numbers(41, 48, 1e-3));
    let vector = |values: &[f32]| tensor("d.bias", Dtype::Bf16, &[48], values);
    Pair { base: Some(vec![b0, b1, b2, vector(&bias)]), target: vec![t0, t1, t2, vector(&moved)] }
}

/// A merged adapter of rank two: the sum rounded, or the product first.
fn merged(rounds_product: bool) -> Pair {
    let (rows, columns, rank) = (192usize, 256usize, 2);
    let shape = [rows as u64, columns as u64];
    let before: Vec<f32> =
        numbers(50, rows * columns, 0.06).iter().map(|&x| widened(brain(x))).collect();
    let mut change =
        product(&numbers(51, rows * rank, 0.03), &numbers(52, rank * columns, 0.06), rank);
    if rounds_product {
        change.iter_mut().for_each(|x| *x = widened(brain(*x)));
    }
    let of = |values: &[f32]| vec![tensor("q.weight", Dtype::Bf16, &shape, values)];
    Pair { base: Some(of(&before)), target: of(&sum(&before, &change)) }
}

pub(crate) fn merged_sum() -> Pair {
    merged(false)
}

pub(crate) fn merged_product() -> Pair {
    merged(true)
}

/// One weight of two hundred changed, in rows of unlike sizes.
pub(crate) fn hardly_changed() -> Pair {
    let base = T::random("w", &[800, 640], 60);
    let mut rng = Rng(61);
    let mut target = base.clone();
    for word in target.bytes.chunks_exact_mut(2) {
        let r = rng.next();
        if r.is_multiple_of(200) {
            word[0] = word[0].wrapping_add(1 + (r >> 60) as u8);
        }
    }
    Pair { base: Some(vec![base]), target: vec![target] }
}

/// Binary32 and binary64 that hold bfloat16 and binary32.
pub(crate) fn wide() -> Pair {
    let before = numbers(70, 60 * 50, 0.05);
    let after = sum(&before, &numbers(71, before.len(), 1e-4));
    let narrow = |x: &[f32]| x.iter().map(|&x| widened(brain(x))).collect::<Vec<f32>>();
    let of = |values: &[f32]| {
        vec![
            tensor("f32", Dtype::F32, &[60, 50], &narrow(values)),
            tensor("f64", Dtype::F64, &[60, 50], values),
        ]
    };
    Pair { base: Some(of(&before)), target: of(&after) }
}

/// Binary64 with all of its bits.
pub(crate) fn doubles() -> Pair {
    let double = |rng: &mut Rng| (rng.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
    let mut rng = Rng(80);
    let before: Vec<f64> = (0..1500).map(|_| double(&mut rng)).collect();
    let after: Vec<f64> = before.iter().map(|x| x + 1e-9 * double(&mut rng)).collect();
    let of = |values: &[f64]| {
        vec![raw("w", Dtype::F64, &[30, 50], values.iter().flat_map(|x| x.to_le_bytes()).collect())]
    };
    Pair { base: Some(of(&before)), target: of(&after) }
}

/// Bytes, some of them moved by a little.
fn moved(seed: u64, count: usize, mask: u8) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng(seed);
    let before: Vec<u8> = (0..count).map(|_| (rng.next() >> 8) as u8 & mask).collect();
    let after = before.iter().map(|&b| {
        let r = rng.next();
        if r.is_multiple_of(4) { b.wrapping_add((r >> 62) as u8) & mask } else { b }
    });
    let after = after.collect();
    (before, after)
}

/// Floats of eight bits.
pub(crate) fn bytes() -> Pair {
    let of = |name: &str, dtype, seed| {
        let (before, after) = moved(seed, 50 * 60, 0xbf);
        (raw(name, dtype, &[50, 60], before), raw(name, dtype, &[50, 60], after))
    };
    let pairs = [
        of("e4m3", Dtype::F8E4M3, 90),
        of("e5m2", Dtype::F8E5M2, 91),
        of("e4m3fnuz", Dtype::F8E4M3Fnuz, 92),
        of("e8m0", Dtype::F8E8M0, 93),
    ];
    let (base, target) = pairs.into_iter().unzip();
    Pair { base: Some(base), target }
}

/// Integers of all widths, and truths.
pub(crate) fn integers() -> Pair {
    let of = |name: &str, dtype: Dtype, seed, mask| {
        let width = dtype.storage_bytes();
        let (before, after) = moved(seed, 20 * 30, mask);
        // Small numbers in wide words.
        let widen = |bytes: Vec<u8>| -> Vec<u8> {
            bytes.iter().flat_map(|&b| u64::from(b).to_le_bytes()[..width].to_vec()).collect()
        };
        (raw(name, dtype, &[20, 30], widen(before)), raw(name, dtype, &[20, 30], widen(after)))
    };
    let pairs = [
        of("bool", Dtype::Bool, 100, 1),
        of("i16", Dtype::I16, 101, 0xff),
        of("i32", Dtype::I32, 102, 0xff),
        of("i64", Dtype::I64, 103, 0xff),
        of("i8", Dtype::I8, 104, 0x3f),
        of("u8", Dtype::U8, 105, 0xff),
    ];
    let (base, target) = pairs.into_iter().unzip();
    Pair { base: Some(base), target }
}

/// A model alone.
pub(crate) fn alone() -> Pair {
    let halves = tensor("half", Dtype::F16, &[40, 50], &numbers(110, 2000, 0.1));
    let singles = tensor("single", Dtype::F32, &[20, 50], &numbers(111, 1000, 0.1));
    let mut rng = Rng(113);
    let noise =
        raw("noise", Dtype::U8, &[1500], (0..1500).map(|_| (rng.next() >> 8) as u8).collect());
    Pair { base: None, target: vec![T::random("brain", &[40, 50], 112), halves, noise, singles] }
}

/// Against a base of another type.
pub(crate) fn cast() -> Pair {
    let before = numbers(120, 60 * 50, 0.05);
    let after = sum(&before, &numbers(121, before.len(), 1e-3));
    let base = vec![
        tensor("a", Dtype::F32, &[60, 50], &before),
        tensor("b", Dtype::Bf16, &[60, 50], &before),
    ];
    let target = vec![
        tensor("a", Dtype::Bf16, &[60, 50], &after),
        tensor("b", Dtype::F32, &[60, 50], &after),
    ];
    Pair { base: Some(base), target }
}

/// A model alone, of wide floats: few mantissas in each quarter of one tensor, noise above constant
/// bytes in the other.
pub(crate) fn planes() -> Pair {
    let mut rng = Rng(130);
    let count = 260 * 256u32;
    let single = (0..count).map(|i| {
        let r = rng.next();
        let exponent = 118 + (r >> 60).min(5) as u32;
        let mantissa = (1 + i * 4 / count) * 0x0001_2345 * (1 + (r >> 40) as u32 % 3);
        (exponent << 23 | mantissa & 0x7f_ffff | (r as u32 & 1) << 31).to_le_bytes()
    });
    let single = raw("single", Dtype::F32, &[260, 256], single.collect::<Vec<_>>().concat());
    let double = (0..2000).map(|_| {
        let r = rng.next();
        ((1015 + (r >> 61)) << 52 | (r & 0xf_ffff_ffff) << 12 | 0x123).to_le_bytes()
    });
    let double = raw("double", Dtype::F64, &[40, 50], double.collect::<Vec<_>>().concat());
    Pair { base: None, target: vec![double, single] }
}

/// A model alone: a chunk that hardly says anything, and one of noise.
pub(crate) fn noise_at_the_end() -> Pair {
    let mut rng = Rng(140);
    let (calm, noise) = (262_144u64, 12_000);
    let bytes = (0..calm + noise).map(|i| {
        let r = rng.next();
        if i >= calm { (r >> 8) as u8 } else { u8::from(r.is_multiple_of(100)) }
    });
    Pair { base: None, target: vec![raw("w", Dtype::U8, &[calm + noise], bytes.collect())] }
}

/// Two experts, stacked and with rows and columns exchanged; and rows in another order.
pub(crate) fn rearranged() -> Pair {
    let experts: Vec<Vec<f32>> = (0..2).map(|i| numbers(900 + i, 64 * 96, 0.05)).collect();
    let rows = numbers(910, 120 * 64, 0.05);
    let expert = |i: usize| tensor(&format!("experts.{i}"), Dtype::Bf16, &[64, 96], &experts[i]);
    let base = vec![expert(0), expert(1), tensor("rows", Dtype::Bf16, &[120, 64], &rows)];
    let changed = |values: &[f32]| -> Vec<f32> {
        values.iter().enumerate().map(|(i, x)| if i % 5 == 0 { x * 1.01 } else { *x }).collect()
    };
    let turned = |values: &[f32]| -> Vec<f32> {
        (0..96).flat_map(|c| (0..64).map(move |r| values[r * 96 + c])).collect()
    };
    let stack: Vec<f32> = experts.iter().flat_map(|e| turned(&changed(e))).collect();
    let rows = changed(&rows);
    let order = (0..120).flat_map(|row| rows[row * 77 % 120 * 64..][..64].to_vec());
    let target = vec![
        tensor("order", Dtype::Bf16, &[120, 64], &order.collect::<Vec<_>>()),
        tensor("stack", Dtype::Bf16, &[2, 96, 64], &stack),
    ];
    Pair { base: Some(base), target }
}
