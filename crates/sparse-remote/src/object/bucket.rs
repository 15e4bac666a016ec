//! A bucket: its objects, and their bytes.

use super::connect::Stores;
use super::driver::Driver;
use super::error::{explain, replaced};
use super::kind::StoreKind;
use crate::ObjectName;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use sparse_core::{CancelToken, Error, ErrorKind, Result};
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

/// Requests that are sent at a time.
const REQUESTS: usize = 8;
/// Most objects below one prefix.
const MOST_OBJECTS: usize = 1_000_000;

/// Object of a bucket, in the version that was found.
///
/// # Examples
///
/// ```
/// use sparse_remote::{Bucket, ObjectInfo, ObjectName};
///
/// /// Returns the bytes of all objects below a name.
/// fn total(name: &ObjectName) -> sparse_core::Result<u64> {
///     let objects: Vec<ObjectInfo> = Bucket::open(name)?.list(&name.key)?;
///     Ok(objects.iter().map(|object| object.len).sum())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Key in the bucket.
    pub key: String,
    /// Length, in bytes.
    pub len: u64,
    /// ETag, which another version of the object does not have.
    pub etag: String,
}

impl ObjectInfo {
    pub(super) fn new(meta: ObjectMeta) -> Result<ObjectInfo> {
        let Some(mut etag) = meta.e_tag else {
            let e = "the store gives no ETag, so that a replaced object could not be told";
            return Err(Error::new(ErrorKind::InvalidInput, e));
        };
        // Lists of Azure leave out the quotation marks, which conditions want.
        if etag.starts_with("0x") {
            etag = format!("\"{etag}\"");
        }
        Ok(ObjectInfo { key: meta.location.into(), len: meta.size, etag })
    }
}

/// Bucket of an object store; cheap to clone, and shared by threads.
///
/// Credentials and endpoint are taken from the environment:
///
/// * `s3://`: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
///   `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, and else the profile `AWS_PROFILE` of `~/.aws`;
///   `AWS_SKIP_SIGNATURE=true` for public buckets;
/// * `gs://`: `GOOGLE_APPLICATION_CREDENTIALS` or `GOOGLE_SERVICE_ACCOUNT`;
/// * `az://`: `AZURE_STORAGE_ACCOUNT_NAME`, and `AZURE_STORAGE_ACCOUNT_KEY` or
///   `AZURE_STORAGE_SAS_TOKEN`.
///
/// Without credentials, the service that gives them to a cloud's machines is asked. Plain HTTP goes
/// to this machine alone, unless `AWS_ALLOW_HTTP=true` (`AZURE_ALLOW_HTTP`, `GOOGLE_ALLOW_HTTP`).
/// Proxies and certificates are those of [`Client`](crate::Client).
///
/// Requests that fail for a while are repeated, for up to a minute. Up to eight are sent at a time,
/// on threads of the bucket's own, so that any thread may call, one that runs async code included.
///
/// # Examples
///
/// ```no_run
/// use sparse_remote::{Bucket, ObjectName};
///
/// let name: ObjectName = "s3://models/mine/model.safetensors".parse()?;
/// let bucket = Bucket::open(&name)?;
/// let object = bucket.head(&name.key)?;
/// let head = bucket.get_range(&object, 0..8)?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Bucket {
    /// Its own name, without key.
    place: Arc<ObjectName>,
    stores: Stores,
    driver: Arc<Driver>,
    cancel: CancelToken,
}

impl Bucket {
    /// Opens the bucket of an object, or of a folder of objects. Nothing is sent yet.
    ///
    /// # Errors
    /// `InvalidArgument` or `AccessDenied` when the environment names no usable store or
    /// credentials; `Io` when no thread can be started.
    pub fn open(name: &ObjectName) -> Result<Bucket> {
        let place = |e: Error| e.in_file(name.to_string());
        let kind = StoreKind::of_scheme(&name.scheme)
            .ok_or_else(|| place(Error::invalid_argument("the scheme is none of s3, gs and az")))?;
        let stores = Stores::from_environment(kind, &name.bucket).map_err(place)?;
        Bucket::over(name, stores)
    }

