//! Signals that ask the program to stop.
//!
//! The first ends it soon and cleanly; one that comes a moment later ends it at once. (Not earlier:
//! some programs send a signal twice, to the process and to its group.) Each signal is watched on
//! its own.
//! One that was ignored when the program started stays ignored: `nohup` ignores SIGHUP, and shells
//! ignore SIGINT for what runs in the background.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use sparse::{CancelToken, abandon_outputs};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{park, sleep, spawn};
use std::time::Duration;

/// Interval at which the thread that insists looks for a signal.
const LOOK: Duration = Duration::from_millis(100);
/// Time in which a further signal counts as the same.
const MOMENT: Duration = Duration::from_millis(200);
/// Time after that moment in which the work has to notice a signal. Most work needs a few
/// milliseconds; one call of a compressor on several megabytes can take seconds, and cannot be
/// interrupted.
const PATIENCE: Duration = Duration::from_millis(400);
/// Time that the work has to print its result and end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Who prints how the program ended: the work (`true`), or the thread that insists (`false`).
static TELLER: OnceLock<bool> = OnceLock::new();

/// Claims the right to print the result. Does not return if a signal has ended the program already.
pub(crate) fn tell() {
    while !*TELLER.get_or_init(|| true) {
        park();
    }
}

/// Watches for signals.
pub(crate) struct Signals {
    stop: Arc<AtomicBool>,
    /// Number of the latest signal.
    which: Arc<AtomicUsize>,
    watched: Vec<c_int>,
}

impl Signals {
    /// Begins to watch. A signal that cannot be watched keeps its usual effect.
    pub(crate) fn watch() -> Signals {
        let ignored = ignored();
        let watched: Vec<_> =
            watched().iter().copied().filter(|signal| !ignored.contains(signal)).collect();
        let signals = Signals { stop: Arc::default(), which: Arc::default(), watched };
        for &signal in &signals.watched {
            // Without both the signal would not stop the work.
            let _ = signals.watch_for(signal);
        }
        signals
    }

    fn watch_for(&self, signal: c_int) -> std::io::Result<()> {
        let number = usize::try_from(signal).unwrap_or_default();
        flag::register_usize(signal, self.which.clone(), number)?;
        flag::register(signal, self.stop.clone())?;
        Ok(())
    }

    /// Returns a token that is cancelled by the first signal.
    pub(crate) fn token(&self) -> CancelToken {
        CancelToken::from(self.stop.clone())
    }

    /// Starts a thread that ends the program if a signal came and the work does not notice it.
    ///
    /// The thread removes what is being written and calls `told` with the exit code.
    pub(crate) fn insist(&self, told: impl FnOnce(u8) + Send + 'static) {
        let (stop, which) = (self.stop.clone(), self.which.clone());
        let watched = Signals { stop, which, watched: self.watched.clone() };
        spawn(move || {
            while !watched.stop.load(Ordering::Relaxed) {
                sleep(LOOK);
            }
            sleep(MOMENT);
            for &signal in &watched.watched {
                // Without it the signal has no effect: this thread ends the program all the same.
                let stop = watched.stop.clone();
                let _ = flag::register_conditional_shutdown(signal, code(signal), stop);
            }
            sleep(PATIENCE);
            // An output is complete, so the work is about to end by itself.
            if !abandon_outputs() {
                return;
            }
            let code = watched.exit_code();
            if *TELLER.get_or_init(|| false) {
                sleep(LAST_WORDS);
            } else {
                told(code);
            }
            std::process::exit(code.into());
        });
    }

    /// Returns the exit code of a program that was stopped: 128 and the signal's number, 130 for
    /// SIGINT.
    pub(crate) fn exit_code(&self) -> u8 {
        match c_int::try_from(self.which.load(Ordering::Relaxed)) {
            Ok(signal) if signal > 0 => u8::try_from(code(signal)).unwrap_or(130),
            _ => 130,
        }
    }
}

fn code(signal: c_int) -> c_int {
    128 + signal
}

fn watched() -> &'static [c_int] {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return &[SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
    // Elsewhere it takes unsafe code to see whether SIGHUP was ignored. Left alone, it ends the
    // program without cleaning up (the next run does that), and has no effect under nohup.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return &[SIGINT, SIGTERM];
}

/// Returns the signals from 1 to 64 that are ignored; none where the system does not say.
fn ignored() -> Vec<c_int> {
    let status = if cfg!(any(target_os = "linux", target_os = "android")) {
        std::fs::read_to_string("/proc/self/status").unwrap_or_default()
    } else {
        String::new()
    };
    ignored_in(&status)
}

/// Parses the ignored signals from `/proc/self/status`: a mask of 64 bits, the lowest for signal 1.
fn ignored_in(status: &str) -> Vec<c_int> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| bit + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals() {
        let status =
            "Name:\tsparse\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\t0\n";
        assert_eq!(ignored_in(status), [1, 2, 13]);
        assert_eq!(ignored_in("SigIgn:\tnonsense\n"), [0; 0]);
        assert_eq!(ignored_in(""), [0; 0]);
    }

    #[test]
    fn exit_codes() {
        let signals = Signals { stop: Arc::default(), which: Arc::default(), watched: Vec::new() };
        assert_eq!(signals.exit_code(), 130);
        signals.which.store(15, Ordering::Relaxed);
        assert_eq!(signals.exit_code(), 143);
        assert!(!signals.token().is_cancelled());
        signals.stop.store(true, Ordering::Relaxed);
        assert!(signals.token().is_cancelled());
    }
}
