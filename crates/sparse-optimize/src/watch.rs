//! Whoever waits: told of progress, and able to stop.

use serde_json::Value;
use sparse_core::{CancelToken, Observer};
use std::cell::RefCell;

/// The caller's token, and whom to tell.
pub(crate) struct Watch<'a> {
    pub(crate) cancel: &'a CancelToken,
    observer: &'a dyn Observer,
    /// The phase that goes on, and how far it is.
    phase: RefCell<Option<(String, u64)>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(cancel: &'a CancelToken, observer: &'a dyn Observer) -> Watch<'a> {
        Watch { cancel, observer, phase: RefCell::new(None) }
    }

    /// Tells of `{"what": …, "done": …, "total": …}`; anything else is passed over.
    pub(crate) fn pass_on(&self, progress: &Value) {
        let what = progress["what"].as_str().unwrap_or("measuring");
        let (Some(done), Some(total)) = (progress["done"].as_u64(), progress["total"].as_u64())
        else {
            return;
        };
        let mut phase = self.phase.borrow_mut();
        let before = match &*phase {
            Some((name, before)) if name == what && *before <= done => *before,
            _ => {
                if phase.is_some() {
                    self.observer.end();
                }
                self.observer.begin(what, total);
                0
            }
        };
        self.observer.advance(done - before);
        *phase = Some((what.to_owned(), done));
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.phase.get_mut().is_some() {
            self.observer.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Log(Mutex<String>);

    impl Log {
        fn add(&self, text: String) {
            self.0.lock().unwrap().push_str(&text);
        }
    }

    impl Observer for Log {
        fn begin(&self, phase: &str, total: u64) {
            self.add(format!("{phase} of {total}:"));
        }

        fn advance(&self, bytes: u64) {
            self.add(format!(" {bytes}"));
        }

        fn end(&self) {
            self.add(".\n".to_owned());
        }
    }

    #[test]
    fn phases() {
        let (log, token) = (Log::default(), CancelToken::new());
        let watch = Watch::new(&token, &log);
        for (what, done) in [("load", 1), ("load", 4), ("score", 2), ("score", 1)] {
            watch.pass_on(&json!({"what": what, "done": done, "total": 4}));
        }
        watch.pass_on(&json!("nothing"));
        drop(watch);
        let want = "load of 4: 1 3.\nscore of 4: 2.\nscore of 4: 1.\n";
        assert_eq!(&*log.0.lock().unwrap(), want);
    }
}
