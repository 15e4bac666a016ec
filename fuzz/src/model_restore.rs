//! Restoring a whole model from a delta file, in every way there is.
//!
//! An input is a delta file. Checksums would stop nearly all damage, so its mutator, see
//! [`crafted`](crate::crafted), repairs them.

use crate::Seed;
use crate::models::files;
use crate::room::{put, room};
use sparse::{
    Codecs, Compressor, Delta, DeltaModel, ErrorKind, Limits, Model, Policy, Restorer,
    TensorSource, Verifier, inspect,
};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Deltas of more bytes than this are not restored: an input shall be quick.
const MAX_BYTES: u64 = 4 << 20;

struct Bench {
    base: Arc<Model>,
    room: PathBuf,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let room = room("model_restore");
        for (name, tuned) in [("base", false), ("target", true)] {
            let files = files(tuned);
            let files: Vec<(&str, &[u8])> = files.iter().map(|f| (f.0, &f.1[..])).collect();
            put(&room.join(name), &files);
        }
        Bench { base: Arc::new(open(&room.join("base"))), room }
    })
}

fn open(path: &std::path::Path) -> Model {
    Model::open(path).expect("it was written well")
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_index_bytes = 1 << 20;
    limits.max_params_bytes = 1 << 20;
    limits.max_chunk_bytes = 1 << 20;
    limits
}

/// Open, inspect, verify, read tensor by tensor, reconstruct. What verifies can be restored, unless
/// the file system objects.
pub fn run(data: &[u8]) {
    let Bench { base, room } = bench();
    let limits = limits();
    let delta = match Delta::from_source(Box::new(data.to_vec()), Codecs::default(), &limits) {
        Ok(delta) => Arc::new(delta),
        Err(_) => return,
    };
    let _ = inspect(&delta);
    let index = delta.index();
    let len = index.files.iter().map(|f| index.file_len(f)).fold(0u64, u64::saturating_add);
    let entries = index.entries.iter().map(|e| e.spec.byte_len()).fold(0u64, u64::saturating_add);
    if len.saturating_add(entries) > MAX_BYTES {
        return;
    }
    let verified = Verifier::new(&delta).base(&**base).limits(limits.clone()).verify();
    if let Ok(model) =
        DeltaModel::new(Some(base.clone()), delta.clone()).map(|m| m.with_limits(limits.clone()))
    {
        for i in 0..model.tensors().len() {
            let read = model.bytes(i);
            assert!(read.is_ok() || verified.is_err(), "{:?}", read.err());
        }
    }
    let out = room.join("out");
    let written = Restorer::new(&delta).base(&**base).limits(limits.clone()).write(&out);
    match (&verified, &written) {
        (Ok(a), Ok(b)) => assert_eq!((a.files, a.bytes), (b.files, b.bytes)),
        (Ok(_), Err(e)) => {
            let system = [ErrorKind::Io, ErrorKind::InvalidInput, ErrorKind::AlreadyExists];
            assert!(system.contains(&e.kind()), "verified, but {e:?}");
        }
        // Verifying also looks at certificates, and at entries that are in no file.
        (Err(e), Ok(_)) => {
            let certified = index.entries.iter().any(|e| !e.attributes.is_empty());
            let mut in_files: Vec<u32> = index.files.iter().flat_map(|f| f.parts.clone()).collect();
            in_files.sort_unstable();
            in_files.dedup();
            let loose = in_files.len() < index.entries.len();
            assert!(certified || loose, "restored, but {e:?}");
        }
        (Err(_), Err(_)) => {}
    }
    if out.is_dir() {
        fs::remove_dir_all(&out).expect("what was written can be removed");
    } else if out.exists() {
        fs::remove_file(&out).expect("what was written can be removed");
    }
    assert!(written.is_ok() || fs::read_dir(room).expect("it is there").count() == 2, "leftovers");
}

/// Deltas of the same pair by every codec.
pub fn seeds() -> Vec<Seed> {
    let Bench { base, room } = bench();
    let target = open(&room.join("target"));
    let with = |setting: Option<&str>| {
        let mut job = Compressor::new(&target).base(&**base).limits(limits()).chunk_len(128);
        if let Some(setting) = setting {
            job = job.policy(Policy::Fixed(setting.parse().expect("it is a setting")));
        }
        job.write_to(Vec::new()).expect("it can be coded").0
    };
    let codecs = [
        "sparse=0.3",
        "int8",
        "sparse-int8=0.1",
        "sparse-int8-absolute=0.0001",
        "sign",
        "ulp-bounded=2",
        "svd=2",
        "svd=0.9",
        "layered=2",
    ];
    let lossy = codecs.iter().map(|codec| (codec.replace('=', "-"), with(Some(codec))));
    let alone =
        Compressor::new(&**base).limits(limits()).write_to(Vec::new()).expect("it can be coded");
    std::iter::once(("lossless".to_owned(), with(None)))
        .chain([("alone".to_owned(), alone.0)])
        .chain(lossy)
        .collect()
}
