//! Restored models in a cache: found by digests, in use or removed, within a limit.

#![cfg(all(feature = "cache", feature = "encode"))]
#![allow(clippy::panic, clippy::unwrap_used)]

mod cache_support;

use cache_support::{Files, Place, T, put, safetensors, tree};
use sparse::{
    Adapter, CachedKind, CachedModel, CancelToken, Compressor, ContentHash, Delta, DeltaCache,
    Error, ErrorKind, Inline, Model, Observer, PrefetchJob, PrefetchState, Restorer, content_hash,
};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

#[test]
fn what_was_restored_is_found_again() {
    let place = Place::with(1);
    let cache = place.cache();
    assert!(cache.get(&place.delta(0)).unwrap().is_none());
    assert!(!cache.root().exists(), "nothing is made by looking");
    let built = place.get(0).unwrap();
    assert_eq!(built.restored().unwrap().files, 5);
    assert_eq!(built.kind(), CachedKind::Model);
    place.assert_right(0, built.path());
    place.assert_tidy();

    // Also under another name, without its base, and by another handle.
    fs::rename(place.delta_path(0), place.path("renamed")).unwrap();
    let delta = Delta::open(place.path("renamed")).unwrap();
    let found = place.cache().get(&delta).unwrap().unwrap();
    assert!(found.restored().is_none());
    assert_eq!((found.path(), found.key()), (built.path(), built.key()));
    let entries = cache.list().unwrap();
    let [entry] = &*entries else { panic!("{entries:?}") };
    assert!(entry.in_use && entry.problems.is_empty() && entry.path == built.path());
    assert_eq!((&*entry.base, &*entry.target), ("base", "tuned-0"));
    assert_eq!((entry.files, entry.bytes), (5, built.bytes()));
    drop((built, found));
    assert!(!cache.list().unwrap()[0].in_use);
}

#[cfg(unix)]
#[test]
fn it_is_private_and_for_reading() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with(1);
    let built = place.get(0).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path("cache/v1")), 0o700);
    assert_eq!(mode(&built.path().join("config.json")) & 0o222, 0);
}

#[test]
fn a_single_file_is_one() {
    let place = Place::with(1);
    let file = "model-1.safetensors";
    let target = Model::open(place.path("tuned-0").join(file)).unwrap();
    Compressor::new(&target).write(place.path("single.sparse")).unwrap();
    let delta = Delta::open(place.path("single.sparse")).unwrap();
    let none: Option<&Model> = None;
    let built = place.cache().get_or_reconstruct(none, &delta).unwrap();
    assert_eq!(built.path().file_name().unwrap(), file);
    assert!(fs::read(built.path()).unwrap() == fs::read(target.root()).unwrap());
    assert_eq!(place.cache().list().unwrap()[0].path, built.path());
}

#[test]
fn in_use_is_never_removed() {
    let place = Place::with(2);
    let cache = place.cache();
    let (first, second) = (place.get(0).unwrap(), place.get(1).unwrap());
    let again = place.get(0).unwrap();
    drop(first);
    let cleanup = cache.clear().unwrap();
    assert_eq!((cleanup.removed, cleanup.in_use, cleanup.kept), (0, 2, 2));
    place.assert_right(0, again.path());
    place.assert_right(1, second.path());
    drop(again);
    let cleanup = cache.clear().unwrap();
    assert_eq!((cleanup.removed, cleanup.in_use, cleanup.kept), (1, 1, 1));
    assert!(cache.get(&place.delta(0)).unwrap().is_none());
    place.assert_right(1, second.path());
    drop(second);
    assert_eq!(cache.clear().unwrap().removed, 1);
    assert_eq!(place.names("models"), [""; 0]);
    place.assert_tidy();
}

/// Sets when an entry was last used.
fn used_at(cached: &CachedModel, seconds: u64) {
    let used = cached.path().parent().unwrap().join("used");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().write(true).open(used).unwrap().set_modified(time).unwrap();
}

