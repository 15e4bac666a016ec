//! Measures of the error of restored weights against the originals.
//!
//! A [`Tally`] sums up over target, restored weights and base. Its result is a [`Certificate`],
//! which fits into a delta file beside the tensor. With target, base and delta it can be measured
//! again; with base and delta alone, the size of the restored change can be checked, and that the
//! numbers agree with each other.

use crate::entropy::token::TokenScheme;
use crate::entropy::varint;
use crate::lossless::Predictor;
use crate::real::{Real, is_castable, is_real, with_real};
use crate::word::Word;
use sparse_core::{Dtype, Error, Result, Segment, UnitSpec};

/// Distances are counted by these tokens: exactly up to 32, above that to within a sixteenth.
const BINS: TokenScheme = TokenScheme::Hybrid { msb: 4 };
const BIN_COUNT: usize = 16 * 64;

/// Smallest difference of two stored norms that counts: below it, binary32 keeps few digits.
const TINY: f64 = 1e-40;

/// Error of restored weights against the originals, of a tensor or a model.
///
/// The *change* is the difference to the base's weights at the same places, cast to the target's
/// type; it is the difference to zero where the base has no weight or one that is not finite. Norms
/// are measured for the types bf16, f16, f32 and f64; for all others, only matches are counted. A
/// weight that is NaN or infinite has no part in the norms if it is restored (any NaN counts for a
/// NaN); otherwise the error is infinite.
///
/// # Examples
///
/// ```
/// use sparse_codecs::certificate::Certificate;
///
/// /// Says how near the restored weights are.
/// fn verdict(found: &Certificate) -> String {
///     format!("{:.0} % exact, error {}", 100.0 * found.exact_rate(), found.relative_error())
/// }
///
/// let mut found = Certificate::default();
/// (found.weights, found.exact, found.change, found.error) = (4, 3, 2.0, 0.5);
/// assert_eq!(verdict(&found), "75 % exact, error 0.25");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Certificate {
    /// Weights.
    pub weights: u64,
    /// Weights that are restored bit for bit.
    pub exact: u64,
    /// Frobenius norm of the original change.
    pub change: f64,
    /// Frobenius norm of the restored change.
    pub restored: f64,
    /// Frobenius norm of the difference of the two.
    pub error: f64,
    /// The largest difference of a weight.
    pub max_error: f64,
    /// The largest distance of a weight in units in the last place.
    pub max_ulps: u64,
    /// The distance in units in the last place that 99 % of the weights do not exceed; above 32
    /// rounded up by less than a sixteenth.
    pub p99_ulps: u64,
    /// Original weights that are NaN or infinite. Not part of the [serial form](Self::write).
    pub not_finite: u64,
}

impl Certificate {
    /// Returns the error relative to the original change.
    ///
    /// Infinite where something was lost of no change.
    pub fn relative_error(&self) -> f64 {
        match self.error / self.change {
            _ if self.error == 0.0 => 0.0,
            // Both are infinite.
            share if share.is_nan() => f64::INFINITY,
            share => share,
        }
    }

    /// Returns the ratio of the norms of restored and original change.
    ///
    /// 1 where there was no change.
    pub fn norm_ratio(&self) -> f64 {
        if self.change == 0.0 && self.restored == 0.0 { 1.0 } else { self.restored / self.change }
    }

    /// Returns the cosine of the angle between original and restored change.
    ///
    /// 1 where both are zero, 0 where one is.
    pub fn cosine(&self) -> f64 {
        let product = self.change * self.restored;
        if product == 0.0 {
            return if self.change == self.restored { 1.0 } else { 0.0 };
        }
        let (a, b, c) = (self.change, self.restored, self.error);
        ((a * a + b * b - c * c) / (2.0 * product)).clamp(-1.0, 1.0)
    }

    /// Returns the share of the weights that are restored bit for bit, 0 to 1.
    pub fn exact_rate(&self) -> f64 {
        if self.weights == 0 { 1.0 } else { self.exact as f64 / self.weights as f64 }
    }

    /// Returns true if two measurements agree, up to the rounding of stored numbers.
    pub fn agrees(&self, other: &Certificate) -> bool {
        self.errors_agree(other)
            && near(self.change, other.change)
            && near(self.restored, other.restored)
    }

