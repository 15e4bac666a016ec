//! Executors that others wrote: whatever they do that the trait allows, and some of what it does
//! not, the same bytes come out.

#![cfg(feature = "svd-encode")]
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the golden files use the other pairs")]
mod golden_pairs;
#[path = "restore_support/mod.rs"]
mod support;

use sparse::{
    Codecs, Compressor, Delta, DeltaModel, Executor, Inline, Limits, Model, TensorSource, Verifier,
};
use std::sync::Arc;

/// Runs all pieces in order, but for what it has of these.
#[derive(Default)]
struct Odd {
    width: usize,
    backwards: bool,
    /// Each piece once more.
    twice: bool,
    /// Leaves out the last piece.
    forgets: bool,
}

impl Executor for Odd {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let count = count - usize::from(self.forgets && count > 0);
        for _ in 0..if self.twice { 2 } else { 1 } {
            (0..count).for_each(|i| work(if self.backwards { count - 1 - i } else { i }));
        }
    }

    fn width(&self) -> usize {
        self.width
    }
}

#[test]
fn the_executor_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (base, target) = golden_pairs::merged_sum().put(folder.path());
    let (base, target) =
        (Arc::new(Model::open(base.unwrap()).unwrap()), Model::open(target).unwrap());
    let made = |policy: &str, executor: Arc<dyn Executor>| {
        let job = Compressor::new(&target).base(&*base).policy(policy.parse().unwrap());
        job.executor(executor).write_to(Vec::new()).unwrap().0
    };
    let odd = Odd { width: 4, ..Odd::default() };
    let all: [(&str, Arc<dyn Executor>); 5] = [
        ("backwards", Arc::new(Odd { backwards: true, ..odd })),
        ("twice", Arc::new(Odd { twice: true, ..odd })),
        ("forgets", Arc::new(Odd { forgets: true, ..odd })),
        ("width 0", Arc::new(Odd { width: 0, ..odd })),
        ("any width", Arc::new(Odd { width: usize::MAX, ..odd })),
    ];
    for policy in ["lossless", "layered=4"] {
        let expected = made(policy, Arc::new(Inline));
        for (name, executor) in &all {
            assert!(made(policy, executor.clone()) == expected, "{policy}, {name}");
            let source = Box::new(expected.clone());
            let delta = Delta::from_source(source, Codecs::default(), &Limits::default()).unwrap();
            let verifier = Verifier::new(&delta).base(&*base).executor(executor.clone());
            assert!(verifier.verify().is_ok(), "{policy}, {name}");
            let model = DeltaModel::new(Some(base.clone()), Arc::new(delta)).unwrap();
            let model = model.with_executor(executor.clone());
            assert!(model.read_all().unwrap() == target.read_all().unwrap(), "{policy}, {name}");
        }
    }
}
