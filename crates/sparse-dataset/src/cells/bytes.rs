//! Coding of the bytes of cells, each predicted from earlier bytes of its cell, its column and its
//! row.

use crate::cm::{COLUMNS, Coder, Model, Predictions, Streams, mix};
use sparse_core::{Error, ErrorKind, Result};

/// Context in which a cell is coded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setting<'a> {
    /// Number of the column.
    pub(crate) column: u64,
    /// Hashes of the cells of the same row that predict this one best.
    pub(crate) parents: [u64; 2],
    /// Counterpart of the cell in the base.
    pub(crate) aligned: Option<&'a [u8]>,
    /// The cell above, in the same column.
    pub(crate) above: Option<&'a [u8]>,
    /// Whether long values go to the bulk, for the faster compressor.
    pub(crate) bulk: bool,
}

/// Length from which cells go to the bulk, in bytes.
const BULK_FROM: usize = 24;

/// Bytes that are hashed to find repetitions.
const MATCH_MIN: usize = 5;
const MATCH_BITS: u32 = 18;

/// The stream of lengths of cells.
const BYTES_LEN: usize = 63;

/// Codes cells, and remembers them.
pub(crate) struct CellCoder {
    pub(crate) model: Model,
    /// All cells so far, each followed by a zero byte.
    history: Vec<u8>,
    /// Last place of each hash of `MATCH_MIN` bytes.
    last_seen: Vec<u32>,
    /// Continuation of the longest repetition in `history`, and its length so far.
    repeat: Option<(usize, u32)>,
    /// Long values for the faster compressor; when decoding, those that are left.
    pub(crate) bulk: Vec<u8>,
    bulk_at: usize,
    /// Bytes that decoding may still produce, which bounds memory on garbage.
    pub(crate) allowance: usize,
    /// Bytes of finished cells that decoding may still produce, as stored in columns.
    pub(crate) room: usize,
}

impl CellCoder {
    pub(crate) fn new(bits: u8, bulk: Vec<u8>, allowance: usize) -> CellCoder {
        CellCoder {
            model: Model::new(bits),
            history: Vec::new(),
            last_seen: vec![0; 1 << MATCH_BITS],
            repeat: None,
            bulk,
            bulk_at: 0,
            allowance,
            room: usize::MAX,
        }
    }

    /// Returns a coder that decodes by the predictions of the encoder.
    pub(crate) fn recalling(kept: Predictions, bulk: Vec<u8>, allowance: usize) -> CellCoder {
        let last_seen = vec![0; 1 << MATCH_BITS];
        CellCoder {
            model: Model::recalling(kept),
            last_seen,
            bulk,
            ..CellCoder::plain(Streams::default(), allowance)
        }
    }

    /// Returns a coder that writes all values to streams, or reads them from there.
    pub(crate) fn plain(streams: Streams, allowance: usize) -> CellCoder {
        CellCoder {
            model: Model::plain(streams),
            history: Vec::new(),
            last_seen: Vec::new(),
            repeat: None,
            bulk: Vec::new(),
            bulk_at: 0,
            allowance,
            room: usize::MAX,
        }
    }

    /// Writes the bytes of a cell to the stream of its column, or reads them from there.
    ///
    /// # Errors
    /// When decoding, `Corrupt` or `LimitExceeded`.
    pub(crate) fn plain_bytes<C: Coder>(&mut self, column: u64, value: &[u8]) -> Result<Vec<u8>> {
        let key = COLUMNS + column as usize;
        let Some(streams) = &mut self.model.streams else {
            return Err(Error::invalid_argument("the layout has no streams"));
        };
        if !C::DECODES {
            streams.put_uint(BYTES_LEN, value.len() as u64);
            streams.put(key, value);
            return Ok(Vec::new());
        }
        let len = usize::try_from(streams.take_uint(BYTES_LEN)).unwrap_or(usize::MAX);
        let cell = streams.take(key, len).to_vec();
        streams.check()?;
        self.spend(cell.len())?;
        Ok(cell)
    }

    /// Returns true if no byte of the bulk is left.
    pub(crate) fn bulk_is_used(&self) -> bool {
        self.bulk_at == self.bulk.len()
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.allowance = self.allowance.checked_sub(bytes).ok_or_else(|| {
            Error::new(
                ErrorKind::LimitExceeded,
                "a row group decodes to more bytes than it may \
                take",
            )
        })?;
        Ok(())
    }

