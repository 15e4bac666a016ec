//! Loads GGUF files.

use super::metadata::{TensorFacts, to_config};
use super::names::gguf_name;
use super::vocabulary::WHOLE;
use crate::config::{Architecture, ModelConfig};
use crate::error::{from_candle, from_reading, unsupported};
use crate::matrix::Matrix;
use crate::model::LanguageModel;
use crate::parameters::{MatrixSpec, Parameters, quantised};
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device};
use sparse_core::{Error, ErrorKind, Result};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Model in a GGUF file, as llama.cpp has them.
///
/// # Examples
///
/// See [`GgufWriter`](crate::GgufWriter).
pub struct GgufModel {
    place: String,
    file: RefCell<BufReader<File>>,
    content: Content,
    config: ModelConfig,
}

impl std::fmt::Debug for GgufModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufModel")
            .field("place", &self.place)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl GgufModel {
    /// Opens a file and reads its metadata.
    ///
    /// # Errors
    /// `NotFound` or `Io`; `InvalidInput` when it is no GGUF file, or one of an architecture or
    /// with settings that the decoders cannot do.
    pub fn open(path: impl AsRef<Path>) -> Result<GgufModel> {
        let place = path.as_ref().display().to_string();
        open(path.as_ref(), place.clone()).map_err(|e| e.in_file(place))
    }

    /// Returns what its metadata say of the architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the bytes of the model's `tokenizer.json`, if the file has it.
    pub fn tokenizer(&self) -> Option<&[u8]> {
        match self.content.metadata.get(WHOLE) {
            Some(Value::String(json)) => Some(json.as_bytes()),
            _ => None,
        }
    }

    /// Loads the model, with weights as they are in the file.
    ///
    /// # Errors
    /// As [`LanguageModel::load`].
    pub fn load(&self) -> Result<LanguageModel> {
        let from = GgufParameters { model: self, used: RefCell::default() };
        let loaded = LanguageModel::from_parameters(self.config.clone(), &from)
            .map_err(|e| e.in_file(&*self.place))?;
        let used = from.used.borrow();
        let unused = self.content.tensor_infos.keys().find(|name| !used.contains(*name));
        match unused.filter(|name| *name != DIVISORS) {
            None => Ok(loaded),
            Some(name) => Err(unsupported(
                "its architecture has no such tensor here, so that the model would be evaluated \
                 without it",
            )
            .in_tensor(&**name)
            .in_file(&*self.place)),
        }
    }
}

/// Tensor of factors by which frequencies of rotary positions are divided.
const DIVISORS: &str = "rope_freqs.weight";

fn open(path: &Path, place: String) -> Result<GgufModel> {
    let mut file = BufReader::new(sparse_core::open_file(path)?);
    let content = guarded(|| Content::read(&mut file).map_err(from_reading))?;
    let facts = facts(&content, &mut file)?;
    let config = to_config(&content.metadata, facts)?;
    Ok(GgufModel { place, file: RefCell::new(file), content, config })
}

/// Runs code of candle that may panic over a damaged file.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result,
        Err(_) => Err(unsupported("the file is damaged")),
    }
}

fn facts(content: &Content, file: &mut BufReader<File>) -> Result<TensorFacts> {
    let embedding = content.tensor_infos.get("token_embd.weight");
    let vocabulary = match embedding.map(|t| t.shape.dims()) {
        Some([vocabulary, _]) => *vocabulary,
        _ => return Err(unsupported("it has no embedding").in_tensor("token_embd.weight")),
    };
    let divisors = match content.tensor_infos.contains_key(DIVISORS) {
        false => None,
        true => Some(guarded(|| {
            let values = content.tensor(file, DIVISORS, &Device::Cpu);
            let values = values.and_then(|t| t.dequantize(&Device::Cpu));
            let values = values.and_then(|t| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1());
            values.map_err(|e| from_reading(e).in_tensor(DIVISORS))
        })?),
    };
    let tied = !content.tensor_infos.contains_key("output.weight");
    Ok(TensorFacts { vocabulary, tied, divisors })
}

/// Parameters that come from a GGUF file, by the names that the models' own files have.
struct GgufParameters<'a> {
    model: &'a GgufModel,
    /// Names in the file of the tensors that were asked for.
    used: RefCell<BTreeSet<String>>,
}

impl GgufParameters<'_> {
    fn name(&self, name: &str) -> Option<String> {
        let name = gguf_name(self.model.config.architecture, name)?;
        self.model.content.tensor_infos.contains_key(&name).then_some(name)
    }

    /// Reads a tensor of that shape.
    fn read(&self, own_name: &str, shape: &[usize]) -> Result<QTensor> {
        let Some(name) = self.name(own_name) else {
            let message = "the file has no such tensor, which its architecture asks for";
            return Err(Error::new(ErrorKind::NotFound, message).in_tensor(own_name));
        };
        let infos = &self.model.content.tensor_infos;
        let has = infos.get(&name).map_or(&[][..], |info| info.shape.dims());
        if has != shape {
            let message = format!("its shape is {has:?}, and the metadata ask for {shape:?}");
            return Err(unsupported(message).in_tensor(name));
        }
        self.used.borrow_mut().insert(name.clone());
        let mut file = self.model.file.borrow_mut();
        let mut read = || self.model.content.tensor(&mut *file, &name, &Device::Cpu);
        guarded(|| read().map_err(from_reading)).map_err(|e| e.in_tensor(name.clone()))
    }
}

impl Parameters for GgufParameters<'_> {
    fn has(&self, name: &str) -> bool {
        self.name(name).is_some()
    }

    fn matrix(&self, spec: MatrixSpec<'_>) -> Result<Matrix> {
        // All matrices have outputs first in such files.
        let weights = self.read(spec.name, &[spec.outputs, spec.inputs])?;
        quantised(weights).map_err(|e| from_candle(e).in_tensor(spec.name))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f64>> {
        let values = self.read(name, &[len])?.dequantize(&Device::Cpu);
        let values = values.and_then(|t| t.to_dtype(DType::F64)?.to_vec1());
        values.map_err(|e| from_candle(e).in_tensor(name))
    }

    fn compute(&self) -> DType {
        DType::F32
    }

    fn neighbours_turn(&self) -> bool {
        self.model.config.architecture == Architecture::Llama
    }
}
