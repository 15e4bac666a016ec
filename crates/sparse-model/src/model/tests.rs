use super::*;
use crate::checkpoint::Extent;
use crate::checkpoint::FileKind;
use crate::testing::{T, file_bytes, put, t, u8s, with_header};
use sparse_core::Dtype;
use std::borrow::Cow;
use std::fs;

fn options() -> OpenOptions {
    OpenOptions { cache: HubCache::Off, ..OpenOptions::default() }
}

fn open(path: &Path) -> Result<Model> {
    // Mapped or read, it is the same model.
    let model = OpenOptions { cache: HubCache::Off, ..OpenOptions::mapped() }.open(path);
    let read = options().open(path);
    match (&model, &read) {
        (Ok(a), Ok(b)) => {
            assert_eq!((a.files(), a.tensors()), (b.files(), b.tensors()));
            for i in 0..a.tensors().len() {
                assert_eq!(a.bytes(i).unwrap(), b.bytes(i).unwrap());
                let borrowed = cfg!(feature = "mmap") || a.tensors()[i].spec.byte_len() == 0;
                assert_eq!(matches!(a.bytes(i).unwrap(), Cow::Borrowed(_)), borrowed);
                assert!(b.slice(i, 0, 1).is_none());
            }
            check_whole(a);
        }
        (a, b) => assert_eq!(a.as_ref().err().map(Error::kind), b.as_ref().err().map(Error::kind)),
    }
    model
}

/// Checks that head and tensors, in order, make up each safetensors file.
fn check_whole(model: &Model) {
    for (i, file) in model.files().iter().enumerate() {
        let source = model.file_source(i).unwrap();
        assert_eq!(source.byte_len(), file.len);
        let whole = source.bytes_at(0, file.len as usize).unwrap();
        let head = model.file_head(i).unwrap();
        assert_eq!(head.len() as u64, file.kind.head_len().unwrap_or(0));
        let mut made = Vec::new();
        for extent in model.extents(i) {
            let index = match extent {
                Extent::Tensor { tensor, offset } => {
                    assert_eq!(offset, made.len() as u64);
                    tensor
                }
                Extent::Bytes { offset, len } => {
                    assert_eq!(offset, made.len() as u64);
                    made.extend(&*source.bytes_at(offset, len as usize).unwrap());
                    continue;
                }
            };
            let location = model.location(index).unwrap();
            assert_eq!((location.file, location.offset), (i, made.len() as u64));
            assert_eq!(model.find_in_file(i, location.name), Some(index));
            assert_eq!(model.find(&model.tensors()[index].name), Some(index));
            made.extend(&*model.bytes(index).unwrap());
        }
        assert!(made.starts_with(&head));
        assert_eq!(made, *whole);
    }
}

fn tensors(names: &[&str]) -> Vec<T> {
    names.iter().map(|n| u8s(n, n.as_bytes())).collect()
}

fn names(model: &Model) -> Vec<&str> {
    model.tensors().iter().map(|t| t.name.as_str()).collect()
}

fn paths(model: &Model) -> Vec<&str> {
    model.files().iter().map(|f| f.path.as_str()).collect()
}

#[test]
fn a_single_file() {
    let dir = tempfile::tempdir().unwrap();
    let list = [t("w", Dtype::Bf16, &[2, 1], [1, 2, 3, 4]), u8s("b", b"xy"), u8s("empty", b"")];
    put(dir.path(), "any.name", file_bytes(&list));
    let model = open(&dir.path().join("any.name")).unwrap();
    assert!(model.is_file() && model.root() == dir.path().join("any.name"));
    assert_eq!(names(&model), ["b", "empty", "w"]);
    assert_eq!(paths(&model), ["any.name"]);
    assert_eq!(model.range(2, 1, 2).unwrap(), &[2, 3][..]);
    let e = model.read_range_into(2, 3, &mut [0; 2]).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::InvalidArgument, Some("w")));
    assert_eq!(
        model.read_range_into(9, 0, &mut []).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert!(
        model.file_source(1).is_err() && model.file_head(1).is_err() && model.location(3).is_none()
    );
    assert_eq!(model.find_in_file(0, "nothing"), None);
}

