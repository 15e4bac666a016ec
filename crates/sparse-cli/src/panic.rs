//! Panics: faults of the program, told in one line.

use crate::failure::Failure;
use crate::progress::eprint;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

/// What to do about a fault of the program.
const REPORT: &str =
    "this is a fault of sparse: please report it, with the command and, if you can, the files";

/// Keeps the usual text of panics off standard error, from any thread.
///
/// Panics of Arrow's readers and writers become errors and print nothing. Others print one line, or
/// with `--json` only the object that [`catch`] leads to.
pub(crate) fn install_hook(json: bool) {
    set_hook(Box::new(move |panic| {
        if json || in_foreign_code() {
            return;
        }
        let place =
            panic.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
        eprint(&format!("error: {}{place}; {REPORT}\n", message(panic.payload())));
    }));
}

/// Runs a command and turns a panic into a failure. The hook has printed it, unless with `--json`.
pub(crate) fn catch(f: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|panic| Err(Failure::Fault(format!("{}; {REPORT}", message(&*panic)))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "no reason given",
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(feature = "dataset")]
fn in_foreign_code() -> bool {
    sparse_dataset::in_foreign_code()
}

#[cfg(not(feature = "dataset"))]
fn in_foreign_code() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_failure() {
        let fault = catch(|| panic!("lost\nits way")).unwrap_err();
        assert_eq!(fault.exit_code(), 1);
        assert!(fault.sentence().starts_with("lost its way; this is a fault of sparse"));
        assert!(catch(|| Ok(())).is_ok());
    }
}