    /// Returns true if two measurements agree, apart from the change.
    ///
    /// These are counts, distances, and the norm of the error.
    pub fn errors_agree(&self, other: &Certificate) -> bool {
        let counts = |c: &Certificate| (c.weights, c.exact, c.max_ulps, c.p99_ulps);
        counts(self) == counts(other)
            && near(self.error, other.error)
            && near(self.max_error, other.max_error)
    }

    /// Returns true if it can hold for a tensor of `weights` weights.
    ///
    /// The restored change has the norm `restored`. Norms obey the triangle inequality, counts the
    /// number of weights.
    pub fn is_plausible(&self, weights: u64, restored: f64) -> bool {
        self.is_consistent(weights) && near(self.restored, restored)
    }

    /// Returns true if its numbers can hold for any tensor of `weights` weights.
    pub fn is_consistent(&self, weights: u64) -> bool {
        let slack = 1e-5 * (self.change + self.restored + self.error) + TINY;
        let sides = [self.change, self.restored, self.error];
        let triangle = (0..3).all(|i| sides[i] <= sides[(i + 1) % 3] + sides[(i + 2) % 3] + slack);
        self.weights == weights
            && self.exact <= weights
            && self.p99_ulps <= self.max_ulps.max(1).saturating_mul(2)
            && (self.exact == weights) == (self.max_ulps == 0)
            && triangle
    }

    /// Appends the serial form: varints of weights, exact ones and the two distances, and the four
    /// norms in binary32, capped at the largest finite number.
    pub fn write(&self, out: &mut Vec<u8>) {
        for n in [self.weights, self.exact, self.max_ulps, self.p99_ulps] {
            varint::put(out, n);
        }
        for x in [self.change, self.restored, self.error, self.max_error] {
            out.extend_from_slice(&(x as f32).min(f32::MAX).to_le_bytes());
        }
    }

    /// Reads the serial form, which must fill `input`.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated`.
    pub fn read(mut input: &[u8]) -> Result<Certificate> {
        let mut number = || varint::take(&mut input);
        let (weights, exact, max_ulps, p99_ulps) = (number()?, number()?, number()?, number()?);
        let mut norm = || -> Result<f64> {
            let bytes = varint::take_bytes(&mut input, 4, "certificate")?;
            let x = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if x >= 0.0 && x.is_sign_positive() {
                Ok(x.into())
            } else {
                Err(Error::corrupt(format!("the certificate has a norm of {x}")))
            }
        };
        let (change, restored, error, max_error) = (norm()?, norm()?, norm()?, norm()?);
        if !input.is_empty() {
            return Err(Error::corrupt("the certificate is longer than it should be"));
        }
        let not_finite = 0;
        Ok(Certificate {
            weights,
            exact,
            change,
            restored,
            error,
            max_error,
            max_ulps,
            p99_ulps,
            not_finite,
        })
    }
}

/// Returns true if two norms are equal up to their rounding to binary32.
fn near(a: f64, b: f64) -> bool {
    let stored = |x: f64| x.min(f32::MAX.into());
    let (a, b) = (stored(a), stored(b));
    (a - b).abs() <= 1e-5 * a.abs().max(b.abs()) + TINY
}

/// Running sums from which a [`Certificate`] is made.
///
/// # Examples
///
/// ```
/// use sparse_codecs::certificate::Tally;
/// use sparse_core::Dtype;
///
/// let bytes = |weights: [f32; 2]| weights.map(f32::to_le_bytes).concat();
/// let (base, target, restored) = (bytes([0.0, 0.0]), bytes([3.0, 4.0]), bytes([3.0, 0.0]));
/// let mut tally = Tally::default();
/// tally.observe(Dtype::F32, &target, &restored, Some((Dtype::F32, &base)))?;
/// let certificate = tally.certificate();
/// assert_eq!((certificate.weights, certificate.exact), (2, 1));
/// assert_eq!(certificate.relative_error(), 0.8);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tally {
    weights: u64,
    exact: u64,
    change: f64,
    restored: f64,
    error: f64,
    max_error: f64,
    max_ulps: u64,
    not_finite: u64,
    bins: Vec<u64>,
    predictions: Vec<u8>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            weights: 0,
            exact: 0,
            change: 0.0,
            restored: 0.0,
            error: 0.0,
            max_error: 0.0,
            max_ulps: 0,
            not_finite: 0,
            bins: vec![0; BIN_COUNT],
            predictions: Vec::new(),
        }
    }
}

