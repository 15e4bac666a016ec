//! Figures of one row of logits, or of two.

/// Returns the negative logarithm of the probability of token `target`, in nats.
pub(crate) fn nll(logits: &[f32], target: u32) -> f64 {
    let Some(&logit) = logits.get(target as usize) else { return f64::NAN };
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Exponentials in f32, whose errors of 1e-7 are far below those of the logits; the sum in f64.
    let sum: f64 = logits.iter().map(|x| f64::from((x - most).exp())).sum();
    sum.ln() + f64::from(most) - f64::from(logit)
}

/// Returns the divergence KL(base ‖ other) of the two distributions, in nats.
///
/// All in f64: neighbouring checkpoints of a training differ by 1e-10 nats and less.
pub(crate) fn divergence(base: &[f32], other: &[f32]) -> f64 {
    let (base_log_sum, other_log_sum) = (log_sum_exp(base), log_sum_exp(other));
    base.iter()
        .zip(other)
        .map(|(&p, &q)| {
            let (p, q) = (f64::from(p) - base_log_sum, f64::from(q) - other_log_sum);
            p.exp() * (p - q)
        })
        .sum()
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    logits.iter().map(|&x| (f64::from(x) - most).exp()).sum::<f64>().ln() + most
}

/// Returns the index of the largest logit, the first if there are several.
pub(crate) fn top(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best
}

/// Returns percentile `percent` of `sorted`, interpolated linearly between neighbours, as numpy
/// does; NaN of nothing.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = percent / 100.0 * last as f64;
    let low = (place.floor() as usize).min(last);
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities() {
        let logits = [1f32.ln(), 2f32.ln(), 5f32.ln()];
        assert!((nll(&logits, 1) - 4f64.ln()).abs() < 1e-6);
        assert!((nll(&[1000.0, 0.0], 1) - 1000.0).abs() < 1e-9);
        assert!(nll(&logits, 3).is_nan());
        let even = [0f32; 3];
        // ln 3 less the entropy, by hand.
        let expected = 3f64.ln() - (0.125 * 8f64.ln() + 0.25 * 4f64.ln() + 0.625 * 1.6f64.ln());
        assert!((divergence(&logits, &even) - expected).abs() < 1e-6);
        assert_eq!(divergence(&logits, &logits), 0.0);
        assert_eq!((top(&logits), top(&even)), (2, 0));
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(percentile(&sorted, 50.0), 3.0);
        assert!((percentile(&sorted, 99.0) - 7.88).abs() < 1e-12);
        assert_eq!(percentile(&sorted, 100.0), 8.0);
        assert_eq!(percentile(&[5.0], 99.0), 5.0);
        assert!(percentile(&[], 50.0).is_nan());
    }
}
