//! What the Hub says no to, and what to do then.

use super::address::Address;
use crate::{Answer, RepoKind};
use sparse_core::{Error, ErrorKind};

/// What was asked of the Hub.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) address: Address<'a>,
    pub(super) revision: &'a str,
    pub(super) with_token: bool,
}

/// Failure of a request to the Hub.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The repository is there, and has no such revision or file: what is in the cache must not
    /// stand for it.
    pub(super) is_gone: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, is_gone: false }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

impl Failure {
    /// Returns whether what the cache has may stand for what the Hub did not give.
    pub(super) fn leaves_cache(&self) -> bool {
        let kinds = [ErrorKind::Unavailable, ErrorKind::AccessDenied, ErrorKind::NotFound];
        !self.is_gone && kinds.contains(&self.error.kind())
    }
}

impl Asked<'_> {
    /// Turns a failure into an error that says what to do.
    pub(super) fn refused(&self, answer: Answer) -> Failure {
        let place = answer.url().to_string();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        let (code, message) = (header("x-error-code"), answer.message().unwrap_or_default());
        let (id, page) = (self.address.id, self.address.page());
        let kind = match self.address.kind {
            RepoKind::Model => "model",
            RepoKind::Dataset => "dataset",
        };
        let log_in = "set HF_TOKEN, or run `hf auth login`";
        let denied = ErrorKind::AccessDenied;
        let (error, text) = match (answer.status(), &*code) {
            (401, "GatedRepo") if !self.with_token => {
                (denied, format!("{id} is gated: ask for access at {page}, then {log_in}"))
            }
            (401 | 403, "GatedRepo") => {
                let who = "and the account of this token has no access";
                (denied, format!("{id} is gated, {who}: ask for it at {page}"))
            }
            (401, _) if message.contains("Invalid credentials") => {
                (denied, format!("the Hub does not know this token: {log_in} with a valid one"))
            }
            (401, _) if !self.with_token => {
                let e = format!("there is no {kind} {id}, or it is private: check the name");
                (ErrorKind::NotFound, format!("{e}, or {log_in}"))
            }
            (401, _) | (404, "RepoNotFound") => {
                let e = format!("there is no {kind} {id}, or this token may not see it");
                (ErrorKind::NotFound, format!("{e}: check the name and the token"))
            }
            (404, "RevisionNotFound") => {
                let e = format!("{id} has no revision {}", self.revision);
                (ErrorKind::NotFound, format!("{e}: {page} lists its branches and tags"))
            }
            (404, "EntryNotFound") => {
                let e = format!("{id} has no such file at revision {}", self.revision);
                (ErrorKind::NotFound, e)
            }
            (403, _) if !message.is_empty() => {
                (denied, format!("the Hub refuses access to {id}: {}", message))
            }
            _ => return answer.into_error().into(),
        };
        let is_gone = matches!(&*code, "RevisionNotFound" | "EntryNotFound");
        Failure { error: Error::new(error, text).in_file(place), is_gone }
    }

    /// Turns the refusal to write into an error that says what to do.
    pub(super) fn refused_write(&self, answer: Answer) -> Error {
        let place = answer.url().to_string();
        let id = self.address.id;
        let (status, name) = (answer.status(), new_name(&answer, id));
        if !matches!(status, 301 | 302 | 303 | 307 | 308 | 400 | 403 | 409 | 412 | 413 | 422) {
            return self.refused(answer).into();
        }
        let says = answer.said_anywhere();
        let says = says.map(|text| format!(" ({text})")).unwrap_or_default();
        let (kind, text) = match status {
            403 => {
                let page = self.address.endpoint.with_path(["settings", "tokens"]);
                let e = format!("this token may not write to {id}{says}");
                (ErrorKind::AccessDenied, format!("{e}: make one that may, at {page}"))
            }
            413 => (ErrorKind::LimitExceeded, format!("the Hub takes nothing so large{says}")),
            400 | 409 | 412 | 422 => {
                (ErrorKind::Io, format!("the Hub refuses what was sent (status {status}){says}"))
            }
            _ => {
                let name = name.map(|name| format!(", {name}")).unwrap_or_default();
                (ErrorKind::NotFound, format!("{id} has another name now{name}: give that"))
            }
        };
        Error::new(kind, text).in_file(place)
    }
}

/// Returns the name that a repository has now, by where a request about `id` was redirected to.
fn new_name(answer: &Answer, id: &str) -> Option<String> {
    let to = answer.url().join(answer.header("location")?).ok()?;
    let (before, after) = answer.url().path().split_once(id)?;
    let name = to.path().strip_prefix(before)?.strip_suffix(after)?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

/// Returns the error of a content that the host of large files does not take.
pub(super) fn refused_content(answer: Answer) -> Error {
    if matches!(answer.status(), 408 | 429 | 500..=599) {
        return answer.into_error();
    }
    let (status, place) = (answer.status(), answer.url().to_string());
    let says = answer.said_anywhere().map(|text| format!(", {text}")).unwrap_or_default();
    let kind = match status {
        401 | 403 => ErrorKind::AccessDenied,
        413 => ErrorKind::LimitExceeded,
        _ => ErrorKind::Io,
    };
    let e =
        format!("the host of large files refuses the content (status {status}{says}): try again");
    Error::new(kind, e).in_file(place)
}
