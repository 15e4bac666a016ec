//! Tables as this crate holds them: columns of cells, each a byte string or null.
//!
//! The rest of the crate knows nothing of Arrow. A cell of a fixed-width type is its little-endian
//! bytes; text and binary are their own bytes; a nested value (list, struct, map) is its canonical
//! encoding.

mod canonical;
mod form;
mod kind;

pub(crate) use canonical::{Digesting, cell_hash};
pub(crate) use form::{Form, parse, to_form};
pub(crate) use kind::{read_kind, write_kind};

use sparse_core::{Error, ErrorKind, Result};

/// Kind of the cells of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// An integer of 1, 2, 4, 8 or 16 bytes.
    Int {
        /// Width in bytes.
        width: u8,
        /// Two's complement.
        signed: bool,
    },
    /// An IEEE float of 4 or 8 bytes.
    Float {
        /// Width in bytes.
        width: u8,
    },
    /// Bytes of a fixed width without further meaning.
    Fixed {
        /// Width in bytes.
        width: u32,
    },
    /// UTF-8 of any length.
    Text,
    /// Bytes of any length, also of nested values.
    Bytes,
}

impl Kind {
    /// Returns the width of every cell in bytes; `None` if widths vary.
    pub(crate) fn width(self) -> Option<usize> {
        match self {
            Kind::Bool => Some(1),
            Kind::Int { width, .. } | Kind::Float { width } => Some(width.into()),
            Kind::Fixed { width } => Some(width as usize),
            Kind::Text | Kind::Bytes => None,
        }
    }
}

/// Cells of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) kind: Kind,
    /// Bytes of all cells in order. A null of a fixed-width column is zeros; else it is empty.
    pub(crate) data: Vec<u8>,
    /// End of each cell in `data`; empty for fixed-width columns.
    pub(crate) ends: Vec<u32>,
    /// Whether each cell is null; empty if none is.
    pub(crate) nulls: Vec<bool>,
    rows: usize,
}

/// Most bytes of one column in a block, well below the largest offset.
pub(crate) const MAX_COLUMN_BYTES: usize = 1 << 30;

impl Column {
    pub(crate) fn new(kind: Kind) -> Column {
        Column { kind, data: Vec::new(), ends: Vec::new(), nulls: Vec::new(), rows: 0 }
    }

