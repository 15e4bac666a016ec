//! Bits to bytes, the lowest bit first.

/// Writes bits.
#[derive(Debug, Default)]
pub(super) struct Bits {
    pub(super) out: Vec<u8>,
    open: u64,
    count: u32,
}

impl Bits {
    /// Appends the lowest `count` bits, at most 16.
    #[inline]
    pub(super) fn put(&mut self, bits: u32, count: u32) {
        self.open |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.open as u8);
            self.open >>= 8;
            self.count -= 8;
        }
    }

    /// Fills the last byte.
    pub(super) fn align(&mut self) {
        if self.count > 0 {
            self.out.push(self.open as u8);
        }
        (self.open, self.count) = (0, 0);
    }
}
