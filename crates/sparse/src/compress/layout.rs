//! Layouts: rows of a target's tensor that lie elsewhere in the base.
//!
//! Experts are stacked or taken apart, queries, keys and values fused or split, rows of a
//! vocabulary removed or put in another order. Rows are found by the signs of their first weights,
//! which training hardly changes, whatever tensors are called. A wrong guess costs bytes and
//! nothing else: what is coded is the difference, whatever it is.

use super::views::Views;
use crate::settings::Settings;
use sparse_core::{Dtype, Result, Segment, TensorSource};
use sparse_model::{Checkpoint, Counterpart, TensorMatch};
use std::collections::BTreeMap;

/// Elements whose signs make a key.
const KEY: usize = 24;
/// Keys of a row, at most.
const KEYS: usize = 4;
/// Elements that a row must have: signs of fewer agree by chance.
const LEAST_ROW: u64 = 2 * KEY as u64;
/// Elements that a tensor must have to be looked for: others are small.
const LEAST_TENSOR: u64 = 1 << 12;
/// Rows of one length that are looked at in the base, at most; each takes 48 bytes of memory.
const MOST_ROWS: u64 = 4 << 20;
/// Runs of all tensors together, at most: the index has a record for each.
const MOST_RUNS: usize = 1 << 18;
/// Rows of one key that are compared, at most.
const MOST_ALIKE: usize = 16;
/// Rows that are compared to see whether a counterpart is one.
const PROBES: u64 = 32;

/// Rows of a target's tensor, one after the other, and where the base has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRun {
    pub(crate) rows: u64,
    /// Tensor of the base, and the row in it.
    pub(crate) base: Option<(usize, u64)>,
}

/// How the rows of a tensor lie in the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Storage elements of a row, or of the part of it that is a row of the base.
    pub(crate) row_len: u64,
    pub(crate) runs: Vec<RowRun>,
}

/// Finds the layouts of tensors that have no counterpart, or one that is nothing like them.
///
/// # Errors
/// What reading reports; `Cancelled`.
pub(super) fn layouts(
    base: &Views<'_>,
    target: &dyn Checkpoint,
    matches: &[TensorMatch],
    settings: &Settings,
) -> Result<BTreeMap<usize, Layout>> {
    let mut lost = Vec::new();
    for (tensor, m) in matches.iter().enumerate() {
        settings.cancel.check()?;
        let spec = &target.tensors()[tensor].spec;
        let whole = m.tied.is_none() && has_rows(spec.dtype(), Segment::of(spec));
        if whole && is_lost(base, target, tensor, m)? {
            lost.push(tensor);
        }
    }
    let (mut found, mut runs) = (BTreeMap::new(), 0);
    // What is likelier, and takes less time to look at, comes first.
    for (parts, turned) in [(1, false), (1, true), (2, false), (2, true), (3, false), (3, true)] {
        let mut by_len: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for &tensor in &lost {
            let Segment { row_len, .. } = Segment::of(&target.tensors()[tensor].spec);
            if row_len % parts == 0 && row_len / parts >= LEAST_ROW {
                by_len.entry(row_len / parts).or_default().push(tensor);
            }
        }
        for (row_len, tensors) in by_len {
            let Some(index) = RowIndex::of(base, row_len, turned, settings)? else { continue };
            let layouts = settings.executor().try_map(tensors.len(), |i| {
                settings.cancel.check()?;
                Ok(index.layout(&signs_of(target, tensors[i], row_len, settings)?))
            })?;
            for (tensor, layout) in tensors.into_iter().zip(layouts) {
                let Some(layout) = layout.filter(|l| runs + l.len() <= MOST_RUNS) else { continue };
                runs += layout.len();
                found.insert(tensor, Layout { row_len, runs: layout });
            }
        }
        lost.retain(|tensor| !found.contains_key(tensor));
    }
    Ok(found)
}

/// Returns whether a tensor's rows can be told by their signs.
fn has_rows(dtype: Dtype, segment: Segment) -> bool {
    let whole = dtype.bits() as usize == 8 * dtype.storage_bytes();
    whole && segment.row_len >= LEAST_ROW && segment.len() >= LEAST_TENSOR
}

/// Returns true if a tensor has no counterpart, or one whose rows are others.
fn is_lost(
    base: &dyn Checkpoint,
    target: &dyn Checkpoint,
    tensor: usize,
    m: &TensorMatch,
) -> Result<bool> {
    let Some(counterpart) = m.counterpart.base() else { return Ok(true) };
    let spec = &target.tensors()[tensor].spec;
    let Segment { rows, row_len } = Segment::of(spec);
    let (common, must_agree) = match m.counterpart {
        // Where rows were removed, the first ones are still in their places.
        Counterpart::Rows { rows: first, .. } => {
            let all = spec.shape().first().copied().unwrap_or(1).max(1);
            (rows / all * first, 1.0)
        }
        _ => (rows, 0.75),
    };
    let count = common.min(PROBES);
    let mut agreed = 0;
    for i in 0..count {
        let row = i * common / count;
        let ours = signs(target, tensor, row, row_len)?;
        let theirs = signs(base, counterpart, row, row_len)?;
        agreed += u64::from(ours.is_near(theirs));
    }
    Ok(count > 0 && (agreed as f64) < must_agree * count as f64)
}