#[test]
fn the_longest_unused_goes_first() {
    let place = Place::with(3);
    let cache = place.cache();
    for (number, seconds) in [(0, 300), (1, 100), (2, 200)] {
        used_at(&place.get(number).unwrap(), seconds);
    }
    let there = || (0..3).map(|n| cache.get(&place.delta(n)).unwrap().is_some());
    let each = cache.list().unwrap()[0].own_bytes;
    let order: Vec<String> = cache.list().unwrap().into_iter().map(|e| e.target).collect();
    assert_eq!(order, ["tuned-0", "tuned-2", "tuned-1"]);
    let cleanup = cache.prune(3 * each).unwrap();
    assert_eq!((cleanup.removed, cleanup.kept, cleanup.kept_bytes), (0, 3, 3 * each));
    let cleanup = cache.prune(3 * each - 1).unwrap();
    assert_eq!((cleanup.removed, cleanup.removed_bytes), (1, each));
    assert_eq!(there().collect::<Vec<_>>(), [true, false, true]);

    // A limit is kept after each build, by what is not in use.
    used_at(&place.get(0).unwrap(), 400);
    used_at(&place.get(2).unwrap(), 500);
    let limited = cache.clone().with_limit(each);
    let held = cache.get(&place.delta(2)).unwrap().unwrap();
    let built = limited.get_or_reconstruct(&place.base(), &place.delta(1)).unwrap();
    assert_eq!(there().collect::<Vec<_>>(), [false, true, true]);
    place.assert_right(1, built.path());
    place.assert_right(2, held.path());
    assert_eq!((limited.limit(), cache.limit()), (Some(each), None));
}

#[test]
fn of_many_one_builds() {
    let place = Place::with(1);
    let (base, delta, cache) = (place.base(), place.delta(0), place.cache());
    let barrier = Barrier::new(8);
    let built = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let cached = cache.get_or_reconstruct(&base, &delta).unwrap();
                built.fetch_add(usize::from(cached.restored().is_some()), Ordering::Relaxed);
                place.assert_right(0, cached.path());
            });
        }
    });
    assert_eq!(built.into_inner(), 1);
    place.assert_tidy();
}

/// Cancels when anything is done, and says what it was told.
#[derive(Default)]
struct Stop {
    token: CancelToken,
    waited: AtomicBool,
}

