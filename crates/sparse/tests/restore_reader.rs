//! What servers need of base and delta as a model: many reads at once, parts, threads,
//! cancellation.
#![allow(clippy::unwrap_used, reason = "tests")]

mod restore_support;

use restore_support::*;
use sparse::*;
use sparse_container::Reader;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn model(place: &Place) -> DeltaModel {
    DeltaModel::new(Some(Arc::new(place.mapped_base())), Arc::new(place.delta())).unwrap()
}

/// Offset and length of what was read of the delta.
type DeltaRead = (u64, usize);

/// Tensor, offset and length of what was read of the base.
type BaseRead = (usize, u64, usize);

/// A model whose reads, of the delta and of the base, are noted.
struct Counted {
    model: DeltaModel,
    delta: Arc<Mutex<Vec<DeltaRead>>>,
    base: Arc<CountingModel>,
}

fn counted(place: &Place, check: BaseCheck) -> Counted {
    let delta = Arc::new(Mutex::default());
    let source = Counting { bytes: place.pair.delta.clone(), reads: delta.clone() };
    let opened =
        Delta::from_source(Box::new(source), Codecs::default(), &Limits::default()).unwrap();
    let base = Arc::new(CountingModel { model: place.base(), reads: Mutex::default() });
    let model = DeltaModel::new(Some(base.clone()), Arc::new(opened)).unwrap();
    let counted = Counted { model: model.with_base_check(check), delta, base };
    counted.taken();
    counted
}

impl Counted {
    /// What was read of delta and base since the last call.
    fn taken(&self) -> (Vec<DeltaRead>, Vec<BaseRead>) {
        let base = std::mem::take(&mut *self.base.reads.lock().unwrap());
        (std::mem::take(&mut *self.delta.lock().unwrap()), base)
    }
}

/// All tensors, each into a buffer of its own.
fn read_all(model: &DeltaModel) -> Result<Vec<Vec<u8>>> {
    let mut buffers: Vec<Vec<u8>> =
        model.tensors().iter().map(|t| vec![0xa5; t.spec.byte_len() as usize]).collect();
    let mut reads: Vec<TensorRead<'_>> = buffers
        .iter_mut()
        .enumerate()
        .map(|(tensor, out)| TensorRead::new(tensor, 0, out))
        .collect();
    model.read_many(&mut reads)?;
    Ok(buffers)
}

#[test]
fn a_model_is_shared_by_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<DeltaModel>();
}

#[test]
fn all_tensors_at_once() {
    let place = Place::new();
    let want: Vec<&[u8]> = place.pair.tensors.iter().map(|t| &*t.bytes).collect();
    let model = model(&place);
    let executors: [Arc<dyn Executor>; 3] =
        [Arc::new(Inline), Arc::new(Threads::new(4)), Arc::new(Threads::new(64))];
    for executor in executors {
        assert!(read_all(&model.clone().with_executor(executor)).unwrap() == want);
    }
    #[cfg(feature = "parallel")]
    assert!(read_all(&model.with_executor(Arc::new(CurrentPool))).unwrap() == want);
}

/// Every chunk of the delta is read and decoded once, though norms share chunks and `tied` is
/// `a.weight`; and of the base nothing is read but what the chunks are decoded against, and what is
/// copied.
#[test]
fn reading_everything_reads_everything_once() {
    let place = Place::new();
    let counted = counted(&place, BaseCheck::OnFirstUse);
    read_all(&counted.model).unwrap();
    let (mut delta, base) = counted.taken();
    delta.sort_unstable();
    let reader = Reader::open(place.pair.delta.clone(), &Limits::default()).unwrap();
    let units = reader.index().units.iter().enumerate();
    let mut want: Vec<DeltaRead> = units
        .flat_map(|(unit, record)| {
            let chunks = (0..record.chunks.len() as u64).map(move |c| (unit, c));
            let chunks = chunks.map(|(unit, c)| reader.chunk(unit, c).unwrap());
            let chunks = chunks.map(|(at, chunk)| (at, chunk.len as usize));
            chunks.chain([(record.params.offset, record.params.len as usize)]).collect::<Vec<_>>()
        })
        .filter(|(_, len)| *len > 0)
        .collect();
    want.sort_unstable();
    assert_eq!(delta, want);
    // `same` is read twice: for itself, and 900 rows of it for `copied`.
    let bytes: usize = base.iter().map(|(.., len)| len).sum();
    let tensors: usize = place.pair.base_tensors.iter().map(|t| t.bytes.len()).sum();
    assert_eq!(bytes, tensors + 900 * 1200);
}

