//! Small integers and strings of the manifest.

pub(crate) use sparse_core::varint::put as put_uint;
use sparse_core::{Error, ErrorKind, Result, varint};

/// Appends the length of `bytes`, then `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn ends_early() -> Error {
    Error::truncated("the manifest of a dataset ends early")
}

/// Reader of bytes, from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(ends_early)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn uint(&mut self) -> Result<u64> {
        varint::take(&mut self.0).map_err(|e| match e.kind() {
            ErrorKind::Truncated => ends_early(),
            _ => Error::corrupt("an integer of the manifest exceeds 64 bits"),
        })
    }

    /// Reads a number of items that take at least a byte each.
    pub(crate) fn count(&mut self) -> Result<usize> {
        let n = self.uint()?;
        usize::try_from(n).ok().filter(|&n| n <= self.0.len()).ok_or_else(|| {
            Error::corrupt(format!(
                "{n} items do not fit into the {} bytes left of the manifest",
                self.0.len()
            ))
        })
    }

    /// Reads a length, and that many bytes.
    pub(crate) fn blob(&mut self) -> Result<&'a [u8]> {
        let n = self.count()?;
        self.bytes(n)
    }

    pub(crate) fn string(&mut self) -> Result<String> {
        String::from_utf8(self.blob()?.to_vec())
            .map_err(|_| Error::corrupt("a name in the manifest is not UTF-8"))
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// `Corrupt` when bytes are left.
    pub(crate) fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::corrupt("the manifest has bytes left over"))
        }
    }
}
