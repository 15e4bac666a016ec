//! Finds counterparts of some rows by the words of all their texts, whatever column they are in.

use super::wanted::Wanted;
use crate::cells::Tokens;
use crate::cm::mix;
use crate::table::cell_hash;
use crate::template::shape::Shape;
use sparse_core::Result;
use std::collections::HashMap;

/// Rows of the derivative that are looked up, where the whole base is searched.
const ROWS: u64 = 96;

/// Most rows that are looked up, where a part of the base is searched.
const MAX_ROWS: u64 = 4096;

/// Bytes of the base that are searched.
const SEARCHED: u64 = 48 << 20;

/// Marks (runs of words, whole cells) that represent a row.
const MARKS: usize = 32;

/// Rows of the base that a mark may have: more say nothing.
const MAX_HOLDERS: usize = 8;

/// Tokens of a run.
const RUN: usize = 5;

/// Marks that must be shared.
const MIN_SHARED: usize = 2;

/// Shortest cell that is a mark as a whole, in bytes.
const WHOLE: usize = 3;

/// Returns pairs of a row of the derivative and its likely counterpart in the base.
///
/// # Errors
/// `Cancelled`; `Io` from the stores.
pub(super) fn align(wanted: &Wanted<'_>) -> Result<Vec<(u64, u64)>> {
    let (base, derivative) = (wanted.base, wanted.derivative);
    let parts = (base.bytes() / SEARCHED).max(1);
    let rows = derivative.rows().min((ROWS * parts).min(MAX_ROWS));
    let mut marks: Vec<Vec<u64>> = Vec::new();
    let mut of_row: Vec<u64> = Vec::new();
    let mut block = crate::table::Block::new(derivative.kinds().iter().copied());
    for i in 0..rows {
        wanted.workers.cancel.check()?;
        // Spread over the table, and not in step with a pattern of its rows.
        let row = (u128::from(derivative.rows()) * u128::from(i) / u128::from(rows)) as u64;
        let row = (row + i % 3).min(derivative.rows() - 1);
        block.columns.iter_mut().for_each(crate::table::Column::clear);
        block.rows = 0;
        derivative.copy(row, row + 1, &mut block)?;
        let mut found = Vec::new();
        marks_of(&block, wanted.shapes, 0, &mut found);
        marks.push(found);
        of_row.push(row);
    }
    let mut holders: HashMap<u64, Vec<u64>> = HashMap::new();
    for mark in chosen(&marks).iter().flatten() {
        holders.entry(*mark).or_default();
    }
    let step = usize::try_from(parts).unwrap_or(usize::MAX);
    let searched: Vec<usize> = (0..base.blocks()).step_by(step).collect();
    let found = wanted.workers.executor.try_map(searched.len(), |i| {
        wanted.workers.cancel.check()?;
        let block = base.block(searched[i])?;
        let start = base.start(searched[i]);
        let mut found: Vec<(u64, u64)> = Vec::new();
        let mut of_row = Vec::new();
        for row in 0..block.rows {
            of_row.clear();
            marks_of(&block, wanted.base_shapes, row, &mut of_row);
            of_row.sort_unstable();
            of_row.dedup();
            let known = of_row.iter().filter(|mark| holders.contains_key(mark));
            found.extend(known.map(|mark| (*mark, start + row as u64)));
        }
        Ok::<_, sparse_core::Error>(found)
    })?;
    for (mark, row) in found.into_iter().flatten() {
        if let Some(rows) = holders.get_mut(&mark).filter(|rows| rows.len() <= MAX_HOLDERS) {
            rows.push(row);
        }
    }
    let mut pairs = Vec::new();
    for (row, marks) in of_row.into_iter().zip(chosen(&marks)) {
        let mut votes: HashMap<u64, usize> = HashMap::new();
        for rows in marks.iter().filter_map(|mark| holders.get(mark)) {
            if rows.len() <= MAX_HOLDERS {
                rows.iter().for_each(|&row| *votes.entry(row).or_default() += 1);
            }
        }
        // Of equal rows the first: which one does not matter.
        let best = votes.into_iter().max_by_key(|&(row, n)| (n, std::cmp::Reverse(row)));
        if let Some((of_base, _)) = best.filter(|&(_, n)| n >= MIN_SHARED) {
            pairs.push((row, of_base));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    Ok(pairs)
}

/// Returns the marks that represent each row: those with the smallest hashes, without those that
/// many rows have, as the words of a template.
fn chosen(marks: &[Vec<u64>]) -> Vec<Vec<u64>> {
    let mut rows_with: HashMap<u64, usize> = HashMap::new();
    let distinct: Vec<Vec<u64>> = marks
        .iter()
        .map(|marks| {
            let mut marks = marks.clone();
            marks.sort_unstable();
            marks.dedup();
            marks
        })
        .collect();
    distinct.iter().flatten().for_each(|mark| *rows_with.entry(*mark).or_default() += 1);
    let most = (marks.len() / 8).max(2);
    let rare = |mark: &u64| rows_with.get(mark).is_some_and(|&n| n <= most);
    distinct.into_iter().map(|marks| marks.into_iter().filter(rare).take(MARKS).collect()).collect()
}

/// Adds the marks of a row: hashes of runs of tokens of each text, and of whole short ones.
fn marks_of(block: &crate::table::Block, shapes: &[Shape], row: usize, out: &mut Vec<u64>) {
    for (column, shape) in block.columns.iter().zip(shapes) {
        let Some(cell) = column.get(row) else { continue };
        let mut texts: Vec<&[u8]> = Vec::new();
        collect(shape, cell, &mut texts);
        for text in texts {
            marks_of_text(text, out);
        }
    }
}

fn marks_of_text(text: &[u8], out: &mut Vec<u64>) {
    let tokens = Tokens::new(text);
    if tokens.len() < 2 * RUN && text.len() >= WHOLE {
        out.push(cell_hash(Some(text.trim_ascii())));
    }
    for run in tokens.hashes.windows(RUN) {
        out.push(run.iter().fold(RUN as u64, |h, &t| mix(h, t)));
    }
}

fn collect<'a>(shape: &Shape, value: &'a [u8], out: &mut Vec<&'a [u8]>) {
    match shape {
        Shape::Leaf(kind) if kind.width().is_none() => out.push(value),
        Shape::Leaf(_) => {}
        _ => {
            for (i, child) in shape.children(value).into_iter().flatten().enumerate() {
                if let (Some(child), Some(shape)) = (child, shape.child(i)) {
                    collect(shape, child, out);
                }
            }
        }
    }
}
