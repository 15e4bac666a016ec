//! `sparse estimate`.

use crate::args::{self, split_inputs};
use crate::failure::Failure;
use crate::human;
use crate::session::Session;
use serde::Serialize;
use sparse::{Estimate, TensorEstimate};
use sparse_open::shown;
use std::sync::Arc;
use std::time::Instant;

#[derive(Serialize)]
struct Body<'a> {
    base: Option<String>,
    finetuned: String,
    effort: String,
    threads: usize,
    #[serde(flatten)]
    found: &'a Estimate,
    ratio: Option<f64>,
    seconds: f64,
}

pub(crate) fn estimate(session: &Session, args: args::Estimate) -> Result<(), Failure> {
    let (base_path, target_path) =
        split_inputs(args.models, args.no_base, true, "the fine-tuned model")
            .map_err(Failure::Usage)?;
    let start = Instant::now();
    let base = base_path.as_deref().map(|p| session.opener().model("base", p)).transpose()?;
    let target = session.opener().model("fine-tuned", &target_path)?;
    let adapter = args.adapter.as_deref().map(|p| session.opener().adapter(p)).transpose()?;
    let job = session.compressor(&target).base(base.as_ref()).adapter(adapter.map(Arc::new));
    let found = job.effort(args.effort).estimate(args.share)?;
    let time = start.elapsed();
    let body = Body {
        base: base_path.as_deref().map(shown),
        finetuned: shown(&target_path),
        effort: args.effort.to_string(),
        threads: session.threads(),
        found: &found,
        ratio: human::ratio(found.target_bytes, found.delta_bytes),
        seconds: time.as_secs_f64(),
    };
    session.answer(&body, || {
        let share = 100.0 * found.sampled_bytes as f64 / (found.tensor_bytes as f64).max(1.0);
        let mut out = String::new();
        if session.verbose() {
            out = table(&found.tensors);
        }
        out.push_str(&format!(
            "about {} from {} ({}), {:.1} % of {} looked at in {}\n",
            human::bytes(found.delta_bytes),
            human::bytes(found.target_bytes),
            human::ratio_text(body.ratio),
            share,
            human::count(found.tensors.len() as u64, "tensor"),
            human::duration(time),
        ));
        out
    })
}

fn table(tensors: &[TensorEstimate]) -> String {
    use human::Align::{Left, Right};
    let rows: Vec<_> = tensors
        .iter()
        .map(|t| {
            [
                human::plain(&t.name).into_owned(),
                human::bytes(t.bytes),
                human::bytes(t.stored_bytes),
                human::ratio_text(t.ratio),
            ]
        })
        .collect();
    human::table([("tensor", Left), ("size", Right), ("stored", Right), ("ratio", Right)], &rows)
}
