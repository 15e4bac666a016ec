//! What a model would code, as plain bytes, sorted by what they mean: for a fast compressor, where there is much.

use crate::wire::{Input, put_bytes, put_uint};
use sparse_core::{Error, Result};

/// Streams of bytes: flags, integers, and the bytes of cells by column.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: Vec<Stream>,
    failed: bool,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    at: usize,
}

/// Streams below this are of kinds of decisions, those from here on of columns.
pub(crate) const COLUMNS: usize = 64;

impl Streams {
    fn stream(&mut self, key: usize) -> &mut Stream {
        if key >= self.streams.len() {
            self.streams.resize(key + 1, Stream::default());
        }
        &mut self.streams[key]
    }

    /// Append bytes.
    pub(crate) fn put(&mut self, key: usize, bytes: &[u8]) {
        self.stream(key).bytes.extend_from_slice(bytes);
    }

    /// Append an integer.
    pub(crate) fn put_uint(&mut self, key: usize, value: u64) {
        put_uint(&mut self.stream(key).bytes, value);
    }

    /// The next `len` bytes; none, and a failure, if there are not so many.
    pub(crate) fn take(&mut self, key: usize, len: usize) -> &[u8] {
        let taken = self.streams.get_mut(key).and_then(|s| {
            let end = s.at.checked_add(len).filter(|&e| e <= s.bytes.len())?;
            let start = std::mem::replace(&mut s.at, end);
            s.bytes.get(start..end)
        });
        match taken {
            Some(bytes) => bytes,
            None => {
                self.failed = true;
                &[]
            }
        }
    }

    /// The next integer; zero, and a failure, if there is none.
    pub(crate) fn take_uint(&mut self, key: usize) -> u64 {
        let taken = self.streams.get_mut(key).and_then(|s| {
            let mut input = Input(s.bytes.get(s.at..)?);
            let value = input.uint().ok()?;
            s.at = s.bytes.len() - input.0.len();
            Some(value)
        });
        taken.unwrap_or_else(|| {
            self.failed = true;
            0
        })
    }

    /// Fail when more was taken than there was.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed { Err(Error::corrupt("a row group's streams end too early")) } else { Ok(()) }
    }

    /// Fail when something is left, too.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check_end(&self) -> Result<()> {
        self.check()?;
        match self.streams.iter().all(|s| s.at == s.bytes.len()) {
            true => Ok(()),
            false => Err(Error::corrupt("a row group's streams have bytes left over")),
        }
    }

    /// All streams in bytes.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uint(&mut out, self.streams.len() as u64);
        self.streams.iter().for_each(|s| put_bytes(&mut out, &s.bytes));
        out
    }

    /// The inverse of [`write`](Self::write).
    ///
    /// # Errors
    /// `Corrupt` or `Truncated`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Streams> {
        let mut input = Input(bytes);
        let streams = (0..input.count()?).map(|_| Ok(Stream { bytes: input.blob()?.to_vec(), at: 0 }));
        let streams = streams.collect::<Result<_>>()?;
        input.end()?;
        Ok(Streams { streams, failed: false })
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
        let mut r = Streams::read(&s.write()).unwrap();
        assert_eq!((r.take(3, 1).to_vec(), r.take_uint(5)), (vec![1], 300));
        assert!(r.check_end().is_err() && r.check().is_ok());
        assert_eq!((r.take(COLUMNS + 2, 4).to_vec(), r.take_uint(5)), (b"cell".to_vec(), u64::MAX));
        r.check_end().unwrap();
        assert_eq!((r.take_uint(999), r.take(3, 1)), (0, &[][..]));
        assert!(r.check().is_err());
        let all = s.write();
        assert!((0..all.len()).all(|n| Streams::read(&all[..n]).is_err()));
    }
}
