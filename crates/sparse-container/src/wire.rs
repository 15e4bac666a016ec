//! The primitives of the index: integers, columns, strings.

use sparse_core::{Dtype, Error, Limits, Result, TensorSpec, varint};

/// Appends `value` as its difference from `expected`, modulo 2^64, zigzag.
pub(crate) fn put_delta(out: &mut Vec<u8>, value: u64, expected: u64) {
    varint::put(out, varint::zigzag(value.wrapping_sub(expected) as i64));
}

/// Appends a string by itself.
pub(crate) fn put_string(out: &mut Vec<u8>, s: &str) {
    varint::put(out, s.len() as u64);
    out.extend_from_slice(s.as_bytes());
}

/// Byte that ends a string; no UTF-8 text contains it.
const END: u8 = 0xff;

/// Writer of strings, each front-coded against the one before: the number of bytes to drop from
/// that, and the rest.
///
/// Counting what is dropped, not what is kept, makes the numbers repeat where the names do.
#[derive(Default)]
pub(crate) struct FrontCoder<'a> {
    previous: &'a [u8],
}

impl<'a> FrontCoder<'a> {
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, s: &'a str) {
        let s = s.as_bytes();
        let shared = self.previous.iter().zip(s).take_while(|(a, b)| a == b).count();
        varint::put(out, (self.previous.len() - shared) as u64);
        out.extend_from_slice(s.get(shared..).unwrap_or_default());
        out.push(END);
        self.previous = s;
    }
}

/// Appends a list of strings.
pub(crate) fn put_strings<'a>(out: &mut Vec<u8>, strings: impl Iterator<Item = &'a str>) {
    let mut coder = FrontCoder::default();
    strings.for_each(|s| coder.put(out, s));
}

/// Appends a spec.
pub(crate) fn put_spec(out: &mut Vec<u8>, spec: &TensorSpec) {
    out.push(spec.dtype().code());
    varint::put(out, spec.shape().len() as u64);
    spec.shape().iter().for_each(|&d| varint::put(out, d));
}

