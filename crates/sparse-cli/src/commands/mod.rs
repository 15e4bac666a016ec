//! One module per command.

mod adapter;
mod compress;
#[cfg(feature = "dataset")]
pub(crate) mod dataset;
mod estimate;
mod info;
mod quality;
#[cfg(feature = "dataset")]
mod recorded;
mod restore;

pub(crate) use adapter::{compress as compress_adapter, export as export_adapter};
pub(crate) use compress::compress;
pub(crate) use estimate::estimate;
pub(crate) use info::info;
pub(crate) use quality::quality;
pub(crate) use restore::{reconstruct, verify};

use crate::failure::Failure;
use crate::session::Session;
use sparse::{Codecs, Delta};
use std::path::Path;

/// A path for JSON, where only Unicode can stand.
fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn open_delta(session: &Session, path: &Path) -> Result<Delta, Failure> {
    Ok(Delta::open_with(path, Codecs::default(), &session.limits())?)
}
