//! What PEFT writes beside plain LoRA: packaged whatever it is, merged as PEFT does, or refused.

#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::{
    Adapter, AdapterExporter, AdapterRank, Compressor, Delta, Dtype, ErrorKind, Merger, Model,
    Overwrite, Restorer, TensorSource, TensorSpec,
};
use std::path::Path;
use support::{Files, T, put, safetensors, tree};

fn f32s(name: &str, shape: &[u64], values: &[f32]) -> T {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    T { name: name.into(), spec: TensorSpec::new(Dtype::F32, shape).unwrap(), bytes }
}

fn folder(path: &Path, file: &str, config: (&str, &str), mut tensors: Vec<T>) {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    put(
        path,
        &Files::from([
            (config.0.to_owned(), config.1.as_bytes().to_vec()),
            (file.to_owned(), safetensors(&tensors)),
        ]),
    );
}

const LLAMA: &str = r#"{"model_type": "llama"}"#;
const LORA: &str = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2}"#;

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new(config: &str, base: Vec<T>, adapter_config: &str, adapter: Vec<T>) -> Case {
        let dir = tempfile::tempdir().unwrap();
        folder(&dir.path().join("base"), "model.safetensors", ("config.json", config), base);
        let config = ("adapter_config.json", adapter_config);
        folder(&dir.path().join("adapter"), "adapter_model.safetensors", config, adapter);
        Case { dir }
    }

    fn base(&self) -> Model {
        Model::open(self.dir.path().join("base")).unwrap()
    }

    /// Packages the adapter, restores it, and returns the notes.
    fn packaged(&self) -> Vec<String> {
        let at = |name: &str| self.dir.path().join(name);
        let (adapter, base) = (Adapter::open(at("adapter")).unwrap(), self.base());
        let job = Compressor::of_adapter(&adapter, &base).overwrite(Overwrite::Replace);
        let report = job.write(at("a.sparse")).unwrap();
        let delta = Delta::open(at("a.sparse")).unwrap();
        Restorer::new(&delta).overwrite(Overwrite::Replace).write(at("back")).unwrap();
        assert!(delta.is_adapter());
        assert_eq!(tree(&at("back")), tree(&at("adapter")));
        report.notes
    }

    /// Merges the adapter, and returns a tensor.
    fn merged(&self, tensor: &str) -> sparse::Result<Vec<f32>> {
        let out = self.dir.path().join("merged");
        let (adapter, base) = (Adapter::open(self.dir.path().join("adapter"))?, self.base());
        Merger::new(&base, &adapter).overwrite(Overwrite::Replace).write(&out)?;
        let model = Model::open(&out)?;
        let bytes = model.bytes(model.find(tensor).unwrap())?.into_owned();
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }
}

#[test]
fn dora_scales_rows() {
    let adapter = vec![
        f32s("base_model.model.q.lora_A.weight", &[1, 2], &[1.0, 0.0]),
        f32s("base_model.model.q.lora_B.weight", &[2, 1], &[1.0, 2.0]),
        f32s("base_model.model.q.lora_magnitude_vector", &[2], &[10.0, 1.0]),
    ];
    let base = vec![f32s("q.weight", &[2, 2], &[1.0, 4.0, -1.0, 4.0])];
    let case = Case::new(LLAMA, base, LORA, adapter);
    assert!(case.packaged().is_empty());
    // With the product: (3, 4) and (3, 4), of norm 5.
    let want = [6.0, 8.0, 0.6, 0.8];
    let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
    assert!(case.merged("q.weight").unwrap().iter().zip(&want).all(close));
}

