//! Names as people may see them.

use sparse_remote::{Location, RepoKind};
use std::path::Path;

/// Turns a name into text for people and reports: without secrets.
///
/// # Examples
///
/// ```
/// assert_eq!(sparse_open::shown("models/base"), "models/base");
/// let url = sparse_open::shown("https://me:secret@example.com/model.safetensors?token=secret");
/// assert!(!url.contains("secret"));
/// ```
pub fn shown(name: impl AsRef<Path>) -> String {
    let text = name.as_ref().to_string_lossy();
    if !text.contains("://") {
        return text.into_owned();
    }
    Location::parse(&text, RepoKind::Model).map_or_else(|_| "a URL".to_owned(), |l| l.to_string())
}

/// Returns the last part of a location that is not a path.
pub(crate) fn file_name(location: &Location) -> String {
    let name = match location {
        Location::Path(path) => path.to_string_lossy().into_owned(),
        Location::Http(url) => url.file_name(),
        Location::Object(object) => object.file_name().to_owned(),
        Location::Hub(name) => name.file.clone().unwrap_or_else(|| name.id.clone()),
        other => other.to_string(),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.is_empty() { "data".to_owned() } else { last.to_owned() }
}
