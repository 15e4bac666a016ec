//! Routers, catalogues and journals as JSON.
//!
//! What is read is not trusted: fields that nobody knows are errors, as are numbers out of their
//! range, and errors name the entry and the line.

mod catalogue;
mod journal;
mod router;

use serde::de::IgnoredAny;
use serde_json::error::Category;
use sparse_core::{Error, ErrorKind, Result};

/// Converts an error of the reader; `place` is the entry, or empty.
fn unreadable(error: &serde_json::Error, place: &str) -> Error {
    let what = match error.classify() {
        Category::Eof | Category::Syntax => "not JSON: ",
        _ => "",
    };
    let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    let text = error.to_string();
    // Names of types of this crate help nobody.
    let named = text.split_once("expected struct ").and_then(|(found, rest)| {
        let at = rest.rfind(" at line ")?;
        Some(format!("{found}expected an object{}", rest.get(at..)?))
    });
    let text = named.unwrap_or(text);
    Error::new(ErrorKind::InvalidInput, format!("{place}{what}{text}"))
}

/// Refuses JSON that is not an object; `what` is what it should be, such as `a router`.
///
/// Text that is not JSON passes: the reader says where.
fn require_object(text: &str, what: &str) -> Result<()> {
    if text.trim_start().starts_with('{') || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Ok(());
    }
    let what = format!("this is not {what}, which is an object in JSON: `{{…}}`");
    Err(Error::new(ErrorKind::InvalidInput, what))
}
