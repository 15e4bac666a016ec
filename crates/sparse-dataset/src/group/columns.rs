//! Columns of a row group, one after the other. The same code encodes and decodes.

use super::Gathered;
use crate::cells::{CellCoder, Setting};
use crate::cm::{Coder, Trainer, mix};
use crate::plan::{Plan, Source};
use crate::rows::Op;
use crate::table::{Block, Column, Form, cell_hash, parse, to_form};
use sparse_core::{Error, ErrorKind, Result};

/// Context in which the columns of a row group are coded.
pub(crate) struct Columns<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) ops: &'a [Op],
    pub(crate) gathered: &'a Gathered,
    pub(crate) prime: &'a Block,
}

/// Buffers that are reused for each cell.
#[derive(Default)]
struct Scratch {
    form: Form,
    source: Form,
    expected: Form,
    above: Form,
    hint: Form,
}

/// State of a row.
#[derive(Clone, Copy)]
struct Row {
    index: usize,
    /// Counterpart among the gathered rows.
    base: Option<usize>,
}

impl Columns<'_> {
    /// Codes all columns. Returns the block when decoding.
    pub(crate) fn code<C: Coder>(
        &self,
        cells: &mut CellCoder,
        coder: &mut C,
        rows: usize,
        input: Option<&Block>,
    ) -> Result<Block> {
        let mut made = Block::new(self.plan.kinds.iter().copied());
        // For each row, a bit for each column whose cell was not as expected.
        let mut surprises = vec![0u64; rows];
        let mut scratch = Scratch::default();
        for &c in &self.plan.order {
            self.prime_column(cells, c)?;
            let column =
                self.column(cells, coder, c, input, &made, &mut surprises, &mut scratch)?;
            if let (true, Some(to)) = (C::DECODES, made.columns.get_mut(c)) {
                *to = column;
            }
        }
        made.rows = rows;
        Ok(made)
    }

    /// Lets the models learn from the base's column.
    fn prime_column(&self, cells: &mut CellCoder, c: usize) -> Result<()> {
        let (Some(plan), Some(b)) = (self.plan.columns.get(c), self.plan.exact(c)) else {
            return Ok(());
        };
        let models = cells.model.streams.is_none();
        let (true, Some(column)) = (plan.primed && models, self.prime.columns.get(b)) else {
            return Ok(());
        };
        let kind = column.kind;
        let parents = plan
            .parents
            .map(|p| p.and_then(|p| self.plan.exact(p)).and_then(|b| self.prime.columns.get(b)));
        let hint =
            plan.hint.and_then(|p| self.plan.exact(p)).and_then(|b| self.prime.columns.get(b));
        let mut s = Scratch::default();
        for row in 0..self.prime.rows {
            let Some(cell) = column.get(row) else { continue };
            to_form(kind, cell, &mut s.form);
            let hashes = parents.map(|p| p.map_or(0, |p| cell_hash(p.get(row))));
            let hinted = hint.and_then(|h| h.get(row).map(|cell| (h.kind, cell)));
            if let Some((kind, cell)) = hinted {
                to_form(kind, cell, &mut s.hint);
            }
            let setting = Setting {
                column: c as u64,
                parents: hashes,
                aligned: hinted.map(|_| &s.hint[..]),
                above: (row > 0).then_some(&s.above[..]),
                bulk: false,
            };
            cells.value(&mut Trainer, &setting, &s.form)?;
            std::mem::swap(&mut s.form, &mut s.above);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn column<C: Coder>(
        &self,
        cells: &mut CellCoder,
        coder: &mut C,
        c: usize,
        input: Option<&Block>,
        made: &Block,
        surprises: &mut [u64],
        scratch: &mut Scratch,
    ) -> Result<Column> {
        let kind = *self.plan.kinds.get(c).ok_or_else(|| Error::corrupt("a column has no type"))?;
        let exact = self.plan.exact(c);
        let base_column = exact.and_then(|b| self.gathered.block.columns.get(b));
        let mut out = Column::new(kind);
        let given = input.and_then(|i| i.columns.get(c));
        let nullable = given.is_some_and(|g| g.nulls.contains(&true));
        let nullable = cells.model.flag(coder, 50, &[c as u64], nullable);
        let mut state = State { kind, nullable, history: 0, last_null: false };
        let mut index = 0usize;
        for &op in self.ops {
            let len = op.len() as usize;
            let place = op.start().map(|s| self.gathered.place(s, op.len())).transpose()?;
            if let (Op::Copy { .. }, Some(from), Some(at)) = (op, base_column, place) {
                if C::DECODES {
                    let before = out.bytes();
                    out.extend(from, at, len)?;
                    store(cells, out.bytes() - before)?;
                }
                index += len;
                continue;
            }
            for k in 0..len {
                let row = Row { index, base: place.map(|p| p + k) };
                let cell = given.and_then(|g| g.get(index));
                let decoded = self.cell(
                    cells,
                    coder,
                    c,
                    row,
                    cell,
                    (input, made, &out),
                    &mut state,
                    surprises,
                    scratch,
                )?;
                if C::DECODES {
                    let before = out.bytes();
                    out.push(decoded.as_deref())?;
                    store(cells, out.bytes() - before)?;
                }
                index += 1;
            }
        }
        Ok(out)
    }

    /// Codes one cell. `tables` are the input, the columns decoded so far, and the current column.
    #[allow(clippy::too_many_arguments)]
    fn cell<C: Coder>(
        &self,
        cells: &mut CellCoder,
        coder: &mut C,
        c: usize,
        row: Row,
        cell: Option<&[u8]>,
        tables: (Option<&Block>, &Block, &Column),
        state: &mut State,
        surprises: &mut [u64],
        scratch: &mut Scratch,
    ) -> Result<Option<Vec<u8>>> {
        let (input, made, own) = tables;
        let plan =
            self.plan.columns.get(c).ok_or_else(|| Error::corrupt("a column has no plan"))?;
        let sibling = |s: usize| input.unwrap_or(made).columns.get(s);
        let column = c as u64;
        // The expected cell: none, a null, or a text.
        let source = match plan.source {
            Source::None => None,
            Source::Base(b) => {
                row.base.and_then(|r| Some((self.gathered.block.columns.get(b)?, r)))
            }
            Source::Sibling(s) => sibling(s).map(|s| (s, row.index)),
        };
        let expected = source.map(|(from, r)| from.get(r).map(|cell| (from.kind, cell)));
        if let Some(Some((kind, cell))) = expected {
            to_form(kind, cell, &mut scratch.source);
            plan.rule.apply(&scratch.source, &mut scratch.expected);
        }
        if let Some(cell) = cell {
            to_form(state.kind, cell, &mut scratch.form);
        }
        let surprise = surprises
            .get_mut(row.index)
            .ok_or_else(|| Error::corrupt("a row lies past the end"))?;
        if let Some(expected) = &expected {
            let same = match (expected, cell) {
                (None, None) => true,
                (Some(_), Some(_)) => scratch.form == scratch.expected,
                _ => false,
            };
            let hash = expected.map_or(1, |_| short_hash(&scratch.expected));
            let contexts = [
                column << 8 | state.history & 0xff,
                mix(column, *surprise),
                mix(column, hash),
                column << 1 | u64::from(expected.is_none()),
                mix(column << 2 | state.history & 3, *surprise & 0xff),
            ];
            let same = cells.model.flag(coder, 51, &contexts, same);
            state.history = state.history << 1 | u64::from(!same);
            if same {
                return match (C::DECODES, expected) {
                    (true, Some(_)) => {
                        spend(cells, scratch.expected.len())?;
                        parse(state.kind, &scratch.expected).map(Some)
                    }
                    _ => Ok(None),
                };
            }
            *surprise |= 1 << (c % 64);
        }
        if state.nullable {
            let of_source = expected.map_or(2, |e| u64::from(e.is_none()));
            let parent =
                plan.parents[0].and_then(sibling).map_or(0, |p| cell_hash(p.get(row.index)));
            let contexts = [
                column << 4 | of_source << 1 | u64::from(state.last_null),
                mix(column, parent),
                mix(column, *surprise),
            ];
            let null = cells.model.flag(coder, 52, &contexts, cell.is_none());
            state.last_null = null;
            if null {
                return Ok(None);
            }
        }
        let own = input.and_then(|i| i.columns.get(c)).unwrap_or(own);
        let above = row.index.checked_sub(1).and_then(|r| own.get(r));
        if let Some(above) = above {
            to_form(state.kind, above, &mut scratch.above);
        }
        let has_text = matches!(expected, Some(Some(_)));
        let hint = plan.hint.filter(|_| !has_text).and_then(sibling);
        let hinted = hint.and_then(|h| h.get(row.index).map(|cell| (h.kind, cell)));
        if let Some((kind, cell)) = hinted {
            to_form(kind, cell, &mut scratch.hint);
        }
        let setting = Setting {
            column,
            parents: plan
                .parents
                .map(|p| p.and_then(sibling).map_or(0, |p| cell_hash(p.get(row.index)))),
            aligned: match (has_text, hinted) {
                (true, _) => Some(&scratch.expected),
                (false, Some(_)) => Some(&scratch.hint),
                _ => None,
            },
            above: above.map(|_| &scratch.above[..]),
            bulk: plan.bulk,
        };
        let form = if has_text {
            cells.near(coder, &setting, &scratch.form)?
        } else {
            cells.value(coder, &setting, &scratch.form)?
        };
        if C::DECODES { parse(state.kind, &form).map(Some) } else { Ok(None) }
    }
}

struct State {
    kind: crate::table::Kind,
    nullable: bool,
    /// Whether the last cells were as expected.
    history: u64,
    last_null: bool,
}

fn short_hash(form: &[u8]) -> u64 {
    // Long texts do not repeat.
    if form.len() > 64 { 2 } else { cell_hash(Some(form)) }
}

/// Counts bytes of finished cells.
fn store(cells: &mut CellCoder, bytes: usize) -> Result<()> {
    cells.room = cells.room.checked_sub(bytes).ok_or_else(|| {
        Error::new(ErrorKind::LimitExceeded, "a row group decodes to more bytes than it declares")
    })?;
    Ok(())
}

fn spend(cells: &mut CellCoder, bytes: usize) -> Result<()> {
    cells.allowance = cells.allowance.checked_sub(bytes).ok_or_else(|| {
        Error::new(ErrorKind::LimitExceeded, "a row group decodes to more bytes than it may take")
    })?;
    Ok(())
}
