//! A server: one base in memory, a fine-tune of it as a delta, read by many threads. Decoders are
//! all it needs: `default-features = false, features = ["mmap"]`.

use sparse::{
    BaseCheck, CancelToken, Delta, DeltaModel, Error, Executor, OpenOptions, Result, TensorSource,
    Threads,
};
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = here.join("../../fixtures/minilm-bf16/base");
    let delta = here.join("tests/golden/v1_0/minilm-bf16.sparse");

    // The base is mapped into memory: a promise that nobody writes to its files while it is open.
    // (By default they are read by position, which asks for no promise and lends nothing.)
    let base = Arc::new(OpenOptions::mapped().open(base)?);
    // Opening reads the delta's index and nothing else. The base is checked here, once, and trusted
    // from then on.
    let delta = Arc::new(Delta::open(&delta)?);
    let model = DeltaModel::new(Some(base), delta)?;
    let model = model.with_executor(Arc::new(Threads::new(2)));
    model.verify_base()?;
    let model = model.with_base_check(BaseCheck::Never);

    // All tensors, on two threads. (`read_many` reads into memory of the caller's.)
    let weights = model.read_all()?;
    println!("{} tensors loaded", weights.len());

    // A tensor-parallel group: each rank decodes just the chunks that hold its rows. A clone is a
    // handle; what is read through it ends when its token is cancelled, as when a client hangs up.
    let name = "embeddings.word_embeddings.weight";
    let index = model.find(name).ok_or_else(|| Error::invalid_argument("no such tensor"))?;
    let (spec, ranks) = (&model.tensors()[index].spec, 8);
    let rows = spec.shape()[0] / ranks as u64;
    let threads: &dyn Executor = &Threads::new(ranks);
    threads.try_map(ranks, |rank| {
        let request = model.clone().with_cancel(CancelToken::new());
        let mut mine = vec![0; weights[index].len() / ranks];
        let first = rank as u64 * rows;
        request.read_part_into(index, 0, first..first + rows, &mut mine)?;
        assert!(weights[index][rank * mine.len()..].starts_with(&mine));
        Ok(())
    })?;
    println!("{ranks} ranks have {rows} rows each of {name}");

    // What the delta leaves as it is in the base is borrowed from the base's mapping: no copy.
    let borrowed = (0..weights.len()).filter(|&i| model.slice(i, 0, weights[i].len()).is_some());
    println!("{} tensors are the base's own", borrowed.count());
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
