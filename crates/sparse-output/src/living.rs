//! The temporaries of this process, for a program that has to end before its work does.

use crate::remove::remove;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

static LIVING: Mutex<Living> = Mutex::new(Living { temporaries: BTreeSet::new(), finished: false });

/// List of the temporaries that exist, and whether anything is finished.
pub(super) struct Living {
    temporaries: BTreeSet<PathBuf>,
    /// Whether an output has got its name.
    pub(super) finished: bool,
}

impl Living {
    /// Adds `path` until what is returned is dropped.
    pub(super) fn list(&mut self, path: PathBuf) -> Listed {
        self.temporaries.insert(path.clone());
        Listed(path)
    }
}

/// Temporary on the list. Dropping it locks the list.
#[derive(Debug)]
pub(super) struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        living().temporaries.remove(&self.0);
    }
}

/// Locks the list: for making a temporary, forgetting one, and moving one into place.
pub(super) fn living() -> MutexGuard<'static, Living> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all temporaries of this process, which is about to end.
///
/// Some of its work may go on: no output can be begun or finished from here on, and whoever tries
/// waits for ever.
///
/// Returns `false`, and does nothing, if an output is complete already.
pub fn abandon_outputs() -> bool {
    // What still writes into a folder can keep it from being removed at first.
    const ATTEMPTS: usize = 20;
    let living = living();
    if living.finished {
        return false;
    }
    for path in &living.temporaries {
        let _ = (0..ATTEMPTS).find(|_| remove(path).is_ok());
    }
    std::mem::forget(living);
    true
}
