//! Dictionaries: the distinct cells of a column, numbered by first appearance.

use crate::table::Column;
use arrow_schema::{DataType, Schema};
use sparse_core::Result;
use std::collections::HashMap;

/// Returns for each row the number of its cell among the distinct ones, and the distinct cells.
pub(super) fn distinct(column: &Column) -> Result<(Vec<Option<usize>>, Column)> {
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let mut values = Column::new(column.kind);
    let mut keys = Vec::with_capacity(column.rows());
    for i in 0..column.rows() {
        keys.push(match column.get(i) {
            None => None,
            Some(cell) => match seen.get(cell) {
                Some(&k) => Some(k),
                None => {
                    values.push(Some(cell))?;
                    seen.insert(cell, values.rows() - 1);
                    Some(values.rows() - 1)
                }
            },
        });
    }
    Ok((keys, values))
}

/// A dictionary that grows from batch to batch.
#[derive(Default)]
pub(super) struct Dictionary {
    seen: HashMap<Box<[u8]>, usize>,
    values: Option<Column>,
}

impl Dictionary {
    /// Adds the cells of a column; returns for each row the number of its value, and all values so
    /// far.
    pub(super) fn add(&mut self, column: &Column) -> Result<(Vec<Option<usize>>, &Column)> {
        let values = self.values.get_or_insert_with(|| Column::new(column.kind));
        let mut keys = Vec::with_capacity(column.rows());
        for i in 0..column.rows() {
            let Some(cell) = column.get(i) else {
                keys.push(None);
                continue;
            };
            let key = match self.seen.get(cell) {
                Some(&key) => key,
                None => {
                    values.push(Some(cell))?;
                    self.seen.insert(cell.into(), values.rows() - 1);
                    values.rows() - 1
                }
            };
            keys.push(Some(key));
        }
        Ok((keys, values))
    }
}

/// The dictionaries of a schema, in the order in which its types are visited.
///
/// An Arrow file has one dictionary for each column and all batches: a later batch appends its
/// values to those of earlier ones.
#[derive(Default)]
pub(crate) struct Dictionaries {
    all: Vec<Dictionary>,
    next: usize,
}

impl Dictionaries {
    /// Returns true if a type of the schema has a dictionary.
    pub(crate) fn are_in(schema: &Schema) -> bool {
        fn has(dtype: &DataType) -> bool {
            match dtype {
                DataType::Dictionary(..) => true,
                DataType::List(f)
                | DataType::LargeList(f)
                | DataType::ListView(f)
                | DataType::LargeListView(f)
                | DataType::FixedSizeList(f, _)
                | DataType::Map(f, _)
                | DataType::RunEndEncoded(_, f) => has(f.data_type()),
                DataType::Struct(fields) => fields.iter().any(|f| has(f.data_type())),
                _ => false,
            }
        }
        schema.fields().iter().any(|f| has(f.data_type()))
    }

    /// Begins a batch.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Returns the place of the dictionary that is visited now.
    pub(super) fn next(&mut self) -> usize {
        self.next += 1;
        if self.all.len() < self.next {
            self.all.push(Dictionary::default());
        }
        self.next - 1
    }

    pub(super) fn take(&mut self, slot: usize) -> Dictionary {
        self.all.get_mut(slot).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn put(&mut self, slot: usize, dictionary: Dictionary) {
        if let Some(place) = self.all.get_mut(slot) {
            *place = dictionary;
        }
    }
}
