//! A file on a server, by ranges.

use super::answer::Answer;
use super::client::{Call, Client, Method};
use super::retry::Attempt;
use crate::Url;
use crate::ranges::{Fetch, Ranges};
use sparse_core::{ByteSource, Error, ErrorKind, Result};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Bytes of the first request, which also tells the length: heads of files are small.
const FIRST: u64 = 16 << 10;
/// Ranges of a file that are asked for at once, where much is wanted.
const MOST_AT_ONCE: usize = 4;
/// Smallest range that is worth a request of its own.
const PART: usize = 1 << 20;
/// Bytes after which a broken connection is a new one, with all attempts left.
const FAR: usize = 256 << 10;
/// Longest file that is taken whole from a server without ranges.
const MOST_WHOLE: u64 = 64 << 20;

/// File on an HTTP server, read by ranges.
///
/// Reads that follow one another fetch ahead, and up to 64 MiB are kept. The file is pinned by its
/// ETag, or else by its date, and by its length: one that is replaced while it is read is an error,
/// and never a mixture of old and new. A URL that redirects is followed once, and again when the
/// URL it led to is no longer good, as signed URLs are for a while only.
///
/// Of a server that does not serve ranges, a file of up to 64 MiB is read whole.
///
/// # Examples
///
/// ```no_run
/// use sparse_core::ByteSource;
/// use sparse_remote::{Client, HttpSource, Url};
///
/// let client = Client::new(Default::default())?;
/// let url = Url::parse("https://example.com/models/mine.sparse")?;
/// let file = HttpSource::open(&client, &url)?;
/// let start = file.bytes_at(0, 8)?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct HttpSource {
    ranges: Ranges<RangeFetcher>,
}

impl HttpSource {
    /// Opens the file at `url`: asks for its length and its first bytes.
    ///
    /// # Errors
    /// As [`Client::send`] and [`Answer::succeed`]; `Io` when the server serves no ranges and the
    /// file is longer than 64 MiB, or what it says contradicts itself.
    pub fn open(client: &Client, url: &Url) -> Result<HttpSource> {
        let place = |e: Error| e.in_file(url.to_string());
        let (fetcher, start) = client.retry(|| first(client, url)).map_err(place)?;
        let ranges = Ranges::new(fetcher);
        ranges.keep(0, start);
        Ok(HttpSource { ranges })
    }

    /// Returns the URL that was opened.
    pub fn url(&self) -> &Url {
        &self.ranges.fetcher().url
    }

    /// Returns the ETag of the file, if the server gives one.
    pub fn etag(&self) -> Option<&str> {
        self.ranges.fetcher().version.etag.as_deref()
    }
}

impl ByteSource for HttpSource {
    fn byte_len(&self) -> u64 {
        self.ranges.byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let place = |e: Error| e.in_file(self.url().to_string());
        self.ranges.read_exact_at(offset, out).map_err(place)
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource").field("url", self.url()).finish_non_exhaustive()
    }
}

/// What tells one version of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    etag: Option<String>,
    modified: Option<String>,
    len: u64,
}

impl Version {
    fn of(answer: &Answer, len: u64) -> Version {
        let header = |name| answer.header(name).map(str::to_owned);
        Version { etag: header("etag"), modified: header("last-modified"), len }
    }

    /// Returns the condition under which a range is of this version.
    fn condition(&self) -> Option<(&'static str, &str)> {
        match (&self.etag, &self.modified) {
            // A weak one may stand for different bytes, and no server takes it as a condition.
            (Some(etag), _) if !etag.starts_with("W/") => Some(("if-match", etag)),
            (_, Some(date)) => Some(("if-unmodified-since", date)),
            _ => None,
        }
    }

    fn check(&self, now: &Version) -> Result<()> {
        let same_tag = match (&self.etag, &now.etag) {
            (Some(was), Some(is)) => was == is,
            _ => true,
        };
        if same_tag && self.len == now.len {
            return Ok(());
        }
        let e = "the file was replaced while it was read: start again";
        Err(Error::new(ErrorKind::InvalidInput, e))
    }
}

struct RangeFetcher {
    client: Client,
    /// As it was given.
    url: Url,
    /// Where it led.
    at: Mutex<Url>,
    version: Version,
}

