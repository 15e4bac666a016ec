//! Looking at tensors in part.

use sparse_core::{CancelToken, Dtype, DtypeClass, Error, ErrorKind, Result, TensorSource};
use std::hash::Hasher;

/// Windows of a sample.
const WINDOWS: u64 = 64;
/// Bytes of a window; a multiple of every element's size.
const WINDOW_BYTES: u64 = 1024;
/// Elements that are compared for similarity.
const SYMBOLS: usize = 4096;
/// Least number of elements that say anything about similarity.
const MIN_SYMBOLS: usize = 16;
/// Bytes per read of a full comparison.
const COMPARE_BYTES: u64 = 1 << 20;

/// Reader of samples, with a buffer that is kept.
#[derive(Default)]
pub(super) struct Sampler(Vec<u8>);

impl Sampler {
    /// Reads a sample of a tensor.
    ///
    /// All of a tensor of up to 64 KiB; of a larger one 64 windows of 1 KiB, evenly spaced, both
    /// ends included.
    pub(super) fn sample(&mut self, source: &dyn TensorSource, index: usize) -> Result<&[u8]> {
        let entry = source.tensors().get(index).ok_or_else(|| {
            Error::invalid_argument(
                "there is no such \
                tensor",
            )
        })?;
        let len = entry.spec.byte_len();
        self.0.clear();
        self.0.resize(len.min(WINDOWS * WINDOW_BYTES) as usize, 0);
        if len <= WINDOWS * WINDOW_BYTES {
            source.read_range_into(index, 0, &mut self.0)?;
            return Ok(&self.0);
        }
        for (k, window) in (0..).zip(self.0.chunks_exact_mut(WINDOW_BYTES as usize)) {
            // In steps of eight bytes, so that windows begin with an element. 128 bits: `len` is
            // not bounded.
            let at = u128::from(len - WINDOW_BYTES) * k / u128::from(WINDOWS - 1);
            source.read_range_into(index, at as u64 / 8 * 8, window)?;
        }
        Ok(&self.0)
    }

    /// Hashes the sample: equal for equal tensors, in this process.
    pub(super) fn hash(&mut self, source: &dyn TensorSource, index: usize) -> Result<u64> {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(self.sample(source, index)?);
        Ok(hasher.finish())
    }

    /// Returns the sample's elements, coarsely; `None` when there are too few.
    pub(super) fn symbols(
        &mut self,
        source: &dyn TensorSource,
        index: usize,
    ) -> Result<Option<Symbols>> {
        let dtype = source.tensors().get(index).map_or(Dtype::U8, |e| e.spec.dtype());
        let sample = self.sample(source, index)?;
        let size = dtype.storage_bytes();
        let step = (sample.len() / size).div_ceil(SYMBOLS).max(1);
        let elements: Vec<u16> =
            sample.chunks_exact(size).step_by(step).map(|e| symbol(dtype, e)).collect();
        Ok((elements.len() >= MIN_SYMBOLS).then(|| Symbols::new(elements)))
    }
}

/// Reduces an element to a symbol.
///
/// Of a float its sign, exponent and three bits of mantissa; all of a small integer; a mix of a
/// large one.
fn symbol(dtype: Dtype, bytes: &[u8]) -> u16 {
    let bits = bytes.iter().rev().fold(0u64, |bits, &b| bits << 8 | u64::from(b));
    match dtype.storage_class() {
        DtypeClass::Float { mantissa, .. } => (bits >> mantissa.saturating_sub(3)) as u16,
        _ => (bits ^ bits >> 16 ^ bits >> 32 ^ bits >> 48) as u16,
    }
}

/// Elements of a tensor, coarsely, and how often each value occurs.
pub(super) struct Symbols {
    elements: Vec<u16>,
    /// Sorted by value.
    counts: Vec<(u16, u32)>,
}

impl Symbols {
    fn new(elements: Vec<u16>) -> Self {
        let mut sorted = elements.clone();
        sorted.sort_unstable();
        let counts = sorted
            .chunk_by(|a, b| a == b)
            .filter_map(|run| Some((*run.first()?, run.len() as u32)));
        Symbols { counts: counts.collect(), elements }
    }

    /// Computes Cohen's kappa, where it is at least `threshold`.
    pub(super) fn kappa(&self, other: &Symbols, threshold: f64) -> Option<f64> {
        let n = self.elements.len();
        if n != other.elements.len() {
            return None;
        }
        let agree = self.elements.iter().zip(&other.elements).filter(|(a, b)| a == b).count();
        // Kappa never exceeds the agreement, so most pairs are done with here.
        let observed = agree as f64 / n as f64;
        if observed < threshold {
            return None;
        }
        let (mut a, mut b) = (self.counts.iter().peekable(), other.counts.iter().peekable());
        let mut chance = 0.0;
        while let (Some(&&(x, nx)), Some(&&(y, ny))) = (a.peek(), b.peek()) {
            if x == y {
                chance += f64::from(nx) * f64::from(ny);
            }
            if x <= y {
                a.next();
            }
            if y <= x {
                b.next();
            }
        }
        let chance = chance / (n as f64 * n as f64);
        let kappa = (observed - chance) / (1.0 - chance);
        // All elements alike gives 0 / 0: no evidence.
        (kappa >= threshold).then_some(kappa)
    }
}

/// Returns true if two tensors of one source and length have the same bytes.
pub(super) fn windows_equal(
    source: &dyn TensorSource,
    a: usize,
    b: usize,
    cancel: &CancelToken,
) -> Result<bool> {
    let len = source.tensors().get(a).map_or(0, |e| e.spec.byte_len());
    let mut at = 0;
    while at < len {
        cancel.check()?;
        let n = usize::try_from(COMPARE_BYTES.min(len - at)).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "a window is larger than the address space")
        })?;
        if source.range(a, at, n)? != source.range(b, at, n)? {
            return Ok(false);
        }
        at += n as u64;
    }
    Ok(true)
}
