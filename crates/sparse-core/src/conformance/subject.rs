//! Driving a codec: encode and decode in any order, from any thread, at any alignment.

use super::cases::Case;
use super::random::Random;
use crate::{
    CodecContext, DeltaEncoder, EncodedUnit, ErrorKind, EstimatedBits, Fidelity, UnitAnalysis,
};
use std::any::Any;
use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// `Err` says in a sentence how the codec broke its contract.
pub(super) type Check<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        // Not negated: a comparison with NaN is a failure.
        if $condition {
        } else {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

/// The codec under test.
pub(super) struct Subject<'a> {
    pub(super) encoder: &'a dyn DeltaEncoder,
    pub(super) fidelity: Fidelity,
    pub(super) mutations: usize,
    step: Mutex<String>,
}

/// Encoding as the suite keeps it: with what was promised beforehand.
pub(super) struct Encoded {
    pub(super) unit: EncodedUnit,
    pub(super) estimate: EstimatedBits,
}

/// In which order chunks are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Forward,
    Reverse,
    /// From several threads at once.
    Threads,
}

const THREADS: usize = 3;
/// Passes after which an analysis counts as endless.
const MAX_PASSES: usize = 64;

impl<'a> Subject<'a> {
    pub(super) fn new(encoder: &'a dyn DeltaEncoder, fidelity: Fidelity, mutations: usize) -> Self {
        Subject { encoder, fidelity, mutations, step: Mutex::default() }
    }

    /// Notes what is being done, for the report of a panic inside the codec.
    pub(super) fn step(&self, what: impl Display) {
        if let Ok(mut step) = self.step.lock() {
            *step = what.to_string();
        }
    }

    /// Runs one check, with its name before whatever goes wrong.
    ///
    /// What was being done is added.
    pub(super) fn guard<T>(&self, name: &str, check: impl FnOnce() -> Check<T>) -> Check<T> {
        self.step("starting");
        let result = catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|payload| {
            Err(format!("the codec panicked: {}", panic_message(&*payload)))
        });
        result.map_err(|e| {
            let step = self.step.lock().map(|s| s.clone()).unwrap_or_default();
            format!("{name}: {step}: {e}")
        })
    }

    /// Encodes; returns `None` when the codec does not take such a unit.
    pub(super) fn encode(&self, case: &Case, order: Order) -> Check<Option<Encoded>> {
        let Some(analysis) = self.analyze(case, order, |_| true)? else { return Ok(None) };
        let estimate = analysis.estimated_bits();
        let Some(encoder) = declined(analysis.finish(), "finish")? else { return Ok(None) };
        let params = encoder.params().to_vec();
        let chunks = self.each_chunk(case, order, |chunk, cx| {
            // Encoded chunks are appended, so what was there before must stay.
            let mut out = b"before".to_vec();
            let (target, base) = (case.target_at(chunk, order), case.base_at(chunk, order));
            encoder.encode_chunk(chunk, &target, base.as_deref(), &mut out, cx).map_err(|e| {
                format!("encode_chunk {chunk} failed on the data that was analysed: {e:?}")
            })?;
            out.strip_prefix(b"before")
                .map(<[u8]>::to_vec)
                .ok_or_else(|| format!("encode_chunk {chunk} must append, it overwrote its buffer"))
        })?;
        ensure!(encoder.params() == params, "the parameters changed while chunks were encoded");
        Ok(Some(Encoded { unit: EncodedUnit { params, chunks }, estimate }))
    }

    /// Analyses the chunks that `shown` selects.
    ///
    /// Returns `None` when the codec does not take such a unit.
    pub(super) fn analyze(
        &self,
        case: &Case,
        order: Order,
        shown: impl Fn(u64) -> bool + Sync,
    ) -> Check<Option<Box<dyn UnitAnalysis>>> {
        let Some(mut analysis) =
            declined(self.encoder.analyze(&case.unit, case.effort), "analyze")?
        else {
            return Ok(None);
        };
        for _ in 0..MAX_PASSES {
            let observer = &*analysis;
            self.each_chunk(case, order, |chunk, cx| {
                if !shown(chunk) {
                    return Ok(());
                }
                let (target, base) = (case.target_at(chunk, order), case.base_at(chunk, order));
                observer
                    .observe(chunk, &target, base.as_deref(), cx)
                    .map_err(|e| format!("observe {chunk} failed on valid data: {e:?}"))
            })?;
            // What comes out must not depend on the executor either.
            let cx = CodecContext::new();
            let mut cx = match order {
                Order::Forward => cx,
                _ => cx.on(Arc::new(crate::Threads::new(THREADS))),
            };
            match declined(analysis.end_pass(&mut cx), "end_pass")? {
                None => return Ok(None),
                Some(false) => return Ok(Some(analysis)),
                Some(true) => {}
            }
        }
        Err(format!("the analysis still wants another pass after {MAX_PASSES}"))
    }

    /// Decodes into buffers that held something else before.
    pub(super) fn decode(
        &self,
        case: &Case,
        encoded: &EncodedUnit,
        order: Order,
    ) -> Check<Vec<u8>> {
        let bound = self
            .encoder
            .bind(&case.unit, &encoded.params, &CodecContext::new().limits)
            .map_err(|e| format!("bind refused the encoder's own parameters: {e:?}"))?;
        let chunks = self.each_chunk(case, order, |chunk, cx| {
            let bytes = Unaligned::new(encoded.chunk(chunk), order);
            let mut out = Unaligned::new(&vec![0; case.unit.chunk_bytes(chunk)], order);
            Random::named(&format!("{order:?}")).fill(&mut out);
            bound
                .decode_chunk(chunk, &bytes, case.base_at(chunk, order).as_deref(), &mut out, cx)
                .map_err(|e| {
                    format!("decode_chunk {chunk} failed on the encoder's own output: {e:?}")
                })?;
            Ok(out.to_vec())
        })?;
        Ok(chunks.concat())
    }

    /// Calls `work` with every chunk in this order.
    ///
    /// The results are in order of chunk all the same.
    pub(super) fn each_chunk<T: Send>(
        &self,
        case: &Case,
        order: Order,
        work: impl Fn(u64, &mut CodecContext) -> Check<T> + Sync,
    ) -> Check<Vec<T>> {
        let count = case.unit.chunk_count();
        if order != Order::Threads {
            let mut cx = CodecContext::new();
            let mut results = Vec::new();
            for i in 0..count {
                results
                    .push(work(if order == Order::Reverse { count - 1 - i } else { i }, &mut cx)?);
            }
            if order == Order::Reverse {
                results.reverse();
            }
            return Ok(results);
        }
        let worker = |first: usize| -> Check<Vec<(u64, T)>> {
            let mut cx = CodecContext::new();
            (first as u64..count)
                .step_by(THREADS)
                .map(|chunk| Ok((chunk, work(chunk, &mut cx)?)))
                .collect()
        };
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let worker = &worker;
            let handles: Vec<_> = (0..THREADS).map(|i| scope.spawn(move || worker(i))).collect();
            for handle in handles {
                results.extend(handle.join().unwrap_or_else(|payload| {
                    Err(format!("the codec panicked: {}", panic_message(&*payload)))
                })?);
            }
            Check::Ok(())
        })?;
        results.sort_by_key(|(chunk, _)| *chunk);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

