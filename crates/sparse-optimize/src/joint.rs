//! What sets a model apart from another over several prompts.

use crate::PromptEvaluation;
use serde::Serialize;
use sparse_core::{Error, Result};

/// What sets a model apart from another over all prompts together.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JointComparison {
    /// Prompts.
    pub prompts: usize,
    /// Positions in all of them.
    pub positions: u64,
    /// Mean over positions of the divergence of Kullback and Leibler from the other, in nats.
    pub kl_mean: f64,
    /// Its maximum.
    pub kl_max: f64,
    /// Share of positions at which both prefer the same token, from 0 to 1.
    pub top1: f64,
    /// Perplexity of the other.
    pub perplexity: f64,
    /// Perplexity minus that of the other.
    pub perplexity_difference: f64,
    /// The interval around it that holds with a confidence of 95 %, over prompts; `None` of one.
    pub perplexity_difference_interval: Option<[f64; 2]>,
}

/// How near a model must be to another to pass for it; what is `None` does not count.
///
/// # Examples
/// ```
/// use sparse_optimize::Thresholds;
///
/// assert_eq!(Thresholds::default().max_kl_mean, Some(0.01));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// Most divergence of Kullback and Leibler in the mean, in nats.
    pub max_kl_mean: Option<f64>,
    /// Least share of positions at which both prefer the same token, from 0 to 1.
    pub min_top1: Option<f64>,
    /// Most that the perplexity may rise.
    pub max_ppl_delta: Option<f64>,
}

impl Default for Thresholds {
    /// Returns 0.01 nats, and the same first token at 95 of 100 positions.
    ///
    /// Weights of 4 bits keep to that and weights of 3 bits do not, on the model of
    /// `docs/evaluation.md`.
    fn default() -> Thresholds {
        Thresholds { max_kl_mean: Some(0.01), min_top1: Some(0.95), max_ppl_delta: None }
    }
}

impl Thresholds {
    /// Checks that each threshold is one that can be kept to.
    ///
    /// # Errors
    /// `InvalidArgument`, with the threshold.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str, value: f64| {
            Err(Error::invalid_argument(format!("a threshold of {value} for {what}")))
        };
        match (self.max_kl_mean, self.min_top1, self.max_ppl_delta) {
            (Some(x), ..) if !x.is_finite() || x < 0.0 => bad("the divergence", x),
            (_, Some(x), _) if !(0.0..=1.0).contains(&x) => bad("the same first token", x),
            (.., Some(x)) if !x.is_finite() => bad("the perplexity", x),
            _ => Ok(()),
        }
    }
}

impl JointComparison {
    /// Joins the comparisons of prompts; those that were not compared do not count.
    ///
    /// Perplexities are NaN where no token was scored, since all prompts have one token.
    ///
    /// The interval of the difference is that of a ratio of sums over independent prompts, with the
    /// quantile of Student's distribution (Cochran, *Sampling Techniques*, 1977, 6.4).
    ///
    /// # Errors
    /// `InvalidArgument` where no prompt was compared.
    pub fn of(prompts: &[PromptEvaluation]) -> Result<JointComparison> {
        let compared: Vec<_> =
            prompts.iter().filter_map(|p| Some((&p.text, p.against.as_ref()?))).collect();
        let positions: u64 = compared.iter().map(|(_, c)| c.positions).sum();
        let scored: f64 = compared.iter().map(|(own, _)| own.scored as f64).sum();
        if positions == 0 {
            return Err(Error::invalid_argument("no prompt was compared"));
        }
        let mean = |f: &dyn Fn(&crate::Comparison) -> f64| {
            let sum: f64 = compared.iter().map(|(_, c)| f(c) * c.positions as f64).sum();
            sum / positions as f64
        };
        // Sums of logarithms, of the other and of the difference, for each prompt.
        let sums: Vec<(f64, f64, f64)> = compared
            .iter()
            .map(|(own, other)| {
                let n = own.scored as f64;
                (n, n * other.mean_nll, n * (own.mean_nll - other.mean_nll))
            })
            .collect();
        let of_other = sums.iter().map(|s| s.1).sum::<f64>() / scored;
        let more = sums.iter().map(|s| s.2).sum::<f64>() / scored;
        let perplexity = of_other.exp();
        let difference = |more: f64| perplexity * more.exp_m1();
        let k = sums.len() as f64;
        let interval = (sums.len() > 1 && scored > 0.0).then(|| {
            let squares: f64 = sums.iter().map(|(n, _, d)| (d - more * n).powi(2)).sum();
            let width = student(sums.len() - 1) * (squares * k / (k - 1.0)).sqrt() / scored;
            [difference(more - width), difference(more + width)]
        });
        Ok(JointComparison {
            prompts: compared.len(),
            positions,
            kl_mean: mean(&|c| c.kl_mean),
            kl_max: compared.iter().map(|(_, c)| c.kl_max).fold(0.0, f64::max),
            top1: mean(&|c| c.top1),
            perplexity,
            perplexity_difference: difference(more),
            perplexity_difference_interval: interval,
        })
    }

