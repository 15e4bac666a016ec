//! Bytes from elsewhere, as [`ByteSource`](sparse_core::ByteSource): layers below know no network.
//!
//! * [`Location::parse`] says what a name means that somebody types: a path, an id on the Hub, a
//!   URL, an object in a store.
//! * `http`: an [`HttpSource`] is a file on a server, read by ranges; a [`Client`] sends requests.
//! * `hub`: a [`HubRepo`] of the [`Hub`] is fetched into the cache of the Hugging Face tools.
//! * `testing`: a server for tests, on loopback.
//! * `object-store`: a [`Bucket`] of S3, Google or Azure; an [`ObjectSource`] is one of its
//!   objects, and an [`ObjectWriter`] makes one appear whole.
//!
//! Nothing here prints a password, a token, or the query of a URL.

#![forbid(unsafe_code)]

mod copy;
#[cfg(any(feature = "hub", feature = "testing"))]
mod git_hash;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "hub")]
mod hub;
mod location;
#[cfg(feature = "object-store")]
mod object;
#[cfg(feature = "http")]
mod ranges;
#[cfg(feature = "testing")]
pub mod testing;
mod url;

pub use copy::copy;
#[cfg(feature = "http")]
pub use http::{Answer, Call, Client, ClientOptions, HttpSource, Method, Notice, Retry, Token};
#[cfg(feature = "hub")]
pub use hub::{FetchProgress, Fetched, Hub, HubFile, HubRepo, HubSettings, PushFile, Selection};
pub use location::{HubName, Location, ObjectName, RepoKind};
#[cfg(feature = "object-store")]
pub use object::{Bucket, ObjectInfo, ObjectSource, ObjectWriter, WriteOptions};
pub use url::Url;
