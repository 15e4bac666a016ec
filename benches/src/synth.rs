//! The `synth` command: a seeded synthetic base and fine-tune of any size.

mod layout;
mod lora;
mod noise;
mod options;

pub use layout::{Kind, Shape, SynthTensor, layout, one_matrix};
pub use noise::{Gauss, Rng};
pub use options::{Lora, SHARD_BYTES, Synth};

use crate::files::put;
use crate::pair::{header_bytes, show};
use half::{bf16, f16};
use sparse_core::{Dtype, Error, Result, TensorSpec};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// Bytes of one model that are made at a time: the bound on memory.
const BLOCK_BYTES: usize = 16 << 20;
/// Spread of base weights.
const BASE_STD: f32 = 0.02;

/// Numbers of what was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Bytes of the fine-tune's weight files (the base has as many).
    pub bytes: u64,
    /// Number of weights.
    pub weights: u64,
    /// Shards of each model.
    pub shards: usize,
}

/// Write the pair, streaming.
///
/// # Errors
/// `InvalidArgument` for another type, `AlreadyExists` when `base/` or `finetuned/` is there, `Io`.
pub fn synth(options: &Synth) -> Result<Made> {
    if !matches!(options.dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32) {
        return Err(Error::invalid_argument(format!(
            "{} is not a type to synthesise",
            options.dtype
        )));
    }
    let width = options.dtype.storage_bytes() as u64;
    let (shape, tensors) = match options.matrix {
        Some((rows, columns)) => one_matrix(rows, columns),
        None => layout(options.bytes / width),
    };
    let mut shards: Vec<Vec<(u64, &SynthTensor)>> = vec![Vec::new()];
    let mut size = 0;
    for (index, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.weights() * width;
        if size > 0 && size + bytes > options.shard_bytes {
            shards.push(Vec::new());
            size = 0;
        }
        size += bytes;
        if let Some(last) = shards.last_mut() {
            last.push((index as u64, tensor));
        }
    }
    let folders = ["base", "finetuned"].map(|n| options.out.join(n));
    std::fs::create_dir_all(&options.out)
        .map_err(|e| Error::io("cannot create", e).in_file(show(&options.out)))?;
    for folder in &folders {
        std::fs::create_dir(folder)
            .map_err(|e| Error::io("cannot create", e).in_file(show(folder)))?;
        put(&folder.join("config.json"), shape.config(options.dtype).as_bytes())?;
    }
    if let Some(lora) = options.lora {
        lora::write_adapter(options, lora, &tensors, &options.out.join("adapter"))?;
    }
    let mut made = Made { shards: shards.len(), ..Made::default() };
    let mut index = serde_json::Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        for (_, tensor) in shard {
            index.insert(tensor.name.clone(), name.as_str().into());
            made.weights += tensor.weights();
        }
        made.bytes += write_shard(options, shard, &folders, &name)?;
    }
    if shards.len() > 1 {
        let json = serde_json::json!({ "metadata": { "total_size": made.weights * width },
            "weight_map": index });
        let text = format!("{json:#}\n");
        for folder in &folders {
            put(&folder.join("model.safetensors.index.json"), text.as_bytes())?;
        }
    }
    Ok(made)
}

/// Write one shard of both models; its bytes in one of them.
fn write_shard(
    options: &Synth,
    shard: &[(u64, &SynthTensor)],
    folders: &[PathBuf; 2],
    name: &str,
) -> Result<u64> {
    let mut specs = Vec::new();
    for (_, t) in shard {
        specs.push((t.name.as_str(), TensorSpec::new(options.dtype, t.shape.clone())?));
    }
    let header = header_bytes(Some("{\"format\":\"pt\"}"), specs.iter().map(|(n, s)| (*n, s)));
    let paths = folders.clone().map(|f| f.join(name));
    let open = |path: &PathBuf| -> Result<File> {
        let fail = |e| Error::io("cannot write", e).in_file(show(path));
        let mut file = File::create_new(path).map_err(fail)?;
        file.write_all(&header).map_err(fail)?;
        Ok(file)
    };
    let [base_path, target_path] = &paths;
    let (mut base_file, mut target_file) = (open(base_path)?, open(target_path)?);
    let mut written = header.len() as u64;
    let (mut base, mut target) = (Vec::new(), Vec::new());
    let gauss = Gauss::new();
    for (index, tensor) in shard {
        let row_bytes = tensor.row_len as usize * options.dtype.storage_bytes();
        let adapter = options.lora.filter(|_| tensor.kind == Kind::Linear);
        let adapter = adapter.map(|l| (l, lora::right(options, l, &gauss, *index, tensor)));
        let block_rows = (BLOCK_BYTES / row_bytes).max(1) as u64;
        for start in (0..tensor.rows).step_by(block_rows as usize) {
            let rows = block_rows.min(tensor.rows - start) as usize;
            base.resize(rows * row_bytes, 0);
            target.resize(rows * row_bytes, 0);
            let share = rows.div_ceil(options.threads.max(1)) * row_bytes;
            std::thread::scope(|scope| {
                let parts = base.chunks_mut(share).zip(target.chunks_mut(share));
                for (part, (base, target)) in parts.enumerate() {
                    let first = start + (part * share / row_bytes) as u64;
                    let (gauss, adapter) = (&gauss, &adapter);
                    scope.spawn(move || {
                        let rows = base.chunks_mut(row_bytes).zip(target.chunks_mut(row_bytes));
                        for (row, (base, target)) in (first..).zip(rows) {
                            make_row(options, gauss, *index, tensor.kind, row, base, target);
                            if let Some((lora, right)) = adapter {
                                let left = lora::left(options, *lora, gauss, *index, row);
                                lora::merge_row(options.dtype, *lora, &left, right, base, target);
                            } else if options.lora.is_some() {
                                target.copy_from_slice(base);
                            }
                        }
                    });
                }
            });
            for (file, bytes, path) in
                [(&mut base_file, &base, base_path), (&mut target_file, &target, target_path)]
            {
                file.write_all(bytes)
                    .map_err(|e| Error::io("cannot write", e).in_file(show(path)))?;
            }
            written += base.len() as u64;
        }
    }
    Ok(written)
}

