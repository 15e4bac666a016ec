//! What the tests share: models in memory, the fixture, reference values.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part")]

use sparse_core::{Dtype, Result, TensorEntry, TensorRead, TensorSource, TensorSpec, check_range};
use sparse_eval::{LanguageModel, ModelConfig, Weights};
use std::path::PathBuf;

/// Tensors in memory.
pub struct InMemory {
    entries: Vec<TensorEntry>,
    bytes: Vec<Vec<u8>>,
}

impl InMemory {
    /// Tensors in f32, by name and shape.
    pub fn f32(tensors: impl IntoIterator<Item = (String, Vec<u64>, Vec<f32>)>) -> InMemory {
        let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensors = tensors.into_iter().map(|(n, s, v)| (n, s, Dtype::F32, bytes(v)));
        InMemory::new(tensors.collect())
    }

    pub fn new(mut tensors: Vec<(String, Vec<u64>, Dtype, Vec<u8>)>) -> InMemory {
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut entries, mut bytes) = (Vec::new(), Vec::new());
        for (name, shape, dtype, data) in tensors {
            entries.push(TensorEntry { name, spec: TensorSpec::new(dtype, shape).unwrap() });
            bytes.push(data);
        }
        InMemory { entries, bytes }
    }

    /// A copy of `source`, whose tensors `change` may change.
    pub fn copy(
        source: &dyn TensorSource,
        mut change: impl FnMut(&TensorEntry, &mut Vec<u8>),
    ) -> InMemory {
        let entries = source.tensors().to_vec();
        let mut bytes = source.read_all().unwrap();
        entries.iter().zip(&mut bytes).for_each(|(entry, bytes)| change(entry, bytes));
        InMemory { entries, bytes }
    }
}

impl TensorSource for InMemory {
    fn tensors(&self) -> &[TensorEntry] {
        &self.entries
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(&self.entries, index, offset, out.len())?;
        out.copy_from_slice(&self.bytes[index][offset as usize..][..out.len()]);
        Ok(())
    }

    fn read_many(&self, reads: &mut [TensorRead<'_>]) -> Result<()> {
        reads.iter_mut().try_for_each(|r| self.read_range_into(r.tensor, r.offset, r.out))
    }
}

/// Weights that follow from a tensor's name, as `scripts/make_eval_references.py` computes them.
pub fn weights(name: &str, shape: &[u64]) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xcbf29ce484222325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3));
    let scale = shape.len() == 1 && name.ends_with(".weight");
    (1..=shape.iter().product::<u64>())
        .map(|i| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9e3779b97f4a7c15));
            z = (z ^ z >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d049bb133111eb);
            z ^= z >> 31;
            let part = (z >> 48) as f32 / 65536.0 - 0.5;
            if scale { 1.0 + part / 2.0 } else { part }
        })
        .collect()
}

/// The folder of the fixture.
pub fn micro() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro"))
}

pub fn micro_config() -> ModelConfig {
    ModelConfig::parse(&std::fs::read(micro().join("config.json")).unwrap()).unwrap()
}

/// The fixture with its matrices changed a little, as the script does.
pub fn changed_micro() -> InMemory {
    InMemory::copy(&sparse::Model::open(micro()).unwrap(), |entry, bytes| {
        if let [_, _] = entry.spec.shape() {
            let added = weights(&entry.name, entry.spec.shape());
            for (bytes, added) in bytes.chunks_exact_mut(2).zip(added) {
                let old = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
                bytes.copy_from_slice(&to_bf16(old + added / 64.0).to_le_bytes());
            }
        }
    })
}

/// Rounds to the nearest bf16, ties to even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

pub fn load_micro(weights: Weights) -> LanguageModel {
    LanguageModel::load(&sparse::Model::open(micro()).unwrap(), micro_config(), weights).unwrap()
}

/// Reads a file of reference values.
pub fn reference(name: &str) -> serde_json::Value {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
