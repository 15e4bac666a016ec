//! Cells of a sample as text, each made once however often it is compared.

use crate::table::{Block, Column, Form, Kind, to_form};
use std::cell::OnceCell;

/// Rows whose cells are compared as text.
pub(super) struct Texts {
    block: Block,
    columns: Vec<OnceCell<Column>>,
    bytes: Vec<OnceCell<[bool; 256]>>,
}

impl Texts {
    pub(super) fn new(block: Block) -> Texts {
        let n = block.columns.len();
        Texts { block, columns: vec![OnceCell::new(); n], bytes: vec![OnceCell::new(); n] }
    }

    pub(super) fn rows(&self) -> usize {
        self.block.rows
    }

    /// Returns the texts of a column, if there is such a column.
    pub(super) fn column(&self, c: usize) -> Option<&Column> {
        let column = self.block.columns.get(c)?;
        match column.kind {
            Kind::Text | Kind::Bytes => Some(column),
            _ => Some(self.columns.get(c)?.get_or_init(|| texts(column))),
        }
    }

    /// Returns which bytes the texts of a column have.
    pub(super) fn bytes(&self, c: usize) -> [bool; 256] {
        let (Some(column), Some(cell)) = (self.column(c), self.bytes.get(c)) else {
            return [false; 256];
        };
        *cell.get_or_init(|| {
            let mut has = [false; 256];
            column.data.iter().for_each(|&b| has[usize::from(b)] = true);
            has
        })
    }
}

fn texts(column: &Column) -> Column {
    let mut out = Column::new(Kind::Bytes);
    let mut form = Form::new();
    for i in 0..column.rows() {
        let cell = column.get(i).map(|cell| {
            to_form(column.kind, cell, &mut form);
            &form[..]
        });
        // So few rows are not too long.
        if out.push(cell).is_err() {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_texts_with_their_nulls_and_bytes() {
        let kinds = [Kind::Int { width: 2, signed: true }, Kind::Text];
        let mut block = Block::new(kinds);
        for (number, text) in [(Some(-12i16), Some("a b")), (None, Some("")), (Some(7), None)] {
            let number = number.map(i16::to_le_bytes);
            block.columns[0].push(number.as_ref().map(|n| &n[..])).unwrap();
            block.columns[1].push(text.map(str::as_bytes)).unwrap();
            block.rows += 1;
        }
        let texts = Texts::new(block);
        let cells = |c: usize| {
            let column = texts.column(c).unwrap();
            (0..3).map(|i| column.get(i).map(<[u8]>::to_vec)).collect::<Vec<_>>()
        };
        assert_eq!(cells(0), [Some(b"-12".to_vec()), None, Some(b"7".to_vec())]);
        assert_eq!(cells(1), [Some(b"a b".to_vec()), Some(b"".to_vec()), None]);
        let has = |c: usize| -> Vec<u8> {
            (0..=255).filter(|&b| texts.bytes(c)[usize::from(b)]).collect()
        };
        assert_eq!([has(0), has(1)], [b"-127".to_vec(), b" ab".to_vec()]);
        assert!(texts.column(2).is_none() && texts.bytes(2) == [false; 256]);
    }
}
