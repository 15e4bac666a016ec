//! What is told while inputs are found and opened.

use sparse::Observer;
#[cfg(feature = "hub")]
use std::fmt;

/// Watches inputs being found, downloaded and opened; what it ignores it need not implement.
///
/// Downloads are phases of the [`Observer`], in bytes.
///
/// # Examples
///
/// ```
/// use sparse_open::{OpenObserver, Opener};
/// use std::sync::Arc;
///
/// struct Print;
///
/// impl sparse::Observer for Print {}
///
/// impl OpenObserver for Print {
///     fn explain(&self, role: &str, text: &str) {
///         eprintln!("{role}: {text}");
///     }
/// }
///
/// let opener = Opener::new().with_observer(Arc::new(Print));
/// ```
pub trait OpenObserver: Observer {
    /// Tells what an input was taken for, and why; `role` is what it is to the caller.
    fn explain(&self, role: &str, text: &str) {
        let _ = (role, text);
    }

    /// Tells a person what is worth knowing, such as why a server is waited for.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// Begins the download of `file`, of `bytes` bytes.
    fn download(&self, file: &str, bytes: u64) {
        let _ = (file, bytes);
    }
}

/// Ignores all that an [`OpenObserver`] is told.
///
/// # Examples
///
/// ```
/// use sparse_open::{OpenObserver, Silent};
///
/// Silent.note("waiting for the server");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

impl OpenObserver for Silent {}

/// Passes the progress of downloads from the Hub on to an [`OpenObserver`].
///
/// # Examples
///
/// ```
/// use sparse_open::{Downloads, Silent};
/// use sparse_remote::FetchProgress;
///
/// Downloads(&Silent).plan(3, 1 << 20);
/// ```
#[cfg(feature = "hub")]
pub struct Downloads<'a>(pub &'a dyn OpenObserver);

#[cfg(feature = "hub")]
impl fmt::Debug for Downloads<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Downloads")
    }
}

#[cfg(feature = "hub")]
impl sparse_remote::FetchProgress for Downloads<'_> {
    fn plan(&self, files: usize, bytes: u64) {
        if files > 0 {
            self.0.begin("downloading", bytes);
        }
    }

    fn begin(&self, file: &str, total: u64, done: u64) {
        self.0.advance(done);
        self.0.download(file, total);
    }

    fn advance(&self, _file: &str, bytes: u64) {
        self.0.advance(bytes);
    }

    fn note(&self, text: &str) {
        self.0.note(text);
    }
}
