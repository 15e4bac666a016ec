//! What ends the work early: signals, and the end of standard input.

use super::output::Output;
use signal_hook::consts::{SIGINT, SIGTERM};
use sparse_core::{CancelToken, Error, ErrorKind};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Interval at which the thread that insists looks.
const LOOK: Duration = Duration::from_millis(50);
/// Time that the work has to notice; one batch of windows of a large model takes longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the work is to end.
#[derive(Debug)]
pub(super) struct Stop {
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Begins to watch for signals. One that cannot be watched keeps its usual effect.
    pub(super) fn watch() -> Stop {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let _ = signal_hook::flag::register(signal, flag.clone());
        }
        Stop { flag }
    }

    /// Returns a token that is cancelled when the work is to end.
    pub(super) fn token(&self) -> CancelToken {
        CancelToken::from(self.flag.clone())
    }

    /// Ends the work when standard input ends, as it does when the process that drives this one is
    /// gone.
    pub(super) fn at_end_of_input(&self) {
        let flag = self.flag.clone();
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            let mut ignored = [0; 4096];
            loop {
                match input.read(&mut ignored) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            flag.store(true, Ordering::Relaxed);
        });
    }

    /// Starts a thread that ends the program when the work does not notice in time.
    pub(super) fn insist(&self, output: Arc<Output>) {
        let flag = self.flag.clone();
        std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
            }
            std::thread::sleep(PATIENCE);
            // When an output is complete already, the work is about to end by itself.
            if sparse_output::abandon_outputs() {
                output.error(&Error::new(ErrorKind::Cancelled, "the work was stopped"));
                std::process::exit(1);
            }
        });
    }
}
