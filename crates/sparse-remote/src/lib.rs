//! Bytes from elsewhere, as [`ByteSource`](sparse_core::ByteSource): layers below know no network.
//!
//! * `http`: an [`HttpSource`] is a file on a server, read by ranges; a [`Client`] sends requests.
//!
//! Nothing here prints a password, a token, or the query of a URL.

#![forbid(unsafe_code)]

#[cfg(feature = "http")]
mod http;
#[cfg(any(feature = "http", feature = "object-store"))]
mod ranges;
mod url;

#[cfg(feature = "http")]
pub use http::{Answer, Call, Client, ClientOptions, HttpSource, Method, Retry, Token};
pub use url::Url;
