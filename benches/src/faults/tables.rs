//! Made-up tables.

use super::dice::Dice;
use crate::files::put;
use sparse_core::Result;
use std::fmt::Write as _;
use std::path::Path;

/// A row of a made-up table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// A number that tells rows apart.
    pub(super) id: i64,
    /// Some words.
    pub(super) text: String,
    /// A number with a fraction.
    pub(super) score: f64,
}

const WORDS: [&str; 16] = [
    "delta", "restores", "the", "model", "bit", "for", "a", "base", "of", "rows", "cells", "in",
    "order", "from", "what", "changed",
];

/// Makes `n` rows.
pub(super) fn rows(n: usize, dice: &mut Dice) -> Vec<Row> {
    let row = |id: usize| {
        let words = 3 + dice.below(9);
        let text: Vec<&str> =
            (0..words).filter_map(|_| WORDS.get(dice.below(16)).copied()).collect();
        Row { id: id as i64, text: text.join(" "), score: dice.below(10_000) as f64 / 8.0 }
    };
    (0..n).map(row).collect()
}

/// Derives a table: rows removed, edited, moved and added.
pub(super) fn derived(base: &[Row], dice: &mut Dice) -> Vec<Row> {
    let mut out: Vec<Row> = base.iter().filter(|_| dice.share() > 0.1).cloned().collect();
    for row in &mut out {
        if dice.share() < 0.1 {
            row.text.push_str(" edited");
        }
    }
    let third = out.len() / 3;
    out.rotate_left(third);
    let mut new = rows(base.len() / 20 + 1, dice);
    new.iter_mut().for_each(|r| r.id += 1_000_000);
    out.extend(new);
    out
}

/// Writes rows as JSON Lines.
pub(super) fn write_json(path: &Path, rows: &[Row]) -> Result<()> {
    let mut text = String::new();
    for r in rows {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{{\"id\": {}, \"text\": {:?}, \"score\": {:?}}}",
            r.id, r.text, r.score
        );
    }
    put(path, text)
}
