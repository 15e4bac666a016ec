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
    Codecs, Compressor, Delta, DeltaModel, Executor, Inline, Limits, Model, Overwrite, Policy,
    Restorer, TensorSource, Threads, Verifier,
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
    let open = |path: &Path| Model::open(path).unwrap();
    let (base, target) = (Arc::new(open(base)), open(target));
    for policy in ["lossless", "svd=4", "layered=4", "sparse-int8=0.1"] {
        let policy = Policy::Fixed(policy.parse().unwrap());
        let made = Compressor::new(&target)
            .base(&*base)
            .executor(executor.clone())
            .policy(policy.clone())
            .write_to(Vec::new())
            .unwrap();
        Compressor::new(&target)
            .base(&*base)
            .executor(executor.clone())
            .policy(policy)
            .estimate(0.1)
            .unwrap();
        let delta = || {
            let source = Box::new(made.0.clone());
            Delta::from_source(source, Codecs::default(), &Limits::default()).unwrap()
        };
        Verifier::new(&delta()).base(&*base).executor(executor.clone()).verify().unwrap();
        Verifier::new(&delta()).base(&*base).executor(executor.clone()).quality(&target).unwrap();
        let overwrite = Overwrite::Replace;
        Restorer::new(&delta())
            .base(&*base)
            .overwrite(overwrite)
            .executor(executor.clone())
            .write(out)
            .unwrap();
        let source: Arc<dyn TensorSource> = base.clone();
        let model = DeltaModel::new(Some(source), Arc::new(delta()))
            .map(|m| m.with_executor(executor.clone()))
            .unwrap();
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
