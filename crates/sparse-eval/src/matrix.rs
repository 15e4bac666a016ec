//! Weights of a linear map, in the form in which they are kept.

use crate::widen::widen;
use candle_core::quantized::QMatMul;
use candle_core::{DType, Module, Result, Tensor};

/// Number of weights that are widened at a time: 4 MiB of f32, which the second level of a
/// processor's cache holds or nearly so.
const WIDENED: usize = 1 << 20;

/// A matrix of shape `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) enum Matrix {
    /// In the type in which the model is computed. Not always contiguous.
    Wide(Tensor),
    /// In a smaller type, contiguous, widened block by block whenever it is used.
    Narrow(Tensor),
    /// Quantised, and multiplied as llama.cpp does: inputs are quantised to 8 bits.
    Quantised { weights: QMatMul, bytes: usize },
}

impl Matrix {
    /// Keeps `weights` for computing in `compute`.
    pub(crate) fn new(weights: Tensor, compute: DType) -> Result<Matrix> {
        Ok(match weights.dtype() == compute {
            true => Matrix::Wide(weights),
            false => Matrix::Narrow(weights.contiguous()?),
        })
    }

    /// Returns the bytes that the weights take in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Matrix::Wide(w) | Matrix::Narrow(w) => w.elem_count() * w.dtype().size_in_bytes(),
            Matrix::Quantised { bytes, .. } => *bytes,
        }
    }

    /// Returns `x` times the transpose: `[rows, inputs]` to `[rows, outputs]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Matrix::Wide(w) => x.matmul(&w.t()?),
            Matrix::Quantised { weights, .. } => weights.forward(x),
            Matrix::Narrow(w) => {
                let (outputs, inputs) = w.dims2()?;
                let block = (WIDENED / inputs).max(1);
                let mut parts = Vec::with_capacity(outputs.div_ceil(block));
                for start in (0..outputs).step_by(block) {
                    let rows = w.narrow(0, start, block.min(outputs - start))?;
                    parts.push(x.matmul(&widen(&rows, x.dtype())?.t()?)?);
                }
                match parts.as_slice() {
                    [all] => Ok(all.clone()),
                    parts => Tensor::cat(parts, 1),
                }
            }
        }
    }

    /// Returns the rows `ids` in the type `compute`: the vectors of these tokens.
    pub(crate) fn rows(&self, ids: &Tensor, compute: DType) -> Result<Tensor> {
        match self {
            Matrix::Wide(w) | Matrix::Narrow(w) => w.index_select(ids, 0)?.to_dtype(compute),
            Matrix::Quantised { weights, .. } => weights.embedding(ids)?.to_dtype(compute),
        }
    }
}

/// A matrix and what is added to its outputs.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// Maps `[rows, inputs]` to `[rows, outputs]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.matrix.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// Returns the bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.matrix.bytes()
            + self.bias.as_ref().map_or(0, |b| b.elem_count() * b.dtype().size_in_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn narrow_weights_give_what_wide_ones_give() {
        // Three blocks, the last shorter.
        let (outputs, inputs) = (2 * (WIDENED / 64) + 5, 64);
        let count = outputs * inputs;
        let w = Tensor::arange(0, count as u32, &Device::Cpu).unwrap();
        let w = ((w.to_dtype(DType::F32).unwrap() * 0.37).unwrap().sin().unwrap())
            .to_dtype(DType::BF16)
            .and_then(|w| w.reshape((outputs, inputs)))
            .unwrap();
        let x = Tensor::arange(0f32, 192.0, &Device::Cpu).unwrap().cos().unwrap();
        let x = x.reshape((3, 64)).unwrap();
        let wide = Matrix::new(w.to_dtype(DType::F32).unwrap(), DType::F32).unwrap();
        let narrow = Matrix::new(w, DType::F32).unwrap();
        assert_eq!((wide.bytes(), narrow.bytes()), (4 * count, 2 * count));
        let (a, b) = (wide.forward(&x).unwrap(), narrow.forward(&x).unwrap());
        let gap = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(gap < 1e-5, "{gap}");
        let ids = Tensor::new(&[5u32, 0], &Device::Cpu).unwrap();
        let rows = [&wide, &narrow].map(|m| m.rows(&ids, DType::F32).unwrap());
        let [a, b] = rows.map(|t| t.to_vec2::<f32>().unwrap());
        assert_eq!(a, b);
    }
}
