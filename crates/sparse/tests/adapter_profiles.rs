//! Adapters for each kind of loader, read back by the rules of that loader.

#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used, clippy::panic)]

use sparse::{AdapterExporter, AdapterRank, Dtype, ErrorKind, Model, Profile};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const HIDDEN: usize = 32;
const HEADS: usize = 4;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn save(folder: &Path, tensors: &Tensors) {
    let (mut head, mut data) = (Vec::new(), Vec::new());
    for (name, (shape, values)) in tensors {
        let start = data.len();
        values.iter().for_each(|x| data.extend(x.to_le_bytes()));
        let end = data.len();
        head.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
    }
    let head = format!("{{{}}}", head.join(","));
    fs::create_dir_all(folder).unwrap();
    let file = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), &data].concat();
    fs::write(folder.join("model.safetensors"), file).unwrap();
    let config = format!(r#"{{"model_type": "llama", "num_attention_heads": {HEADS}}}"#);
    fs::write(folder.join("config.json"), config).unwrap();
}

fn load(file: &Path) -> Tensors {
    let bytes = fs::read(file).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let tensor = |(name, entry): (&String, &serde_json::Value)| {
        let numbers = |key: &str| -> Vec<usize> {
            entry[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        assert_eq!(entry["dtype"], "F32");
        let place = numbers("data_offsets");
        let data = &bytes[8 + len..][place[0]..place[1]];
        (name.clone(), (numbers("shape"), floats(data)))
    };
    let head = head.as_object().unwrap();
    head.iter().filter(|(name, _)| *name != "__metadata__").map(tensor).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|w| f32::from_le_bytes(w.try_into().unwrap())).collect()
}

fn number(seed: usize) -> f32 {
    ((seed * 2_654_435_761) % 4093) as f32 / 4093.0 - 0.5
}

/// Multiplies an `n x k` matrix by a `k x m` one.
fn times(left: &[f32], right: &[f32], [n, k, m]: [usize; 3]) -> Vec<f32> {
    let at = |i: usize, j: usize| (0..k).map(|x| left[i * k + x] * right[x * m + j]).sum();
    (0..n * m).map(|at_| at(at_ / m, at_ % m)).collect()
}

const NAMES: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"];

/// Two blocks of which one changed, by products of rank two. Returns the changes by module.
fn pair(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let (mut base, mut tuned, mut changes) = (Tensors::new(), Tensors::new(), BTreeMap::new());
    for (i, name) in NAMES.iter().enumerate() {
        for block in 0..2 {
            let path = format!("model.layers.{block}.{name}");
            let shape = vec![HIDDEN, HIDDEN];
            let weight: Vec<f32> = (0..HIDDEN * HIDDEN).map(|x| number(x + 7 * i)).collect();
            let [b, a] = [1, 2].map(|s| -> Vec<f32> {
                (0..2 * HIDDEN).map(|x| 0.1 * number(x + 1000 * s + 77 * i)).collect()
            });
            let change = match block {
                0 => vec![0.0; HIDDEN * HIDDEN],
                _ => times(&b, &a, [HIDDEN, 2, HIDDEN]),
            };
            let sum = weight.iter().zip(&change).map(|(w, c)| w + c).collect();
            base.insert(format!("{path}.weight"), (shape.clone(), weight));
            tuned.insert(format!("{path}.weight"), (shape, sum));
            if block == 1 {
                changes.insert(path, change);
            }
        }
    }
    save(&folder.join("base"), &base);
    save(&folder.join("tuned"), &tuned);
    changes
}

fn export(folder: &Path, profile: Profile, rank: AdapterRank) -> sparse::Result<Vec<String>> {
    let (base, tuned) = (folder.join("base"), folder.join("tuned"));
    let (base, tuned) = (Model::open(base)?, Model::open(tuned)?);
    let job = AdapterExporter::new(&base, &tuned).profile(profile).rank(rank).dtype(Dtype::F32);
    let report = job.base_name("org/base").write(folder.join(profile.to_string()))?;
    assert!(report.energy_kept > 0.999, "{profile}: {report:?}");
    let files = fs::read_dir(folder.join(profile.to_string())).unwrap();
    let mut files: Vec<String> =
        files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let card = fs::read_to_string(folder.join(profile.to_string()).join("README.md")).unwrap();
    assert!(card.contains("base_model: \"org/base\"\n") && card.contains("- lora\n"), "{card}");
    Ok(files)
}

fn near(found: &[f32], want: &[f32], what: &str) {
    assert_eq!(found.len(), want.len(), "{what}");
    let worst = found.iter().zip(want).map(|(f, w)| (f - w).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{what}: {worst}");
}

#[test]
fn mlx() {
    let dir = tempfile::tempdir().unwrap();
    let changes = pair(dir.path());
    let files = export(dir.path(), Profile::Mlx, AdapterRank::Fixed(2)).unwrap();
    assert_eq!(files, ["README.md", "adapter_config.json", "adapters.safetensors"]);
    let config = fs::read(dir.path().join("mlx/adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["num_layers"], 2);
    let scale = config["lora_parameters"]["scale"].as_f64().unwrap() as f32;
    let tensors = load(&dir.path().join("mlx/adapters.safetensors"));
    assert_eq!(tensors.len(), 2 * changes.len());
    for (path, change) in changes {
        let ((of_a, a), (of_b, b)) =
            (&tensors[&format!("{path}.lora_a")], &tensors[&format!("{path}.lora_b")]);
        assert_eq!((&of_a[..], &of_b[..]), (&[HIDDEN, 2][..], &[2, HIDDEN][..]));
        // y = x W' + scale (x a) b, and W is [out, in].
        let product = times(a, b, [HIDDEN, 2, HIDDEN]);
        let turned: Vec<f32> = (0..HIDDEN * HIDDEN)
            .map(|at| scale * product[at % HIDDEN * HIDDEN + at / HIDDEN])
            .collect();
        near(&turned, &change, &path);
    }
}

#[test]
fn kohya() {
    let dir = tempfile::tempdir().unwrap();
    let changes = pair(dir.path());
    // A rank of their own: two suffice.
    let files = export(dir.path(), Profile::Kohya, AdapterRank::Energy(0.9999)).unwrap();
    assert_eq!(files, ["README.md", "adapter.safetensors"]);
    let tensors = load(&dir.path().join("kohya/adapter.safetensors"));
    for (path, change) in changes {
        let name = format!("lora_unet_{}", path.replace('.', "_"));
        let part = |part: &str| &tensors[&format!("{name}.{part}")];
        let (down, up) = (part("lora_down.weight"), part("lora_up.weight"));
        let (rank, scale) = (down.0[0], part("alpha").1[0] / down.0[0] as f32);
        assert_eq!((rank, scale), (2, 1.0));
        near(&times(&up.1, &down.1, [HIDDEN, rank, HIDDEN]), &change, &path);
    }
}

/// Reads a GGUF file by its specification.
fn gguf(file: &Path) -> (BTreeMap<String, String>, Tensors) {
    let bytes = fs::read(file).unwrap();
    let mut at = 0;
    let mut take = |len: usize| {
        at += len;
        bytes[at - len..at].to_vec()
    };
    let u32_of = |b: Vec<u8>| u32::from_le_bytes(b.try_into().unwrap());
    let u64_of = |b: Vec<u8>| u64::from_le_bytes(b.try_into().unwrap()) as usize;
    assert_eq!((take(4), u32_of(take(4))), (b"GGUF".to_vec(), 3));
    let (tensors, pairs) = (u64_of(take(8)), u64_of(take(8)));
    let text = |take: &mut dyn FnMut(usize) -> Vec<u8>| {
        let len = u64_of(take(8));
        String::from_utf8(take(len)).unwrap()
    };
    let mut keys = BTreeMap::new();
    for _ in 0..pairs {
        let key = text(&mut take);
        let value = match u32_of(take(4)) {
            8 => text(&mut take),
            4 => u32_of(take(4)).to_string(),
            6 => f32::from_bits(u32_of(take(4))).to_string(),
            other => panic!("a value of type {other}"),
        };
        keys.insert(key, value);
    }
    let heads: Vec<(String, Vec<usize>, usize)> = (0..tensors)
        .map(|_| {
            let name = text(&mut take);
            let dimensions = u32_of(take(4));
            let shape = (0..dimensions).map(|_| u64_of(take(8))).collect();
            assert_eq!(u32_of(take(4)), 0, "F32");
            (name, shape, u64_of(take(8)))
        })
        .collect();
    let data = &bytes[at.next_multiple_of(32)..];
    let tensor = |(name, shape, start): (String, Vec<usize>, usize)| {
        assert_eq!(start % 32, 0);
        let len = 4 * shape.iter().product::<usize>();
        (name, (shape, floats(&data[start..start + len])))
    };
    (keys, heads.into_iter().map(tensor).collect())
}

#[test]
fn llama_cpp() {
    let dir = tempfile::tempdir().unwrap();
    let changes = pair(dir.path());
    let files = export(dir.path(), Profile::LlamaCpp, AdapterRank::Fixed(2)).unwrap();
    assert_eq!(files, ["README.md", "adapter.gguf"]);
    let (keys, tensors) = gguf(&dir.path().join("llama-cpp/adapter.gguf"));
    assert_eq!(keys["general.architecture"], "llama");
    assert_eq!((&*keys["general.type"], &*keys["adapter.type"]), ("adapter", "lora"));
    assert_eq!(keys["adapter.lora.alpha"], "2");
    assert_eq!(tensors.len(), 2 * changes.len());
    for (path, change) in changes {
        let name = match path.rsplit('.').next().unwrap() {
            "q_proj" => "attn_q",
            "k_proj" => "attn_k",
            _ => "ffn_down",
        };
        let part = |part: &str| &tensors[&format!("blk.1.{name}.weight.lora_{part}")];
        let (a, b) = (part("a"), part("b"));
        // The fastest dimension comes first.
        assert_eq!((&a.0[..], &b.0[..]), (&[HIDDEN, 2][..], &[2, HIDDEN][..]));
        let product = times(&b.1, &a.1, [HIDDEN, 2, HIDDEN]);
        // As the converter has it: reshape(heads, 2, rows of a head / 2, columns), axes 1 and 2
        // exchanged.
        let half = HIDDEN / HEADS / 2;
        let from = |row: usize| {
            let (head, within) = (row / (2 * half), row % (2 * half));
            head * 2 * half + within % 2 * half + within / 2
        };
        let rows = |row: usize| match name {
            "ffn_down" => row,
            _ => from(row),
        };
        let want: Vec<f32> =
            (0..HIDDEN).flat_map(|row| change[rows(row) * HIDDEN..][..HIDDEN].to_vec()).collect();
        near(&product, &want, &path);
    }
}

#[test]
fn servers() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path());
    for profile in [Profile::Vllm, Profile::Sglang, Profile::Portable] {
        let files = export(dir.path(), profile, AdapterRank::Fixed(3)).unwrap();
        assert_eq!(files, ["README.md", "adapter_config.json", "adapter_model.safetensors"]);
        let folder = dir.path().join(profile.to_string());
        let config = fs::read(folder.join("adapter_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        // A rank that vLLM has kernels for, no patterns, nothing stored whole, no bias.
        assert_eq!((&config["r"], &config["lora_alpha"]), (&8.into(), &8.into()));
        assert_eq!(config["rank_pattern"], serde_json::json!({}));
        assert!(config["modules_to_save"].is_null() && config["bias"] == "none");
        let tensors = load(&folder.join("adapter_model.safetensors"));
        assert_eq!(tensors.len(), 2 * 2 * NAMES.len(), "every weight of a name has factors");
        let ranks = tensors.iter().map(|(name, t)| t.0[usize::from(name.contains("lora_B"))]);
        assert!(ranks.clone().all(|rank| rank == 8), "{:?}", ranks.collect::<Vec<_>>());
    }
}

#[test]
fn sizes_and_unknown_architectures_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path());
    for profile in [Profile::Mlx, Profile::LlamaCpp, Profile::Kohya] {
        let e = export(dir.path(), profile, AdapterRank::Bytes(100_000)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    }
    fs::write(dir.path().join("base/config.json"), r#"{"model_type": "other"}"#).unwrap();
    let e = export(dir.path(), Profile::LlamaCpp, AdapterRank::Fixed(2)).unwrap_err();
    assert!(e.message().contains("convert_lora_to_gguf"), "{e}");
    assert!(!dir.path().join("llama-cpp").exists());
}

#[test]
fn plans_tell_what_each_rank_brings() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path());
    let (base, tuned) = (dir.path().join("base"), dir.path().join("tuned"));
    let (base, tuned) = (Model::open(base).unwrap(), Model::open(tuned).unwrap());
    let job = AdapterExporter::new(&base, &tuned).profile(Profile::Peft).dtype(Dtype::F32);
    let plan = job.plan().unwrap();
    let ranks: Vec<usize> = plan.ranks.iter().map(|choice| choice.rank).collect();
    assert_eq!((ranks, plan.modules), (vec![1, 2, 4, 8, 16, 32], 3));
    assert!(plan.ranks.windows(2).all(|w| w[0].energy_kept <= w[1].energy_kept));
    let choice = plan.least_rank(0.99).unwrap();
    assert_eq!((choice.rank, plan.least_rank(1.1)), (2, None));
    let report = job.clone().rank(AdapterRank::Fixed(2)).write(dir.path().join("adapter")).unwrap();
    assert_eq!(report.bytes, choice.bytes);
    assert!((report.energy_kept - choice.energy_kept).abs() < 1e-3);
    // Without the proof it is the same adapter.
    let again = job.rank(AdapterRank::Fixed(2)).proof(false).write(dir.path().join("again"));
    assert_eq!(again.unwrap(), report);
}
