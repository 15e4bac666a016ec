//! Bytes with zeros behind them.

/// Zeros behind the data: more than any kernel reads past a position at or before its end.
pub(super) const PADDING: usize = 128;

/// Copy of a byte string with zeros behind it, so that vectors can be loaded at its end.
///
/// Reuse one: filling it again keeps its memory.
///
/// # Examples
///
/// ```
/// use sparse_codecs::simd::Padded;
///
/// let mut words = Padded::new();
/// words.fill(&[1, 2, 3]);
/// assert_eq!((words.bytes(), words.len()), (&[1, 2, 3][..], 3));
/// ```
#[derive(Clone, Debug)]
pub struct Padded {
    /// Always `len + PADDING` bytes or more, of which those from `len` to `len + PADDING` are zero.
    bytes: Vec<u8>,
    len: usize,
}

impl Default for Padded {
    fn default() -> Self {
        Padded { bytes: vec![0; PADDING], len: 0 }
    }
}

impl Padded {
    /// Creates an empty string.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies `bytes` in; what was here is gone.
    pub fn fill(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.reserve(bytes.len() + PADDING);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(&[0; PADDING]);
        self.len = bytes.len();
    }

    /// Returns the bytes, without the zeros.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the length in bytes, without the zeros.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a pointer to the bytes.
    ///
    /// From it plus at most `len`, `PADDING` bytes can be read.
    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// Returns at least 57 bits from bit `position` on, zeros past the end.
    #[inline(always)]
    pub(crate) fn window(&self, position: usize) -> u64 {
        let byte = (position / 8).min(self.len);
        // SAFETY: `byte <= len`, and `len + PADDING` bytes are there.
        let word = unsafe { self.as_ptr().add(byte).cast::<u64>().read_unaligned() };
        u64::from_le(word) >> (position % 8)
    }

    /// Returns true if a reader at bit `position` has read everything.
    ///
    /// That is: no bit past the end, no whole byte left over, and padding of zeros.
    pub(crate) fn is_exact(&self, position: usize) -> bool {
        position.div_ceil(8) == self.len && self.window(position) == 0
    }

    /// Returns the 16-bit little-endian word at index `at`, zero past the end.
    ///
    /// Half a word at the end counts as one.
    #[inline(always)]
    pub(crate) fn word(&self, at: usize) -> u32 {
        let byte = at.saturating_mul(2).min(self.len);
        // SAFETY: `byte <= len`, and `len + PADDING` bytes are there.
        let word = unsafe { self.as_ptr().add(byte).cast::<u16>().read_unaligned() };
        u16::from_le(word).into()
    }
}
