//! Time, memory, and the machine they were measured on.

use sparse_core::{Error, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Interval at which memory is measured.
pub const POLL: Duration = Duration::from_millis(5);

/// The median of a non-empty list (the lower one of two); zero for an empty one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Run `work` `runs` times (at least once); the median wall time and the last result.
///
/// # Errors
/// The first that `work` returns.
pub fn timed<T>(runs: usize, work: impl FnMut() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    timed_by(|| start.elapsed(), runs, work)
}

fn timed_by<T>(
    clock: impl Fn() -> Duration,
    runs: usize,
    mut work: impl FnMut() -> Result<T>,
) -> Result<(Duration, T)> {
    let mut times = Vec::new();
    loop {
        let start = clock();
        let value = work()?;
        times.push(clock().saturating_sub(start));
        // A value is dropped outside the measured time.
        if times.len() >= runs {
            return Ok((median(times), value));
        }
    }
}

/// Returns the processor time of all threads of this process; on systems without it, the elapsed
/// time.
pub fn computed() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// As [`timed`], but the processor's time, of all threads: what else a machine has to do counts
/// only by the caches that it takes.
///
/// # Errors
/// The first that `work` returns.
pub fn cpu_timed<T>(runs: usize, work: impl FnMut() -> Result<T>) -> Result<(Duration, T)> {
    timed_by(computed, runs, work)
}

/// Megabytes (10^6) per second.
pub fn mb_per_s(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}

/// Peak memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Anonymous memory (`RssAnon`): what was allocated, without mapped files. Polled, so shorter
    /// peaks are missed.
    pub anonymous: u64,
    /// Resident memory with mapped files (`VmHWM`, which the kernel tracks); the largest single
    /// process.
    pub resident: u64,
}

/// Watches the memory of a process and its descendants from a thread.
pub struct MemoryWatch {
    stop: Arc<AtomicBool>,
    anonymous: Arc<AtomicU64>,
    resident: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    /// Begin to watch process `pid` (Linux; elsewhere all peaks are zero).
    pub fn start(pid: u32) -> MemoryWatch {
        let mut watch = MemoryWatch {
            stop: Arc::default(),
            anonymous: Arc::default(),
            resident: Arc::default(),
            thread: None,
        };
        let (stop, anonymous, resident) =
            (watch.stop.clone(), watch.anonymous.clone(), watch.resident.clone());
        watch.thread = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let now = memory_of_tree(pid);
                anonymous.fetch_max(now.anonymous, Ordering::Relaxed);
                resident.fetch_max(now.resident, Ordering::Relaxed);
                std::thread::sleep(POLL);
            }
        }));
        watch
    }

    /// Begin to watch this process.
    pub fn this_process() -> MemoryWatch {
        MemoryWatch::start(std::process::id())
    }

    /// Stops, and returns the peak.
    pub fn stop(mut self) -> Peak {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the watcher only loses samples.
            let _ = thread.join();
        }
        Peak {
            anonymous: self.anonymous.load(Ordering::Relaxed),
            resident: self.resident.load(Ordering::Relaxed),
        }
    }
}

/// Memory of process `pid` now: `RssAnon` and `VmHWM`; zero if it is gone.
pub fn memory_of(pid: u32) -> Peak {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Peak { anonymous: field("RssAnon"), resident: field("VmHWM") }
}

/// The process and its descendants: the sum of anonymous memory, the largest resident peak.
fn memory_of_tree(pid: u32) -> Peak {
    let mut sum = Peak::default();
    let (mut seen, mut todo) = (BTreeSet::new(), vec![pid]);
    while let Some(pid) = todo.pop() {
        if !seen.insert(pid) {
            continue;
        }
        let one = memory_of(pid);
        sum.anonymous += one.anonymous;
        sum.resident = sum.resident.max(one.resident);
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            todo.extend(children.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        }
    }
    sum
}

