//! Requests as they arrive.

use std::io::{self, BufRead, Read};

/// Longest head of a request in bytes.
const MAX_HEAD: u64 = 1 << 16;
/// Longest body of a request in bytes.
const MAX_BODY: u64 = 1 << 30;

/// A request with its body.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) method: String,
    /// Path and query as they were sent.
    pub(super) target: String,
    /// Parts of the path between `/`, decoded.
    pub(super) segments: Vec<String>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Incoming {
    /// Reads the next request; `None` at the end of the connection.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Incoming>> {
        let mut head = from.by_ref().take(MAX_HEAD);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return if lines.is_empty() { Ok(None) } else { Err(bad("a head without end")) };
            }
            match line.trim_end() {
                "" if lines.is_empty() => {}
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) =
            (words.next(), words.next(), words.next())
        else {
            return Err(bad("no request of HTTP/1.1"));
        };
        let headers: Vec<_> = lines
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let path = target.split('?').next().unwrap_or_default();
        let segments = path.split('/').skip(1).map(decode).collect();
        let mut request = Incoming {
            method: method.to_owned(),
            target: target.to_owned(),
            segments,
            headers,
            body: Vec::new(),
        };
        let len = request.header("content-length").map_or(Ok(0), str::parse::<u64>);
        let len = len.map_err(|_| bad("no length"))?;
        if len > MAX_BODY || request.header("transfer-encoding").is_some() {
            return Err(bad("a body that is too long, or of unknown length"));
        }
        from.take(len).read_to_end(&mut request.body)?;
        if request.body.len() as u64 != len {
            return Err(bad("a body that was cut short"));
        }
        Ok(Some(request))
    }

    /// Returns a header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str())
    }

    /// Returns a value of the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|pair| pair.0 == name).map(|pair| decode(pair.1))
    }

    /// Returns the name of the host that was asked, without the port.
    pub(super) fn host(&self) -> &str {
        let host = self.header("host").unwrap_or_default();
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    }

    /// Returns the token.
    pub(super) fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Replaces `%41` by `A`.
fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok()).filter(|_| *first == b'%');
        out.push(byte.unwrap_or(*first));
        rest = byte.and_then(|_| after.get(2..)).unwrap_or(after);
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let mut text =
            &b"GET /a%2Fb/c?x=1%20 HTTP/1.1\r\nHost: localhost:80\r\nRange: bytes=1-\r\n\r\n\
            POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET"[..];
        let first = Incoming::read(&mut text).unwrap().unwrap();
        assert_eq!(first.segments, ["a/b", "c"]);
        assert_eq!((first.host(), first.header("range")), ("localhost", Some("bytes=1-")));
        assert_eq!(first.query("x").as_deref(), Some("1 "));
        assert_eq!(Incoming::read(&mut text).unwrap().unwrap().body, b"abc");
        assert!(Incoming::read(&mut text).is_err());
        assert!(Incoming::read(&mut &b""[..]).unwrap().is_none());
    }
}
