//! Quality against the share of requests that go to the stronger model.

/// Smallest gap between both models that is one: sums of equal qualities differ by rounding.
pub(crate) const LEAST_GAP: f64 = 1e-12;

/// One request in the order of a router: what either model's answer is worth.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    /// Index of the request.
    row: usize,
    /// Quality that the stronger model adds: -1, 0 or 1.
    gain: f64,
}

/// Requests in the order in which a router would send them to the stronger model.
///
/// Requests with equal scores form a tie: their order is arbitrary, so that a curve crosses a tie
/// in a straight line, which is the mean over all orders.
#[derive(Clone, Debug)]
pub(crate) struct Ranking {
    order: Vec<Ranked>,
    /// End of each tie in `order`.
    ties: Vec<usize>,
    weak: Vec<f64>,
}

impl Ranking {
    /// Ranks requests by how much they need the stronger model, the neediest first.
    ///
    /// Lists are of the same length; `right` is of the weaker, then of the stronger model.
    pub(crate) fn new(need: &[f64], right: &[(bool, bool)]) -> Ranking {
        let number = |b: bool| f64::from(u8::from(b));
        let mut order: Vec<(f64, Ranked)> = need
            .iter()
            .zip(right)
            .enumerate()
            .map(|(row, (&need, &(weak, strong)))| {
                (need, Ranked { row, gain: number(strong) - number(weak) })
            })
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let ends = order.windows(2).enumerate().filter(|(_, pair)| pair[0].0 != pair[1].0);
        let mut ties: Vec<usize> = ends.map(|(i, _)| i + 1).collect();
        if !order.is_empty() {
            ties.push(order.len());
        }
        let weak = right.iter().map(|r| number(r.0)).collect();
        Ranking { order: order.into_iter().map(|(_, ranked)| ranked).collect(), ties, weak }
    }

    /// Returns the curve when request `i` counts `weights(i)` times.
    pub(crate) fn curve(&self, weights: impl Fn(usize) -> f64) -> RoutingCurve {
        let total: f64 = (0..self.weak.len()).map(&weights).sum::<f64>().max(f64::MIN_POSITIVE);
        let weak = self.weak.iter().enumerate().map(|(i, w)| weights(i) * w).sum::<f64>() / total;
        let mut points = vec![(0.0, weak)];
        let (mut share, mut quality, mut start) = (0.0, weak, 0);
        for &end in &self.ties {
            for ranked in self.order.get(start..end).unwrap_or_default() {
                let weight = weights(ranked.row);
                share += weight / total;
                quality += weight * ranked.gain / total;
            }
            points.push((share, quality));
            start = end;
        }
        RoutingCurve { points }
    }
}

/// Quality of a router for each share of requests that it sends to the stronger model.
///
/// The measures are those of RouteLLM (Ong and others, "RouteLLM: Learning to route LLMs with
/// preference data", 2024, section 2.2). They are computed from all requests, not from ten
/// thresholds as there.
///
/// # Examples
///
/// ```
/// use sparse_route::RoutingCurve;
///
/// // The router asks for the stronger model first where the weaker one fails.
/// let curve = RoutingCurve::new(&[0.9, 0.1], &[(false, true), (true, true)]);
/// assert_eq!((curve.weak_quality(), curve.strong_quality()), (0.5, 1.0));
/// assert_eq!(curve.apgr(), Some(0.75));
/// assert_eq!(curve.share_for_quality(0.75), Some(0.25));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingCurve {
    /// Share of the stronger model, and quality: from share 0 to 1, straight in between.
    points: Vec<(f64, f64)>,
}

impl RoutingCurve {
    /// Creates the curve of a router that sends the neediest requests first.
    ///
    /// Each request has its need for the stronger model, a number of any scale, and whether the
    /// weaker and the stronger model were right.
    /// What is longer in one list than in the other is left out. Equal needs are a tie, see
    /// [`random`](Self::random).
    pub fn new(need: &[f64], right: &[(bool, bool)]) -> RoutingCurve {
        Ranking::new(need, right.get(..need.len()).unwrap_or(right)).curve(|_| 1.0)
    }

