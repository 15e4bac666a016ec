//! Files over HTTP and HTTPS.
//!
//! A [`Client`] sends requests: it follows redirects, tries again where that makes sense, and
//! gives a token to the host that it is for and to no other. An [`HttpSource`] is a file on a
//! server, read by ranges.

mod agent;
mod answer;
mod client;
mod credential;
mod notice;
mod paced;
mod retry;
mod source;
#[cfg(test)]
mod tests;
mod tls;

#[cfg(feature = "object-store")]
pub(crate) use agent::agent;
pub use answer::Answer;
pub use client::{Call, Client, ClientOptions, Method};
pub use credential::Token;
#[cfg(feature = "hub")]
pub(crate) use credential::base64;
pub use notice::Notice;
#[cfg(feature = "hub")]
pub(crate) use retry::Attempt;
pub use retry::Retry;
pub use source::HttpSource;
