//! A server for tests: the Hub's routes and plain files on loopback, with faults on demand.
//!
//! * `site`: what is served, [`Site`] of [`Repo`]s and [`Content`].
//! * `faults`: what goes wrong, [`Fault`], and when, [`Faults`].
//! * `log`: what was asked, [`Log`] of [`Request`]s.
//! * `server`: [`TestServer`], which listens. `wire` reads requests; `routes`, `hub`, `blobs` and
//!   `uploads` find the answer; `answer` is one and sends itself.
//!
//! Only the standard library does the talking, so that a fault of the client's library is not
//! repeated here. It listens on 127.0.0.1. Large files of the Hub are redirected to `localhost`, a
//! host of another name; a token that arrives there is answered with 400.
//!
//! # Examples
//!
//! ```
//! use sparse_remote::testing::{Repo, Site, TestServer};
//!
//! let repo = Repo::model("org/name").with_file("config.json", *b"{}");
//! let server = TestServer::start(Site::new().with_repo(repo))?;
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! assert_eq!(server.log().requests().len(), 0);
//! # Ok::<(), sparse_core::Error>(())
//! ```

mod answer;
mod blobs;
mod faults;
mod hub;
mod log;
mod routes;
mod server;
mod site;
#[cfg(test)]
mod tests;
mod uploads;
mod wire;

pub use faults::{Fault, Faults};
pub use log::{Log, Request};
pub use server::TestServer;
pub use site::{Access, Content, Quirks, Repo, Site};
