//! One module per command.

mod adapter;
mod cache;
mod compress;
#[cfg(feature = "dataset")]
mod dataset;
#[cfg(feature = "dataset")]
mod dataset_diff;
mod estimate;
mod evaluation;
mod export;
mod info;
#[cfg(feature = "dataset")]
mod info_dataset;
#[cfg(feature = "dataset")]
mod labels;
mod optimize;
#[cfg(feature = "hub")]
mod push;
mod quality;
mod restore;
mod route;
mod route_log;
mod router_file;
mod savings;

use crate::args::Command;
use crate::failure::Failure;
use crate::session::Session;

/// Runs a command on the threads of the session.
///
/// # Errors
/// What the command reports, and [`Failure::Stopped`] when a signal stopped it.
pub(crate) fn run(session: &Session, command: Command) -> Result<(), Failure> {
    session.run(|| match command {
        Command::Compress(args) => compress::compress(session, args),
        Command::Reconstruct(args) => restore::reconstruct(session, args),
        Command::Verify(args) => restore::verify(session, args),
        Command::Quality(args) => quality::quality(session, args),
        Command::Info(args) => info::info(session, &args),
        Command::ExportAdapter(args) => export::export(session, &args),
        Command::CompressAdapter(args) => adapter::compress(session, &args),
        Command::Estimate(args) => estimate::estimate(session, args),
        Command::Eval(args) => evaluation::eval(session, &args),
        Command::Optimize(args) => optimize::optimize(session, &args),
        Command::Cache(args) => cache::cache(session, args),
        Command::Route(args) => route::route(session, *args),
        Command::Savings(args) => savings::savings(session, &args),
        #[cfg(feature = "hub")]
        Command::Push(args) => push::push(session, &args),
        #[cfg(feature = "dataset")]
        Command::DatasetCompress(args) => dataset::compress(session, args),
        #[cfg(feature = "dataset")]
        Command::DatasetReconstruct(args) => dataset::reconstruct(session, args),
        #[cfg(feature = "dataset")]
        Command::DatasetEstimate(args) => dataset::estimate(session, args),
        #[cfg(feature = "dataset")]
        Command::DatasetDiff(args) => dataset_diff::diff(session, args),
    })
}
