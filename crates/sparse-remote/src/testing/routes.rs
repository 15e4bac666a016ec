//! From a request to its answer.

use super::answer::Answer;
use super::blobs::{BLOB_HOST, blob};
use super::hub;
use super::site::Site;
use super::wire::Incoming;

/// Returns the answer to a request to a server at this port.
pub(super) fn answer(site: &mut Site, request: &Incoming, port: u16) -> Answer {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["files", ..] => plain(site, request),
        ["blobs", sha256] => blob(site, request, sha256),
        _ if request.host() == BLOB_HOST => Answer::status(404),
        ["api", "models", rest @ ..] => hub::api(site, request, false, rest),
        ["api", "datasets", rest @ ..] => hub::api(site, request, true, rest),
        ["api", "resolve-cache", "models", rest @ ..] => hub::cached(site, request, false, rest),
        ["api", "resolve-cache", "datasets", rest @ ..] => hub::cached(site, request, true, rest),
        ["datasets", rest @ ..] => hub::resolve(site, request, (true, port), rest),
        rest => hub::resolve(site, request, (false, port), rest),
    }
}

/// Answers with a plain file.
fn plain(site: &Site, request: &Incoming) -> Answer {
    let name = request.segments.iter().skip(1).cloned().collect::<Vec<_>>().join("/");
    match (request.method.as_str(), site.files.get(&name)) {
        ("GET" | "HEAD", Some(content)) => Answer::content(request, content, content.etag()),
        (_, None) => Answer::status(404),
        _ => Answer::status(405),
    }
}