    /// Lists the thresholds that are not kept, in words. Of the perplexity the upper end counts.
    pub fn misses(&self, thresholds: &Thresholds) -> Vec<String> {
        let Thresholds { max_kl_mean, min_top1, max_ppl_delta } = *thresholds;
        let upper = self.perplexity_difference_interval.map(|[_, high]| high);
        let mut misses = Vec::new();
        // NaN keeps to nothing.
        let keeps = |value: f64, most: f64| value <= most;
        if let Some(most) = max_kl_mean.filter(|&most| !keeps(self.kl_mean, most)) {
            misses.push(format!("a divergence of {:.3e} exceeds {most}", self.kl_mean));
        }
        if let Some(least) = min_top1.filter(|&least| !keeps(least, self.top1)) {
            misses.push(format!("the same first token at {:.4} is below {least}", self.top1));
        }
        match (max_ppl_delta, upper) {
            (Some(most), None) => misses.push(format!(
                "of a perplexity of {:+.4} nobody knows whether it exceeds {most}: give more \
                    prompts",
                self.perplexity_difference
            )),
            (Some(most), Some(upper)) if !keeps(upper, most) => {
                misses.push(format!("a perplexity of up to {upper:+.4} exceeds {most}"));
            }
            _ => {}
        }
        misses
    }
}

/// Returns the 97.5th percentile of Student's distribution of `freedom` degrees of freedom.
///
/// From the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5), which is within 0.2 %
/// from 4 on; exact values below.
fn student(freedom: usize) -> f64 {
    const FEW: [f64; 5] = [f64::INFINITY, 12.706_204_7, 4.302_652_7, 3.182_446_3, 2.776_445_1];
    if let Some(&exact) = FEW.get(freedom) {
        return exact;
    }
    let (z, n) = (1.959_963_985_f64, freedom as f64);
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| (sum + term) / n) + z
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prompt(scored: u64, own: f64, other: f64, kl: f64, top1: f64) -> PromptEvaluation {
        serde_json::from_value(json!({
            "tokens": scored + 1, "scored": scored, "text_bytes": 9, "windows": 1,
            "mean_nll": own, "perplexity": own.exp(), "bits_per_byte": 1.0, "next": [],
            "against": {
                "mean_nll": other, "perplexity": other.exp(), "perplexity_difference": 0,
                "positions": scored, "kl_mean": kl, "kl_p99": kl, "kl_max": 2.0 * kl, "top1": top1,
            },
        }))
        .unwrap()
    }

    #[test]
    fn positions_weigh_alike() {
        let joint =
            JointComparison::of(&[prompt(1, 2.0, 2.0, 0.0, 1.0), prompt(3, 3.0, 2.0, 0.4, 0.5)]);
        let joint = joint.unwrap();
        assert_eq!((joint.positions, joint.top1, joint.kl_max), (4, 0.625, 0.8));
        assert!((joint.kl_mean - 0.3).abs() < 1e-12);
        let want = (2.0_f64 + 0.75).exp() - 2.0_f64.exp();
        assert!((joint.perplexity_difference - want).abs() < 1e-12);
        let [low, high] = joint.perplexity_difference_interval.unwrap();
        assert!(low < want && want < high);
        let misses = joint.misses(&Thresholds::default());
        assert!(misses.len() == 2 && misses[0].contains("exceeds 0.01"), "{misses:?}");
    }

    #[test]
    fn equal_models_keep_to_all() {
        let same = vec![prompt(5, 2.5, 2.5, 0.0, 1.0); 3];
        let joint = JointComparison::of(&same).unwrap();
        assert_eq!(joint.perplexity_difference_interval, Some([0.0, 0.0]));
        let all = Thresholds { max_ppl_delta: Some(0.0), ..Thresholds::default() };
        assert_eq!(joint.misses(&all), [""; 0]);
        assert!(JointComparison::of(&[]).is_err());
    }

    #[test]
    fn what_is_no_number_keeps_to_nothing() {
        let mut bad = vec![prompt(5, 2.5, 2.5, 0.0, 1.0)];
        bad[0].against.as_mut().unwrap().kl_mean = f64::NAN;
        let joint = JointComparison::of(&bad).unwrap();
        assert_eq!(joint.misses(&Thresholds::default()).len(), 1);
        assert_eq!(joint.perplexity_difference_interval, None);
    }

    /// Compares with tables (Abramowitz and Stegun, table 26.10).
    #[test]
    fn quantiles() {
        for (freedom, want) in
            [(1, 12.706), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980)]
        {
            let got = student(freedom);
            assert!((got / want - 1.0).abs() < 0.002, "{freedom}: {got}");
        }
    }
}