/// One row of both models. Each row has its own generator, so that rows can be made in any order.
fn make_row(
    options: &Synth,
    gauss: &Gauss,
    index: u64,
    kind: Kind,
    row: u64,
    base: &mut [u8],
    target: &mut [u8],
) {
    let mut rng = Rng::new(options.seed, index, row);
    let spread = |rng: &mut Rng, s: f32| (gauss.sample(rng) * s).exp2();
    let (mean, std) = match kind {
        Kind::Norm => (1.0, 0.05),
        Kind::Linear | Kind::Embedding => (0.0, BASE_STD * spread(&mut rng, 0.35)),
    };
    let update = options.update * spread(&mut rng, 0.5);
    // Rows of tokens that never occur are unchanged; other rows rarely are.
    let untouched = match kind {
        Kind::Norm => 0.0,
        Kind::Linear => 0.02,
        Kind::Embedding => 0.3,
    };
    let update = if rng.uniform() < untouched { 0.0 } else { update };
    let sample = |rng: &mut Rng| mean + std * gauss.sample(rng);
    match options.dtype {
        Dtype::F32 => {
            for (b, t) in base.as_chunks_mut::<4>().0.iter_mut().zip(target.as_chunks_mut::<4>().0)
            {
                let w = sample(&mut rng);
                *b = w.to_le_bytes();
                *t = (w + update * gauss.sample(&mut rng)).to_le_bytes();
            }
        }
        Dtype::F16 => {
            for (b, t) in base.as_chunks_mut::<2>().0.iter_mut().zip(target.as_chunks_mut::<2>().0)
            {
                let w = f16::from_f32(sample(&mut rng));
                *b = w.to_le_bytes();
                *t = f16::from_f32(w.to_f32() + update * gauss.sample(&mut rng)).to_le_bytes();
            }
        }
        _ => {
            for (b, t) in base.as_chunks_mut::<2>().0.iter_mut().zip(target.as_chunks_mut::<2>().0)
            {
                let w = bf16::from_f32(sample(&mut rng));
                *b = w.to_le_bytes();
                *t = bf16::from_f32(w.to_f32() + update * gauss.sample(&mut rng)).to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::Pair;

    fn options(out: PathBuf, threads: usize) -> Synth {
        Synth {
            out,
            bytes: 3_000_000,
            seed: 7,
            dtype: Dtype::Bf16,
            update: 1e-4,
            threads,
            lora: None,
            matrix: None,
            shard_bytes: 1_000_000,
        }
    }

    #[test]
    fn pairs_are_valid_and_seeded() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let made = synth(&options(one.clone(), 1)).unwrap();
        synth(&options(two.clone(), 3)).unwrap();
        let pair = Pair::load(&one.join("base"), &one.join("finetuned")).unwrap();
        let again = Pair::load(&two.join("base"), &two.join("finetuned")).unwrap();
        assert!(made.shards > 1);
        assert_eq!(pair.target.byte_len(), made.bytes);
        assert_eq!(pair.target.files().len(), made.shards);
        for (a, b) in pair.target.files().iter().zip(again.target.files()) {
            assert!(a.bytes == b.bytes && a.name == b.name);
        }
        assert!((1_500_000..4_500_000).contains(&made.bytes), "{}", made.bytes);
        let changed = |name: &str| {
            let t = pair.target.find(name).unwrap();
            let base = pair.base.counterpart(name, &t.spec).unwrap();
            let words = pair.target.bytes(t).as_chunks::<2>().0.iter().zip(base.as_chunks::<2>().0);
            words.filter(|(a, b)| a != b).count() as f64 / t.spec.storage_len() as f64
        };
        assert!((0.4..0.9).contains(&changed("model.layers.0.mlp.up_proj.weight")));
        assert!((0.2..0.7).contains(&changed("model.embed_tokens.weight")));
        assert!(synth(&options(one, 1)).is_err(), "an existing pair is not overwritten");
    }
}
