//! Many deltas in one process: memory, budgets, a base that they share, and what they change.
#![allow(clippy::unwrap_used, reason = "tests")]

mod restore_support;

use restore_support::*;
use sparse::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

fn counting(place: &Place) -> Arc<CountingModel> {
    Arc::new(CountingModel { model: place.base(), reads: Mutex::default() })
}

fn bytes_read(base: &CountingModel) -> HashMap<usize, usize> {
    let mut bytes = HashMap::new();
    for (tensor, _, len) in base.reads.lock().unwrap().drain(..) {
        *bytes.entry(tensor).or_default() += len;
    }
    bytes
}

#[test]
fn a_hundred_deltas_hash_a_base_once() {
    let place = Place::new();
    let source = counting(&place);
    let base = SharedBase::new(source.clone());
    let delta = Arc::new(place.delta());
    let models: Vec<DeltaModel> =
        (0..100).map(|_| DeltaModel::over(&base, delta.clone()).unwrap()).collect();
    assert_eq!((base.hashed(), bytes_read(&source).len()), (0, 0));
    models[7].verify_base().unwrap();
    let read = bytes_read(&source);
    assert_eq!(base.hashed(), place.pair.base_tensors.len());
    for (tensor, bytes) in &read {
        assert_eq!(*bytes as u64, base.source().tensors()[*tensor].spec.byte_len());
    }
    for model in &models {
        model.verify_base().unwrap();
    }
    assert!(bytes_read(&source).is_empty());
    // A part of a tensor needs its base checked: nothing is read but the base's part of it.
    let part = models[50].find("a.weight").unwrap();
    models[50].range(part, 20 * 100, 1000).unwrap();
    assert_eq!(bytes_read(&source).values().sum::<usize>(), 1000);
}

#[test]
fn a_shared_base_that_is_wrong_is_wrong_for_all() {
    let place = Place::new();
    let mut tensors = place.pair.base_tensors.clone();
    tensors[2] = tensors[2].tuned(99);
    place.set_base(&tensors);
    let source = counting(&place);
    let base = SharedBase::new(source.clone());
    let delta = Arc::new(place.delta());
    for round in 0..3 {
        let model = DeltaModel::over(&base, delta.clone()).unwrap();
        let e = model.verify_base().unwrap_err();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("a.weight")), "{e}");
        let e = model.range(model.find("tied").unwrap(), 0, 10).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BaseMismatch, "{e}");
        let a = base.source().find("a.weight").unwrap();
        let read = bytes_read(&source).get(&a).copied().unwrap_or(0);
        assert_eq!(read, if round == 0 { tensors[2].bytes.len() } else { 0 });
    }
}

#[test]
fn memory_is_counted_and_given_back() {
    let place = Place::new();
    let base = Arc::new(place.base());
    let delta = Arc::new(place.delta());
    let model = DeltaModel::new(Some(base), delta).unwrap();
    let fresh = model.memory();
    assert_eq!((fresh.cache, fresh.delta), (0, 0));
    assert!(fresh.index > 1000 && fresh.index < 20_000, "{fresh:?}");
    let a = model.find("a.weight").unwrap();
    model.range(a, 2000, 100).unwrap();
    // Tables, and the chunk of 500 weights of which a part was wanted.
    let used = model.memory();
    assert!(used.cache > 2 * 2048 && used.cache < 1 << 20, "{used:?}");
    assert_eq!(model.memory_bytes(), used.total());
    // Handles share it.
    assert_eq!(model.clone().memory(), used);
    model.clear();
    assert_eq!(model.memory(), fresh);
    assert!(*model.range(a, 2000, 100).unwrap() == place.pair.tensors[a].bytes[2000..2100]);

    // A delta in memory counts.
    let bytes = place.pair.delta.clone();
    let (len, codecs) = (bytes.len() as u64, Codecs::default());
    let delta = Delta::from_source(Box::new(bytes), codecs, &Limits::default()).unwrap();
    let base = Arc::new(place.base());
    let model = DeltaModel::new(Some(base), Arc::new(delta)).unwrap();
    assert_eq!(model.memory().delta, len);
}

#[test]
fn budgets_hold() {
    let place = Place::new();
    let base = SharedBase::new(Arc::new(place.base()));
    let delta = Arc::new(place.delta());
    let over = || DeltaModel::over(&base, delta.clone()).unwrap();
    let read_all = |model: &DeltaModel| {
        for (i, t) in place.pair.tensors.iter().enumerate() {
            for start in (0..t.bytes.len() - 64).step_by(t.bytes.len() / 7) {
                let part = model.range(i, start as u64, 64).unwrap();
                assert!(*part == t.bytes[start..start + 64], "{}", t.name);
            }
        }
    };
    let unbounded = over();
    read_all(&unbounded);
    let all = unbounded.memory().cache;
    // Half of that, and nothing at all: right weights, and no more than the budget or one thing.
    for budget in [all / 2, 0] {
        let model = over().with_cache_budget(budget);
        read_all(&model);
        let cache = model.memory().cache;
        assert!(cache <= budget.max(64 << 10), "{cache} of {budget}");
    }
    // Two models with one cache.
    let cache = DecodeCache::new(all / 2);
    let models = [over().with_cache(&cache), over().with_cache(&cache)];
    for model in &models {
        read_all(model);
        assert!(cache.memory_bytes() <= all / 2);
    }
    let sum: u64 = models.iter().map(|m| m.memory().cache).sum();
    assert_eq!(sum, cache.memory_bytes());
    drop(models);
    assert_eq!(cache.memory_bytes(), 0);
}

#[test]
fn what_changed_is_known_without_reading() {
    let place = Place::new();
    let source = counting(&place);
    let reads = Arc::new(Mutex::new(Vec::new()));
    let bytes = Counting { bytes: place.pair.delta.clone(), reads: reads.clone() };
    let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default());
    let delta = Arc::new(delta.unwrap());
    let model = DeltaModel::new(Some(source.clone()), delta).unwrap();
    reads.lock().unwrap().clear();
    let changed: Vec<&str> = model.changed().map(|i| &*model.tensors()[i].name).collect();
    // All but `same`, which is the base's own.
    assert_eq!(changed, ["a.weight", "copied", "emb", "fresh", "norm1", "norm2", "tied"]);
    assert!(bytes_read(&source).is_empty() && reads.lock().unwrap().is_empty());
}
