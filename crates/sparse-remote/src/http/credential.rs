//! What is said to a server to be let in, and to which.

use crate::Url;
use std::fmt;

/// Secret that lets requests in; never shown.
///
/// # Examples
///
/// ```
/// use sparse_remote::Token;
///
/// let token = Token::new("hf_secret");
/// assert_eq!(format!("{token:?}"), "Token(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Wraps a token; blanks around it are dropped.
    pub fn new(token: impl AsRef<str>) -> Token {
        Token(token.as_ref().trim().to_owned())
    }

    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Token {
    /// Returns true if it can stand in a header.
    #[cfg(feature = "hub")]
    pub(crate) fn is_plain(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_graphic())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Value of the header `Authorization` for one origin.
#[derive(Clone)]
pub(crate) struct Credential {
    origin: String,
    header: String,
}

impl Credential {
    /// Gives `token` to the origin of `url`.
    pub(crate) fn bearer(url: &Url, token: &Token) -> Credential {
        Credential { origin: url.origin(), header: format!("Bearer {}", token.0) }
    }

    /// Returns the header for a request to `url`: of the URL's own user, else of a token.
    pub(crate) fn header_for(all: &[Credential], url: &Url) -> Option<String> {
        if let Some(user) = url.user() {
            return Some(format!("Basic {}", base64(user.as_bytes())));
        }
        let origin = url.origin();
        all.iter().find(|c| c.origin == origin).map(|c| c.header.clone())
    }
}

/// Encodes bytes in base64 with padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, &b| word << 8 | u32::from(b));
        let word = word << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            let char = DIGITS.get(index as usize).copied().unwrap_or(b'=');
            out.push(if digit <= group.len() { char.into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_token_is_for_one_origin() {
        let url = |text| Url::parse(text).unwrap();
        let all = [Credential::bearer(&url("https://a.example/x"), &Token::new(" t\n"))];
        let header = |text| Credential::header_for(&all, &url(text));
        assert_eq!(header("https://a.example/y?z").as_deref(), Some("Bearer t"));
        for other in ["http://a.example/", "https://a.example:8443/", "https://b.a.example/"] {
            assert_eq!(header(other), None, "{other}");
        }
        assert_eq!(header("https://u:p@b.example/").as_deref(), Some("Basic dTpw"));
    }
}
