//! Adapters out of a merged pair, and into a base.

#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used)]

use sparse::{
    Adapter, AdapterExporter, AdapterRank, Codecs, Compressor, Delta, Dtype, Limits, Merger, Model,
    Overwrite, Profile, Restorer,
};
use std::path::Path;

fn put(path: &Path, tensors: &[(&str, [usize; 2], Vec<f32>)], bf16: bool) {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        for x in values {
            if bf16 {
                let bits = x.to_bits();
                let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
                data.extend((rounded as u16).to_le_bytes());
            } else {
                data.extend(x.to_le_bytes());
            }
        }
        let dtype = if bf16 { "BF16" } else { "F32" };
        let shape = if shape[0] == 1 { format!("[{}]", shape[1]) } else { format!("{shape:?}") };
        header.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    std::fs::create_dir_all(path).unwrap();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(path.join("model.safetensors"), file).unwrap();
    std::fs::write(path.join("config.json"), r#"{"model_type": "test"}"#).unwrap();
}

fn random(len: usize, seed: u64, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| size * 2.0 * (uniform() + uniform() + uniform())).collect()
}

const ROWS: usize = 192;
const COLUMNS: usize = 160;
const RANK: usize = 4;

/// A base, and the same with a product of rank four merged into one of two linear weights, in bf16.
fn pair(folder: &Path) -> Vec<f32> {
    let q = random(ROWS * COLUMNS, 1, 0.02);
    // The base's own rounding is not what is looked at.
    let q: Vec<f32> = q.iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect();
    let (b, a) = (random(ROWS * RANK, 2, 0.02), random(RANK * COLUMNS, 3, 0.02));
    let product: Vec<f32> = (0..ROWS * COLUMNS)
        .map(|at| {
            (0..RANK).map(|k| b[at / COLUMNS * RANK + k] * a[k * COLUMNS + at % COLUMNS]).sum()
        })
        .collect();
    let merged = q.iter().zip(&product).map(|(x, p)| x + p).collect();
    let bias = random(ROWS, 4, 0.1);
    let moved = bias.iter().map(|x| x * 1.5).collect();
    let embedding = random(50 * COLUMNS, 5, 0.02);
    let k = random(ROWS * COLUMNS, 6, 0.02);
    let tensors = |q: Vec<f32>, bias: Vec<f32>| {
        vec![
            ("layer.0.q_proj.weight", [ROWS, COLUMNS], q),
            ("layer.0.q_proj.bias", [1, ROWS], bias),
            ("layer.1.q_proj.weight", [ROWS, COLUMNS], k.clone()),
            ("embed_tokens.weight", [50, COLUMNS], embedding.clone()),
        ]
    };
    put(&folder.join("base"), &tensors(q, bias), true);
    put(&folder.join("finetuned"), &tensors(merged, moved), true);
    product
}

fn relative(found: &[f32], want: &[f32]) -> f64 {
    let norm =
        |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(want).map(|(a, b)| a - b)) / norm(&mut want.iter().copied())
}

