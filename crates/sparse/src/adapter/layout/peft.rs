//! The two files of a PEFT adapter.

use super::tensors::{Content, Stored, Tensor, quoted, safetensors};
use crate::adapter::pairs::Linear;
use crate::adapter::report::ExportedModule;
use sparse_core::{Dtype, Result, TensorSpec};
use std::collections::BTreeMap;

fn names(path: &str) -> [String; 2] {
    ['A', 'B'].map(|factor| format!("base_model.model.{path}.lora_{factor}.weight"))
}

/// Returns what PEFT itself writes into the head.
fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Computes the length of `adapter_model.safetensors` with modules of these ranks.
///
/// # Errors
/// `LimitExceeded` for shapes that are too large.
pub(in crate::adapter) fn weights_bytes<'a>(
    modules: impl Iterator<Item = ((&'a str, usize), &'a &'a Linear)>,
    dtype: Dtype,
) -> Result<u64> {
    let mut tensors: Vec<(String, TensorSpec)> = Vec::new();
    for ((path, rank), linear) in modules {
        for (name, shape) in names(path).into_iter().zip(linear.shapes(rank)) {
            tensors.push((name, TensorSpec::new(dtype, shape)?));
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let head = sparse_model::head_of(tensors.iter().map(|(n, s)| (&**n, s)), &metadata())?;
    Ok(head.len() as u64 + tensors.iter().map(|(_, s)| s.byte_len()).sum::<u64>())
}

/// Computes an upper bound of what a module takes in the head of a file of up to `most` bytes.
pub(in crate::adapter) fn entry_bytes(path: &str, linear: &Linear, most: u64) -> u64 {
    let digits = most.max(999).to_string().len();
    let entry = |(name, shape): (String, Vec<u64>)| {
        let shape = shape.iter().map(|n| n.to_string().len() + 1).sum::<usize>();
        name.len()
            + shape
            + 2 * digits
            + r#","":{"dtype":"BF16","shape":[],"data_offsets":[,]}"#.len()
    };
    names(path).into_iter().zip(linear.shapes(256)).map(entry).sum::<usize>() as u64
}

/// Tensor that is stored whole.
pub(in crate::adapter) struct Whole {
    /// Its name in the adapter.
    pub(in crate::adapter) name: String,
    pub(in crate::adapter) spec: TensorSpec,
    pub(in crate::adapter) bytes: Vec<u8>,
}

impl Whole {
    /// Bounds what the tensor takes in the file.
    pub(in crate::adapter) fn most_bytes(&self) -> u64 {
        // Numbers of up to twenty digits, and the words around them.
        let entry = self.name.len() + 64 + 20 * (self.spec.shape().len() + 2);
        self.spec.byte_len() + entry as u64
    }
}

/// Returns the bytes of `adapter_model.safetensors`.
///
/// # Errors
/// `InvalidArgument`, with the tensor, when a factor is no finite number in that type.
pub(super) fn weights(modules: &[Stored], whole: &[Whole], dtype: Dtype) -> Result<Vec<u8>> {
    let mut tensors: Vec<Tensor<'_>> = Vec::new();
    for m in modules {
        for (name, (values, shape)) in names(&m.path).into_iter().zip([&m.a, &m.b]) {
            let spec = TensorSpec::new(dtype, shape.clone())?;
            tensors.push(Tensor { name, spec, content: Content::Values(values) });
        }
    }
    for w in whole {
        let (name, spec) = (w.name.clone(), w.spec.clone());
        tensors.push(Tensor { name, spec, content: Content::Bytes(&w.bytes) });
    }
    safetensors(tensors, &metadata())
}

/// What `adapter_config.json` says beside the modules.
pub(in crate::adapter) struct Config<'a> {
    pub(in crate::adapter) base: &'a str,
    pub(in crate::adapter) task: Option<&'a str>,
    pub(in crate::adapter) rank: usize,
    pub(in crate::adapter) targets: Vec<String>,
    /// Whether ranks differ, and each module's own is listed.
    pub(in crate::adapter) patterns: bool,
    pub(in crate::adapter) fan_in_fan_out: bool,
    /// Last parts of the paths of modules that are stored whole.
    pub(in crate::adapter) saved: Vec<String>,
    /// Whether biases are stored.
    pub(in crate::adapter) biases: bool,
}

/// Writes `adapter_config.json`.
///
/// Alpha is the rank, so the product is merged as it is.
pub(super) fn config(config: &Config<'_>, modules: &[ExportedModule]) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let targets = list(&mut config.targets.iter().map(|t| quoted(t)));
    let own = modules.iter().filter(|m| config.patterns && m.rank != config.rank);
    // Patterns are regular expressions.
    let pattern =
        |m: &ExportedModule| format!("{}: {}", quoted(&m.path.replace('.', "\\.")), m.rank);
    let pattern = list(&mut own.map(pattern));
    format!(
        r#"{{
  "peft_type": "LORA",
  "task_type": {},
  "base_model_name_or_path": {},
  "revision": null,
  "r": {},
  "lora_alpha": {},
  "target_modules": [{targets}],
  "bias": "{}",
  "lora_dropout": 0.0,
  "fan_in_fan_out": {},
  "inference_mode": true,
  "use_rslora": false,
  "use_dora": false,
  "lora_bias": false,
  "init_lora_weights": true,
  "modules_to_save": {},
  "rank_pattern": {{{pattern}}},
  "alpha_pattern": {{{pattern}}}
}}
"#,
        config.task.map_or_else(|| "null".to_owned(), quoted),
        quoted(config.base),
        config.rank,
        config.rank,
        if config.biases { "all" } else { "none" },
        config.fan_in_fan_out,
        match &config.saved[..] {
            [] => "null".to_owned(),
            saved => format!("[{}]", list(&mut saved.iter().map(|m| quoted(m)))),
        },
    )
}
