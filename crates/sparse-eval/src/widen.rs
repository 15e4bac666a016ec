//! Weights of 16 bits as f32.
//!
//! A kernel of our own, since widening takes a fifth of the time of a forward pass with that of
//! candle, which is neither vectorised nor parallel.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Number of weights that one thread widens at a time.
const RUN: usize = 1 << 14;

/// Returns `weights` in the type `compute`; contiguous where they were.
pub(crate) fn widen(weights: &Tensor, compute: DType) -> Result<Tensor> {
    let half = matches!(weights.dtype(), DType::BF16 | DType::F16);
    if half && compute == DType::F32 && weights.is_contiguous() {
        weights.apply_op1_no_bwd(&Widen)
    } else {
        weights.to_dtype(compute)
    }
}

struct Widen;

impl CustomOp1 for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("not contiguous") };
        let mut out = vec![0f32; end - start];
        let runs = out.par_chunks_mut(RUN);
        match storage {
            CpuStorage::BF16(x) => runs.zip(x[start..end].par_chunks(RUN)).for_each(bf16_run),
            CpuStorage::F16(x) => {
                runs.zip(x[start..end].par_chunks(RUN)).for_each(|(o, x)| x.convert_to_f32_slice(o))
            }
            _ => bail!("only types of 16 bits are widened"),
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

fn bf16_run((out, x): (&mut [f32], &[bf16])) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f32::from_bits(u32::from(x.to_bits()) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use half::f16;

    #[test]
    fn values_are_those_of_candle() {
        // All bit patterns, from an offset on, but for NaNs, which differ from themselves.
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bf: Vec<bf16> = bits.iter().map(|&b| bf16::from_bits(b)).collect();
        let f: Vec<f16> = bits.iter().map(|&b| f16::from_bits(b)).collect();
        for x in [Tensor::new(bf, &Device::Cpu).unwrap(), Tensor::new(f, &Device::Cpu).unwrap()] {
            let x = x.narrow(0, 3, 65_000).unwrap();
            let ours = widen(&x, DType::F32).unwrap().to_vec1::<f32>().unwrap();
            let theirs = x.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            let same = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
            assert!(ours.len() == 65_000 && ours.iter().zip(&theirs).all(same));
            assert_eq!(widen(&x, DType::F64).unwrap().dtype(), DType::F64);
        }
    }
}