    /// Creates an empty bucket in memory, for tests.
    ///
    /// Unlike S3, it takes no condition when an upload in parts is completed.
    ///
    /// # Errors
    /// `InvalidArgument` when `name` is none of a bucket; `Io` when no thread can be started.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_memory(name: &str) -> Result<Bucket> {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let stores = Stores { plain: store.clone(), create_only: store };
        Bucket::over(&format!("s3://{name}").parse()?, stores)
    }

    fn over(name: &ObjectName, stores: Stores) -> Result<Bucket> {
        Ok(Bucket {
            place: Arc::new(ObjectName { key: String::new(), ..name.clone() }),
            stores,
            driver: Arc::new(Driver::start(REQUESTS)?),
            cancel: CancelToken::new(),
        })
    }

    /// Returns the bucket with a token that stops what is done with it.
    ///
    /// Whoever waits for a request stops waiting at once; uploads are given up.
    #[must_use]
    pub fn with_cancel(&self, cancel: CancelToken) -> Bucket {
        Bucket { cancel, ..self.clone() }
    }

    /// Returns the name of an object; of the bucket, for an empty key.
    pub fn name(&self, key: &str) -> ObjectName {
        ObjectName { key: key.to_owned(), ..(*self.place).clone() }
    }

    /// Looks for an object.
    ///
    /// # Errors
    /// With the object's name: `NotFound`, `AccessDenied`, `Unavailable`, `Cancelled`;
    /// `InvalidArgument` for a key that no object can have.
    pub fn head(&self, key: &str) -> Result<ObjectInfo> {
        let path = self.path(key)?;
        let store = self.stores.plain.clone();
        self.run(key, async move {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let found = store.get_opts(&path, options).await.map_err(|e| explain(&e))?;
            ObjectInfo::new(found.meta)
        })
    }

    /// Reads bytes of an object, of the version that `object` is.
    ///
    /// # Errors
    /// As [`head`](Self::head); `InvalidInput` when the object was replaced; `Truncated` when the
    /// range goes beyond its end.
    pub fn get_range(&self, object: &ObjectInfo, range: Range<u64>) -> Result<Vec<u8>> {
        let mut all = self.get_ranges(object, std::slice::from_ref(&range))?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Reads several ranges of an object, up to eight at a time, as they are given.
    ///
    /// # Errors
    /// As [`get_range`](Self::get_range).
    pub fn get_ranges(&self, object: &ObjectInfo, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        let path = self.path(&object.key)?;
        for range in ranges {
            check_range(object, range).map_err(|e| self.at(&object.key, e))?;
        }
        let store = self.stores.plain.clone();
        let (etag, len) = (object.etag.clone(), object.len);
        let ranges = ranges.to_vec();
        self.run(&object.key, async move {
            let get = |range: Range<u64>| get(store.clone(), &path, (&etag, len), range);
            stream::iter(ranges).map(get).buffered(REQUESTS).try_collect().await
        })
    }

    /// Lists the objects below `prefix`, sorted by key; empty for the whole bucket.
    ///
    /// A prefix ends where a part of the key does: `a/b` finds `a/b/c`, and not `a/bc`.
    ///
    /// # Errors
    /// As [`head`](Self::head); `LimitExceeded` for more than a million objects.
    pub fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let path = (!prefix.is_empty()).then(|| self.path(prefix)).transpose()?;
        let store = self.stores.plain.clone();
        self.run(prefix, async move {
            let mut pages = store.list(path.as_ref());
            let mut objects = Vec::new();
            while let Some(meta) = pages.next().await {
                let meta = meta.map_err(|e| explain(&e))?;
                // Consoles mark a folder by an empty object of the folder's own name.
                if meta.size == 0 && Some(&meta.location) == path.as_ref() {
                    continue;
                }
                if objects.len() == MOST_OBJECTS {
                    let e = format!("there are more than {MOST_OBJECTS} objects");
                    return Err(Error::new(ErrorKind::LimitExceeded, e));
                }
                objects.push(ObjectInfo::new(meta)?);
            }
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(objects)
        })
    }

    /// Looks for an object and reads its first bytes, up to `most`.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub(super) fn head_and_start(&self, key: &str, most: u64) -> Result<(ObjectInfo, Vec<u8>)> {
        let path = self.path(key)?;
        let store = self.stores.plain.clone();
        let found = self.run(key, async move {
            let range = Some(GetRange::Bounded(0..most));
            let options = GetOptions { range, ..GetOptions::default() };
            let found = store.get_opts(&path, options).await.map_err(|e| explain(&e))?;
            let info = ObjectInfo::new(found.meta.clone())?;
            Ok((info, found.bytes().await.map_err(|e| explain(&e))?.into()))
        });
        match found {
            // Of an empty object, no store serves a range.
            Err(e) if matches!(e.kind(), ErrorKind::Truncated | ErrorKind::Io) => {
                Ok((self.head(key)?, Vec::new()))
            }
            found => found,
        }
    }

    /// Returns the store, once as it is and once for uploads that replace nothing.
    pub(super) fn stores(&self) -> &Stores {
        &self.stores
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// Returns a key as the store's library has it.
    pub(super) fn path(&self, key: &str) -> Result<Path> {
        let wrong = |e: Error| self.at(key, e);
        check_key(key).map_err(wrong)?;
        Path::parse(key).map_err(|e| wrong(explain(&e.into())))
    }

    /// Does `work` for an object and waits for it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        key: &str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.driver.run(&self.cancel, work).map_err(|e| self.at(key, e))
    }

    /// Adds the name of an object to an error.
    pub(super) fn at(&self, key: &str, e: Error) -> Error {
        e.in_file(self.name(key).to_string())
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The stores have credentials.
        f.debug_struct("Bucket").field("place", &self.place.to_string()).finish_non_exhaustive()
    }
}

