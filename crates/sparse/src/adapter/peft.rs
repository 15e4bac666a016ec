//! The two files of a PEFT adapter.

use super::pairs::Linear;
use super::report::ExportedModule;
use sparse_codecs::certificate::count_not_finite;
use sparse_core::{Dtype, Error, Result, TensorSpec};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A tensor's values, and its shape.
pub(super) type Values = (Vec<f32>, Vec<u64>);

/// A module's factors, ready to be stored.
pub(super) struct Stored {
    pub(super) path: String,
    pub(super) a: Values,
    pub(super) b: Values,
}

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
pub(super) fn weights_bytes<'a>(
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
pub(super) fn entry_bytes(path: &str, linear: &Linear, most: u64) -> u64 {
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
pub(super) struct Whole {
    /// Its name in the adapter.
    pub(super) name: String,
    pub(super) spec: TensorSpec,
    pub(super) bytes: Vec<u8>,
}

impl Whole {
    /// Bounds what the tensor takes in the file.
    pub(super) fn most_bytes(&self) -> u64 {
        // Numbers of up to twenty digits, and the words around them.
        let entry = self.name.len() + 64 + 20 * (self.spec.shape().len() + 2);
        self.spec.byte_len() + entry as u64
    }
}

/// Returns the bytes of `adapter_model.safetensors`.
///
/// # Errors
/// `InvalidArgument`, with the module, when a factor is no finite number in that type.
pub(super) fn weights(modules: &[Stored], whole: &[Whole], dtype: Dtype) -> Result<Vec<u8>> {
    enum Content<'a> {
        Values(&'a [f32]),
        Bytes(&'a [u8]),
    }
    let mut tensors: Vec<(String, TensorSpec, Content<'_>)> = Vec::new();
    for m in modules {
        for (name, (values, shape)) in names(&m.path).into_iter().zip([&m.a, &m.b]) {
            tensors.push((name, TensorSpec::new(dtype, shape.clone())?, Content::Values(values)));
        }
    }
    for w in whole {
        tensors.push((w.name.clone(), w.spec.clone(), Content::Bytes(&w.bytes)));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let entries = tensors.iter().map(|(name, spec, _)| (&**name, spec));
    let mut out = sparse_model::head_of(entries, &metadata())?;
    for (name, _, content) in &tensors {
        let start = out.len();
        let values = match content {
            Content::Values(values) => *values,
            Content::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                continue;
            }
        };
        for &x in values {
            sparse_codecs::values::put(dtype, f64::from(x), &mut out);
        }
        if count_not_finite(dtype, out.get(start..).unwrap_or_default()) > 0 {
            let message = format!(
                "a factor exceeds the range of {dtype}: choose another type for the \
                    factors"
            );
            return Err(Error::invalid_argument(message).in_tensor(&**name));
        }
    }
    Ok(out)
}

/// What `adapter_config.json` says beside the modules.
pub(super) struct Config<'a> {
    pub(super) base: &'a str,
    pub(super) task: Option<&'a str>,
    pub(super) rank: usize,
    pub(super) targets: Vec<String>,
    /// Whether ranks differ, and each module's own is listed.
    pub(super) patterns: bool,
    pub(super) fan_in_fan_out: bool,
    /// Last parts of the paths of modules that are stored whole.
    pub(super) saved: Vec<String>,
    /// Whether biases are stored.
    pub(super) biases: bool,
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

/// Quotes a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quoted("a.b"), "\"a.b\"");
        assert_eq!(quoted("a\"\\\n"), "\"a\\\"\\\\\\u000a\"");
    }
}
