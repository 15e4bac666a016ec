//! The arrays of NumPy's `.npy` and `.npz` files.

use super::zip::{Zip, u16_at, u32_at};
use crate::header::HeaderTensor;
use sparse_core::{ByteSource, Dtype, TensorSpec};
use std::ops::Range;

/// Longest header of an array: NumPy writes up to 10,000 bytes.
const MAX_HEADER_BYTES: u64 = 1 << 16;

/// Most dimensions that NumPy has.
const MAX_DIMENSIONS: usize = 64;

/// Name of the only array of a file.
const NAME: &str = "array";

/// Reads the array that `file` is; `None` if it is none.
pub(super) fn array(file: &dyn ByteSource) -> Option<Vec<HeaderTensor>> {
    Some(vec![read(file, NAME, 0..file.byte_len())?])
}

/// Reads the arrays of the archive `file`; `None` if it is none.
pub(super) fn archive(file: &dyn ByteSource) -> Option<Vec<HeaderTensor>> {
    let zip = Zip::open(file)?;
    let names = zip.names().filter_map(|n| Some((n, n.strip_suffix(".npy")?)));
    Some(names.filter_map(|(member, name)| read(file, name, zip.range(member)?)).collect())
}

/// Reads the array in a range of a file.
fn read(file: &dyn ByteSource, name: &str, range: Range<u64>) -> Option<HeaderTensor> {
    let room = range.end.checked_sub(range.start)?;
    let len = usize::try_from(room.min(MAX_HEADER_BYTES)).ok()?;
    let bytes = file.bytes_at(range.start, len).ok()?;
    let (spec, data) = parse(&bytes)?;
    let whole = data.checked_add(spec.byte_len())? <= room;
    whole.then(|| HeaderTensor { name: name.to_owned(), spec, offset: range.start + data })
}

/// Reads a header: type and shape in the order in which the elements lie, and where they begin.
fn parse(bytes: &[u8]) -> Option<(TensorSpec, u64)> {
    let version = bytes.strip_prefix(b"\x93NUMPY")?.first()?;
    let (start, len) = match version {
        1 => (10, u16_at(bytes, 8)?.into()),
        2 | 3 => (12, usize::try_from(u32_at(bytes, 8)?).ok()?),
        _ => return None,
    };
    let text = std::str::from_utf8(bytes.get(start..)?.get(..len)?).ok()?;
    let value = |key: &str| Some(text.split_once(key)?.1.trim_start());
    let dtype = match value("'descr':")?.strip_prefix('\'')?.split_once('\'')?.0 {
        "|b1" => Dtype::Bool,
        "|u1" => Dtype::U8,
        "|i1" => Dtype::I8,
        "<u2" => Dtype::U16,
        "<i2" => Dtype::I16,
        "<u4" => Dtype::U32,
        "<i4" => Dtype::I32,
        "<u8" => Dtype::U64,
        "<i8" => Dtype::I64,
        "<f2" => Dtype::F16,
        "<f4" => Dtype::F32,
        "<f8" => Dtype::F64,
        "<c8" => Dtype::C64,
        // What NumPy makes of bfloat16.
        "|V2" | "<V2" => Dtype::Bf16,
        _ => return None,
    };
    let turned = value("'fortran_order':")?.starts_with("True");
    let shape = value("'shape':")?.strip_prefix('(')?.split_once(')')?.0;
    let numbers = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let mut shape = numbers.map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>()?;
    if shape.len() > MAX_DIMENSIONS {
        return None;
    }
    if turned {
        shape.reverse();
    }
    Some((TensorSpec::new(dtype, shape).ok()?, (start + len) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let len = (header.len() as u16).to_le_bytes();
        [&b"\x93NUMPY\x01\0"[..], &len, header.as_bytes(), &vec![1; data]].concat()
    }

    #[test]
    fn headers() {
        let of = |header: &str, data| array(&file(header, data));
        let spec = |dtype, shape: &[u64]| TensorSpec::new(dtype, shape).unwrap();
        let one = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n";
        let found = of(one, 24).unwrap();
        assert_eq!(
            (&found[0].spec, found[0].offset),
            (&spec(Dtype::F32, &[2, 3]), 10 + one.len() as u64)
        );
        let turned = "{'descr': '<i8', 'fortran_order': True, 'shape': (2, 3), }\n";
        assert_eq!(of(turned, 48).unwrap()[0].spec, spec(Dtype::I64, &[3, 2]));
        let scalar = "{'descr': '|u1', 'fortran_order': False, 'shape': (), }\n";
        assert_eq!(of(scalar, 1).unwrap()[0].spec, spec(Dtype::U8, &[]));
        assert_eq!(of(one, 23), None);
        for bad in [
            "",
            "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999)}",
        ] {
            assert_eq!(of(bad, 100), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_do_not_panic(header: String) {
            let _ = array(&file(&header, 10));
        }
    }
}