impl Tally {
    /// Adds some weights of a type: original, restored, and those of the base at the same places.
    ///
    /// Sums of floats are taken in the order of the calls. A base that cannot be cast to the type
    /// counts as none.
    ///
    /// # Errors
    /// `InvalidArgument` when lengths differ.
    pub fn observe(
        &mut self,
        dtype: Dtype,
        target: &[u8],
        restored: &[u8],
        base: Option<(Dtype, &[u8])>,
    ) -> Result<()> {
        let width = dtype.storage_bytes();
        let len = target.len() / width;
        let base = base.filter(|b| is_castable(b.0) || b.0 == dtype);
        if restored.len() != target.len()
            || !target.len().is_multiple_of(width)
            || base.is_some_and(|(d, b)| b.len() != len * d.storage_bytes())
        {
            return Err(Error::invalid_argument(
                "target, restored weights and base have different numbers of elements",
            ));
        }
        self.weights += len as u64;
        if !is_real(dtype) && dtype != Dtype::F64 {
            let pairs = target.chunks_exact(width).zip(restored.chunks_exact(width));
            let same = pairs.filter(|(a, b)| a == b).count() as u64;
            self.exact += same;
            self.max_ulps = self.max_ulps.max(u64::from(same < len as u64));
            return Ok(());
        }
        let unit =
            UnitSpec::new(dtype, base.map(|b| b.0), 1, [Segment { rows: 1, row_len: len as u64 }])?;
        let mut scratch = std::mem::take(&mut self.predictions);
        let predictions = Predictor::of(&unit).predict(base.map(|b| b.1), width, len, &mut scratch);
        match dtype {
            Dtype::F64 => observe_words::<F64>(self, target, restored, predictions),
            _ => with_real!(dtype, observe_words, self, target, restored, predictions),
        }
        self.predictions = scratch;
        Ok(())
    }

    /// Adds what another tally found.
    pub fn merge(&mut self, other: &Tally) {
        self.weights += other.weights;
        self.exact += other.exact;
        self.change += other.change;
        self.restored += other.restored;
        self.error += other.error;
        self.max_error = self.max_error.max(other.max_error);
        self.max_ulps = self.max_ulps.max(other.max_ulps);
        self.not_finite += other.not_finite;
        self.bins.iter_mut().zip(&other.bins).for_each(|(a, b)| *a += b);
    }

    /// Returns the certificate of all weights observed.
    pub fn certificate(&self) -> Certificate {
        let rare = self.weights / 100;
        let (mut above, mut p99) = (0, 0);
        for (token, &n) in self.bins.iter().enumerate().rev() {
            above += n;
            if above > rare {
                let (raw_bits, first) = BINS.expand(token as u32);
                p99 = first + ((1u64 << raw_bits) - 1);
                break;
            }
        }
        Certificate {
            weights: self.weights,
            exact: self.exact,
            change: self.change.sqrt(),
            restored: self.restored.sqrt(),
            error: self.error.sqrt(),
            max_error: self.max_error,
            max_ulps: self.max_ulps,
            p99_ulps: p99.min(self.max_ulps),
            not_finite: self.not_finite,
        }
    }
}

/// IEEE binary64, which is measured and never quantised.
#[derive(Clone, Copy, Debug)]
struct F64;

impl Real for F64 {
    type W = u64;
    const MANTISSA: u32 = 52;
    const BIAS: i32 = 1023;

    #[inline(always)]
    fn value(word: u64) -> f64 {
        f64::from_bits(word)
    }

    #[inline(always)]
    fn round(value: f64) -> u64 {
        value.to_bits()
    }
}

/// Counts the weights that are NaN or infinite; zero for types other than floats.
pub fn count_not_finite(dtype: Dtype, bytes: &[u8]) -> u64 {
    /// Counts words in short sums, which the compiler makes vector code of.
    fn count<R: Real>(bytes: &[u8]) -> u64 {
        let block = |block: &[u8]| {
            let words = block.chunks_exact(R::W::BYTES);
            words.fold(0u32, |n, w| n + u32::from(R::is_special(R::W::load(w))))
        };
        bytes.chunks(1 << 12).map(|b| u64::from(block(b))).sum()
    }
    match dtype {
        Dtype::F64 => count::<F64>(bytes),
        _ if is_real(dtype) => with_real!(dtype, count, bytes),
        _ => 0,
    }
}

