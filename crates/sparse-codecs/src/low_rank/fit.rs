//! Fitting factors to the change of one matrix.

use super::factors::{Factors, MAX_RANK};
use super::float::Predicted;
use super::model::{KEYS, KeyRule, TOKENS};
use super::{chunk, float};
use crate::dense::{
    add_product, eigen, gram, inner_products, narrowed, noise, orthonormalise, product, view,
    view_mut, widened,
};
use crate::entropy::freq::entropy_bits;
use crate::simd::{self, Kernel, Simd};
use faer::MatRef;
use sparse_core::{Product, Result, Workers};
use std::marker::PhantomData;
use std::ops::Range;

/// Row blocks of a pass. A constant, since sums of floats are taken block by block.
const BLOCKS: usize = 16;

/// Rows that are multiplied at a time: enough for products at full speed, and so few that the
/// changes of long rows stay in the cache.
const STRIP: usize = 64;

/// Changes larger than this many times the usual size are not fitted.
const OUTLIER: f32 = 128.0;

/// Projections overshoot: the reflection at 2 would not converge, 1 takes twice as many rounds.
const RELAXATION: f32 = 1.9;

/// Rows that costs are measured on.
const COST_ROWS: usize = 96;

/// Rounds between looks at the progress, usually, and the least progress to go on.
pub(super) const PATIENCE: usize = 5;
const PROGRESS: f64 = 0.96;

/// One matrix, before and after the change.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) target: &'a [u8],
    pub(super) base: &'a [u8],
    /// Changes are multiplied by this, a power of two, to be about one.
    pub(super) unit: f32,
    pub(super) rule: KeyRule,
}

/// One row: the change, and the bounds within which it rounds to the target.
#[derive(Default)]
struct Row {
    change: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
}

/// Result of one pass over the rows: with `v` from the caller, the coefficients `y = z v^T` and the
/// sums `y^T z` and `y^T y`, where `z` is the change, or the current product moved towards the
/// rounding cells.
struct Pass {
    y: Vec<f32>,
    w: Vec<f32>,
    gram: Vec<f64>,
    /// Weights whose product lies outside its cell.
    outside: u64,
}

/// Factors in floating point: `left * right`, `right` orthonormal.
#[derive(Clone)]
pub(super) struct Fit {
    pub(super) rank: usize,
    pub(super) left: Vec<f32>,
    pub(super) right: Vec<f32>,
    /// Singular values, of the scaled change.
    pub(super) sigma: Vec<f64>,
}

impl<'a> Matrix<'a> {
    /// Prepares a matrix; returns `None` if nothing changed that could be fitted.
    pub(super) fn new<R: Predicted>(
        (rows, columns): (usize, usize),
        target: &'a [u8],
        base: &'a [u8],
        rule: KeyRule,
    ) -> Option<Self> {
        // Exponents of the changes; zeros are not changes.
        let mut exponents = [0u64; 256];
        for (t, b) in target.chunks_exact(R::BYTES).zip(base.chunks_exact(R::BYTES)) {
            let (t, b) = (R::load(t), R::load(b));
            if t != b && !R::is_special(t.into()) && !R::is_special(b.into()) {
                let change = (R::cell(t).0 - R::cell(b).0) as f32;
                exponents[(change.to_bits() >> 23 & 0xff) as usize] += 1;
            }
        }
        let total: u64 = exponents[1..].iter().sum();
        let mut above = total / 50;
        let usual = (1..255).rev().find(|&e| match above.checked_sub(exponents[e]) {
            Some(left) if exponents[e] < above => {
                above = left;
                false
            }
            _ => exponents[e] > 0,
        })?;
        let unit = f32::from_bits((254u32.saturating_sub(usual as u32)).clamp(1, 254) << 23);
        Some(Matrix { rows, columns, target, base, unit, rule })
    }

