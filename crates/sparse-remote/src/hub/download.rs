//! One file, from the Hub into the cache.

use super::layout::Layout;
use super::listing::HubFile;
use super::lock::Lock;
use super::partial::Partial;
use super::progress::FetchProgress;
use super::refusal::Asked;
use crate::http::Attempt;
use crate::{Answer, Call, Client, Method, Url};
use sparse_core::{Error, ErrorKind, Result};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes after which a broken connection is a new one, with all attempts left.
const FAR: u64 = 256 << 10;
/// Time after which a person wonders what is going on.
const NOTICED: Duration = Duration::from_secs(5);
/// How often a file is fetched from its begin before its digest is believed to be wrong.
const MOST_WRONG: u32 = 3;

/// What all files of one fetch share.
pub(super) struct Downloads<'a> {
    pub(super) client: &'a Client,
    pub(super) layout: &'a Layout,
    pub(super) asked: Asked<'a>,
    pub(super) commit: &'a str,
    pub(super) progress: &'a dyn FetchProgress,
    /// Set when one file failed, so that the others end soon.
    pub(super) stop: AtomicBool,
}

/// Returns whether the content of a file is in the cache.
///
/// One of another length is not: something else wrote it.
pub(super) fn is_there(layout: &Layout, file: &HubFile) -> bool {
    let meta = fs::metadata(layout.blob(file.digest.text()));
    meta.is_ok_and(|meta| meta.is_file() && meta.len() == file.size)
}

impl Downloads<'_> {
    /// Brings the content of a file into the cache.
    ///
    /// # Errors
    /// `Corrupt` when what comes is not what the Hub states; `Io` when it cannot be written;
    /// `Cancelled`; what the Hub refuses.
    pub(super) fn fetch(&self, file: &HubFile) -> Result<()> {
        let url = &self.asked.address.file(self.commit, &file.path)?;
        let digest = file.digest.text();
        self.layout.create()?;
        let (begin, told) = (Instant::now(), Cell::new(false));
        let waiting = || {
            if begin.elapsed() > NOTICED && !told.replace(true) {
                self.progress.note(&format!("another program fetches {}: waiting", file.path));
            }
            self.check()
        };
        let _lock = Lock::take(&self.layout.lock(digest), waiting)?;
        if is_there(self.layout, file) {
            // Another program has fetched it meanwhile.
            self.progress.begin(&file.path, file.size, file.size);
            self.progress.end(&file.path);
            return Ok(());
        }
        let path = self.layout.incomplete(digest);
        for _ in 0..MOST_WRONG {
            let mut partial = Partial::open(path.clone(), file, || self.check())?;
            self.progress.begin(&file.path, file.size, partial.len());
            self.fill(&mut partial, file, url)?;
            if partial.is_right() {
                partial.finish(&self.layout.blob(digest))?;
                self.progress.end(&file.path);
                return Ok(());
            }
            partial.clear()?;
        }
        let _ = fs::remove_file(&path);
        let e = format!("what the server sends of {} is not what the Hub states", file.path);
        let e = format!("{e}: the digest differs, {MOST_WRONG} times; try again later");
        Err(Error::corrupt(e).in_file(url.to_string()))
    }

    /// Returns an error when this fetch is to end.
    fn check(&self) -> Result<()> {
        self.client.cancel().check()?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "another file failed"));
        }
        Ok(())
    }

    /// Appends all that is missing.
    fn fill(&self, partial: &mut Partial<'_>, file: &HubFile, url: &Url) -> Result<()> {
        let mut etag = None;
        while partial.len() < file.size {
            self.client.retry(|| self.append(partial, file, url, &mut etag))?;
        }
        Ok(())
    }

    /// Appends what one request brings.
    ///
    /// `etag` is that of the first answer: what has another is another file.
    fn append(
        &self,
        partial: &mut Partial<'_>,
        file: &HubFile,
        url: &Url,
        etag: &mut Option<String>,
    ) -> Result<(), Attempt> {
        self.check()?;
        let start = partial.len();
        let mut call = Call::new(Method::Get, url);
        if start > 0 {
            call = call.header("range", format!("bytes={start}-"));
            if let Some(etag) = etag.as_ref() {
                call = call.header("if-match", etag.clone());
            }
        }
        let answer = self.client.try_send(&call)?;
        match answer.status() {
            206 if starts_at(&answer, start, file.size) => {}
            200 if start == 0 => {}
            // The server ignores ranges, or the file was replaced: nothing is appended to it.
            200 => self.restart(partial, file)?,
            206 | 412 | 416 => {
                *etag = None;
                self.restart(partial, file)?;
                return Err(again("the file on the server changed while it was read", &answer));
            }
            // Signed addresses of other hosts are good for a while only.
            401 | 403 if answer.url().origin() != self.asked.address.endpoint.origin() => {
                return Err(Attempt::Again(answer.into_error(), None));
            }
            _ => return Err(Attempt::Fail(self.asked.refused(answer).error)),
        }
        let is_strong = |etag: &&str| !etag.starts_with("W/");
        *etag = answer.header("etag").filter(is_strong).map(str::to_owned);
        self.drain(answer, partial, file)
    }

    /// Appends the body of an answer.
    fn drain(
        &self,
        answer: Answer,
        partial: &mut Partial<'_>,
        file: &HubFile,
    ) -> Result<(), Attempt> {
        let (start, place) = (partial.len(), answer.url().to_string());
        let mut body = answer.into_body();
        let mut block = vec![0; 256 << 10];
        let broken = loop {
            self.check()?;
            let read = body.read(&mut block);
            let count = match read {
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => break Some(e),
            };
            let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break None;
            };
            if partial.len() + bytes.len() as u64 > file.size {
                self.restart(partial, file)?;
                let e = format!("more bytes come than the {} that the Hub lists", file.size);
                return Err(Attempt::Again(Error::corrupt(e).in_file(place), None));
            }
            partial.append(bytes)?;
            self.progress.advance(&file.path, bytes.len() as u64);
        };
        if partial.len() == file.size || partial.len().saturating_sub(start) >= FAR {
            return Ok(());
        }
        let have = format!("{} of {} bytes have come", partial.len(), file.size);
        let e = format!("the connection broke, {have}: try again, it goes on from there");
        let e = Error::new(ErrorKind::Unavailable, e).in_file(place);
        let e = match broken {
            Some(cause) => e.with_source(cause),
            None => e,
        };
        Err(Attempt::Again(e, None))
    }

    fn restart(&self, partial: &mut Partial<'_>, file: &HubFile) -> Result<()> {
        partial.clear()?;
        self.progress.begin(&file.path, file.size, 0);
        Ok(())
    }
}

/// Returns whether an answer with a part has the one that was asked for, of the right file.
fn starts_at(answer: &Answer, start: u64, size: u64) -> bool {
    let range = answer.header("content-range").unwrap_or_default().trim();
    let range = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
    range.is_some_and(|(range, total)| {
        let first = range.split('-').next().and_then(|first| first.trim().parse().ok());
        first == Some(start) && total.trim().parse().is_ok_and(|total: u64| total == size)
    })
}

fn again(what: &'static str, answer: &Answer) -> Attempt {
    let e = Error::new(ErrorKind::InvalidInput, what).in_file(answer.url().to_string());
    Attempt::Again(e, None)
}
