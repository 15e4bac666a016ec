//! Objects of S3, Google Cloud Storage and Azure Blob Storage.
//!
//! A [`Bucket`] is opened by an [`ObjectName`](crate::ObjectName) and the environment. An
//! [`ObjectSource`] is one of its objects, read by ranges; an [`ObjectWriter`] makes one appear
//! whole or not at all.
//!
//! `object_store` signs, lists and repeats requests; its types stay inside. `transport` sends them
//! by ureq, and `driver` has the runtime that `object_store` needs, on a thread of its own: any
//! thread can wait for a request.

mod bucket;
mod connect;
mod driver;
mod error;
mod kind;
mod profile;
mod source;
mod transport;
mod writer;

pub use bucket::{Bucket, ObjectInfo};
pub use source::ObjectSource;
pub use writer::{ObjectWriter, WriteOptions};

#[cfg(test)]
mod tests;
