//! A cache, and deltas to fill it with.
#![allow(dead_code, unused_imports, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../restore_support/mod.rs"]
mod support;

use sparse::{CachedModel, Compressor, Delta, DeltaCache, Model, Result};
use std::path::{Path, PathBuf};
pub(crate) use support::{Files, Rng, T, put, safetensors, tree};

/// A base, fine-tuned models and their deltas, and a cache, in a temporary folder.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    /// Makes a base and as many fine-tuned models, of 64 kB each, with a delta for each.
    pub(crate) fn with(tuned: u64) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let first = T::random("a.weight", &[64, 256], 1);
        let second = T::random("b.weight", &[64, 256], 2);
        let files = |first: &T, name: &str| {
            Files::from([
                ("model-1.safetensors".to_owned(), safetensors(std::slice::from_ref(first))),
                ("model-2.safetensors".to_owned(), safetensors(std::slice::from_ref(&second))),
                ("text/vocabulary.txt".to_owned(), b"the same in all\n".repeat(50)),
                ("config.json".to_owned(), format!("{{\"name\": {name:?}}}").into_bytes()),
                ("nothing".to_owned(), Vec::new()),
                ("void/".to_owned(), Vec::new()),
            ])
        };
        put(&place.path("base"), &files(&first, "base"));
        for number in 0..tuned {
            let name = format!("tuned-{number}");
            put(&place.path(&name), &files(&first.tuned(10 + number), &name));
            let (base, target) = (place.base(), Model::open(place.path(&name)).unwrap());
            Compressor::new(&target).base(&base).write(place.delta_path(number)).unwrap();
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn delta_path(&self, number: u64) -> PathBuf {
        self.path(&format!("{number}.sparse"))
    }

    pub(crate) fn base(&self) -> Model {
        Model::open(self.path("base")).unwrap()
    }

    pub(crate) fn delta(&self, number: u64) -> Delta {
        Delta::open(self.delta_path(number)).unwrap()
    }

    pub(crate) fn cache(&self) -> DeltaCache {
        DeltaCache::new(self.path("cache"))
    }

    /// Gets a model, restored if it must be.
    pub(crate) fn get(&self, number: u64) -> Result<CachedModel> {
        self.cache().get_or_reconstruct(&self.base(), &self.delta(number))
    }

    /// Has a model restored, and does not use it.
    pub(crate) fn fill(&self, number: u64) {
        drop(self.get(number).unwrap());
    }

    /// Whether the model is the fine-tuned one.
    pub(crate) fn assert_right(&self, number: u64, cached: &Path) {
        assert!(tree(cached) == tree(&self.path(&format!("tuned-{number}"))));
    }

    /// What lies in a folder of the cache.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("cache/v1").join(folder)) else {
            return Vec::new();
        };
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Nothing is being built or removed, and no lock is left.
    pub(crate) fn assert_tidy(&self) {
        for folder in ["building", "trash", "locks"] {
            assert_eq!(self.names(folder), [""; 0], "{folder}");
        }
    }
}
