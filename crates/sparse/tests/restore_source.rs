//! Base and delta as a model.
#![allow(clippy::unwrap_used, reason = "tests")]

mod restore_support;

use restore_support::*;
use sparse::*;
use sparse_container::Reader;
use std::sync::{Arc, Mutex};

fn model(place: &Place, base: Model) -> DeltaModel {
    DeltaModel::new(Some(Arc::new(base)), Arc::new(place.delta())).unwrap()
}

#[test]
fn is_the_target() {
    let place = Place::new();
    put(&place.path("target"), &place.pair.target);
    let target = Model::open(place.path("target")).unwrap();
    for base in [place.base(), place.mapped_base()] {
        let model = model(&place, base);
        assert_eq!(model.tensors(), target.tensors());
        for (i, t) in place.pair.tensors.iter().enumerate() {
            assert_eq!(model.find(&t.name), Some(i));
            assert!(*model.bytes(i).unwrap() == *t.bytes, "{}", t.name);
        }
        assert!(model.find("nothing").is_none());
    }
}

#[test]
fn ranges() {
    let place = Place::new();
    let model = model(&place, place.base());
    let mut rng = Rng(1);
    for (i, t) in place.pair.tensors.iter().enumerate() {
        for _ in 0..50 {
            let start = rng.next() as usize % t.bytes.len();
            let len = rng.next() as usize % (t.bytes.len() - start + 1).min(5000);
            assert!(
                *model.range(i, start as u64, len).unwrap() == t.bytes[start..start + len],
                "{}",
                t.name
            );
        }
        let e = model.range(i, 1, t.bytes.len()).unwrap_err();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::InvalidArgument, Some(&*t.name)));
    }
    assert!(model.bytes(99).is_err());
}

#[cfg(feature = "mmap")]
#[test]
fn what_is_equal_is_borrowed() {
    let place = Place::new();
    let base = Arc::new(place.mapped_base());
    let whole = base.bytes(base.find("same").unwrap()).unwrap();
    let model = DeltaModel::new(Some(base.clone()), Arc::new(place.delta())).unwrap();
    let same = model.find("same").unwrap();
    let slice = model.slice(same, 0, whole.len()).unwrap();
    assert_eq!(slice.as_ptr(), whole.as_ptr());
    assert_eq!(model.slice(same, 8, 10).unwrap().as_ptr(), whole[8..].as_ptr());
    // A piece of a tensor, too.
    let copied = model.find("copied").unwrap();
    assert_eq!(model.slice(copied, 600, 10).unwrap().as_ptr(), whole[600..].as_ptr());
    assert!(model.slice(copied, 900 * 1200 - 5, 10).is_none());
    assert!(model.slice(model.find("a.weight").unwrap(), 0, 10).is_none());
}

#[test]
fn a_range_reads_only_its_chunks() {
    let place = Place::new();
    let reads = Arc::new(Mutex::new(Vec::new()));
    let source = Counting { bytes: place.pair.delta.clone(), reads: reads.clone() };
    let delta =
        Delta::from_source(Box::new(source), Codecs::default(), &Limits::default()).unwrap();
    let model = DeltaModel::new(Some(Arc::new(place.base())), Arc::new(delta)).unwrap();
    let a = model.find("a.weight").unwrap();
    reads.lock().unwrap().clear();
    // Rows 20 to 29 of 50 weights, in chunks of 500: just chunk 2.
    let want = &place.pair.tensors[a].bytes[20 * 100..30 * 100];
    assert!(*model.range(a, 20 * 100, 1000).unwrap() == *want);
    let reader = Reader::open(place.pair.delta.clone(), &Limits::default()).unwrap();
    let chunk = |i: u64| {
        let (offset, record) = reader.chunk(3, i).unwrap();
        (offset, record.len as usize)
    };
    let params = &reader.index().units[3].params;
    assert_eq!(*reads.lock().unwrap(), [(params.offset, params.len as usize), chunk(2)]);
    // The tables are there now. One row of another chunk, then another row of it: it is kept.
    reads.lock().unwrap().clear();
    for row in [41, 42, 43] {
        assert!(
            *model.range(a, row * 100, 100).unwrap()
                == place.pair.tensors[a].bytes[row as usize * 100..][..100]
        );
    }
    assert_eq!(*reads.lock().unwrap(), [chunk(4)]);
}

