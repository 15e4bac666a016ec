//! The SHA-256 of what a delta restores: one number that a person can compare.

#[cfg(feature = "sha256")]
use sha2::{Digest as _, Sha256};
use sparse_core::{Error, ErrorKind, Result};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// SHA-256 of restored content, shown as 64 hexadecimal digits.
///
/// [`Digest`](sparse_core::Digest)s find accidents; this finds forgery, too. Whoever gets a delta
/// from a stranger needs this number from somebody that they trust, and nothing else: it covers
/// what base and delta restore *together*, so that neither of them has to be trusted.
///
/// Of a single file it is what `sha256sum` prints. Of a folder it is the SHA-256 of the lines that
/// `sha256sum` prints for all its files, sorted by the bytes of their paths; empty folders do not
/// count.
///
/// Its text can be read and shown in every build; computing it takes the feature `sha256`.
///
/// # Examples
/// ```
/// use sparse_container::ContentHash;
///
/// let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// assert_eq!(text.parse::<ContentHash>()?.to_string(), text);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

/// Hasher that computes the SHA-256 of one file, whose bytes come in parts.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "sha256")] {
/// use sparse_container::{ContentHash, FileHasher};
///
/// let mut hasher = FileHasher::new();
/// hasher.update(b"abc");
/// let hash = ContentHash::of_file(&hasher.finish());
/// assert!(hash.to_string().starts_with("ba7816bf"));
/// # }
/// ```
#[cfg(feature = "sha256")]
#[derive(Clone, Debug, Default)]
pub struct FileHasher(Sha256);

#[cfg(feature = "sha256")]
impl FileHasher {
    /// Creates a hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the SHA-256 of all bytes so far.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl ContentHash {
    /// Creates the hash of content that is a single file without a folder.
    pub fn of_file(sha256: &[u8; 32]) -> Self {
        ContentHash(*sha256)
    }

    /// Computes the hash of a folder from the paths and hashes of its files.
    ///
    /// Paths are relative, with `/`. The order of `files` does not matter.
    ///
    /// # Examples
    /// ```
    /// use sparse_container::{ContentHash, FileHasher};
    ///
    /// let empty = FileHasher::new().finish();
    /// let ab = ContentHash::of_files([("a", empty), ("b", empty)]);
    /// assert_eq!(ab, ContentHash::of_files([("b", empty), ("a", empty)]));
    /// ```
    #[cfg(feature = "sha256")]
    pub fn of_files<'a>(files: impl IntoIterator<Item = (&'a str, [u8; 32])>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable();
        let mut lines = FileHasher::new();
        for (path, sha256) in files {
            lines.update(format!("{}  {path}\n", ContentHash(sha256)).as_bytes());
        }
        ContentHash(lines.finish())
    }

    /// Returns the 32 bytes, as an attribute of a delta holds them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the bytes of an attribute.
    ///
    /// # Errors
    /// `Corrupt` when there are not 32 of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map_err(|_| {
            Error::corrupt(format!("the SHA-256 of the content has {} bytes, not 32", bytes.len()))
        })?;
        Ok(ContentHash(bytes))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        self.0.iter().try_for_each(|b| write!(text, "{b:02x}"))?;
        f.pad(&text)
    }
}

impl FromStr for ContentHash {
    type Err = Error;

    /// Reads 64 hexadecimal digits, in upper or lower case.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{text:?} is not a SHA-256: give 64 hexadecimal digits"),
            )
        };
        let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(wrong);
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(*high)? * 16 + digit(*low)?) as u8;
        }
        Ok(ContentHash(bytes))
    }
}

#[cfg(all(test, feature = "sha256"))]
mod tests {
    use super::*;

    fn sha256(bytes: &[u8]) -> [u8; 32] {
        let mut hasher = FileHasher::new();
        bytes.chunks(7).for_each(|part| hasher.update(part));
        hasher.finish()
    }

    #[test]
    fn files_are_hashed_as_sha256sum_does() {
        // From FIPS 180-4's examples.
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        for (bytes, want) in [
            (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
        ] {
            assert_eq!(ContentHash::of_file(&sha256(bytes)).to_string(), want);
        }
    }

    #[test]
    fn folders_are_hashed_as_the_documented_pipe_does() {
        // printf one > b.txt; mkdir a; printf two > a/x; then
        // find . -type f | sed 's,^\./,,' | LC_ALL=C sort | xargs sha256sum | sha256sum
        let files = [("b.txt", sha256(b"one")), ("a/x", sha256(b"two"))];
        let want = "3320a496731bb19ab69e53dc1523a8d76224788578c7a3bf7d1a9c4879b2e320";
        assert_eq!(ContentHash::of_files(files).to_string(), want);
    }

    #[test]
    fn text_and_bytes_come_back() {
        let hash = ContentHash::of_file(&sha256(b"x"));
        assert_eq!(hash.to_string().to_uppercase().parse::<ContentHash>().unwrap(), hash);
        assert_eq!(ContentHash::from_bytes(hash.as_bytes()).unwrap(), hash);
        assert_eq!(ContentHash::from_bytes(&[0; 31]).unwrap_err().kind(), ErrorKind::Corrupt);
        for wrong in ["", "12", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)]
        {
            let e = wrong.parse::<ContentHash>().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }
}
