//! Steps and thresholds that keep an error bound, found on samples of a segment.

use super::kernel::Rules;
use super::pick::Nearest;
use super::quantise::Thinned;
use super::rule::{Groups, SHIFT_PARTS, STEP_BITS, Step, Steps, step_code};
use crate::real::Real;
use crate::word::Word;

/// Part of the bound that is aimed at, since what holds for a sample does not quite hold for the
/// whole.
const AIM: f64 = 0.985;

/// Target and prediction.
type Pair = (u64, u64);

fn change<R: Real>(&(t, p): &Pair) -> f64 {
    if t == p || R::is_special(t) || R::is_special(p) { 0.0 } else { R::value(t) - R::value(p) }
}

/// Finds the size below which changes may be dropped.
///
/// The relative error then stays below `error`.
pub(super) fn threshold<R: Real>(samples: &[Pair], error: f64) -> f64 {
    if error <= 0.0 {
        return 0.0;
    }
    let mut changes: Vec<f64> =
        samples.iter().map(|s| change::<R>(s).abs()).filter(|c| *c > 0.0).collect();
    changes.sort_unstable_by(f64::total_cmp);
    let all: f64 = changes.iter().map(|c| c * c).sum();
    let room = (AIM * error).powi(2) * all;
    let mut sum = 0.0;
    for c in changes {
        sum += c * c;
        if sum > room {
            return c;
        }
    }
    // All may go.
    if error >= 1.0 { f64::INFINITY } else { 0.0 }
}

/// Returns a segment's step as if it were the only one.
fn with_step<R: Real>(steps: &Steps, code: u16) -> Step {
    Step::new::<R>(&Steps { codes: vec![code], ..steps.clone() }, 0)
}

/// Finds the largest step whose relative error stays below `error`.
///
/// Returns the code of the step, 0 if there is none, and the share of the rows in which the changes
/// that the next step would drop can be dropped as well.
pub(super) fn step<R: Real>(
    samples: &[Pair],
    error: f64,
    offset: f64,
    steps: &Steps,
) -> (u16, Thinned) {
    let all: f64 = samples.iter().map(|s| change::<R>(s).powi(2)).sum();
    let largest = samples.iter().map(|s| change::<R>(s).abs()).fold(0.0, f64::max);
    if all == 0.0 || !all.is_finite() {
        return (0, Thinned::default());
    }
    let room = (AIM * error).powi(2) * all;
    let words = |of: fn(&Pair) -> u64| {
        let mut out = vec![0; samples.len() * R::W::BYTES];
        out.chunks_exact_mut(R::W::BYTES).zip(samples).for_each(|(o, s)| R::W::store(of(s), o));
        out
    };
    let (targets, predictions) = (words(|s| s.0), words(|s| s.1));
    let wrong = |code: u16, least: f64| -> f64 {
        let step = with_step::<R>(steps, code);
        let rules = match step.is_exact() {
            true => Rules::Exact,
            false => Rules::Nearest(Nearest { step, offset, bound: f64::INFINITY, least }),
        };
        rules.errors::<R>(&targets, &predictions).0
    };
    // Codes are ordered as steps are, and errors grow with them, near enough.
    let (mut low, mut high) =
        (step_code(largest * 1e-6, STEP_BITS), step_code(largest * 4.0, STEP_BITS));
    if wrong(low, 0.0) > room {
        return (0, Thinned::default());
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if wrong(middle, 0.0) <= room {
            low = middle;
        } else {
            high = middle;
        }
    }
    let least = (1.0 - offset) * with_step::<R>(steps, high).size;
    let (now, then) = (wrong(low, 0.0), wrong(low, least));
    let share = if then > room { (room - now) / (then - now) } else { 1.0 };
    // Saturates where it is all rows.
    (low, Thinned { least, share: (share * 2f64.powi(64)) as u64 })
}

/// Returns codes and changes, in steps, of the samples that are coded.
fn in_steps<R: Real>(
    samples: &[Vec<Pair>],
    offset: f64,
    steps: &Steps,
    groups: &Groups,
) -> impl Iterator<Item = (u64, f64)> {
    samples.iter().enumerate().flat_map(move |(segment, samples)| {
        let step = Step::new::<R>(steps, groups.of_segment(segment).start);
        samples.iter().filter_map(move |&(t, p)| {
            if step.is_exact()
                || t == p
                || R::is_special(t)
                || R::is_special(p)
                || step.counts_ulps::<R>(p)
            {
                return None;
            }
            let x = (R::value(t) - R::value(p)).abs() * step.inverse;
            Some(((x + offset) as u64, x))
        })
    })
}

/// Computes the reconstruction points: the means of the changes with each code.
pub(super) fn shifts<R: Real>(
    samples: &[Vec<Pair>],
    offset: f64,
    steps: &Steps,
    groups: &Groups,
) -> [i8; 2] {
    let mut sums = [(0.0, 0u32); 2];
    for (code, x) in in_steps::<R>(samples, offset, steps, groups).filter(|c| c.0 > 0) {
        let sum = &mut sums[usize::from(code != 1)];
        sum.0 += code as f64 - x;
        sum.1 += 1;
    }
    sums.map(|(sum, n)| (SHIFT_PARTS * sum / f64::from(n.max(1))).round().clamp(-64.0, 64.0) as i8)
}

/// Returns the share of samples whose code exceeds `max`.
pub(super) fn share_above<R: Real>(
    samples: &[Vec<Pair>],
    max: u64,
    steps: &Steps,
    groups: &Groups,
) -> f64 {
    let all: usize = samples.iter().map(Vec::len).sum();
    let above = in_steps::<R>(samples, 0.5, steps, groups).filter(|c| c.0 > max).count();
    above as f64 / all.max(1) as f64
}
