//! Files written once per format version and read for ever. Never rewrite them: add new ones.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use sparse_core::ErrorKind;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn check(version: (u16, u16), name: &str, id: &str) {
    let (file, index) = small();
    let payload = payload_of(&open(&file).unwrap()).unwrap();
    let compressed = golden(&format!("{name}.sparse"));
    for golden in [&compressed, &golden(&format!("{name}_stored.sparse"))] {
        let reader = open(golden).unwrap();
        assert_eq!((reader.version().major, reader.version().minor), version);
        assert_eq!(*reader.index(), index);
        assert_eq!(payload_of(&reader).unwrap(), payload);
    }
    // Not the compressor's output, which may change, but everything else is settled.
    let (today, then) = (unframe(&file), unframe(&compressed));
    assert_eq!((&today.0[12..], today.1), (&then.0[12..], then.1));
    assert_eq!(open(&compressed).unwrap().id().to_string(), id);
}

/// Their layout was the same, but not what their codecs wrote.
#[test]
fn older_versions_are_refused() {
    for version in ["0.1", "0.2"] {
        for end in [".sparse", "_stored.sparse"] {
            let e = open(&golden(&format!("v{}{end}", version.replace('.', "_")))).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::UnsupportedVersion);
            assert!(e.message().contains(version), "{e}");
        }
    }
}

#[test]
fn v1_0_is_read() {
    check((1, 0), "v1_0", "d8338d16a54e31e934059fa4a812252f");
}

/// How the files were made. For the next version: copy, run once with `--ignored`, commit.
#[test]
#[ignore = "writes golden files"]
fn write_v1_0() {
    let (file, _) = small();
    let (payload, plain) = unframe(&file);
    for (name, bytes) in [("v1_0.sparse", &file), ("v1_0_stored.sparse", &frame(&payload, &plain))]
    {
        let mut out = std::fs::File::create_new(folder().join(name)).unwrap();
        std::io::Write::write_all(&mut out, bytes).unwrap();
    }
}
