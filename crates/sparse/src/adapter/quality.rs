//! How near a base with an adapter comes to a fine-tuned model.

use super::apply::apply;
use super::changes::changes;
use super::values::is_float;
use crate::quality::{Quality, TensorQuality};
use crate::reference::References;
use crate::settings::Settings;
use sparse_codecs::certificate::Tally;
use sparse_codecs::values::{put, value};
use sparse_core::{Dtype, Result};
use sparse_model::{Adapter, Checkpoint};

/// Does what [`Merger::quality`](super::Merger::quality) says.
pub(super) fn quality(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    finetuned: &dyn Checkpoint,
    settings: &Settings,
) -> Result<Quality> {
    let changes = changes(base, adapter)?;
    let references = References::find(Some(base), finetuned, &settings.cancel)?;
    let (mut total, mut tensors) = (Tally::default(), Vec::new());
    for (tensor, entry) in finetuned.tensors().iter().enumerate() {
        settings.cancel.check()?;
        let dtype = entry.spec.dtype();
        if !is_float(dtype) {
            continue;
        }
        let original = finetuned.bytes(tensor)?;
        let counterpart = references.of(tensor).map(|(_, reference)| reference.base);
        let mut restored = match counterpart.map(|b| (b, changes.get(&b))) {
            Some((b, Some(change))) => {
                let merged = apply(base, adapter, b, change, settings)
                    .map_err(|e| e.in_tensor(&*base.tensors()[b].name))?;
                cast(&merged, base.tensors()[b].spec.dtype(), dtype)
            }
            Some((b, None)) => cast(&base.bytes(b)?, base.tensors()[b].spec.dtype(), dtype),
            None => Vec::new(),
        };
        // What the base lacks, an adapter does not bring: zeros.
        restored.resize(original.len(), 0);
        let mut tally = Tally::default();
        references.observe(&mut tally, tensor, 0, [&original, &restored])?;
        total.merge(&tally);
        let found = tally.certificate();
        tensors.push(TensorQuality {
            name: entry.name.clone(),
            found,
            recorded: None,
            same_change: true,
        });
    }
    Ok(Quality { total: total.certificate(), recorded: None, tensors })
}

/// Converts weights to another type.
fn cast(bytes: &[u8], from: Dtype, to: Dtype) -> Vec<u8> {
    if from == to {
        return bytes.to_vec();
    }
    let mut out = Vec::with_capacity(bytes.len());
    for word in bytes.chunks_exact(from.storage_bytes()) {
        put(to, value(from, word), &mut out);
    }
    out
}
