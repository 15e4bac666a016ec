//! Addresses that are shown without their secrets.

use sparse_core::{Error, Result};
use std::fmt;

/// Values of a query that are shorter than this are in many texts by chance.
#[cfg(feature = "http")]
const SHORTEST_SECRET: usize = 5;

/// `http` or `https` URL.
///
/// `Display` and `Debug` leave out what may be secret: a password, and the query, which of signed
/// URLs is the key. Errors name a URL in this form.
///
/// # Examples
///
/// ```
/// use sparse_remote::Url;
///
/// let url = Url::parse("https://user:secret@example.com/a/b.sparse?signature=1f3a")?;
/// assert_eq!(url.to_string(), "https://example.com/a/b.sparse?…");
/// assert_eq!(url.origin(), "https://example.com");
/// assert_eq!(url.file_name(), "b.sparse");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// `http` or `https`.
    scheme: String,
    /// `user:password`, percent-encoded as it was given.
    user: Option<String>,
    /// Host in lower case, with the port where one was given.
    host: String,
    /// From the first `/` on, percent-encoded; never empty.
    path: String,
    /// After the `?`.
    query: Option<String>,
}

impl Url {
    /// Parses an absolute URL.
    ///
    /// Blanks and characters beyond ASCII are percent-encoded; a fragment (`#…`) is dropped.
    ///
    /// # Errors
    /// `InvalidArgument` when it is not `http://` or `https://` with a host.
    pub fn parse(text: &str) -> Result<Url> {
        let wrong = |why: &str| {
            // What stands before the path may hold a password.
            let shown = text.split(['?', '#']).next().unwrap_or_default();
            let shown = shown.rsplit_once('@').map_or(shown, |(_, rest)| rest);
            Err(Error::invalid_argument(format!("not a URL of a file, {why}: {shown}")))
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("it does not begin with https://");
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return wrong("only http:// and https:// are");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        if !is_host(host) {
            return wrong("the host is missing or has strange characters");
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(encoded(query))),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/".to_owned() } else { encoded(path) };
        Ok(Url { scheme, user, host: host.to_ascii_lowercase(), path, query })
    }

    /// Resolves what a `Location` header says, relative to this URL.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn join(&self, location: &str) -> Result<Url> {
        let location = location.split('#').next().unwrap_or_default();
        if location.split(['/', '?']).next().is_some_and(|start| start.ends_with(':')) {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.scheme));
        }
        let (path, query) = match location.split_once('?') {
            Some((path, query)) => (path, Some(encoded(query))),
            None => (location, None),
        };
        let path = match path {
            "" => self.path.clone(),
            _ if path.starts_with('/') => encoded(path),
            _ => {
                let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                without_dots(&format!("{folder}/{}", encoded(path)))
            }
        };
        Ok(Url { path, query, ..self.clone() })
    }

    /// Appends `segments` to the path, each percent-encoded, and drops the query.
    ///
    /// A `/` inside a segment stays one, so that a file's path below a folder can be given whole.
    ///
    /// # Examples
    ///
    /// ```
    /// let hub = sparse_remote::Url::parse("https://example.com/mirror/")?;
    /// let file = hub.with_path(["org/name", "resolve", "main", "a b.json"]);
    /// assert_eq!(file.to_string(), "https://example.com/mirror/org/name/resolve/main/a%20b.json");
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_path<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut path = self.path.trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.push_str(&encoded_segment(segment));
        }
        Url { path, query: None, ..self.clone() }
    }

    /// Returns the URL with this query, given without `?` and percent-encoded already.
    #[must_use]
    pub fn with_query(&self, query: &str) -> Url {
        Url { query: Some(query.to_owned()), ..self.clone() }
    }

    /// Returns scheme, host and port: tokens are sent to no other.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    /// Returns the host, with its port where one was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the path, percent-encoded, from its first `/` on.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the last part of the path.
    ///
    /// Its percent-encoding is undone where that gives UTF-8.
    pub fn file_name(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        decoded(name).unwrap_or_else(|| name.to_owned())
    }

    /// Returns whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }

    /// Returns whether it leads to this machine.
    pub fn is_loopback(&self) -> bool {
        let host = match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.host,
        };
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }

    /// Adds what must not be shown of the URL: user, password, and values of the query.
    #[cfg(feature = "http")]
    pub(crate) fn secrets(&self, out: &mut Vec<String>) {
        let user = self.user.iter().flat_map(|user| user.split(':'));
        let query = self.query.iter().flat_map(|query| query.split(['&', '=']));
        for text in user.chain(query).filter(|text| text.len() >= SHORTEST_SECRET) {
            out.push(text.to_owned());
            out.extend(decoded(text).filter(|plain| plain != text));
        }
    }

    /// Returns `user:password` with its percent-encoding undone, if the URL has that.
    #[cfg(any(feature = "http", test))]
    pub(crate) fn user(&self) -> Option<String> {
        let user = self.user.as_ref()?;
        Some(decoded(user).unwrap_or_else(|| user.clone()))
    }

    /// Returns the text that a request is made of: with its query, without user and password.
    #[cfg(any(feature = "http", test))]
    pub(crate) fn request_text(&self) -> String {
        let query = self.query.as_ref().map(|q| format!("?{q}")).unwrap_or_default();
        format!("{}://{}{}{query}", self.scheme, self.host, self.path)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query.is_some() { "?…" } else { "" };
        write!(f, "{}://{}{}{query}", self.scheme, self.host, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl std::str::FromStr for Url {
    type Err = Error;

    fn from_str(text: &str) -> Result<Url> {
        Url::parse(text)
    }
}

/// Returns whether a text is a host, maybe with a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_name = match name {
        Some(v6) => {
            !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b))
        }
        None => !host.is_empty() && host.bytes().all(good),
    };
    is_name && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Percent-encodes what may stand nowhere in a URL.