    /// Returns the matrix of every `step`-th row.
    pub(super) fn every<R: Predicted, T>(
        &self,
        step: usize,
        look: impl FnOnce(Matrix<'_>) -> T,
    ) -> T {
        let row_bytes = self.columns * R::BYTES;
        let pick = |rows: &[u8]| -> Vec<u8> {
            rows.chunks_exact(row_bytes).skip(step / 2).step_by(step).flatten().copied().collect()
        };
        let (target, base) = (pick(self.target), pick(self.base));
        look(Matrix { rows: base.len() / row_bytes, target: &target, base: &base, ..*self })
    }

    #[inline(always)]
    fn row<R: Predicted>(&self, i: usize, out: &mut Row) {
        let bytes = i * self.columns * R::BYTES..(i + 1) * self.columns * R::BYTES;
        for v in [&mut out.change, &mut out.low, &mut out.high] {
            v.resize(self.columns, 0.0);
        }
        let unit = self.unit;
        let words = self.target[bytes.clone()]
            .chunks_exact(R::BYTES)
            .zip(self.base[bytes].chunks_exact(R::BYTES));
        let places = out.change.iter_mut().zip(&mut out.low).zip(&mut out.high);
        for ((t, b), ((change, low), high)) in words.zip(places) {
            let (t, b) = (R::load(t), R::load(b));
            let (c, l, h) = R::change(t, b, unit);
            // Outliers have no influence on the product. (Comparisons with NaN are false.)
            let usual = (c.abs() <= OUTLIER) & !R::is_special(t.into()) & !R::is_special(b.into());
            *change = if usual { c } else { 0.0 };
            *low = if usual { l } else { f32::NEG_INFINITY };
            *high = if usual { h } else { f32::INFINITY };
        }
    }

    /// Computes the change of one row, scaled, without outliers.
    pub(super) fn changes<R: Predicted>(&self, i: usize) -> Vec<f32> {
        let mut row = Row::default();
        self.row::<R>(i, &mut row);
        row.change
    }

    /// Predicts words and fractions from changes.
    ///
    /// They are scaled as [`changes`](Self::changes) are; `product` is true if the merge rounded
    /// the product.
    pub(super) fn predict_from<R: Predicted>(
        &self,
        changes: &[f32],
        product: bool,
        base: &[u8],
        words: &mut [u32],
        fractions: &mut [u8],
    ) {
        let places = words.iter_mut().zip(fractions).zip(base.chunks_exact(R::BYTES)).zip(changes);
        for (((word, fraction), base), &c) in places {
            let c = f64::from(c) / f64::from(self.unit);
            (*word, *fraction) = match product {
                true => R::predict_float::<true>(R::load(base), c),
                false => R::predict_float::<false>(R::load(base), c),
            };
        }
    }

    fn pass<R: Predicted>(&self, v: &[f32], left: Option<&[f32]>, cx: Workers<'_>) -> Pass {
        let (n, k) = (self.columns, v.len() / self.columns);
        let per_block = self.rows.div_ceil(BLOCKS).max(32);
        let blocks = cx.executor.map(self.rows.div_ceil(per_block), |block| {
            let rows = block * per_block..((block + 1) * per_block).min(self.rows);
            self.pass_over::<R>(rows, v, left)
        });
        let mut sum =
            Pass { y: Vec::new(), w: vec![0.0; k * n], gram: vec![0.0; k * k], outside: 0 };
        for block in blocks {
            sum.y.extend_from_slice(&block.y);
            sum.w.iter_mut().zip(&block.w).for_each(|(a, b)| *a += b);
            sum.gram.iter_mut().zip(&block.gram).for_each(|(a, b)| *a += b);
            sum.outside += block.outside;
        }
        sum
    }

    /// Passes over one block.
    fn pass_over<R: Predicted>(&self, rows: Range<usize>, v: &[f32], left: Option<&[f32]>) -> Pass {
        let (n, k) = (self.columns, v.len() / self.columns);
        let mut pass =
            Pass { y: Vec::new(), w: vec![0.0; k * n], gram: vec![0.0; k * k], outside: 0 };
        let v = view(v, n);
        for start in rows.clone().step_by(STRIP) {
            let strip = start..(start + STRIP).min(rows.end);
            let mut z = match left {
                Some(left) => product(view(&left[strip.start * k..strip.end * k], k), v),
                None => vec![0.0; strip.len() * n],
            };
            let towards = left.is_some();
            let fill =
                Changes::<R> { matrix: self, rows: strip, towards, z: &mut z, width: PhantomData };
            pass.outside += simd::run(Simd::from_env(), fill);
            let z = view(&z, n);
            let y = product(z, v.transpose());
            add_product(view_mut(&mut pass.w, n), view(&y, k).transpose(), z);
            pass.gram.iter_mut().zip(gram(&y, k)).for_each(|(sum, x)| *sum += x);
            pass.y.extend_from_slice(&y);
        }
        pass
    }

    /// Computes the leading singular values and vectors of the change.
    ///
    /// By a randomised range finder with two power steps (Halko, Martinsson and Tropp 2011).
    pub(super) fn sketch<R: Predicted>(&self, size: usize, cx: Workers<'_>) -> Result<Fit> {
        let n = self.columns;
        let size = size.min(n).min(self.rows);
        let mut v = noise(size * n);
        orthonormalise(&mut v, n);
        for _ in 0..3 {
            cx.cancel.check()?;
            v = self.pass::<R>(&v, None, cx).w;
            orthonormalise(&mut v, n);
        }
        let pass = self.pass::<R>(&v, None, cx);
        let mut fit = Fit { rank: size, left: pass.y, right: v, sigma: Vec::new() };
        fit.diagonalise(n, &pass.gram);
        Ok(fit)
    }

    /// Alternates between products of this rank and changes that round to the target.
    ///
    /// Stops when `patience` rounds brought little.
    pub(super) fn project<R: Predicted>(
        &self,
        fit: &mut Fit,
        rounds: usize,
        patience: usize,
        cx: Workers<'_>,
    ) -> Result<()> {
        let (n, k) = (self.columns, fit.rank);
        // Weights outside their cells: at the last look, and one round ago together with the
        // factors then.
        let (mut looked, mut last) = (u64::MAX, (u64::MAX, fit.clone()));
        for round in 0..rounds {
            cx.cancel.check()?;
            let pass = self.pass::<R>(&fit.right, Some(&fit.left), cx);
            if pass.outside > last.0 {
                // Single precision has no more to give.
                *fit = last.1;
                break;
            }
            last = (pass.outside, fit.clone());
            // The best product with coefficients `y` is `y gram^-1 w`; then in an orthonormal basis
            // of its rows.
            let (values, vectors) = eigen(&pass.gram, k);
            let least = values.first().copied().unwrap_or(0.0) * 1e-12;
            let mut inverse = vec![0.0; k * k];
            for (value, e) in
                values.iter().zip(vectors.chunks_exact(k)).filter(|(v, _)| **v > least)
            {
                for (&a, row) in e.iter().zip(inverse.chunks_exact_mut(k)) {
                    row.iter_mut().zip(e).for_each(|(r, &b)| *r += a * b / value);
                }
            }
            let best = product(view(&narrowed(&inverse), k), view(&pass.w, n));
            fit.right.clone_from(&best);
            orthonormalise(&mut fit.right, n);
            let change = inner_products(&best, &fit.right, n);
            fit.left = pass.y;
            fit.rotate_left(view(&change, k));
            if round % patience == patience - 1 {
                if pass.outside as f64 > looked as f64 * PROGRESS {
                    break;
                }
                looked = pass.outside;
            }
        }
        let gram = gram(&fit.left, fit.rank);
        fit.diagonalise(n, &gram);
        Ok(())
    }

    /// Measures the bits that residuals take, on some rows, scaled to all.
    ///
    /// `predict` fills in the words and fractions of a row.
    pub(super) fn cost<R: Predicted>(
        &self,
        mut predict: impl FnMut(usize, &[u8], &mut [u32], &mut [u8]),
    ) -> f64 {
        let symbols = TOKENS.token_count(R::BITS);
        let mut counts = vec![0u64; KEYS * symbols];
        let mut raw_bits = 0u64;
        let step = self.rows.div_ceil(COST_ROWS);
        let (mut words, mut fractions) = (vec![0; self.columns], vec![0; self.columns]);
        let mut seen = 0;
        for i in (step / 2..self.rows).step_by(step) {
            let bytes = i * self.columns * R::BYTES..(i + 1) * self.columns * R::BYTES;
            predict(i, &self.base[bytes.clone()], &mut words, &mut fractions);
            for (t, (&word, &fraction)) in
                self.target[bytes].chunks_exact(R::BYTES).zip(words.iter().zip(&fractions))
            {
                let t = TOKENS.split(float::residual::<R>(R::load(t), word, fraction).into());
                counts[self.rule.key(word, fraction) as usize * symbols + t.token as usize] += 1;
                raw_bits += u64::from(t.raw_bits);
            }
            seen += 1;
        }
        let bits: f64 = counts.chunks(symbols).map(entropy_bits).sum::<f64>() + raw_bits as f64;
        bits * self.rows as f64 / f64::from(seen.max(1))
    }

    /// Measures [`cost`](Self::cost) of the first `rank` components in floating point.
    ///
    /// `product` is true if the merge rounded the product.
    pub(super) fn cost_of<R: Predicted>(&self, fit: &Fit, rank: usize, product: bool) -> f64 {
        let n = self.columns;
        let right = view(&fit.right[..rank * n], n);
        self.cost::<R>(|i, base, words, fractions| {
            let left = view(&fit.left[i * fit.rank..i * fit.rank + rank], rank);
            let change = crate::dense::product(left, right);
            self.predict_from::<R>(&change, product, base, words, fractions);
        })
    }

    /// Rounds the factors to integers, for sums in units of `2^exponent`.
    ///
    /// `None` when they would be too large.
    pub(super) fn quantise<R: Predicted>(
        &self,
        fit: &Fit,
        exponent: i32,
        product: bool,
    ) -> Option<Factors<R>> {
        let (n, k) = (self.columns, fit.rank);
        let aspect = (n as f64 / self.rows as f64).sqrt();
        let largest = fit.sigma.first()?;
        let mut f = Factors { rank: k, exponent, product, ..Factors::none() };
        f.left = vec![R::Factor::default(); self.rows * k];
        if exponent.abs() > R::MAX_SCALE {
            return None;
        }
        let factor =
            |x: f64| if x.abs() < 9e15 { R::Factor::try_from(x.round() as i64).ok() } else { None };
        for (c, &sigma) in fit.sigma.iter().enumerate() {
            // An error in a component's entry weighs as much as the component does, so that large
            // components need finer steps: the product of both steps goes with 1 / sigma.
            let shift = (largest / sigma).log2().round().clamp(0.0, 24.0) as u32;
            let step = f64::from(exponent + shift as i32).exp2() * f64::from(self.unit);
            let (left_step, right_step) = ((step * aspect).sqrt(), (step / aspect).sqrt());
            // `left` holds sigma: give each side its root.
            let root = sigma.sqrt();
            for (row, out) in fit.left.chunks_exact(k).zip(f.left.chunks_exact_mut(k)) {
                let entry = (f64::from(row[c]) / root / left_step).round();
                out[c] = factor(entry * f64::from(shift).exp2())?;
            }
            for &x in &fit.right[c * n..(c + 1) * n] {
                f.right.push(factor(f64::from(x) * root / right_step)?);
            }
            f.shifts.push(shift);
        }
        // No sum may wrap: Cauchy and Schwarz.
        let square = |x: R::Factor| (x.into() as f64).powi(2);
        let rows = f
            .left
            .chunks_exact(k)
            .map(|row| row.iter().map(|&x| square(x)).sum::<f64>())
            .fold(0.0, f64::max);
        let mut columns = vec![0.0; n];
        for right in f.right.chunks_exact(n) {
            columns.iter_mut().zip(right).for_each(|(s, &x)| *s += square(x));
        }
        let columns = columns.into_iter().fold(0.0, f64::max);
        ((rows * columns).sqrt() < R::SUM_LIMIT * 0.99).then_some(f)
    }

    /// Returns the exponent with which the search for the best quantisation begins.
    ///
    /// Its errors are of about an eighth of a rounding cell.
    pub(super) fn first_exponent<R: Predicted>(&self, fit: &Fit) -> i32 {
        let step = self.rows.div_ceil(8) * self.columns + 1;
        let (mut width, mut count) = (0.0, 0.0);
        for t in self
            .target
            .chunks_exact(R::BYTES)
            .step_by(step.min(self.rows * self.columns / 4).max(1))
        {
            let word = R::load(t);
            if !R::is_special(word.into()) {
                let (_, low, high) = R::cell(word);
                width += (high - low).abs();
                count += 1.0;
            }
        }
        let width = width / f64::max(count, 1.0);
        let sigma = fit.sigma.first().copied().unwrap_or(1.0) / f64::from(self.unit);
        let size = (self.rows as f64 * self.columns as f64).sqrt();
        let step = (width / 8.0).powi(2) * 6.0 * size / (fit.rank.max(1) as f64 * sigma);
        let limit = f64::from(R::MAX_SCALE);
        if step > 0.0 { step.log2().round().clamp(-limit, limit) as i32 } else { -R::MAX_SCALE }
    }
}

/// Fills in the changes of some rows, or moves their products in `z` towards the rounding cells.
///
/// Returns the number of products that lie outside of their cells.
struct Changes<'a, R> {
    matrix: &'a Matrix<'a>,
    rows: Range<usize>,
    /// Whether `z` holds products.
    towards: bool,
    z: &'a mut [f32],
    width: PhantomData<R>,
}

