//! A budget of bytes, spread over tensors so that the least error is left.

/// Size and error of one way to code something.
///
/// # Examples
///
/// ```
/// use sparse_select::{RatePoint, allocate_budget};
///
/// let point = |bytes, error| RatePoint { bytes, error };
/// // Two tensors, each to be stored small or exactly; there is room for one of them to be exact.
/// let a = vec![point(10.0, 5.0), point(100.0, 0.0)];
/// let b = vec![point(10.0, 80.0), point(100.0, 0.0)];
/// assert_eq!(allocate_budget(&[a, b], 120.0), Some(vec![0, 1]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePoint {
    /// Its size, in bytes.
    pub bytes: f64,
    /// The error that it leaves, a quantity that adds up (squared norms do).
    pub error: f64,
}

/// Chooses one point of each list, for a small error within a budget.
///
/// Returns, for each list of points, the index of the one to take, so that the sum of the sizes is
/// at most `budget` and the sum of the errors is small: from the smallest of each list on, the step
/// that saves the most error per byte is taken next (along the lower convex hull of each list), as
/// long as bytes are left; what is left at last goes to points beside the hulls. This is within one
/// step of the best there is.
///
/// Points whose size is not a finite number, or whose error is NaN, are never taken; one of
/// infinite error is taken where nothing better fits.
///
/// `None` when even the smallest points exceed the budget, or a list has no point to take.
pub fn allocate_budget(lists: &[Vec<RatePoint>], budget: f64) -> Option<Vec<usize>> {
    let hulls: Vec<Vec<usize>> = lists.iter().map(|points| hull(points)).collect();
    let mut at = vec![0; lists.len()];
    let mut spent: f64 = 0.0;
    // Error saved per byte, list, place on its hull.
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    for (list, (points, hull)) in lists.iter().zip(&hulls).enumerate() {
        spent += points.get(*hull.first()?)?.bytes;
        for (place, pair) in hull.windows(2).enumerate() {
            let (a, b) = (points[pair[0]], points[pair[1]]);
            steps.push((rate(a, b), list, place + 1));
        }
    }
    if budget.is_nan() || spent > budget {
        return None;
    }
    // Along a hull the rate falls, so the steps of a list come in order.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    for (_, list, place) in steps {
        // A step that did not fit bars those after it in its list.
        if at[list] + 1 != place {
            continue;
        }
        let cost =
            lists[list][hulls[list][place]].bytes - lists[list][hulls[list][place - 1]].bytes;
        if spent + cost <= budget {
            spent += cost;
            at[list] = place;
        }
    }
    let mut taken: Vec<usize> = hulls.iter().zip(at).map(|(hull, at)| hull[at]).collect();
    spend(lists, &mut taken, budget - spent);
    Some(taken)
}

/// Spends the bytes that are left on points beside the hulls, those that save the most error first.
fn spend(lists: &[Vec<RatePoint>], taken: &mut [usize], mut left: f64) {
    loop {
        let mut best: Option<(f64, f64, usize, usize)> = None;
        for (list, points) in lists.iter().enumerate() {
            let Some(now) = taken.get(list).and_then(|&t| points.get(t)) else { continue };
            for (place, point) in points.iter().enumerate() {
                let (cost, saved) = (point.bytes - now.bytes, now.error - point.error);
                let fits = point.bytes.is_finite() && cost <= left && saved > 0.0;
                if fits && best.is_none_or(|b| saved > b.0 || (saved == b.0 && cost < b.1)) {
                    best = Some((saved, cost, list, place));
                }
            }
        }
        let Some((_, cost, list, place)) = best else { return };
        left -= cost;
        if let Some(t) = taken.get_mut(list) {
            *t = place;
        }
    }
}

/// Returns the error that is saved per byte by going from `a` to the larger `b`.
pub(crate) fn rate(a: RatePoint, b: RatePoint) -> f64 {
    (a.error - b.error) / (b.bytes - a.bytes)
}

