//! One request, from reading it to its last line.
//!
//! `request` says what can be asked, `models` opens what it names, `chosen` finds the
//! model's tensors among those of its folder, `evaluate` and `quantise` do it,
//! `output` writes the lines, and `stop` ends the work early.

mod chosen;
mod evaluate;
mod models;
mod output;
mod quantise;
mod request;
mod stop;
mod threads;

use output::Output;
use request::{Job, Request};
use serde_json::Value;
use sparse_core::{Error, ErrorKind, Result};
use sparse_eval::Watch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the program.
pub(crate) fn run() -> ExitCode {
    let stop = stop::Stop::watch();
    let output = Arc::new(Output::new(stop.token()));
    // A panic would be a fault of this program; whoever drives it is told in a line all the same.
    let result = catch_unwind(AssertUnwindSafe(|| answer(&stop, &output)));
    let result = result.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Internal, "the program failed: see its standard error"))
    });
    match result {
        Ok(result) => output.result(result),
        Err(e) => output.error(&e),
    }
}

fn answer(stop: &stop::Stop, output: &Arc<Output>) -> Result<Value> {
    let text = request::read()?;
    let request = Request::parse(&text)?;
    threads::ensure(request.threads, &text)?;
    if request.until_input_ends {
        stop.at_end_of_input();
    }
    stop.insist(output.clone());
    let pool = threads::pool()?;
    let watch = Watch::new().observer(&**output).cancel(stop.token());
    pool.install(|| match request.job {
        Job::Evaluate(job) => evaluate::run(&job, &watch, &stop.token()),
        Job::Quantise(job) => quantise::run(&job, &watch, &stop.token()),
    })
}