    /// Codes a value of any length. A decoder ignores `value`.
    ///
    /// # Errors
    /// When decoding, `Corrupt` or `LimitExceeded`.
    pub(crate) fn value<C: Coder>(
        &mut self,
        coder: &mut C,
        s: &Setting<'_>,
        value: &[u8],
    ) -> Result<Vec<u8>> {
        if self.model.streams.is_some() {
            return self.plain_bytes::<C>(s.column, value);
        }
        if s.bulk {
            let c = [s.column, s.column << 1 | u64::from(s.aligned.is_some())];
            if self.model.flag(coder, 40, &c, value.len() >= BULK_FROM) {
                let len = self.model.uint(coder, 41, &[s.column, 0], value.len() as u64);
                return self.take_bulk(C::DECODES, value, len);
            }
        }
        self.bytes(coder, s, value)
    }

    fn take_bulk(&mut self, decodes: bool, value: &[u8], len: u64) -> Result<Vec<u8>> {
        if !decodes {
            self.bulk.extend_from_slice(value);
            return Ok(Vec::new());
        }
        let end = usize::try_from(len).ok().and_then(|n| self.bulk_at.checked_add(n));
        let cell = end.and_then(|end| self.bulk.get(self.bulk_at..end)).map(<[u8]>::to_vec);
        let cell = cell.ok_or_else(|| Error::corrupt("a long value is cut short"))?;
        self.bulk_at += cell.len();
        self.spend(cell.len())?;
        Ok(cell)
    }

    /// Codes bytes up to their end. A zero byte is the end, or itself if a flag says so.
    fn bytes<C: Coder>(&mut self, coder: &mut C, s: &Setting<'_>, value: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut line = Line::new(s);
        let mut at = 0;
        loop {
            let next = value.get(at).copied();
            let byte = self.byte(coder, s, &mut line, next.unwrap_or(0));
            if byte == 0 {
                let ends = self.model.flag(coder, 42, &[s.column], next.is_none());
                self.remember(0);
                if ends {
                    return Ok(out);
                }
            } else {
                self.remember(byte);
            }
            if C::DECODES {
                self.spend(1)?;
                out.push(byte);
            }
            at += 1;
            line.advance(s, byte);
        }
    }

    fn byte<C: Coder>(&mut self, coder: &mut C, s: &Setting<'_>, line: &mut Line, byte: u8) -> u8 {
        let col = (s.column + 1) << 40;
        let [c1, c2, c3, c4, c5, c6] = line.last.map(u64::from);
        let expected = line.aligned(s);
        let above = s.above.map_or(256, |a| a.get(line.at).map_or(0, |&b| u64::from(b)));
        let repeated =
            self.repeat.and_then(|(p, n)| self.history.get(p).map(|&b| (u64::from(b), n.min(20))));
        let order3 = c1 | c2 << 8 | c3 << 16;
        let contexts: [u64; 15] = [
            mix(col, 1),
            mix(col | c1, 2),
            mix(col | c1 | c2 << 8, 3),
            mix(order3, 4),
            mix(order3 | c4 << 24, 5),
            mix(order3 | c4 << 24 | c5 << 32 | c6 << 40, 6),
            mix(line.word, 7),
            mix(col ^ line.prefix, 8),
            mix(mix(col ^ line.prefix, s.parents[0]), 9),
            mix(mix(mix(col ^ line.prefix, s.parents[0]), s.parents[1]), 10),
            mix(mix(col ^ line.prefix, line.above), 11),
            mix(mix(col | expected.0 << 8 | expected.1 << 20, 12), c1 & line.same_mask()),
            mix(
                mix(col | above << 8 | u64::from(line.like_above) << 20, line.at.min(40) as u64),
                13,
            ),
            mix(repeated.map_or(0, |(b, n)| b << 8 | u64::from(n) | 1 << 20), 14),
            mix(mix(line.word, line.word_before), 15),
        ];
        let state = usize::from(repeated.is_some()) << 2 | (expected.1.min(3) as usize) << 3;
        self.model.byte(coder, &contexts, state, byte)
    }