/// Signs of the first elements of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signs {
    bits: u128,
    /// Number of elements.
    len: u32,
}

impl Signs {
    fn of(bytes: &[u8], width: usize) -> Signs {
        let mut signs = Signs::default();
        bytes.chunks_exact(width).take(KEY * KEYS).for_each(|word| signs.push(word));
        signs
    }

    /// Adds that of a word.
    fn push(&mut self, word: &[u8]) {
        let negative = word.last().is_some_and(|last| last & 0x80 != 0);
        self.bits |= u128::from(negative) << self.len;
        self.len += 1;
    }

    /// Returns a key, unless there is none or it says nothing.
    fn key(self, number: usize) -> Option<u32> {
        let first = number * KEY;
        let bits = (self.bits >> first) as u32 & ((1 << KEY) - 1);
        let says = bits != 0 && bits != (1 << KEY) - 1;
        (first + KEY <= self.len as usize && says).then_some(bits)
    }

    fn distance(self, other: Signs) -> u32 {
        (self.bits ^ other.bits).count_ones() + self.len.abs_diff(other.len)
    }

    /// Returns true if two rows agree far above chance.
    fn is_near(self, other: Signs) -> bool {
        self.distance(other) * 5 <= self.len
    }

    /// Returns true if two rows agree above chance, which is enough where they are expected to.
    fn may_follow(self, other: Signs) -> bool {
        self.distance(other) * 3 <= self.len
    }
}

/// Reads the signs of a row.
fn signs(model: &dyn Checkpoint, tensor: usize, row: u64, row_len: u64) -> Result<Signs> {
    let width = model.tensors()[tensor].spec.dtype().storage_bytes();
    let len = (row_len as usize).min(KEY * KEYS);
    let mut bytes = [0; KEY * KEYS * 8];
    let Some(out) = bytes.get_mut(..len * width) else { return Ok(Signs::default()) };
    model.read_range_into(tensor, row * row_len * width as u64, out)?;
    Ok(Signs::of(out, width))
}

/// Reads the signs of all rows of a tensor, or of equal parts of them.
fn signs_of(
    model: &dyn Checkpoint,
    tensor: usize,
    row_len: u64,
    settings: &Settings,
) -> Result<Vec<Signs>> {
    let spec = &model.tensors()[tensor].spec;
    let rows = spec.storage_len().checked_div(row_len).unwrap_or(0);
    let width = spec.dtype().storage_bytes();
    let row_bytes = row_len * width as u64;
    let mut out = Vec::with_capacity(rows as usize);
    // Where rows are long, only their starts are read.
    if row_bytes > 4096 {
        for row in 0..rows {
            settings.cancel.check()?;
            out.push(signs(model, tensor, row, row_len)?);
        }
        return Ok(out);
    }
    let mut bytes = Vec::new();
    // The windows hold whole rows.
    let at_once = (1 << 20) / row_bytes;
    let mut row = 0;
    while row < rows {
        settings.cancel.check()?;
        let count = at_once.min(rows - row);
        bytes.resize((count * row_bytes) as usize, 0);
        model.read_range_into(tensor, row * row_bytes, &mut bytes)?;
        out.extend(bytes.chunks_exact(row_bytes as usize).map(|row| Signs::of(row, width)));
        row += count;
    }
    Ok(out)
}

/// Reads the signs of all columns of a tensor's matrices.
fn turned_signs_of(
    model: &dyn Checkpoint,
    tensor: usize,
    settings: &Settings,
) -> Result<Vec<Signs>> {
    let spec = &model.tensors()[tensor].spec;
    let [.., rows, columns] = *spec.shape() else { return Ok(Vec::new()) };
    let width = spec.dtype().storage_bytes();
    let (each, row_bytes) = (rows * columns * width as u64, columns as usize * width);
    let mut out = Vec::new();
    // The first elements of all columns are the first rows.
    let mut bytes = vec![0; row_bytes * (rows as usize).min(KEY * KEYS)];
    let mut first = 0;
    while first < spec.byte_len() {
        settings.cancel.check()?;
        model.read_range_into(tensor, first, &mut bytes)?;
        let mut signs = vec![Signs::default(); columns as usize];
        for row in bytes.chunks_exact(row_bytes) {
            signs.iter_mut().zip(row.chunks_exact(width)).for_each(|(s, word)| s.push(word));
        }
        out.extend(signs);
        first += each;
    }
    Ok(out)
}

