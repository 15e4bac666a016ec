//! Where bytes and tensors come from.

use crate::{Error, ErrorKind, FileStamp, Result, TensorSpec, zeros};
use std::borrow::Cow;
use std::ops::Range;

/// Random access to immutable bytes: a file, a mapping, a buffer, an HTTP range reader.
///
/// # Examples
///
/// ```
/// use sparse_core::ByteSource;
///
/// let bytes = vec![1, 2, 3, 4];
/// assert_eq!(bytes.byte_len(), 4);
/// assert_eq!(&*bytes.bytes_at(1, 2)?, [2, 3]);
/// assert!(bytes.bytes_at(3, 2).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait ByteSource: Send + Sync {
    /// Returns the number of bytes.
    fn byte_len(&self) -> u64;

    /// Fills `out` from byte `offset` on.
    ///
    /// # Errors
    /// `Truncated` when the source ends first, `Io` when reading fails. `out` is unspecified then.
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Returns the bytes themselves, where they are in memory already.
    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let _ = (offset, len);
        None
    }

    /// Returns `len` bytes from `offset` on, borrowed where possible.
    ///
    /// # Errors
    /// As [`read_exact_at`](Self::read_exact_at).
    fn bytes_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        if let Some(slice) = self.slice(offset, len) {
            return Ok(Cow::Borrowed(slice));
        }
        if offset.checked_add(len as u64).is_none_or(|end| end > self.byte_len()) {
            return Err(past_end(offset, len, self.byte_len()));
        }
        let mut out = zeros(len)?;
        self.read_exact_at(offset, &mut out)?;
        Ok(Cow::Owned(out))
    }

    /// Checks that nobody has changed the bytes since the source was opened.
    ///
    /// Only as far as that can be told without reading them; sources that cannot tell report
    /// nothing.
    ///
    /// # Errors
    /// `InvalidInput`, saying what changed and how.
    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }
}

fn past_end(offset: u64, len: usize, have: u64) -> Error {
    Error::truncated(format!(
        "cannot read {len} bytes from byte {offset} on: there are {have} \
        in all"
    ))
}

impl ByteSource for [u8] {
    fn byte_len(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let slice = self
            .slice(offset, out.len())
            .ok_or_else(|| past_end(offset, out.len(), self.len() as u64))?;
        out.copy_from_slice(slice);
        Ok(())
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(len)?)
    }
}

impl ByteSource for Vec<u8> {
    fn byte_len(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.as_slice().read_exact_at(offset, out)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        ByteSource::slice(self.as_slice(), offset, len)
    }
}

impl<T: ByteSource + ?Sized> ByteSource for &T {
    fn byte_len(&self) -> u64 {
        (**self).byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, out)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        (**self).slice(offset, len)
    }

    fn check_unchanged(&self) -> Result<()> {
        (**self).check_unchanged()
    }
}

impl<T: ByteSource + ?Sized> ByteSource for std::sync::Arc<T> {
    fn byte_len(&self) -> u64 {
        (**self).byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, out)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        (**self).slice(offset, len)
    }

    fn check_unchanged(&self) -> Result<()> {
        (**self).check_unchanged()
    }
}

impl<T: ByteSource + ?Sized> ByteSource for Box<T> {
    fn byte_len(&self) -> u64 {
        (**self).byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, out)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        (**self).slice(offset, len)
    }

    fn check_unchanged(&self) -> Result<()> {
        (**self).check_unchanged()
    }
}

/// File read by position; its length is taken once, when it is wrapped.
///
/// # Examples
///
/// ```
/// use sparse_core::{ByteSource, FileSource, open_file};
///
/// fn first_byte(path: &str) -> sparse_core::Result<u8> {
///     let mut byte = [0];
///     FileSource::new(open_file(path)?)?.read_exact_at(0, &mut byte)?;
///     Ok(byte[0])
/// }
/// ```
#[derive(Debug)]
pub struct FileSource {
    file: std::fs::File,
    stamp: FileStamp,
}

impl FileSource {
    /// Wraps an open file.
    ///
    /// # Errors
    /// `Io` when its length cannot be read.
    pub fn new(file: std::fs::File) -> Result<Self> {
        let metadata =
            file.metadata().map_err(|e| Error::io("cannot read the file's length", e))?;
        Ok(FileSource { stamp: FileStamp::of(&metadata), file })
    }

    /// Returns the stamp of the file when it was wrapped.
    pub fn stamp(&self) -> &FileStamp {
        &self.stamp
    }
}

