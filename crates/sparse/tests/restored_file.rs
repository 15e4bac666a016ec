//! A file of the target as a reader: the bytes that restoring it would write.

#![allow(clippy::unwrap_used)]

use sparse::{Delta, Model, RestoredFile};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

fn fixture(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/minilm-bf16").join(part)
}

fn delta() -> Delta {
    let path = "tests/golden/v1_0/minilm-bf16.sparse";
    Delta::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_file_reads_as_it_is_restored() {
    let (base, delta) = (Model::open(fixture("base")).unwrap(), delta());
    assert!(delta.index().files.len() > 3);
    for file in &delta.index().files {
        let expected = std::fs::read(fixture("finetuned").join(&file.path)).unwrap();
        let mut reader = RestoredFile::open(&delta, &base, &file.path).unwrap();
        assert_eq!(reader.byte_len(), expected.len() as u64);
        let mut whole = Vec::new();
        reader.read_to_end(&mut whole).unwrap();
        assert!(whole == expected, "{}", file.path);
        assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0, "nothing comes after the end");
        // By odd steps, forwards and backwards.
        let mut at = expected.len();
        while at > 0 {
            let len = (at / 3 + 1).min(10_007);
            at -= len;
            reader.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut part = vec![0; len];
            reader.read_exact(&mut part).unwrap();
            assert!(part == expected[at..at + len], "{} from {at}", file.path);
        }
    }
}

#[test]
fn places_are_those_of_a_file() {
    let (base, delta) = (Model::open(fixture("base")).unwrap(), delta());
    let mut reader = RestoredFile::open(&delta, &base, "model.safetensors").unwrap();
    let len = reader.byte_len();
    assert_eq!(reader.seek(SeekFrom::End(-5)).unwrap(), len - 5);
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 5);
    assert_eq!(reader.seek(SeekFrom::End(7)).unwrap(), len + 7);
    assert_eq!(reader.read(&mut [0; 3]).unwrap(), 0);
    assert!(reader.seek(SeekFrom::Current(-(len as i64) - 8)).is_err());
    assert_eq!(reader.stream_position().unwrap(), len + 7, "a failed seek moves nothing");
}

#[test]
fn a_wrong_base_or_path_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = std::fs::read(fixture("base").join("model.safetensors")).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    let (wrong, delta) = (Model::open(folder.path()).unwrap(), delta());
    let e = RestoredFile::open(&delta, &wrong, "nothing").unwrap_err();
    assert_eq!(e.kind(), sparse::ErrorKind::NotFound);
    assert!(RestoredFile::open(&delta, None::<&Model>, "model.safetensors").is_err());
    let mut reader = RestoredFile::open(&delta, &wrong, "model.safetensors").unwrap();
    let e = reader.read_to_end(&mut Vec::new()).unwrap_err();
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<sparse::Error>()).unwrap();
    assert_eq!(inner.kind(), sparse::ErrorKind::BaseMismatch, "{inner}");
}
