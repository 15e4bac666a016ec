//! An object that appears whole, or not at all.

use super::bucket::{Bucket, ObjectInfo};
use super::driver::Pending;
use super::error::{already_exists, explain};
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, MultipartUpload, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload,
};
use sparse_core::{CancelToken, Error, ErrorKind, Result};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Length of a part, in bytes: stores want 5 MiB at least, and four parts are on their way at once.
const PART: usize = 16 << 20;
/// Parts that are sent at a time.
const IN_FLIGHT: usize = 4;
/// Most parts of an object: of S3 and Google; Azure takes five times as many.
const MOST_PARTS: u64 = 10_000;
/// Attempts to create a small object; the library repeats what cannot do harm by itself.
const ATTEMPTS: u32 = 4;
/// Wait before the second attempt; it doubles each time.
const WAIT: Duration = Duration::from_millis(300);
/// Longest wait, when an upload is given up, for its parts that are on their way, and again for the
/// store to forget it.
const GIVE_UP: Duration = Duration::from_secs(5);
/// What stores call it when there is no bucket.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];
/// Metadata of an object that names the upload that made it. (Azure allows no hyphen.)
const UPLOAD: Attribute = Attribute::Metadata(Cow::Borrowed("sparseupload"));

/// How an object is written.
///
/// # Examples
///
/// ```
/// use sparse_remote::WriteOptions;
///
/// let options = WriteOptions::new().overwrite(true).expecting(4 << 30);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct WriteOptions {
    overwrite: bool,
    part: usize,
    expected: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions { overwrite: false, part: PART, expected: 0 }
    }
}

impl WriteOptions {
    /// Creates the defaults: no object is replaced, parts have 16 MiB.
    pub fn new() -> WriteOptions {
        WriteOptions::default()
    }

    /// Sets whether an object of the same key is replaced. By default, it is not.
    #[must_use]
    pub fn overwrite(self, overwrite: bool) -> Self {
        WriteOptions { overwrite, ..self }
    }

    /// Sets the length of a part, in bytes. Stores refuse parts of less than 5 MiB.
    ///
    /// Up to five parts are in memory at once.
    #[must_use]
    pub fn part_bytes(self, part: usize) -> Self {
        WriteOptions { part: part.max(1), ..self }
    }

    /// Sets the greatest length of the object, in bytes: parts grow where there would be too many.
    ///
    /// An object has 10,000 parts at most, which is 156 GiB by default.
    #[must_use]
    pub fn expecting(self, bytes: u64) -> Self {
        WriteOptions { expected: bytes, ..self }
    }

    /// Returns the length of each part but the last.
    fn part_len(&self) -> usize {
        let least = self.expected.div_ceil(MOST_PARTS);
        self.part.max(usize::try_from(least).unwrap_or(usize::MAX))
    }
}

/// Writes an object, which appears under its key when it is committed.
///
/// What is longer than a part is uploaded in parts, several at a time, while the rest is written.
/// Until [`commit`](Self::commit), nobody sees anything: a writer that is dropped gives the upload
/// up, and of one that is killed, the store keeps parts that no list shows (let a lifecycle rule of
/// the bucket remove them).
///
/// Unless overwriting is allowed, an object is never replaced. The store itself is told so
/// (`If-None-Match`), and looked at before the first byte and after the last. The exceptions:
/// Google takes no condition for uploads in parts, and Azure none that is added to a request signed
/// by the account's key; there, an object that appears in the instant between the last look and the
/// end of the upload is replaced.
///
/// A write fails as soon as a part does, with an [`io::Error`] around the [`Error`].
///
/// # Examples
///
/// ```no_run
/// use sparse_remote::{Bucket, ObjectName, WriteOptions};
/// use std::io::Write;
///
/// let name: ObjectName = "s3://models/mine/v2.sparse".parse()?;
/// let mut object = Bucket::open(&name)?.write(&name.key, WriteOptions::new())?;
/// object.write_all(b"all of it")?;
/// object.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ObjectWriter {
    bucket: Bucket,
    key: String,
    path: Path,
    options: WriteOptions,
    /// Name of this upload.
    id: String,
    /// Start of the next part.
    buffer: Vec<u8>,
    written: u64,
    /// Nothing until the first part is full.
    upload: Option<Upload>,
    failed: Option<Error>,
}

/// Upload in parts.
struct Upload {
    parts: Box<dyn MultipartUpload>,
    begun: u64,
    pending: VecDeque<Pending<()>>,
}

impl Bucket {
    /// Begins to write an object, which appears when the writer is committed.
    ///
    /// # Errors
    /// As [`head`](Self::head); `AlreadyExists` unless `options` allow to replace an object;
    /// `NotFound` for a bucket that is not there.
    pub fn write(&self, key: &str, options: WriteOptions) -> Result<ObjectWriter> {
        let writer = ObjectWriter {
            path: self.path(key)?,
            key: key.to_owned(),
            id: random_id(),
            buffer: Vec::new(),
            written: 0,
            upload: None,
            failed: None,
            options,
            bucket: self.clone(),
        };
        writer.check_absent()?;
        writer.check_bucket()?;
        Ok(writer)
    }
}

