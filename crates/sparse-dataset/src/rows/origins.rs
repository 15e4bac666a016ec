//! Origins of the rows of a table of any length.

use super::Origin;
use crate::numbers::{Cursor, Numbers, Reader};
use crate::store::Spill;
use sparse_core::Result;

/// The origin of each row.
pub(crate) struct Origins(Numbers);

fn pack(origin: Origin) -> u64 {
    match origin {
        Origin::New => 0,
        Origin::Copy(row) => row << 2 | 1,
        Origin::Edit(row) => row << 2 | 2,
    }
}

fn unpack(number: u64) -> Origin {
    match number & 3 {
        1 => Origin::Copy(number >> 2),
        2 => Origin::Edit(number >> 2),
        _ => Origin::New,
    }
}

impl Origins {
    /// Creates the origins of `rows` rows that all are new.
    ///
    /// # Errors
    /// `Io` when a temporary file cannot be written.
    pub(crate) fn new(rows: u64, spill: &Spill) -> Result<Origins> {
        Ok(Origins(Numbers::new(rows, pack(Origin::New), spill)?))
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Returns a reader; reading in order is fastest.
    pub(crate) fn reader(&self) -> OriginReader<'_> {
        OriginReader(self.0.reader())
    }

    /// Returns a cursor that reads and changes origins, fastest in order.
    pub(crate) fn cursor(&mut self) -> OriginCursor<'_> {
        OriginCursor(self.0.cursor())
    }

    /// Returns the origins of rows `from..to`.
    ///
    /// # Errors
    /// `InvalidArgument` when there are no such rows, `Io`.
    pub(crate) fn range(&self, from: u64, to: u64) -> Result<Vec<Origin>> {
        Ok(self.0.range(from, to)?.into_iter().map(unpack).collect())
    }

    /// Calls `f` with each row and its origin.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn each(&self, mut f: impl FnMut(u64, Origin)) -> Result<()> {
        let mut reader = self.0.reader();
        for i in 0..self.len() {
            f(i, unpack(reader.get(i)?));
        }
        Ok(())
    }

    /// Counts the origins for which `is` returns true.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn count(&self, is: impl Fn(Origin) -> bool) -> Result<u64> {
        let mut n = 0;
        self.each(|_, o| n += u64::from(is(o)))?;
        Ok(n)
    }

    /// Returns up to `n` rows for whose origin `is` returns true, evenly spread.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn sample(&self, n: usize, is: impl Fn(Origin) -> bool) -> Result<Vec<u64>> {
        let all = self.count(&is)?;
        let mut wanted = spread(all, n).into_iter().peekable();
        let mut out = Vec::new();
        let mut seen = 0;
        self.each(|row, o| {
            if is(o) {
                if wanted.next_if_eq(&seen).is_some() {
                    out.push(row);
                }
                seen += 1;
            }
        })?;
        Ok(out)
    }
}

/// Returns up to `n` of the numbers below `all`, evenly spread.
pub(crate) fn spread(all: u64, n: usize) -> Vec<u64> {
    let n = n as u64;
    if all <= n {
        return (0..all).collect();
    }
    (0..n).map(|i| (u128::from(i) * u128::from(all) / u128::from(n)) as u64).collect()
}

/// Reads origins.
pub(crate) struct OriginReader<'a>(Reader<'a>);

impl OriginReader<'_> {
    /// Returns the origin of row `i`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such row, `Io`.
    pub(crate) fn get(&mut self, i: u64) -> Result<Origin> {
        self.0.get(i).map(unpack)
    }
}

/// Reads and changes origins.
pub(crate) struct OriginCursor<'a>(Cursor<'a>);

impl OriginCursor<'_> {
    /// Returns the number of rows.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Returns the origin of row `i`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such row, `Io`.
    pub(crate) fn get(&mut self, i: u64) -> Result<Origin> {
        self.0.get(i).map(unpack)
    }

    /// Changes the origin of row `i`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn set(&mut self, i: u64, origin: Origin) -> Result<()> {
        self.0.set(i, pack(origin))
    }

    /// Stores all changes.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread() {
        let mut origins = Origins::new(1000, &Spill { budget: 0, folder: None }).unwrap();
        let mut cursor = origins.cursor();
        for i in (0..1000).filter(|i| i % 4 == 1) {
            cursor.set(i, if i % 8 == 1 { Origin::Copy(i) } else { Origin::Edit(7) }).unwrap();
        }
        cursor.finish().unwrap();
        assert_eq!(origins.count(|o| o == Origin::New).unwrap(), 750);
        assert_eq!(origins.range(4, 7).unwrap(), [Origin::New, Origin::Edit(7), Origin::New]);
        let few = origins.sample(5, |o| matches!(o, Origin::Copy(_))).unwrap();
        assert_eq!(few, [1, 201, 401, 601, 801]);
        assert_eq!(origins.sample(999, |o| o == Origin::Edit(7)).unwrap().len(), 125);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 4), [0, 1, 2]);
    }
}
