//! The host of large files: another name, and no tokens.

use super::answer::Answer;
use super::site::Site;
use super::wire::Incoming;

/// Name of the host of large files; the other is 127.0.0.1.
pub(super) const BLOB_HOST: &str = "localhost";

/// Returns the part of the address of a large file that proves the right to read it.
pub(super) fn signature(sha256: &str) -> String {
    sha256.chars().rev().take(16).collect()
}

/// Answers with a large file, as a bucket does: a signature is the right, and a token is refused.
pub(super) fn blob(site: &Site, request: &Incoming, sha256: &str) -> Answer {
    if request.header("authorization").is_some() {
        return Answer::refusal(400, "", "Only one auth mechanism allowed");
    }
    if request.host() != BLOB_HOST || request.query("X-Signature") != Some(signature(sha256)) {
        return Answer::refusal(403, "", "The signature does not match");
    }
    let files = site.repos.iter().flat_map(|repo| repo.all_files());
    match files.into_iter().find(|file| file.sha256.as_deref() == Some(sha256)) {
        Some(file) => Answer::content(request, &file.content, sha256),
        None => Answer::status(404),
    }
}
