//! Files written once per format version and read for ever. Never rewrite them: add new ones.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn v0_1_is_read() {
    let (file, index) = small();
    let payload = payload_of(&open(&file).unwrap()).unwrap();
    let compressed = golden("v0_1.sparse");
    for golden in [&compressed, &golden("v0_1_stored.sparse")] {
        let reader = open(golden).unwrap();
        assert_eq!(*reader.index(), index);
        assert_eq!(payload_of(&reader).unwrap(), payload);
    }
    // Not the compressor's output, which may change, but everything else is settled.
    assert_eq!(unframe(&file), unframe(&compressed));
    let id = "c333323ad3aeccc630dc9390f0e41388";
    assert_eq!(open(&compressed).unwrap().id().to_string(), id);
}

/// How the files were made. For the next version: copy, run once with `--ignored`, commit.
#[test]
#[ignore = "writes golden files"]
fn write_v0_1() {
    let (file, _) = small();
    let (payload, plain) = unframe(&file);
    for (name, bytes) in [("v0_1.sparse", &file), ("v0_1_stored.sparse", &frame(&payload, &plain))] {
        let mut out = std::fs::File::create_new(folder().join(name)).unwrap();
        std::io::Write::write_all(&mut out, bytes).unwrap();
    }
}
