//! Reading a remote file by ranges: what is near is fetched together, and once.

use sparse_core::{ByteSource, Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Reads of at least this many bytes go past the cache, straight into the caller's buffer.
const DIRECT: u64 = 4 << 20;
/// Gap between two reads that still counts as going on: fetching it costs less than a request.
const NEAR: u64 = 1 << 20;
/// Smallest read-ahead, once two reads followed one another: less is not worth waiting for.
const LEAST_AHEAD: u64 = 128 << 10;
/// Largest read-ahead.
const MOST_AHEAD: u64 = 8 << 20;
/// Sequences of reads that are followed at once: about one a thread.
const MOST_STREAMS: usize = 32;
/// Bytes that are kept.
const KEPT: u64 = 64 << 20;
/// Of those, bytes that were read: most files are read through once, and there may be many.
const KEPT_READ: u64 = 4 << 20;

/// Fetches ranges of a file that does not change.
pub(crate) trait Fetch: Send + Sync {
    /// Returns the length of the file.
    fn byte_len(&self) -> u64;

    /// Fills `out` from byte `start` on, which lies in the file.
    fn fetch(&self, start: u64, out: &mut [u8]) -> Result<()>;
}

/// Remote file as a [`ByteSource`].
///
/// A read that begins where another ended, or near it, also fetches what comes next: 128 KiB, then
/// as much as was read in that sequence so far, up to 8 MiB. So a file that is read from front to
/// back takes few requests, and of a file of which little is read, little more is fetched. Threads
/// that want the same bytes wait for one request.
pub(crate) struct Ranges<F> {
    fetcher: F,
    state: Mutex<State>,
    /// Told whenever a segment has come, or has failed.
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    /// What is here, or on its way, by first byte; no two overlap.
    segments: BTreeMap<u64, Segment>,
    /// Ends of sequences of reads, the one used last at the end.
    streams: Vec<Stream>,
    clock: u64,
    bytes: u64,
}

struct Segment {
    len: u64,
    /// Nothing while it is on its way.
    bytes: Option<Arc<Vec<u8>>>,
    used: u64,
    /// Bytes that were read of it, some perhaps twice.
    read: u64,
}

impl Segment {
    fn is_read(&self) -> bool {
        self.bytes.is_some() && self.read >= self.len
    }
}

#[derive(Clone, Copy)]
struct Stream {
    end: u64,
    ahead: u64,
}

/// What a look at the segments says of a byte.
enum Look {
    Here(Arc<Vec<u8>>, u64),
    Coming,
    /// Nothing up to this byte.
    Missing(u64),
}

impl State {
    fn look(&mut self, at: u64, len: usize) -> Look {
        self.clock += 1;
        let before = self.segments.range_mut(..=at).next_back();
        if let Some((&start, segment)) = before
            && at - start < segment.len
        {
            segment.used = self.clock;
            segment.read += (len as u64).min(segment.len - (at - start));
            return match &segment.bytes {
                Some(bytes) => Look::Here(bytes.clone(), start),
                None => Look::Coming,
            };
        }
        let next = self.segments.range(at..).next();
        Look::Missing(next.map_or(u64::MAX, |(&start, _)| start))
    }

    /// Notes a read of what is not here, and returns where to begin and end fetching.
    fn plan(&mut self, start: u64, end: u64, len: u64) -> u64 {
        let goes_on = |s: &Stream| start >= s.end && start - s.end <= NEAR;
        let found = self.streams.iter().rposition(goes_on);
        let ahead = match found.map(|i| self.streams.remove(i)) {
            Some(stream) => {
                let gap = start - stream.end;
                let least = if gap <= LEAST_AHEAD { LEAST_AHEAD } else { 0 };
                stream.ahead.saturating_mul(2).max(end - start).max(least).min(MOST_AHEAD)
            }
            None => 0,
        };
        let stop = end.saturating_add(ahead).min(len);
        if self.streams.len() >= MOST_STREAMS {
            self.streams.remove(0);
        }
        self.streams.push(Stream { end: stop, ahead: ahead.max(end - start) });
        stop
    }

    /// Forgets what was not used for longest, until what is kept fits.
    fn trim(&mut self) {
        let read = |state: &State| -> u64 {
            state.segments.values().filter(|s| s.is_read()).map(|s| s.len).sum()
        };
        while read(self) > KEPT_READ {
            self.forget(Segment::is_read);
        }
        while self.bytes > KEPT && self.forget(|s| s.bytes.is_some()) {}
    }

    /// Forgets the segment that was not used for longest, of those that `may` go.
    fn forget(&mut self, may: impl Fn(&Segment) -> bool) -> bool {
        let found = self.segments.iter().filter(|(_, s)| may(s)).min_by_key(|(_, s)| s.used);
        let Some((&start, _)) = found else { return false };
        if let Some(segment) = self.segments.remove(&start) {
            self.bytes = self.bytes.saturating_sub(segment.len);
        }
        true
    }
}

impl<F: Fetch> Ranges<F> {
    pub(crate) fn new(fetcher: F) -> Ranges<F> {
        Ranges { fetcher, state: Mutex::default(), arrived: Condvar::new() }
    }

    /// Returns what fetches.
    pub(crate) fn fetcher(&self) -> &F {
        &self.fetcher
    }

    /// Keeps bytes that came along with something else.
    pub(crate) fn keep(&self, start: u64, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.state();
        let len = bytes.len() as u64;
        state.bytes += len;
        state
            .segments
            .insert(start, Segment { len, bytes: Some(Arc::new(bytes)), used: 0, read: 0 });
        state.streams.push(Stream { end: start + len, ahead: 0 });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in between leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the start of `out` from byte `at` on, and returns how much of it.
    fn read_some(&self, at: u64, out: &mut [u8]) -> Result<usize> {
        let mut state = self.state();
        let (stop, missing) = loop {
            match state.look(at, out.len()) {
                Look::Here(bytes, start) => {
                    drop(state);
                    let from = usize::try_from(at - start).unwrap_or(usize::MAX);
                    return Ok(copy_start(bytes.get(from..).unwrap_or_default(), out));
                }
                Look::Coming => {
                    state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Look::Missing(next) => break (next, next.min(at + out.len() as u64)),
            }
        };
        let end = state.plan(at, missing, self.fetcher.byte_len()).min(stop);
        if missing - at >= DIRECT {
            drop(state);
            let len = usize::try_from(missing - at).unwrap_or(usize::MAX);
            let Some(out) = out.get_mut(..len) else { return Ok(0) };
            self.fetcher.fetch(at, out)?;
            return Ok(len);
        }
        let used = state.clock;
        state
            .segments
            .insert(at, Segment { len: end - at, bytes: None, used, read: out.len() as u64 });
        drop(state);
        let coming = Coming { ranges: self, start: at };
        let mut bytes = sparse_core::zeros(usize::try_from(end - at).unwrap_or(usize::MAX))?;
        self.fetcher.fetch(at, &mut bytes)?;
        let n = copy_start(&bytes, out);
        coming.arrive(bytes);
        Ok(n)
    }
}

/// Copies as much as both have, and returns how much that is.
fn copy_start(from: &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..n), to.get_mut(..n)) {
        to.copy_from_slice(from);
    }
    n
}

/// Segment that is being fetched; when it fails, others may try.
struct Coming<'a, F: Fetch> {
    ranges: &'a Ranges<F>,
    start: u64,
}

impl<F: Fetch> Coming<'_, F> {
    fn arrive(self, bytes: Vec<u8>) {
        let mut state = self.ranges.state();
        state.bytes += bytes.len() as u64;
        if let Some(segment) = state.segments.get_mut(&self.start) {
            segment.bytes = Some(Arc::new(bytes));
        }
        state.trim();
    }
}

impl<F: Fetch> Drop for Coming<'_, F> {
    fn drop(&mut self) {
        let mut state = self.ranges.state();
        if state.segments.get(&self.start).is_some_and(|s| s.bytes.is_none()) {
            state.segments.remove(&self.start);
        }
        self.ranges.arrived.notify_all();
    }
}

impl<F: Fetch> ByteSource for Ranges<F> {
    fn byte_len(&self) -> u64 {
        self.fetcher.byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let len = self.byte_len();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > len) {
            return Err(Error::truncated(format!(
                "{} bytes wanted from byte {offset} on, but there are only {len}",
                out.len()
            )));
        }
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += self.read_some(offset + done as u64, rest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
