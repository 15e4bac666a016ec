//! Values of bf16, f16 and f32 weights, and back, rounded to nearest even: the same on every
//! machine.

use crate::real::{Real, is_real, with_real};
use crate::word::Word;
use sparse_core::Dtype;

/// Returns the value of a weight, from its bytes.
///
/// NaN for other types and lengths.
pub fn value(dtype: Dtype, bytes: &[u8]) -> f64 {
    fn of<R: Real>(bytes: &[u8]) -> f64 {
        R::value(R::W::load(bytes))
    }
    if !is_real(dtype) || bytes.len() != dtype.storage_bytes() {
        return f64::NAN;
    }
    with_real!(dtype, of, bytes)
}

/// Appends the weight nearest to a value; nothing for other types.
pub fn put(dtype: Dtype, value: f64, out: &mut Vec<u8>) {
    fn round<R: Real>(value: f64) -> u64 {
        R::round(value)
    }
    if is_real(dtype) {
        let word = with_real!(dtype, round, value);
        out.extend_from_slice(word.to_le_bytes().get(..dtype.storage_bytes()).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
            let mut out = Vec::new();
            put(dtype, -1.5, &mut out);
            assert_eq!((out.len(), value(dtype, &out)), (dtype.storage_bytes(), -1.5));
        }
        assert!(value(Dtype::U8, &[1]).is_nan());
        let mut out = Vec::new();
        put(Dtype::I32, 1.0, &mut out);
        assert!(out.is_empty());
    }
}