#[test]
fn what_was_merged_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let product = pair(dir.path());
    let open = |name: &str| Model::open(dir.path().join(name)).unwrap();
    let (base, target) = (open("base"), open("finetuned"));
    let out = dir.path().join("adapter");
    let report = AdapterExporter::new(&base, &target)
        .rank(AdapterRank::Fixed(RANK as u32))
        .write(&out)
        .unwrap();
    // Portable: filled up to a usual rank, and the untouched layer of the same name has factors,
    // too.
    assert_eq!((report.rank, report.modules.len()), (8, 2));
    assert_eq!(report.modules[1].rank, 0);
    assert_eq!(report.left_out.len(), 1);
    assert_eq!(report.left_out[0].tensor, "layer.0.q_proj.bias");
    assert!(report.energy_kept < 1.0 && report.left_out[0].energy > 0.0);

    let adapter = Adapter::open(&out).unwrap();
    let module = adapter.modules().iter().find(|m| m.path == "layer.0.q_proj").unwrap();
    let factors = adapter.factors(module).unwrap();
    let found: Vec<f32> = (0..ROWS * COLUMNS)
        .map(|at| {
            let (i, j) = (at / COLUMNS, at % COLUMNS);
            let sum: f32 = (0..factors.rank)
                .map(|k| factors.left[i * factors.rank + k] * factors.right[k * COLUMNS + j])
                .sum();
            sum * factors.scale as f32
        })
        .collect();
    // Although rounding to bf16 hides a third of it.
    let e = relative(&found, &product);
    assert!(e < 0.1, "{e}");

    let merged = dir.path().join("merged");
    let done = Merger::new(&base, &adapter).write(&merged).unwrap();
    assert_eq!((done.merged, done.replaced), (2, 0));
    let read = |name: &str| std::fs::read(dir.path().join(name).join("model.safetensors")).unwrap();
    let (merged, want, before) = (read("merged"), read("finetuned"), read("base"));
    let differing =
        |a: &[u8], b: &[u8]| a.chunks(2).zip(b.chunks(2)).filter(|(a, b)| a != b).count();
    assert!(differing(&merged, &want) * 4 < differing(&before, &want));
    assert!(dir.path().join("merged/config.json").exists());
}

#[test]
fn mixed_ranks_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path());
    let open = |name: &str| Model::open(dir.path().join(name)).unwrap();
    let (base, target) = (open("base"), open("finetuned"));
    let out = dir.path().join("adapter");
    let run = |rank, target: &Model, out: &Path| {
        AdapterExporter::new(&base, target)
            .overwrite(Overwrite::Replace)
            .profile(Profile::Peft)
            .rank(rank)
            .write(out)
    };
    let report = run(AdapterRank::Energy(0.5), &target, &out).unwrap();
    assert_eq!(report.modules.len(), 1);
    let rank = report.modules[0].rank;
    assert!((1..=RANK).contains(&rank), "{rank}");
    // The size is that of the file, with its head.
    let bytes = AdapterRank::Bytes((2 * 2 * (ROWS + COLUMNS)) as u64 + 300);
    let report = run(bytes, &target, &out).unwrap();
    assert_eq!(report.modules[0].rank, 2);
    assert!(report.bytes <= (2 * 2 * (ROWS + COLUMNS)) as u64 + 300, "{}", report.bytes);
    assert!(run(AdapterRank::Bytes(500), &target, &out).is_err());
    let report = run(AdapterRank::TotalEnergy(0.5), &target, &out).unwrap();
    assert!(report.modules[0].energy_kept > 0.5);
    run(bytes, &target, &out).unwrap();
    let adapter = Adapter::open(&out).unwrap();
    assert_eq!(adapter.modules()[0].scale, 1.0);

    // Nothing changed: nothing to export.
    assert!(run(bytes, &base, &dir.path().join("none")).is_err());
    // An adapter of another model has no place here.
    let other = dir.path().join("other");
    put(
        &other,
        &[("layer.9.q_proj.weight", [ROWS, COLUMNS], random(ROWS * COLUMNS, 9, 0.1))],
        true,
    );
    let other = Model::open(&other).unwrap();
    let e = Merger::new(&other, &adapter).write(dir.path().join("m"));
    assert_eq!(e.unwrap_err().kind(), sparse::ErrorKind::InvalidInput);
}

