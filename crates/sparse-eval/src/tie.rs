//! Whether the output matrix is the embedding.

use crate::ModelConfig;
use sparse_core::{Result, TensorSource};

/// Bytes that are compared at a time.
const BLOCK: usize = 1 << 20;

/// Returns the configuration as the tensors have it.
///
/// A file may have an output matrix of its own although `config.json` says that it is tied. Like
/// transformers, the file is believed, unless both are the same.
pub(crate) fn settle(source: &dyn TensorSource, config: &ModelConfig) -> Result<ModelConfig> {
    let mut config = config.clone();
    let find = |name: &str| source.tensors().iter().position(|t| t.name == name);
    let embedding = ["model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"];
    let embedding = embedding.into_iter().find_map(find);
    if let (true, Some(output), Some(embedding)) = (config.tied, find("lm_head.weight"), embedding)
    {
        config.tied = equal(source, output, embedding)?;
    }
    Ok(config)
}

fn equal(source: &dyn TensorSource, a: usize, b: usize) -> Result<bool> {
    let specs = [a, b].map(|i| source.tensors().get(i).map(|t| &t.spec));
    let [Some(spec), Some(other)] = specs else { return Ok(false) };
    if spec != other {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; BLOCK], vec![0; BLOCK]);
    let len = spec.byte_len();
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).unwrap_or(BLOCK).min(BLOCK);
        let (left, right) = (&mut left[..part], &mut right[..part]);
        source.read_range_into(a, at, left)?;
        source.read_range_into(b, at, right)?;
        if left != right {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(true)
}
