//! Types of quantised weights, and which of them each matrix gets.

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Type of quantised weights, as llama.cpp has it.
///
/// # Examples
///
/// ```
/// use sparse_eval::QuantType;
///
/// let kind = QuantType::parse("q4_k").unwrap();
/// assert_eq!((kind.name(), kind.bits()), ("q4_k", 4.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(non_camel_case_types, reason = "the names that everybody knows")]
pub enum QuantType {
    /// Blocks of 32, a scale.
    Q4_0,
    /// Blocks of 32, a scale and a minimum.
    Q4_1,
    /// Blocks of 32, a scale.
    Q5_0,
    /// Blocks of 32, a scale and a minimum.
    Q5_1,
    /// Blocks of 32, a scale.
    Q8_0,
    /// Blocks of 256, scales and minima quantised themselves.
    Q2K,
    /// Blocks of 256, scales quantised themselves.
    Q3K,
    /// Blocks of 256, scales and minima quantised themselves.
    Q4K,
    /// Blocks of 256, scales and minima quantised themselves.
    Q5K,
    /// Blocks of 256, scales quantised themselves.
    Q6K,
}

impl QuantType {
    /// All types: by the size of blocks, then by bits.
    pub const ALL: [QuantType; 10] = [
        QuantType::Q4_0,
        QuantType::Q4_1,
        QuantType::Q5_0,
        QuantType::Q5_1,
        QuantType::Q8_0,
        QuantType::Q2K,
        QuantType::Q3K,
        QuantType::Q4K,
        QuantType::Q5K,
        QuantType::Q6K,
    ];

    /// Returns its name, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            QuantType::Q4_0 => "q4_0",
            QuantType::Q4_1 => "q4_1",
            QuantType::Q5_0 => "q5_0",
            QuantType::Q5_1 => "q5_1",
            QuantType::Q8_0 => "q8_0",
            QuantType::Q2K => "q2_k",
            QuantType::Q3K => "q3_k",
            QuantType::Q4K => "q4_k",
            QuantType::Q5K => "q5_k",
            QuantType::Q6K => "q6_k",
        }
    }

    /// Parses a name; case and the underscore before `k` do not matter.
    pub fn parse(name: &str) -> Option<QuantType> {
        let bare = |name: &str| name.to_lowercase().replace("_k", "k");
        QuantType::ALL.into_iter().find(|kind| bare(kind.name()) == bare(name))
    }

    /// Returns the bits of a weight, scales included.
    pub fn bits(self) -> f64 {
        let kind = self.ggml();
        8.0 * kind.type_size() as f64 / kind.block_size() as f64
    }

    pub(crate) fn ggml(self) -> GgmlDType {
        match self {
            QuantType::Q4_0 => GgmlDType::Q4_0,
            QuantType::Q4_1 => GgmlDType::Q4_1,
            QuantType::Q5_0 => GgmlDType::Q5_0,
            QuantType::Q5_1 => GgmlDType::Q5_1,
            QuantType::Q8_0 => GgmlDType::Q8_0,
            QuantType::Q2K => GgmlDType::Q2K,
            QuantType::Q3K => GgmlDType::Q3K,
            QuantType::Q4K => GgmlDType::Q4K,
            QuantType::Q5K => GgmlDType::Q5K,
            QuantType::Q6K => GgmlDType::Q6K,
        }
    }

    /// Returns the number by which the metadata of a GGUF file tell the type of most weights
    /// (`llama_ftype`; the small one of each family of K-quants).
    pub(crate) fn file_type(self) -> u32 {
        match self {
            QuantType::Q4_0 => 2,
            QuantType::Q4_1 => 3,
            QuantType::Q8_0 => 7,
            QuantType::Q5_0 => 8,
            QuantType::Q5_1 => 9,
            QuantType::Q2K => 10,
            QuantType::Q3K => 11,
            QuantType::Q4K => 14,
            QuantType::Q5K => 16,
            QuantType::Q6K => 18,
        }
    }
}

/// What a matrix is for, which decides how it is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Within a layer, or the embedding where the output matrix is another.
    Inner,
    /// The output matrix, or the embedding that is both.
    Output,
    /// Learned positions.
    Positions,
}