fn encoded(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
    percent_encoded(text, keep)
}

/// Percent-encodes all but unreserved characters and `/`.
pub(crate) fn encoded_segment(text: &str) -> String {
    percent_encoded(text, |b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b))
}

fn percent_encoded(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if keep(b) {
            out.push(b.into());
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// Undoes percent-encoding; returns `None` where that gives no UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = match tail {
            [a, b, ..] if *first == b'%' => {
                let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                hex(*a).zip(hex(*b)).map(|(a, b)| a << 4 | b)
            }
            _ => None,
        };
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8(out).ok()
}

/// Removes `.` and `..` from a path.
fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(out.pop()),
            "." => {}
            _ => out.push(part),
        }
    }
    let path = out.join("/");
    if path.starts_with('/') { path } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::ErrorKind;

    #[test]
    fn secrets_are_not_shown() {
        let text = "https://me:pa%20ss@Host.example:8443/a b/ü?key=s3cret#part";
        let url = Url::parse(text).unwrap();
        let shown = format!("{url} {url:?}");
        assert!(!shown.contains("pa") && !shown.contains("s3cret"), "{shown}");
        assert_eq!(url.to_string(), "https://host.example:8443/a%20b/%C3%BC?…");
        assert_eq!(url.request_text(), "https://host.example:8443/a%20b/%C3%BC?key=s3cret");
        assert_eq!(url.user().as_deref(), Some("me:pa ss"));
        assert_eq!(url.file_name(), "ü");
        let e = Url::parse("ftp://me:secret@host/x?key=s3cret").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(!e.to_string().contains("ecret") && !e.to_string().contains("s3"), "{e}");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in [
            "",
            "a/b",
            "https://",
            "https:///a",
            "file:///a",
            "http://:80/",
            "http://a:b/",
            "https://a b/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirects_are_resolved() {
        let url = Url::parse("https://u:p@a.example/x/y/z?q=1").unwrap();
        let join = |location: &str| url.join(location).unwrap().request_text();
        assert_eq!(join("https://b.example/c?d"), "https://b.example/c?d");
        assert_eq!(url.join("https://b.example/c").unwrap().user(), None);
        assert_eq!(join("//b.example/c"), "https://b.example/c");
        assert_eq!(join("/c?d=%20"), "https://a.example/c?d=%20");
        assert_eq!(join("../c"), "https://a.example/x/c");
        assert_eq!(join("../../../../c"), "https://a.example/c");
        assert_eq!(join("c/./d"), "https://a.example/x/y/c/d");
        assert_eq!(join("?r=2"), "https://a.example/x/y/z?r=2");
    }

    #[test]
    fn encoding_is_undone() {
        assert_eq!(decoded("a%20b%2Fc%"), Some("a b/c%".to_owned()));
        assert_eq!(decoded("%zz%C3%BC"), Some("%zzü".to_owned()));
        assert_eq!(decoded("%ff"), None);
    }

    #[test]
    fn this_machine_is_known() {
        let local = |text| Url::parse(text).unwrap().is_loopback();
        assert!(local("http://localhost:80/") && local("http://127.0.0.1/"));
        assert!(local("http://[::1]:8080/x") && !local("http://example.com:127/"));
    }
}