#[test]
fn the_class_decides_which_way_round() {
    let adapter = || {
        vec![
            f32s("base_model.model.h.0.c_proj.lora_A.weight", &[1, 2], &[1.0, 2.0]),
            f32s("base_model.model.h.0.c_proj.lora_B.weight", &[2, 1], &[0.0, 1.0]),
        ]
    };
    let base = || vec![f32s("h.0.c_proj.weight", &[2, 2], &[0.0; 4])];
    let turned = LORA.replace("\"r\"", "\"fan_in_fan_out\": true, \"r\"");
    for (config, want) in
        [(r#"{"model_type": "gpt2"}"#, [0.0, 2.0, 0.0, 4.0]), (LLAMA, [0.0, 0.0, 2.0, 4.0])]
    {
        for said in [LORA, &turned] {
            let case = Case::new(config, base(), said, adapter());
            assert_eq!(case.merged("h.0.c_proj.weight").unwrap(), want, "{config} {said}");
        }
    }
}

#[test]
fn rows_copies_and_biases() {
    let config = LORA.replace("\"r\"", "\"trainable_token_indices\": [2, 0], \"r\"");
    let adapter = vec![
        f32s("base_model.model.e.token_adapter.trainable_tokens_delta", &[2, 1], &[7.0, 8.0]),
        f32s("base_model.model.q.base_layer.bias", &[2], &[5.0, 6.0]),
        f32s("base_model.model.q.lora_A.weight", &[1, 1], &[1.0]),
        f32s("base_model.model.q.lora_B.weight", &[2, 1], &[1.0, 0.0]),
    ];
    let base = vec![
        f32s("e.weight", &[3, 1], &[1.0, 2.0, 3.0]),
        f32s("q.bias", &[2], &[0.0, 0.0]),
        f32s("q.weight", &[2, 1], &[1.0, 1.0]),
    ];
    let case = Case::new(LLAMA, base, &config, adapter);
    assert!(case.packaged().is_empty());
    assert_eq!(case.merged("e.weight").unwrap(), [8.0, 2.0, 7.0]);
    assert_eq!(case.merged("q.bias").unwrap(), [5.0, 6.0]);
    assert_eq!(case.merged("q.weight").unwrap(), [3.0, 1.0]);
}

#[test]
fn experts_share_their_factors() {
    let config = LORA.replace("\"r\"", "\"target_parameters\": [\"experts.up\"], \"r\"");
    // Two experts of [out 1, in 2].
    let adapter = vec![
        f32s("base_model.model.experts.lora_A.weight", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        f32s("base_model.model.experts.lora_B.weight", &[1, 2], &[1.0, 10.0]),
    ];
    let base = vec![f32s("experts.up", &[2, 1, 2], &[0.0; 4])];
    let case = Case::new(LLAMA, base, &config, adapter);
    assert!(case.packaged().is_empty());
    assert_eq!(case.merged("experts.up").unwrap(), [2.0, 4.0, 60.0, 80.0]);
}

#[test]
fn what_is_not_merged_is_packaged_with_a_note() {
    let base = || vec![f32s("e.weight", &[3, 1], &[1.0, 2.0, 3.0])];
    let grown = || vec![f32s("base_model.model.e.weight", &[4, 1], &[0.0; 4])];
    let other = r#"{"peft_type": "LOKR", "r": 1, "alpha": 2}"#;
    for (config, word) in [(LORA, "resized"), (other, "LOKR"), ("{", "configuration")] {
        let case = Case::new(LLAMA, base(), config, grown());
        let notes = case.packaged();
        assert!(notes.iter().any(|n| n.contains(word)), "{notes:?}");
        assert_eq!(case.merged("e.weight").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // One of two tied layers.
    let tied = r#"{"architectures": ["GemmaForCausalLM"], "model_type": "gemma"}"#;
    let adapter = vec![
        f32s("base_model.model.embed_tokens.lora_embedding_A", &[1, 3], &[1.0; 3]),
        f32s("base_model.model.embed_tokens.lora_embedding_B", &[2, 1], &[1.0; 2]),
    ];
    let base = vec![f32s("embed_tokens.weight", &[3, 2], &[1.0; 6])];
    let case = Case::new(tied, base, LORA, adapter);
    assert!(case.packaged().iter().any(|n| n.contains("tied")));
}

#[test]
fn what_is_kept_whole_comes_back() {
    let product = |scale: f32| {
        (0..64 * 64).map(move |i| scale * ((i / 64) as f32).sin() * ((i % 64) as f32).cos())
    };
    let model = |scale: f32, shift: f32, prefix: &str| {
        vec![
            f32s(&format!("{prefix}q_proj.weight"), &[64, 64], &product(scale).collect::<Vec<_>>()),
            f32s(&format!("{prefix}q_proj.bias"), &[64], &[shift; 64]),
            f32s(&format!("{prefix}norm.weight"), &[64], &[1.0 + shift; 64]),
        ]
    };
    let case = Case::new(LLAMA, model(1.0, 0.0, "l.0."), LORA, Vec::new());
    let dir = case.dir.path();
    // Under other names.
    let config = ("config.json", LLAMA);
    folder(&dir.join("tuned"), "model.safetensors", config, model(1.5, 0.5, "text.l.0."));
    let (base, tuned) = (case.base(), Model::open(dir.join("tuned")).unwrap());
    let export = || AdapterExporter::new(&base, &tuned).overwrite(Overwrite::Replace);
    let report = export().rank(AdapterRank::Fixed(2)).write(dir.join("adapter")).unwrap();
    assert_eq!((report.left_out.len(), report.kept.len()), (2, 0));
    let keep = ["bias".to_owned(), "norm".to_owned()];
    let report = export().keep(keep).dtype(Dtype::F32).write(dir.join("adapter")).unwrap();
    assert_eq!((report.left_out.len(), report.kept.len()), (0, 2), "{report:?}");
    assert!(report.energy_kept > 0.9999);
    assert!(case.packaged().is_empty());
    assert_eq!(case.merged("l.0.norm.weight").unwrap(), [1.5; 64]);
    assert_eq!(case.merged("l.0.q_proj.bias").unwrap(), [0.5; 64]);
    let adapter = Adapter::open(dir.join("adapter")).unwrap();
    let quality = Merger::new(&base, &adapter).quality(&tuned).unwrap();
    assert!(quality.total.relative_error() < 1e-3, "{:?}", quality.total);
    let e = export().exclude(["*".to_owned()]).write(dir.join("none")).unwrap_err();
    assert!(e.message().contains("excluded"), "{e}");
}
