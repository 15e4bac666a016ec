//! Rows that resemble one of the base: the successor of the row before, rows that share rare cells,
//! rows with similar text, and last the row at the same place.

use super::pair::{LONG, ROWS_AT_ONCE, Similar};
use super::place::{Place, Row};
use super::{Origin, OriginCursor, Origins, rare, text};
use crate::cells::similarity;
use crate::cm::mix;
use sparse_core::Result;

/// One in this many of the first rows must be found, or the search ends.
const WORTHWHILE: u64 = 100;

/// Finds counterparts for rows that have none.
///
/// # Errors
/// `Cancelled`; `Io` from the stores.
pub(crate) fn match_similar(s: &Similar<'_>, origins: &mut Origins) -> Result<()> {
    // Row numbers of the base have 32 bits here.
    if s.base.rows() == 0 || s.base.rows() > u32::MAX.into() || s.pairs.is_empty() {
        return Ok(());
    }
    s.successors(origins, true)?;
    s.in_parts(origins, rare::memory_of_a_row(s), |rows, origins| {
        rare::match_cells(s, rows, origins)
    })?;
    s.in_parts(origins, text::memory_of_a_row(s)?, |rows, origins| {
        text::match_text(s, rows, origins)
    })?;
    s.successors(origins, false)?;
    s.by_place(origins)
}

fn row_of(origin: Origin) -> Option<u64> {
    match origin {
        Origin::Copy(r) | Origin::Edit(r) => Some(r),
        Origin::New => None,
    }
}

/// Returns true if two texts share hardly any words.
fn hopeless(a: &[u8], b: &[u8]) -> bool {
    let words = |text: &[u8], f: &mut dyn FnMut(usize)| {
        for word in text.split(|c| !c.is_ascii_alphanumeric() && *c < 0x80).filter(|w| w.len() >= 3)
        {
            let hash = word.iter().fold(word.len() as u64, |h, &c| mix(h, c.into()));
            f((hash >> 40) as usize % 512);
        }
    };
    let mut seen = [false; 512];
    words(a, &mut |at| seen[at] = true);
    let (mut shared, mut all) = (0, 0);
    words(b, &mut |at| {
        shared += usize::from(seen[at]);
        all += 1;
    });
    shared * 4 < all
}