#[test]
fn a_folder_with_shards_and_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put(root, "model-00001-of-00002.safetensors", file_bytes(&tensors(&["b", "a"])));
    put(root, "model-00002-of-00002.safetensors", file_bytes(&tensors(&["c"])));
    let index = r#"{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors",
        "b":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors"}}"#;
    put(root, "model.safetensors.index.json", index);
    put(root, "config.json", "{}");
    put(root, "1_Pooling/config.json", "");
    put(root, "original/big.bin", vec![7; 3 << 20]);
    fs::create_dir(root.join("void")).unwrap();
    let model = open(root).unwrap();
    assert_eq!(names(&model), ["a", "b", "c"]);
    assert_eq!(
        paths(&model),
        [
            "1_Pooling/config.json",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "original/big.bin"
        ]
    );
    assert_eq!(model.empty_folders(), ["void"]);
    assert_eq!(model.warnings(), []);
    assert_eq!(
        model.files()[2].kind,
        FileKind::Safetensors { head_len: model.location(1).unwrap().offset, tensors: vec![1, 0] }
    );
    let some = OpenOptions { exclude: vec!["original".into(), "config.json".into()], ..options() };
    assert_eq!(some.open(root).unwrap().files().len(), 4);
}

#[test]
fn a_missing_shard_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "sub/m1.safetensors", file_bytes(&tensors(&["a"])));
    put(
        dir.path(),
        "sub/m.safetensors.index.json",
        r#"{"weight_map":{"a":"m1.safetensors","b":"m2.safetensors"}}"#,
    );
    let e = open(dir.path()).unwrap_err();
    assert_eq!((e.kind(), e.file()), (ErrorKind::NotFound, Some("sub/m.safetensors.index.json")));
    assert!(e.to_string().contains("sub/m2.safetensors"), "{e}");

    for odd in ["not json", r#"{"weight_map":{"b":"../m2.safetensors"}}"#, "{}"] {
        put(dir.path(), "sub/m.safetensors.index.json", odd);
        assert_eq!(open(dir.path()).unwrap().warnings().len(), 1, "{odd}");
    }
}

#[test]
fn equal_names_are_qualified() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "unet/m.safetensors", file_bytes(&tensors(&["w", "only"])));
    put(dir.path(), "vae/m.safetensors", file_bytes(&tensors(&["w"])));
    let model = open(dir.path()).unwrap();
    assert_eq!(names(&model), ["only", "unet/m.safetensors:w", "vae/m.safetensors:w"]);
    assert_eq!(model.find_in_file(1, "w"), Some(2));
    assert_eq!(model.find_in_file(1, "only"), None);
    assert_eq!(model.location(2).unwrap().name, "w");

    // A name that is what another one becomes.
    put(dir.path(), "evil.safetensors", file_bytes(&tensors(&["vae/m.safetensors:w"])));
    let model = open(dir.path()).unwrap();
    assert_eq!(names(&model).len(), 4);
    assert!(names(&model).contains(&"evil.safetensors:vae/m.safetensors:w"));
}

#[test]
fn odd_safetensors_are_read_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |from: u64, to: u64| {
        let len = to - from;
        format!(r#"{{"dtype":"U8","shape":[{len}],"data_offsets":[{from},{to}]}}"#)
    };
    let (a, b, inside) = (tensor(2, 5), tensor(7, 9), tensor(3, 6));
    let head =
        format!(r#"{{"__metadata__":{{"epoch":3}},"a":{a},"b":{b},"alias":{a},"c":{inside}}}"#);
    let odd = with_header(head.as_bytes(), b"..aaa..bb.");
    put(dir.path(), "x.safetensors", &odd);
    for place in [dir.path().to_owned(), dir.path().join("x.safetensors")] {
        let model = open(&place).unwrap();
        check_whole(&model);
        assert_eq!(names(&model), ["a", "b"]);
        assert_eq!(&*model.bytes(0).unwrap(), b"aaa");
        assert_eq!(model.extents(0).len(), 6, "head, gap, a, gap, b, tail");
        assert!(model.warnings()[0].message.contains("breaks a rule"), "{:?}", model.warnings());
    }
}

#[test]
fn weights_in_other_forms() {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (300,), }\n";
    let len = (header.len() as u16).to_le_bytes();
    let array = [&b"\x93NUMPY\x01\0"[..], &len, header.as_bytes(), &[7; 300], b"tail"].concat();
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.npy", &array);
    put(dir.path(), "b.bin", b"no tensors");
    let model = open(dir.path()).unwrap();
    check_whole(&model);
    assert_eq!(names(&model), ["array"]);
    assert!(matches!(model.files()[0].kind, FileKind::Container { .. }));
    assert_eq!(model.files()[1].kind, FileKind::Plain);
    assert_eq!(model.extents(0).len(), 3, "head, array, tail");
    assert_eq!(names(&open(&dir.path().join("a.npy")).unwrap()), ["array"]);
    // Names of safetensors stay as they are.
    put(dir.path(), "z.safetensors", file_bytes(&[u8s("array", &[1; 300])]));
    let model = open(dir.path()).unwrap();
    assert_eq!(names(&model), ["a.npy:array", "array"]);
    assert_eq!(model.location(1).unwrap().file, 2);
}

