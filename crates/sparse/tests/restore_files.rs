//! Restoring files: what comes back, and what is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

mod restore_support;

use restore_support::*;
use sparse::*;
use sparse_codecs::lossless::Lossless;
use sparse_container::{Index, PieceSource, Reader};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn everything_comes_back() {
    let place = Place::new();
    let report = place.restore().unwrap();
    assert_eq!(tree(&place.path("out")), place.pair.target);
    let bytes = place.pair.target.values().map(|f| f.len() as u64).sum();
    assert_eq!((report.files, report.tensors, report.bytes), (5, 8, bytes));
    let mapped = place.mapped_base();
    let delta = place.delta();
    let verified = Verifier::new(&delta).base(&mapped).verify().unwrap();
    assert_eq!(verified, report);
    Restorer::new(&delta).base(&mapped).write(place.path("out2")).unwrap();
    assert_eq!(tree(&place.path("out2")), place.pair.target);
}

#[test]
fn progress_adds_up() {
    #[derive(Default)]
    struct Count {
        total: AtomicU64,
        done: AtomicU64,
        ends: AtomicU64,
    }
    impl Observer for Count {
        fn begin(&self, phase: &str, total: u64) {
            assert_eq!(phase, "verifying");
            self.total.store(total, Ordering::Relaxed);
        }
        fn advance(&self, bytes: u64) {
            self.done.fetch_add(bytes, Ordering::Relaxed);
        }
        fn end(&self) {
            self.ends.fetch_add(1, Ordering::Relaxed);
        }
    }
    let place = Place::new();
    let count = Count::default();
    let report =
        Verifier::new(&place.delta()).base(&place.base()).observer(&count).verify().unwrap();
    assert_eq!(count.total.load(Ordering::Relaxed), report.bytes);
    assert_eq!(count.done.load(Ordering::Relaxed), report.bytes);
    assert_eq!(count.ends.load(Ordering::Relaxed), 1);
}

#[test]
fn the_base_may_be_cut_into_other_files() {
    let place = Place::new();
    fs::remove_dir_all(place.path("base")).unwrap();
    let t = &place.pair.base_tensors;
    let original = &place.pair.base["model.safetensors"];
    put(
        &place.path("base"),
        &Files::from([
            ("x-1.safetensors".into(), safetensors(&t[3..])),
            ("deep/x-2.safetensors".into(), safetensors(&t[..3])),
            ("renamed.json".into(), place.pair.base["config.json"].clone()),
            ("vocab.txt".into(), place.pair.base["vocab.txt"].clone()),
        ]),
    );
    // The head of the old file is the context of the new one's, and is not to be found.
    let e = place.fails();
    assert_eq!((e.kind(), e.file()), (ErrorKind::BaseMismatch, Some("model.safetensors")), "{e}");
    // Renamed, it is.
    fs::remove_dir_all(place.path("base")).unwrap();
    put(
        &place.path("base"),
        &Files::from([
            ("other name.safetensors".into(), original.clone()),
            ("renamed.json".into(), place.pair.base["config.json"].clone()),
            ("vocab.txt".into(), place.pair.base["vocab.txt"].clone()),
        ]),
    );
    place.restore().unwrap();
    assert_eq!(tree(&place.path("out")), place.pair.target);
}

/// One tensor against one, without heads: the base may lie in any file.
#[test]
fn shards_do_not_matter_to_tensors() {
    let (a, b) = (T::random("a", &[300, 40], 1), T::random("b", &[300, 40], 2));
    let (new_a, new_b) = (a.tuned(3), b.tuned(4));
    let mut m = Maker::new(1 << 10);
    let bases = [m.base("model.safetensors", &a), m.base("model.safetensors", &b)];
    let unit = m.unit(
        &Lossless,
        &[(&new_a, Some((bases[0], &a.bytes))), (&new_b, Some((bases[1], &b.bytes)))],
    );
    let both = [new_a, new_b];
    let parts = [
        m.blob(&head(&both), None),
        m.tensor(&both[0], &[from_unit(unit, 0, 12000)]),
        m.tensor(&both[1], &[from_unit(unit, 1, 12000)]),
    ];
    m.file("model.safetensors", &safetensors(&both), &parts);
    let dir = tempfile::tempdir().unwrap();
    put(
        &dir.path().join("base"),
        &Files::from([
            ("1.safetensors".into(), safetensors(&[b])),
            ("2.safetensors".into(), safetensors(&[a])),
        ]),
    );
    let base = Model::open(dir.path().join("base")).unwrap();
    let delta =
        Delta::from_source(Box::new(m.finish()), Codecs::default(), &Limits::default()).unwrap();
    let out = dir.path().join("out");
    Restorer::new(&delta).base(&base).write(&out).unwrap();
    assert_eq!(tree(&out)["model.safetensors"], safetensors(&both));
}

