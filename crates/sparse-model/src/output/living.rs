//! The temporaries of this process, for a program that has to end before its work does.

use super::temp::remove;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

static LIVING: Mutex<Living> = Mutex::new(Living { temporaries: BTreeSet::new(), finished: false });

/// What there is.
pub(super) struct Living {
    pub(super) temporaries: BTreeSet<PathBuf>,
    /// Whether an output has got its name.
    pub(super) finished: bool,
}

/// Locks the list: for making a temporary, forgetting one, and moving one into place.
pub(super) fn living() -> MutexGuard<'static, Living> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all temporaries of this process, which is about to end although some of its work goes
/// on: no output can be begun or finished from here on, and whoever tries waits for ever.
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