impl Similar<'_> {
    /// Searches for counterparts of the new rows in passes. Each pass has as many rows as an index
    /// of `memory` bytes a row has room for in the budget, spread over the table; if hardly any of
    /// them is found, the search ends.
    fn in_parts(
        &self,
        origins: &mut Origins,
        memory: usize,
        mut find: impl FnMut(&[u64], &mut OriginCursor<'_>) -> Result<()>,
    ) -> Result<()> {
        let open = origins.count(|o| o == Origin::New)?;
        if memory == 0 || open == 0 {
            return Ok(());
        }
        let at_once = (self.budget / memory) as u64;
        let parts = open.div_ceil(at_once.clamp(1000, ROWS_AT_ONCE));
        let part_of = |row: u64| (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % parts;
        let mut left = open;
        for part in 0..parts {
            self.workers.cancel.check()?;
            let mut rows = Vec::new();
            origins.each(|row, o| {
                if o == Origin::New && part_of(row) == part {
                    rows.push(row);
                }
            })?;
            let mut cursor = origins.cursor();
            find(&rows, &mut cursor)?;
            cursor.finish()?;
            let now = origins.count(|o| o == Origin::New)?;
            if (left - now) * WORTHWHILE < rows.len() as u64 {
                break;
            }
            left = now;
        }
        Ok(())
    }

    /// Returns true if a row of the derivative is worth coding against one of the base.
    fn alike(&self, d: &Row<'_>, b: &Row<'_>) -> bool {
        let (mut same, mut all) = (0, 0);
        // In large tables, a quick comparison of texts comes first.
        let many = self.derivative.blocks() > 1;
        for (x, y) in (0..self.pairs.len()).map(|c| (d.get(c), b.get(c))) {
            let weight = |c: Option<&[u8]>| c.map_or(1, |c| 4 + c.len().min(2000));
            let w = weight(x).max(weight(y));
            all += w;
            if x == y {
                same += w;
            } else if let (Some(x), Some(y)) = (x, y)
                && x.len().min(y.len()) >= LONG
                && x.len().max(y.len()) < 1 << 16
                && !(many && hopeless(x, y))
            {
                same += w * similarity(x, y) as usize / 256;
            }
        }
        same * 10 >= all * 4
    }

    /// Returns readers of rows of both tables, in the corresponding columns.
    fn places(&self) -> (Place<'_>, Place<'_>) {
        let d = Place::new(self.derivative, self.pairs.iter().map(|p| p.0));
        (d, Place::new(self.base, self.pairs.iter().map(|p| p.1)))
    }

    /// Tries the rows of the base beside the counterparts of a row's neighbours.
    ///
    /// After the counterpart of the row before, or before that of the row after.
    fn successors(&self, origins: &mut Origins, first: bool) -> Result<()> {
        let blocks: Vec<usize> = (0..self.derivative.blocks()).collect();
        let executor = self.workers.executor;
        for part in blocks.chunks(executor.width().max(1)) {
            self.workers.cancel.check()?;
            let found =
                executor.try_map(part.len(), |i| self.successors_in(part[i], origins, first))?;
            let mut cursor = origins.cursor();
            found
                .into_iter()
                .flatten()
                .try_for_each(|(i, row)| cursor.set(i, Origin::Edit(row)))?;
            cursor.finish()?;
        }
        Ok(())
    }

    fn successors_in(
        &self,
        block: usize,
        origins: &Origins,
        first_time: bool,
    ) -> Result<Vec<(u64, u64)>> {
        let (start, end) = (self.derivative.start(block), self.derivative.start(block + 1));
        // Including the neighbours.
        let first = start.saturating_sub(1);
        let mut here = origins.range(first, self.derivative.rows().min(end + 1))?;
        if !here.contains(&Origin::New) {
            return Ok(Vec::new());
        }
        let (mut d, mut b) = self.places();
        let mut check = |i: usize, row: u64| -> Result<bool> {
            Ok(self.alike(&d.row(first + i as u64)?, &b.row(row)?))
        };
        // In a large table, a row was inserted if the successor of its neighbour's counterpart
        // belongs to the row on its other side.
        let many = self.derivative.blocks() > 1;
        let taken = |row: u64, other: Option<&Origin>| many && other == Some(&Origin::Copy(row));
        let near = |o: Origin| row_of(o).filter(|_| first_time || !matches!(o, Origin::Copy(_)));
        let own = (start - first) as usize..(end - first) as usize;
        let mut found = Vec::new();
        for i in own.clone().skip(usize::from(own.start == 0)) {
            if let (Origin::New, Some(r)) = (here[i], near(here[i - 1]))
                && r + 1 < self.base.rows()
                && !taken(r + 1, here.get(i + 1))
                && check(i, r + 1)?
            {
                here[i] = Origin::Edit(r + 1);
                found.push((first + i as u64, r + 1));
            }
        }
        for i in own.rev() {
            if let (Origin::New, Some(r)) = (here[i], here.get(i + 1).copied().and_then(near))
                && r > 0
                && !taken(r - 1, i.checked_sub(1).and_then(|i| here.get(i)))
                && check(i, r - 1)?
            {
                here[i] = Origin::Edit(r - 1);
                found.push((first + i as u64, r - 1));
            }
        }
        Ok(found)
    }

    /// Tries the row at the same place, if the tables have the same length.
    fn by_place(&self, origins: &mut Origins) -> Result<()> {
        if self.base.rows() != self.derivative.rows() {
            return Ok(());
        }
        let (mut d, mut b) = self.places();
        let mut cursor = origins.cursor();
        for i in 0..cursor.len() {
            if cursor.get(i)? == Origin::New && self.alike(&d.row(i)?, &b.row(i)?) {
                cursor.set(i, Origin::Edit(i))?;
            }
        }
        cursor.finish()
    }
}
