//! `sparse reconstruct` and `sparse verify`.

use crate::args::{Reconstruct, Verify, split_inputs};
use crate::failure::Failure;
use crate::human;
use crate::outputs::restored_name;
use crate::session::Session;
use serde::Serialize;
use sparse::{Checkpoint, Delta, Error, ErrorKind, Model, RestoreReport};
#[cfg(feature = "dataset")]
use sparse_open::AnyDelta;
use sparse_open::{recorded_model, shown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct Body<'a> {
    base: Option<String>,
    delta: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    threads: usize,
    #[serde(flatten)]
    done: &'a RestoreReport,
    seconds: f64,
    bytes_per_second: f64,
}

/// The opened inputs of a command.
struct Inputs {
    start: Instant,
    base_path: Option<PathBuf>,
    delta_path: PathBuf,
    base: Option<Model>,
    delta: Delta,
}

impl Inputs {
    fn open(session: &Session, inputs: Vec<PathBuf>, no_base: bool) -> Result<Inputs, Failure> {
        let (base_path, delta_path) =
            split_inputs(inputs, no_base, false, "the delta").map_err(Failure::Usage)?;
        // The delta first: that is quick, and fails when the two are given in the wrong order.
        let delta = session.opener().delta(&delta_path)?;
        Inputs::with(session, base_path, delta_path, delta)
    }

    fn with(
        session: &Session,
        base_path: Option<PathBuf>,
        delta_path: PathBuf,
        delta: Delta,
    ) -> Result<Inputs, Failure> {
        let base_path = base_path.or_else(|| recorded_model(&delta));
        let base = base_path.as_deref().map(|p| session.opener().model("base", p)).transpose()?;
        Ok(Inputs { start: session.start(), base_path, delta_path, base, delta })
    }

    fn report(
        &self,
        session: &Session,
        done: &RestoreReport,
        output: Option<&Path>,
        first: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let time = self.start.elapsed();
        let body = Body {
            base: self.base_path.as_deref().map(shown),
            delta: shown(&self.delta_path),
            output: output.map(shown),
            threads: session.threads(),
            done,
            seconds: time.as_secs_f64(),
            bytes_per_second: human::per_second(done.bytes, time),
        };
        session.report(&body, || {
            let content = done.content.map(|c| format!("SHA-256: {c}\n")).unwrap_or_default();
            format!("{}: {}\n{content}{}", first(), amount(done, time), human::notes(&done.notes))
        })
    }
}

/// Describes what was restored, and how fast.
fn amount(done: &RestoreReport, time: Duration) -> String {
    format!(
        "{} in {} and {} ({}, all checksums match)",
        human::bytes(done.bytes),
        human::count(done.files, "file"),
        human::count(done.tensors, "tensor"),
        // Together, because one without the other says little.
        format_args!("{}, {}", human::duration(time), human::rate(done.bytes, time)),
    )
}

pub(crate) fn reconstruct(session: &Session, args: Reconstruct) -> Result<(), Failure> {
    let inputs = Inputs::open(session, args.inputs, args.no_base)?;
    let recorded = &inputs.delta.index().provenance.target_id;
    let name = restored_name(args.output, recorded)?;
    let output = session.output(&name, args.force)?;
    let merged = inputs.base.as_ref().filter(|_| inputs.delta.is_adapter());
    output.expect_file(merged.map_or(inputs.delta.is_single_file(), Checkpoint::is_file))?;
    let job = session.restorer(&inputs.delta).base(inputs.base.as_ref());
    let job = job.layers(args.layers.unwrap_or(u32::MAX)).expect_content(args.expect_sha256);
    let job = job.overwrite(output.overwrite()).any_base(args.any_base);
    let done = match merged {
        Some(_) => job.merge(output.path()).map_err(suggest_any_base)?,
        None => job.write(output.path())?,
    };
    let is_merged = merged.is_some();
    output.finish(session)?;
    inputs.report(session, &done, Some(&name), || {
        let output = human::plain(&shown(&name)).into_owned();
        if is_merged { format!("{output} is the base with the adapter merged") } else { output }
    })
}

/// Adds the option that merges an adapter into another base.
fn suggest_any_base(e: Error) -> Error {
    if e.kind() != ErrorKind::BaseMismatch {
        return e;
    }
    let message = format!("{}; use --any-base to merge the adapter all the same", e.message());
    let mut out = Error::new(e.kind(), message);
    if let Some(tensor) = e.tensor() {
        out = out.in_tensor(tensor);
    }
    if let Some(file) = e.file() {
        out = out.in_file(file);
    }
    out
}

pub(crate) fn verify(session: &Session, args: Verify) -> Result<(), Failure> {
    #[cfg(feature = "dataset")]
    let inputs = {
        let (base, name) =
            split_inputs(args.inputs, args.no_base, false, "the delta").map_err(Failure::Usage)?;
        match session.opener().any_delta(&name)? {
            AnyDelta::Dataset(delta) => {
                let expected = args.expect_sha256;
                return super::dataset::verify(session, base, &name, (delta, expected));
            }
            AnyDelta::Model(delta) => Inputs::with(session, base, name, *delta)?,
        }
    };
    #[cfg(not(feature = "dataset"))]
    let inputs = Inputs::open(session, args.inputs, args.no_base)?;
    let job = session.verifier(&inputs.delta).base(inputs.base.as_ref());
    let done = job.expect_content(args.expect_sha256).verify()?;
    inputs.report(session, &done, None, || {
        format!("{} is intact", human::plain(&shown(&inputs.delta_path)))
    })
}