impl Observer for Stop {
    fn begin(&self, phase: &str, _total: u64) {
        self.waited.fetch_or(phase == "waiting for another process", Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        if bytes > 0 || self.waited.load(Ordering::Relaxed) {
            self.token.cancel();
        }
    }
}

#[test]
fn stopped_it_leaves_nothing() {
    let place = Place::with(1);
    let stop = Arc::new(Stop::default());
    let cache = place.cache().cancel(stop.token.clone()).observer(stop.clone());
    let e = cache.get_or_reconstruct(&place.base(), &place.delta(0)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Cancelled);
    assert_eq!(place.names("models"), [""; 0]);
    place.assert_tidy();
    let e = cache.list().and_then(|_| cache.get_or_reconstruct(&place.base(), &place.delta(0)));
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn waiting_is_told_and_stops_too() {
    let place = Place::with(1);
    let key = place.get(0).unwrap().key().to_owned();
    place.cache().clear().unwrap();
    // As another process has it that builds.
    let lock = fs::File::create(place.path("cache/v1/locks").join(key)).unwrap();
    lock.lock().unwrap();
    let stop = Arc::new(Stop::default());
    let cache = place.cache().cancel(stop.token.clone()).observer(stop.clone());
    let e = cache.get_or_reconstruct(&place.base(), &place.delta(0)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Cancelled);
    assert!(stop.waited.load(Ordering::Relaxed));
    drop(lock);
    place.fill(0);
}

#[test]
fn failing_leaves_nothing() {
    let place = Place::with(1);
    let none: Option<&Model> = None;
    let e = place.cache().get_or_reconstruct(none, &place.delta(0)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    fs::write(place.path("base/model-1.safetensors"), {
        let mut file = fs::read(place.path("base/model-1.safetensors")).unwrap();
        *file.last_mut().unwrap() ^= 1;
        file
    })
    .unwrap();
    let e = place.get(0).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::BaseMismatch, "{e}");
    assert_eq!(place.names("models"), [""; 0]);
    place.assert_tidy();
}

/// Whoever expects a SHA-256 gets what was compared with it, or nothing.
#[test]
fn an_expected_hash_is_part_of_the_key() {
    let place = Place::with(1);
    place.fill(0);
    let target = Model::open(place.path("tuned-0")).unwrap();
    let right = content_hash(&target, &Inline, &CancelToken::new()).unwrap();
    let wrong: ContentHash = "0".repeat(64).parse().unwrap();
    let cache = place.cache().expect_content(wrong);
    assert!(cache.get(&place.delta(0)).unwrap().is_none());
    let e = cache.get_or_reconstruct(&place.base(), &place.delta(0)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
    let cache = place.cache().expect_content(right);
    let built = cache.get_or_reconstruct(&place.base(), &place.delta(0)).unwrap();
    assert!(built.restored().is_some() && built.key().ends_with(&right.to_string()));
    assert!(cache.get(&place.delta(0)).unwrap().is_some());

    // One that the delta records is compared in any case.
    Compressor::new(&target)
        .base(&place.base())
        .content_hash(true)
        .write(place.path("hashed.sparse"))
        .unwrap();
    let hashed = Delta::open(place.path("hashed.sparse")).unwrap();
    let built = place.cache().get_or_reconstruct(&place.base(), &hashed).unwrap();
    assert!(built.key().ends_with(&right.to_string()));
    assert_eq!(place.cache().list().unwrap().len(), 3);
}

/// An adapter for the base's `a.weight`.
fn adapter(place: &Place, base: &str) -> Delta {
    let factor = |name: &str, shape: &[u64], seed| {
        T::random(&format!("base_model.model.a.lora_{name}.weight"), shape, seed)
    };
    let files = Files::from([
        (
            "adapter_config.json".to_owned(),
            br#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8}"#.to_vec(),
        ),
        (
            "adapter_model.safetensors".to_owned(),
            safetensors(&[factor("A", &[4, 256], 5), factor("B", &[64, 4], 6)]),
        ),
    ]);
    put(&place.path("adapter"), &files);
    let adapter = Adapter::open(place.path("adapter")).unwrap();
    let base = Model::open(place.path(base)).unwrap();
    let out = place.path("adapter.sparse");
    Compressor::of_adapter(&adapter, &base).write(&out).unwrap();
    Delta::open(out).unwrap()
}

#[test]
fn an_adapter_is_merged_into_the_base_that_is_given() {
    let place = Place::with(0);
    let (delta, base, cache) = (adapter(&place, "base"), place.base(), place.cache());
    let merged = cache.get_or_reconstruct(&base, &delta).unwrap();
    assert_eq!(merged.kind(), CachedKind::Merged);
    Restorer::new(&delta).base(&base).merge(place.path("out")).unwrap();
    assert!(tree(merged.path()) == tree(&place.path("out")));
    let again = cache.get_or_reconstruct(&base, &delta).unwrap();
    assert!(again.restored().is_none() && again.path() == merged.path());

    // By itself it is another entry.
    assert!(cache.get(&delta).unwrap().is_none());
    let none: Option<&Model> = None;
    let alone = cache.get_or_reconstruct(none, &delta).unwrap();
    assert_eq!(alone.kind(), CachedKind::Adapter);
    assert!(tree(alone.path()) == tree(&place.path("adapter")));
    assert!(cache.get(&delta).unwrap().is_some());

    // And so is one in a base of which another file differs.
    fs::write(place.path("base/config.json"), "{}").unwrap();
    let other = cache.get_or_reconstruct(&place.base(), &delta).unwrap();
    assert!(other.restored().is_some());
    assert_eq!(fs::read(other.path().join("config.json")).unwrap(), b"{}");
    assert_eq!(cache.list().unwrap().len(), 3);
    assert_eq!(cache.verify().unwrap().damaged, []);
}

#[test]
fn several_are_restored_in_the_background() {
    let place = Place::with(3);
    let cache = place.cache();
    let job = |number: u64, name: &str| {
        let (base, delta) = (Arc::new(place.base()), Arc::new(place.delta(number)));
        PrefetchJob::new(name, Some(base), delta)
    };
    place.fill(1);
    let paths = (place.path("base"), place.delta_path(2));
    let lazy = PrefetchJob::opening("lazy", move |_| {
        let base = Arc::new(Model::open(paths.0)?);
        Ok((Some(base), Arc::new(Delta::open(paths.1)?)))
    });
    let fails = PrefetchJob::opening("fails", |_| Err(Error::corrupt("as is to be")));
    let panics = PrefetchJob::opening("panics", |_| panic!("as is to be"));
    let limited = cache.clone().with_limit(1);
    let prefetch = limited.prefetch([job(1, "one"), fails, job(0, "zero"), panics, lazy]).unwrap();
    while !prefetch.is_finished() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let progress = prefetch.progress();
    assert_eq!((progress.finished, progress.failed, progress.jobs.len()), (5, 2, 5));
    let state = |name: &str| &progress.jobs.iter().find(|(n, _)| n == name).unwrap().1;
    assert!(matches!(state("zero"), PrefetchState::Done { was_cached: false, .. }));
    assert!(matches!(state("one"), PrefetchState::Done { was_cached: true, .. }));
    assert!(
        matches!(state("fails"), PrefetchState::Failed { message } if message == "as is to be")
    );
    assert!(matches!(state("panics"), PrefetchState::Failed { .. }));
    // All are there, in spite of the limit: the handle uses them.
    let outcomes = prefetch.wait();
    for (name, number) in [("zero", 0), ("one", 1), ("lazy", 2)] {
        let (_, outcome) = outcomes.iter().find(|(n, _)| n == name).unwrap();
        place.assert_right(number, outcome.as_ref().unwrap().path());
    }
    drop(outcomes);
    assert_eq!(cache.prune(1).unwrap().removed, 3);
}

#[test]
fn background_work_stops() {
    let place = Place::with(2);
    let waits = |cancel: &CancelToken| {
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        cancel.check().map(|()| unreachable!())
    };
    let (base, delta) = (Arc::new(place.base()), Arc::new(place.delta(0)));
    let next = || PrefetchJob::new("next", Some(base.clone()), delta.clone());
    let prefetch = place.cache().prefetch([PrefetchJob::opening("waits", waits), next()]).unwrap();
    assert!(!prefetch.is_finished());
    prefetch.cancel();
    let kinds: Vec<_> =
        prefetch.wait().into_iter().map(|(_, outcome)| outcome.unwrap_err().kind()).collect();
    assert_eq!(kinds, [ErrorKind::Cancelled; 2]);
    drop(place.cache().prefetch([PrefetchJob::opening("waits", waits)]).unwrap());

    // What stops the cache stops this, and not the other way round.
    let token = CancelToken::new();
    let cache = place.cache().cancel(token.clone());
    drop(cache.prefetch([next()]).unwrap());
    assert!(!token.is_cancelled());
    token.cancel();
    let (_, outcome) = cache.prefetch([next()]).unwrap().wait().remove(0);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn the_platform_says_where() {
    // Without changing the environment, which other tests share.
    let root = DeltaCache::default_root().unwrap();
    assert!(root.is_absolute() && root.to_string_lossy().contains("sparse"));
    let relative = DeltaCache::new("some/cache");
    assert!(relative.root().is_absolute() && relative.root().ends_with("some/cache"));
}