/// A rank's share of the rows: just the chunks that hold them, and just the base's weights of those
/// chunks.
#[test]
fn a_part_reads_only_its_chunks() {
    let place = Place::new();
    let counted = counted(&place, BaseCheck::Never);
    let model = &counted.model;
    let a = model.find("a.weight").unwrap();
    let reader = Reader::open(place.pair.delta.clone(), &Limits::default()).unwrap();
    let chunk = |i: u64| {
        let (offset, record) = reader.chunk(3, i).unwrap();
        (offset, record.len as usize)
    };
    // Rank 3 of 8: rows 24 to 31 of 64, 50 weights each, are weights 1200 to 1599: chunks 2 and 3
    // of 500 weights.
    let mut out = vec![0; 8 * 100];
    model.read_part_into(a, 0, 24..32, &mut out).unwrap();
    assert!(out == place.pair.tensors[a].bytes[2400..3200]);
    let params = &reader.index().units[3].params;
    let (delta, base) = counted.taken();
    assert_eq!(delta, [(params.offset, params.len as usize), chunk(2), chunk(3)]);
    let in_base = counted.base.find("a.weight").unwrap();
    assert_eq!(base, [(in_base, 2 * 1000, 1000), (in_base, 3 * 1000, 1000)]);

    // Columns need all rows; each chunk is still read once.
    let mut out = vec![0; 64 * 2 * 10];
    model.read_part_into(a, 1, 20..30, &mut out).unwrap();
    let want: Vec<u8> =
        place.pair.tensors[a].bytes.chunks(100).flat_map(|row| row[40..60].to_vec()).collect();
    assert!(out == want);
    let (delta, _) = counted.taken();
    let mut once = delta.clone();
    once.dedup();
    assert!(delta == once && delta.len() <= 7, "{delta:?}");
}

#[test]
fn opening_and_joining_reads_no_payload() {
    let place = Place::new();
    let delta = Arc::new(Mutex::default());
    let source = Counting { bytes: place.pair.delta.clone(), reads: delta.clone() };
    let opened =
        Delta::from_source(Box::new(source), Codecs::default(), &Limits::default()).unwrap();
    let base = Arc::new(CountingModel { model: place.base(), reads: Mutex::default() });
    let payload = opened.reader().payload();
    DeltaModel::new(Some(base.clone()), Arc::new(opened)).unwrap();
    assert!(base.reads.lock().unwrap().is_empty());
    for &(at, len) in &*delta.lock().unwrap() {
        assert!(at + len as u64 <= payload.start || at >= payload.end, "{at} {len} {payload:?}");
    }
}

#[test]
fn the_base_is_verified_on_demand() {
    let place = Place::new();
    let counted = counted(&place, BaseCheck::OnFirstUse);
    let model = counted.model.clone().with_executor(Arc::new(Threads::new(3)));
    model.verify_base().unwrap();
    let (delta, base) = counted.taken();
    let bytes: usize = base.iter().map(|(.., len)| len).sum();
    let tensors: usize = place.pair.base_tensors.iter().map(|t| t.bytes.len()).sum();
    assert!(delta.is_empty() && bytes == tensors);
    // Nothing is checked twice: a range now reads no more of the base than its chunk.
    counted.model.range(counted.model.find("a.weight").unwrap(), 0, 10).unwrap();
    assert_eq!(counted.taken().1.len(), 1);

    let mut tensors = place.pair.base_tensors.clone();
    tensors[2] = tensors[2].tuned(99);
    place.set_base(&tensors);
    let wrong = self::model(&place).with_base_check(BaseCheck::Never);
    let e = wrong.verify_base().unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::BaseMismatch, Some("a.weight")), "{e}");
}