/// Reader of an index, front to back. Memory is drawn from a budget before it is taken.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    len: usize,
    spent: u64,
    budget: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], budget: u64) -> Self {
        Cursor { bytes, len: bytes.len(), spent: 0, budget }
    }

    /// Returns an error at the current place.
    pub(crate) fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::corrupt(format!("index byte {}: {what}", self.len - self.bytes.len()))
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Draws `count * each` bytes of memory from the budget.
    pub(crate) fn spend(&mut self, count: usize, each: usize) -> Result<()> {
        self.spent = self.spent.saturating_add((count as u64).saturating_mul(each as u64));
        Limits::check("memory for the index", self.spent, self.budget)
    }

    pub(crate) fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or_else(|| {
            self.bad(format_args!(
                "{what}: {n} bytes are expected, but {} are left",
                self.bytes.len()
            ))
        })?;
        self.bytes = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    pub(crate) fn varint(&mut self, what: &str) -> Result<u64> {
        varint::take_shortest(&mut self.bytes).map_err(|e| self.bad(format_args!("{what}: {e}")))
    }

    /// Reads a number that counts things of at least one byte that are to come.
    pub(crate) fn count(&mut self, what: &str) -> Result<usize> {
        let n = self.varint(what)?;
        self.check_count(n, what)
    }

    /// Checks a number from elsewhere as [`count`](Self::count) does.
    pub(crate) fn check_count(&self, n: u64, what: &str) -> Result<usize> {
        let left = self.bytes.len();
        usize::try_from(n).ok().filter(|&n| n <= left && n <= u32::MAX as usize).ok_or_else(|| {
            self.bad(format_args!("{what}: {n} do not fit into the {left} bytes that are left"))
        })
    }

    pub(crate) fn delta(&mut self, expected: u64, what: &str) -> Result<u64> {
        Ok(expected.wrapping_add(varint::unzigzag(self.varint(what)?) as u64))
    }

    pub(crate) fn string(&mut self, what: &str) -> Result<String> {
        let n = self.count(what)?;
        self.spend(n, 1)?;
        let bytes = self.take(n, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.bad(format_args!("{what}: not UTF-8")))
    }

    /// Reads a column of integers.
    pub(crate) fn varints(&mut self, n: usize, what: &str) -> Result<Vec<u64>> {
        self.check_count(n as u64, what)?;
        self.spend(n, size_of::<u64>())?;
        (0..n).map(|_| self.varint(what)).collect()
    }

    /// Reads a column of integers and their sum, which counts things to come.
    pub(crate) fn counts(&mut self, n: usize, what: &str) -> Result<(Vec<u64>, usize)> {
        let column = self.varints(n, what)?;
        let sum = column.iter().fold(0, |a: u64, &b| a.saturating_add(b));
        let sum = self.check_count(sum, what)?;
        Ok((column, sum))
    }

    /// Reads a column of 32-bit indices.
    ///
    /// Each is a difference from the one before plus `step`.
    pub(crate) fn indices(&mut self, n: usize, step: u64, what: &str) -> Result<Vec<u32>> {
        self.check_count(n as u64, what)?;
        self.spend(n, size_of::<u32>())?;
        let mut expected = 0;
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            let value = self.delta(expected, what)?;
            out.push(
                u32::try_from(value)
                    .map_err(|_| self.bad(format_args!("{what}: index {value} exceeds 32 bits")))?,
            );
            expected = value.wrapping_add(step);
        }
        Ok(out)
    }

    /// Reads a front-coded string, `previous` being the one before.
    pub(crate) fn next_string(&mut self, previous: &str, what: &str) -> Result<String> {
        let drop = self.varint(what)?;
        let head = usize::try_from(drop)
            .ok()
            .and_then(|n| previous.len().checked_sub(n))
            .and_then(|n| previous.as_bytes().get(..n))
            .ok_or_else(|| {
                self.bad(format_args!(
                    "{what}: shares a longer prefix than the name \
                before has"
                ))
            })?;
        let len = self
            .bytes
            .iter()
            .position(|&b| b == END)
            .ok_or_else(|| self.bad(format_args!("{what}: a name has no end")))?;
        // Here a few bytes of file can ask for much memory.
        self.spend(1, size_of::<String>() + head.len() + len)?;
        let s = String::from_utf8([head, self.take(len, what)?].concat())
            .map_err(|_| self.bad(format_args!("{what}: not UTF-8")))?;
        self.take(1, what)?;
        Ok(s)
    }

    /// Reads a list of strings.
    pub(crate) fn strings(&mut self, n: usize, what: &str) -> Result<Vec<String>> {
        self.check_count(n as u64, what)?;
        let mut out: Vec<String> = Vec::with_capacity(n);
        for _ in 0..n {
            let s = self.next_string(out.last().map_or("", |s| s), what)?;
            out.push(s);
        }
        Ok(out)
    }

    pub(crate) fn dtype(&self, code: u8, what: &str) -> Result<Dtype> {
        Dtype::from_code(code)
            .ok_or_else(|| self.bad(format_args!("{what}: unknown element type {code}")))
    }

    pub(crate) fn spec(&mut self, what: &str) -> Result<TensorSpec> {
        let [code] = self.array(what)?;
        let dtype = self.dtype(code, what)?;
        let rank = self.count(what)?;
        let shape = self.varints(rank, what)?;
        TensorSpec::new(dtype, shape).map_err(|e| self.bad(format_args!("{what}: {}", e.message())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for v in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            varint::put(&mut out, v);
            assert_eq!(Cursor::new(&out, 0).varint("x").unwrap(), v);
            assert!(Cursor::new(&out[..out.len() - 1], 0).varint("x").is_err());
            for expected in [0, 1, 77, u64::MAX] {
                let mut out = Vec::new();
                put_delta(&mut out, v, expected);
                assert_eq!(Cursor::new(&out, 0).delta(expected, "x").unwrap(), v);
            }
        }
        for bad in [
            &[0x80, 0][..],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(Cursor::new(bad, 0).varint("x").is_err());
        }
        let mut out = Vec::new();
        put_delta(&mut out, 4, 5);
        assert_eq!(out, [1]);
    }

    #[test]
    fn strings_draw_on_the_budget() {
        let long = "x".repeat(1000);
        let mut out = Vec::new();
        put_strings(&mut out, (0..100).map(|_| long.as_str()));
        assert!(out.len() < 1300);
        assert_eq!(Cursor::new(&out, 1 << 20).strings(100, "x").unwrap(), vec![long; 100]);
        let e = Cursor::new(&out, 1 << 16).strings(100, "x").unwrap_err();
        assert_eq!(e.kind(), sparse_core::ErrorKind::LimitExceeded);
    }

    #[test]
    fn prefixes_are_cut_by_bytes() {
        let names = ["a\u{e9}", "a\u{e8}", "", "b"];
        let mut out = Vec::new();
        put_strings(&mut out, names.into_iter());
        assert_eq!(Cursor::new(&out, 1 << 20).strings(4, "x").unwrap(), names);
    }
}