    /// Creates the curve of a router that knows nothing: the mean over all orders.
    pub fn random(right: &[(bool, bool)]) -> RoutingCurve {
        RoutingCurve::new(&vec![0.0; right.len()], right)
    }

    /// Creates the curve of a router that knows the answers, which no router exceeds.
    pub fn oracle(right: &[(bool, bool)]) -> RoutingCurve {
        let number = |b: bool| f64::from(u8::from(b));
        let need: Vec<f64> = right.iter().map(|&(w, s)| number(s) - number(w)).collect();
        RoutingCurve::new(&need, right)
    }

    /// Returns share and quality at each step of the curve, from share 0 to 1.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// Returns the quality of the weaker model alone, 0 to 1.
    pub fn weak_quality(&self) -> f64 {
        self.points.first().map_or(0.0, |p| p.1)
    }

    /// Returns the quality of the stronger model alone, 0 to 1.
    pub fn strong_quality(&self) -> f64 {
        self.points.last().map_or(0.0, |p| p.1)
    }

    /// Returns the average performance gap recovered.
    ///
    /// At each share, the recovered gap is the quality above the weaker model's, divided by the gap
    /// between both models; the average is its integral over shares from 0 to 1. A random router
    /// has 0.5; what knows the answers can exceed 1, where the weaker model is sometimes right
    /// alone. `None` if the stronger model is no better, so that there is no gap.
    pub fn apgr(&self) -> Option<f64> {
        Some(self.recovered_area() / self.gap()?)
    }

    /// Returns the integral of the quality above the weaker model's, over shares from 0 to 1.
    pub(crate) fn recovered_area(&self) -> f64 {
        let steps = self.points.windows(2).map(|pair| {
            let ((x, a), (y, b)) = (pair[0], pair[1]);
            (y - x) * (0.5 * (a + b) - self.weak_quality())
        });
        steps.sum()
    }

    /// Returns the quality of the stronger model above the weaker one's, which may be negative.
    pub(crate) fn raw_gap(&self) -> f64 {
        self.strong_quality() - self.weak_quality()
    }

    /// Returns the smallest share of the stronger model with at least this quality.
    ///
    /// It is 0 to 1; `None` if no share has it.
    pub fn share_for_quality(&self, quality: f64) -> Option<f64> {
        if self.weak_quality() >= quality {
            return Some(0.0);
        }
        self.points.windows(2).find_map(|pair| {
            let ((x, a), (y, b)) = (pair[0], pair[1]);
            // The quality before the step is below, so the step rises.
            (b >= quality).then(|| x + (y - x) * (quality - a) / (b - a))
        })
    }

    /// Returns the call-performance threshold: the smallest share of the stronger model, 0 to 1,
    /// that recovers this part, 0 to 1, of the gap.
    ///
    /// `None` if there is no gap, or no share recovers it.
    pub fn call_performance_threshold(&self, recovered: f64) -> Option<f64> {
        self.share_for_quality(self.weak_quality() + recovered * self.gap()?)
    }

