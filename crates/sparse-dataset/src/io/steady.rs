//! Reading that continues after an interruption.

use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};

/// Repeats reads that a signal interrupted. `BufRead::fill_buf`, which the readers of text call,
/// does not.
#[derive(Debug)]
pub(super) struct Steady<R>(pub(super) R);

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl<R: Seek> Seek for Steady<R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.0.seek(to)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    /// Every other read is interrupted.
    struct Restless(&'static [u8], bool);

    impl Read for Restless {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(ErrorKind::Interrupted.into()) } else { self.0.read(buffer) }
        }
    }

    #[test]
    fn reads_go_on_after_an_interruption() {
        assert!(BufReader::new(Restless(b"rows", false)).fill_buf().is_err());
        let mut rows = BufReader::with_capacity(2, Steady(Restless(b"rows", false)));
        assert_eq!(rows.fill_buf().unwrap(), b"ro");
        rows.consume(2);
        assert_eq!(rows.fill_buf().unwrap(), b"ws");
        rows.consume(2);
        assert_eq!(rows.fill_buf().unwrap(), b"");
    }
}
