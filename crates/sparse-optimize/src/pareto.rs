//! The front of what nothing beats.

use crate::Candidate;

/// Returns which candidates no other beats: none is better in one of bytes, perplexity and latency
/// and worse in none of them.
///
/// A figure that is unknown on either side does not compare, so that it neither beats nor is
/// beaten, unless it is unknown on both. Time is quadratic in the candidates.
///
/// # Examples
/// ```
/// use sparse_optimize::{Candidate, Interval, Provenance, pareto_front};
///
/// let candidate = |bytes, delta| Candidate {
///     bytes: Some(bytes),
///     ppl_delta: Interval::exact(delta).ok(),
///     ..Candidate::new("a", Provenance::Measured)
/// };
/// let front = pareto_front(&[candidate(10, 0.5), candidate(20, 0.1), candidate(30, 0.2)]);
/// assert_eq!(front, [true, true, false]);
/// ```
pub fn pareto_front(candidates: &[Candidate]) -> Vec<bool> {
    let beaten = |c: &Candidate| candidates.iter().any(|other| beats(other, c));
    candidates.iter().map(|c| !beaten(c)).collect()
}

fn axes(c: &Candidate) -> [Option<f64>; 3] {
    [c.bytes.map(|b| b as f64), c.ppl_delta.map(|d| d.value()), c.latency_ms]
}

fn beats(a: &Candidate, b: &Candidate) -> bool {
    let mut better = false;
    for axis in axes(a).into_iter().zip(axes(b)) {
        match axis {
            (Some(a), Some(b)) if a > b => return false,
            (Some(a), Some(b)) => better |= a < b,
            (None, None) => {}
            _ => return false,
        }
    }
    better
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interval, Provenance};
    use proptest::prelude::*;

    proptest! {
        /// Checks that what is beaten is beaten by one of the front, and nothing of the front is.
        #[test]
        fn the_front_beats_all_others(
            figures in prop::collection::vec((0u64..5, 0u8..5, 0u8..5), 0..20)
        ) {
            let all: Vec<Candidate> = figures
                .iter()
                .map(|&(bytes, delta, ms)| Candidate {
                    bytes: Some(bytes),
                    ppl_delta: Interval::exact(delta.into()).ok(),
                    latency_ms: Some(ms.into()),
                    ..Candidate::new("a", Provenance::Measured)
                })
                .collect();
            let front = pareto_front(&all);
            prop_assert_eq!(front.contains(&true), !all.is_empty());
            for (c, on_front) in all.iter().zip(&front) {
                let by_front = all.iter().zip(&front).any(|(o, &f)| f && beats(o, c));
                prop_assert_eq!(!by_front, *on_front);
            }
        }
    }
}