    fn gap(&self) -> Option<f64> {
        Some(self.raw_gap()).filter(|gap| *gap > LEAST_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The recovered gap at each count of strong calls, summed by the trapezoid rule, for distinct
    // needs: the definition, without weights and ties.
    fn naive_apgr(need: &[f64], right: &[(bool, bool)]) -> f64 {
        let n = need.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| need[b].partial_cmp(&need[a]).unwrap());
        let quality = |k: usize| {
            let strong = |i: usize| order[..k].contains(&i);
            (0..n).filter(|&i| if strong(i) { right[i].1 } else { right[i].0 }).count() as f64
        };
        let recovered = |k| (quality(k) - quality(0)) / (quality(n) - quality(0));
        (0..n).map(|k| (recovered(k) + recovered(k + 1)) / 2.0 / n as f64).sum()
    }

    fn rows() -> impl Strategy<Value = Vec<(bool, bool)>> {
        prop::collection::vec((any::<bool>(), any::<bool>()), 1..24)
    }

    fn gap(right: &[(bool, bool)]) -> i32 {
        right.iter().map(|r| i32::from(r.1) - i32::from(r.0)).sum()
    }

    proptest! {
        #[test]
        fn apgr_is_its_definition(right in rows(), seed in any::<u64>()) {
            let mut random = crate::random::Random::new(seed);
            let mut need: Vec<f64> = (0..right.len()).map(|i| i as f64).collect();
            random.shuffle(&mut need);
            let found = RoutingCurve::new(&need, &right).apgr();
            if gap(&right) > 0 {
                prop_assert!((found.unwrap() - naive_apgr(&need, &right)).abs() < 1e-9);
            } else {
                prop_assert_eq!(found, None);
            }
        }

        #[test]
        fn random_is_a_half_and_the_oracle_is_not_exceeded(
            right in rows(),
            need in prop::collection::vec(0u8..4, 24),
        ) {
            prop_assume!(gap(&right) > 0);
            let need: Vec<f64> = need.into_iter().map(f64::from).collect();
            let apgr = RoutingCurve::new(&need[..right.len()], &right).apgr().unwrap();
            let best = RoutingCurve::oracle(&right).apgr().unwrap();
            let random = RoutingCurve::random(&right).apgr().unwrap();
            prop_assert!((random - 0.5).abs() < 1e-9);
            prop_assert!(apgr <= best + 1e-9 && best >= 0.5);
        }

        // A tie is the mean over both of its orders.
        #[test]
        fn ties_are_means(right in prop::collection::vec((any::<bool>(), any::<bool>()), 2..3)) {
            prop_assume!(gap(&right) > 0);
            let apgr = |need: &[f64]| RoutingCurve::new(need, &right).apgr().unwrap();
            let mean = (apgr(&[1.0, 0.0]) + apgr(&[0.0, 1.0])) / 2.0;
            prop_assert!((apgr(&[0.5, 0.5]) - mean).abs() < 1e-12);
        }

        // Counting a request twice is as listing it twice.
        #[test]
        fn weights_are_repetitions(
            right in rows(),
            double in prop::collection::vec(any::<bool>(), 24),
        ) {
            let need: Vec<f64> = (0..right.len()).map(|i| (i % 5) as f64).collect();
            let twice = |i: usize| if double[i] { 2.0 } else { 1.0 };
            let weighted = Ranking::new(&need, &right).curve(twice);
            let (mut long_need, mut long_right) = (need.clone(), right.clone());
            for i in (0..right.len()).filter(|&i| double[i]) {
                long_need.push(need[i]);
                long_right.push(right[i]);
            }
            let listed = RoutingCurve::new(&long_need, &long_right);
            for (a, b) in weighted.points.iter().zip(&listed.points) {
                prop_assert!((a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn shares_that_reach_a_quality() {
        let right = [(false, true), (false, true), (true, true), (true, false)];
        let curve = RoutingCurve::new(&[4.0, 3.0, 2.0, 1.0], &right);
        assert_eq!(
            curve.points(),
            [(0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (0.75, 1.0), (1.0, 0.75)]
        );
        assert_eq!(curve.share_for_quality(0.4), Some(0.0));
        assert_eq!(curve.share_for_quality(0.75), Some(0.25));
        assert_eq!(curve.share_for_quality(0.9), Some(0.4));
        assert_eq!(curve.share_for_quality(1.1), None);
        assert_eq!(curve.call_performance_threshold(1.0), Some(0.25));
        assert_eq!(curve.call_performance_threshold(0.5), Some(0.125));
    }

    #[test]
    fn nothing_to_recover() {
        let curve = RoutingCurve::new(&[1.0], &[(true, true)]);
        assert_eq!((curve.apgr(), curve.call_performance_threshold(0.5)), (None, None));
        let empty = RoutingCurve::new(&[], &[]);
        assert_eq!((empty.apgr(), empty.weak_quality()), (None, 0.0));
    }
}