#[test]
fn a_wrong_base_is_named() {
    let good = Place::new();
    for name in ["emb", "norm1", "a.weight", "norm2", "same"] {
        let place = Place::new();
        let mut tensors = good.pair.base_tensors.clone();
        let t = tensors.iter_mut().find(|t| t.name == name).unwrap();
        *t = t.tuned(99);
        place.set_base(&tensors);
        let e = place.fails();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some(name)), "{e}");
        assert_eq!(e.file(), Some("model.safetensors"));
        assert!(e.to_string().contains("org/base"), "{e}");
    }
    // Several: the first in file order, whatever the number of threads.
    let place = Place::new();
    let tensors: Vec<T> = good.pair.base_tensors.iter().map(|t| t.tuned(99)).collect();
    place.set_base(&[&good.pair.base_tensors[..1], &tensors[1..]].concat());
    for _ in 0..5 {
        let e = place.fails();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("norm1")), "{e}");
    }
    // Files.
    for file in ["config.json", "vocab.txt"] {
        let place = Place::new();
        let mut bytes = good.pair.base[file].clone();
        bytes[3..].iter_mut().for_each(|b| *b ^= 1);
        fs::write(place.path("base").join(file), &bytes).unwrap();
        let e = place.fails();
        assert_eq!(
            (e.kind(), e.file(), e.tensor()),
            (ErrorKind::BaseMismatch, Some(file), None),
            "{e}"
        );
        bytes.push(0);
        fs::write(place.path("base").join(file), &bytes).unwrap();
        let e = place.fails();
        assert_eq!(
            (e.kind(), e.file(), e.tensor()),
            (ErrorKind::BaseMismatch, Some(file), None),
            "{e}"
        );
    }
}

#[test]
fn shapes_are_compared_before_anything_is_written() {
    let place = Place::new();
    let mut tensors = place.pair.base_tensors.clone();
    tensors[2].spec = TensorSpec::new(Dtype::Bf16, [50, 64]).unwrap();
    place.set_base(&tensors);
    let e = place.fails();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("a.weight")), "{e}");
    assert!(e.to_string().contains("expected BF16 [64, 50], found BF16 [50, 64]"), "{e}");
    tensors.remove(2);
    // As many bytes of head, so that the tensor is what is missed.
    let missing = head(&place.pair.base_tensors).len() - head(&tensors).len();
    tensors[0].name += "";
    let mut file = safetensors(&tensors);
    let at = 8 + file[8..].iter().position(|&b| b == b'{').unwrap() + 1;
    file.splice(at..at, std::iter::repeat_n(b' ', missing));
    let json = head(&place.pair.base_tensors).len() as u64 - 8;
    file[..8].copy_from_slice(&json.to_le_bytes());
    fs::write(place.path("base/model.safetensors"), file).unwrap();
    let e = place.fails();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("a.weight")), "{e}");
    assert!(e.to_string().contains("lacks this tensor"), "{e}");
}

#[test]
fn a_base_is_asked_for() {
    let place = Place::new();
    let (out, delta) = (place.path("out"), place.delta());
    let e = Restorer::new(&delta).write(&out).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains("needs its base") && e.to_string().contains("org/base"), "{e}");
    assert!(!out.exists());
}

fn index_of(delta: &[u8]) -> Index {
    Reader::open(delta.to_vec(), &Limits::default()).unwrap().index().clone()
}

#[test]
fn damage_is_named() {
    let place = Place::new();
    let good = place.pair.delta.clone();
    let index = index_of(&good);
    let damage = |at: u64| {
        let mut bytes = good.clone();
        bytes[at as usize] ^= 0x40;
        fs::write(place.path("d.sparse"), bytes).unwrap();
        let e = place.fails();
        assert_eq!((e.kind(), e.offset()), (ErrorKind::Corrupt, Some(at)), "{e}");
        assert!(e.file().unwrap().ends_with("d.sparse"), "{e}");
        e
    };
    // The first byte of a chunk of each unit, by the first entry that uses it.
    for (unit, name) in ["norm1", "emb", "emb", "a.weight", "fresh"].into_iter().enumerate() {
        let e = damage(index.units[unit].chunks_offset);
        assert_eq!(e.tensor(), Some(name), "{e}");
        if index.units[unit].params.len > 0 {
            assert_eq!(damage(index.units[unit].params.offset).tensor(), Some(name));
        }
    }
    for file in &index.files {
        for &part in &file.parts {
            if let PieceSource::Blob { blob, .. } = index.entries[part as usize].pieces[0].source {
                let e = damage(blob.offset);
                assert!(e.tensor().is_none() && e.to_string().contains(&file.path), "{e}");
            }
        }
    }
}

