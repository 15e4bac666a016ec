//! The suite must fail: one small codec, sound, and then broken in one way at a time.

use super::{Options, Report, run, run_with};
use crate::{
    BaseUse, ChunkDecoder, ChunkEncoder, CodecContext, CodecId, CodecInfo, DeltaDecoder,
    DeltaEncoder, Dtype, Effort, Error, ErrorKind, EstimatedBits, Fidelity, Limits, Result,
    UnitAnalysis, UnitSpec, check_chunk,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{ThreadId, current};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    LosesNanPayload,
    LosesNegativeZero,
    LeavesOutAsItWas,
    LeavesOutOnDamage,
    PanicsOnTruncation,
    PanicsOnGarbageAfter,
    PanicsOnForgedParams,
    TrustsDeclaredSize,
    ForgetsItself,
    CountsEncodings,
    DependsOnOrder,
    DependsOnThread,
    DependsOnEarlierCall,
    WantsAlignment,
    WantsChunksInOrder,
    OverwritesEncoded,
    LastObservedWins,
    TrustsAnalysis,
    IgnoresWrongLength,
    IgnoresMissingBase,
    IgnoresChunkIndex,
    IgnoresCancel,
    IgnoresLimit,
    NeverSettles,
    Underestimates,
    OverestimatesOnLarge,
    EstimatesNan,
    EstimatesNoSegments,
    BlamesTheCaller,
    ObserveFails,
    SaysBaseIsIgnored,
    SaysBaseIsRequired,
    FailsOnEmptyUnit,
    FailsOnLastShortChunk,
    DeclinesEverything,
}

/// Stores target XOR base (where they have the same type), or nothing at all for units where that
/// is zero.
struct Toy {
    info: CodecInfo,
    shared: Arc<Shared>,
}

struct Shared {
    bug: Bug,
    calls: AtomicU64,
}

struct Unit {
    shared: Arc<Shared>,
    unit: UnitSpec,
    params: Vec<u8>,
    next: AtomicU64,
    home: ThreadId,
}

struct Analysis {
    shared: Arc<Shared>,
    unit: UnitSpec,
    differs: AtomicU64,
    seen: AtomicU64,
    last: AtomicU64,
}

const MAGIC: [u8; 3] = *b"toy";

impl Toy {
    fn new(bug: Bug) -> Toy {
        let base = match bug {
            Bug::SaysBaseIsIgnored => BaseUse::Ignored,
            Bug::SaysBaseIsRequired => BaseUse::Required,
            _ => BaseUse::Optional,
        };
        let info =
            CodecInfo { id: CodecId(0xffff), name: "toy", fidelity: Fidelity::Lossless, base };
        Toy { info, shared: Arc::new(Shared { bug, calls: AtomicU64::new(0) }) }
    }
}

fn xor(unit: &UnitSpec, data: &[u8], base: Option<&[u8]>) -> Vec<u8> {
    match base.filter(|_| unit.base_dtype() == Some(unit.dtype())) {
        Some(base) => data.iter().zip(base).map(|(a, b)| a ^ b).collect(),
        None => data.to_vec(),
    }
}