#[test]
fn eight_threads() {
    let place = Place::new();
    let model = model(&place, place.mapped_base());
    std::thread::scope(|s| {
        for thread in 0..8 {
            let (model, place) = (&model, &place);
            s.spawn(move || {
                let mut rng = Rng(thread);
                for _ in 0..100 {
                    let i = rng.next() as usize % place.pair.tensors.len();
                    let t = &place.pair.tensors[i];
                    if rng.next().is_multiple_of(4) {
                        assert!(*model.bytes(i).unwrap() == *t.bytes);
                    } else {
                        let start = rng.next() as usize % t.bytes.len();
                        let len = (t.bytes.len() - start).min(777);
                        assert!(
                            *model.range(i, start as u64, len).unwrap()
                                == t.bytes[start..start + len]
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn a_wrong_base_is_found_on_first_use() {
    let place = Place::new();
    let mut tensors = place.pair.base_tensors.clone();
    tensors[2] = tensors[2].tuned(99);
    tensors[4] = tensors[4].tuned(98);
    place.set_base(&tensors);
    let wrong = model(&place, place.mapped_base());
    let find = |name: &str| wrong.find(name).unwrap();
    for (name, base) in
        [("a.weight", "a.weight"), ("tied", "a.weight"), ("same", "same"), ("copied", "same")]
    {
        let e = wrong.range(find(name), 0, 10).unwrap_err();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some(base)), "{e}");
        assert!(wrong.slice(find(name), 0, 10).is_none());
    }
    for good in ["emb", "norm1", "norm2", "fresh"] {
        wrong.bytes(find(good)).unwrap();
    }
    let trusting = wrong.with_base_check(BaseCheck::Never);
    let find = |name: &str| trusting.find(name).unwrap();
    // A whole tensor is checked against its own digest all the same.
    let e = trusting.bytes(find("a.weight")).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("a.weight")), "{e}");
    let mut out = vec![0; tensors[4].bytes.len()];
    let e = trusting.read_range_into(find("same"), 0, &mut out).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("same")), "{e}");
    assert!(*trusting.range(find("same"), 4, 20).unwrap() == tensors[4].bytes[4..24]);
}

#[test]
fn types_and_presence_are_checked_at_once() {
    let place = Place::new();
    let new = |base: Option<Model>| {
        let base = base.map(|b| Arc::new(b) as Arc<dyn TensorSource>);
        DeltaModel::new(base, Arc::new(place.delta())).unwrap_err()
    };
    assert_eq!(new(None).kind(), ErrorKind::InvalidArgument);
    let mut tensors = place.pair.base_tensors.clone();
    tensors[1].spec = TensorSpec::new(Dtype::F16, [48]).unwrap();
    place.set_base(&tensors);
    let e = new(Some(place.base()));
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("norm1")), "{e}");
    tensors.remove(1);
    place.set_base(&tensors);
    let e = new(Some(place.base()));
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("norm1")), "{e}");
}

#[test]
fn damage_is_named() {
    let place = Place::new();
    let reader = Reader::open(place.pair.delta.clone(), &Limits::default()).unwrap();
    let (at, _) = reader.chunk(3, 2).unwrap();
    let mut bytes = place.pair.delta.clone();
    bytes[at as usize] ^= 1;
    std::fs::write(place.path("d.sparse"), bytes).unwrap();
    let model = model(&place, place.base());
    let tied = model.find("tied").unwrap();
    let e = model.bytes(tied).unwrap_err();
    assert_eq!(
        (e.kind(), e.tensor(), e.offset()),
        (ErrorKind::Corrupt, Some("tied"), Some(at)),
        "{e}"
    );
    assert!(e.file().unwrap().ends_with("d.sparse"));
    // The other chunks are as good as ever.
    assert!(*model.range(tied, 0, 2000).unwrap() == place.pair.tensors[tied].bytes[..2000]);
}

/// Two files with tensors of one name: both are there, under the names that `Model` gives them.
#[test]
fn names_are_qualified_as_in_a_model() {
    let (x, y) = (T::random("w", &[40, 10], 1), T::random("w", &[40, 20], 2));
    let (only, files) = (T::random("b:w", &[4], 3), ["a.safetensors", "b.safetensors"]);
    let dir = tempfile::tempdir().unwrap();
    let contents = [vec![x.clone()], vec![y.clone(), only.clone()]];
    let base: Files =
        files.iter().zip(&contents).map(|(f, t)| ((*f).into(), safetensors(t))).collect();
    put(&dir.path().join("base"), &base);
    let base = Arc::new(Model::open(dir.path().join("base")).unwrap());
    let mut m = Maker::new(100);
    let mut new = Vec::new();
    for (file, tensors) in files.iter().zip(&contents) {
        let mut parts = vec![m.blob(&head(tensors), None)];
        let tuned: Vec<T> = tensors.iter().map(|t| t.tuned(7)).collect();
        for (t, old) in tuned.iter().zip(tensors) {
            let b = m.base(file, old);
            let unit = m.unit(&sparse_codecs::lossless::Lossless, &[(t, Some((b, &old.bytes)))]);
            parts.push(m.tensor(t, &[from_unit(unit, 0, t.spec.storage_len())]));
        }
        m.file(file, &safetensors(&tuned), &parts);
        new.extend(tuned);
    }
    let delta =
        Delta::from_source(Box::new(m.finish()), Codecs::default(), &Limits::default()).unwrap();
    let model = DeltaModel::new(Some(base.clone()), Arc::new(delta)).unwrap();
    assert_eq!(model.tensors(), base.tensors());
    let bytes = |name: &str| model.bytes(model.find(name).unwrap()).unwrap().into_owned();
    assert!(bytes("a.safetensors:w") == new[0].bytes && bytes("b.safetensors:w") == new[1].bytes);
    assert!(bytes("b:w") == new[2].bytes);
}

/// A delta on a delta, read on many threads at once.
#[test]
fn chains() {
    let a = T::random("a", &[300, 40], 1);
    let (second, third) = (a.tuned(2), a.tuned(2).tuned(3));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.safetensors"), safetensors(std::slice::from_ref(&a)))
        .unwrap();
    let mut source: Arc<dyn TensorSource> =
        Arc::new(Model::open(dir.path().join("a.safetensors")).unwrap());
    for (old, new) in [(&a, &second), (&second, &third)] {
        let mut m = Maker::new(1000);
        let b = m.base("a.safetensors", old);
        let unit = m.unit(&sparse_codecs::lossless::Lossless, &[(new, Some((b, &old.bytes)))]);
        let list = std::slice::from_ref(new);
        let parts = [m.blob(&head(list), None), m.tensor(new, &[from_unit(unit, 0, 12000)])];
        m.file("a.safetensors", &safetensors(list), &parts);
        let delta = Delta::from_source(Box::new(m.finish()), Codecs::default(), &Limits::default())
            .unwrap();
        source = Arc::new(DeltaModel::new(Some(source), Arc::new(delta)).unwrap());
    }
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| assert!(*source.bytes(0).unwrap() == *third.bytes));
        }
    });
}
