//! The files of an adapter, as its loaders want them.

mod card;
mod gguf;
mod kohya;
mod mlx;
pub(super) mod peft;
pub(super) mod tensors;
mod written;

use super::kind::Profile;
use sparse_core::Result;
pub(super) use written::Written;

/// File of an adapter.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// Makes the files, that of the weights first.
///
/// # Errors
/// `InvalidArgument` for factors that the type does not have, and for what has no place there.
pub(super) fn files(w: &Written<'_>, energy_kept: f64) -> Result<Vec<File>> {
    let Written { stored, dtype, config, .. } = *w;
    let text = |name, text: String| File { name, bytes: text.into_bytes() };
    let weights = |name, bytes| File { name, bytes };
    let card = text("README.md", card::card(w, energy_kept));
    Ok(match w.profile {
        Profile::Mlx => {
            let blocks = stored.iter().filter_map(|m| mlx::below_block(&m.path).0).max();
            let blocks = blocks.map_or(0, |last| last + 1);
            let config = mlx::config(stored, config.base, config.rank, blocks);
            let weights = weights("adapters.safetensors", mlx::weights(stored, dtype)?);
            vec![weights, text("adapter_config.json", config), card]
        }
        Profile::LlamaCpp => {
            let bytes = gguf::file(stored, w.architecture, config.rank, dtype)?;
            vec![weights("adapter.gguf", bytes), card]
        }
        Profile::Kohya => {
            let bytes = kohya::weights(stored, config.rank, dtype)?;
            vec![weights("adapter.safetensors", bytes), card]
        }
        _ => {
            let bytes = peft::weights(stored, w.whole, dtype)?;
            let config = peft::config(config, w.modules);
            let weights = weights("adapter_model.safetensors", bytes);
            vec![weights, text("adapter_config.json", config), card]
        }
    })
}