impl Shared {
    fn has(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn check(
        &self,
        unit: &UnitSpec,
        chunk: u64,
        data: usize,
        base: Option<&[u8]>,
        cx: &CodecContext,
    ) -> Result<()> {
        if !self.has(Bug::IgnoresCancel) {
            cx.cancel.check()?;
        }
        match check_chunk(unit, chunk, data, base.map(<[u8]>::len)) {
            Err(_) if self.has(Bug::IgnoresWrongLength) && data != 0 => Ok(()),
            Err(_)
                if self.has(Bug::IgnoresMissingBase)
                    && base.is_none()
                    && chunk < unit.chunk_count()
                    && data == unit.chunk_bytes(chunk) =>
            {
                Ok(())
            }
            Err(_) if self.has(Bug::IgnoresChunkIndex) && chunk >= unit.chunk_count() => Ok(()),
            result => result,
        }
    }
}

impl DeltaDecoder for Toy {
    fn info(&self) -> &CodecInfo {
        &self.info
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        let shared = &self.shared;
        if !shared.has(Bug::IgnoresLimit) {
            Limits::check("parameters", params.len() as u64, limits.max_params_bytes)?;
        }
        if shared.has(Bug::PanicsOnForgedParams) {
            assert!(params[3] < 2, "mode {}", params[3]);
        }
        if shared.has(Bug::TrustsDeclaredSize) && unit.len() > 1 << 39 {
            // What allocating it would do, without doing it.
            panic!("memory allocation of {} bytes failed", unit.len());
        }
        let sound = params.len() == 6 && params.starts_with(&MAGIC) && params[3] < 2;
        if !sound {
            return Err(Error::corrupt("parameters of toy"));
        }
        let (shared, unit, params) = (Arc::clone(shared), unit.clone(), params.to_vec());
        Ok(Box::new(Unit { shared, unit, params, next: AtomicU64::new(0), home: current().id() }))
    }
}

impl DeltaEncoder for Toy {
    fn analyze(&self, unit: &UnitSpec, _: Effort) -> Result<Box<dyn UnitAnalysis>> {
        if self.shared.has(Bug::DeclinesEverything) {
            return Err(Error::invalid_argument("not for me"));
        }
        if self.shared.has(Bug::FailsOnEmptyUnit) && unit.is_empty() {
            return Err(Error::corrupt("nothing there"));
        }
        let zero = || AtomicU64::new(0);
        let (shared, unit) = (Arc::clone(&self.shared), unit.clone());
        Ok(Box::new(Analysis { shared, unit, differs: zero(), seen: zero(), last: zero() }))
    }
}

impl UnitAnalysis for Analysis {
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        self.shared.check(&self.unit, chunk, target.len(), base, cx)?;
        if self.shared.has(Bug::ObserveFails) && target.len() > 1000 {
            return Err(Error::corrupt("too much for me"));
        }
        if xor(&self.unit, target, base).iter().any(|&b| b != 0) {
            self.differs.fetch_add(1, Relaxed);
        } else if self.shared.has(Bug::LastObservedWins) {
            self.differs.store(0, Relaxed);
        }
        self.seen.fetch_add(target.len() as u64, Relaxed);
        self.last.store(chunk, Relaxed);
        Ok(())
    }

    fn end_pass(&mut self, _cx: &mut CodecContext) -> Result<bool> {
        Ok(self.shared.has(Bug::NeverSettles))
    }

    fn estimated_bits(&self) -> EstimatedBits {
        let segments = self.unit.segments().len();
        let seen = if self.differs.load(Relaxed) == 0 { 0 } else { self.seen.load(Relaxed) };
        let factor = match self.shared.bug {
            Bug::Underestimates => 0.9,
            Bug::OverestimatesOnLarge if seen > 50_000 => 1.2,
            Bug::EstimatesNan => f64::NAN,
            _ => 1.0,
        };
        // How much of it is in which segment does not matter here.
        let mut payload =
            vec![0.0; if self.shared.has(Bug::EstimatesNoSegments) { 0 } else { segments }];
        if let Some(first) = payload.first_mut() {
            *first = 8.0 * seen as f64 * factor;
        }
        EstimatedBits { payload, fixed: 48.0, ..EstimatedBits::default() }
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        let all_zero = self.differs.load(Relaxed) == 0;
        let extra = match self.shared.bug {
            Bug::CountsEncodings => self.shared.calls.fetch_add(1, Relaxed),
            Bug::DependsOnOrder => self.last.load(Relaxed),
            _ => 0,
        } as u16;
        let mut params = MAGIC.to_vec();
        params.push(all_zero.into());
        params.extend(extra.to_le_bytes());
        Ok(Box::new(Unit {
            shared: self.shared,
            unit: self.unit,
            params,
            next: AtomicU64::new(0),
            home: current().id(),
        }))
    }
}

