//! Writers of files of tensors in other forms than safetensors. Golden files stand for what they
//! write: they never write other bytes.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity, reason = "tests")]

use super::support::{Files, T};
use sparse::Dtype;

/// A checksum of bytes that changes with them, in the place of CRC-32.
fn sum(bytes: &[u8]) -> [u8; 4] {
    bytes.iter().fold(1u32, |sum, &b| sum.wrapping_mul(16_777_619) ^ u32::from(b)).to_le_bytes()
}

/// Writes a zip archive of stored members, each on a multiple of 64 bytes.
fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let (at, len) = ((out.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        let pad = (64 - (out.len() + 30 + name.len() + 4) % 64) % 64;
        let extra = [&b"FB"[..], &(pad as u16).to_le_bytes(), &vec![b'Z'; pad]].concat();
        let both = [&[0; 10][..], &sum(content), &len, &len, &name_len].concat();
        out.extend([b"PK\x03\x04", &both[..], &(extra.len() as u16).to_le_bytes()].concat());
        out.extend([name.as_bytes(), &extra, content].concat());
        directory.extend([&b"PK\x01\x02\0\0"[..], &both, &[0; 12], &at, name.as_bytes()].concat());
    }
    let (at, len) = ((out.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    out.extend(directory);
    let count = (members.len() as u16).to_le_bytes();
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &len, &at, &[0, 0]].concat());
    out
}

/// Writes what `torch.save` writes of a state dict.
pub(crate) fn torch(tensors: &[T]) -> Vec<u8> {
    let text = |s: &str| [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat();
    let int = |n: u64| [b"J", &(n as u32).to_le_bytes()[..]].concat();
    let tuple = |n: &[u64]| {
        let numbers: Vec<u8> = n.iter().flat_map(|&n| int(n)).collect();
        [b"(", &numbers[..], b"t"].concat()
    };
    let ordered = b"ccollections\nOrderedDict\n)R";
    let mut pickle = [b"\x80\x02", &ordered[..], b"("].concat();
    for (key, t) in tensors.iter().enumerate() {
        let class = match t.spec.dtype() {
            Dtype::F32 => "FloatStorage",
            Dtype::F16 => "HalfStorage",
            Dtype::Bf16 => "BFloat16Storage",
            other => panic!("{other}"),
        };
        let shape = t.spec.shape();
        let strides: Vec<u64> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
        pickle.extend([&text(&t.name)[..], b"ctorch._utils\n_rebuild_tensor_v2\n(("].concat());
        pickle.extend([&text("storage")[..], b"ctorch\n", class.as_bytes(), b"\n"].concat());
        pickle.extend([text(&key.to_string()), text("cpu"), int(t.spec.storage_len())].concat());
        pickle.extend([b"tQ", &int(0)[..], &tuple(shape), &tuple(&strides)].concat());
        pickle.extend([b"\x89", &ordered[..], b"tR"].concat());
    }
    pickle.extend(b"u.");
    let mut members = vec![("archive/data.pkl".to_owned(), pickle)];
    members.push(("archive/byteorder".to_owned(), b"little".to_vec()));
    let data = |(key, t): (usize, &T)| (format!("archive/data/{key}"), t.bytes.clone());
    members.extend(tensors.iter().enumerate().map(data));
    members.push(("archive/version".to_owned(), b"3\n".to_vec()));
    zip(&members)
}

/// Writes an array of NumPy.
pub(crate) fn npy(t: &T) -> Vec<u8> {
    let kind = match t.spec.dtype() {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
        Dtype::Bf16 => "|V2",
        other => panic!("{other}"),
    };
    let shape: String = t.spec.shape().iter().map(|d| format!("{d}, ")).collect();
    let head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let len = (head.len() as u16).to_le_bytes();
    [&b"\x93NUMPY\x01\0"[..], &len, head.as_bytes(), &t.bytes].concat()
}

/// Writes an archive of arrays.
pub(crate) fn npz(tensors: &[T]) -> Vec<u8> {
    let member = |t: &T| (format!("{}.npy", t.name), npy(t));
    zip(&tensors.iter().map(member).collect::<Vec<_>>())
}

/// Writes a GGUF file without metadata.
pub(crate) fn gguf(tensors: &[T]) -> Vec<u8> {
    let mut head =
        [&b"GGUF\x03\0\0\0"[..], &(tensors.len() as u64).to_le_bytes(), &[0; 8]].concat();
    let mut data = Vec::new();
    for t in tensors {
        let kind: u32 = match t.spec.dtype() {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::Bf16 => 30,
            other => panic!("{other}"),
        };
        let shape = t.spec.shape();
        head.extend([&(t.name.len() as u64).to_le_bytes()[..], t.name.as_bytes()].concat());
        head.extend((shape.len() as u32).to_le_bytes());
        head.extend(shape.iter().rev().flat_map(|d| d.to_le_bytes()));
        head.extend([&kind.to_le_bytes()[..], &(data.len() as u64).to_le_bytes()].concat());
        data.extend(&t.bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    head.resize(head.len().next_multiple_of(32), 0);
    [head, data].concat()
}

/// Writes a safetensors file with a gap before each tensor, and a tail.
pub(crate) fn with_gaps(tensors: &[T]) -> Vec<u8> {
    let (mut json, mut data) = (String::from(r#"{"__metadata__":{"step":3}"#), Vec::new());
    for t in tensors {
        data.extend(b"a gap");
        let (dtype, shape, from) = (t.spec.dtype(), t.spec.shape(), data.len());
        data.extend(&t.bytes);
        json += &format!(
            r#","{}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{from},{}]}}"#,
            t.name,
            data.len()
        );
    }
    json += "}";
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data, b"a tail"].concat()
}

/// Weights in other forms than safetensors, a safetensors file with gaps, and a copy of a file.
pub(crate) fn pair() -> [Files; 2] {
    let forms: [(&str, fn(&[T]) -> Vec<u8>); 4] =
        [("a.bin", torch), ("b.npz", npz), ("c.gguf", gguf), ("d.safetensors", with_gaps)];
    let (mut base, mut target) = (Files::new(), Files::new());
    for (seed, (file, write)) in (400..).step_by(10).zip(forms) {
        let part = |i: u64| T::random(&format!("{}{i}", &file[..1]), &[30 + i, 40], seed + i);
        let before = [part(0), part(1)];
        // The second one is as it was.
        let after = [before[0].tuned(seed + 5), before[1].clone()];
        base.insert(file.to_owned(), write(&before));
        target.insert(file.to_owned(), write(&after));
    }
    target.insert("copy".to_owned(), target["a.bin"].clone());
    [base, target]
}
