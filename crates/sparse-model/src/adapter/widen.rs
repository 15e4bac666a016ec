//! Floats as binary32.

use super::fault::Fault;
use half::{bf16, f16};
use sparse_core::{Dtype, Result};

/// Returns true if [`to_f32`] takes this type.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
}

/// Converts little-endian floats to binary32: exactly, except that binary64 is rounded.
///
/// # Errors
/// `InvalidInput` for other types.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    Ok(match dtype {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::Bf16 => {
            bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => return Err(Fault::Type(dtype).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        let values = [
            (0u16, 0.0f32),
            (1, 5.960_464_5e-8),
            (0x3ff, 6.097_555e-5),
            (0x400, 6.103_515_6e-5),
            (0x3c00, 1.0),
            (0xc500, -5.0),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (word, value) in values {
            assert_eq!(to_f32(Dtype::F16, &word.to_le_bytes()).unwrap(), [value]);
        }
        assert!(to_f32(Dtype::F16, &0x7e01u16.to_le_bytes()).unwrap()[0].is_nan());
        assert_eq!(to_f32(Dtype::Bf16, &[0x80, 0xbf]).unwrap(), [-1.0]);
        assert_eq!(to_f32(Dtype::F64, &0.5f64.to_le_bytes()).unwrap(), [0.5]);
        assert!(to_f32(Dtype::I32, &[0; 4]).is_err());
    }
}
