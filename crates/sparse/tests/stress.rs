//! Eight threads hammer one reader with whole tensors, ranges, parts, many reads at once, and
//! cancellations.
//!
//! A second by default. `SPARSE_STRESS_SECONDS=60 cargo test --release -p sparse --test stress --
//! --nocapture` takes as long as it says, and says what it did.
#![allow(clippy::unwrap_used, reason = "tests")]

mod restore_support;

use restore_support::*;
use sparse::*;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const THREADS: u64 = 8;

/// What was done.
#[derive(Default)]
struct Counts {
    whole: AtomicU64,
    ranges: AtomicU64,
    many: AtomicU64,
    cancelled: AtomicU64,
    bytes: AtomicU64,
}

struct Hammer<'a> {
    model: DeltaModel,
    tensors: &'a [T],
    rng: Rng,
    counts: &'a Counts,
}

impl Hammer<'_> {
    fn below(&mut self, n: usize) -> usize {
        (self.rng.next() % n as u64) as usize
    }

    /// A tensor, and a range of it.
    fn span(&mut self) -> (usize, usize, usize) {
        let tensor = self.below(self.tensors.len());
        let len = self.tensors[tensor].bytes.len();
        let start = self.below(len);
        (tensor, start, 1 + self.below((len - start).min(20_000)))
    }

    fn check(&self, tensor: usize, start: usize, got: &[u8]) {
        let t = &self.tensors[tensor];
        assert!(*got == t.bytes[start..start + got.len()], "{} from {start} on", t.name);
        self.counts.bytes.fetch_add(got.len() as u64, Ordering::Relaxed);
    }

    fn whole(&mut self) {
        let tensor = self.below(self.tensors.len());
        let bytes = self.model.bytes(tensor).unwrap();
        self.check(tensor, 0, &bytes);
        self.counts.whole.fetch_add(1, Ordering::Relaxed);
    }

    fn range(&mut self) {
        let (tensor, start, len) = self.span();
        let model = self.model.clone();
        let bytes: Cow<'_, [u8]> = model.range(tensor, start as u64, len).unwrap();
        self.check(tensor, start, &bytes);
        self.counts.ranges.fetch_add(1, Ordering::Relaxed);
    }

    fn part(&mut self) {
        let tensor = self.below(self.tensors.len());
        let spec = self.tensors[tensor].spec.clone();
        let dim = self.below(spec.shape().len());
        let n = spec.shape()[dim];
        let start = self.rng.next() % n;
        let end = start + 1 + self.rng.next() % (n - start).min(9);
        let mut out = vec![0x5a; spec.part(dim, start..end).unwrap().byte_len() as usize];
        self.model.read_part_into(tensor, dim, start..end, &mut out).unwrap();
        // All tensors have two bytes per weight.
        let inner = 2 * spec.shape()[dim + 1..].iter().product::<u64>();
        let rows = self.tensors[tensor].bytes.chunks((n * inner) as usize);
        let want = rows.flat_map(|row| &row[(start * inner) as usize..(end * inner) as usize]);
        assert!(want.eq(&out), "{} {dim} {start}..{end}", self.tensors[tensor].name);
        self.counts.ranges.fetch_add(1, Ordering::Relaxed);
    }

    /// Several reads at once, perhaps on several threads, perhaps cancelled meanwhile.
    fn many(&mut self) {
        let spans: Vec<(usize, usize, usize)> =
            (0..1 + self.below(12)).map(|_| self.span()).collect();
        let mut buffers: Vec<Vec<u8>> = spans.iter().map(|s| vec![0x5a; s.2]).collect();
        let mut reads: Vec<TensorRead<'_>> = buffers
            .iter_mut()
            .zip(&spans)
            .map(|(out, &(tensor, start, _))| TensorRead::new(tensor, start as u64, out))
            .collect();
        let cancel = CancelToken::new();
        let mut model = self.model.clone().with_cancel(cancel.clone());
        if self.rng.next().is_multiple_of(4) {
            model = model.with_executor(Arc::new(Threads::new(2)));
        }
        let result = match self.rng.next() % 4 {
            0 => {
                cancel.cancel();
                model.read_many(&mut reads)
            }
            1 => {
                let micros = self.rng.next() % 200;
                std::thread::scope(|s| {
                    s.spawn(|| {
                        std::thread::sleep(Duration::from_micros(micros));
                        cancel.cancel();
                    });
                    model.read_many(&mut reads)
                })
            }
            _ => model.read_many(&mut reads),
        };
        match result {
            Ok(()) => {
                for (&(tensor, start, _), got) in spans.iter().zip(&buffers) {
                    self.check(tensor, start, got);
                }
                self.counts.many.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) => {
                assert!(e.kind() == ErrorKind::Cancelled && cancel.is_cancelled(), "{e}");
                self.counts.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.rng.next() % 8 {
                0 | 1 => self.whole(),
                2 | 3 => self.range(),
                4 => self.part(),
                _ => self.many(),
            }
        }
    }
}

