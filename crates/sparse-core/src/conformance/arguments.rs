//! Wrong arguments, cancelled work, limits: each has its own kind of error.

use super::cases::Case;
use super::subject::{Check, Encoded, Order, Subject, ensure};
use crate::{
    CancelToken, ChunkDecoder, ChunkEncoder, CodecContext, ErrorKind, Limits, Result, UnitAnalysis,
};

/// Checks all of them on a unit that the codec takes.
pub(super) fn check(subject: &Subject<'_>, case: &Case) -> Check {
    let Some(encoded) = subject.encode(case, Order::Forward)? else { return Ok(()) };
    limits(subject, case, &encoded)?;

    let mut cx = CodecContext::new();
    let analysis =
        subject.encoder.analyze(&case.unit, case.effort).map_err(|e| format!("analyze: {e:?}"))?;
    let Some(settled) = subject.analyze(case, Order::Forward, |_| true)? else { return Ok(()) };
    let encoder = settled.finish().map_err(|e| format!("finish failed the second time: {e:?}"))?;
    let bound = subject
        .encoder
        .bind(&case.unit, &encoded.unit.params, &cx.limits)
        .map_err(|e| format!("{e:?}"))?;
    let steps =
        Steps { analysis: &*analysis, encoder: &*encoder, bound: &*bound, encoded: &encoded };
    wrong_lengths(subject, case, &steps, &mut cx)?;

    let cancel = CancelToken::new();
    cancel.cancel();
    let mut cx = CodecContext::with(Limits::default(), cancel);
    for chunk in 0..case.unit.chunk_count() {
        let (mut target, base) = (case.target_chunk(chunk).to_vec(), case.base_chunk(chunk));
        let call = Call { chunk, base, want: ErrorKind::Cancelled, why: "cancelled" };
        steps.all(subject, &call, &mut target, &mut cx)?;
    }
    Ok(())
}

fn limits(subject: &Subject<'_>, case: &Case, encoded: &Encoded) -> Check {
    subject.step("binding under a limit below the size of the parameters");
    let len = encoded.unit.params.len() as u64;
    let bind = |limit| {
        let limits = Limits { max_params_bytes: limit, ..Limits::default() };
        subject.encoder.bind(&case.unit, &encoded.unit.params, &limits).err()
    };
    if let Some(limit) = len.checked_sub(1) {
        let kind = bind(limit).map(|e| e.kind());
        ensure!(
            kind == Some(ErrorKind::LimitExceeded),
            "bind of {len} bytes of parameters with a limit of {limit} must report LimitExceeded, \
                got {kind:?}"
        );
    }
    Ok(())
}

/// One call that must fail.
struct Call<'a> {
    chunk: u64,
    base: Option<&'a [u8]>,
    want: ErrorKind,
    why: &'a str,
}

/// The three calls that take a chunk.
struct Steps<'a> {
    analysis: &'a dyn UnitAnalysis,
    encoder: &'a dyn ChunkEncoder,
    bound: &'a dyn ChunkDecoder,
    encoded: &'a Encoded,
}

impl Steps<'_> {
    /// Makes all three calls with these arguments.
    ///
    /// `target` is input to two of them and output of the third.
    fn all(
        &self,
        subject: &Subject<'_>,
        call: &Call<'_>,
        target: &mut [u8],
        cx: &mut CodecContext,
    ) -> Check {
        let Call { chunk, base, want, why } = *call;
        subject.step(format_args!("calls with {why}"));
        let must_fail = |name: &str, result: Result<()>| {
            let kind = result.err().map(|e| e.kind());
            ensure!(
                kind == Some(want),
                "{name} of chunk {chunk} with {why} must report {want:?}, got {kind:?}"
            );
            Ok(())
        };
        must_fail("observe", self.analysis.observe(chunk, target, base, cx))?;
        let mut out = Vec::new();
        must_fail("encode_chunk", self.encoder.encode_chunk(chunk, target, base, &mut out, cx))?;
        let encoded = self.encoded.unit.chunk(chunk);
        must_fail("decode_chunk", self.bound.decode_chunk(chunk, encoded, base, target, cx))
    }
}

fn wrong_lengths(
    subject: &Subject<'_>,
    case: &Case,
    steps: &Steps<'_>,
    cx: &mut CodecContext,
) -> Check {
    let want = ErrorKind::InvalidArgument;
    let width = case.unit.dtype().storage_bytes();
    for chunk in 0..case.unit.chunk_count() {
        let (target, base) = (case.target_chunk(chunk), case.base_chunk(chunk));
        let len = target.len();
        for wrong in [0, len - 1, len - width, len + 1, len + width, 2 * len] {
            let mut target = vec![0; wrong];
            let why = format!("a buffer of {wrong} bytes instead of {len}");
            steps.all(subject, &Call { chunk, base, want, why: &why }, &mut target, cx)?;
        }
        let mut target = target.to_vec();
        let Some(base) = base else {
            let base = target.clone();
            let call = Call { chunk, base: Some(&base), want, why: "an unexpected base" };
            steps.all(subject, &call, &mut target, cx)?;
            continue;
        };
        steps.all(
            subject,
            &Call { chunk, base: None, want, why: "the base missing" },
            &mut target,
            cx,
        )?;
        let len = base.len();
        for wrong in [0, len - 1, len + 1, 2 * len] {
            let wrong_base = vec![0; wrong];
            let why = format!("a base of {wrong} bytes instead of {len}");
            let call = Call { chunk, base: Some(&wrong_base), want, why: &why };
            steps.all(subject, &call, &mut target, cx)?;
        }
    }
    let none: Option<&[u8]> = case.base.as_ref().map(|_| &[][..]);
    for chunk in [case.unit.chunk_count(), case.unit.chunk_count() + 1, u64::MAX] {
        let call = Call { chunk, base: none, want, why: "an index past the last chunk" };
        steps.all(subject, &call, &mut [], cx)?;
        let mut target = case.target_chunk(0).to_vec();
        let call =
            Call { chunk, base: case.base_chunk(0), want, why: "an index past the last chunk" };
        steps.all(subject, &call, &mut target, cx)?;
    }
    Ok(())
}
