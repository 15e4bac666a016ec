//! Parsing the header of a safetensors file.
//!
//! The first byte says what the rest is: a file, verbatim (even), or the length of the data (two
//! bytes) and the JSON of a header, whose length field is made up (odd).

use crate::Seed;
use crate::input::Input;
use sparse_core::ErrorKind;
use sparse_model::Header;
use std::collections::HashSet;

/// Parse; what is accepted tiles the file.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    if input.byte() % 2 == 0 {
        let file = input.0;
        check(file, file.len() as u64);
        let (parsed, read) = (Header::parse(file, file.len() as u64), Header::read(&file));
        match (parsed, read) {
            (Ok(a), Ok(b)) => assert_eq!(a, b),
            (Err(a), Err(b)) => assert_eq!(a.kind(), b.kind()),
            (a, b) => panic!("parsed as {a:?}, read as {b:?}"),
        }
    } else {
        let data_len = u64::from(input.u16());
        let head = head(input.0);
        check(&head, head.len() as u64 + data_len);
    }
}

fn check(head: &[u8], file_len: u64) {
    let header = match Header::parse(head, file_len) {
        Ok(header) => header,
        Err(e) => {
            let kinds = [ErrorKind::InvalidInput, ErrorKind::Truncated, ErrorKind::LimitExceeded];
            assert!(kinds.contains(&e.kind()), "{e:?}");
            let _ = e.to_string();
            return;
        }
    };
    let mut end = header.head_len();
    let mut names = HashSet::new();
    for tensor in header.tensors() {
        assert_eq!(tensor.offset, end, "no gap and no overlap");
        end += tensor.spec.byte_len();
        assert!(names.insert(&tensor.name), "names are unique");
    }
    assert_eq!(end, file_len, "the tensors end where the file does");
}

fn head(json: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json].concat()
}

const JSON: &[u8] = concat!(
    r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"BF16","#,
    r#""shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"#,
    r#""data_offsets":[12,16]}}"#
)
.as_bytes();

/// Headers that are right, and wrong in the ways that parsers get wrong.
pub fn seeds() -> Vec<Seed> {
    let json = |data_len: u16, json: &[u8]| [&[1], &data_len.to_le_bytes()[..], json].concat();
    vec![
        ("file".into(), [&[0], &head(JSON)[..], &[0x3f; 16]].concat()),
        ("file-cut".into(), [&[0], &head(JSON)[..], &[0x3f; 8]].concat()),
        ("file-huge-header".into(), b"\0\xff\xff\xff\xff\xff\xff\xff\xff{}".to_vec()),
        ("pickle".into(), b"\0PK\x03\x04 and the rest of a zip archive".to_vec()),
        ("header".into(), json(16, JSON)),
        ("empty".into(), json(0, b"{}  ")),
        (
            "out-of-order".into(),
            json(
                3,
                concat!(
                    r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"#,
                    r#""I8","shape":[1,1],"data_offsets":[0,1]},"c":{"dtype":"F64","#,
                    r#""shape":[0,7],"data_offsets":[3,3]}}"#
                )
                .as_bytes(),
            ),
        ),
        (
            "packed".into(),
            json(
                6,
                concat!(
                    r#"{"x":{"dtype":"F4","shape":[6],"data_offsets":[0,3]},"y":{"dtype":"#,
                    r#""F6_E2M3","shape":[4],"data_offsets":[3,6]}}"#
                )
                .as_bytes(),
            ),
        ),
        (
            "same-name-twice".into(),
            json(
                2,
                concat!(
                    r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":"#,
                    r#"{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#
                )
                .as_bytes(),
            ),
        ),
        (
            "overflow".into(),
            json(
                0,
                concat!(
                    r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"#,
                    r#""data_offsets":[0,0]}}"#
                )
                .as_bytes(),
            ),
        ),
        (
            "offsets-overflow".into(),
            json(
                0,
                concat!(
                    r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"#,
                    r#""data_offsets":[0,18446744073709551615]}}"#
                )
                .as_bytes(),
            ),
        ),
    ]
}
