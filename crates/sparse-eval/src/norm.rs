//! Normalisation of rows: root mean square, and mean and variance.
//!
//! Own kernels, since those of candle know no f64, and compute the variance as a difference of two
//! sums in f32, which loses digits where the mean is large.

use crate::float::Float;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

/// A norm of the last dimension, with its weights.
#[derive(Debug)]
pub(crate) struct Norm {
    weight: Vec<f64>,
    eps: f64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// x / rms(x) · weight
    Rms,
    /// (x − mean) / deviation · weight + bias
    Layer { bias: Vec<f64> },
}

impl Norm {
    pub(crate) fn rms(weight: Vec<f64>, eps: f64) -> Norm {
        Norm { weight, eps, kind: Kind::Rms }
    }

    /// Creates a norm of mean and variance; `bias` must be as long as `weight`.
    pub(crate) fn layer(weight: Vec<f64>, bias: Vec<f64>, eps: f64) -> Norm {
        Norm { weight, eps, kind: Kind::Layer { bias } }
    }

    /// Normalises each row of `x`, whose last dimension is as long as the weights.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1_no_bwd(self)
    }

    fn rows<T: WithDType + Float>(&self, x: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); x.len()];
        let width = self.weight.len();
        let row = |(x, out): (&[T], &mut [T])| match &self.kind {
            Kind::Rms => {
                let square: f64 = x.iter().map(|v| v.wide() * v.wide()).sum();
                let factor = (square / width as f64 + self.eps).sqrt().recip();
                for ((out, x), w) in out.iter_mut().zip(x).zip(&self.weight) {
                    *out = T::narrow(x.wide() * factor * w);
                }
            }
            Kind::Layer { bias } => {
                let mean = x.iter().map(|v| v.wide()).sum::<f64>() / width as f64;
                let square: f64 = x.iter().map(|v| (v.wide() - mean).powi(2)).sum();
                let factor = (square / width as f64 + self.eps).sqrt().recip();
                for ((out, x), (w, b)) in out.iter_mut().zip(x).zip(self.weight.iter().zip(bias)) {
                    *out = T::narrow((x.wide() - mean) * factor * w + b);
                }
            }
        };
        x.par_chunks(width).zip(out.par_chunks_mut(width)).with_min_len(8).for_each(row);
        out
    }
}

impl CustomOp1 for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = layout.shape();
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("not contiguous") };
        if shape.dims().last() != Some(&self.weight.len()) {
            bail!("a norm of {} weights cannot take {shape:?}", self.weight.len());
        }
        let out = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(self.rows(&x[start..end])),
            CpuStorage::F64(x) => CpuStorage::F64(self.rows(&x[start..end])),
            _ => bail!("norms are in f32 or f64"),
        };
        Ok((out, shape.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_are_normalised() {
        let x = Tensor::new(&[[3.0f32, 4.0], [1e4 + 1.0, 1e4 - 1.0]], &Device::Cpu).unwrap();
        let rms = Norm::rms(vec![1.0, 2.0], 0.0).forward(&x).unwrap();
        let root = 12.5f32.sqrt();
        assert_eq!(rms.to_vec2::<f32>().unwrap()[0], [3.0 / root, 8.0 / root]);
        // A difference of sums in f32 would give 0 for the variance.
        let layer = Norm::layer(vec![1.0, 1.0], vec![0.5, 0.5], 0.0).forward(&x).unwrap();
        assert_eq!(layer.to_vec2::<f32>().unwrap(), [[-0.5, 1.5], [1.5, -0.5]]);
        assert!(Norm::rms(vec![1.0; 3], 0.0).forward(&x).is_err());
    }
}