/// Result of a command.
#[derive(Clone, Copy, Debug)]
pub struct CommandMeasure {
    /// Wall time.
    pub time: Duration,
    /// Peak memory.
    pub peak: Peak,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

/// Run a command to its end and watch it.
///
/// # Errors
/// `InvalidArgument` for an empty command, `Io` or `NotFound` when it cannot be started.
pub fn command(words: &[String]) -> Result<CommandMeasure> {
    let (program, args) =
        words.split_first().ok_or_else(|| Error::invalid_argument("no command"))?;
    let start = Instant::now();
    let mut child = std::process::Command::new(program)
        .args(args)
        .spawn()
        .map_err(|e| Error::io("cannot start", e).in_file(program))?;
    let watch = MemoryWatch::start(child.id());
    let status = child.wait();
    let time = start.elapsed();
    let peak = watch.stop();
    let status = status.map_err(|e| Error::io("cannot wait for", e).in_file(program))?;
    Ok(CommandMeasure { time, peak, code: status.code() })
}

/// The machine and the moment.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Processor model as the system names it.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Vector features, of those that matter here.
    pub simd: Vec<&'static str>,
    /// Date and time, UTC, by the system clock.
    pub date: String,
}

impl Machine {
    /// This machine, now.
    pub fn describe() -> Machine {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        Machine {
            cpu: cpu.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            simd: simd_features(),
            date: utc(SystemTime::now()),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} cores, {}, {}", self.cpu, self.cores, self.simd.join(" "), self.date)
    }
}

#[cfg(target_arch = "x86_64")]
fn simd_features() -> Vec<&'static str> {
    let mut out = Vec::new();
    macro_rules! check {
        ($($name:tt)*) => {
            $(if std::arch::is_x86_feature_detected!($name) { out.push($name); })*
        };
    }
    check!("sse4.2" "avx2" "bmi2" "avx512f" "avx512bw" "avx512vl" "avx512vbmi" "avx512vbmi2");
    out
}

#[cfg(target_arch = "aarch64")]
fn simd_features() -> Vec<&'static str> {
    let mut out = Vec::new();
    macro_rules! check {
        ($($name:tt)*) => {
            $(if std::arch::is_aarch64_feature_detected!($name) { out.push($name); })*
        };
    }
    check!("neon" "sve" "sve2");
    out
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd_features() -> Vec<&'static str> {
    Vec::new()
}

/// `YYYY-MM-DD HH:MM:SS UTC`.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (day, s) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day number, in eras of 400 years that begin on the 1st of March.
    let z = day + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let y = yoe + era * 400 + u64::from(m <= 2);
    format!("{y:04}-{m:02}-{d:02} {:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let ms = |list: &[u64]| median(list.iter().map(|&n| Duration::from_millis(n)).collect());
        assert_eq!(ms(&[]), Duration::ZERO);
        assert_eq!(ms(&[3, 1, 2]), Duration::from_millis(2));
        assert_eq!(ms(&[4, 3, 1, 2]), Duration::from_millis(2));
    }

    #[test]
    fn runs_are_counted() {
        let mut n = 0;
        let (_, last) = timed(3, || {
            n += 1;
            Ok(n)
        })
        .unwrap();
        assert_eq!(last, 3);
    }

    #[test]
    fn dates() {
        let at = |s| utc(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(at(1_795_000_000), "2026-11-18 11:06:40 UTC");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn anonymous_memory_is_seen() {
        let watch = MemoryWatch::this_process();
        let block = vec![1u8; 64 << 20];
        let deadline = Instant::now() + Duration::from_secs(30);
        while watch.anonymous.load(Ordering::Relaxed) < block.len() as u64
            && Instant::now() < deadline
        {
            std::thread::sleep(POLL);
        }
        let peak = watch.stop();
        assert!(block.len() as u64 <= peak.anonymous, "{peak:?}");
        // Of this process alone, because a child that another test is starting still shares its
        // memory.
        let now = memory_of(std::process::id());
        assert!(
            block.len() as u64 <= now.anonymous && now.anonymous <= now.resident + (8 << 20),
            "{now:?}"
        );
    }

    #[test]
    #[cfg(unix)]
    fn commands_report_their_code() {
        let words = ["sh", "-c", "exit 3"].map(String::from);
        assert_eq!(command(&words).unwrap().code, Some(3));
        assert!(command(&[]).is_err());
    }
}
