//! What candle gets from base and delta is what it gets from the fine-tune's file.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use candle_nn::var_builder::{Shard, SimpleBackend};
use safetensors::SafeTensors;
use safetensors::slice::IndexOp;
use sparse::{DeltaModel, Model, TensorSource, Threads};
use sparse_candle::{SourceBackend, load_tensors, sharded_var_builder, var_builder};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A pair of models, joined by a delta.
struct Pair {
    file: Vec<u8>,
    model: DeltaModel,
    _delta: tempfile::TempDir,
}

impl Pair {
    fn new(base: &Path, tuned: &Path) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let open = |path| Model::open(path).unwrap();
        let out = dir.path().join("d.sparse");
        sparse::Compressor::new(&open(tuned)).base(&open(base)).write(&out).unwrap();
        let model = DeltaModel::open(base, &out).unwrap();
        let file = if tuned.is_dir() { tuned.join("model.safetensors") } else { tuned.to_owned() };
        Pair { file: std::fs::read(file).unwrap(), model, _delta: dir }
    }

    fn source(&self) -> Arc<dyn TensorSource> {
        Arc::new(self.model.clone())
    }

    fn theirs(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.file).unwrap()
    }
}

fn fixture(name: &str) -> Pair {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    Pair::new(&folder.join("base"), &folder.join("finetuned"))
}

/// A file of tensors of all types that candle knows, and some changed a little.
fn all_types(folder: &Path) -> [PathBuf; 2] {
    use safetensors::Dtype::*;
    let types = [U8, U16, U32, I16, I32, I64, F16, BF16, F32, F64, F8_E4M3];
    [0u8, 1].map(|changed| {
        let bytes: Vec<Vec<u8>> = types
            .iter()
            .map(|t| {
                // Small enough to be finite numbers in any type.
                let len = 2100 * t.bitsize() / 8;
                (0..len).map(|i| (i * 37 % 50) as u8 + changed * u8::from(i % 5 == 0)).collect()
            })
            .collect();
        let views = types.iter().zip(&bytes).map(|(t, b)| {
            let view = safetensors::tensor::TensorView::new(*t, vec![30, 70], b).unwrap();
            (format!("{t:?}"), view)
        });
        let path = folder.join(format!("{changed}.safetensors"));
        safetensors::serialize_to_file(views, None, &path).unwrap();
        path
    })
}

fn assert_same(ours: &Tensor, theirs: &Tensor, name: &str) {
    assert_eq!((ours.dtype(), ours.shape()), (theirs.dtype(), theirs.shape()), "{name}");
    let bytes = |t: &Tensor| {
        let t = t.flatten_all().unwrap();
        match t.dtype() {
            DType::U8 => t.to_vec1::<u8>().unwrap(),
            DType::U32 => bytemuck::cast_slice(&t.to_vec1::<u32>().unwrap()).to_vec(),
            DType::I16 => bytemuck::cast_slice(&t.to_vec1::<i16>().unwrap()).to_vec(),
            DType::I32 => bytemuck::cast_slice(&t.to_vec1::<i32>().unwrap()).to_vec(),
            DType::I64 => bytemuck::cast_slice(&t.to_vec1::<i64>().unwrap()).to_vec(),
            DType::BF16 => bytemuck::cast_slice(&t.to_vec1::<half::bf16>().unwrap()).to_vec(),
            DType::F16 => bytemuck::cast_slice(&t.to_vec1::<half::f16>().unwrap()).to_vec(),
            DType::F64 => bytemuck::cast_slice(&t.to_vec1::<f64>().unwrap()).to_vec(),
            _ => bytemuck::cast_slice(&t.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap())
                .to_vec(),
        }
    };
    assert!(bytes(ours) == bytes(theirs), "{name}");
}

#[test]
fn every_tensor_of_every_type() {
    let dir = tempfile::tempdir().unwrap();
    let [base, tuned] = all_types(dir.path());
    let pairs = [fixture("minilm-narrow"), fixture("minilm-bf16"), Pair::new(&base, &tuned)];
    for pair in &pairs {
        let vb = SourceBackend::new(pair.source());
        let all = load_tensors(
            &pair.model.clone().with_executor(Arc::new(Threads::new(3))),
            pair.model.tensors().iter().map(|t| t.name.as_str()),
            &Device::Cpu,
        )
        .unwrap();
        let theirs = pair.theirs();
        assert_eq!(all.len(), theirs.len());
        for (name, view) in theirs.tensors() {
            let want = view.load(&Device::Cpu).unwrap();
            assert!(vb.contains_tensor(&name));
            assert_same(
                &vb.get_unchecked(&name, want.dtype(), &Device::Cpu).unwrap(),
                &want,
                &name,
            );
            assert_same(&all[&name], &want, &name);
        }
    }
    // From a model on disk, without any delta, too.
    let model = Model::open(&tuned).unwrap();
    let vb = var_builder(Arc::new(model), DType::F32, &Device::Cpu);
    let want = pairs[2].theirs().tensor("BF16").unwrap().load(&Device::Cpu).unwrap();
    assert_same(&vb.get((30, 70), "BF16").unwrap(), &want.to_dtype(DType::F32).unwrap(), "BF16");
}

#[test]
fn parts_of_ranks() {
    let pair = fixture("minilm-narrow");
    let vb = sharded_var_builder(pair.source(), DType::F32, &Device::Cpu);
    let theirs = pair.theirs();
    let name = "encoder.layer.0.intermediate.dense.weight";
    let view = theirs.tensor(name).unwrap();
    for (dim, extent) in [(0, 128), (1, 96)] {
        for rank in 0..8 {
            let (start, end) = (rank * extent / 8, (rank + 1) * extent / 8);
            let sliced = match dim {
                0 => view.slice((start..end, ..)),
                _ => view.slice((.., start..end)),
            };
            let bytes: Vec<u8> = sliced.unwrap().flatten().copied().collect();
            let mut shape = [128, 96];
            shape[dim] = extent / 8;
            let want = Tensor::from_raw_buffer(&bytes, DType::BF16, &shape, &Device::Cpu).unwrap();
            let part = Shard { dim, rank, world_size: 8 };
            let ours = vb.get_with_hints((128, 96), name, part).unwrap();
            assert_same(&ours, &want.to_dtype(DType::F32).unwrap(), name);
        }
    }
    let whole = vb.get((128, 96), name).unwrap();
    assert_same(&whole, &view.load(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap(), name);
    for part in [(2, 0, 2), (0, 0, 7), (0, 8, 8), (0, 0, 0)] {
        let (dim, rank, world_size) = part;
        assert!(
            vb.get_with_hints((1, 1), name, Shard { dim, rank, world_size }).is_err(),
            "{part:?}"
        );
    }
}

#[test]
fn errors_name_the_tensor() {
    let pair = fixture("minilm-narrow");
    let vb = var_builder(pair.source(), DType::F32, &Device::Cpu);
    let e = vb.get((1, 2), "no.such").unwrap_err().to_string();
    assert!(e.contains("no.such"), "{e}");
    let e = vb.get((1, 2), "embeddings.LayerNorm.bias").unwrap_err().to_string();
    assert!(e.contains("embeddings.LayerNorm.bias") && e.contains("96"), "{e}");
    let cancel = sparse::CancelToken::new();
    cancel.cancel();
    let vb =
        var_builder(Arc::new(pair.model.clone().with_cancel(cancel)), DType::F32, &Device::Cpu);
    let e = vb.get(96, "embeddings.LayerNorm.bias").unwrap_err().to_string();
    assert!(e.contains("cancelled"), "{e}");
}