/// Refuses keys that stores or their clients take for another key.
fn check_key(key: &str) -> Result<()> {
    let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
    if key.is_empty() {
        return Err(Error::invalid_argument("an object has a key: s3://bucket/key"));
    }
    if key.split('/').any(odd) {
        return Err(Error::invalid_argument(format!(
            "the key {key:?} has an empty part, a dot, or a control character: rename it"
        )));
    }
    Ok(())
}

fn check_range(object: &ObjectInfo, range: &Range<u64>) -> Result<()> {
    if range.start > range.end || range.end > object.len {
        return Err(Error::truncated(format!(
            "bytes {} to {} wanted, but there are only {}",
            range.start, range.end, object.len
        )));
    }
    Ok(())
}

/// Reads one range of the version that has this ETag and length.
async fn get(
    store: Arc<dyn ObjectStore>,
    path: &Path,
    (etag, len): (&str, u64),
    range: Range<u64>,
) -> Result<Vec<u8>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let options = GetOptions {
        if_match: Some(etag.to_owned()),
        range: Some(GetRange::Bounded(range.clone())),
        ..GetOptions::default()
    };
    let found = store.get_opts(path, options).await.map_err(|e| explain(&e))?;
    // For stores that take no notice of the condition.
    if found.meta.e_tag.as_deref() != Some(etag) || found.meta.size != len {
        return Err(replaced());
    }
    let bytes: Vec<u8> = found.bytes().await.map_err(|e| explain(&e))?.into();
    if bytes.len() as u64 != range.end - range.start {
        return Err(Error::truncated("the store sent fewer bytes than it was asked for"));
    }
    Ok(bytes)
}