impl ChunkEncoder for Unit {
    fn params(&self) -> &[u8] {
        &self.params
    }

    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        self.shared.check(&self.unit, chunk, target.len(), base, cx)?;
        let mut diff = xor(&self.unit, target, base);
        if self.params[3] == 1 {
            if diff.iter().any(|&b| b != 0) && !self.shared.has(Bug::TrustsAnalysis) {
                return Err(Error::invalid_argument("the data changed"));
            }
            return Ok(());
        }
        let lost = |bits: u16| match self.shared.bug {
            Bug::LosesNanPayload if bits & 0x7f80 == 0x7f80 && bits & 0x7f != 0 => 0x7fc0,
            Bug::LosesNegativeZero if bits == 0x8000 => 0,
            _ => bits,
        };
        if self.unit.dtype() == Dtype::Bf16 && self.unit.base_dtype().is_none() {
            for word in diff.chunks_exact_mut(2) {
                word.copy_from_slice(&lost(u16::from_le_bytes([word[0], word[1]])).to_le_bytes());
            }
        }
        match self.shared.bug {
            Bug::OverwritesEncoded => out.clear(),
            Bug::ForgetsItself if self.shared.calls.fetch_add(1, Relaxed) % 100 == 99 => {
                diff.fill(7)
            }
            _ => {}
        }
        out.extend(diff);
        Ok(())
    }
}

impl ChunkDecoder for Unit {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        self.shared.check(&self.unit, chunk, out.len(), base, cx)?;
        let bug = self.shared.bug;
        if bug == Bug::WantsAlignment {
            assert_eq!(out.as_ptr().addr() % self.unit.dtype().storage_bytes(), 0, "unaligned");
        }
        if bug == Bug::WantsChunksInOrder && self.next.fetch_add(1, Relaxed) != chunk {
            return Err(Error::invalid_argument("not the next chunk"));
        }
        if bug == Bug::DependsOnThread && current().id() != self.home {
            return Err(Error::invalid_argument("a strange thread"));
        }
        if bug == Bug::FailsOnLastShortChunk && out.len() == 2 * 97 {
            return Err(Error::truncated("short chunk"));
        }
        let was_damaged = bug == Bug::DependsOnEarlierCall && *cx.take::<bool>();
        let nothing;
        let encoded = if self.params[3] == 1 && encoded.is_empty() {
            nothing = vec![0; out.len()];
            &nothing
        } else {
            encoded
        };
        match bug {
            Bug::PanicsOnTruncation => drop(encoded[..out.len()].to_vec()),
            Bug::PanicsOnGarbageAfter => {
                assert!(encoded.len() <= out.len(), "{} bytes left", encoded.len())
            }
            Bug::LeavesOutOnDamage if encoded.len() < out.len() => {
                out[..encoded.len()].copy_from_slice(encoded);
                return Ok(());
            }
            Bug::LeavesOutAsItWas => {
                // Zero differences are skipped, as if `out` were a copy of the base.
                let data = xor(&self.unit, encoded, base);
                for ((o, &e), &d) in out.iter_mut().zip(encoded).zip(&data) {
                    *o = if e == 0 { *o } else { d };
                }
                return Ok(());
            }
            _ => {}
        }
        if encoded.len() != out.len() {
            cx.put(Box::new(true));
            let kind = if bug == Bug::BlamesTheCaller {
                ErrorKind::InvalidArgument
            } else {
                ErrorKind::Truncated
            };
            return Err(Error::new(kind, "length of chunk"));
        }
        out.copy_from_slice(&xor(&self.unit, encoded, base));
        out[0] ^= u8::from(was_damaged);
        Ok(())
    }
}

