//! Long lists of numbers, one for each row of a table: in memory or, beyond a budget, in a
//! temporary file.

use crate::store::{Spill, temporary_file};
use sparse_core::{ByteSource, Error, FileSource, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

/// Numbers that are read or written at once.
const CHUNK: usize = 1 << 13;

/// A list of fixed length.
pub(crate) struct Numbers {
    len: u64,
    held: Held,
}

enum Held {
    Memory(Vec<u64>),
    File(OnDisk),
}

struct OnDisk {
    file: File,
    source: FileSource,
}

fn io(e: std::io::Error) -> Error {
    Error::io("cannot write a temporary file", e)
}

impl Numbers {
    /// Creates a list of `len` times `value`.
    ///
    /// # Errors
    /// `Io` when the temporary file cannot be written.
    pub(crate) fn new(len: u64, value: u64, spill: &Spill) -> Result<Numbers> {
        let held = match usize::try_from(len) {
            Ok(n) if n.saturating_mul(8) <= spill.budget => Held::Memory(vec![value; n]),
            _ => {
                let mut file = temporary_file(spill.folder.as_deref())?;
                let chunk = bytes(&[value; CHUNK]);
                let mut left = len.saturating_mul(8);
                while left > 0 {
                    let n = left.min(chunk.len() as u64);
                    file.write_all(chunk.get(..n as usize).unwrap_or_default()).map_err(io)?;
                    left -= n;
                }
                let source = FileSource::new(file.try_clone().map_err(io)?)?;
                Held::File(OnDisk { file, source })
            }
        };
        Ok(Numbers { len, held })
    }

    /// Returns the length of the list.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns a reader; reading in order is fastest.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { numbers: self, chunk: Chunk::default() }
    }

    /// Returns a cursor that reads and changes numbers, fastest in order. Changes are stored once
    /// it is [finished](Cursor::finish).
    pub(crate) fn cursor(&mut self) -> Cursor<'_> {
        Cursor { numbers: self, chunk: Chunk::default(), changed: false }
    }

    /// Returns numbers `from..to`.
    ///
    /// # Errors
    /// `InvalidArgument` when there are no such numbers, `Io`.
    pub(crate) fn range(&self, from: u64, to: u64) -> Result<Vec<u64>> {
        if from > to || to > self.len {
            return Err(self.past_end(to));
        }
        match &self.held {
            Held::Memory(v) => Ok(v.get(from as usize..to as usize).unwrap_or_default().to_vec()),
            Held::File(f) => Ok(words(&f.source.bytes_at(from * 8, (to - from) as usize * 8)?)),
        }
    }

    fn past_end(&self, i: u64) -> Error {
        Error::invalid_argument(format!("there is no number {i} among {}", self.len))
    }

    fn load(&self, i: u64, chunk: &mut Chunk) -> Result<()> {
        if i >= self.len {
            return Err(self.past_end(i));
        }
        chunk.start = i - i % CHUNK as u64;
        chunk.numbers = self.range(chunk.start, self.len.min(chunk.start + CHUNK as u64))?;
        Ok(())
    }
}

fn bytes(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect()
}

/// A part of a list that was read from its file.
#[derive(Default)]
struct Chunk {
    start: u64,
    numbers: Vec<u64>,
}

impl Chunk {
    #[inline]
    fn place(&self, i: u64) -> Option<usize> {
        let at = i.wrapping_sub(self.start);
        (at < self.numbers.len() as u64).then_some(at as usize)
    }
}

/// Reads a list.
pub(crate) struct Reader<'a> {
    numbers: &'a Numbers,
    chunk: Chunk,
}

impl Reader<'_> {
    /// Returns the number `i`.
    ///
    /// # Errors
    /// `InvalidArgument` when `i` is out of range, `Io`.
    #[inline]
    pub(crate) fn get(&mut self, i: u64) -> Result<u64> {
        if let Held::Memory(v) = &self.numbers.held {
            return v.get(i as usize).copied().ok_or_else(|| self.numbers.past_end(i));
        }
        if self.chunk.place(i).is_none() {
            self.numbers.load(i, &mut self.chunk)?;
        }
        let at = self.chunk.place(i);
        at.and_then(|at| self.chunk.numbers.get(at).copied())
            .ok_or_else(|| self.numbers.past_end(i))
    }
}

/// Reads and changes a list.
pub(crate) struct Cursor<'a> {
    numbers: &'a mut Numbers,
    chunk: Chunk,
    changed: bool,
}

impl Cursor<'_> {
    /// Returns the length of the list.
    pub(crate) fn len(&self) -> u64 {
        self.numbers.len
    }

    #[inline]
    fn slot(&mut self, i: u64) -> Result<&mut u64> {
        if matches!(self.numbers.held, Held::File(_)) && self.chunk.place(i).is_none() {
            self.flush()?;
            self.numbers.load(i, &mut self.chunk)?;
        }
        let len = self.numbers.len;
        let place = self.chunk.place(i);
        match (&mut self.numbers.held, place) {
            (Held::Memory(v), _) => v.get_mut(i as usize),
            (_, Some(at)) => self.chunk.numbers.get_mut(at),
            _ => None,
        }
        .ok_or_else(|| Error::invalid_argument(format!("there is no number {i} among {len}")))
    }

    /// Returns the number `i`.
    ///
    /// # Errors
    /// As [`Reader::get`].
    #[inline]
    pub(crate) fn get(&mut self, i: u64) -> Result<u64> {
        self.slot(i).map(|n| *n)
    }

    /// Changes number `i`.
    ///
    /// # Errors
    /// As [`Reader::get`].
    #[inline]
    pub(crate) fn set(&mut self, i: u64, value: u64) -> Result<()> {
        *self.slot(i)? = value;
        self.changed = true;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if let (true, Held::File(f)) = (self.changed, &mut self.numbers.held) {
            f.file.seek(SeekFrom::Start(self.chunk.start * 8)).map_err(io)?;
            f.file.write_all(&bytes(&self.chunk.numbers)).map_err(io)?;
        }
        self.changed = false;
        Ok(())
    }

    /// Stores all changes.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_disk_as_in_memory() {
        let n = 3 * CHUNK as u64 + 77;
        let make = |budget| Numbers::new(n, 9, &Spill { budget, folder: None }).unwrap();
        let mut lists = [make(usize::MAX), make(0)];
        assert!(matches!(lists[0].held, Held::Memory(_)) && matches!(lists[1].held, Held::File(_)));
        for list in &mut lists {
            let mut c = list.cursor();
            for i in (0..n).step_by(3).chain([5, n - 1, 0]) {
                let old = c.get(i).unwrap();
                c.set(i, old + i).unwrap();
            }
            assert!(c.get(n).is_err() && c.set(n, 1).is_err());
            c.finish().unwrap();
        }
        let [a, b] = &lists;
        assert_eq!(a.range(0, n).unwrap(), b.range(0, n).unwrap());
        assert_eq!(a.range(CHUNK as u64 - 3, CHUNK as u64 + 9).unwrap().len(), 12);
        assert!(b.range(4, n + 1).is_err() && b.range(4, 3).is_err());
        let (mut x, mut y) = (a.reader(), b.reader());
        for i in (0..n).rev().step_by(17) {
            assert_eq!(x.get(i).unwrap(), y.get(i).unwrap());
        }
        assert!(x.get(n).is_err() && y.get(n).is_err());
        make(0).cursor().finish().unwrap();
    }
}
