//! Floats as binary32.

use sparse_core::{Dtype, Error, ErrorKind, Result};

/// Whether [`to_f32`] takes this type.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
}

/// Little-endian floats as binary32: exact, but for binary64, which is rounded.
///
/// # Errors
/// `InvalidInput` for other types.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    Ok(match dtype {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
        Dtype::Bf16 => {
            let brain = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            bytes.as_chunks().0.iter().map(brain).collect()
        }
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{dtype} is not understood here"),
            ));
        }
    })
}

/// binary16.
fn half(word: u16) -> f32 {
    let (sign, magnitude) = (u32::from(word & 0x8000) << 16, u32::from(word & 0x7fff));
    let magnitude = match magnitude {
        0x7c00.. => 0x7f80_0000 | (magnitude & 0x3ff) << 13,
        0x400.. => (magnitude << 13) + ((127 - 15) << 23),
        // Below the first normal number, words count steps of 2^-24.
        _ => (magnitude as f32 * (1.0 / 16_777_216.0)).to_bits(),
    };
    f32::from_bits(sign | magnitude)
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
        assert!(half(0x7e01).is_nan());
        assert_eq!(to_f32(Dtype::Bf16, &[0x80, 0xbf]).unwrap(), [-1.0]);
        assert_eq!(to_f32(Dtype::F64, &0.5f64.to_le_bytes()).unwrap(), [0.5]);
        assert!(to_f32(Dtype::I32, &[0; 4]).is_err());
    }
}
