//! An executor that the caller gives is the only one that works: no other thread is ever started.
//!
//! A process of its own, since threads are counted.

#![cfg(all(feature = "encode", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the golden files use the other pairs")]
mod golden_pairs;
#[path = "restore_support/mod.rs"]
mod support;

use sparse::{
    Codecs, Delta, DeltaModel, Executor, Inline, Limits, Model, OpenOptions, Options, Overwrite,
    Policy, Setting, TensorSource, Threads, Unobserved, compress, estimate, quality, reconstruct,
    verify,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Everything that works in parallel, on this executor, of every codec that is heavy.
fn work(base: &Path, target: &Path, out: &Path, executor: &Arc<dyn Executor>) {
    let open = |path: &Path| Model::open(path, &OpenOptions::default()).unwrap();
    let (base, target) = (Arc::new(open(base)), open(target));
    for policy in ["lossless", "svd=4", "layered=4", "sparse-int8=0.1"] {
        let policy = Policy::Fixed(Setting::parse(policy).unwrap());
        let mut options = Options::default();
        options.executor = Some(executor.clone());
        options.policy = policy;
        let made = compress(Some(&base), &target, Vec::new(), &options, &Unobserved).unwrap();
        estimate(Some(&base), &target, 0.1, &options, &Unobserved).unwrap();
        let delta = || {
            let source = Box::new(made.0.clone());
            Delta::from_source(source, Codecs::default(), &Limits::default()).unwrap()
        };
        verify(Some(&base), &delta(), &options, &Unobserved).unwrap();
        quality(Some(&base), &target, &delta(), &options, &Unobserved).unwrap();
        let overwrite = Overwrite::Replace;
        reconstruct(Some(&base), &delta(), out, overwrite, &options, &Unobserved).unwrap();
        let source: Arc<dyn TensorSource> = base.clone();
        let model = DeltaModel::new(Some(source), Arc::new(delta()), &options).unwrap();
        for tensor in 0..model.tensors().len() {
            model.bytes(tensor).unwrap();
        }
    }
}

#[test]
fn no_thread_but_those_of_the_executor() {
    let folder = tempfile::tempdir().unwrap();
    let (base, target) = golden_pairs::merged_sum().put(folder.path());
    let base = base.unwrap();
    let out = folder.path().join("out");
    let before = threads();
    // Without threads, none is there for a moment.
    let (done, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(threads(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        work(&base, &target, &out, &(Arc::new(Inline) as Arc<dyn Executor>));
        done.store(true, Ordering::Relaxed);
    });
    let most = most.into_inner();
    assert!(most <= before + 1, "{most} threads, one of which counts, and {before} before");
    // With threads for the moment, no pool stays.
    work(&base, &target, &out, &(Arc::new(Threads::new(3)) as Arc<dyn Executor>));
    let settled = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        threads() <= before
    });
    assert!(settled, "{} threads stay, {before} before", threads());
}