impl ByteSource for FileSource {
    fn byte_len(&self) -> u64 {
        self.stamp.len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.byte_len()) {
            return Err(past_end(offset, out.len(), self.byte_len()));
        }
        read_file_at(&self.file, offset, out)
            .map_err(|e| Error::io("cannot read", e).at_offset(offset))
    }

    fn check_unchanged(&self) -> Result<()> {
        let now =
            self.file.metadata().map_err(|e| Error::io("cannot read the file's length", e))?;
        self.stamp.check(&now)
    }
}

#[cfg(unix)]
fn read_file_at(file: &std::fs::File, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_file_at(file: &std::fs::File, mut offset: u64, mut out: &mut [u8]) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Name and spec of one tensor of a [`TensorSource`].
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, TensorEntry, TensorSpec};
///
/// /// Returns the bytes of all tensors.
/// fn byte_len(tensors: &[TensorEntry]) -> u64 {
///     tensors.iter().map(|tensor| tensor.spec.byte_len()).sum()
/// }
///
/// let weight = TensorEntry { name: "w".to_owned(), spec: TensorSpec::new(Dtype::Bf16, [2, 3])? };
/// assert_eq!(byte_len(&[weight]), 12);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name, unique in the source.
    pub name: String,
    /// Its type and shape.
    pub spec: TensorSpec,
}

/// One read of several, see [`TensorSource::read_many`].
///
/// # Examples
///
/// ```
/// use sparse_core::{Result, TensorRead, TensorSource};
///
/// /// Reads the first bytes of two tensors at once.
/// fn heads(model: &dyn TensorSource, a: &mut [u8], b: &mut [u8]) -> Result<()> {
///     model.read_many(&mut [TensorRead::new(0, 0, a), TensorRead::new(1, 0, b)])
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct TensorRead<'a> {
    /// Index of the tensor.
    pub tensor: usize,
    /// First byte wanted.
    pub offset: u64,
    /// Buffer to fill.
    pub out: &'a mut [u8],
}

impl<'a> TensorRead<'a> {
    /// Asks for the bytes of a tensor from byte `offset` on, as many as `out` has.
    pub fn new(tensor: usize, offset: u64, out: &'a mut [u8]) -> TensorRead<'a> {
        TensorRead { tensor, offset, out }
    }
}

/// Model: named tensors, readable in any order by many threads.
///
/// A safetensors file is one, a directory of shards is one, and so is a base together with a delta:
/// code that loads a model through this trait need not know which it has.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Result, TensorEntry, TensorSource, TensorSpec, check_range};
///
/// /// A model of one tensor, in memory.
/// struct One(Vec<TensorEntry>, Vec<u8>);
///
/// impl TensorSource for One {
///     fn tensors(&self) -> &[TensorEntry] {
///         &self.0
///     }
///
///     fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
///         check_range(&self.0, index, offset, out.len())?;
///         out.copy_from_slice(&self.1[offset as usize..][..out.len()]);
///         Ok(())
///     }
/// }
///
/// let spec = TensorSpec::new(Dtype::U8, [2, 2])?;
/// let model = One(vec![TensorEntry { name: "w".to_owned(), spec }], vec![1, 2, 3, 4]);
/// let w = model.find("w").unwrap();
/// assert_eq!(&*model.bytes(w)?, [1, 2, 3, 4]);
/// let mut column = [0; 2];
/// model.read_part_into(w, 1, 1..2, &mut column)?;
/// assert_eq!(column, [2, 4]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait TensorSource: Send + Sync {
    /// Returns all tensors, sorted by name (by bytes).
    ///
    /// The order is part of the contract.
    fn tensors(&self) -> &[TensorEntry];