/// What the suite says about the toy with this bug, if anything.
fn verdict(bug: Bug) -> Option<String> {
    let options = Options::default().dtypes(&[Dtype::Bf16, Dtype::U8]).mutations(1000);
    let result = catch_unwind(AssertUnwindSafe(|| run_with(&Toy::new(bug), &options)));
    result.err().map(|message| message.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn passes_a_sound_codec() {
    let Report { coded, declined } = run(&Toy::new(Bug::None));
    assert!(coded > 1000, "{coded}");
    assert_eq!(declined, 0);
    assert_eq!(verdict(Bug::None), None);
}

#[test]
fn catches_each_bug() {
    let expected = [
        (Bug::LosesNanPayload, "did not come back"),
        (Bug::LosesNegativeZero, "did not come back"),
        (Bug::LeavesOutAsItWas, "did not come back"),
        (Bug::LeavesOutOnDamage, "prior content"),
        (Bug::PanicsOnTruncation, "panicked: range end index"),
        (Bug::PanicsOnGarbageAfter, "bytes left"),
        (Bug::PanicsOnForgedParams, "parameters: the codec panicked"),
        (Bug::TrustsDeclaredSize, "panicked: memory allocation"),
        (Bug::ForgetsItself, ""),
        (Bug::CountsEncodings, "parameters differ"),
        (Bug::DependsOnOrder, "parameters differ"),
        (Bug::DependsOnThread, "Threads, unaligned): decode_chunk 0 failed"),
        (Bug::DependsOnEarlierCall, "earlier calls"),
        (Bug::WantsAlignment, "panicked: assertion"),
        (Bug::WantsChunksInOrder, "not the next chunk"),
        (Bug::OverwritesEncoded, "must append"),
        (Bug::LastObservedWins, "the data changed"),
        (Bug::TrustsAnalysis, "instead of failing"),
        (Bug::IgnoresWrongLength, "must report InvalidArgument"),
        (Bug::IgnoresMissingBase, "the base missing must report InvalidArgument"),
        (Bug::IgnoresChunkIndex, "past the last chunk must report InvalidArgument"),
        (Bug::IgnoresCancel, "must report Cancelled"),
        (Bug::IgnoresLimit, "must report LimitExceeded"),
        (Bug::NeverSettles, "another pass"),
        (Bug::Underestimates, "estimated"),
        (Bug::OverestimatesOnLarge, "estimated"),
        (Bug::EstimatesNan, "NaN bits"),
        (Bug::EstimatesNoSegments, "entries for"),
        (Bug::BlamesTheCaller, "must report Corrupt"),
        (Bug::ObserveFails, "failed on valid data"),
        (Bug::SaysBaseIsIgnored, "which the codec says it ignores"),
        (Bug::SaysBaseIsRequired, "requires a base"),
        (Bug::FailsOnEmptyUnit, "analyze failed"),
        (Bug::FailsOnLastShortChunk, "short chunk"),
        (Bug::DeclinesEverything, "declined every unit"),
    ];
    let mut wrong = Vec::new();
    for (bug, words) in expected {
        match verdict(bug) {
            None => wrong.push(format!("{bug:?} was not caught")),
            Some(message) if !message.contains(words) => wrong.push(format!("{bug:?}: {message}")),
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn failures_repeat_and_name_their_case() {
    let first = verdict(Bug::PanicsOnTruncation).unwrap();
    assert_eq!(verdict(Bug::PanicsOnTruncation).unwrap(), first);
    assert!(first.contains("codec toy does not conform: "), "{first}");
    assert!(first.contains("BF16 on nothing, 41 elements in 3 segments, chunks of 16"), "{first}");
    assert!(first.contains("Truncate(0) of chunk 0"), "{first}");
}

#[test]
fn fidelity_may_be_relaxed() {
    let run = |fidelity| {
        let options = Options::default().dtypes(&[Dtype::Bf16]).mutations(0).fidelity(fidelity);
        catch_unwind(|| run_with(&Toy::new(Bug::LosesNegativeZero), &options)).is_ok()
    };
    assert!(!run(Fidelity::Lossless));
    assert!(!run(Fidelity::UlpBounded(0)));
    assert!(run(Fidelity::UlpBounded(1)));
    assert!(run(Fidelity::Lossy));
}