fn observe_words<R: Real>(tally: &mut Tally, target: &[u8], restored: &[u8], predictions: &[u8]) {
    let width = R::W::BYTES;
    let words = target
        .chunks_exact(width)
        .zip(restored.chunks_exact(width))
        .zip(predictions.chunks_exact(width));
    for ((t, r), p) in words {
        let (t, r, p) = (R::W::load(t), R::W::load(r), R::W::load(p));
        tally.not_finite += u64::from(R::is_special(t));
        if t == r && t == p {
            tally.exact += 1;
            continue;
        }
        tally.exact += u64::from(t == r);
        let ulps = distance::<R>(t, r);
        tally.max_ulps = tally.max_ulps.max(ulps);
        if ulps > 0
            && let Some(bin) = tally.bins.get_mut(BINS.split(ulps).token as usize)
        {
            *bin += 1;
        }
        if R::is_special(t) || R::is_special(r) {
            if t != r && !(is_nan::<R>(t) && is_nan::<R>(r)) {
                (tally.error, tally.max_error) = (f64::INFINITY, f64::INFINITY);
            }
            continue;
        }
        let p = if R::is_special(p) { 0.0 } else { R::value(p) };
        let (t, r) = (R::value(t), R::value(r));
        tally.change += (t - p) * (t - p);
        tally.restored += (r - p) * (r - p);
        tally.error += (t - r) * (t - r);
        tally.max_error = tally.max_error.max((t - r).abs());
    }
}

fn is_nan<R: Real>(word: u64) -> bool {
    R::is_special(word) && word & ((1 << R::MANTISSA) - 1) != 0
}