    /// Fills `out` with bytes of tensor `index`, from its byte `offset` on.
    ///
    /// # Errors
    /// `InvalidArgument` when the index or range is out of bounds; else what reading or decoding
    /// reports, with the tensor's name. `out` is unspecified then.
    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Returns bytes of tensor `index` that are in memory, without a copy.
    ///
    /// Mapped files have such bytes.
    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        let _ = (index, offset, len);
        None
    }

    /// Does all of `reads`, which may overlap and be in any order.
    ///
    /// A chunk that several reads need is decoded once, and a source that has threads spreads all
    /// the work over them.
    ///
    /// # Errors
    /// As [`read_range_into`](Self::read_range_into), for one of the reads that failed. All buffers
    /// are unspecified then.
    fn read_many(&self, reads: &mut [TensorRead<'_>]) -> Result<()> {
        reads.iter_mut().try_for_each(|r| self.read_range_into(r.tensor, r.offset, r.out))
    }

    /// Reads all tensors, in the order of [`tensors`](Self::tensors), by one
    /// [`read_many`](Self::read_many).
    ///
    /// # Errors
    /// As [`read_many`](Self::read_many); `LimitExceeded` when there is no memory for them.
    fn read_all(&self) -> Result<Vec<Vec<u8>>> {
        let lens = self.tensors().iter().map(|t| usize::try_from(t.spec.byte_len()));
        let zeros = |len| zeros(std::result::Result::unwrap_or(len, usize::MAX));
        let mut all: Vec<Vec<u8>> = lens.map(zeros).collect::<Result<_>>()?;
        let reads = all.iter_mut().enumerate().map(|(i, out)| TensorRead::new(i, 0, out));
        self.read_many(&mut reads.collect::<Vec<_>>())?;
        Ok(all)
    }

    /// Fills `out` with `indices` of dimension `dim` of tensor `index`.
    ///
    /// All other dimensions are whole: that is what a rank of a tensor-parallel group holds.
    /// [`TensorSpec::part`] is its shape.
    ///
    /// Of dimension 0 nothing else is read. Of others, what lies between is read, a few megabytes
    /// at a time.
    ///
    /// # Errors
    /// As [`read_range_into`](Self::read_range_into); also `InvalidArgument` when `out` has another
    /// length than the part, or the part does not lie at whole bytes.
    fn read_part_into(
        &self,
        index: usize,
        dim: usize,
        indices: Range<u64>,
        out: &mut [u8],
    ) -> Result<()> {
        check_range(self.tensors(), index, 0, 0)?;
        let Some(entry) = self.tensors().get(index) else { return Ok(()) };
        let stripes = entry.spec.stripes_for(dim, &indices, out.len());
        stripes.map_err(|e| e.in_tensor(&*entry.name))?.read_into(
            out,
            |start, len| self.slice(index, start, len),
            |start, out| self.read_range_into(index, start, out),
        )
    }

    /// Returns the index of the tensor called `name`.
    fn find(&self, name: &str) -> Option<usize> {
        self.tensors().binary_search_by(|t| t.name.as_str().cmp(name)).ok()
    }

    /// Returns part of tensor `index`, borrowed where possible.
    ///
    /// # Errors
    /// As [`read_range_into`](Self::read_range_into).
    fn range(&self, index: usize, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        check_range(self.tensors(), index, offset, len)?;
        if let Some(slice) = self.slice(index, offset, len) {
            return Ok(Cow::Borrowed(slice));
        }
        let mut out = zeros(len)?;
        self.read_range_into(index, offset, &mut out)?;
        Ok(Cow::Owned(out))
    }

    /// Returns the whole of tensor `index`, borrowed where possible.
    ///
    /// # Errors
    /// As [`read_range_into`](Self::read_range_into).
    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let entry = self.tensors().get(index).ok_or_else(|| no_tensor(index))?;
        let len = usize::try_from(entry.spec.byte_len()).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "the tensor is larger than the address space")
        })?;
        self.range(index, 0, len)
    }

    /// Checks that nobody has changed the tensors since they were opened.
    ///
    /// Only as far as that can be told without reading them; sources that cannot tell report
    /// nothing.
    ///
    /// # Errors
    /// `InvalidInput`, with the file, saying how it changed.
    fn check_unchanged(&self) -> Result<()> {
        Ok(())
    }
}

fn no_tensor(index: usize) -> Error {
    Error::invalid_argument(format!("there is no tensor with index {index}"))
}

/// Checks that `offset..offset + len` lies within tensor `index`.
///
/// # Errors
/// `InvalidArgument` when it does not, or there is no such tensor.
pub fn check_range(tensors: &[TensorEntry], index: usize, offset: u64, len: usize) -> Result<()> {
    let entry = tensors.get(index).ok_or_else(|| no_tensor(index))?;
    let have = entry.spec.byte_len();
    if offset.checked_add(len as u64).is_none_or(|end| end > have) {
        return Err(Error::invalid_argument(format!(
            "cannot read {len} bytes from byte {offset} on: the tensor has {have} bytes"
        ))
        .in_tensor(&*entry.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_sources() {
        let data = b"0123456789".to_vec();
        assert_eq!(data.bytes_at(3, 4).unwrap(), &b"3456"[..]);
        assert_eq!(data.bytes_at(8, 4).unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(data.bytes_at(u64::MAX, 4).unwrap_err().kind(), ErrorKind::Truncated);
        let mut out = [0; 2];
        data.read_exact_at(8, &mut out).unwrap();
        assert_eq!(&out, b"89");
    }

    #[test]
    fn files_are_sources() {
        let path = std::env::temp_dir().join(format!("sparse-core-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let source = FileSource::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(source.bytes_at(3, 4).unwrap(), &b"3456"[..]);
        assert_eq!(source.bytes_at(8, 4).unwrap_err().kind(), ErrorKind::Truncated);
        std::fs::remove_file(path).unwrap();
    }
}
