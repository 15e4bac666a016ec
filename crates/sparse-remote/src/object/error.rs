//! What failed, as errors of this project: without the store's own text, which may hold secrets.

use object_store::client::{HttpError, HttpErrorKind};
use sparse_core::{Error, ErrorKind};

/// Longest part of a store's message that is shown, in bytes.
const MOST_MESSAGE: usize = 200;
/// Why a request is not sent.
pub(super) const PLAIN_HTTP: &str =
    "plain HTTP would show what is sent: use https, or allow it (AWS_ALLOW_HTTP=true)";
const NOT_FOUND: &str = "there is no such object, or no such bucket";
const REFUSED: &str = "the store refuses: check the credentials and their rights";

/// Returns the error of this project for one of a store. The caller adds the object.
///
/// The store's own text is looked at and not passed on: it has signed URLs, and answers to a wrong
/// signature repeat what was signed.
pub(super) fn explain(e: &object_store::Error) -> Error {
    use object_store::Error as Store;
    let text = e.to_string();
    let said = said(&text);
    let new = |kind, message: &str| Error::new(kind, format!("{message}{said}"));
    match e {
        Store::NotFound { .. } => new(ErrorKind::NotFound, NOT_FOUND),
        Store::AlreadyExists { .. } => already_exists(),
        Store::Precondition { .. } | Store::NotModified { .. } => replaced(),
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
            new(ErrorKind::AccessDenied, REFUSED)
        }
        Store::InvalidPath { .. } => {
            Error::invalid_argument("the store cannot have a key like this: rename it")
        }
        Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            Error::invalid_argument("the store cannot do this")
        }
        _ => unclear(e, &text, &said),
    }
}

/// Returns the error of an object that appeared meanwhile, or was there before.
pub(super) fn already_exists() -> Error {
    let e = "the object exists: remove it, name another, or allow it to be replaced";
    Error::new(ErrorKind::AlreadyExists, e)
}

/// Returns the error of an object that is not the one that was opened.
pub(super) fn replaced() -> Error {
    let e = "the object was replaced while it was read: start again";
    Error::new(ErrorKind::InvalidInput, e)
}

/// Explains an error that `object_store` has no kind for.
fn unclear(e: &object_store::Error, text: &str, said: &str) -> Error {
    let new = |kind, message: String| Error::new(kind, format!("{message}{said}"));
    if is_about_credentials(text) {
        let e = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (s3), \
                 GOOGLE_APPLICATION_CREDENTIALS (gs), or AZURE_STORAGE_ACCOUNT_NAME and \
                 AZURE_STORAGE_ACCOUNT_KEY (az)";
        return Error::new(ErrorKind::AccessDenied, e);
    }
    if let Some(http) = cause::<HttpError>(e) {
        // Its text is ours, see `transport`.
        let why = std::error::Error::source(http).map(|e| format!(": {e}")).unwrap_or_default();
        return match http.kind() {
            _ if why.ends_with(PLAIN_HTTP) => Error::invalid_argument(PLAIN_HTTP),
            HttpErrorKind::Unknown | HttpErrorKind::Decode => {
                new(ErrorKind::Io, format!("the request failed{why}"))
            }
            _ => new(ErrorKind::Unavailable, format!("cannot reach the store{why}")),
        };
    }
    match status(text) {
        Some(301 | 307 | 308) => new(
            ErrorKind::InvalidArgument,
            "the bucket is in another region: set AWS_REGION to it".to_owned(),
        ),
        // Of lists, the library tells nothing apart.
        Some(404) => new(ErrorKind::NotFound, NOT_FOUND.to_owned()),
        Some(401 | 403) => new(ErrorKind::AccessDenied, REFUSED.to_owned()),
        Some(408 | 429 | 500..=599) => {
            new(ErrorKind::Unavailable, "the store fails each time: try again later".to_owned())
        }
        Some(416) => Error::truncated("the object ends before the range that was asked for"),
        Some(400) => new(ErrorKind::InvalidArgument, "the store refuses the request".to_owned()),
        _ if text.contains("without LOCATION") => new(
            ErrorKind::InvalidArgument,
            "the bucket is in another region: set AWS_REGION to it".to_owned(),
        ),
        _ if text.contains("non-partial response") => {
            Error::new(ErrorKind::Io, "the store does not serve parts of objects")
        }
        _ => new(ErrorKind::Io, "the store gave an answer that makes no sense".to_owned()),
    }
}

/// Returns whether a failed request was for credentials.
fn is_about_credentials(text: &str) -> bool {
    ["169.254.", "metadata.google", "/metadata/identity", "MissingAccessKeyId"]
        .iter()
        .any(|sign| text.contains(sign))
}

/// Returns the error of type `T` among the causes.
fn cause<T: std::error::Error + 'static>(e: &object_store::Error) -> Option<&T> {
    let mut next = std::error::Error::source(e);
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        next = e.source();
    }
    None
}

/// Returns the status code that the text of an error names.
fn status(text: &str) -> Option<u16> {
    let rest = text.split_once("status code: ")?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Returns status, code and message of a store's answer, ` (…)`, or nothing.
fn said(text: &str) -> String {
    let element = |name: &str| {
        let start = text.split_once(&format!("<{name}>"))?.1;
        let inner = start.split_once(&format!("</{name}>"))?.0;
        let line: String = inner.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let end = (0..=MOST_MESSAGE.min(line.len())).rev().find(|&n| line.is_char_boundary(n));
        line.get(..end?).map(|line| line.trim().to_owned())
    };
    let parts = [status(text).map(|s| s.to_string()), element("Code"), element("Message")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn answers_are_summed_up_without_their_secrets() {
        let e = explain(&generic(
            "Error performing GET https://s3/x?X-Amz-Signature=s3cret - Server returned non-2xx \
             status code: 503 Service Unavailable: <Error><Code>SlowDown</Code>\
             <Message>Reduce\nyour rate</Message><StringToSign>s3cret</StringToSign></Error>",
        ));
        assert_eq!(e.kind(), ErrorKind::Unavailable);
        let text = "the store fails each time: try again later (503, SlowDown, Reduce your rate)";
        assert_eq!(e.to_string(), text);
    }

    #[test]
    fn kinds() {
        let kind = |text: &str| explain(&generic(text)).kind();
        assert_eq!(kind("status code: 301 Moved"), ErrorKind::InvalidArgument);
        assert_eq!(kind("status code: 416 Range"), ErrorKind::Truncated);
        assert_eq!(kind("GET http://169.254.169.254/latest"), ErrorKind::AccessDenied);
        assert_eq!(kind("whatever"), ErrorKind::Io);
        let source = HttpError::new_boxed(HttpErrorKind::Connect, "no such host".into());
        let e = object_store::Error::Generic { store: "S3", source: Box::new(source) };
        let e = explain(&e);
        assert_eq!(e.kind(), ErrorKind::Unavailable);
        assert_eq!(e.to_string(), "cannot reach the store: no such host");
    }
}
