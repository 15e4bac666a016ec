//! Opening a folder whose list of shards, `model.safetensors.index.json`, is the input.

use crate::Seed;
use crate::models::safetensors;
use crate::room::{put, room};
use sparse_core::TensorSource;
use sparse_model::{Checkpoint, HubCache, OpenOptions};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

const INDEX: &str = "model.safetensors.index.json";

/// A folder of two shards.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = room("shard_index");
        let shard = |name: &str| safetensors(&[(name, "U8", &[3], b"abc".to_vec())]);
        let (a, b) = (shard("a"), shard("b"));
        put(&folder, &[("model-1.safetensors", &a[..]), ("model-2.safetensors", &b[..])]);
        folder
    })
}

/// Open the folder. A list that is none is passed over, one that names a missing file is an error.
pub fn run(data: &[u8]) {
    fs::write(folder().join(INDEX), data).expect("files can be written");
    let mut options = OpenOptions::default();
    options.cache = HubCache::Off;
    if let Ok(model) = options.open(folder()) {
        assert_eq!(model.tensors().len(), 2);
        assert_eq!(model.files().len(), 3);
    }
}

/// Lists of existing and missing shards, and of paths that leave the folder.
pub fn seeds() -> Vec<Seed> {
    let map = |entries: &str| {
        format!(r#"{{"metadata":{{"total_size":6}},"weight_map":{{{entries}}}}}"#).into_bytes()
    };
    let (a, b) = (r#""a":"model-1.safetensors""#, r#""b":"model-2.safetensors""#);
    vec![
        ("two".into(), map(&format!("{a},{b}"))),
        (
            "escapes".into(),
            map(r#""\u0061":"model-1.safetensors","b\n":"model\u002d2.safetensors""#),
        ),
        ("missing".into(), map(r#""a":"model-3.safetensors""#)),
        ("outside".into(), map(r#""a":"../model-1.safetensors""#)),
        ("twice".into(), map(&format!("{a},{a}"))),
        ("empty".into(), b"{}".to_vec()),
    ]
}