/// Asks for the first bytes of a file. Returns the file, and the bytes.
fn first(client: &Client, url: &Url) -> Result<(RangeFetcher, Vec<u8>), Attempt> {
    let call = Call::new(Method::Get, url).header("range", format!("bytes=0-{}", FIRST - 1));
    let mut answer = client.try_send(&call)?;
    let (len, bytes) = match answer.status() {
        206 => {
            let range = ContentRange::of(&answer)?;
            let have = range.end.saturating_sub(range.start);
            if range.start != 0 || have != range.total.min(FIRST) {
                return Err(wrong_range().into());
            }
            (range.total, have)
        }
        // No range can be had of an empty file.
        416 if answer.header("content-range").is_some_and(|r| r.trim() == "bytes */0") => (0, 0),
        200 => {
            let stated = answer.number("content-length");
            let whole = match stated.unwrap_or(0) {
                len if len <= MOST_WHOLE => answer.read_to_end(MOST_WHOLE)?,
                _ => Vec::new(),
            };
            let len = whole.len() as u64;
            if stated.unwrap_or(len) > MOST_WHOLE || len > MOST_WHOLE {
                let e = "the server does not serve parts of files: download the file first";
                return Err(Error::new(ErrorKind::Io, e).into());
            }
            return Ok((RangeFetcher::new(client, url, &answer, len), whole));
        }
        // Signed addresses of other hosts are good for a while only: a fresh one may be.
        403 if answer.url().origin() != url.origin() => {
            return Err(Attempt::Again(answer.into_error(), None));
        }
        _ => return Err(answer.into_error().into()),
    };
    let mut start = sparse_core::zeros(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    answer.read_into(&mut start, &mut 0, client.cancel())?;
    Ok((RangeFetcher::new(client, url, &answer, len), start))
}

impl Fetch for RangeFetcher {
    fn byte_len(&self) -> u64 {
        self.version.len
    }

    fn fetch(&self, start: u64, out: &mut [u8]) -> Result<()> {
        let part = out.len().div_ceil(MOST_AT_ONCE).max(PART);
        if out.len() <= part {
            return self.fetch_part(start, out);
        }
        // The connections' own speed adds up, and only the first wait counts.
        let starts = (start..).step_by(part);
        std::thread::scope(|scope| {
            let fetch = |(start, out)| scope.spawn(move || self.fetch_part(start, out));
            let parts: Vec<_> = starts.zip(out.chunks_mut(part)).map(fetch).collect();
            let joined = parts.into_iter().map(|part| {
                let lost = |_| Err(Error::new(ErrorKind::Internal, "a thread panicked"));
                part.join().unwrap_or_else(lost)
            });
            joined.fold(Ok(()), Result::and)
        })
    }
}

impl RangeFetcher {
    fn new(client: &Client, url: &Url, answer: &Answer, len: u64) -> RangeFetcher {
        RangeFetcher {
            client: client.clone(),
            url: url.clone(),
            at: Mutex::new(answer.url().clone()),
            version: Version::of(answer, len),
        }
    }

    /// Fetches a range; what came before a connection broke is not fetched again.
    fn fetch_part(&self, start: u64, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            let before = done;
            self.client.retry(|| self.fetch_once(start, out, &mut done)).or_else(|e| {
                let goes_on = e.kind() == ErrorKind::Unavailable && done - before >= FAR;
                if goes_on { Ok(()) } else { Err(e) }
            })?;
        }
        Ok(())
    }

    fn fetch_once(&self, from: u64, out: &mut [u8], done: &mut usize) -> Result<(), Attempt> {
        let (start, end) = (from + *done as u64, from + out.len() as u64);
        let len = out.len() - *done;
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answer = self.ask(&at, start, len)?;
        let expired = matches!(answer.status(), 400 | 401 | 403 | 404 | 410);
        if expired && at != self.url {
            answer = self.ask(&self.url, start, len)?;
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = answer.url().clone();
        }
        match answer.status() {
            206 => {}
            // Without a condition that the server knows, a replaced file is just another file.
            200 => {
                let e = "the server stopped serving parts of the file: start again";
                return Err(Error::new(ErrorKind::Io, e).into());
            }
            _ => return Err(answer.into_error().into()),
        }
        let range = ContentRange::of(&answer)?;
        self.version.check(&Version::of(&answer, range.total))?;
        // Less than was asked for is allowed; the rest is asked for next.
        if range.start != start || range.end > end {
            return Err(wrong_range().into());
        }
        let stop = usize::try_from(range.end - from).unwrap_or(usize::MAX);
        let out = out.get_mut(..stop).unwrap_or_default();
        answer.read_into(out, done, self.client.cancel())
    }

    fn ask(&self, at: &Url, start: u64, len: usize) -> Result<Answer, Attempt> {
        let last = start + (len as u64).saturating_sub(1);
        let mut call = Call::new(Method::Get, at).header("range", format!("bytes={start}-{last}"));
        if let Some((name, value)) = self.version.condition() {
            call = call.header(name, value);
        }
        self.client.try_send(&call)
    }
}

/// Header `Content-Range`: from `start` up to `end`, which is excluded, of `total`.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    start: u64,
    end: u64,
    total: u64,
}

impl ContentRange {
    fn of(answer: &Answer) -> Result<ContentRange> {
        answer.header("content-range").and_then(ContentRange::parse).ok_or_else(wrong_range)
    }

    fn parse(text: &str) -> Option<ContentRange> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (start, last) = range.split_once('-')?;
        let (start, last): (u64, u64) = (start.trim().parse().ok()?, last.trim().parse().ok()?);
        let total = total.trim().parse().ok()?;
        (start <= last && last < total).then_some(ContentRange { start, end: last + 1, total })
    }
}

fn wrong_range() -> Error {
    Error::new(ErrorKind::Io, "the server answers with another range than was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let parse = ContentRange::parse;
        let range = ContentRange { start: 0, end: 10, total: 200 };
        assert_eq!(parse("bytes 0-9/200"), Some(range));
        for bad in ["", "bytes 0-9/*", "bytes 9-0/200", "bytes 0-200/200", "items 0-9/200"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn weak_tags_are_no_condition() {
        let version = |etag: Option<&str>, modified: Option<&str>| Version {
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
            len: 1,
        };
        let strong = version(Some("\"a\""), Some("today"));
        assert_eq!(strong.condition(), Some(("if-match", "\"a\"")));
        let weak = version(Some("W/\"a\""), Some("today"));
        assert_eq!(weak.condition(), Some(("if-unmodified-since", "today")));
        assert_eq!(version(None, None).condition(), None);
        assert!(strong.check(&version(Some("\"b\""), None)).is_err());
        assert!(strong.check(&version(None, None)).is_ok());
    }
}
