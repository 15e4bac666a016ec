//! Where a decoder gets its parameters.

use crate::error::{from_candle, unsupported};
use crate::matrix::{Linear, Matrix};
use crate::quantise::{QuantType, Role, quantise, storage_type};
use crate::weights;
use crate::widen::widen;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{DType, Device, Tensor};
use sparse_core::{Error, ErrorKind, Result, TensorSource};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Order of the dimensions of a matrix in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `[outputs, inputs]`, as PyTorch's `Linear`.
    OutputsFirst,
    /// `[inputs, outputs]`, as the `Conv1D` of GPT-2.
    InputsFirst,
}

/// Place, shape and role of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatrixSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) order: Order,
    pub(crate) role: Role,
}

/// Parameters by the names that the architecture's files have.
pub(crate) trait Parameters {
    /// Tells whether there is a tensor of that name.
    fn has(&self, name: &str) -> bool;

    /// Returns a matrix, in the form in which it is kept.
    fn matrix(&self, spec: MatrixSpec<'_>) -> Result<Matrix>;

    /// Returns a vector of that length.
    fn vector(&self, name: &str, len: usize) -> Result<Vec<f64>>;

    /// Returns the type in which the model is computed.
    fn compute(&self) -> DType;

    /// Tells whether the dimensions of a head that turn together are neighbours, as llama.cpp has
    /// them for some architectures, instead of half a head apart.
    fn neighbours_turn(&self) -> bool {
        false
    }

    /// Returns a linear map; `bias` is the name of what it adds, if anything.
    fn linear(&self, spec: MatrixSpec<'_>, bias: Option<&str>) -> Result<Linear> {
        let bias = match bias {
            None => None,
            Some(name) => {
                let values = Tensor::new(self.vector(name, spec.outputs)?, &Device::Cpu);
                Some(values.and_then(|v| v.to_dtype(self.compute())).map_err(from_candle)?)
            }
        };
        Ok(Linear { matrix: self.matrix(spec)?, bias })
    }
}

/// Form in which the weights of matrices are kept while a model is evaluated.
///
/// # Examples
///
/// ```
/// use sparse_eval::{QuantType, Weights};
///
/// assert_eq!(Weights::parse("q8_0")?, Weights::Quantised(QuantType::Q8_0));
/// assert_eq!(Weights::parse("as stored")?, Weights::AsStored);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Weights {
    /// As in the file, widened to f32 block by block whenever they are used: takes the memory of
    /// the file.
    #[default]
    AsStored,
    /// Widened to f32 once: faster, and twice the memory where the file has 16 bits.
    F32,
    /// As in the file, and widened to f64, in which all of the model is computed: several times
    /// slower, for models that differ by less than f32 resolves.
    F64,
    /// Quantised when the model is loaded; the file stays as it is.
    Quantised(QuantType),
}

impl Weights {
    /// Parses `as stored`, `f32`, `f64`, or the name of a [`QuantType`].
    ///
    /// # Errors
    /// `InvalidArgument`, with all names.
    pub fn parse(name: &str) -> Result<Weights> {
        match name {
            "as stored" => Ok(Weights::AsStored),
            "f32" => Ok(Weights::F32),
            "f64" => Ok(Weights::F64),
            _ => match QuantType::parse(name) {
                Some(kind) => Ok(Weights::Quantised(kind)),
                None => Err(Error::invalid_argument(format!(
                    "there is no form of weights called {name:?}: there are \"as stored\", f32, \
                     f64, {}",
                    QuantType::ALL.map(QuantType::name).join(", ")
                ))),
            },
        }
    }
}

/// Parameters that come from a source of tensors.
pub(crate) struct SourceParameters<'a> {
    source: &'a dyn TensorSource,
    weights: Weights,
    compute: DType,
    /// Indices of the tensors that were asked for.
    used: RefCell<BTreeSet<usize>>,
}

impl<'a> SourceParameters<'a> {
    pub(crate) fn new(source: &'a dyn TensorSource, weights: Weights) -> Self {
        let compute = if weights == Weights::F64 { DType::F64 } else { DType::F32 };
        SourceParameters { source, weights, compute, used: RefCell::default() }
    }

    /// Checks that every tensor was used, except those that `ignored` names.
    ///
    /// A tensor that the decoder does not know may be part of the model, which would then be
    /// evaluated wrongly.
    pub(crate) fn check_used(&self, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let used = self.used.borrow();
        for (index, entry) in self.source.tensors().iter().enumerate() {
            if !used.contains(&index) && !ignored(&entry.name) {
                return Err(unsupported(
                    "the architecture that config.json names has no such tensor, so that the model \
                     would be evaluated without it",
                )
                .in_tensor(&*entry.name));
            }
        }
        Ok(())
    }

    /// Reads a tensor of that shape.
    fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(index) = self.source.find(name) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the model has no such tensor, which its config.json asks for",
            )
            .in_tensor(name));
        };
        let has = self.source.tensors().get(index).map_or(&[][..], |t| t.spec.shape());
        if !has.iter().copied().eq(shape.iter().map(|&d| d as u64)) {
            return Err(unsupported(format!(
                "its shape is {has:?}, and config.json asks for {shape:?}"
            ))
            .in_tensor(name));
        }
        self.used.borrow_mut().insert(index);
        weights::read(self.source, index)
    }
}

impl Parameters for SourceParameters<'_> {
    fn has(&self, name: &str) -> bool {
        self.source.find(name).is_some()
    }

    fn matrix(&self, spec: MatrixSpec<'_>) -> Result<Matrix> {
        let MatrixSpec { name, outputs, inputs, order, role } = spec;
        let shape = match order {
            Order::OutputsFirst => [outputs, inputs],
            Order::InputsFirst => [inputs, outputs],
        };
        let stored = self.read(name, &shape)?;
        let made = || match self.weights {
            Weights::Quantised(kind) => {
                let stored = if order == Order::InputsFirst { stored.t()? } else { stored };
                let kind = storage_type(kind, role, inputs);
                quantised(quantise(&stored, kind)?)
            }
            _ => {
                let keep = match self.weights {
                    Weights::F32 => widen(&stored, self.compute)?,
                    _ => stored,
                };
                let keep = if order == Order::InputsFirst { keep.t()? } else { keep };
                Matrix::new(keep, self.compute)
            }
        };
        made().map_err(|e| from_candle(e).in_tensor(name))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f64>> {
        let stored = self.read(name, &[len])?;
        let wide = stored.to_dtype(DType::F64).and_then(|t| t.to_vec1());
        wide.map_err(|e| from_candle(e).in_tensor(name))
    }

    fn compute(&self) -> DType {
        self.compute
    }
}

/// Keeps a quantised matrix. What was left in floating point is multiplied in f32.
pub(crate) fn quantised(weights: QTensor) -> candle_core::Result<Matrix> {
    let bytes = weights.storage_size_in_bytes();
    Ok(match QMatMul::from_qtensor(weights)? {
        QMatMul::Tensor(wide) => Matrix::Wide(wide),
        weights => Matrix::Quantised { weights, bytes },
    })
}
