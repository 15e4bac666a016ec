//! Quantises a model into a GGUF file.

use super::metadata::{Metadata, of_config};
use super::names::{gguf_name, reordered_heads};
use super::vocabulary::of_tokenizer;
use crate::config::{Architecture, ModelConfig};
use crate::error::{from_candle, unsupported};
use crate::quantise::{QuantType, Role, quantise, storage_type, type_name};
use crate::rope::{Rope, RopeScaling};
use crate::tie;
use crate::watch::Watch;
use crate::{gpt2, llama, weights};
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use sparse_core::{Error, Result, TensorSource};
use sparse_output::{AtomicFile, Overwrite};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// What was written.
///
/// # Examples
///
/// See [`GgufWriter`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufReport {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of its tensors.
    pub tensor_bytes: u64,
    /// Number of tensors of each type, by the type's name.
    pub types: BTreeMap<String, u64>,
    /// What the file could not say as the model does.
    pub notes: Vec<String>,
}

/// Quantises a model and writes it as a GGUF file, which appears when it is complete.
///
/// # Examples
///
/// ```
/// use sparse_eval::{GgufModel, GgufWriter, ModelConfig, QuantType};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("model.gguf");
/// let config = ModelConfig::parse(&std::fs::read(format!("{folder}/config.json"))?)?;
/// let tokenizer = std::fs::read(format!("{folder}/tokenizer.json"))?;
/// let source = sparse::Model::open(folder)?;
/// let writer = GgufWriter::new(&source, &config, QuantType::Q8_0).tokenizer(&*tokenizer);
/// assert_eq!(writer.write(&path)?.types["q8_0"], 30);
/// assert_eq!(GgufModel::open(&path)?.load()?.config().layers, 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct GgufWriter<'a> {
    source: &'a dyn TensorSource,
    config: &'a ModelConfig,
    kind: QuantType,
    tokenizer: Option<&'a [u8]>,
    overwrite: Overwrite,
    watch: Watch<'a>,
}

impl std::fmt::Debug for GgufWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufWriter")
            .field("config", self.config)
            .field("kind", &self.kind)
            .field("overwrite", &self.overwrite)
            .finish_non_exhaustive()
    }
}

impl<'a> GgufWriter<'a> {
    /// Creates a writer of a model, most of whose matrices get the type `kind`.
    pub fn new(source: &'a dyn TensorSource, config: &'a ModelConfig, kind: QuantType) -> Self {
        let (overwrite, watch) = (Overwrite::Refuse, Watch::new());
        GgufWriter { source, config, kind, tokenizer: None, overwrite, watch }
    }

    /// Adds the bytes of the model's `tokenizer.json`.
    pub fn tokenizer(self, json: impl Into<Option<&'a [u8]>>) -> Self {
        GgufWriter { tokenizer: json.into(), ..self }
    }

    /// Says what happens when the file exists.
    pub fn overwrite(self, overwrite: Overwrite) -> Self {
        GgufWriter { overwrite, ..self }
    }

    /// Sets who is told of progress, counted in tensors, and who may stop the work.
    pub fn watch(self, watch: Watch<'a>) -> Self {
        GgufWriter { watch, ..self }
    }

    /// Writes the file. All quantised tensors are in memory at once, and one of the model's own.
    ///
    /// # Errors
    /// `InvalidInput` when llama.cpp has no words for a setting or a tensor, or a tensor is not in
    /// floating point; `AlreadyExists`; `Cancelled`; `Io`; what the source reports.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<GgufReport> {
        let config = &tie::settle(self.source, self.config)?;
        let mut metadata = of_config(config)?;
        metadata.push(("general.file_type".to_owned(), Value::U32(self.kind.file_type())));
        metadata.push(("general.quantization_version".to_owned(), Value::U32(2)));
        let (vocabulary, notes) = of_tokenizer(self.tokenizer, config);
        metadata.extend(vocabulary);
        let tensors = quantised(self.source, config, self.kind, &self.watch)?;
        let mut types = BTreeMap::new();
        for (_, tensor) in &tensors {
            *types.entry(type_name(tensor.dtype()).to_owned()).or_insert(0) += 1;
        }
        let tensor_bytes = tensors.iter().map(|(_, t)| t.storage_size_in_bytes() as u64).sum();
        let bytes = write(path.as_ref(), self.overwrite, &metadata, &tensors)?;
        Ok(GgufReport { bytes, tensor_bytes, types, notes })
    }
}

