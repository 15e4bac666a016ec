//! Texts as tokens.

use crate::error::unsupported;
use sparse_core::{Error, ErrorKind, Result};
use tokenizers::Tokenizer as Inner;

/// Tokenizer of a model: its `tokenizer.json`.
///
/// # Examples
///
/// ```
/// use sparse_eval::Tokenizer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
/// let tokenizer = Tokenizer::parse(&std::fs::read(format!("{folder}/tokenizer.json"))?)?;
/// let text = tokenizer.encode("two species", None)?;
/// assert_eq!(text.bytes, 11);
/// assert_eq!(tokenizer.decode(&text.tokens)?, "two species");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer(Inner);

/// Tokens of a text.
///
/// # Examples
///
/// See [`Tokenizer`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenText {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Bytes of the text that they stand for.
    pub bytes: u64,
}

impl Tokenizer {
    /// Parses the bytes of a `tokenizer.json`. What it says of truncation and padding is ignored.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn parse(json: &[u8]) -> Result<Tokenizer> {
        let inner = Inner::from_bytes(json);
        let mut inner = inner.map_err(|e| unsupported("it is no tokenizer").with_source(e))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| unsupported("its truncation cannot be switched off").with_source(e))?;
        Ok(Tokenizer(inner))
    }

    /// Encodes `text` without adding special tokens: all of it, or its first `most` tokens.
    ///
    /// Of a long text of which few tokens are wanted, only a part is read, which ends at the end of
    /// a line; its tokens are those of the whole text, as tokenizers do not look beyond lines.
    ///
    /// # Errors
    /// `InvalidInput` when the tokenizer cannot encode it.
    pub fn encode(&self, text: &str, most: Option<usize>) -> Result<TokenText> {
        let mut part = match most {
            Some(most) => beginning(text, most.saturating_mul(BYTES_PER_TOKEN)),
            None => text,
        };
        loop {
            let all = self.0.encode(part, false);
            let all = all.map_err(|e| unsupported("the tokenizer failed").with_source(e))?;
            let most = most.unwrap_or(usize::MAX);
            if part.len() < text.len() && all.len() < most.saturating_add(LAST_TOKENS) {
                part = beginning(text, part.len().saturating_mul(2).max(1024));
                continue;
            }
            let tokens: Vec<u32> = all.get_ids().iter().copied().take(most).collect();
            let bytes = match tokens.len() {
                n if n == all.len() => part.len(),
                n => n.checked_sub(1).and_then(|i| all.get_offsets().get(i)).map_or(0, |o| o.1),
            };
            return Ok(TokenText { tokens, bytes: bytes as u64 });
        }
    }

    /// Decodes tokens, special ones included.
    ///
    /// # Errors
    /// `InvalidInput` when the tokenizer cannot decode them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let text = self.0.decode(tokens, false);
        text.map_err(|e| unsupported("the tokens cannot be decoded").with_source(e))
    }
}

/// Bytes of a text that are read for each wanted token at first: more than most tokens have.
const BYTES_PER_TOKEN: usize = 8;
/// Tokens at the end of a part that are not trusted, since the text goes on.
const LAST_TOKENS: usize = 64;

/// Returns about the first `len` bytes of `text`, up to the end of a line if there is one near.
fn beginning(text: &str, len: usize) -> &str {
    let len = len.min(text.len());
    if len == text.len() {
        return text;
    }
    let bytes = &text.as_bytes()[..len];
    // A line feed is never within a character.
    let end = match bytes.iter().rposition(|&b| b == b'\n') {
        Some(line) if line >= len / 2 => line + 1,
        _ => (0..=len).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0),
    };
    &text[..end]
}

/// Reads a text from a file.
///
/// # Errors
/// `Io` or `NotFound`; `InvalidInput` when it is not UTF-8, with the first byte that is not.
pub fn read_text(path: impl AsRef<std::path::Path>) -> Result<String> {
    let path = path.as_ref();
    let place = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Error::io("cannot read", e).in_file(place()))?;
    String::from_utf8(bytes).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "the text is not UTF-8: convert it first")
            .at_offset(e.utf8_error().valid_up_to() as u64)
            .in_file(place())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
        Tokenizer::parse(&std::fs::read(format!("{folder}/tokenizer.json")).unwrap()).unwrap()
    }

    #[test]
    fn a_beginning_is_that_of_the_whole() {
        let tokenizer = tokenizer();
        let text = "Two species are very similar, and \u{e9}\u{4e2d}.\n".repeat(300);
        let whole = tokenizer.encode(&text, None).unwrap();
        assert_eq!(whole.bytes, text.len() as u64);
        assert_eq!(tokenizer.decode(&whole.tokens).unwrap(), text);
        for most in [0, 1, 2, 17, 500, 3000, whole.tokens.len(), whole.tokens.len() + 1] {
            let part = tokenizer.encode(&text, Some(most)).unwrap();
            let most = most.min(whole.tokens.len());
            assert_eq!(part.tokens, whole.tokens[..most]);
            if most == whole.tokens.len() {
                assert_eq!(part, whole);
            } else {
                let text = tokenizer.decode(&part.tokens).unwrap();
                // A token may end within a character, which then counts as a whole.
                assert!(part.bytes.abs_diff(text.len() as u64) <= 3, "{most}");
            }
        }
    }

    #[test]
    fn a_long_word_is_no_trouble() {
        let text = "\u{e9}".repeat(5000);
        let part = tokenizer().encode(&text, Some(3)).unwrap();
        assert_eq!(part.tokens.len(), 3);
        assert!(tokenizer().encode("", Some(3)).unwrap().tokens.is_empty());
    }

    #[test]
    fn errors_say_where() {
        assert!(Tokenizer::parse(b"{}").is_err());
        assert!(Tokenizer::parse(b"\xff").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, b"ab\xff").unwrap();
        let e = read_text(&path).unwrap_err();
        assert_eq!((e.kind(), e.offset()), (ErrorKind::InvalidInput, Some(2)));
        assert_eq!(read_text(folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