/// Checksums are right, but what comes out is not: the delta is to blame if the base is right.
#[test]
fn digests_tell_the_delta_from_the_base() {
    let a = T::random("a", &[100, 40], 1);
    let new = a.tuned(2);
    let dir = tempfile::tempdir().unwrap();
    put(
        &dir.path().join("base"),
        &Files::from([("m.safetensors".into(), safetensors(std::slice::from_ref(&a)))]),
    );
    let base = Model::open(dir.path().join("base")).unwrap();
    for what in ["tensor", "file", "in no file"] {
        let mut m = Maker::new(1 << 10);
        let b = m.base("m.safetensors", &a);
        let unit = m.unit(&Lossless, &[(&new, Some((b, &a.bytes)))]);
        let claimed = if what == "file" { new.clone() } else { a.tuned(3) };
        let list = std::slice::from_ref(&claimed);
        let (blob, tensor) =
            (m.blob(&head(list), None), m.tensor(&claimed, &[from_unit(unit, 0, 4000)]));
        match what {
            // A model has the tensor all the same.
            "in no file" => m.file("m.safetensors", &head(list), &[blob]),
            _ => m.file("m.safetensors", b"another", &[blob, tensor]),
        }
        let delta = Delta::from_source(Box::new(m.finish()), Codecs::default(), &Limits::default())
            .unwrap();
        let e = Verifier::new(&delta).base(&base).verify().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
        assert_eq!(e.tensor(), (what != "file").then_some("a"), "{e}");
    }
}

#[test]
fn unknown_codecs_are_refused_first() {
    let place = Place::new();
    let out = place.path("out");
    let delta =
        Delta::open_with(place.path("d.sparse"), Codecs::none(), &Limits::default()).unwrap();
    assert!(inspect(&delta).tensors.iter().any(|e| e.codec == "codec 1"));
    let base = place.base();
    let e = Restorer::new(&delta).base(&base).write(&out).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::UnknownCodec, Some("emb")), "{e}");
}

#[test]
fn cancelled() {
    struct After(CancelToken, AtomicU64);
    impl Observer for After {
        fn advance(&self, bytes: u64) {
            if self.1.fetch_add(bytes, Ordering::Relaxed) > 5000 {
                self.0.cancel();
            }
        }
    }
    let place = Place::new();
    let before = tree(place.dir.path());
    let token = CancelToken::new();
    let observer = After(token.clone(), AtomicU64::new(0));
    let (base, delta, out) = (place.base(), place.delta(), place.path("out"));
    let job = Restorer::new(&delta).base(&base).observer(&observer).cancel(token);
    let e = job.write(&out).unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::Cancelled, "cancelled"));
    assert_eq!(tree(place.dir.path()), before);
}

#[test]
fn outputs_are_replaced_only_when_asked() {
    let place = Place::new();
    let out = place.path("out");
    put(&out, &Files::from([("old".into(), b"old".to_vec())]));
    assert_eq!(place.fails_only_restoring().kind(), ErrorKind::AlreadyExists);
    let (base, delta) = (place.base(), place.delta());
    Restorer::new(&delta).base(&base).overwrite(Overwrite::Replace).write(&out).unwrap();
    assert_eq!(tree(&out), place.pair.target);
}

#[test]
fn inputs_are_never_written_to() {
    let place = Place::new();
    let before = tree(place.dir.path());
    let (base, delta) = (place.base(), place.delta());
    for bad in ["base", "base/out", ".", "d.sparse"] {
        let e = Restorer::new(&delta)
            .base(&base)
            .overwrite(Overwrite::Replace)
            .write(place.path(bad))
            .unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}: {e}");
    }
    assert_eq!(tree(place.dir.path()), before);
}

impl Place {
    fn fails_only_restoring(&self) -> Error {
        let before = tree(self.dir.path());
        let e = self.restore().unwrap_err();
        assert_eq!(tree(self.dir.path()), before);
        e
    }
}