/// What was decoded unchecked is not handed to those who want it checked.
#[test]
fn handles_that_check_do_not_trust_those_that_do_not() {
    let place = Place::new();
    let mut tensors = place.pair.base_tensors.clone();
    tensors[2] = tensors[2].tuned(99);
    place.set_base(&tensors);
    let checking = model(&place);
    let trusting = checking.clone().with_base_check(BaseCheck::Never);
    let a = checking.find("a.weight").unwrap();
    let _ = trusting.range(a, 0, 10);
    assert_eq!(checking.range(a, 0, 10).unwrap_err().kind(), ErrorKind::BaseMismatch);
    assert_eq!(read_all(&checking).unwrap_err().kind(), ErrorKind::BaseMismatch);
    assert_eq!(read_all(&trusting).unwrap_err().tensor(), Some("a.weight"));
}

#[test]
fn cancelling_a_handle_leaves_the_others_alone() {
    let place = Place::new();
    let model = model(&place);
    let cancel = CancelToken::new();
    let request =
        model.clone().with_cancel(cancel.clone()).with_executor(Arc::new(Threads::new(2)));
    assert!(read_all(&request).is_ok());
    cancel.cancel();
    for result in
        [read_all(&request).map(drop), request.verify_base(), request.range(0, 0, 9).map(drop)]
    {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    }
    assert!(read_all(&model).is_ok());
    assert!(read_all(&request.with_cancel(CancelToken::new())).is_ok());
}

/// Cancels once it has been asked to do as many pieces of work.
struct CancelAfter(usize, AtomicUsize, CancelToken);

impl Executor for CancelAfter {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        for i in 0..count {
            if self.1.fetch_add(1, Ordering::Relaxed) == self.0 {
                self.2.cancel();
            }
            work(i);
        }
    }

    fn width(&self) -> usize {
        2
    }
}

#[test]
fn cancelling_in_the_middle_stops_the_rest() {
    let place = Place::new();
    let counted = counted(&place, BaseCheck::Never);
    let cancel = CancelToken::new();
    let executor = Arc::new(CancelAfter(3, AtomicUsize::new(0), cancel.clone()));
    let request = counted.model.clone().with_cancel(cancel).with_executor(executor);
    assert_eq!(read_all(&request).unwrap_err().kind(), ErrorKind::Cancelled);
    // Three pieces of work: at most a chunk and the parameters of its unit each.
    assert!(counted.taken().0.len() <= 6);
}

#[test]
fn reads_may_overlap_and_be_empty() {
    let place = Place::new();
    let model = model(&place);
    let a = model.find("a.weight").unwrap();
    let want = &place.pair.tensors[a].bytes;
    let spans =
        [(10, 3000), (0, want.len()), (2999, 2), (5, 0), (want.len() - 1, 1), (0, want.len())];
    let mut buffers: Vec<Vec<u8>> = spans.iter().map(|&(_, len)| vec![0; len]).collect();
    let mut reads: Vec<TensorRead<'_>> = buffers
        .iter_mut()
        .zip(spans)
        .map(|(out, (offset, _))| TensorRead::new(a, offset as u64, out))
        .collect();
    model.read_many(&mut reads).unwrap();
    for (got, (offset, len)) in buffers.iter().zip(spans) {
        assert!(*got == want[offset..offset + len]);
    }
    model.read_many(&mut []).unwrap();
    let mut out = [0; 4];
    let bad = &mut [TensorRead::new(a, want.len() as u64 - 3, &mut out)];
    let e = model.read_many(bad).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::InvalidArgument, Some("a.weight")));
}
