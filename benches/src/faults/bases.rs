//! Rows: the base is not the one that the delta was made against.

use super::data::{Made, put_model, small_model};
use super::dice::Dice;
use super::kinds::kinds;
use super::lab::Lab;
use super::library::{Library, Right};
use super::outcome::Outcome;
use super::row::{Plan, Row, word};
use super::tables::{derived, rows as made_rows, write_json};
use crate::files::{get, put};
use sparse_core::{Error, Result};
use std::path::Path;

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    vec![Row {
        name: "wrong-base",
        fault: "wrong base: other values, a bit of a tensor or of the file, shapes, types, \
            tensors or rows missing, another order, nothing",
        place: "the base given to `verify` and `reconstruct`",
        plan,
        run,
    }]
}

const MODELS: [&str; 10] =
    ["values", "bit", "flip", "shape", "type", "missing", "names", "order", "empty", "fine-tuned"];
const TABLES: [&str; 8] =
    ["values", "cell", "flip", "missing", "order", "other", "empty", "derived"];

fn plan(lab: &Lab) -> Result<Plan> {
    let mut all = Vec::new();
    for kind in kinds(&lab.data()).iter().filter(|k| k.small && !k.alone) {
        let ways = if kind.dataset { &TABLES[..] } else { &MODELS };
        for way in ways {
            let n = if matches!(*way, "bit" | "cell" | "flip") {
                lab.most(200, 4)
            } else {
                lab.most(10, 1)
            };
            all.extend((0..n).map(|i| format!("{} {way} {i}", kind.name)));
        }
    }
    Ok(Plan::Trials(all))
}

fn run(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let kind = lab.kind(word(trial, 0))?;
    let way = word(trial, 1);
    let mut dice = Dice::new(lab.seed, trial);
    let number = trial.replace(' ', "-");
    let bases = lab.fast.join("bases");
    let base = bases.join(if kind.dataset {
        format!("{number}.{}", extension(kind.name))
    } else {
        number
    });
    if kind.dataset {
        wrong_table(lab, kind.name, way, &mut dice, &base)?;
    } else {
        wrong_model(lab, kind.name, way, &mut dice, &base)?;
    }
    if way == "flip" {
        let file = if kind.dataset { base.clone() } else { base.join("model.safetensors") };
        let mut bytes = get(&file)?;
        let at = dice.below(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
        put(&file, bytes)?;
    }
    let bytes = library.bytes(&kind.delta())?.to_vec();
    let outcome = library.judge(&kind, bytes, Some(&base), Right::SameOrRefused)?;
    library.forget(&base);
    let _ = std::fs::remove_dir_all(&base).or_else(|_| std::fs::remove_file(&base));
    // The change may lie in a part of the base that the delta does not use; then the files must be
    // restored bit for bit.
    Ok(outcome)
}

fn extension(kind: &str) -> &'static str {
    if kind == "exact" { "jsonl" } else { "parquet" }
}

fn wrong_model(lab: &Lab, kind: &str, way: &str, dice: &mut Dice, base: &Path) -> Result<()> {
    let mut tensors = small_model(&mut Dice::new(lab.seed, kind));
    let n = dice.below(tensors.len() - 1);
    let other = |t: &Made, shape: &[usize], dtype, dice: &mut Dice| {
        Made::random(&t.name, shape, dtype, dice)
    };
    let Some(one) = tensors.get_mut(n) else { return Err(Error::invalid_argument("no tensors")) };
    match way {
        "values" => tensors = small_model(dice),
        "bit" => {
            let at = dice.below(one.bytes.len());
            if let Some(byte) = one.bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        "shape" => {
            let mut shape = one.shape.clone();
            if let Some(first) = shape.first_mut() {
                *first += 1;
            }
            *one = other(one, &shape, one.dtype, dice);
        }
        "type" => {
            let dtype = if one.dtype == "BF16" { "F32" } else { "BF16" };
            *one = other(one, &one.shape.clone(), dtype, dice);
        }
        "missing" => drop(tensors.remove(n)),
        "names" => one.name.push_str(".renamed"),
        "order" => tensors.reverse(),
        "empty" => tensors.clear(),
        "flip" => {}
        _ => tensors = super::data::trained(&tensors, 0.5, dice),
    }
    put_model(base, &tensors, "{\"model_type\": \"made up\"}\n")
}

fn wrong_table(lab: &Lab, kind: &str, way: &str, dice: &mut Dice, base: &Path) -> Result<()> {
    let n = if kind == "rows" { 40 } else { 30 };
    let mut table = made_rows(n, &mut Dice::new(lab.seed, kind));
    let at = dice.below(n);
    match way {
        "values" => table = made_rows(n, dice),
        "cell" => {
            if let Some(row) = table.get_mut(at) {
                match dice.below(3) {
                    0 => row.id += 1,
                    1 => row.text.push('x'),
                    _ => row.score += 0.125,
                }
            }
        }
        "missing" => drop(table.remove(at)),
        "order" => table.swap(at, (at + 1 + dice.below(n - 1)) % n),
        "empty" => table.clear(),
        "flip" => {}
        "derived" => table = derived(&table, dice),
        _ => {
            return match kind {
                "rows" => put(base, dice.bytes(500)),
                _ => put(base, "{\"other\": 1}\n{\"other\": 2}\n"),
            };
        }
    }
    match kind {
        "rows" => super::parquet::write(base, &table),
        _ => write_json(base, &table),
    }
}
