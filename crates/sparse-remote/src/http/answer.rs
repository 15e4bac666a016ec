//! What a server answered.

use super::retry::Attempt;
use crate::Url;
use sparse_core::{CancelToken, Error, ErrorKind, Result};
use std::fmt;
use std::io::Read;
use std::time::Duration;
use ureq::http::HeaderMap;

/// Bytes of an answer's text that are looked at for a reason.
const MOST_REASON: u64 = 4096;

/// Answer of a server: status, headers, and a body yet to be read.
///
/// # Examples
///
/// ```
/// use sparse_remote::{Answer, Call, Client, Method, Url};
///
/// /// Returns the length of a file on a server.
/// fn len(client: &Client, url: &Url) -> sparse_core::Result<Option<u64>> {
///     let answer: Answer = client.send(&Call::new(Method::Head, url))?.succeed()?;
///     Ok(answer.number("content-length"))
/// }
/// ```
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) body: Box<dyn Read + Send>,
    /// What of the request must not be repeated, though the server may say it.
    pub(super) secrets: Vec<String>,
}

impl Answer {
    /// Returns the status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns whether the request succeeded.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the URL that answered, after all redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns a header, where it is there and is text; the case of its name does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns a header that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// Returns the body, to be read once.
    pub fn into_body(self) -> Box<dyn Read + Send> {
        self.body
    }

    /// Reads the whole body, of at most `most` bytes.
    ///
    /// # Errors
    /// `LimitExceeded` when it is longer; `Unavailable` when the connection breaks.
    pub fn into_bytes(self, most: u64) -> Result<Vec<u8>> {
        let url = self.url;
        let bytes = up_to(self.body, most).map_err(|e| broken(e).in_file(url.to_string()))?;
        fits(&bytes, most).map_err(|e| e.in_file(url.to_string()))?;
        Ok(bytes)
    }

    /// Returns the answer unless its status says that the request failed.
    ///
    /// # Errors
    /// With the URL: `AccessDenied` (401, 403), `NotFound` (404, 410), `InvalidInput` (412: the
    /// file was replaced), `Unavailable` (408, 429, 5xx), else `Io`.
    pub fn succeed(self) -> Result<Answer> {
        if self.is_success() { Ok(self) } else { Err(self.into_error()) }
    }

    /// Turns a failure into an error, with what the server says of it.
    pub fn into_error(self) -> Error {
        let (kind, what) = match self.status {
            401 => (ErrorKind::AccessDenied, "the server wants to know who asks: give it a token"),
            403 => (ErrorKind::AccessDenied, "the server does not let this request in"),
            404 | 410 => (ErrorKind::NotFound, "there is no such file on the server"),
            412 => {
                (ErrorKind::InvalidInput, "the file was replaced while it was read: start again")
            }
            416 => (ErrorKind::Truncated, "the file on the server is shorter than it was"),
            429 => (ErrorKind::Unavailable, "too many requests: wait, then try again"),
            408 | 500..=599 => (ErrorKind::Unavailable, "the server fails: try again later"),
            _ => (ErrorKind::Io, "the server refuses the request"),
        };
        let (status, url) = (self.status, self.url.to_string());
        let reason = self.reason().map(|r| format!(": {r}")).unwrap_or_default();
        Error::new(kind, format!("{what} (status {status}{reason})")).in_file(url)
    }

    /// Returns what the server says in the header for that, as part of a line.
    ///
    /// Nothing where it repeats a secret of the request.
    pub(crate) fn message(&self) -> Option<String> {
        self.said(self.header("x-error-message")?)
    }

    /// Returns what the server says, in the header for that or in a text or JSON.
    #[cfg(feature = "hub")]
    pub(crate) fn said_anywhere(mut self) -> Option<String> {
        let is_json = |kind: &str| kind.starts_with("application/") && kind.contains("json");
        if self.header("x-error-message").is_some()
            || !self.header("content-type").is_some_and(is_json)
        {
            return self.reason();
        }
        let mut text = Vec::new();
        (&mut self.body).take(MOST_REASON).read_to_end(&mut text).ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let line = answer.get("error")?.as_str()?.split_whitespace().collect::<Vec<_>>().join(" ");
        self.said(&line)
    }

    fn said(&self, text: &str) -> Option<String> {
        let line = text.lines().next()?.trim();
        let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
        let repeats = self.secrets.iter().any(|secret| text.contains(secret.as_str()));
        (!line.is_empty() && !repeats).then_some(line)
    }

    /// Returns what the server says in a line of text.
    fn reason(mut self) -> Option<String> {
        if self.header("x-error-message").is_some() {
            return self.message();
        }
        let is_text = self.header("content-type").is_some_and(|t| t.starts_with("text/plain"));
        if !is_text {
            return None;
        }
        let mut text = Vec::new();
        (&mut self.body).take(MOST_REASON).read_to_end(&mut text).ok()?;
        self.said(&String::from_utf8(text).ok()?)
    }

    /// Reads the body, of at most `most` bytes, into memory.
    pub(super) fn read_whole(self, most: u64) -> Result<Answer, Attempt> {
        let (place, is_success) = (self.url.to_string(), self.is_success());
        let mut bytes = Vec::new();
        let Answer { status, headers, url, body, secrets } = self;
        match body.take(most.saturating_add(1)).read_to_end(&mut bytes) {
            Err(e) if is_success => return Err(Attempt::Again(broken(e).in_file(place), None)),
            // Whatever came of a reason is enough.
            _ => {}
        }
        fits(&bytes, most).map_err(|e| e.in_file(place))?;
        Ok(Answer { status, headers, url, body: Box::new(std::io::Cursor::new(bytes)), secrets })
    }

    /// Reads the body, of at most `most` bytes, to its end.
    pub(super) fn read_to_end(&mut self, most: u64) -> Result<Vec<u8>, Attempt> {
        let read = up_to(&mut self.body, most);
        read.map_err(|e| Attempt::Again(broken(e).in_file(self.url.to_string()), None))
    }

    /// Returns the failure of an attempt, if the status is one that may go away.
    pub(super) fn check_transient(self) -> Result<Answer, Attempt> {
        match self.status {
            408 | 429 | 500 | 502 | 503 | 504 => {
                let asked = self.number("retry-after").map(Duration::from_secs);
                Err(Attempt::Again(self.into_error(), asked))
            }
            _ => Ok(self),
        }
    }

    /// Fills `out` from byte `done` on with the start of the body, and counts what came in `done`.
    pub(super) fn read_into(
        &mut self,
        out: &mut [u8],
        done: &mut usize,
        cancel: &CancelToken,
    ) -> Result<(), Attempt> {
        let place = self.url.to_string();
        let lost = |e| Attempt::Again(broken(e).in_file(place.clone()), None);
        while let Some(rest) = out.get_mut(*done..).filter(|rest| !rest.is_empty()) {
            cancel.check()?;
            match self.body.read(rest) {
                Ok(0) => return Err(lost(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => *done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(lost(e)),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold signed URLs.
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Reads a body to its end, or to the first byte beyond `most`.
fn up_to(body: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses a body of more than `most` bytes.
fn fits(bytes: &[u8], most: u64) -> Result<()> {
    if bytes.len() as u64 > most {
        let e = format!("the answer is longer than {most} bytes");
        return Err(Error::new(ErrorKind::LimitExceeded, e));
    }
    Ok(())
}

/// Returns the error of a body that ends too early.
pub(crate) fn broken(e: std::io::Error) -> Error {
    let message = "the connection broke before all bytes had come: try again";
    Error::new(ErrorKind::Unavailable, message).with_source(e)
}
