//! Finding the tensors of files of PyTorch, GGUF and NumPy, and of odd safetensors files.
//!
//! The first byte says which; the rest is the file, verbatim.

use crate::Seed;
use crate::input::Input;
use sparse_core::ErrorKind;
use sparse_model::{ContainerFormat, Header, HeaderTensor};
use std::collections::HashSet;

const FORMATS: [ContainerFormat; 4] =
    [ContainerFormat::Torch, ContainerFormat::Gguf, ContainerFormat::Npy, ContainerFormat::Npz];

/// Look for tensors; what is found lies in the file, apart, under names of its own.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let which = usize::from(input.byte()) % (FORMATS.len() + 1);
    let file = input.0;
    match FORMATS.get(which) {
        Some(format) => check(&format.tensors(&file), 0, file.len() as u64),
        None => match Header::read_lenient(&file) {
            Ok((header, fault)) => {
                check(header.tensors(), header.head_len(), file.len() as u64);
                assert_eq!(fault.is_some(), Header::read(&file).is_err());
            }
            Err(e) => {
                let kinds =
                    [ErrorKind::InvalidInput, ErrorKind::Truncated, ErrorKind::LimitExceeded];
                assert!(kinds.contains(&e.kind()), "{e:?}");
                assert!(Header::read(&file).is_err());
            }
        },
    }
}

fn check(tensors: &[HeaderTensor], mut end: u64, file_len: u64) {
    let mut names = HashSet::new();
    for tensor in tensors {
        assert!(tensor.offset >= end, "no overlap");
        end = tensor.offset + tensor.spec.byte_len();
        assert!(names.insert(&tensor.name), "names are unique");
    }
    assert!(end <= file_len, "the tensors end within the file");
}

/// Writes a zip archive of stored members.
fn zip(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let (at, len) = ((out.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes());
        let both = [&[0; 10][..], &[9; 4], &len, &len, &(name.len() as u16).to_le_bytes()].concat();
        out.extend([b"PK\x03\x04", &both[..], &[0, 0], name.as_bytes(), content].concat());
        directory.extend([&b"PK\x01\x02\0\0"[..], &both, &[0; 12], &at, name.as_bytes()].concat());
    }
    let (at, len) = ((out.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    out.extend(directory);
    let count = (members.len() as u16).to_le_bytes();
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &len, &at, &[0, 0]].concat());
    out
}

/// Writes a pickle of a tensor of 100 floats, with its first element, shape and strides.
fn pickle(first: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let tuple = |numbers: &[u8]| -> Vec<u8> {
        let numbers: Vec<u8> = numbers.iter().flat_map(|&n| [b'K', n]).collect();
        [b"(", &numbers[..], b"t"].concat()
    };
    let tensor = [
        &b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage"[..],
        b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuKdtQK",
        &[first],
        &tuple(shape),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtRs.",
    ];
    tensor.concat()
}

fn torch(pickle: Vec<u8>) -> Vec<u8> {
    let order = b"little".to_vec();
    zip(&[("a/data.pkl", pickle), ("a/byteorder", order), ("a/data/0", vec![1; 400])])
}

fn npy(head: &str) -> Vec<u8> {
    let len = (head.len() as u16).to_le_bytes();
    [&b"\x93NUMPY\x01\0"[..], &len, head.as_bytes(), &[7; 300]].concat()
}

fn gguf(values: u64, value: &[u8]) -> Vec<u8> {
    let tensor = |name: u8, shape: [u64; 2], kind: u32, offset: u64| {
        let shape = shape.map(u64::to_le_bytes).concat();
        [
            &1u64.to_le_bytes()[..],
            &[name, 2, 0, 0, 0],
            &shape,
            &kind.to_le_bytes(),
            &offset.to_le_bytes(),
        ]
        .concat()
    };
    let head = [&b"GGUF\x03\0\0\0"[..], &2u64.to_le_bytes(), &values.to_le_bytes(), value].concat();
    [head, tensor(b'f', [8, 10], 0, 0), tensor(b'q', [256, 2], 12, 320), vec![3; 900]].concat()
}

/// Files that are right, and wrong in the ways that parsers get wrong.
pub fn seeds() -> Vec<Seed> {
    let of = |which: u8, file: &[u8]| [&[which], file].concat();
    let odd = br#"{"__metadata__":{"n":1},"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    let odd = [&(odd.len() as u64).to_le_bytes()[..], odd, &[5; 6]].concat();
    let key =
        |kind: u8, rest: &[u8]| [&1u64.to_le_bytes()[..], b"k", &[kind, 0, 0, 0], rest].concat();
    let nested = [&b"\x80\x02)"[..], &[0x85; 5000], b"."].concat();
    let right = "{'descr': '<f4', 'fortran_order': True, 'shape': (15, 5), }\n";
    let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 9999999999), }\n";
    vec![
        ("torch".into(), of(0, &torch(pickle(0, &[10, 10], &[10, 1])))),
        ("torch-turned".into(), of(0, &torch(pickle(0, &[10, 10], &[1, 10])))),
        ("torch-part".into(), of(0, &torch(pickle(20, &[40], &[2])))),
        ("torch-outside".into(), of(0, &torch(pickle(90, &[100], &[1])))),
        ("torch-cycle".into(), of(0, &torch(b"\x80\x02]q\0h\0a.".to_vec()))),
        ("torch-nested".into(), of(0, &torch(nested))),
        ("torch-empty-archive".into(), of(0, &zip(&[]))),
        ("gguf".into(), of(1, &gguf(0, &[]))),
        (
            "gguf-list".into(),
            of(1, &gguf(1, &key(9, &[5, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]))),
        ),
        (
            "gguf-endless-list".into(),
            of(1, &gguf(1, &key(9, &[8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]))),
        ),
        ("npy".into(), of(2, &npy(right))),
        ("npy-huge".into(), of(2, &npy(huge))),
        ("npz".into(), of(3, &zip(&[("w.npy", npy(right)), ("x.npy", npy(huge))]))),
        ("safetensors-gaps".into(), of(4, &odd)),
    ]
}
