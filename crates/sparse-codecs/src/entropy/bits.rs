//! Little-endian bit streams: the first value's least significant bit is bit 0 of byte 0.

/// Writer of values of up to 64 bits, back to back.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::bits::{BitReader, BitWriter};
///
/// let mut writer = BitWriter::new();
/// writer.put(5, 3);
/// writer.put(1, 7);
/// let mut bytes = Vec::new();
/// writer.finish_into(&mut bytes);
///
/// let mut reader = BitReader::new(&bytes);
/// assert_eq!((reader.take(3), reader.take(7), reader.is_exact()), (5, 1, true));
/// ```
#[derive(Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// Creates an empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the low `count` bits of `value`; higher bits must be zero.
    ///
    /// `count` is at most 64.
    #[inline]
    pub fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count == 64 || value >> count == 0);
        self.pending |= value << self.count;
        let total = self.count + count;
        if total >= 64 {
            self.bytes.extend_from_slice(&self.pending.to_le_bytes());
            // The bits that did not fit; a shift by 64 means that none is left.
            self.pending = value.checked_shr(64 - self.count).unwrap_or(0);
            self.count = total - 64;
        } else {
            self.count = total;
        }
    }

    /// Appends `count` values by `next`, without a branch on the number of bits.
    ///
    /// `next` returns a value and its number of bits, at most 56; higher bits of a value must be
    /// zero. ([`put`](Self::put) takes such a branch.)
    #[inline(always)]
    pub(crate) fn put_many(&mut self, count: usize, mut next: impl FnMut(usize) -> (u64, u32)) {
        /// Values between two looks at the space left.
        const BLOCK: usize = 256;
        for start in (0..count).step_by(BLOCK) {
            let n = BLOCK.min(count - start);
            // Whole bytes first: fewer than eight bits stay pending.
            let mut at = self.bytes.len();
            self.bytes.resize(at + 8 * (n + 2), 0);
            let (mut pending, mut have) = (self.pending, self.count);
            for i in start..start + n {
                if let Some(space) = self.bytes.get_mut(at..at + 8) {
                    space.copy_from_slice(&pending.to_le_bytes());
                }
                at += (have / 8) as usize;
                pending = pending.checked_shr(have & !7).unwrap_or(0);
                have &= 7;
                let (value, bits) = next(i);
                pending |= value << have;
                have += bits;
            }
            self.bytes.truncate(at);
            (self.pending, self.count) = (pending, have);
        }
    }

    /// Appends the bytes to `out`, the last one padded with zero bits.
    ///
    /// The writer is empty afterwards and keeps its memory.
    pub fn finish_into(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(&self.pending.to_le_bytes()[..self.count.div_ceil(8) as usize]);
        self.bytes.clear();
        self.pending = 0;
        self.count = 0;
    }
}

/// Reader of the output of a [`BitWriter`].
///
/// Reading past the end yields zero bits, without a branch per value; [`BitReader::is_exact`] tells
/// afterwards whether that happened.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::bits::BitReader;
///
/// let mut reader = BitReader::new(&[0b0000_1101, 0]);
/// assert_eq!((reader.take(3), reader.take(6)), (0b101, 1));
/// assert!(reader.is_exact());
/// assert_eq!(reader.take(64), 0);
/// assert!(!reader.is_exact());
/// ```
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// Creates a reader at the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, position: 0 }
    }

    /// Returns the 64 bits from bit `at` on, zeros past the end.
    #[inline]
    fn window(&self, at: usize) -> u64 {
        let byte = at / 8;
        match self.bytes.get(byte..byte + 8) {
            Some(b) => {
                u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) >> (at % 8)
            }
            None => self.window_at_end(byte) >> (at % 8),
        }
    }

    #[cold]
    fn window_at_end(&self, byte: usize) -> u64 {
        let mut b = [0; 8];
        let rest = self.bytes.get(byte..).unwrap_or_default();
        let n = rest.len().min(8);
        b[..n].copy_from_slice(&rest[..n]);
        u64::from_le_bytes(b)
    }

    /// Takes the next `count` bits, at most 64.
    #[inline]
    pub fn take(&mut self, count: u32) -> u64 {
        let mut value = self.window(self.position);
        if count > 56 {
            value = (value & ((1 << 56) - 1)) | self.window(self.position + 56) << 56;
        }
        self.position += count as usize;
        if count == 64 { value } else { value & ((1u64 << count) - 1) }
    }

    /// Returns true if everything was read.
    ///
    /// That is: no bit past the end, no whole byte left over, and padding of zeros.
    pub fn is_exact(&self) -> bool {
        self.position.div_ceil(8) == self.bytes.len() && self.window(self.position) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(values in prop::collection::vec((any::<u64>(), 0u32..=64), 0..200)) {
            let values: Vec<_> =
                values.into_iter().map(|(v, n)| (if n == 64 { v } else { v & ((1u64 << n) - 1) },
                    n)).collect();
            let mut w = BitWriter::new();
            for &(v, n) in &values {
                w.put(v, n);
            }
            let mut bytes = Vec::new();
            w.finish_into(&mut bytes);
            prop_assert_eq!(bytes.len() as u64, values.iter().map(|v| u64::from(v.1)).sum::<u64>()
                .div_ceil(8));
            let mut r = BitReader::new(&bytes);
            for &(v, n) in &values {
                prop_assert_eq!(r.take(n), v);
            }
            prop_assert!(r.is_exact());
            let mut many = BitWriter::new();
            let few: Vec<_> = values.iter().map(|&(v, n)| if n > 56 { (v >> 8, n - 8) } else {
                (v, n) }).collect();
            let (first, rest) = few.split_at(few.len() / 3);
            first.iter().for_each(|v| w.put(v.0, v.1));
            many.put_many(first.len(), |i| first[i]);
            rest.iter().for_each(|v| w.put(v.0, v.1));
            rest.iter().take(2).for_each(|v| many.put(v.0, v.1));
            let rest = &rest[rest.len().min(2)..];
            many.put_many(rest.len(), |i| rest[i]);
            let (mut want, mut got) = (Vec::new(), Vec::new());
            w.finish_into(&mut want);
            many.finish_into(&mut got);
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn past_the_end() {
        let mut r = BitReader::new(&[0xff]);
        assert_eq!(r.take(12), 0xff);
        assert!(!r.is_exact());
        assert!(!BitReader::new(&[0xff]).is_exact());
    }
}
