//! Times of files as numbers.

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns when a file was written to, in nanoseconds since 1970; 0 where the system does not say.
pub(super) fn modified(metadata: &Metadata) -> i128 {
    metadata.modified().map_or(0, nanos)
}

/// Returns the nanoseconds since 1970.
pub(super) fn nanos(time: SystemTime) -> i128 {
    let count = |d: Duration| d.as_nanos().cast_signed();
    time.duration_since(UNIX_EPOCH).map_or_else(|e| -count(e.duration()), count)
}

/// Returns the time that is so many nanoseconds after 1970, if the system can tell it.
pub(super) fn time(nanos: i128) -> Option<SystemTime> {
    const SECOND: u128 = 1_000_000_000;
    let size = nanos.unsigned_abs();
    let seconds = u64::try_from(size / SECOND).ok()?;
    let distance = Duration::new(seconds, u32::try_from(size % SECOND).ok()?);
    if nanos < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for n in [0, 1, -1, 1_700_000_000_123_456_789, -5_000_000_000] {
            assert_eq!(time(n).map(nanos), Some(n));
        }
        assert_eq!(time(i128::MAX), None);
        assert_eq!(time(i128::MIN), None);
    }
}
