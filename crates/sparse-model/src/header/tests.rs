use super::*;
use crate::testing::{T, file_bytes, t, u8s, with_header};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Header> {
    let read = Header::read(&bytes.to_vec());
    // Reading a file and parsing its head are the same.
    assert_eq!(read.as_ref().ok(), Header::parse(bytes, bytes.len() as u64).as_ref().ok());
    read
}

/// Returns a header of one tensor `a` with this body.
fn one(body: &str, data: usize) -> Vec<u8> {
    with_header(format!(r#"{{"a":{{{body}}}}}"#).as_bytes(), &vec![0; data])
}

fn two(a: (u64, u64), b: (u64, u64), data: usize) -> Vec<u8> {
    let tensor = |(from, to): (u64, u64)| {
        format!(
            r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#,
            to.saturating_sub(from)
        )
    };
    with_header(format!(r#"{{"a":{},"b":{}}}"#, tensor(a), tensor(b)).as_bytes(), &vec![0; data])
}

#[test]
fn valid_files() {
    let tensors = [
        u8s("z", b"xyz"),
        t("scalar", Dtype::F32, &[], [0; 4]),
        u8s("empty", b""),
        t("a \"quoted\" ü", Dtype::Bf16, &[2, 3], [1; 12]),
        t("fours", Dtype::F4, &[2, 3], [1; 3]),
    ];
    let bytes = file_bytes(&tensors);
    let header = read(&bytes).unwrap();
    let names: Vec<_> = header.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["z", "scalar", "empty", "a \"quoted\" ü", "fours"]);
    for (t, want) in header.tensors().iter().zip(&tensors) {
        let at = t.offset as usize;
        assert_eq!(&bytes[at..at + t.spec.byte_len() as usize], want.bytes);
    }
    assert_eq!(read(&with_header(b"{}", b"")).unwrap().tensors(), []);
    assert_eq!(read(&with_header(b"{}     ", b"")).unwrap().head_len(), 15);
    assert!(read(&with_header(br#"{"__metadata__":null}"#, b"")).is_ok());
    assert!(read(&one(r#""dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":[{}]"#, 1)).is_ok());
    // The order of the header is not that of the file.
    let header = read(&two((3, 5), (0, 3), 5)).unwrap();
    assert_eq!(header.tensors().iter().map(|t| &*t.name).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn hostile_headers() {
    use ErrorKind::{InvalidInput, LimitExceeded, Truncated};
    let deep = format!("{}1{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let deep_in_extra =
        one(&format!(r#""dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{deep}"#), 1);
    let ok = r#""dtype":"U8","shape":[1],"data_offsets":[0,1]"#;
    let with_len = |len: u64, rest: &[u8]| [&len.to_le_bytes(), rest].concat();
    let cases: Vec<(&str, Vec<u8>, ErrorKind, &str)> = vec![
        ("empty file", vec![], InvalidInput, "only 0 bytes"),
        ("short file", vec![1; 7], InvalidInput, "only 7 bytes"),
        ("length only", with_len(0, b""), InvalidInput, "not JSON"),
        ("length only, more promised", with_len(5, b""), Truncated, "13 bytes, but the file has 8"),
        ("length too large", with_len(100, b"{}"), Truncated, "108 bytes, but the file has 10"),
        ("length absurd", with_len(u64::MAX, b"{}"), LimitExceeded, "100000000"),
        ("length just above the limit", with_len(100_000_001, b"{}"), LimitExceeded, "limit"),
        ("length at the limit", with_len(100_000_000, b"{}"), Truncated, "100000008"),
        ("no header", vec![b'x'; 100], InvalidInput, "no header at its start"),
        ("zip", b"PK\x03\x04.............".to_vec(), InvalidInput, "zip"),
        ("gguf", b"GGUF.............".to_vec(), InvalidInput, "GGUF"),
        (
            "lfs",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0".to_vec(),
            InvalidInput,
            "git lfs pull",
        ),
        ("garbage", with_header(b"{garbage}", b""), InvalidInput, "not JSON"),
        ("unclosed", with_header(br#"{"a":"#, b""), InvalidInput, "not JSON"),
        ("trailing text", with_header(b"{}x", b""), InvalidInput, "not JSON"),
        ("NUL padding", with_header(b"{}\0\0", b""), InvalidInput, "not JSON"),
        ("NUL in a name", with_header(b"{\"a\0\":{}}", b""), InvalidInput, "not JSON"),
        ("leading space", with_header(b" {}", b""), InvalidInput, "no header"),
        ("list", with_header(b"[]", b""), InvalidInput, "no header"),
        ("not UTF-8", with_header(b"{\"\xff\":1}", b""), InvalidInput, "not UTF-8"),
        (
            "deep nesting",
            with_header(format!(r#"{{"a":{deep}}}"#).as_bytes(), b""),
            InvalidInput,
            "header",
        ),
        (
            "deep metadata",
            with_header(format!(r#"{{"__metadata__":{deep}}}"#).as_bytes(), b""),
            InvalidInput,
            "header",
        ),
        (
            "number for a tensor",
            with_header(br#"{"a":1}"#, b""),
            InvalidInput,
            "not a safetensors header",
        ),
        (
            "metadata of numbers",
            with_header(br#"{"__metadata__":{"a":1}}"#, b""),
            InvalidInput,
            "not a safetensors header",
        ),
        (
            "metadata twice",
            with_header(br#"{"__metadata__":{},"__metadata__":{}}"#, b""),
            InvalidInput,
            "not a safetensors header",
        ),
        ("no dtype", one(r#""shape":[1],"data_offsets":[0,1]"#, 1), InvalidInput, "dtype"),
        (
            "dtype twice",
            one(r#""dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]"#, 1),
            InvalidInput,
            "dtype is there twice",
        ),
        (
            "unknown dtype",
            one(r#""dtype":"F7","shape":[1],"data_offsets":[0,1]"#, 1),
            InvalidInput,
            "\"F7\"",
        ),
        (
            "lower case dtype",
            one(r#""dtype":"u8","shape":[1],"data_offsets":[0,1]"#, 1),
            InvalidInput,
            "\"u8\"",
        ),
        (
            "negative shape",
            one(r#""dtype":"U8","shape":[-1],"data_offsets":[0,1]"#, 1),
            InvalidInput,
            "not a safetensors header",
        ),
        (
            "fractional shape",
            one(r#""dtype":"U8","shape":[1.0],"data_offsets":[0,1]"#, 1),
            InvalidInput,
            "not a safetensors header",
        ),
        (
            "huge shape",
            one(r#""dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]"#, 1),
            InvalidInput,
            "not a safetensors header",
        ),
        (
            "overflowing shape",
            one(r#""dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,1]"#, 1),
            InvalidInput,
            "shape is impossible",
        ),
        (
            "overflowing bytes",
            one(r#""dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]"#, 0),
            InvalidInput,
            "shape is impossible",
        ),
        (
            "half a byte",
            one(r#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#, 2),
            InvalidInput,
            "shape is impossible",
        ),
        (
            "three offsets",
            one(r#""dtype":"U8","shape":[1],"data_offsets":[0,1,2]"#, 1),
            InvalidInput,
            "two numbers",
        ),
        (
            "too many dimensions",
            one(
                &format!(r#""dtype":"U8","shape":[{}1],"data_offsets":[0,1]"#, "1,".repeat(1024)),
                1,
            ),
            InvalidInput,
            "up to 1024 dimensions",
        ),
        (
            "a dtype that reads like a place",
            one(r#""dtype":1,"shape at line 7 column 7":[1]"#, 1),
            InvalidInput,
            "expected a string",
        ),
        (
            "wrong length",
            one(r#""dtype":"F32","shape":[1],"data_offsets":[0,3]"#, 3),
            InvalidInput,
            "need 4 bytes",
        ),
        (
            "offsets backwards",
            one(r#""dtype":"U8","shape":[1],"data_offsets":[1,0]"#, 1),
            InvalidInput,
            "need 1 bytes",
        ),
        (
            "huge offsets",
            one(
                r#""dtype":"U8","shape":[1],
                    "data_offsets":[18446744073709551614,18446744073709551615]"#,
                1,
            ),
            InvalidInput,
            "belong to no tensor",
        ),
        (
            "huge tensor",
            one(
                r#""dtype":"U8","shape":[18446744073709551],"data_offsets":[0,18446744073709551]"#,
                1,
            ),
            Truncated,
            "the file has",
        ),
        (
            "overflowing file",
            one(
                r#""dtype":"U8","shape":[2305843009213693951],
                    "data_offsets":[0,2305843009213693951]"#,
                1,
            ),
            Truncated,
            "the file has",
        ),
        ("gap at the start", two((1, 2), (2, 3), 3), InvalidInput, "bytes 0..1"),
        ("gap", two((0, 2), (3, 5), 5), InvalidInput, "bytes 2..3"),
        ("overlap", two((0, 3), (2, 5), 5), InvalidInput, "overlaps"),
        ("the same place", two((0, 3), (0, 3), 3), InvalidInput, "overlaps"),
        ("data missing", one(ok, 0), Truncated, "it was cut short"),
        ("data left over", one(ok, 2), InvalidInput, "1 bytes belong to no tensor"),
        (
            "same name",
            with_header(format!(r#"{{"a":{{{ok}}},"a":{{{ok}}}}}"#).as_bytes(), b"x"),
            InvalidInput,
            "same name",
        ),
    ];
    for (what, bytes, kind, words) in cases {
        let e = read(&bytes).unwrap_err();
        assert_eq!(e.kind(), kind, "{what}: {e}");
        assert!(e.to_string().contains(words), "{what}: {e}");
        assert!(e.to_string().len() < 300, "{what}: {e}");
        // Whatever the safetensors crate refuses, too, but for the one rule that is ours.
        if !["same name", "leading space"].contains(&what) && bytes.len() < 1000 {
            assert!(safetensors::SafeTensors::deserialize(&bytes).is_err(), "{what}");
        }
    }
    // Values that are skipped are skipped without recursion.
    assert!(read(&deep_in_extra).is_ok());
}

#[test]
fn errors_say_where() {
    let e = read(&with_header(b"{\n\"a\": garbage}", b"")).unwrap_err();
    assert_eq!(e.offset(), Some(15), "{e}");
    let e = read(&two((0, 2), (3, 5), 5)).unwrap_err();
    assert_eq!(e.tensor(), Some("b"), "{e}");
}

#[test]
fn dtypes_are_those_of_the_safetensors_crate() {
    for &dtype in Dtype::ALL {
        let theirs: safetensors::Dtype =
            serde_json::from_str(&format!("{:?}", dtype.name())).unwrap();
        assert_eq!(theirs.bitsize() as u32, dtype.bits(), "{dtype}");
    }
    // And no more: the crate's own error lists what it knows.
    let e = serde_json::from_str::<safetensors::Dtype>("\"?\"").unwrap_err().to_string();
    let theirs: Vec<&str> = e.split('`').skip(3).step_by(2).collect();
    assert!(
        theirs.len() == Dtype::ALL.len() && theirs.iter().all(|n| Dtype::from_name(n).is_some()),
        "{e}"
    );
}

fn tensors() -> impl Strategy<Value = Vec<T>> {
    let tensor = (0..Dtype::ALL.len(), prop::collection::vec(0u64..5, 0..4), any::<String>());
    prop::collection::vec(tensor, 0..8).prop_map(|list| {
        let make = |(i, (dtype, mut shape, name)): (usize, (usize, Vec<u64>, String))| {
            let dtype = Dtype::ALL[dtype];
            if dtype.bits() < 8 {
                shape.push(4);
            }
            let len = TensorSpec::new(dtype, shape.clone()).unwrap().byte_len();
            t(&format!("{i}{name}"), dtype, &shape, vec![i as u8; len as usize])
        };
        list.into_iter().enumerate().map(make).collect()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = read(&with_header(&bytes, b""));
    }

    #[test]
    fn damaged_files_do_not_panic(
        list in tensors(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = file_bytes(&list);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let ours = read(&bytes);
        let theirs = safetensors::SafeTensors::deserialize(&bytes);
        // What we take, they take; the other way round only names that occur twice may be refused.
        if let Ok(ours) = &ours {
            prop_assert_eq!(ours.tensors().len(), theirs.as_ref().map_or(usize::MAX, |t| t.len()));
        } else if theirs.is_ok() {
            let e = ours.unwrap_err().to_string();
            prop_assert!(e.contains("same name") || e.contains("no header at its start"), "{}", e);
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = read(&bytes);
    }

    #[test]
    fn agrees_with_the_safetensors_crate(list in tensors()) {
        let bytes = file_bytes(&list);
        let ours = read(&bytes).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(ours.tensors().len(), theirs.len());
        for t in ours.tensors() {
            let their = theirs.tensor(&t.name).unwrap();
            let at = t.offset as usize;
            prop_assert_eq!(their.data(), &bytes[at..at + t.spec.byte_len() as usize]);
            prop_assert_eq!(their.dtype().to_string(), t.spec.dtype().name());
            let shape: Vec<u64> = their.shape().iter().map(|&d| d as u64).collect();
            prop_assert_eq!(shape.as_slice(), t.spec.shape());
        }
        let last = ours.tensors().last().map_or(ours.head_len(), |t| t.offset + t.spec.byte_len());
        prop_assert_eq!(last, bytes.len() as u64);
    }

    #[test]
    fn reads_what_the_safetensors_crate_writes(list in tensors()) {
        let views = list.iter().map(|t| {
            let dtype: safetensors::Dtype = serde_json::from_str(&format!("{:?}", t.dtype.name()))
                .unwrap();
            let shape = t.shape.iter().map(|&d| d as usize).collect();
            (t.name.clone(), safetensors::tensor::TensorView::new(dtype, shape, &t.bytes).unwrap())
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        prop_assert_eq!(read(&bytes).unwrap().tensors().len(), list.len());
    }
}