/// Rows of one length of a base.
struct RowIndex {
    /// Tensors, and the number of their first row among all.
    tensors: Vec<(usize, usize)>,
    signs: Vec<Signs>,
    /// For each place of a key: keys, and the rows that have them.
    keys: Vec<Vec<(u32, u32)>>,
}

impl RowIndex {
    /// Reads the base's rows of a length; `None` if there are none, or too many.
    ///
    /// Of turned matrices, or of tensors as they are.
    fn of(
        base: &Views<'_>,
        row_len: u64,
        turned: bool,
        settings: &Settings,
    ) -> Result<Option<RowIndex>> {
        let mut chosen = Vec::new();
        let mut all = 0;
        for (tensor, entry) in base.tensors().iter().enumerate() {
            let segment = Segment::of(&entry.spec);
            let fits = segment.row_len == row_len && base.of(tensor).is_some() == turned;
            if fits && has_rows(entry.spec.dtype(), segment) {
                chosen.push(tensor);
                all += segment.rows;
            }
        }
        if all == 0 || all > MOST_ROWS {
            return Ok(None);
        }
        let read = settings.executor().try_map(chosen.len(), |i| match base.of(chosen[i]) {
            Some(tensor) => turned_signs_of(base.plain(), tensor, settings),
            None => signs_of(base, chosen[i], row_len, settings),
        })?;
        let (mut tensors, mut signs) = (Vec::new(), Vec::with_capacity(all as usize));
        for (tensor, rows) in chosen.into_iter().zip(read) {
            tensors.push((tensor, signs.len()));
            signs.extend(rows);
        }
        let keys = settings.executor().map(KEYS, |place| {
            let key = |(row, s): (usize, &Signs)| Some((s.key(place)?, row as u32));
            let mut keys: Vec<(u32, u32)> = signs.iter().enumerate().filter_map(key).collect();
            keys.sort_unstable();
            keys
        });
        Ok(Some(RowIndex { tensors, signs, keys }))
    }

    /// Returns the tensor of a row, and its number in it.
    fn place(&self, row: usize) -> Option<(usize, u64)> {
        let at = self.tensors.partition_point(|t| t.1 <= row).checked_sub(1)?;
        let &(tensor, first) = self.tensors.get(at)?;
        Some((tensor, (row - first) as u64))
    }

    /// Returns true if two rows, one after the other, are of one tensor.
    fn follows(&self, row: usize, next: usize) -> bool {
        let tensor = |row| self.place(row).map(|(tensor, _)| tensor);
        next < self.signs.len() && tensor(row) == tensor(next)
    }

    /// Finds the base's row that is most like one.
    fn nearest(&self, row: Signs) -> Option<usize> {
        let mut best: Option<(u32, usize)> = None;
        for (place, keys) in self.keys.iter().enumerate() {
            let Some(key) = row.key(place) else { continue };
            let first = keys.partition_point(|k| k.0 < key);
            let alike = keys.iter().skip(first).take_while(|k| k.0 == key).take(MOST_ALIKE);
            for &(_, number) in alike {
                let number = number as usize;
                let Some(other) = self.signs.get(number) else { continue };
                let found = (row.distance(*other), number);
                if row.is_near(*other) && best.is_none_or(|best| found < best) {
                    best = Some(found);
                }
            }
        }
        best.map(|(_, row)| row)
    }

    /// Finds the rows of a tensor in the base; `None` if most are not there.
    fn layout(&self, rows: &[Signs]) -> Option<Vec<RowRun>> {
        let mut found: Vec<Option<usize>> = Vec::with_capacity(rows.len());
        let mut before: Option<usize> = None;
        for &row in rows {
            let next = before.map(|b| b + 1).filter(|&next| {
                let other = self.signs.get(next);
                self.follows(next - 1, next) && other.is_some_and(|o| row.may_follow(*o))
            });
            before = next.or_else(|| self.nearest(row));
            found.push(before);
        }
        // A row between two that belong together belongs to them, too.
        for at in (0..found.len().saturating_sub(1)).rev() {
            let next = found.get(at + 1).copied().flatten();
            if let (Some(None), Some(next)) = (found.get(at), next)
                && let Some(before) = next.checked_sub(1).filter(|&b| self.follows(b, next))
                && self.signs.get(before).zip(rows.get(at)).is_some_and(|(a, b)| b.may_follow(*a))
            {
                found[at] = Some(before);
            }
        }
        let known = found.iter().flatten().count();
        if known * 2 < rows.len() {
            return None;
        }
        let mut runs: Vec<RowRun> = Vec::new();
        for row in found {
            let base = row.and_then(|row| self.place(row));
            match (runs.last_mut(), base) {
                (Some(RowRun { rows, base: Some((tensor, first)) }), Some((of, at)))
                    if *tensor == of && *first + *rows == at =>
                {
                    *rows += 1;
                }
                (Some(RowRun { rows, base: None }), None) => *rows += 1,
                _ => runs.push(RowRun { rows: 1, base }),
            }
        }
        Some(runs)
    }
}
