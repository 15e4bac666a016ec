//! Progress, to standard error.

use crate::human;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sparse::Observer;
use sparse_open::OpenObserver;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shows a bar per phase on a terminal, and with `-v` a line per finished phase.
pub(crate) struct Progress {
    bars: bool,
    lines: bool,
    /// Whether what is worth knowing is told, on a terminal or not.
    notes: bool,
    done: AtomicU64,
    phase: Mutex<Option<Phase>>,
    /// The same bar as the phase's, to count without the lock.
    bar: ProgressBar,
}

struct Phase {
    name: String,
    start: Instant,
}

impl Progress {
    /// Creates the progress of a command.
    ///
    /// `bars` draws bars if standard error is a terminal; `lines` prints a line per phase (`-v`).
    pub(crate) fn new(bars: bool, lines: bool) -> Progress {
        // Draws nothing where standard error is no terminal.
        let target = if bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let (bars, notes) = (!bar.is_hidden(), bars);
        Progress { bars, lines, notes, done: AtomicU64::new(0), phase: Mutex::default(), bar }
    }

    fn phase(&self) -> MutexGuard<'_, Option<Phase>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bar off the screen, also in the middle of a phase.
    pub(crate) fn clear(&self) {
        if self.bars {
            self.bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn begin(&self, phase: &str, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        *self.phase() = Some(Phase { name: phase.to_owned(), start: Instant::now() });
        if self.bars {
            self.bar.reset();
            self.bar.set_length(total);
            self.bar.set_message(phase.to_owned());
            let template = "{msg:<12} [{bar:32}] {percent:>3}%  {decimal_bytes} of \
                {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style.progress_chars("=> "));
            }
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.bars {
            self.bar.inc(bytes);
        }
    }

    fn end(&self) {
        self.clear();
        if let Some(phase) = self.phase().take()
            && self.lines
        {
            let (time, done) = (phase.start.elapsed(), self.done.load(Ordering::Relaxed));
            eprint(&format!(
                "{}: {} in {} ({})\n",
                phase.name,
                human::bytes(done),
                human::duration(time),
                human::rate(done, time)
            ));
        }
    }
}

impl OpenObserver for Progress {
    fn explain(&self, role: &str, text: &str) {
        if self.lines {
            eprint(&format!("{}\n", human::plain(&format!("{role}: {text}"))));
        }
    }

    fn note(&self, text: &str) {
        if self.notes {
            self.clear();
            eprint(&format!("note: {}\n", human::plain(text)));
        }
    }

    fn download(&self, file: &str, bytes: u64) {
        if self.lines {
            eprint(&format!("downloading {}: {}\n", human::plain(file), human::bytes(bytes)));
        }
    }
}

/// Writes to standard error, and ignores that it may be closed.
pub(crate) fn eprint(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_progress_counts_and_survives_odd_calls() {
        let progress = Progress::new(false, false);
        progress.end();
        progress.advance(1);
        progress.begin("read", 10);
        progress.advance(7);
        progress.begin("code", 10);
        progress.advance(3);
        assert_eq!(progress.done.load(Ordering::Relaxed), 3);
        progress.end();
        assert!(progress.phase().is_none());
    }
}
