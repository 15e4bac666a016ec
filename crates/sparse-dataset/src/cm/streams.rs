//! Decisions and values as plain bytes, sorted by meaning, for a fast compressor where there is too
//! much to model.

use crate::wire::{Input, put_bytes, put_uint};
use sparse_core::{Error, Result};
use std::ops::Range;

/// Streams of bytes: flags, integers, and the bytes of cells by column.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Streams being written.
    streams: Vec<Vec<u8>>,
    /// For streams being read: the range of `source` that is left.
    places: Vec<Range<usize>>,
    source: Vec<u8>,
    failed: bool,
}

/// First stream of columns; streams before it are of kinds of decisions.
pub(crate) const COLUMNS: usize = 64;

impl Streams {
    fn stream(&mut self, key: usize) -> &mut Vec<u8> {
        if key >= self.streams.len() {
            self.streams.resize(key + 1, Vec::new());
        }
        &mut self.streams[key]
    }

    /// Appends bytes.
    pub(crate) fn put(&mut self, key: usize, bytes: &[u8]) {
        self.stream(key).extend_from_slice(bytes);
    }

    /// Appends an integer.
    pub(crate) fn put_uint(&mut self, key: usize, value: u64) {
        put_uint(self.stream(key), value);
    }

    /// Returns the next `len` bytes; if there are fewer, returns none and records the failure.
    pub(crate) fn take(&mut self, key: usize, len: usize) -> &[u8] {
        let taken = self.places.get_mut(key).and_then(|place| {
            let at = place.start.checked_add(len).filter(|&at| at <= place.end)?;
            let start = std::mem::replace(&mut place.start, at);
            self.source.get(start..at)
        });
        match taken {
            Some(bytes) => bytes,
            None => {
                self.failed = true;
                &[]
            }
        }
    }

    /// Returns the next integer; if there is none, returns zero and records the failure.
    pub(crate) fn take_uint(&mut self, key: usize) -> u64 {
        let taken = self.places.get_mut(key).and_then(|place| {
            let mut input = Input(self.source.get(place.clone())?);
            let value = input.uint().ok()?;
            place.start = place.end - input.0.len();
            Some(value)
        });
        taken.unwrap_or_else(|| {
            self.failed = true;
            0
        })
    }

    /// Fails when more was taken than the streams had.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed {
            Err(Error::corrupt("a row group's streams end too early"))
        } else {
            Ok(())
        }
    }

    /// Fails as [`check`](Self::check) does, and when bytes are left.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check_end(&self) -> Result<()> {
        self.check()?;
        match self.places.iter().all(Range::is_empty) {
            true => Ok(()),
            false => Err(Error::corrupt("a row group's streams have bytes left over")),
        }
    }

    /// Encodes all streams.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uint(&mut out, self.streams.len() as u64);
        self.streams.iter().for_each(|s| put_bytes(&mut out, s));
        out
    }

    /// Inverts [`write`](Self::write), of streams for at most `columns` columns.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated`.
    pub(crate) fn read(bytes: Vec<u8>, columns: usize) -> Result<Streams> {
        let mut input = Input(&bytes);
        let n = input.count()?;
        if n > COLUMNS.saturating_add(columns) {
            return Err(Error::corrupt(format!(
                "a row group has {n} streams for {columns} columns"
            )));
        }
        let mut places = Vec::with_capacity(n);
        for _ in 0..n {
            let len = input.blob()?.len();
            let end = bytes.len() - input.0.len();
            places.push(end - len..end);
        }
        input.end()?;
        Ok(Streams { streams: Vec::new(), places, source: bytes, failed: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_back() {
        let mut s = Streams::default();
        s.put(3, &[1]);
        s.put_uint(5, 300);
        s.put(COLUMNS + 2, b"cell");
        s.put_uint(5, u64::MAX);
        let mut r = Streams::read(s.write(), 3).unwrap();
        assert_eq!((r.take(3, 1).to_vec(), r.take_uint(5)), (vec![1], 300));
        assert!(r.check_end().is_err() && r.check().is_ok());
        assert_eq!((r.take(COLUMNS + 2, 4).to_vec(), r.take_uint(5)), (b"cell".to_vec(), u64::MAX));
        r.check_end().unwrap();
        assert_eq!((r.take_uint(999), r.take(3, 1)), (0, &[][..]));
        assert!(r.check().is_err());
        let all = s.write();
        assert!(Streams::read(all.clone(), 2).is_err());
        assert!((0..all.len()).all(|n| Streams::read(all[..n].to_vec(), 3).is_err()));
    }
}
