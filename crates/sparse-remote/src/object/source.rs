//! An object as a source of bytes.

use super::bucket::{Bucket, ObjectInfo};
use super::error::replaced;
use crate::ObjectName;
use crate::ranges::{Fetch, Ranges};
use sparse_core::{ByteSource, ErrorKind, Result};
use std::fmt;

/// Bytes of the request that opens an object: heads of files are small.
const START: u64 = 16 << 10;

/// Object of a store, read by ranges.
///
/// Reads that follow one another fetch ahead, and up to 64 MiB are kept. The object is pinned by
/// its ETag: one that is replaced while it is read is an error, and never a mixture of old and new.
///
/// # Examples
///
/// ```no_run
/// use sparse_core::ByteSource;
/// use sparse_remote::ObjectSource;
///
/// let object = ObjectSource::open(&"s3://models/mine.sparse".parse()?)?;
/// let start = object.bytes_at(0, 8)?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct ObjectSource {
    ranges: Ranges<ObjectRanges>,
}

impl Bucket {
    /// Opens an object as a [`ByteSource`].
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub fn source(&self, key: &str) -> Result<ObjectSource> {
        let (object, start) = self.head_and_start(key, START)?;
        let ranges = Ranges::new(ObjectRanges { object, bucket: self.clone() });
        ranges.keep(0, start);
        Ok(ObjectSource { ranges })
    }
}

impl ObjectSource {
    /// Opens an object, with the credentials of the environment.
    ///
    /// To open several objects of a bucket, use [`Bucket::source`].
    ///
    /// # Errors
    /// As [`Bucket::open`] and [`Bucket::head`].
    pub fn open(name: &ObjectName) -> Result<ObjectSource> {
        Bucket::open(name)?.source(&name.key)
    }

    /// Returns the object, in the version that is read.
    pub fn info(&self) -> &ObjectInfo {
        &self.ranges.fetcher().object
    }

    /// Returns the name of the object.
    pub fn name(&self) -> ObjectName {
        let ObjectRanges { bucket, object } = self.ranges.fetcher();
        bucket.name(&object.key)
    }
}

impl ByteSource for ObjectSource {
    fn byte_len(&self) -> u64 {
        self.ranges.byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let ObjectRanges { bucket, object } = self.ranges.fetcher();
        self.ranges.read_exact_at(offset, out).map_err(|e| bucket.at(&object.key, e))
    }

    fn check_unchanged(&self) -> Result<()> {
        let ObjectRanges { bucket, object } = self.ranges.fetcher();
        match bucket.head(&object.key) {
            Ok(now) if now == *object => Ok(()),
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Err(bucket.at(&object.key, replaced())),
        }
    }
}

impl fmt::Debug for ObjectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSource").field("object", self.info()).finish_non_exhaustive()
    }
}

/// Fetches ranges of one version of an object.
struct ObjectRanges {
    bucket: Bucket,
    object: ObjectInfo,
}

impl Fetch for ObjectRanges {
    fn byte_len(&self) -> u64 {
        self.object.len
    }

    fn fetch(&self, start: u64, out: &mut [u8]) -> Result<()> {
        let bytes = self.bucket.get_range(&self.object, start..start + out.len() as u64)?;
        // `get_range` returns as many bytes as the range has.
        out.copy_from_slice(&bytes);
        Ok(())
    }
}
