//! Tests of the logistic regression.

use super::*;
use proptest::prelude::*;

/// Minimises the same loss by plain gradient descent, in the slowest way there is.
fn descended(rows: &[Vec<f64>], outcomes: &[bool], ridge: f64) -> Vec<f64> {
    let (means, deviations) = standard(rows, rows[0].len()).unwrap();
    let scaled = |row: &Vec<f64>| {
        let mut out: Vec<f64> =
            (0..row.len()).map(|i| (row[i] - means[i]) / deviations[i]).collect();
        out.push(1.0);
        out
    };
    let inputs: Vec<Vec<f64>> = rows.iter().map(scaled).collect();
    let mut weights = vec![0.0; rows[0].len() + 1];
    for _ in 0..20_000 {
        let mut gradient: Vec<f64> = weights.iter().map(|w| ridge * w).collect();
        *gradient.last_mut().unwrap() = 0.0;
        for (row, &outcome) in inputs.iter().zip(outcomes) {
            let p = 1.0 / (1.0 + (-dot(row, &weights)).exp());
            for (g, x) in gradient.iter_mut().zip(row) {
                *g += (p - if outcome { 1.0 } else { 0.0 }) * x;
            }
        }
        for (w, g) in weights.iter_mut().zip(&gradient) {
            *w -= g / (ridge + rows.len() as f64);
        }
    }
    weights
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn newton_finds_what_descent_finds(
        rows in prop::collection::vec((prop::collection::vec(-5.0f64..5.0, 2), any::<bool>()),
            8..24),
    ) {
        let (rows, outcomes): (Vec<Vec<f64>>, Vec<bool>) = rows.into_iter().unzip();
        prop_assume!(outcomes.iter().any(|&o| o) && !outcomes.iter().all(|&o| o));
        let model = Logistic::fit(&rows, &outcomes, 1.0).unwrap();
        let slow = descended(&rows, &outcomes, 1.0);
        for (fast, slow) in model.weights.iter().chain([&model.intercept]).zip(&slow) {
            prop_assert!((fast - slow).abs() < 1e-5, "{fast} {slow}");
        }
    }

    #[test]
    fn scale_and_offset_of_inputs_do_not_matter(
        rows in prop::collection::vec((-5.0f64..5.0, any::<bool>()), 8..24),
        scale in 1e-6f64..1e6,
    ) {
        let outcomes: Vec<bool> = rows.iter().map(|r| r.1).collect();
        prop_assume!(outcomes.iter().any(|&o| o) && !outcomes.iter().all(|&o| o));
        let plain: Vec<Vec<f64>> = rows.iter().map(|r| vec![r.0]).collect();
        let moved: Vec<Vec<f64>> = rows.iter().map(|r| vec![scale * (r.0 + 3.0)]).collect();
        let a = Logistic::fit(&plain, &outcomes, 1.0).unwrap();
        let b = Logistic::fit(&moved, &outcomes, 1.0).unwrap();
        for (x, y) in plain.iter().zip(&moved) {
            prop_assert!((a.probability(x) - b.probability(y)).abs() < 1e-6);
        }
    }
}

#[test]
fn separable_rows_converge() {
    for (n, ridge) in [(4, 1.0), (4, 1e-6), (2000, 1.0), (2000, 1e-9)] {
        let rows: Vec<Vec<f64>> = (0..n).map(|i| vec![f64::from(i)]).collect();
        let outcomes: Vec<bool> = (0..n).map(|i| i >= n / 2).collect();
        let model = Logistic::fit(&rows, &outcomes, ridge).unwrap();
        assert!(model.weights[0].is_finite() && model.weights[0] > 0.0);
        assert!(model.probability(&[0.0]) < 0.5 && model.probability(&[f64::from(n)]) > 0.5);
    }
}

#[test]
fn columns_that_do_not_vary_or_repeat_do_no_harm() {
    let rows: Vec<Vec<f64>> =
        (0..40).map(|i| vec![f64::from(i % 7), 0.1, f64::from(i % 7)]).collect();
    let outcomes: Vec<bool> = (0..40).map(|i| i % 7 > 3 || i % 11 == 0).collect();
    let model = Logistic::fit(&rows, &outcomes, 1.0).unwrap();
    assert!(model.weights[1].abs() < 1e-12);
    assert!((model.weights[0] - model.weights[2]).abs() < 1e-9);
}

// With a free intercept, the mean of the probabilities is the share of the outcome.
#[test]
fn probabilities_are_right_on_average() {
    let rows: Vec<Vec<f64>> = (0..500).map(|i| vec![f64::from(i * i % 97)]).collect();
    let outcomes: Vec<bool> = (0..500).map(|i| i % 5 == 0 || i % 97 > 60).collect();
    let model = Logistic::fit(&rows, &outcomes, 1.0).unwrap();
    let mean = rows.iter().map(|r| model.probability(r)).sum::<f64>() / 500.0;
    let share = outcomes.iter().filter(|&&o| o).count() as f64 / 500.0;
    assert!((mean - share).abs() < 1e-6, "{mean} {share}");
}

#[test]
fn what_cannot_be_fitted_is_an_error() {
    let fit = |rows: &[Vec<f64>], outcomes: &[bool], ridge| {
        Logistic::fit(rows, outcomes, ridge).unwrap_err().to_string()
    };
    let rows = [vec![1.0], vec![2.0]];
    assert!(fit(&rows, &[true, true], 1.0).contains("all outcomes are the same"));
    assert!(fit(&rows, &[true], 1.0).contains("2 rows and 1 outcomes"));
    assert!(fit(&rows, &[true, false], 0.0).contains("ridge is 0"));
    assert!(fit(&rows, &[true, false], f64::NAN).contains("ridge is NaN"));
    assert!(fit(&[vec![1.0], vec![]], &[true, false], 1.0).contains("row 2"));
    assert!(fit(&[vec![f64::NAN], vec![1.0]], &[true, false], 1.0).contains("row 1"));
    assert!(fit(&[vec![1e300], vec![-1e300]], &[true, false], 1.0).contains("too large"));
    assert!(fit(&[], &[], 1.0).contains("at least one"));
}

#[test]
fn sigmoid_has_no_overflow() {
    assert_eq!((sigmoid(1000.0), sigmoid(-1000.0), sigmoid(0.0)), (1.0, 0.0, 0.5));
    assert_eq!(softplus(1000.0), 1000.0);
    assert!(softplus(-1000.0) == 0.0);
}