/// Computes the units in the last place between two words, in the type's order.
#[inline(always)]
pub(crate) fn distance<R: Real>(a: u64, b: u64) -> u64 {
    let order = |w: u64| {
        let magnitude = (w & !R::W::SIGN) as i64;
        if w & R::W::SIGN == 0 { magnitude } else { -1 - magnitude }
    };
    order(a).abs_diff(order(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    proptest! {
        /// Compares a certificate with its definitions, in plain arithmetic.
        #[test]
        fn is_what_it_says(words in prop::collection::vec((-10f32..10.0, -1f32..1.0,
            -0.1f32..0.1), 1..200)) {
            let p: Vec<f32> = words.iter().map(|w| w.0).collect();
            let t: Vec<f32> = words.iter().map(|w| w.0 + w.1).collect();
            let r: Vec<f32> = words.iter().map(|w| if w.2 < 0.0 { w.0 + w.1 } else {
                w.0 + w.1 + w.2 }).collect();
            let raw = |x: &[f32]| bytes(&x.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            let mut tally = Tally::default();
            let half = words.len() / 2;
            for range in [0..half, half..words.len()] {
                let part = |x: &[f32]| raw(&x[range.clone()]);
                tally.observe(Dtype::F32, &part(&t), &part(&r), Some((Dtype::F32, &part(&p))))
                    .unwrap();
            }
            let c = tally.certificate();
            let norm = |a: &[f32], b: &[f32]| {
                a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
                    .sqrt()
            };
            prop_assert!((c.change - norm(&t, &p)).abs() < 1e-9);
            prop_assert!((c.restored - norm(&r, &p)).abs() < 1e-9);
            prop_assert!((c.error - norm(&t, &r)).abs() < 1e-9);
            prop_assert_eq!(c.exact, t.iter().zip(&r).filter(|(a, b)| a.to_bits() == b.to_bits())
                .count() as u64);
            let dot: f64 = t.iter().zip(&r).zip(&p)
                .map(|((t, r), p)| {
                    (f64::from(*t) - f64::from(*p)) * (f64::from(*r) - f64::from(*p))
                })
                .sum();
            if c.change > 1e-3 && c.restored > 1e-3 {
                prop_assert!((c.cosine() - dot / c.change / c.restored).abs() < 1e-6);
            }
            prop_assert!(c.is_plausible(words.len() as u64, c.restored));
            let mut out = Vec::new();
            c.write(&mut out);
            prop_assert!(Certificate::read(&out).unwrap().agrees(&c));
        }

        #[test]
        fn garbage(bytes: Vec<u8>) {
            let _ = Certificate::read(&bytes);
        }
    }

    #[test]
    fn a_norm_below_zero_is_refused() {
        let mut out = Vec::new();
        Certificate::default().write(&mut out);
        assert!(Certificate::read(&out).is_ok());
        for norm in [-0.0f32, -1.0, f32::NAN] {
            let mut bad = out.clone();
            bad[4..8].copy_from_slice(&norm.to_le_bytes());
            assert_eq!(
                Certificate::read(&bad).unwrap_err().kind(),
                sparse_core::ErrorKind::Corrupt
            );
        }
    }

    #[test]
    fn percentiles_and_special_words() {
        let one = 1f32.to_bits();
        let t: Vec<u32> =
            (0..1000).map(|i| if i < 995 { one } else { f32::NAN.to_bits() }).collect();
        let r: Vec<u32> = (0..1000)
            .map(|i| {
                if i < 900 {
                    one
                } else if i < 995 {
                    one + 7
                } else {
                    5
                }
            })
            .collect();
        let mut tally = Tally::default();
        tally.observe(Dtype::F32, &bytes(&t), &bytes(&r), None).unwrap();
        let c = tally.certificate();
        assert_eq!((c.exact, c.p99_ulps), (900, 7));
        assert_eq!(c.not_finite, 5);
        // NaN is restored as a number, which no bound allows.
        assert!(c.max_ulps > 1 << 30 && c.relative_error() == f64::INFINITY);
        assert!(!Certificate { exact: 1000, ..c }.is_plausible(1000, c.restored));
        assert!(!c.is_plausible(1000, c.restored * 1.01));
    }

    /// Returns original, restored and base weights, binary32.
    fn certified(words: &[[f32; 3]]) -> Certificate {
        let of = |i: usize| bytes(&words.iter().map(|w| w[i].to_bits()).collect::<Vec<_>>());
        let mut tally = Tally::default();
        tally.observe(Dtype::F32, &of(0), &of(1), Some((Dtype::F32, &of(2)))).unwrap();
        tally.certificate()
    }

    #[test]
    fn weights_that_are_not_finite() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        // They are restored, so the norms are those of the other weights.
        let c = certified(&[[nan, nan, 1.0], [inf, inf, 1.0], [5.0, 4.0, 2.0]]);
        assert_eq!((c.change, c.restored, c.error, c.not_finite), (3.0, 2.0, 1.0, 2));
        let other_nan = f32::from_bits(f32::NAN.to_bits() | 1);
        assert_eq!(certified(&[[nan, other_nan, 1.0]]).error, 0.0);
        // Such weights of the base count as zero, so that losses there count.
        let c = certified(&[[3.0, 2.0, nan], [4.0, 4.0, -inf]]);
        assert_eq!((c.change, c.error, c.max_error), (5.0, 1.0, 1.0));
        for lost in
            [[nan, 1.0, 1.0], [inf, 1.0, 1.0], [1.0, inf, 1.0], [inf, -inf, inf], [inf, nan, 1.0]]
        {
            let c = certified(&[lost, [1.0, 1.0, 0.0]]);
            assert_eq!((c.error, c.relative_error()), (f64::INFINITY, f64::INFINITY), "{lost:?}");
        }
        let words = bytes(&[nan.to_bits(), inf.to_bits(), (-inf).to_bits(), 1, 0x7f7f_ffff]);
        assert_eq!(count_not_finite(Dtype::F32, &words), 3);
        assert_eq!(count_not_finite(Dtype::I32, &words), 0);
        assert_eq!(count_not_finite(Dtype::Bf16, &[0x80, 0x7f, 0x7f, 0x7f, 0xc0, 0xff]), 2);
    }

    #[test]
    fn binary64_counts_in_the_norms() {
        let raw = |x: [f64; 2]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (target, base) = (raw([3.0, 1.0]), raw([0.0, 1.0]));
        let mut tally = Tally::default();
        tally.observe(Dtype::F64, &target, &target, Some((Dtype::F64, &base))).unwrap();
        let c = tally.certificate();
        assert_eq!((c.weights, c.exact, c.change, c.restored, c.error), (2, 2, 3.0, 3.0, 0.0));
    }

    #[test]
    fn norms_at_the_ends_of_binary32_are_read_back() {
        for size in [f32::MAX, 1e-44] {
            let c =
                certified(&[[size, size, -size], [size, size, -size], [size, size / 2.0, -size]]);
            let mut out = Vec::new();
            c.write(&mut out);
            let read = Certificate::read(&out).unwrap();
            assert!(read.agrees(&c) && read.is_plausible(3, c.restored), "{read:?} {c:?}");
        }
    }
}