/// Returns the type in which a matrix with rows of `inputs` weights is stored.
///
/// The rules of `llama_tensor_get_type` of llama.cpp, without its mixtures: every matrix has the
/// type asked for, and the output matrix has six bits, or eight where its rows are no multiple of
/// 256. A type whose blocks do not divide a row falls back to one of blocks of 32, then to f16.
/// Where llama.cpp falls back to IQ4_NL, which candle lacks, this takes Q4_0, of the same size.
/// Learned positions stay in f32.
pub(crate) fn storage_type(kind: QuantType, role: Role, inputs: usize) -> GgmlDType {
    let wanted = match role {
        Role::Positions => return GgmlDType::F32,
        Role::Output if kind == QuantType::Q8_0 => GgmlDType::Q8_0,
        Role::Output if inputs.is_multiple_of(256) => GgmlDType::Q6K,
        Role::Output => GgmlDType::Q8_0,
        Role::Inner => kind.ggml(),
    };
    let smaller_blocks = match wanted {
        GgmlDType::Q2K | GgmlDType::Q3K => GgmlDType::Q4_0,
        GgmlDType::Q4K => GgmlDType::Q5_0,
        GgmlDType::Q5K => GgmlDType::Q5_1,
        GgmlDType::Q6K => GgmlDType::Q8_0,
        other => other,
    };
    let fits = |kind: &GgmlDType| inputs.is_multiple_of(kind.block_size());
    [wanted, smaller_blocks].into_iter().find(fits).unwrap_or(GgmlDType::F16)
}

/// Number of weights that are in f32 at a time, for each thread: 4 MiB.
const BLOCK: usize = 1 << 20;

/// Quantises a matrix, on all threads.
pub(crate) fn quantise(matrix: &Tensor, kind: GgmlDType) -> Result<QTensor> {
    let (rows, width) = matrix.dims2()?;
    let block = (BLOCK / width).max(1);
    let starts: Vec<usize> = (0..rows).step_by(block).collect();
    let parts = starts.into_par_iter().map(|start| {
        // A copy, since candle quantises all of a tensor's storage, whatever part is meant.
        let rows = matrix.narrow(0, start, block.min(rows - start))?.force_contiguous()?;
        QTensor::quantize(&rows, kind)?.data().map(|bytes| bytes.into_owned())
    });
    let bytes = parts.collect::<Result<Vec<_>>>()?.concat();
    QTensor::new(QStorage::from_data(bytes.into(), &Device::Cpu, kind)?, (rows, width))
}

/// Returns the name of a type of tensors in GGUF files, as it is shown.
pub(crate) fn type_name(kind: GgmlDType) -> &'static str {
    match kind {
        GgmlDType::F32 => "f32",
        GgmlDType::F16 => "f16",
        GgmlDType::BF16 => "bf16",
        GgmlDType::Q8_1 => "q8_1",
        GgmlDType::Q8K => "q8_k",
        kind => match QuantType::ALL.into_iter().find(|q| q.ggml() == kind) {
            Some(known) => known.name(),
            None => "unknown",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for kind in QuantType::ALL {
            assert_eq!(QuantType::parse(kind.name()), Some(kind));
            assert_eq!(QuantType::parse(&kind.name().to_uppercase()), Some(kind));
            assert_eq!(type_name(kind.ggml()), kind.name());
        }
        assert_eq!(QuantType::parse("Q4K"), Some(QuantType::Q4K));
        assert_eq!(QuantType::parse("q9_0"), None);
    }

    #[test]
    fn blocks_are_those_of_the_whole() {
        let (rows, width) = (2 * BLOCK / 64 + 3, 64);
        let x = Tensor::arange(0, (rows * width) as u32, &Device::Cpu).unwrap();
        let x = (x.to_dtype(candle_core::DType::F32).unwrap() * 0.7).unwrap().sin().unwrap();
        let x = x.reshape((rows, width)).unwrap();
        for kind in [GgmlDType::Q8_0, GgmlDType::Q5_1, GgmlDType::F16] {
            let ours = quantise(&x, kind).unwrap();
            assert_eq!(ours.shape().dims(), [rows, width]);
            let whole = QTensor::quantize(&x, kind).unwrap();
            assert!(ours.data().unwrap() == whole.data().unwrap(), "{kind:?}");
        }
    }

    #[test]
    fn rules() {
        use GgmlDType::*;
        use Role::*;
        for (kind, role, inputs, expected) in [
            (QuantType::Q4K, Inner, 512, Q4K),
            (QuantType::Q4K, Output, 512, Q6K),
            (QuantType::Q4_0, Output, 512, Q6K),
            (QuantType::Q8_0, Output, 512, Q8_0),
            (QuantType::Q4K, Output, 96, Q8_0),
            (QuantType::Q2K, Inner, 64, Q4_0),
            (QuantType::Q4K, Inner, 64, Q5_0),
            (QuantType::Q5K, Inner, 64, Q5_1),
            (QuantType::Q6K, Inner, 160, Q8_0),
            (QuantType::Q6K, Inner, 40, F16),
            (QuantType::Q4_0, Inner, 40, F16),
            (QuantType::Q4_0, Positions, 64, F32),
        ] {
            assert_eq!(storage_type(kind, role, inputs), expected, "{kind:?} {role:?} {inputs}");
        }
    }
}
