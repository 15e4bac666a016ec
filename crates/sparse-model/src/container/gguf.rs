//! The tensors of a GGUF file. Quantised ones are rows of bytes, block by block.

use crate::header::HeaderTensor;
use sparse_core::{ByteSource, Dtype, TensorSpec};

/// Most bytes before the tensors: a vocabulary of 256,000 tokens has about 10 MB.
const MAX_HEAD_BYTES: u64 = 256 << 20;

/// Most bytes of a head that are read at first; more are read where they do not suffice.
const FIRST_READ: u64 = 1 << 20;

/// Most tensors.
const MAX_TENSORS: u64 = 1 << 20;

/// Most dimensions.
const MAX_DIMENSIONS: u32 = 8;

/// Reads the tensors of `file`; `None` if it is no such file.
pub(super) fn tensors(file: &dyn ByteSource) -> Option<Vec<HeaderTensor>> {
    let most = file.byte_len().min(MAX_HEAD_BYTES);
    let mut len = most.min(FIRST_READ);
    loop {
        let bytes = file.bytes_at(0, usize::try_from(len).ok()?).ok()?;
        match parse(&bytes) {
            Some(tensors) => return Some(tensors),
            None if len < most && bytes.starts_with(b"GGUF") => len = most.min(len * 8),
            None => return None,
        }
    }
}

/// Reads a head; `None` if it is wrong, or goes on after `bytes`.
fn parse(bytes: &[u8]) -> Option<Vec<HeaderTensor>> {
    let mut head = Head { bytes, at: 0 };
    if head.take(4)? != b"GGUF" || !(2..=3).contains(&head.u32()?) {
        return None;
    }
    let (tensors, values) = (head.u64()?, head.u64()?);
    if tensors > MAX_TENSORS {
        return None;
    }
    let mut alignment = 32;
    for _ in 0..values {
        let is_alignment = head.text()? == b"general.alignment";
        let kind = head.u32()?;
        if is_alignment && kind == 4 {
            alignment = u64::from(head.u32()?);
        } else {
            head.skip(kind)?;
        }
    }
    let mut found = Vec::new();
    for _ in 0..tensors {
        let name = std::str::from_utf8(head.text()?).ok()?.to_owned();
        let rank = head.u32()?;
        if rank > MAX_DIMENSIONS {
            return None;
        }
        // The first dimension is the innermost.
        let mut shape = (0..rank).map(|_| head.u64()).collect::<Option<Vec<u64>>>()?;
        shape.reverse();
        let (kind, offset) = (head.u32()?, head.u64()?);
        if let Some(spec) = spec(kind, shape) {
            found.push(HeaderTensor { name, spec, offset });
        }
    }
    if !alignment.is_power_of_two() {
        return None;
    }
    let data = (head.at as u64).next_multiple_of(alignment);
    for tensor in &mut found {
        tensor.offset = tensor.offset.checked_add(data)?;
    }
    Some(found)
}

/// Returns what a tensor of ggml's type `kind` is here; `None` for a type that is not known.
fn spec(kind: u32, mut shape: Vec<u64>) -> Option<TensorSpec> {
    let whole = match kind {
        0 => Some(Dtype::F32),
        1 => Some(Dtype::F16),
        24 => Some(Dtype::I8),
        25 => Some(Dtype::I16),
        26 => Some(Dtype::I32),
        27 => Some(Dtype::I64),
        28 => Some(Dtype::F64),
        30 => Some(Dtype::Bf16),
        _ => None,
    };
    if let Some(dtype) = whole {
        return TensorSpec::new(dtype, shape).ok();
    }
    let (block, bytes) = match kind {
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        _ => return None,
    };
    let row = shape.last_mut()?;
    if !row.is_multiple_of(block) {
        return None;
    }
    *row = (*row / block).checked_mul(bytes)?;
    TensorSpec::new(Dtype::U8, shape).ok()
}

/// Head that is being read.
struct Head<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Head<'a> {
    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(len).ok()?)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|b| u64::from_le_bytes(*b))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.u64()?;
        self.take(len)
    }

    /// Skips a value of type `kind`.
    fn skip(&mut self, kind: u32) -> Option<()> {
        match kind {
            8 => self.text().map(drop),
            9 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                match kind {
                    8 => (0..count).try_for_each(|_| self.text().map(drop)),
                    // Lists of lists are in no file that is known.
                    kind => self.take(count.checked_mul(width(kind)?)?).map(drop),
                }
            }
            kind => self.take(width(kind)?).map(drop),
        }
    }
}

/// Returns the bytes of a value of a type of one width.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(s: &str) -> Vec<u8> {
        [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
    }

    fn head() -> Vec<u8> {
        let mut out = [&b"GGUF\x03\0\0\0"[..], &3u64.to_le_bytes(), &2u64.to_le_bytes()].concat();
        out.extend([text("general.alignment"), vec![4, 0, 0, 0, 64, 0, 0, 0]].concat());
        let words = [&[8, 0, 0, 0][..], &2u64.to_le_bytes(), &text("a"), &text("bc")].concat();
        out.extend([text("tokens"), vec![9, 0, 0, 0], words].concat());
        for (name, shape, kind, offset) in [
            ("plain", &[3u64, 2][..], 0u32, 0u64),
            ("blocks", &[64, 2], 8, 64),
            ("odd", &[1], 99, 256),
        ] {
            out.extend([text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat());
            out.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
            out.extend([&kind.to_le_bytes()[..], &offset.to_le_bytes()].concat());
        }
        out
    }

    #[test]
    fn plain_and_quantised_tensors() {
        let head = head();
        let data = (head.len() as u64).next_multiple_of(64);
        let file = [&head[..], &[0; 1000]].concat();
        let found = tensors(&file).unwrap();
        let want = |name: &str, dtype, shape: &[u64], offset| HeaderTensor {
            name: name.into(),
            spec: TensorSpec::new(dtype, shape).unwrap(),
            offset,
        };
        assert_eq!(
            found,
            [
                want("plain", Dtype::F32, &[2, 3], data),
                want("blocks", Dtype::U8, &[2, 68], data + 64)
            ]
        );
        // A head that is cut short anywhere says nothing.
        for len in 0..head.len() {
            assert_eq!(tensors(&head[..len].to_vec()), None);
        }
    }

    proptest! {
        #[test]
        fn damage_does_not_panic(at in 0usize..200, byte: u8, more: [u8; 8]) {
            let mut head = head();
            let at = at.min(head.len() - 8);
            head[at] = byte;
            let _ = parse(&head);
            head[at..at + 8].copy_from_slice(&more);
            let _ = parse(&head);
        }
    }
}
