//! Where a delta lies until it is proved, when its destination cannot be read back.

use sparse_core::{ByteSource, Error, Result};
use sparse_output::{AtomicFile, Overwrite};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes that are kept in memory; what is longer goes to a file.
const IN_MEMORY: usize = if cfg!(test) { 1 << 12 } else { 64 << 20 };

/// A delta in the making: in memory while it is small, else in a file of the system's folder for
/// temporary files, which is removed when this is dropped.
#[derive(Debug)]
pub(super) enum Spool {
    Memory(Vec<u8>),
    File(AtomicFile),
}

impl Spool {
    /// Creates an empty one.
    pub(super) fn new() -> Spool {
        Spool::Memory(Vec::new())
    }

    fn spill(&mut self) -> Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Spool::Memory(bytes) = self else { return Ok(()) };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sparse-spool-{}-{number}", std::process::id());
        // Never committed, so nothing ever gets that name.
        let file = AtomicFile::create(std::env::temp_dir().join(name), Overwrite::Refuse)?;
        (&file).write_all(bytes).map_err(|e| Error::io("cannot write", e))?;
        *self = Spool::File(file);
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self, Spool::Memory(kept) if kept.len().saturating_add(bytes.len()) > IN_MEMORY)
        {
            self.spill().map_err(io::Error::other)?;
        }
        match self {
            Spool::Memory(kept) => kept.write(bytes),
            Spool::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ByteSource for Spool {
    fn byte_len(&self) -> u64 {
        match self {
            Spool::Memory(bytes) => bytes.byte_len(),
            Spool::File(file) => file.byte_len(),
        }
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Spool::Memory(bytes) => bytes.read_exact_at(offset, out),
            Spool::File(file) => file.read_exact_at(offset, out),
        }
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        match self {
            Spool::Memory(bytes) => ByteSource::slice(bytes, offset, len),
            Spool::File(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ones_go_to_a_file() {
        let mut spool = Spool::new();
        let bytes: Vec<u8> = (0..3 * IN_MEMORY).map(|i| (i / 7) as u8).collect();
        for (i, part) in bytes.chunks(1000).enumerate() {
            spool.write_all(part).unwrap();
            let is_file = matches!(spool, Spool::File(_));
            assert_eq!(is_file, (i + 1) * 1000 > IN_MEMORY, "{i}");
        }
        assert_eq!(spool.bytes_at(0, bytes.len()).unwrap(), &bytes[..]);
        assert_eq!(spool.byte_len(), bytes.len() as u64);
    }
}
