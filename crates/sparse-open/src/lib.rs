//! Open models, adapters, datasets and deltas by the names that people type.
//!
//! An [`Opener`] takes a path, an id on the Hub (`org/name`, `org/name@revision`, `hf://…`), a
//! URL or the name of an object in a store, and returns what is there as the other crates know it:
//! a [`Model`](sparse::Model), an [`Adapter`](sparse::Adapter), a [`Delta`](sparse::Delta), a
//! `Dataset`. `sparse-remote` says what a name means and moves the bytes; the command and the
//! bindings for other languages open all their inputs here, and so take the same names.
//!
//! # Examples
//!
//! ```
//! use sparse_open::Opener;
//!
//! # let pair = "../../fixtures/minilm-bf16";
//! # let (base, finetuned) = (format!("{pair}/base"), format!("{pair}/finetuned"));
//! let opener = Opener::new();
//! let base = opener.model("base", base)?;
//! let finetuned = opener.model("fine-tuned", finetuned)?;
//! let (delta, _) = sparse::Compressor::new(&finetuned).base(&base).write_to(Vec::new())?;
//! assert!(delta.len() < 1 << 20);
//! # Ok::<(), sparse::Error>(())
//! ```

#![forbid(unsafe_code)]

#[cfg(feature = "dataset")]
mod datasets;
mod found;
mod models;
mod observer;
mod opener;
mod recorded;
mod shown;

#[cfg(feature = "dataset")]
pub use datasets::AnyDelta;
pub use found::{Found, Local, Wanted};
pub use models::Tuned;
#[cfg(feature = "hub")]
pub use observer::Downloads;
pub use observer::{OpenObserver, Silent};
pub use opener::Opener;
#[cfg(feature = "dataset")]
pub use recorded::recorded_dataset;
pub use recorded::{is_on_hub, recorded_model};
pub use shown::shown;
