//! What goes wrong, and when.

use std::collections::VecDeque;
use std::time::Duration;

/// Fault of one answer.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::{Fault, Faults};
///
/// let faults = Faults::script([Some(Fault::Status(503)), None, Some(Fault::CutBody)]);
/// # let _ = faults;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 429 with `Retry-After` of that many seconds.
    TooMany(u64),
    /// This status, without content.
    Status(u16),
    /// The connection is closed before the answer.
    Close,
    /// Nothing for as long as [`Faults::stall`] says, then the connection is closed.
    Stall,
    /// Half of the body, then the connection is closed.
    CutBody,
    /// Half of the body, then nothing for as long as [`Faults::stall`] says.
    StallBody,
    /// One byte in the middle of the content of a file has one bit flipped.
    FlipByte,
    /// Another content of the same length under another ETag, as if the file had been replaced.
    Replaced,
}

/// Decides which answers have a fault.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::Faults;
///
/// // Every tenth answer on average, the same ones for the same seed, of those about large files.
/// let faults = Faults::random(7, 0.1).only("/blobs/");
/// # let _ = faults;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults {
    script: VecDeque<Option<Fault>>,
    /// Of 2^32 answers.
    share: u64,
    state: u64,
    only: Option<String>,
    stall: Duration,
}

impl Faults {
    /// Creates faults that never happen.
    pub fn none() -> Faults {
        Faults { stall: Duration::from_secs(30), ..Faults::default() }
    }

    /// Creates faults of the first answers, in order; those after the last have none.
    pub fn script(script: impl IntoIterator<Item = Option<Fault>>) -> Faults {
        Faults { script: script.into_iter().collect(), ..Faults::none() }
    }

    /// Creates faults of a `share` of all answers, 0 to 1, of all kinds.
    pub fn random(seed: u64, share: f64) -> Faults {
        let share = (share.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
        Faults { share, state: seed, ..Faults::none() }
    }

    /// Restricts faults to paths that contain `part`; a script counts only those.
    #[must_use]
    pub fn only(self, part: &str) -> Faults {
        Faults { only: Some(part.to_owned()), ..self }
    }

    /// Sets how long a body stalls; 30 seconds by default.
    #[must_use]
    pub fn stall(self, stall: Duration) -> Faults {
        Faults { stall, ..self }
    }

    /// Returns how long a body stalls.
    pub(super) fn stall_time(&self) -> Duration {
        self.stall
    }

    /// Draws the fault of the next answer.
    pub(super) fn next(&mut self, path: &str) -> Option<Fault> {
        if self.only.as_ref().is_some_and(|part| !path.contains(part)) {
            return None;
        }
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        if self.draw() >= self.share {
            return None;
        }
        Some(match self.draw() % 9 {
            0 => Fault::TooMany(0),
            1 => Fault::Status(500),
            2 => Fault::Status(502),
            3 => Fault::Status(503),
            4 => Fault::Close,
            5 => Fault::CutBody,
            6 => Fault::StallBody,
            7 => Fault::FlipByte,
            _ => Fault::Replaced,
        })
    }

    /// Draws a number below 2^32 (SplitMix64).
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_shares() {
        let mut faults = Faults::script([Some(Fault::Close), None]).only("/a");
        assert_eq!(faults.next("/b"), None);
        assert_eq!(faults.next("/a"), Some(Fault::Close));
        assert_eq!((faults.next("/a"), faults.next("/a")), (None, None));

        let draw = |seed| {
            let mut faults = Faults::random(seed, 0.1);
            (0..1000).map(|_| faults.next("/")).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        let count = draw(1).iter().flatten().count();
        assert!((60..140).contains(&count), "{count}");
    }
}