    fn remember(&mut self, byte: u8) {
        if let Some((p, n)) = self.repeat {
            self.repeat = (self.history.get(p) == Some(&byte)).then_some((p + 1, n + 1));
        }
        self.history.push(byte);
        let len = self.history.len();
        if len >= MATCH_MIN {
            let h =
                self.history[len - MATCH_MIN..].iter().fold(0u64, |h, &b| h << 8 | u64::from(b));
            let i = (h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - MATCH_BITS)) as usize;
            if self.repeat.is_none() && self.last_seen[i] > 0 {
                self.repeat = Some((self.last_seen[i] as usize, 0));
            }
            self.last_seen[i] = len as u32;
        }
    }
}

/// State within a cell.
struct Line {
    at: usize,
    last: [u8; 6],
    prefix: u64,
    word: u64,
    word_before: u64,
    above: u64,
    like_above: bool,
    /// Assumed position in the counterpart, and the number of bytes that agreed up to here.
    pointer: usize,
    agreed: u64,
}

impl Line {
    fn new(s: &Setting<'_>) -> Line {
        Line {
            at: 0,
            last: [0; 6],
            prefix: 0,
            word: 0,
            word_before: 0,
            above: s.above.map_or(0, |a| a.iter().fold(1, |h, &b| mix(h, u64::from(b)))),
            like_above: true,
            pointer: 0,
            agreed: 2,
        }
    }

    /// Returns the byte that the counterpart suggests (256 for none), and the confidence in it.
    fn aligned(&self, s: &Setting<'_>) -> (u64, u64) {
        match s.aligned {
            None => (256, 0),
            Some(a) => (a.get(self.pointer).map_or(0, |&b| u64::from(b)), self.agreed.min(15)),
        }
    }

    fn same_mask(&self) -> u64 {
        if self.agreed < 4 { 0xff } else { 0 }
    }

    fn advance(&mut self, s: &Setting<'_>, byte: u8) {
        if let Some(a) = s.aligned {
            if a.get(self.pointer) == Some(&byte) {
                self.agreed += 1;
                self.pointer += 1;
            } else {
                self.agreed = 1;
                // Search up to 8 bytes ahead: something may have been deleted.
                let ahead = a.iter().skip(self.pointer + 1).take(8).position(|&b| b == byte);
                self.pointer += match ahead {
                    Some(skip) if byte.is_ascii_alphanumeric() => skip + 2,
                    _ => 1,
                };
            }
        }
        self.like_above &= s.above.and_then(|a| a.get(self.at)) == Some(&byte);
        self.at += 1;
        self.last.rotate_right(1);
        self.last[0] = byte;
        self.prefix = mix(self.prefix, u64::from(byte) + 1);
        if byte.is_ascii_alphanumeric() || byte >= 0x80 {
            self.word = mix(self.word, u64::from(byte.to_ascii_lowercase()) + 1);
        } else if self.word != 0 {
            self.word_before = self.word;
            self.word = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cm::{Decoder, Encoder};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(cells in prop::collection::vec((any::<Vec<u8>>(),
            prop::option::of(any::<Vec<u8>>())), 0..20), bulk: bool) {
            let setting = |i: usize, base: &'static [u8]| Setting { column: i as u64 % 3,
                parents: [i as u64, 7], aligned: Some(base), bulk, ..Setting::default() };
            let mut e = Encoder::new();
            let mut c = CellCoder::new(16, Vec::new(), 0);
            for (i, (cell, _)) in cells.iter().enumerate() {
                c.value(&mut e, &setting(i, b"base cell"), cell).unwrap();
            }
            let (bytes, bulk_bytes) = (e.finish(), std::mem::take(&mut c.bulk));
            let mut d = Decoder::new(&bytes);
            let mut c = CellCoder::new(16, bulk_bytes, 1 << 20);
            for (i, (cell, _)) in cells.iter().enumerate() {
                prop_assert_eq!(&c.value(&mut d, &setting(i, b"base cell"), &[]).unwrap(), cell);
            }
            prop_assert!(c.bulk_is_used());
        }
    }

    #[test]
    fn garbage_ends() {
        let mut c = CellCoder::new(12, Vec::new(), 10_000);
        let bytes: Vec<u8> =
            (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut d = Decoder::new(&bytes);
        let mut n = 0;
        while c.value(&mut d, &Setting::default(), &[]).is_ok() && n < 100_000 {
            n += 1;
        }
        assert!(c.allowance == 0 || n > 0);
    }
}
