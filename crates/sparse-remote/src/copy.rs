//! Copying a source from front to back.

use sparse_core::{ByteSource, CancelToken, Error, Observer, Result};
use std::io::Write;

/// Bytes that are held at once; also what a source fetches at once.
const PIECE: u64 = 4 << 20;

/// Copies all of `source` to `out`.
///
/// `observer` is told of a phase of the name that stands before the token.
///
/// # Errors
/// What reading and writing report; `Cancelled`. An error of this project inside that of `out` is
/// returned itself.
///
/// # Examples
///
/// ```
/// use sparse_core::{CancelToken, Unobserved};
///
/// let mut out = Vec::new();
/// sparse_remote::copy(&vec![1, 2, 3], &mut out, ("copying", &CancelToken::new()), &Unobserved)?;
/// assert_eq!(out, [1, 2, 3]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn copy(
    source: &dyn ByteSource,
    out: &mut dyn Write,
    (phase, cancel): (&str, &CancelToken),
    observer: &dyn Observer,
) -> Result<()> {
    let len = source.byte_len();
    observer.begin(phase, len);
    let mut at = 0;
    let mut piece = Vec::new();
    while at < len {
        cancel.check()?;
        let n = (len - at).min(PIECE);
        piece.resize(usize::try_from(n).unwrap_or(usize::MAX), 0);
        source.read_exact_at(at, &mut piece)?;
        out.write_all(&piece).map_err(failed)?;
        observer.advance(n);
        at += n;
    }
    observer.end();
    out.flush().map_err(failed)
}

/// Returns the error of writing.
fn failed(e: std::io::Error) -> Error {
    e.downcast::<Error>().unwrap_or_else(|e| Error::io("cannot write", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::{ErrorKind, Unobserved};

    #[test]
    fn an_error_inside_of_that_of_writing_keeps_its_kind() {
        struct Store(fn() -> std::io::Error);
        impl Write for Store {
            fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
                Err(self.0())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let kind = |error: fn() -> std::io::Error| {
            let phase = ("copying", &CancelToken::new());
            copy(&vec![1], &mut Store(error), phase, &Unobserved).unwrap_err().kind()
        };
        let busy = || std::io::Error::other(Error::new(ErrorKind::Unavailable, "busy"));
        assert_eq!(kind(busy), ErrorKind::Unavailable);
        assert_eq!(kind(|| std::io::ErrorKind::StorageFull.into()), ErrorKind::Io);
    }
}