#[test]
fn another_base_is_refused_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path());
    let open = |name: &str| Model::open(dir.path().join(name)).unwrap();
    let (base, target) = (open("base"), open("finetuned"));
    let folder = dir.path().join("adapter");
    AdapterExporter::new(&base, &target).write(&folder).unwrap();
    let adapter = Adapter::open(&folder).unwrap();
    let packed = dir.path().join("a.sparse");
    Compressor::of_adapter(&adapter, &base).write(&packed).unwrap();
    let delta = Delta::open(&packed).unwrap();
    // What a program that knows no digests writes.
    let (bare, _) = Compressor::new(adapter.model()).write_to(Vec::new()).unwrap();
    let bare = Delta::from_source(Box::new(bare), Codecs::default(), &Limits::default()).unwrap();

    let merge = |delta: &Delta, base: &Model, any_base| {
        let job = Restorer::new(delta).base(base).overwrite(Overwrite::Replace);
        job.any_base(any_base).merge(dir.path().join("merged"))
    };
    assert_eq!(merge(&delta, &base, false).unwrap().notes, Vec::<String>::new());
    let right = std::fs::read(dir.path().join("merged/model.safetensors")).unwrap();
    let e = merge(&delta, &target, false).unwrap_err();
    assert_eq!(
        (e.kind(), e.tensor()),
        (sparse::ErrorKind::BaseMismatch, Some("layer.0.q_proj.weight"))
    );
    merge(&delta, &target, true).unwrap();
    let report = merge(&bare, &base, false).unwrap();
    assert!(
        report.notes.iter().any(|n| n.contains("does not record which base")),
        "{:?}",
        report.notes
    );
    assert!(std::fs::read(dir.path().join("merged/model.safetensors")).unwrap() == right);
    // The adapter itself comes back without any base.
    let back = dir.path().join("back");
    Restorer::new(&delta).write(&back).unwrap();
    let file = "adapter_model.safetensors";
    assert!(std::fs::read(back.join(file)).unwrap() == std::fs::read(folder.join(file)).unwrap());
}

#[test]
fn what_is_not_finite_is_never_exported() {
    let dir = tempfile::tempdir().unwrap();
    let weight = |seed| random(ROWS * COLUMNS, seed, 0.02);
    let put = |name: &str, q: Vec<f32>, k: Vec<f32>| {
        let shape = [ROWS, COLUMNS];
        let tensors = [("layer.0.q_proj.weight", shape, q), ("layer.0.k_proj.weight", shape, k)];
        put(&dir.path().join(name), &tensors, false);
        Model::open(dir.path().join(name)).unwrap()
    };
    let nan = vec![f32::NAN; ROWS * COLUMNS];
    let mut one = weight(3);
    one[7] = f32::INFINITY;
    let base = put("base", weight(1), weight(2));
    let (all, some) = (put("all", nan.clone(), nan), put("some", one, weight(4)));
    let huge = put("huge", weight(1).iter().map(|x| x * 1e12).collect(), weight(2));
    let out = dir.path().join("adapter");
    for profile in [Profile::Portable, Profile::Peft] {
        let run = |dtype: Option<Dtype>, target: &Model| {
            AdapterExporter::new(&base, target)
                .overwrite(Overwrite::Replace)
                .profile(profile)
                .dtype(dtype)
                .write(&out)
        };
        let e = run(None, &all).unwrap_err();
        assert!(e.kind() == sparse::ErrorKind::InvalidInput && e.message().contains("NaN"), "{e}");
        assert!(!out.exists() || profile == Profile::Peft);
        let report = run(None, &some).unwrap();
        assert_eq!(report.left_out[0].tensor, "layer.0.q_proj.weight");
        assert!(report.left_out[0].reason.contains("NaN"), "{report:?}");
        let adapter = Adapter::open(&out).unwrap();
        let factors = adapter.modules().iter().map(|m| adapter.factors(m).unwrap());
        let mut numbers = factors.flat_map(|f| [f.left, f.right].concat());
        assert!(numbers.all(f32::is_finite));
        // Too large for what was asked for.
        let e = run(Some(Dtype::F16), &huge).unwrap_err();
        assert!(
            e.kind() == sparse::ErrorKind::InvalidArgument && e.message().contains("F16"),
            "{e}"
        );
    }
}
