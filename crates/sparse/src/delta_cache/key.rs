//! The name of an entry: the digests that fix its content.

use crate::ContentHash;
use sparse_core::Digest;
use std::fmt;

/// What fixes the content of an entry, and nothing else: no name, no path, no time.
///
/// The id of a delta covers its whole index, and so the digests of everything that it restores and
/// of everything that it needs of its base. The SHA-256, where there is one, keeps a forged delta
/// from putting its content in the place of an honest one's: it was compared when the entry was
/// made. An adapter that is merged depends on all of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Id of the delta.
    pub(super) delta: Digest,
    /// SHA-256 that was expected, or that the delta records.
    pub(super) content: Option<ContentHash>,
    /// Digest of the whole base that an adapter is merged into.
    pub(super) base: Option<Digest>,
}

const CONTENT: &str = "-sha256-";
const BASE: &str = "-on-";

impl Key {
    /// Parses the name of a folder; `None` for what is not one of ours.
    pub(super) fn parse(name: &str) -> Option<Key> {
        let (rest, base) = match name.split_once(BASE) {
            Some((rest, base)) => (rest, Some(digest(base)?)),
            None => (name, None),
        };
        let (delta, content) = match rest.split_once(CONTENT) {
            Some((delta, content)) => (delta, Some(content.parse().ok()?)),
            None => (rest, None),
        };
        let key = Key { delta: digest(delta)?, content, base };
        (key.to_string() == name).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.delta)?;
        self.content.iter().try_for_each(|c| write!(f, "{CONTENT}{c}"))?;
        self.base.iter().try_for_each(|b| write!(f, "{BASE}{b}"))
    }
}

/// Parses 32 hexadecimal digits, in lower case as they are written.
pub(super) fn digest(text: &str) -> Option<Digest> {
    let mut bytes = [0; 16];
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * bytes.len() || !text.bytes().all(is_digit) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(Digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let delta = Digest([0xab; 16]);
        let content = Some("0c".repeat(32).parse().unwrap());
        for (content, base) in [(None, None), (content, None), (None, Some(Digest([7; 16])))] {
            let key = Key { delta, content, base };
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        let all = Key { delta, content, base: Some(Digest([1; 16])) };
        assert_eq!(Key::parse(&all.to_string()), Some(all));
        let name = all.to_string();
        assert!(name.len() < 150 && sparse_core::check_output_path(&name).is_ok());
        for other in ["", "ab", "..", &name[1..], &name.to_uppercase(), &format!("{name}0")] {
            assert_eq!(Key::parse(other), None, "{other}");
        }
    }
}
