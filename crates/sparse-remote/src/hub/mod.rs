//! The Hugging Face Hub, and the cache that is shared with its Python client.
//!
//! * `settings`: [`HubSettings`], from the environment.
//! * `repo`: a [`Hub`] has repositories, [`HubRepo`]; [`HubRepo::fetch`] brings what a
//!   [`Selection`] chooses of one into the cache.
//! * `address`: where things are on the Hub.
//! * `listing`: names, sizes and digests of files ([`HubFile`]), as the Hub lists them, and as the
//!   cache has them.
//! * `choice`: what is meant of a repository, by the Hub's list or by that of the cache.
//! * `select`: which files are needed; `dataset` and `model` have the rules.
//! * `layout`: the folders of the cache; `lock`: one writer of a file at a time.
//! * `plan`: files that are missing, and then their names in a snapshot.
//! * `download`: one file, resumed, checked, and moved into place; `partial` is the file meanwhile.
//! * `push`: files into a repository, [`PushFile`]; `upload` is one of them.
//! * `refusal`: what the Hub says no to, and what to do then.
//! * `progress`: [`FetchProgress`], who is told what comes.
//!
//! Nothing gets into the cache under its name before its digest is as the Hub states it: SHA-256
//! of large files, git's SHA-1 of others.

mod address;
mod choice;
mod damaged;
mod dataset;
mod download;
mod layout;
mod listing;
mod lock;
mod model;
mod partial;
mod plan;
mod progress;
mod push;
#[cfg(test)]
mod push_tests;
mod refusal;
mod repo;
mod select;
mod settings;
#[cfg(test)]
mod tests;
mod upload;

pub use listing::HubFile;
pub use plan::Fetched;
pub use progress::FetchProgress;
pub use push::PushFile;
pub use repo::{Hub, HubRepo};
pub use select::Selection;
pub use settings::HubSettings;
