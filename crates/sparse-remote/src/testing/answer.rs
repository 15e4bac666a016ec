//! Answers: what they say, and how they are sent.

use super::faults::Fault;
use super::site::{BLOCK, Content};
use super::wire::Incoming;
use sparse_core::ByteSource;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Body of an answer.
pub(super) enum Body {
    /// Text of the server itself.
    Bytes(Vec<u8>),
    /// Part of the content of a file.
    Content(Arc<dyn ByteSource>, Range<u64>),
}

/// Answer to one request.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
    /// The end of the connection is that of the body.
    no_length: bool,
}

impl Answer {
    /// Creates an answer without content.
    pub(super) fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Body::Bytes(Vec::new()), no_length: false }
    }

    /// Creates an answer of JSON.
    pub(super) fn json(value: &serde_json::Value) -> Answer {
        let body = Body::Bytes(value.to_string().into_bytes());
        Answer { body, ..Answer::status(200) }.with("Content-Type", "application/json")
    }

    /// Creates a refusal as the Hub words it.
    pub(super) fn refusal(status: u16, code: &str, message: &str) -> Answer {
        let answer = Answer::json(&serde_json::json!({ "error": message }));
        let answer = Answer { status, ..answer }.with("X-Error-Message", message);
        if code.is_empty() { answer } else { answer.with("X-Error-Code", code) }
    }

    /// Creates a redirection.
    pub(super) fn redirect(status: u16, to: String) -> Answer {
        Answer::status(status).with("Location", to)
    }

    /// Creates the answer with a content, or the part of it that was asked for.
    pub(super) fn content(request: &Incoming, content: &Content, etag: &str) -> Answer {
        static ANSWERS: AtomicU64 = AtomicU64::new(0);
        let (quirks, len) = (content.quirks, content.source.byte_len());
        let mut etag = format!("\"{etag}\"");
        if quirks.wrong_etag {
            etag = format!("\"other-{}\"", ANSWERS.fetch_add(1, Ordering::Relaxed));
        }
        let is_etag =
            |list: &str| list.split(',').any(|e| matches!(e.trim(), "*") || e.trim() == etag);
        let unknown = quirks.no_etag;
        if request.header("if-match").is_some_and(|list| !unknown && !is_etag(list)) {
            return Answer::status(412);
        }
        let current = request.header("if-range").is_none_or(|e| !unknown && is_etag(e));
        let range = request.header("range").filter(|_| current && !quirks.ignores_range);
        let mut answer = match range.and_then(|range| part(range, len)) {
            Some(range) if range.is_empty() => {
                return Answer::status(416).with("Content-Range", format!("bytes */{len}"));
            }
            Some(range) => {
                let text = format!("bytes {}-{}/{len}", range.start, range.end - 1);
                let body = Body::Content(Arc::clone(&content.source), range);
                Answer { body, ..Answer::status(206) }.with("Content-Range", text)
            }
            None => {
                let body = Body::Content(Arc::clone(&content.source), 0..len);
                Answer { body, ..Answer::status(200) }
            }
        };
        answer.no_length = quirks.no_length;
        if !quirks.ignores_range {
            answer = answer.with("Accept-Ranges", "bytes");
        }
        if unknown { answer } else { answer.with("ETag", etag) }
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    /// Returns the answer that this fault makes of it; the rest of the fault is in [`send`].
    ///
    /// [`send`]: Self::send
    pub(super) fn spoiled(mut self, fault: Option<Fault>, request: &Incoming) -> Answer {
        match fault {
            Some(Fault::TooMany(seconds)) => Answer::refusal(429, "", "Too many requests")
                .with("Retry-After", seconds.to_string()),
            Some(Fault::Status(status)) => Answer::status(status),
            Some(Fault::Replaced) if matches!(self.body, Body::Content(..)) => {
                if request.header("if-match").is_some() {
                    return Answer::status(412);
                }
                for (name, value) in &mut self.headers {
                    if *name == "ETag" {
                        *value = "\"replaced\"".to_owned();
                    }
                }
                self
            }
            _ => self,
        }
    }

    /// Returns the number of bytes of the body that are to be sent.
    pub(super) fn planned(&self, request: &Incoming, fault: Option<Fault>) -> u64 {
        let cut = matches!(fault, Some(Fault::CutBody | Fault::StallBody));
        match request.method.as_str() {
            "HEAD" => 0,
            _ if cut => self.len() / 2,
            _ => self.len(),
        }
    }

    /// Returns whether the connection is to be closed after it.
    pub(super) fn is_last(&self, request: &Incoming, fault: Option<Fault>) -> bool {
        self.no_length || (request.method != "HEAD" && self.planned(request, fault) < self.len())
    }

    /// Sends the answer, and adds to `sent` the bytes of the body as they go.
    pub(super) fn send(
        &self,
        to: &mut impl Write,
        request: &Incoming,
        fault: Option<Fault>,
        sent: &mut u64,
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &match self.no_length {
            true => "Connection: close\r\n\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n\r\n", self.len()),
        };
        to.write_all(head.as_bytes())?;
        let end = self.planned(request, fault);
        while *sent < end {
            let now = (end - *sent).min(BLOCK as u64);
            to.write_all(&self.block(*sent, now as usize, fault)?)?;
            *sent += now;
        }
        to.flush()
    }

    fn len(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(_, range) => range.end - range.start,
        }
    }

    /// Returns bytes of the body.
    fn block(&self, at: u64, count: usize, fault: Option<Fault>) -> io::Result<Vec<u8>> {
        let (source, range) = match &self.body {
            Body::Bytes(bytes) => {
                return Ok(bytes.iter().skip(at as usize).take(count).copied().collect());
            }
            Body::Content(source, range) => (source, range),
        };
        let read = source.bytes_at(range.start + at, count);
        let mut block = read.map_err(|e| io::Error::other(e.to_string()))?.into_owned();
        match fault {
            Some(Fault::FlipByte) => {
                let place =
                    (self.len() / 2).checked_sub(at).and_then(|i| block.get_mut(i as usize));
                if let Some(byte) = place {
                    *byte ^= 1;
                }
            }
            Some(Fault::Replaced) => block.iter_mut().for_each(|byte| *byte = !*byte),
            _ => {}
        }
        Ok(block)
    }
}

/// Returns the bytes of `len` that a header `Range` names, none of them if it is beyond the end.
///
/// A header that names no range, or several, is ignored, as the standard allows.
fn part(header: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let count: u64 = last.parse().ok()?;
        return Some(len.saturating_sub(count)..len);
    }
    let first: u64 = first.parse().ok()?;
    let end =
        if last.is_empty() { len } else { last.parse::<u64>().ok()?.saturating_add(1).min(len) };
    Some(first..end.max(first))
        .filter(|range| first >= len || !range.is_empty())
        .map(|range| if first >= len { first..first } else { range })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn ranges() {
        assert_eq!(part("bytes=0-0", 10), Some(0..1));
        assert_eq!(part("bytes=3-", 10), Some(3..10));
        assert_eq!(part("bytes=3-99", 10), Some(3..10));
        assert_eq!(part("bytes=-4", 10), Some(6..10));
        assert!(part("bytes=10-", 10).unwrap().is_empty());
        assert!(part("bytes=0-", 0).unwrap().is_empty());
        for ignored in ["bytes=5-3", "bytes=0-1,4-5", "lines=1-2", "bytes=x-"] {
            assert_eq!(part(ignored, 10), None, "{ignored}");
        }
    }
}