/// Resident memory of this process in bytes, where the system says.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Open files and threads of this process, where the system says.
fn handles() -> Option<(usize, usize)> {
    let count = |path| Some(std::fs::read_dir(path).ok()?.count());
    Some((count("/proc/self/fd")?, count("/proc/self/task")?))
}

#[test]
fn eight_threads() {
    let seconds = std::env::var("SPARSE_STRESS_SECONDS").ok().map_or(1.0, |s| s.parse().unwrap());
    let place = Place::new();
    let before = handles();
    let base: Arc<dyn TensorSource> = Arc::new(place.mapped_base());
    let delta = Arc::new(place.delta());
    let (weak_base, weak_delta): (Weak<dyn TensorSource>, _) =
        (Arc::downgrade(&base), Arc::downgrade(&delta));
    let model = DeltaModel::new(Some(base), delta).unwrap();

    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let mut sizes = Vec::new();
    std::thread::scope(|s| {
        for thread in 0..THREADS {
            let mut hammer = Hammer {
                model: model.clone().with_base_check(if thread % 2 == 0 {
                    BaseCheck::OnFirstUse
                } else {
                    BaseCheck::Never
                }),
                tensors: &place.pair.tensors,
                rng: Rng(thread),
                counts: &counts,
            };
            let stop = &stop;
            s.spawn(move || {
                /// Ends the others when this thread ends, be it by a failed assertion.
                struct Stop<'a>(&'a AtomicBool);
                impl Drop for Stop<'_> {
                    fn drop(&mut self) {
                        self.0.store(true, Ordering::Relaxed);
                    }
                }
                let _stop = Stop(stop);
                hammer.run(stop);
            });
        }
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        // Once warm, memory is looked at ten times.
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs_f64(seconds / 10.0));
            sizes.extend(resident());
        }
        stop.store(true, Ordering::Relaxed);
    });

    let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
    let Counts { whole, ranges, many, cancelled, bytes } = &counts;
    println!(
        "{seconds} s: {} whole tensors, {} ranges and parts, {} batches, {} of them cancelled, {} \
            MB compared; resident {:?} MiB",
        get(whole),
        get(ranges),
        get(many) + get(cancelled),
        get(cancelled),
        get(bytes) / 1_000_000,
        sizes.iter().map(|s| s >> 20).collect::<Vec<_>>()
    );
    for count in [whole, ranges, many, cancelled, bytes] {
        assert!(get(count) > 0);
    }
    // Nothing is left: no thread, no open file, no reference, and memory did not grow.
    assert_eq!(Arc::strong_count(&weak_delta.upgrade().unwrap()), 2, "the model's, and this one");
    drop(model);
    assert!(weak_base.upgrade().is_none() && weak_delta.upgrade().is_none());
    // A thread whose work is done takes a moment to go.
    let patience = Instant::now() + Duration::from_secs(5);
    while handles() != before && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(handles(), before);
    if let (Some(early), Some(late)) = (sizes.get(2), sizes.last()) {
        assert!(*late < early + (32 << 20), "resident memory grew from {early} to {late} bytes");
    }
}
