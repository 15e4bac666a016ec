//! Trying again, after a while.

use super::notice::Notice;
use sparse_core::{CancelToken, Result};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Time after which a person wonders what is going on.
const NOTICED: Duration = Duration::from_secs(5);

/// How often, and how soon, a request is made again.
///
/// What is tried again: a server that cannot be reached, hangs up, stalls, is busy (429) or fails
/// (408, 500, 502, 503, 504). Waiting doubles each time, plus up to a quarter by chance, so that
/// many clients do not come back at once; a server's `Retry-After` counts instead where it is
/// longer.
///
/// # Examples
///
/// ```
/// use sparse_remote::Retry;
/// use std::time::Duration;
///
/// let mut patient = Retry::default();
/// patient.attempts = 10;
/// assert!(patient.longest > Duration::from_secs(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// Attempts in all, the first included. 7 by default, which waits about 7 s in all.
    pub attempts: u32,
    /// Wait after the first attempt. 100 ms by default.
    pub first: Duration,
    /// Longest wait. 30 s by default; a server that asks for more is not waited for.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        Retry { attempts: 7, first, longest }
    }
}

/// Failure of one attempt.
pub(crate) enum Attempt {
    /// May go away; the server may have said when.
    Again(sparse_core::Error, Option<Duration>),
    /// Stays.
    Fail(sparse_core::Error),
}

impl From<sparse_core::Error> for Attempt {
    fn from(e: sparse_core::Error) -> Self {
        Attempt::Fail(e)
    }
}

impl Retry {
    /// Does `attempt` until it succeeds, cannot, or has been tried often enough.
    pub(crate) fn run<T>(
        &self,
        cancel: &CancelToken,
        notice: &Notice,
        mut attempt: impl FnMut() -> Result<T, Attempt>,
    ) -> Result<T> {
        let begin = Instant::now();
        let mut wait = self.first;
        let mut left = self.attempts;
        loop {
            cancel.check()?;
            let (error, asked) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Attempt::Fail(error)) => return Err(error),
                Err(Attempt::Again(error, asked)) => (error, asked.unwrap_or_default()),
            };
            left = left.saturating_sub(1);
            if left == 0 || asked > self.longest {
                return Err(error);
            }
            let now = wait.min(self.longest).mul_f64(1.0 + by_chance() / 4.0).max(asked);
            if begin.elapsed() + now > NOTICED {
                let (next, all) = (self.attempts - left + 1, self.attempts);
                let seconds = now.as_secs_f64().ceil();
                notice.tell(&format!("{error}; attempt {next} of {all} follows in {seconds} s"));
            }
            sleep(now, cancel)?;
            wait = wait.saturating_mul(2);
        }
    }
}

/// Waits, unless cancelled.
fn sleep(time: Duration, cancel: &CancelToken) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        cancel.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Returns a number from 0 to 1.
fn by_chance() -> f64 {
    // Keys of the standard hasher are random, and differ from call to call.
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0))
        / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::{Error, ErrorKind};

    fn quick(attempts: u32) -> Retry {
        Retry { attempts, first: Duration::from_millis(1), longest: Duration::from_millis(20) }
    }

    #[test]
    fn attempts_are_counted() {
        let mut calls = 0;
        let mut again = |until: u32| {
            calls = 0;
            quick(4).run(&CancelToken::new(), &Notice::default(), || {
                calls += 1;
                let busy = Error::new(ErrorKind::Unavailable, "busy");
                if calls < until { Err(Attempt::Again(busy, None)) } else { Ok(calls) }
            })
        };
        assert_eq!(again(4).unwrap(), 4);
        assert_eq!(again(5).unwrap_err().kind(), ErrorKind::Unavailable);
        let fail = || Err::<(), _>(Attempt::Fail(Error::corrupt("no")));
        assert_eq!(
            quick(9).run(&CancelToken::new(), &Notice::default(), fail).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }

    #[test]
    fn a_wait_that_is_too_long_is_not_waited_for() {
        let start = Instant::now();
        let busy = || {
            let e = Error::new(ErrorKind::Unavailable, "busy");
            Err::<(), _>(Attempt::Again(e, Some(Duration::from_secs(3600))))
        };
        assert!(quick(5).run(&CancelToken::new(), &Notice::default(), busy).is_err());
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn cancelling_ends_the_wait() {
        let cancel = CancelToken::new();
        let wait = Retry { first: Duration::from_secs(3600), longest: Duration::MAX, attempts: 2 };
        let e = wait.run(&cancel, &Notice::default(), || {
            cancel.cancel();
            Err::<(), _>(Attempt::Again(Error::corrupt("x"), None))
        });
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