    /// Creates a column from its parts.
    ///
    /// # Errors
    /// `InvalidArgument` when the parts do not fit together.
    pub(crate) fn from_parts(
        kind: Kind,
        rows: usize,
        data: Vec<u8>,
        ends: Vec<u32>,
        nulls: Vec<bool>,
    ) -> Result<Column> {
        let fits = match kind.width() {
            Some(w) => ends.is_empty() && w.checked_mul(rows) == Some(data.len()),
            None => {
                ends.len() == rows
                    && ends.last().map_or(0, |&e| e as usize) == data.len()
                    && ends.is_sorted()
            }
        };
        if !fits || !(nulls.is_empty() || nulls.len() == rows) {
            return Err(Error::invalid_argument("the parts of a column do not fit together"));
        }
        Ok(Column { kind, data, ends, nulls, rows })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the range of row `i` in `data`.
    fn span(&self, i: usize) -> (usize, usize) {
        match self.kind.width() {
            Some(w) => (i * w, (i + 1) * w),
            None => {
                let start =
                    if i == 0 { 0 } else { self.ends.get(i - 1).map_or(0, |&e| e as usize) };
                (start, self.ends.get(i).map_or(start, |&e| e as usize))
            }
        }
    }

    /// Returns row `i`; `None` for null (and past the end).
    #[inline]
    pub(crate) fn get(&self, i: usize) -> Option<&[u8]> {
        if self.nulls.get(i).copied().unwrap_or(false) {
            return None;
        }
        let (start, end) = self.span(i);
        self.data.get(start..end)
    }

    /// Appends a cell. `None` is null.
    ///
    /// # Errors
    /// `Corrupt` when the width is wrong, `LimitExceeded` when the column becomes too long.
    pub(crate) fn push(&mut self, cell: Option<&[u8]>) -> Result<()> {
        match (self.kind.width(), cell) {
            (Some(w), Some(c)) if c.len() != w => {
                return Err(Error::corrupt(format!("a cell has {} bytes instead of {w}", c.len())));
            }
            (Some(w), None) => {
                self.reserve(w)?;
                self.data.resize(self.data.len() + w, 0);
            }
            (_, Some(c)) => {
                self.reserve(c.len())?;
                self.data.extend_from_slice(c);
            }
            (None, None) => {}
        }
        if cell.is_none() || !self.nulls.is_empty() {
            self.nulls.resize(self.rows, false);
            self.nulls.push(cell.is_none());
        }
        self.close();
        Ok(())
    }

    /// Appends an empty cell that is not null: zeros for a fixed width.
    ///
    /// # Errors
    /// `LimitExceeded` when the column becomes too long.
    pub(crate) fn push_empty(&mut self) -> Result<()> {
        let width = self.kind.width().unwrap_or(0);
        self.reserve(width)?;
        self.data.resize(self.data.len() + width, 0);
        if !self.nulls.is_empty() {
            self.nulls.resize(self.rows + 1, false);
        }
        self.close();
        Ok(())
    }

    /// Reserves memory for `n` more bytes of cells.
    ///
    /// # Errors
    /// `LimitExceeded` when the column becomes too long, or memory does not suffice.
    fn reserve(&mut self, n: usize) -> Result<()> {
        if self.data.len().saturating_add(n) > MAX_COLUMN_BYTES {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("a column has more than {MAX_COLUMN_BYTES} bytes in one block"),
            ));
        }
        self.data.try_reserve(n).map_err(|_| {
            Error::new(
                ErrorKind::LimitExceeded,
                format!("{n} bytes of a column do not fit in memory"),
            )
        })
    }

    fn close(&mut self) {
        if self.kind.width().is_none() {
            self.ends.push(self.data.len() as u32);
        }
        self.rows += 1;
    }

    /// Appends rows `start..start + len` of another column of the same kind.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer rows, or the kinds differ; `LimitExceeded`.
    pub(crate) fn extend(&mut self, from: &Column, start: usize, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        if from.kind != self.kind || start.checked_add(len).is_none_or(|end| end > from.rows) {
            return Err(Error::corrupt("rows of a column are out of range"));
        }
        let (first, last) = (from.span(start).0, from.span(start + len - 1).1);
        self.reserve(last.saturating_sub(first))?;
        let nulls = from.nulls.get(start..start + len).filter(|n| n.contains(&true));
        if nulls.is_some() || !self.nulls.is_empty() {
            self.nulls.resize(self.rows, false);
            match nulls {
                Some(n) => self.nulls.extend_from_slice(n),
                None => self.nulls.resize(self.rows + len, false),
            }
        }
        let at = self.data.len();
        self.data.extend_from_slice(from.data.get(first..last).unwrap_or_default());
        self.rows += len - 1;
        if self.kind.width().is_none() {
            // `close` adds the last one.
            let ends = from.ends.get(start..start + len - 1).unwrap_or_default();
            self.ends.extend(ends.iter().map(|&e| (at + (e as usize - first)) as u32));
        }
        self.close();
        Ok(())
    }

    /// Removes all rows.
    pub(crate) fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        self.nulls.clear();
        self.rows = 0;
    }

    /// Returns the approximate memory taken, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + 4 * self.ends.len() + self.nulls.len()
    }
}

/// Rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) rows: usize,
    pub(crate) columns: Vec<Column>,
}

impl Block {
    pub(crate) fn new(kinds: impl IntoIterator<Item = Kind>) -> Block {
        Block { rows: 0, columns: kinds.into_iter().map(Column::new).collect() }
    }

    /// Appends rows `start..start + len` of a block of the same kinds.
    ///
    /// # Errors
    /// As [`Column::extend`].
    pub(crate) fn extend(&mut self, from: &Block, start: usize, len: usize) -> Result<()> {
        for (to, from) in self.columns.iter_mut().zip(&from.columns) {
            to.extend(from, start, len)?;
        }
        self.rows += len;
        Ok(())
    }

    /// Returns the approximate memory taken, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back() {
        let mut a = Column::new(Kind::Text);
        let cells = [Some(&b"one"[..]), Some(b""), None, Some(b"four")];
        for c in cells {
            a.push(c).unwrap();
        }
        let mut b = Column::new(Kind::Text);
        b.push(Some(b"zero")).unwrap();
        b.extend(&a, 1, 3).unwrap();
        b.extend(&a, 0, 1).unwrap();
        let got: Vec<_> = (0..5).map(|i| b.get(i)).collect();
        assert_eq!(got, [Some(&b"zero"[..]), cells[1], cells[2], cells[3], cells[0]]);
        assert!(b.extend(&a, 3, 2).is_err());

        let mut f = Column::new(Kind::Int { width: 2, signed: true });
        f.push(Some(&[1, 2])).unwrap();
        f.push(None).unwrap();
        assert!(f.push(Some(&[1])).is_err());
        let mut g = Column::new(f.kind);
        g.extend(&f, 1, 1).unwrap();
        g.extend(&f, 0, 1).unwrap();
        assert_eq!((g.get(0), g.get(1), g.get(2)), (None, Some(&[1u8, 2][..]), None));
    }
}
