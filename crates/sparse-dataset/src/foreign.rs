//! Runs the code of other projects, which may panic, and turns its panics into errors.
//!
//! Readers and writers of Parquet, Arrow, JSON and CSV are arrow-rs. What they are given is checked
//! first (see `io`), and what panics nevertheless ends as an error of the file. A thread is marked
//! while it runs such code, so that a program can keep the text of those panics off its standard
//! error: see [`in_foreign_code`].

use sparse_core::{Error, ErrorKind, Result};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Number of guards that are open on this thread.
    static OPEN: Cell<u32> = const { Cell::new(0) };
}

/// Returns true while this thread runs code whose panics become errors.
///
/// A library must not replace the panic hook of its program, so the text of a caught panic still
/// goes to standard error by default. A program that wants it silent installs a hook that asks this
/// first:
///
/// ```
/// let usual = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |panic| {
///     if !sparse_dataset::in_foreign_code() {
///         usual(panic);
///     }
/// }));
/// ```
pub fn in_foreign_code() -> bool {
    OPEN.try_with(|open| open.get() > 0).unwrap_or(false)
}

/// Marks the thread as long as it lives, also when a panic passes through.
struct Mark;

impl Mark {
    fn new() -> Mark {
        OPEN.with(|open| open.set(open.get() + 1));
        Mark
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        OPEN.with(|open| open.set(open.get().saturating_sub(1)));
    }
}

/// Runs foreign code on this thread; a panic becomes an error of this kind.
///
/// Threads that `f` starts, or hands work to, are not covered: guard what runs on them, too.
///
/// # Errors
/// What `f` returns, and `kind` with `what` when it panics.
pub(crate) fn guard<T>(kind: ErrorKind, what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let mark = Mark::new();
    let result = catch_unwind(AssertUnwindSafe(f));
    drop(mark);
    result.unwrap_or_else(|panic| Err(panicked(kind, what, &*panic)))
}

fn panicked(kind: ErrorKind, what: &str, panic: &(dyn Any + Send)) -> Error {
    Error::new(kind, format!("{what}: {}", message(panic)))
}

/// Stack of a thread for code that recurses on deep types, in bytes.
const DEEP_STACK: usize = 16 << 20;

/// Runs code as [`guard`] does, on a thread with a stack of 16 MiB.
///
/// The thread ends before this returns.
///
/// The code of the parquet crate that begins the columns of a row group takes 40 KiB of stack for
/// each level of nesting where it is built without optimisation: [`crate::limits::MAX_DEPTH`]
/// levels are more than a thread usually has.
///
/// # Errors
/// As [`guard`]; `kind` when no thread can be started.
pub(crate) fn guard_deep<T: Send>(
    kind: ErrorKind,
    what: &str,
    f: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP_STACK);
        let started = thread.spawn_scoped(scope, || guard(kind, what, f));
        let started =
            started.map_err(|e| Error::new(kind, format!("{what}: no thread for it: {e}")))?;
        started.join().unwrap_or_else(|panic| Err(panicked(kind, what, &*panic)))
    })
}

/// Longest part of a panic's message that an error repeats, in bytes.
const MAX_MESSAGE: usize = 200;

/// Returns the first line of a panic's message.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "it gave no reason",
    };
    let line = text.lines().next().unwrap_or_default();
    let mut end = line.len().min(MAX_MESSAGE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors_and_the_mark_goes() {
        assert!(!in_foreign_code());
        let error = guard(ErrorKind::InvalidInput, "malformed", || -> Result<()> {
            assert!(in_foreign_code());
            guard(ErrorKind::Io, "inside", || Ok(())).unwrap();
            assert!(in_foreign_code());
            panic!("index {} out of range\nand more", 7)
        });
        assert!(!in_foreign_code());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.message(), "malformed: index 7 out of range");
    }

    #[test]
    fn deep_recursion_has_its_own_stack() {
        fn depth(n: u32) -> u32 {
            let frame = std::hint::black_box([n as u8; 32 << 10]);
            if n == 0 { 0 } else { depth(n - 1) + u32::from(frame[0] == n as u8) }
        }
        let run = |n| guard_deep(ErrorKind::Io, "deep", move || Ok(depth(n)));
        assert_eq!(run(200).unwrap(), 200);
        let panics = guard_deep(ErrorKind::Io, "deep", || -> Result<()> { panic!("no") });
        assert_eq!(panics.unwrap_err().message(), "deep: no");
    }

    #[test]
    fn threads_are_marked_one_by_one() {
        guard(ErrorKind::Io, "x", || {
            assert!(!std::thread::spawn(in_foreign_code).join().unwrap());
            Ok(())
        })
        .unwrap();
    }
}