#[test]
fn a_stale_index_is_no_error_but_an_incomplete_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let index = r#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    put(dir.path(), "model.safetensors.index.json", index);
    assert_eq!(open(dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
    put(dir.path(), "model.safetensors", file_bytes(&tensors(&["a"])));
    let model = open(dir.path()).unwrap();
    assert!(model.warnings()[0].message.contains("stale"), "{:?}", model.warnings());
    put(dir.path(), "model-2.safetensors", file_bytes(&tensors(&["b"])));
    assert_eq!(open(dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn pointers_of_git_lfs_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 7\n";
    put(dir.path(), "sub/tokenizer.json", lfs);
    put(dir.path(), "README.md", "version https://git is no pointer");
    let model = open(dir.path()).unwrap();
    assert_eq!(model.warnings().len(), 1);
    assert_eq!(model.warnings()[0].file, "sub/tokenizer.json");
}

#[test]
fn broken_files() {
    let dir = tempfile::tempdir().unwrap();
    let good = file_bytes(&tensors(&["abc"]));
    let short = with_header(br#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}}"#, b"x");
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 7\n".to_vec();
    let cases = [
        ("odd", short, true),
        ("nothing", vec![], true),
        ("text", b"hello, this is not a tensor".to_vec(), true),
        ("cut", good[..good.len() - 1].to_vec(), false),
        ("cut in the header", good[..20].to_vec(), false),
        ("pointer", lfs, false),
    ];
    for (what, bytes, tolerated) in cases {
        let place = dir.path().join(what);
        put(&place, "good.safetensors", &good);
        put(&place, "x.safetensors", &bytes);
        let e = open(&place.join("x.safetensors")).unwrap_err();
        assert!(e.file().is_some_and(|f| f.ends_with("x.safetensors")), "{what}: {e}");
        match open(&place) {
            Ok(model) => {
                assert!(tolerated, "{what}");
                assert_eq!(names(&model), ["abc"]);
                assert_eq!(model.warnings().len(), 1);
                assert_eq!(model.warnings()[0].file, "x.safetensors");
            }
            Err(e) => assert!(!tolerated && e.file() == Some("x.safetensors"), "{what}: {e}"),
        }
        let lenient = OpenOptions { allow_incomplete: true, ..options() };
        let model = lenient.open(&place).unwrap();
        assert_eq!(model.files()[1].kind, FileKind::Plain, "{what}");
        assert_eq!(
            model.file_source(1).unwrap().bytes_at(0, bytes.len()).unwrap(),
            bytes,
            "{what}"
        );
    }
    let e = open(&dir.path().join("cut/x.safetensors")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Truncated);
    assert!(
        e.to_string().contains(&format!(
            "{} bytes, but the file has {}",
            good.len(),
            good.len() - 1
        )),
        "{e}"
    );
}

#[test]
fn what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(open(&dir.path().join("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
    let empty = open(dir.path()).unwrap();
    assert!(
        empty.tensors().is_empty() && empty.files().is_empty() && empty.empty_folders().is_empty()
    );
}

#[cfg(unix)]
#[test]
fn the_hugging_face_cache() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("models--org--name");
    put(&model, "blobs/1234", file_bytes(&tensors(&["a"])));
    put(&model, "blobs/5678", "{}");
    put(&model, "refs/main", "c0ffee");
    fs::create_dir_all(model.join("snapshots/c0ffee/sub")).unwrap();
    symlink("../../blobs/1234", model.join("snapshots/c0ffee/model.safetensors")).unwrap();
    symlink("../../../blobs/5678", model.join("snapshots/c0ffee/sub/config.json")).unwrap();

    let cached = OpenOptions { cache: HubCache::At(dir.path().into()), ..OpenOptions::default() };
    for id in ["org/name", "org/name@main", "org/name@c0ffee", model.to_str().unwrap()] {
        let opened = cached.open(id).unwrap();
        assert_eq!(opened.root(), model.join("snapshots/c0ffee"));
        assert_eq!(paths(&opened), ["model.safetensors", "sub/config.json"]);
        assert_eq!(names(&opened), ["a"]);
        check_whole(&opened);
        // The blobs lie outside of the snapshot, and count as input, too.
        let inputs = opened.input_paths().unwrap();
        assert_eq!(inputs.len(), 3);
        let blobs = fs::canonicalize(model.join("blobs")).unwrap();
        assert!(inputs.iter().any(|i| fs::canonicalize(i).unwrap().starts_with(&blobs)));
    }
    open(&model.join("snapshots/c0ffee/model.safetensors")).unwrap();
    open(&model.join("blobs/1234")).unwrap();

    fs::remove_file(model.join("blobs/1234")).unwrap();
    let e = cached.open("org/name").unwrap_err();
    assert_eq!((e.kind(), e.file()), (ErrorKind::NotFound, Some("model.safetensors")));
    assert!(e.to_string().contains("does not exist"), "{e}");
}

#[cfg(unix)]
#[test]
fn permission_errors_are_said() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m.safetensors", file_bytes(&tensors(&["a"])));
    let path = dir.path().join("m.safetensors");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        return; // As root, everything is allowed.
    }
    for place in [dir.path(), &path] {
        let e = open(place).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().to_lowercase().contains("permission denied"), "{e}");
    }
}

#[test]
fn a_file_that_changes_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.txt", "one");
    let model = options().open(dir.path()).unwrap();
    put(dir.path(), "a.txt", "three");
    assert_eq!(
        model.file_source(0).unwrap().bytes_at(0, 3).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn files_that_are_not_on_disk() {
    let shard = |names: &[&str]| Box::new(file_bytes(&tensors(names))) as Box<dyn ByteSource>;
    let index = br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let files = |last: &str| {
        [
            (last.to_owned(), shard(&["b"])),
            ("1.safetensors".to_owned(), shard(&["a", "c"])),
            ("model.safetensors.index.json".to_owned(), Box::new(index.to_vec()) as _),
        ]
    };
    let model = Model::from_sources("org/name", files("2.safetensors")).unwrap();
    check_whole(&model);
    assert_eq!(names(&model), ["a", "b", "c"]);
    assert_eq!((model.name().as_str(), model.is_file()), ("org/name", false));
    assert!(model.input_paths().unwrap().is_empty());
    let kind = |last: &str| Model::from_sources("x", files(last)).unwrap_err().kind();
    assert_eq!(kind("3.safetensors"), ErrorKind::NotFound);
    assert_eq!(kind("1.safetensors"), ErrorKind::InvalidInput);
    assert_eq!(kind("../2.safetensors"), ErrorKind::InvalidInput);
    let one = Model::from_source("one.safetensors", shard(&["a"])).unwrap();
    check_whole(&one);
    assert!(one.is_file() && paths(&one) == ["one.safetensors"]);
    let e = Model::from_source("one", Box::new(vec![1; 100])).unwrap_err();
    assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidInput, None), "the caller knows where");
    let called = one.called("https://example.com/one.safetensors?…");
    assert_eq!(called.file_place(&called.files()[0]), "https://example.com/one.safetensors?…");
    assert_eq!(
        (called.name().as_str(), paths(&called)),
        ("one.safetensors", vec!["one.safetensors"])
    );
}