#[test]
fn a_single_file_comes_back_as_one() {
    let a = T::random("a", &[100, 40], 1);
    let new = [a.tuned(2)];
    let dir = tempfile::tempdir().unwrap();
    let p = |s: &str| dir.path().join(s);
    fs::write(p("base.safetensors"), safetensors(std::slice::from_ref(&a))).unwrap();
    let base = Model::open(p("base.safetensors")).unwrap();
    let mut m = Maker::new(1 << 10);
    let b = m.base("model.safetensors", &a);
    let unit = m.unit(&Lossless, &[(&new[0], Some((b, &a.bytes)))]);
    let parts = [m.blob(&head(&new), None), m.tensor(&new[0], &[from_unit(unit, 0, 4000)])];
    m.file("tuned.safetensors", &safetensors(&new), &parts);
    m.index.attributes.insert(1, b"file".to_vec());
    let delta =
        Delta::from_source(Box::new(m.finish()), Codecs::default(), &Limits::default()).unwrap();
    assert!(delta.is_single_file() && inspect(&delta).is_single_file);
    let restore =
        |out: &str, overwrite| Restorer::new(&delta).base(&base).overwrite(overwrite).write(p(out));
    restore("out.safetensors", Overwrite::Refuse).unwrap();
    assert_eq!(fs::read(p("out.safetensors")).unwrap(), safetensors(&new));
    assert_eq!(
        restore("out.safetensors", Overwrite::Refuse).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    restore("out.safetensors", Overwrite::Replace).unwrap();
    restore("folder/", Overwrite::Refuse).unwrap();
    assert_eq!(fs::read(p("folder/tuned.safetensors")).unwrap(), safetensors(&new));
    fs::create_dir(p("there")).unwrap();
    restore("there", Overwrite::Refuse).unwrap();
    assert_eq!(fs::read(p("there/tuned.safetensors")).unwrap(), safetensors(&new));
    let e = restore("base.safetensors", Overwrite::Replace).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    // A wrong base leaves no file.
    fs::write(p("other.safetensors"), safetensors(&[a.tuned(9)])).unwrap();
    let other = Model::open(p("other.safetensors")).unwrap();
    let e = Restorer::new(&delta).base(&other).write(p("new")).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("a")), "{e}");
    let left = tree(dir.path()).into_keys().filter(|k| k.contains("new") || k.contains("partial"));
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_no_delta_is_refused_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let open = |p: &std::path::Path| Delta::open(p).unwrap_err();
    let path = dir.path().join("x.sparse");
    assert_eq!(open(&path).kind(), ErrorKind::NotFound);
    fs::write(&path, b"something else entirely").unwrap();
    let e = open(&path);
    assert_eq!(e.kind(), ErrorKind::NotThisFormat);
    assert!(e.file().unwrap().ends_with("x.sparse"));
    assert_eq!(open(dir.path()).kind(), ErrorKind::NotThisFormat);
    let place = Place::new();
    fs::write(&path, &place.pair.delta[..place.pair.delta.len() - 1]).unwrap();
    assert_eq!(open(&path).kind(), ErrorKind::Truncated);
}

#[test]
fn summary() {
    let place = Place::new();
    let s = inspect(&place.delta());
    assert_eq!(
        (s.version.as_str(), s.tool.as_str(), s.base_id.as_str()),
        ("1.0", "test", "org/base")
    );
    assert!(s.needs_base && !s.is_single_file);
    assert_eq!(s.delta_bytes, place.pair.delta.len() as u64);
    assert_eq!(s.target_bytes, place.pair.target.values().map(|f| f.len() as u64).sum::<u64>());
    assert_eq!((s.files.len(), s.units.len(), &*s.folders), (5, 5, &["logs/old".to_owned()][..]));
    let codec = |name: &str| s.tensors.iter().find(|e| e.name == name).unwrap().codec.clone();
    assert_eq!(
        ["same", "a.weight", "emb", "copied"].map(codec),
        ["identical", "lossless", "lossless+raw", "identical+lossless"]
    );
    let head = &s.others[0];
    assert_eq!(head.codec, "zstd");
    let a = s.tensors.iter().find(|e| e.name == "a.weight").unwrap();
    assert_eq!(a.stored_bytes, s.units[3].chunk_bytes + s.units[3].params_bytes);
    assert!(a.ratio.unwrap() > 1.0);
    let entries = || s.tensors.iter().chain(&s.others);
    let stored: u64 = entries().filter(|e| e.name != "tied").map(|e| e.stored_bytes).sum();
    let payload = s.delta_bytes - s.index_bytes;
    assert!((payload..payload + entries().count() as u64).contains(&stored), "{stored} {payload}");
}
