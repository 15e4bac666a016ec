//! SHA-1, by which git names the contents of files.

/// Digest of the bytes given so far.
#[derive(Clone)]
pub(crate) struct Sha1 {
    state: [u32; 5],
    /// The begin of a block of 64 bytes.
    block: [u8; 64],
    filled: usize,
    len: u64,
}

impl Sha1 {
    /// Creates the digest of nothing.
    pub(crate) fn new() -> Sha1 {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Sha1 { state, block: [0; 64], filled: 0, len: 0 }
    }

    /// Creates the digest of what git puts before the content of a file of `len` bytes.
    ///
    /// Once the content is added, it is the name that git has for the file.
    pub(crate) fn of_git_blob(len: u64) -> Sha1 {
        let mut digest = Sha1::new();
        digest.update(format!("blob {len}\0").as_bytes());
        digest
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(64 - self.filled));
            for (to, from) in self.block.iter_mut().skip(self.filled).zip(now) {
                *to = *from;
            }
            self.filled += now.len();
            bytes = rest;
            if self.filled == 64 {
                self.compress();
                self.filled = 0;
            }
        }
    }

    /// Returns the digest in hexadecimal digits.
    pub(crate) fn hex(mut self) -> String {
        let bits = self.len.wrapping_mul(8);
        self.update(&[0x80]);
        while self.filled != 56 {
            self.update(&[0]);
        }
        self.update(&bits.to_be_bytes());
        self.state.iter().map(|word| format!("{word:08x}")).collect()
    }

    /// Mixes one block into the state.
    fn compress(&mut self) {
        let mut schedule = [0u32; 80];
        for (word, bytes) in schedule.iter_mut().zip(self.block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for t in 16..80 {
            let mixed = schedule[t - 3] ^ schedule[t - 8] ^ schedule[t - 14] ^ schedule[t - 16];
            schedule[t] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = self.state;
        for (t, word) in schedule.iter().enumerate() {
            let (f, k) = match t {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(f)
                .wrapping_add(e)
                .wrapping_add(k)
                .wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (word, add) in self.state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(add);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha1(bytes: &[u8]) -> String {
        let mut digest = Sha1::new();
        // In uneven parts.
        for part in bytes.chunks(37) {
            digest.update(part);
        }
        digest.hex()
    }

    #[test]
    fn published_digests() {
        assert_eq!(sha1(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(sha1(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            sha1(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        );
        assert_eq!(sha1(&[b'a'; 1_000_000]), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    }

    #[test]
    fn git_names() {
        // As `git hash-object` has them.
        assert_eq!(Sha1::of_git_blob(0).hex(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let mut digest = Sha1::of_git_blob(6);
        digest.update(b"hello\n");
        assert_eq!(digest.hex(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