impl<R: Predicted> Kernel for Changes<'_, R> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        let mut row = Row::default();
        let mut all = 0;
        for (i, z) in self.rows.zip(self.z.chunks_exact_mut(self.matrix.columns)) {
            self.matrix.row::<R>(i, &mut row);
            if !self.towards {
                z.copy_from_slice(&row.change);
                continue;
            }
            let mut outside = 0u32;
            let bounds = row.low.iter().zip(&row.high);
            for (z, (&low, &high)) in z.iter_mut().zip(bounds) {
                let p = *z;
                // Not `clamp`, which cares about NaN.
                let above = if p < low { low } else { p };
                let nearest = if above > high { high } else { above };
                outside += u32::from(nearest != p);
                *z = p + RELAXATION * (nearest - p);
            }
            all += u64::from(outside);
        }
        all
    }
}

impl Fit {
    /// Creates a fit from a given product of `rank` components.
    ///
    /// `left` is stored by rows, `right` by components. `None` if the product is zero or not
    /// finite, or its rank is too high.
    pub(super) fn of_product(matrix: &Matrix<'_>, hint: &Product) -> Option<Fit> {
        let (n, k) = (matrix.columns, hint.rank);
        let fits = hint.left.len() == matrix.rows * k && hint.right.len() == n * k;
        let finite = |v: &[f32]| v.iter().all(|x| x.is_finite() && x.abs() < 1e18);
        if !fits || !(1..=MAX_RANK).contains(&k) || !finite(&hint.left) || !finite(&hint.right) {
            return None;
        }
        let mut fit =
            Fit { rank: k, left: hint.left.clone(), right: hint.right.clone(), sigma: Vec::new() };
        fit.left.iter_mut().for_each(|x| *x *= matrix.unit);
        orthonormalise(&mut fit.right, n);
        let change = inner_products(&hint.right, &fit.right, n);
        fit.rotate_left(view(&change, k));
        let gram = gram(&fit.left, fit.rank);
        fit.diagonalise(n, &gram);
        let largest = fit.sigma.first().copied().filter(|&s| s > 0.0 && s.is_finite())?;
        let rank = fit.sigma.iter().filter(|&&s| s > largest * 1e-6).count();
        fit.truncate(n, rank);
        Some(fit)
    }

