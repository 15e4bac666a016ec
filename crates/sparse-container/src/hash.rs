//! Checksums and digests: XXH3 with seed 0.

use sparse_core::Digest;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// Computes the checksum of a blob: XXH3-64.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Computes the checksum of a chunk: the low 32 bits of its XXH3-64.
pub fn chunk_checksum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

/// Computes the digest of bytes in memory: XXH3-128, little-endian.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(xxh3_128(bytes).to_le_bytes())
}

/// Hasher that computes a [`Digest`] of contents that come in parts.
///
/// How they are cut does not matter.
///
/// # Examples
///
/// ```
/// use sparse_container::{Digester, digest};
///
/// let mut digester = Digester::new();
/// digester.update(b"in two ");
/// digester.update(b"parts");
/// assert_eq!(digester.finish(), digest(b"in two parts"));
/// ```
#[derive(Clone, Default)]
pub struct Digester(Xxh3);

impl Digester {
    /// Creates a digester that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes so far.
    pub fn finish(&self) -> Digest {
        Digest(self.0.digest128().to_le_bytes())
    }
}

impl std::fmt::Debug for Digester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digester({})", self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // From the xxHash specification: they pin the algorithm, the seed and the byte order.
        assert_eq!(checksum(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(chunk_checksum(b""), 0x38d3_94c2);
        assert_eq!(digest(b"").to_string(), "7f498d4624c30160d8984701d306aa99");
    }

    #[test]
    fn cuts_do_not_matter() {
        let data: Vec<u8> = (0..5000u32).map(|i| (i * 7 % 251) as u8).collect();
        let mut d = Digester::new();
        for part in data.chunks(333) {
            d.update(part);
        }
        assert_eq!(d.finish(), digest(&data));
    }
}