impl ObjectWriter {
    /// Returns the number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes the object appear, and returns it.
    ///
    /// # Errors
    /// With the object's name: `AlreadyExists` when another appeared meanwhile, unless overwriting
    /// is allowed; what a write failed with; `AccessDenied`, `Unavailable`, `LimitExceeded`,
    /// `Cancelled`. There is no object then, unless it is another's, or the connection broke at the
    /// very end and for so long that the store could not be asked.
    pub fn commit(mut self) -> Result<ObjectInfo> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        self.bucket.cancel().check()?;
        let committed = if self.upload.is_none() { self.put() } else { self.complete() };
        committed.map_err(|e| self.bucket.at(&self.key, e))
    }

    /// Refuses an object that exists, unless it may be replaced.
    fn check_absent(&self) -> Result<()> {
        if self.options.overwrite {
            return Ok(());
        }
        match self.bucket.head(&self.key) {
            Ok(_) => Err(self.bucket.at(&self.key, already_exists())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Refuses a bucket that is not there, before the work for an object is done. Who may not ask
    /// is told by the upload.
    fn check_bucket(&self) -> Result<()> {
        let (store, path) = (self.bucket.stores().plain.clone(), self.path.clone());
        let asked = self.bucket.run("", async move {
            // Of objects, stores say the same whether they or their bucket are missing.
            match store.list(Some(&path)).next().await {
                Some(Err(e)) => Err(explain(&e)),
                _ => Ok(()),
            }
        });
        match asked {
            Err(e) if NO_BUCKET.iter().any(|code| e.message().contains(code)) => {
                let e = Error::new(ErrorKind::NotFound, "there is no such bucket");
                Err(self.bucket.at(&self.key, e))
            }
            Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
            _ => Ok(()),
        }
    }

    /// Returns the store, that for uploads which replace nothing if none may be replaced.
    fn store(&self) -> Arc<dyn ObjectStore> {
        let stores = self.bucket.stores();
        let store = if self.options.overwrite { &stores.plain } else { &stores.create_only };
        store.clone()
    }

    fn attributes(&self) -> Attributes {
        Attributes::from_iter([(UPLOAD, self.id.clone())])
    }

    /// Sends the buffer as a part, and waits until few are on their way.
    fn send_part(&mut self) -> Result<()> {
        let cancel = self.bucket.cancel().clone();
        cancel.check()?;
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => self.begin_upload()?,
        };
        let sent = upload.send(&self.bucket, std::mem::take(&mut self.buffer));
        self.upload = Some(upload);
        sent
    }

    fn begin_upload(&self) -> Result<Upload> {
        let (store, path) = (self.store(), self.path.clone());
        let options =
            PutMultipartOptions { attributes: self.attributes(), ..PutMultipartOptions::default() };
        let parts = self.bucket.run(&self.key, async move {
            store.put_multipart_opts(&path, options).await.map_err(|e| explain(&e))
        })?;
        Ok(Upload { parts, begun: 0, pending: VecDeque::new() })
    }

    /// Completes an upload in parts.
    fn complete(&mut self) -> Result<ObjectInfo> {
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        let cancel = self.bucket.cancel().clone();
        if let Some(upload) = &mut self.upload {
            upload.drain(&cancel, 0)?;
        }
        self.check_absent()?;
        let Some(Upload { mut parts, begun, pending }) = self.upload.take() else {
            return Err(Error::new(
                ErrorKind::Internal,
                "an upload is missing: please report this",
            ));
        };
        // From here on nobody can tell whether it happened, but by waiting.
        let (parts, done) = self.bucket.driver().run(&CancelToken::new(), async move {
            let done = parts.complete().await.map(|put| put.e_tag);
            Ok((parts, done))
        })?;
        self.upload = Some(Upload { parts, begun, pending });
        let info = self.settle(done)?;
        self.upload = None;
        Ok(info)
    }

    /// Writes a small object by one request.
    fn put(&mut self) -> Result<ObjectInfo> {
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        let mode = if self.options.overwrite { PutMode::Overwrite } else { PutMode::Create };
        let mut wait = WAIT;
        for attempt in 1.. {
            let (store, path, payload) = (self.store(), self.path.clone(), payload.clone());
            let options = PutOptions {
                mode: mode.clone(),
                attributes: self.attributes(),
                ..PutOptions::default()
            };
            let done = self.bucket.driver().run(&CancelToken::new(), async move {
                Ok(store.put_opts(&path, payload, options).await.map(|put| put.e_tag))
            })?;
            match self.settle(done) {
                Err(e) if e.kind() == ErrorKind::Unavailable && attempt < ATTEMPTS => {
                    self.bucket.cancel().check()?;
                    std::thread::sleep(wait);
                    wait *= 2;
                }
                settled => return settled,
            }
        }
        Err(Error::new(ErrorKind::Internal, "attempts are counted wrongly: please report this"))
    }

    /// Finds out whether the object is ours, after a request that makes it appear.
    ///
    /// A request whose answer is lost is repeated, and then refused because of its own effect.
    fn settle(&self, done: object_store::Result<Option<String>>) -> Result<ObjectInfo> {
        match (done, self.find()) {
            (_, Ok(Some((id, info)))) if id == self.id => {
                if info.len == self.written {
                    return Ok(info);
                }
                let e = format!("{} bytes were written, and {} are there", self.written, info.len);
                Err(Error::new(ErrorKind::Corrupt, e))
            }
            // Ours was replaced since, or the store keeps no metadata.
            (Ok(Some(etag)), _) => {
                Ok(ObjectInfo { key: self.key.clone(), len: self.written, etag })
            }
            (Ok(None), found) => found?
                .map(|(_, info)| info)
                .ok_or_else(|| Error::new(ErrorKind::Io, "the object is gone again")),
            (Err(_), Ok(Some(_))) if !self.options.overwrite => Err(already_exists()),
            (Err(object_store::Error::AlreadyExists { .. }), Ok(None)) => Err(Error::new(
                ErrorKind::Unavailable,
                "another upload of the same object was in the way: try again",
            )),
            (Err(e), _) => Err(explain(&e)),
        }
    }

    /// Looks for the object, and for the name of the upload that made it.
    fn find(&self) -> Result<Option<(String, ObjectInfo)>> {
        let (store, path) = (self.bucket.stores().plain.clone(), self.path.clone());
        self.bucket.driver().run(&CancelToken::new(), async move {
            let options = GetOptions { head: true, ..GetOptions::default() };
            match store.get_opts(&path, options).await {
                Ok(found) => {
                    let id = found.attributes.get(&UPLOAD).map(|id| id.to_string());
                    Ok(Some((id.unwrap_or_default(), ObjectInfo::new(found.meta)?)))
                }
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(explain(&e)),
            }
        })
    }

    /// Takes bytes into the buffer, and sends it when it is full.
    fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        let room = self.options.part_len().saturating_sub(self.buffer.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        self.written += taken.len() as u64;
        if taken.len() == room {
            self.send_part().map_err(|e| self.bucket.at(&self.key, e))?;
        }
        Ok(taken.len())
    }
}

impl Upload {
    /// Begins to send a part.
    fn send(&mut self, bucket: &Bucket, bytes: Vec<u8>) -> Result<()> {
        if self.begun == MOST_PARTS {
            let e = format!("the object has more than {MOST_PARTS} parts: write larger ones");
            return Err(Error::new(ErrorKind::LimitExceeded, e));
        }
        self.drain(bucket.cancel(), IN_FLIGHT - 1)?;
        let part = self.parts.put_part(bytes.into());
        let sent = async move { part.await.map_err(|e| explain(&e)) };
        self.pending.push_back(bucket.driver().spawn(sent));
        self.begun += 1;
        Ok(())
    }

    /// Waits until at most `left` parts are on their way.
    fn drain(&mut self, cancel: &CancelToken, left: usize) -> Result<()> {
        while self.pending.len() > left {
            if let Some(part) = self.pending.pop_front() {
                part.wait(cancel)?;
            }
        }
        Ok(())
    }
}

impl io::Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let failed = self.failed.as_ref().map(copy);
        match failed.map_or_else(|| self.take(bytes), Err) {
            Ok(taken) => Ok(taken),
            Err(e) => {
                self.failed = Some(copy(&e));
                Err(io::Error::other(e))
            }
        }
    }

    /// Does nothing: nothing is to be seen before the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies kind, message and place of an error; ours have no cause.
fn copy(e: &Error) -> Error {
    let copy = Error::new(e.kind(), e.message().to_owned());
    match e.file() {
        Some(file) => copy.in_file(file),
        None => copy,
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        let Some(Upload { mut parts, pending, .. }) = self.upload.take() else { return };
        // A part that arrives after the upload was given up may stay in the store. Who cancels does
        // not wait: parts on their way are cut off, and there is a second to give the upload up.
        let is_cancelled = self.bucket.cancel().check().is_err();
        let deadline = Instant::now() + if is_cancelled { Duration::ZERO } else { GIVE_UP };
        for part in pending {
            let _ = part.wait_until(deadline);
        }
        let aborted =
            self.bucket.driver().spawn(async move { parts.abort().await.map_err(|e| explain(&e)) });
        // Nothing can be done about an upload that cannot be given up; no list shows it.
        let _ = aborted.wait_until(Instant::now() + GIVE_UP);
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectWriter")
            .field("bucket", &self.bucket)
            .field("key", &self.key)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// Returns a name that no other upload has.
fn random_id() -> String {
    // Keys of the standard hasher are random, and differ from call to call.
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}