/// Returns true if an error says that a unit is not for the codec.
///
/// Any other failure on valid data breaks the contract.
fn declined<T>(result: crate::Result<T>, call: &str) -> Check<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::InvalidArgument => Ok(None),
        Err(e) => Err(format!("{call} failed on a valid unit: {e:?}")),
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}

impl EncodedUnit {
    pub(super) fn chunk(&self, chunk: u64) -> &[u8] {
        self.chunks.get(chunk as usize).map_or(&[], Vec::as_slice)
    }
}

impl Case {
    pub(super) fn target_chunk(&self, chunk: u64) -> &[u8] {
        let (range, width) = (self.unit.chunk_range(chunk), self.unit.dtype().storage_bytes());
        &self.target[range.start as usize * width..range.end as usize * width]
    }

    pub(super) fn base_chunk(&self, chunk: u64) -> Option<&[u8]> {
        let (range, width) =
            (self.unit.chunk_range(chunk), self.unit.base_dtype()?.storage_bytes());
        Some(&self.base.as_ref()?[range.start as usize * width..range.end as usize * width])
    }

    pub(super) fn target_at(&self, chunk: u64, order: Order) -> Unaligned {
        Unaligned::new(self.target_chunk(chunk), order)
    }

    pub(super) fn base_at(&self, chunk: u64, order: Order) -> Option<Unaligned> {
        self.base_chunk(chunk).map(|base| Unaligned::new(base, order))
    }
}

/// A copy of some bytes: aligned for going forward, off by one in the other orders.
pub(super) struct Unaligned {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl Unaligned {
    pub(super) fn new(bytes: &[u8], order: Order) -> Self {
        let mut buffer = vec![0; bytes.len() + 128];
        let to_aligned = buffer.as_ptr().addr().wrapping_neg() % 64;
        let start = to_aligned + usize::from(order != Order::Forward);
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        Unaligned { buffer, start, len: bytes.len() }
    }
}

impl Deref for Unaligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl DerefMut for Unaligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}
