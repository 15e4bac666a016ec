//! From a request to its answer.

use super::answer::Answer;
use super::blobs::{BLOB_HOST, blob};
use super::hub;
use super::site::Site;
use super::uploads::{self, Target};
use super::wire::Incoming;

/// Returns the answer to a request to a server at this port.
pub(super) fn answer(site: &mut Site, request: &Incoming, port: u16) -> Answer {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    if matches!(request.method.as_str(), "POST" | "PUT") {
        return written(site, request, port, &segments).unwrap_or_else(|refusal| refusal);
    }
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

/// Answers a request that sends something.
fn written(
    site: &mut Site,
    request: &Incoming,
    port: u16,
    segments: &[&str],
) -> Result<Answer, Answer> {
    match (request.method.as_str(), segments) {
        ("POST", ["api", "repos", "create"]) => uploads::create(site, request),
        // Of a card's front matter, which is not looked at.
        ("POST", ["api", "validate-yaml"]) => {
            Ok(Answer::json(&serde_json::json!({ "errors": [], "warnings": [] })))
        }
        ("POST", ["api", kind @ ("models" | "datasets"), org, name, verb, revision]) => {
            let target = target(*kind == "datasets", (org, name), revision);
            match *verb {
                "preupload" => uploads::preupload(site, request, &target),
                "commit" => uploads::commit(site, request, &target),
                _ => Err(Answer::status(404)),
            }
        }
        ("POST", ["datasets", org, name, "info", "lfs", "objects", "batch"]) => {
            uploads::batch(site, request, &target(true, (org, name), ""), port)
        }
        ("POST", [org, name, "info", "lfs", "objects", "batch"]) => {
            uploads::batch(site, request, &target(false, (org, name), ""), port)
        }
        ("POST", ["uploads", oid, "verify"]) => uploads::verify(site, request, oid),
        (_, ["uploads", key @ ..]) => uploads::store(site, request, key),
        _ => Err(Answer::status(404)),
    }
}

fn target<'a>(dataset: bool, (org, name): (&str, &str), revision: &'a str) -> Target<'a> {
    let name = name.strip_suffix(".git").unwrap_or(name);
    Target { dataset, id: format!("{org}/{name}"), revision }
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
