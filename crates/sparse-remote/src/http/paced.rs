//! A body that has to keep coming.

use std::io::{Error, ErrorKind, Read, Result};
use std::time::{Duration, Instant};

/// Bytes that must come in each stretch of time: a server that sends less has stalled.
const LEAST: u64 = 4096;

/// Reader that fails where a server sends hardly anything.
///
/// A limit on the wait for each byte alone would let a server hold its client for days.
pub(super) struct Paced<R> {
    inner: R,
    stretch: Duration,
    began: Instant,
    came: u64,
}

impl<R: Read> Paced<R> {
    /// Wants at least 4 KiB, or the end, in each `stretch`.
    pub(super) fn new(inner: R, stretch: Duration) -> Paced<R> {
        Paced { inner, stretch, began: Instant::now(), came: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(out)?;
        self.came += n as u64;
        if self.began.elapsed() > self.stretch {
            if self.came < LEAST && n > 0 {
                let e = format!("only {} bytes came in {:?}", self.came, self.began.elapsed());
                return Err(Error::new(ErrorKind::TimedOut, e));
            }
            (self.began, self.came) = (Instant::now(), 0);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time.
    struct Drip(Duration);

    impl Read for Drip {
        fn read(&mut self, out: &mut [u8]) -> Result<usize> {
            std::thread::sleep(self.0);
            out.fill(7);
            Ok(1.min(out.len()))
        }
    }

    #[test]
    fn what_drips_has_stalled() {
        let stretch = Duration::from_millis(30);
        let mut slow = Paced::new(Drip(Duration::from_millis(5)), stretch);
        let e = slow.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TimedOut);
        let mut quick = Paced::new(Drip(Duration::ZERO), stretch).take(100_000);
        assert_eq!(quick.read_to_end(&mut Vec::new()).unwrap(), 100_000);
    }
}
