//! A hub: of the bases it has, it finds the one that an upload is nearest to, keeps the delta,
//! lists it without any base at hand, and serves it in ranges.

use sparse::{Codecs, Compressor, Delta, DeltaModel, Limits, Model, Result, TensorSource, inspect};
use sparse_core::{ByteSource, FileSource};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A delta on the other side of a network: here a file, elsewhere a client of HTTP range requests.
struct Remote(FileSource, Arc<AtomicU64>);

impl ByteSource for Remote {
    fn byte_len(&self) -> u64 {
        self.0.byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.1.fetch_add(out.len() as u64, Ordering::Relaxed);
        self.0.read_exact_at(offset, out)
    }
}

fn main() -> Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let open = |path: &str| Model::open(fixtures.join(path));
    let upload = open("minilm-bf16/finetuned")?;
    let bases = [open("minilm-f32/base")?, open("minilm-bf16/base")?];

    // Which base? A sample of one per cent tells.
    let mut sizes = Vec::new();
    for (i, base) in bases.iter().enumerate() {
        sizes.push((Compressor::new(&upload).base(base).estimate(0.01)?.delta_bytes, i));
    }
    let base = &bases[sizes.iter().min().map_or(0, |(_, i)| *i)];
    println!("estimates by base: {sizes:?}");

    let folder = tempfile::tempdir().map_err(|e| sparse::Error::io("cannot create a folder", e))?;
    let path = folder.path().join("upload.sparse");
    let report = Compressor::new(&upload).base(base).write(&path)?;
    println!("kept {} of {} bytes", report.delta_bytes, report.target_bytes);

    // A listing needs neither the base nor the codecs.
    let summary = inspect(&Delta::open(&path)?);
    println!("{} on {}: {} tensors", summary.target_id, summary.base_id, summary.tensors.len());

    // A client with the base fetches what it needs of one tensor, and no more.
    let file = std::fs::File::open(&path).map_err(|e| sparse::Error::io("cannot open", e))?;
    let fetched = Arc::new(AtomicU64::new(0));
    let remote = Box::new(Remote(FileSource::new(file)?, fetched.clone()));
    let delta = Delta::from_source(remote, Codecs::default(), &Limits::default())?;
    let base = Arc::new(open("minilm-bf16/base")?);
    let model = DeltaModel::new(Some(base), Arc::new(delta))?;
    let first = model.bytes(0)?;
    assert!(*first == *upload.bytes(0)?);
    println!("{} bytes fetched for {}", fetched.load(Ordering::Relaxed), model.tensors()[0].name);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
