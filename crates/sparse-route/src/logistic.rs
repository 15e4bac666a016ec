//! Logistic regression with a ridge, fitted by Newton's method.

use sparse_core::{Error, ErrorKind, Result};

/// Most steps of Newton's method; with a ridge some ten suffice.
const MAX_STEPS: usize = 100;

/// Most halvings of a step that would not lower the loss.
const MAX_HALVINGS: usize = 40;

/// Newton decrement, per row, at which the fit has converged: far below what the data says.
const CONVERGED: f64 = 1e-14;

/// A logistic regression: the probability of an outcome, given some numbers.
///
/// The inputs are standardised by the means and standard deviations of the training rows. The
/// weights minimise the log loss plus `ridge / 2` times their sum of squares (the intercept is
/// free), so that they stay finite on data that a plane separates.
/// The method is iteratively reweighted least squares: Hastie, Tibshirani, Friedman, "The Elements
/// of Statistical Learning", 2nd edition, section 4.4.1, with step halving. All sums run in the
/// order of the rows: the same rows give the same model.
///
/// A logistic of one score is Platt's scaling; one of several features calibrates and combines
/// them in one fit.
///
/// # Examples
///
/// ```
/// use sparse_route::Logistic;
///
/// let rows = [vec![1.0], vec![2.0], vec![3.0], vec![4.0]];
/// let model = Logistic::fit(&rows, &[true, true, false, false], 1.0)?;
/// assert!(model.probability(&[1.0]) > 0.5 && model.probability(&[4.0]) < 0.5);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Logistic {
    /// Mean of each input over the training rows.
    pub(crate) means: Vec<f64>,
    /// Standard deviation of each input; 1 for one that does not vary.
    pub(crate) deviations: Vec<f64>,
    /// Weight of each standardised input.
    pub(crate) weights: Vec<f64>,
    pub(crate) intercept: f64,
}

impl Logistic {
    /// Fits a model of `outcomes` to `rows`, all of the same length.
    ///
    /// # Errors
    /// `InvalidArgument` when there are no rows, the outcomes are of another number, rows differ in
    /// length or hold what is not finite, or the ridge is not a finite number above 0;
    /// `InvalidInput` when all outcomes are the same, or the numbers are too large to be squared.
    pub fn fit<R: AsRef<[f64]>>(rows: &[R], outcomes: &[bool], ridge: f64) -> Result<Logistic> {
        let width = check(rows, outcomes, ridge)?;
        let (means, deviations) = standard(rows, width)?;
        // Standardised, with a one for the intercept at the end.
        let inputs: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| {
                let scaled = row.as_ref().iter().zip(means.iter().zip(&deviations));
                scaled.map(|(x, (mean, sd))| (x - mean) / sd).chain([1.0]).collect()
            })
            .collect();
        let problem = Problem { inputs, outcomes, ridge };
        let mut weights = problem.minimise(width + 1)?;
        let intercept = weights.pop().unwrap_or(0.0);
        Ok(Logistic { means, deviations, weights, intercept })
    }

    /// Returns the number of inputs.
    pub fn width(&self) -> usize {
        self.weights.len()
    }

    /// Returns the weight of each standardised input.
    ///
    /// It is in log odds for each standard deviation.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Returns the log odds of the outcome; what is missing in `row` counts as its mean.
    pub fn log_odds(&self, row: &[f64]) -> f64 {
        let scales = self.means.iter().zip(&self.deviations);
        let terms = row.iter().zip(scales).zip(&self.weights);
        self.intercept + terms.map(|((x, (mean, sd)), w)| w * (x - mean) / sd).sum::<f64>()
    }

    /// Returns the probability of the outcome, 0 to 1.
    pub fn probability(&self, row: &[f64]) -> f64 {
        sigmoid(self.log_odds(row))
    }
}

/// Returns the probability that belongs to log odds, without overflow.
pub(crate) fn sigmoid(log_odds: f64) -> f64 {
    if log_odds >= 0.0 {
        1.0 / (1.0 + (-log_odds).exp())
    } else {
        let odds = log_odds.exp();
        odds / (1.0 + odds)
    }
}

/// Returns ln(1 + e^x), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn check<R: AsRef<[f64]>>(rows: &[R], outcomes: &[bool], ridge: f64) -> Result<usize> {
    let width = rows.first().map_or(0, |row| row.as_ref().len());
    if rows.is_empty() || rows.len() != outcomes.len() {
        return Err(Error::invalid_argument(format!(
            "{} rows and {} outcomes; give as many of both, and at least one",
            rows.len(),
            outcomes.len()
        )));
    }
    if !(ridge.is_finite() && ridge > 0.0) {
        return Err(Error::invalid_argument(format!(
            "the ridge is {ridge}; give a finite number above 0"
        )));
    }
    let is_bad = |row: &&[f64]| row.len() != width || row.iter().any(|x| !x.is_finite());
    if let Some(at) = rows.iter().map(AsRef::as_ref).position(|row| is_bad(&row)) {
        return Err(Error::invalid_argument(format!(
            "row {} does not hold {width} finite numbers",
            at + 1
        )));
    }
    if outcomes.iter().all(|&o| o) || !outcomes.iter().any(|&o| o) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "all outcomes are the same, so that there is nothing to learn: give labels of both \
             kinds",
        ));
    }
    Ok(width)
}

