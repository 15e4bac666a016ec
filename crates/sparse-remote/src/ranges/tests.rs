use super::*;
use sparse_core::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

/// File in memory that notes what is fetched.
struct Noted {
    bytes: Vec<u8>,
    fetched: Mutex<Vec<(u64, u64)>>,
    fails: AtomicBool,
}

impl Fetch for Noted {
    fn byte_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn fetch(&self, start: u64, out: &mut [u8]) -> Result<()> {
        self.fetched.lock().unwrap().push((start, out.len() as u64));
        // Others shall come while it is on its way.
        std::thread::sleep(std::time::Duration::from_millis(2));
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        self.bytes.read_exact_at(start, out)
    }
}

fn noted(len: usize) -> Ranges<Noted> {
    let bytes = (0..len).map(|i| (i % 251) as u8).collect();
    Ranges::new(Noted { bytes, fetched: Mutex::default(), fails: AtomicBool::new(false) })
}

fn check(ranges: &Ranges<Noted>, start: usize, len: usize) {
    let mut out = vec![0; len];
    ranges.read_exact_at(start as u64, &mut out).unwrap();
    assert!(out == ranges.fetcher.bytes[start..start + len], "{start}..+{len}");
}

fn fetched(ranges: &Ranges<Noted>) -> (usize, u64) {
    let all = ranges.fetcher.fetched.lock().unwrap();
    (all.len(), all.iter().map(|r| r.1).sum())
}

#[test]
fn a_file_read_through_takes_few_requests() {
    let ranges = noted(3_000_000);
    for start in (0..3_000_000).step_by(1000) {
        check(&ranges, start, 1000);
    }
    let (requests, bytes) = fetched(&ranges);
    assert!(requests <= 16, "{requests}");
    assert_eq!(bytes, 3_000_000, "and nothing twice");
}

#[test]
fn scattered_reads_fetch_nothing_more() {
    let ranges = noted(40_000_000);
    for i in [30, 3, 17, 9, 25] {
        check(&ranges, i * 1_200_000, 700);
    }
    assert_eq!(fetched(&ranges), (5, 3500));
    check(&ranges, 17 * 1_200_000 + 3, 100);
    assert_eq!(fetched(&ranges).0, 5, "what is here is not fetched again");
}

#[test]
fn read_ahead_is_at_most_what_was_read() {
    let ranges = noted(40_000_000);
    for i in 0..50 {
        check(&ranges, 1_000_000 + i * 2000, 2000);
        let (_, bytes) = fetched(&ranges);
        assert!(bytes <= 4 * 2000 * (i as u64 + 1) + LEAST_AHEAD, "{bytes} after {i}");
    }
}

#[test]
fn large_reads_go_past_the_cache() {
    let ranges = noted(9_000_000);
    check(&ranges, 100, 8_000_000);
    assert_eq!(ranges.state().bytes, 0);
    check(&ranges, 8_000_100, 899_900);
}

#[test]
fn memory_is_bounded() {
    let ranges = noted(100_000_000);
    for i in 0..90 {
        check(&ranges, i * 1_100_000, 1_000_000);
    }
    let state = ranges.state();
    assert!(state.bytes <= KEPT);
    let kept: u64 = state.segments.values().map(|s| s.len).sum();
    assert_eq!(kept, state.bytes);
}

#[test]
fn what_was_read_is_soon_forgotten() {
    let ranges = noted(50_000_000);
    for start in (0..50_000_000).step_by(100_000) {
        check(&ranges, start, 100_000);
        let state = ranges.state();
        assert!(state.bytes <= KEPT_READ + 2 * MOST_AHEAD, "{} after {start}", state.bytes);
    }
    let (_, bytes) = fetched(&ranges);
    assert_eq!(bytes, 50_000_000, "and nothing twice");
}

#[test]
fn threads_share_requests() {
    let ranges = noted(1_000_000);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let ranges = &ranges;
            scope.spawn(move || {
                for i in 0..100 {
                    check(ranges, (i * 10_000 + thread * 13) % 990_000, 10_000);
                }
            });
        }
    });
    let (_, bytes) = fetched(&ranges);
    assert_eq!(bytes, 1_000_000, "each byte once");
}

#[test]
fn a_failure_is_told_and_may_go_away() {
    let ranges = noted(1000);
    ranges.fetcher.fails.store(true, Ordering::Relaxed);
    let mut out = [0; 10];
    let e = ranges.read_exact_at(5, &mut out).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    ranges.fetcher.fails.store(false, Ordering::Relaxed);
    check(&ranges, 5, 10);
    assert_eq!(ranges.read_exact_at(995, &mut out).unwrap_err().kind(), ErrorKind::Truncated);
    assert_eq!(ranges.read_exact_at(u64::MAX, &mut out).unwrap_err().kind(), ErrorKind::Truncated);
    check(&ranges, 1000, 0);
}
