//! The card of an adapter: README.md, for people and for the Hub.

use super::tensors::quoted;
use super::written::Written;
use crate::adapter::kind::Profile;
use std::fmt::Write;

/// Tensors that are named at most.
const MOST: usize = 20;

/// Writes the card in Markdown.
pub(super) fn card(w: &Written<'_>, energy_kept: f64) -> String {
    let mut out = "---\n".to_owned();
    let is_id = w.config.base.split('/').count() == 2
        && !w.config.base.starts_with(['/', '.', '~'])
        && !w.config.base.contains("://");
    // Writing to a string does not fail.
    if is_id {
        let _ = writeln!(out, "base_model: {}", quoted(w.config.base));
    }
    let library = match w.profile {
        Profile::Mlx => Some("mlx"),
        Profile::LlamaCpp => None,
        Profile::Kohya => Some("diffusers"),
        _ => Some("peft"),
    };
    if let Some(library) = library {
        let _ = writeln!(out, "library_name: {library}");
    }
    out.push_str("tags:\n- lora\n- sparse\n---\n\n# Adapter\n\n");
    let of = if w.config.base.is_empty() { "its base" } else { w.config.base };
    let _ = writeln!(
        out,
        "A LoRA of rank {} for {} modules, extracted by `sparse export-adapter` from a fine-tuned \
         model of `{}`. It brings {:.2} % of the energy (the squared Frobenius norm) of all \
         changes.",
        w.config.rank,
        w.stored.len(),
        code(of),
        100.0 * energy_kept,
    );
    if !w.left_out.is_empty() {
        out.push_str("\nLeft out, with their shares of the energy:\n\n");
        for l in w.left_out.iter().take(MOST) {
            let share = 100.0 * l.share;
            let _ = writeln!(out, "- `{}`, {share:.2} %: {}", code(&l.tensor), l.reason);
        }
        if let Some(more) = w.left_out.len().checked_sub(MOST).filter(|&more| more > 0) {
            let _ = writeln!(out, "- and {more} more");
        }
    }
    out
}

/// Makes a name fit for text between backquotes.
fn code(text: &str) -> String {
    text.chars().map(|c| if c == '`' || c.is_control() { '?' } else { c }).collect()
}
