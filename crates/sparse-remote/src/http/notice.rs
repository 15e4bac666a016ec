//! What a person is told while nothing comes.

use std::fmt;
use std::sync::Arc;

type Tell = dyn Fn(&str) + Send + Sync;

/// Function that is told, in a sentence, why a client waits.
///
/// # Examples
///
/// ```
/// use sparse_remote::{ClientOptions, Notice};
///
/// let mut options = ClientOptions::default();
/// options.notice = Notice::new(|text| eprintln!("note: {text}"));
/// ```
#[derive(Clone, Default)]
pub struct Notice(Option<Arc<Tell>>);

impl Notice {
    /// Wraps a function. It is called from any thread.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Notice {
        Notice(Some(Arc::new(tell)))
    }

    pub(crate) fn tell(&self, text: &str) {
        if let Some(tell) = &self.0 {
            tell(text);
        }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Notice(a function)" } else { "Notice(none)" })
    }
}
