//! Reading routers.

use crate::failure::Failure;
use crate::text_file;
use sparse_open::shown;
use sparse_route::Router;
use std::path::Path;

/// Longest catalogue and router, in bytes: far above what a person writes or training makes.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// Reads a router from a file.
pub(super) fn read_router(path: &Path) -> Result<Router, Failure> {
    let text = text_file::read(path, MAX_FILE)?;
    Ok(Router::from_json(&text).map_err(|e| e.in_file(shown(path)))?)
}