/// Quantises all tensors of a model.
fn quantised(
    source: &dyn TensorSource,
    config: &ModelConfig,
    kind: QuantType,
    watch: &Watch<'_>,
) -> Result<Vec<(String, QTensor)>> {
    let mut out = Vec::new();
    watch.begin("quantising", source.tensors().len());
    for (index, entry) in source.tensors().iter().enumerate() {
        watch.advance(1)?;
        let ignored = match config.architecture {
            Architecture::Gpt2 => gpt2::is_ignored(&entry.name, config),
            _ => llama::is_ignored(&entry.name, config),
        };
        if ignored {
            continue;
        }
        let Some(name) = gguf_name(config.architecture, &entry.name) else {
            let message = "llama.cpp has no such tensor for this architecture";
            return Err(unsupported(message).in_tensor(&*entry.name));
        };
        let stored = weights::read(source, index)?;
        let made = tensor(config, &entry.name, &name, &stored, kind);
        out.push((name, made.map_err(|e| from_candle(e).in_tensor(&*entry.name))?));
    }
    if let Some(divisors) = divisors(config) {
        let made = Tensor::new(divisors, &Device::Cpu)
            .and_then(|t| QTensor::quantize(&t.to_dtype(DType::F32)?, GgmlDType::F32));
        out.push(("rope_freqs.weight".to_owned(), made.map_err(from_candle)?));
    }
    watch.end();
    Ok(out)
}

/// Returns a tensor as the file has it.
fn tensor(
    config: &ModelConfig,
    own_name: &str,
    name: &str,
    stored: &Tensor,
    kind: QuantType,
) -> candle_core::Result<QTensor> {
    let stored = match reordered_heads(config, own_name) {
        Some(heads) => neighbours(stored, heads)?,
        None => stored.clone(),
    };
    if stored.rank() != 2 {
        return QTensor::quantize(&stored.to_dtype(DType::F32)?, GgmlDType::F32);
    }
    let (role, stored) = match name {
        "position_embd.weight" => (Role::Positions, stored),
        "output.weight" => (Role::Output, stored),
        "token_embd.weight" if config.tied => (Role::Output, stored),
        "token_embd.weight" => (Role::Inner, stored),
        _ if config.architecture == Architecture::Gpt2 => (Role::Inner, stored.t()?),
        _ => (Role::Inner, stored),
    };
    quantise(&stored, storage_type(kind, role, stored.dim(1)?))
}

/// Puts dimensions of each head that turn together side by side: rows `h, half, i` become
/// `h, i, half`.
fn neighbours(rows: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let shape = rows.dims().to_vec();
    let half = rows.dim(0)? / heads / 2;
    let rest = rows.elem_count() / (heads * 2 * half).max(1);
    rows.reshape((heads, 2, half, rest))?.transpose(1, 2)?.contiguous()?.reshape(shape)
}

/// Returns by what frequencies of rotary positions are divided, where GGUF has no key for it.
fn divisors(config: &ModelConfig) -> Option<Vec<f64>> {
    let rope = config.rope.as_ref()?;
    match rope.scaling {
        RopeScaling::Llama3 { .. } | RopeScaling::Divided { .. } => {
            let plain = Rope { theta: rope.theta, scaling: RopeScaling::None };
            let plain = plain.frequencies(config.head_dim);
            let scaled = rope.frequencies(config.head_dim);
            Some(plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect())
        }
        _ => None,
    }
}

fn write(
    path: &Path,
    overwrite: Overwrite,
    metadata: &Metadata,
    tensors: &[(String, QTensor)],
) -> Result<u64> {
    let place = || path.display().to_string();
    let file = AtomicFile::create(path, overwrite)?;
    let mut counted = Counted { inner: BufWriter::new(file), bytes: 0 };
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut counted, &metadata, &tensors).map_err(|e| match e {
        candle_core::Error::Io(e) => Error::io("cannot write", e).in_file(place()),
        e => from_candle(e).in_file(place()),
    })?;
    let bytes = counted.bytes;
    let file = counted.inner.into_inner();
    file.map_err(|e| Error::io("cannot write", e.into_error()).in_file(place()))?.commit()?;
    Ok(bytes)
}

/// A writer that knows where it is, as the writer of GGUF files wants, and goes only forward.
struct Counted {
    inner: BufWriter<AtomicFile>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.bytes += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(0) => Ok(self.bytes),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