    /// Multiplies `left` from the right, with sums in double precision.
    fn rotate_left(&mut self, by: MatRef<'_, f64>) {
        self.left = narrowed(&product(view(&widened(&self.left), self.rank), by));
    }

    /// Rotates the factors so that left columns are orthogonal, too, in order of size; `gram` is
    /// `left^T left`.
    fn diagonalise(&mut self, n: usize, gram: &[f64]) {
        let (values, vectors) = eigen(gram, self.rank);
        self.right = product(view(&narrowed(&vectors), self.rank), view(&self.right, n));
        self.rotate_left(view(&vectors, self.rank).transpose());
        self.sigma = values.into_iter().map(|v| v.max(0.0).sqrt()).collect();
    }

    /// Keeps the first `rank` components.
    pub(super) fn truncate(&mut self, n: usize, rank: usize) {
        let rank = rank.min(self.rank);
        self.left =
            self.left.chunks_exact(self.rank).flat_map(|row| row[..rank].iter().copied()).collect();
        self.right.truncate(rank * n);
        self.sigma.truncate(rank);
        self.rank = rank;
    }
}

/// Returns a key rule that ends at the largest common exponents of these words.
pub(super) fn key_rule<R: Predicted>(words: &[u8]) -> KeyRule {
    let rule = chunk::key_rule::<R>(0);
    let mut counts = [0u64; 256];
    let (mut total, exponent_mask) = (0u64, 0xff);
    for w in words.chunks_exact(R::BYTES) {
        let exponent = (R::load(w) & !rule.sign) >> rule.mantissa & exponent_mask;
        counts[exponent as usize] += 1;
        total += 1;
    }
    let mut above = 0;
    let top = (0..256).rev().find(|&e| {
        above += counts[e];
        above * 1000 > total
    });
    KeyRule { origin: (top.unwrap_or(0) as u32).saturating_sub(14), ..rule }
}