/// Returns the points on the lower convex hull, by their places in the list.
///
/// From the smallest to the one with the least error. Points between two others of the hull are on
/// it, so that a budget that ends among them is used.
fn hull(points: &[RatePoint]) -> Vec<usize> {
    let is_number = |p: &RatePoint| p.bytes.is_finite() && !p.error.is_nan();
    let mut order: Vec<usize> =
        (0..points.len()).filter(|&i| points.get(i).is_some_and(is_number)).collect();
    order.sort_by(|&a, &b| {
        let (x, y) = (points[a], points[b]);
        x.bytes.total_cmp(&y.bytes).then(x.error.total_cmp(&y.error)).then(a.cmp(&b))
    });
    let mut hull: Vec<usize> = Vec::new();
    for i in order {
        let o = points[i];
        if hull.last().is_some_and(|&l| o.error >= points[l].error || o.bytes <= points[l].bytes) {
            continue;
        }
        while let [.., a, b] = *hull {
            let (a, b) = (points[a], points[b]);
            if rate(a, b) >= rate(b, o) {
                break;
            }
            hull.pop();
        }
        hull.push(i);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(lists: &[Vec<RatePoint>], choice: &[usize]) -> (f64, f64) {
        let of = |f: fn(&RatePoint) -> f64| lists.iter().zip(choice).map(|(l, &c)| f(&l[c])).sum();
        (of(|o| o.bytes), of(|o| o.error))
    }

    /// Returns the least error, found by trying everything.
    fn best(lists: &[Vec<RatePoint>], budget: f64) -> Option<f64> {
        let Some((first, rest)) = lists.split_first() else {
            return (budget >= 0.0).then_some(0.0);
        };
        let tries = first.iter().filter_map(|o| Some(o.error + best(rest, budget - o.bytes)?));
        tries.min_by(f64::total_cmp)
    }

    proptest! {
        #[test]
        fn near_the_best(
            lists in prop::collection::vec(prop::collection::vec((1u32..50, 0u32..100), 1..5),
                1..5),
            budget in 0u32..200,
        ) {
            let lists: Vec<Vec<RatePoint>> = lists
                .iter()
                .map(|l| l.iter().map(|&(b, e)| RatePoint { bytes: b.into(), error: e.into() })
                    .collect())
                .collect();
            let budget = f64::from(budget);
            match (allocate_budget(&lists, budget), best(&lists, budget)) {
                (None, None) => {}
                (Some(choice), Some(best)) => {
                    let (bytes, error) = sums(&lists, &choice);
                    prop_assert!(bytes <= budget);
                    // One list may be a step behind.
                    let step = lists.iter().map(|l| {
                        let errors = l.iter().map(|o| o.error);
                        errors.clone().fold(0.0, f64::max) - errors.fold(f64::INFINITY, f64::min)
                    }).fold(0.0, f64::max);
                    prop_assert!(error <= best + step, "{} {} {}", error, best, step);
                    prop_assert!(error >= best);
                }
                (a, b) => prop_assert!(false, "{:?} {:?}", a, b),
            }
        }
    }

    #[test]
    fn what_saves_most_comes_first() {
        let point = |bytes, error| RatePoint { bytes, error };
        let lists = vec![
            vec![point(0.0, 100.0), point(10.0, 0.0)],
            vec![point(0.0, 10.0), point(10.0, 0.0)],
        ];
        assert_eq!(allocate_budget(&lists, 10.0), Some(vec![1, 0]));
        assert_eq!(allocate_budget(&lists, 25.0), Some(vec![1, 1]));
        assert_eq!(allocate_budget(&lists, -1.0), None);
        assert_eq!(allocate_budget(&[Vec::new()], 1.0), None);
    }

    #[test]
    fn a_budget_that_ends_between_equal_steps_is_used() {
        let points = (0..4).map(|i| RatePoint { bytes: f64::from(i), error: f64::from(3 - i) });
        assert_eq!(allocate_budget(&[points.collect()], 2.0), Some(vec![2]));
    }

    #[test]
    fn what_is_left_goes_to_points_beside_the_hull() {
        let point = |bytes, error| RatePoint { bytes, error };
        // The second lies above the line between the others.
        let points = vec![point(0.0, 100.0), point(6.0, 90.0), point(10.0, 0.0)];
        assert_eq!(allocate_budget(std::slice::from_ref(&points), 9.0), Some(vec![1]));
        assert_eq!(allocate_budget(&[points], 10.0), Some(vec![2]));
    }

    #[test]
    fn what_is_no_number_is_never_taken() {
        const NAN: f64 = f64::NAN;
        const INFINITE: f64 = f64::INFINITY;
        let choose = |points: &[(f64, f64)], budget: f64| {
            let points = points.iter().map(|&(bytes, error)| RatePoint { bytes, error });
            allocate_budget(&[points.collect()], budget).map(|taken| taken[0])
        };
        for nan in [NAN, -NAN] {
            assert_eq!(choose(&[(10.0, 5.0), (20.0, nan), (30.0, 0.0)], 25.0), Some(0));
            assert_eq!(choose(&[(10.0, nan), (20.0, 1.0)], 25.0), Some(1));
            assert_eq!(choose(&[(nan, 0.0), (20.0, 1.0)], 25.0), Some(1));
            assert_eq!(choose(&[(nan, nan)], 25.0), None);
            assert_eq!(choose(&[(1.0, 1.0)], nan), None);
        }
        assert_eq!(choose(&[(1.0, 1.0), (INFINITE, 0.0)], INFINITE), Some(0));
        // An infinite error is an error still, and the first to go.
        assert_eq!(choose(&[(1.0, INFINITE), (2.0, INFINITE)], 5.0), Some(0));
        assert_eq!(choose(&[(1.0, INFINITE), (3.0, 7.0), (4.0, 0.0)], 3.5), Some(1));
    }
}