/// Returns mean and standard deviation of each column; 1 for a deviation of 0.
fn standard<R: AsRef<[f64]>>(rows: &[R], width: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let n = rows.len() as f64;
    let column = |i: usize| rows.iter().filter_map(move |row| row.as_ref().get(i).copied());
    let (mut means, mut deviations) = (Vec::with_capacity(width), Vec::with_capacity(width));
    for i in 0..width {
        let mean = column(i).map(|x| x / n).sum::<f64>();
        let variance = column(i).map(|x| (x - mean) * (x - mean) / n).sum::<f64>();
        if !variance.is_finite() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the numbers of feature {} are too large: give their logarithms", i + 1),
            ));
        }
        // Rounding leaves a trace of variance in a column that does not vary.
        let varies = variance.sqrt() > 1e-12 * mean.abs();
        means.push(mean);
        deviations.push(if varies { variance.sqrt() } else { 1.0 });
    }
    Ok((means, deviations))
}

/// The penalised loss of training rows.
struct Problem<'a> {
    inputs: Vec<Vec<f64>>,
    outcomes: &'a [bool],
    ridge: f64,
}

impl Problem<'_> {
    /// Returns the weights with the least loss; the last one is the intercept.
    fn minimise(&self, size: usize) -> Result<Vec<f64>> {
        let mut weights = vec![0.0; size];
        let mut loss = self.loss(&weights);
        for _ in 0..MAX_STEPS {
            let (gradient, mut hessian) = self.derivatives(&weights);
            let step = solve(&mut hessian, &gradient)?;
            let decrement: f64 = gradient.iter().zip(&step).map(|(g, s)| g * s).sum();
            if decrement <= CONVERGED * self.inputs.len() as f64 {
                return Ok(weights);
            }
            let Some((better, lower)) = self.halved(&weights, &step, loss) else {
                // No step is small enough to be seen in the loss: rounding is all that is left.
                return Ok(weights);
            };
            (weights, loss) = (better, lower);
        }
        Err(Error::new(ErrorKind::Internal, "the logistic regression does not converge"))
    }

    /// Takes the step, halved until it lowers the loss; `None` if no half does.
    fn halved(&self, weights: &[f64], step: &[f64], loss: f64) -> Option<(Vec<f64>, f64)> {
        let mut length = 1.0;
        for _ in 0..MAX_HALVINGS {
            let next: Vec<f64> = weights.iter().zip(step).map(|(w, s)| w - length * s).collect();
            let lower = self.loss(&next);
            if lower < loss {
                return Some((next, lower));
            }
            length /= 2.0;
        }
        None
    }

    fn loss(&self, weights: &[f64]) -> f64 {
        let rows = self.inputs.iter().zip(self.outcomes);
        let fit: f64 = rows
            .map(|(row, &outcome)| {
                let log_odds = dot(row, weights);
                softplus(if outcome { -log_odds } else { log_odds })
            })
            .sum();
        let free = weights.len().saturating_sub(1);
        fit + 0.5 * self.ridge * weights.iter().take(free).map(|w| w * w).sum::<f64>()
    }

    /// Returns the gradient, and the lower triangle of the Hessian, row by row.
    fn derivatives(&self, weights: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let size = weights.len();
        let mut gradient = vec![0.0; size];
        let mut hessian: Vec<Vec<f64>> = (1..=size).map(|len| vec![0.0; len]).collect();
        for (row, &outcome) in self.inputs.iter().zip(self.outcomes) {
            let p = sigmoid(dot(row, weights));
            let residual = p - f64::from(u8::from(outcome));
            let curvature = p * (1.0 - p);
            for ((g, line), &x) in gradient.iter_mut().zip(&mut hessian).zip(row) {
                *g += residual * x;
                line.iter_mut().zip(row).for_each(|(h, y)| *h += curvature * x * y);
            }
        }
        let free = size.saturating_sub(1);
        for (i, (g, line)) in gradient.iter_mut().zip(&mut hessian).enumerate().take(free) {
            *g += self.ridge * weights.get(i).copied().unwrap_or(0.0);
            if let Some(diagonal) = line.last_mut() {
                *diagonal += self.ridge;
            }
        }
        (gradient, hessian)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Solves `matrix * x = right` by Cholesky's factors, which replace the lower triangle.
///
/// A pivot that vanishes (the curvature of the intercept, where all probabilities are at their
/// ends) is raised to the smallest that still divides.
fn solve(matrix: &mut [Vec<f64>], right: &[f64]) -> Result<Vec<f64>> {
    let size = matrix.len();
    for i in 0..size {
        let (above, rest) = matrix.split_at_mut(i);
        let Some(line) = rest.first_mut() else { break };
        for (j, factor) in above.iter().enumerate() {
            let (head, tail) = line.split_at_mut(j);
            let (Some(value), Some(pivot)) = (tail.first_mut(), factor.last()) else { break };
            *value = (*value - dot(head, factor)) / pivot;
        }
        if let Some((pivot, head)) = line.split_last_mut() {
            *pivot = (*pivot - dot(head, head)).max(1e-30).sqrt();
        }
    }
    let mut x = right.to_vec();
    for (i, line) in matrix.iter().enumerate() {
        let (done, rest) = x.split_at_mut(i);
        if let (Some(value), Some(pivot)) = (rest.first_mut(), line.last()) {
            *value = (*value - dot(line, done)) / pivot;
        }
    }
    for (i, line) in matrix.iter().enumerate().rev() {
        let (rest, solved) = x.split_at_mut(i);
        if let (Some(value), Some((pivot, head))) = (solved.first_mut(), line.split_last()) {
            *value /= pivot;
            rest.iter_mut().zip(head).for_each(|(r, h)| *r -= h * *value);
        }
    }
    if x.iter().all(|value| value.is_finite()) {
        Ok(x)
    } else {
        Err(Error::new(ErrorKind::Internal, "the logistic regression diverges"))
    }
}

#[cfg(test)]
#[path = "logistic_tests.rs"]
mod tests;
