//! What several commands need.

use crate::failure::Failure;
use crate::session::Session;
use sparse::{Codecs, Delta};
use std::path::Path;

/// Turns a path into text for JSON, where only Unicode can stand.
pub(super) fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Opens a delta of a model with all codecs and the limits of this run.
pub(super) fn open_delta(session: &Session, path: &Path) -> Result<Delta, Failure> {
    Ok(Delta::open_with(path, Codecs::default(), &session.limits())?)
}
