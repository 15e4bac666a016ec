//! Opens what a request names.

use super::chosen::{Chosen, INDEX, WeightFile};
use super::request::ModelRef;
use sparse::{Checkpoint, CurrentPool, Delta, DeltaModel, Model, RestoredFile};
use sparse_container::{EntryKind, Index};
use sparse_core::{CancelToken, Error, ErrorKind, Result, TensorSource};
use sparse_eval::{GgufModel, LanguageModel, ModelConfig, Tokenizer, Weights};
use sparse_model::FileKind;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Longest `config.json` or `tokenizer.json`, in bytes.
const LONGEST: u64 = 256 << 20;
/// Memory for decoded chunks of a delta, in bytes. Each tensor is read once; this keeps the chunks
/// that small tensors share.
const CACHE: u64 = 64 << 20;

/// A model that is open, but not loaded.
pub(super) struct Opened {
    tensors: Tensors,
    config: ModelConfig,
    tokenizer: Option<Vec<u8>>,
    weights: Option<String>,
}

enum Tensors {
    Source(Box<dyn TensorSource>),
    Gguf(Box<GgufModel>),
}

impl Opened {
    /// Opens a model.
    ///
    /// # Errors
    /// `InvalidArgument` when the reference names no model, or two; what opening reports.
    pub(super) fn open(model: &ModelRef, cancel: &CancelToken) -> Result<Opened> {
        let (tensors, config, tokenizer) = match (&model.base, &model.delta, &model.gguf) {
            (Some(base), None, None) => from_folder(base, model)?,
            (Some(base), Some(delta), None) => from_delta(base, delta, model, cancel)?,
            (None, None, Some(gguf)) => from_gguf(gguf, model)?,
            _ => {
                return Err(Error::invalid_argument(
                    "a model is {\"base\": …}, with a \"delta\" or without, or {\"gguf\": …}",
                ));
            }
        };
        Ok(Opened { tensors, config, tokenizer, weights: model.weights.clone() })
    }

    /// Loads the model. `weights` names their form, if the reference does not.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such form; as [`LanguageModel::load`].
    pub(super) fn load(&self, weights: Option<&str>) -> Result<LanguageModel> {
        let named = self.weights.as_deref().or(weights);
        let weights = named.map_or(Ok(Weights::AsStored), Weights::parse)?;
        match &self.tensors {
            Tensors::Source(source) => LanguageModel::load(&**source, self.config.clone(), weights),
            Tensors::Gguf(model) if weights == Weights::AsStored => model.load(),
            Tensors::Gguf(_) => Err(Error::invalid_argument(
                "the weights of a GGUF file stay as they are: leave \"weights\" out",
            )),
        }
    }

    /// Returns the tensors, which a GGUF file does not give.
    pub(super) fn source(&self) -> Result<&dyn TensorSource> {
        match &self.tensors {
            Tensors::Source(source) => Ok(&**source),
            Tensors::Gguf(_) => {
                Err(Error::invalid_argument("a GGUF file is quantised already: name its origin"))
            }
        }
    }

    /// Checks that nobody has changed the files meanwhile.
    ///
    /// # Errors
    /// `InvalidInput`, with the file. A GGUF file is read as a whole before it is used, and not
    /// checked.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        match &self.tensors {
            Tensors::Source(source) => source.check_unchanged(),
            Tensors::Gguf(_) => Ok(()),
        }
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(super) fn tokenizer_json(&self) -> Option<&[u8]> {
        self.tokenizer.as_deref()
    }

    /// Returns the model's tokenizer.
    ///
    /// # Errors
    /// `NotFound` when it has none; `InvalidInput` when it is none.
    pub(super) fn tokenizer(&self) -> Result<Tokenizer> {
        let Some(json) = self.tokenizer_json() else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the model has no tokenizer.json, which reading a text takes",
            ));
        };
        Tokenizer::parse(json).map_err(|e| e.in_file("tokenizer.json"))
    }
}

type Parts = (Tensors, ModelConfig, Option<Vec<u8>>);

fn from_folder(base: &Path, model: &ModelRef) -> Result<Parts> {
    let opened = Model::open(base)?;
    let own = |name: &str| file_of(&opened, name);
    let (config, tokenizer) = files(model, own).map_err(|e| e.in_file(opened.name()))?;
    let index = file_of(&opened, INDEX)?;
    let weights = weight_files(&opened);
    let chosen = Chosen::new(opened, weights, |_| Ok(index.clone()))?;
    Ok((Tensors::Source(Box::new(chosen)), config, tokenizer))
}

fn from_delta(base: &Path, delta: &Path, model: &ModelRef, cancel: &CancelToken) -> Result<Parts> {
    let base: Arc<Model> = Arc::new(Model::open(base)?);
    let delta = Arc::new(Delta::open(delta)?);
    let restored = |name: &str| match RestoredFile::open(&delta, &*base, name) {
        Ok(mut file) => {
            check_len(name, file.byte_len())?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)
                .map_err(|e| Error::io("cannot restore", e).in_file(name))?;
            Ok(Some(bytes))
        }
        // A delta of a single file has no others, and the base's are meant.
        Err(e) if e.kind() == ErrorKind::NotFound => file_of(&base, name),
        Err(e) => Err(e),
    };
    let (config, tokenizer) = files(model, restored)?;
    let weights = restored_files(delta.index());
    let joined = DeltaModel::new(Some(base.clone()), delta.clone())?
        .with_cache_budget(CACHE)
        .with_executor(Arc::new(CurrentPool))
        .with_cancel(cancel.clone());
    let chosen = Chosen::new(joined, weights, restored)?;
    Ok((Tensors::Source(Box::new(chosen)), config, tokenizer))
}

/// Returns the files with tensors of a model on disk.
fn weight_files(model: &Model) -> Vec<WeightFile> {
    let name = |index: &usize| model.location(*index).map(|at| at.name.to_owned());
    let files = model.files().iter().filter_map(|file| match &file.kind {
        FileKind::Safetensors { tensors, .. } => {
            let names = tensors.iter().filter_map(name).collect();
            Some(WeightFile { path: file.path.clone(), names })
        }
        _ => None,
    });
    files.collect()
}

/// Returns the files with tensors that a delta restores.
fn restored_files(index: &Index) -> Vec<WeightFile> {
    let name = |part: &u32| {
        let entry = index.entries.get(usize::try_from(*part).ok()?)?;
        (entry.kind == EntryKind::Tensor).then(|| entry.name.clone())
    };
    let files = index.files.iter().map(|file| {
        let names: BTreeSet<String> = file.parts.iter().filter_map(name).collect();
        WeightFile { path: file.path.clone(), names: names.into_iter().collect() }
    });
    files.filter(|file| !file.names.is_empty()).collect()
}

fn from_gguf(path: &Path, model: &ModelRef) -> Result<Parts> {
    if model.config.is_some() {
        return Err(Error::invalid_argument(
            "a GGUF file has its configuration: leave \"config\" out",
        ));
    }
    let opened = GgufModel::open(path)?;
    let tokenizer = match &model.tokenizer {
        Some(path) => Some(read(path)?),
        None => opened.tokenizer().map(<[u8]>::to_vec),
    };
    let config = opened.config().clone();
    Ok((Tensors::Gguf(Box::new(opened)), config, tokenizer))
}

/// Returns configuration and tokenizer: the files that the reference names, or else the model's
/// own, which `own` reads.
fn files(
    model: &ModelRef,
    own: impl Fn(&str) -> Result<Option<Vec<u8>>>,
) -> Result<(ModelConfig, Option<Vec<u8>>)> {
    let file = |named: Option<&Path>, name: &str| match named {
        Some(path) => read(path).map(Some),
        None => own(name),
    };
    let Some(json) = file(model.config.as_deref(), "config.json")? else {
        return Err(Error::new(
            ErrorKind::NotFound,
            "the model has no config.json, which says how it is computed: name one (\"config\")",
        ));
    };
    let config = ModelConfig::parse(&json).map_err(|e| e.in_file("config.json"))?;
    Ok((config, file(model.tokenizer.as_deref(), "tokenizer.json")?))
}

/// Reads a file of a model's folder, if it is there.
fn file_of(model: &Model, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(index) = model.files().iter().position(|file| file.path == name) else {
        return Ok(None);
    };
    let source = model.file_source(index)?;
    check_len(name, source.byte_len())?;
    let len = usize::try_from(source.byte_len()).unwrap_or(usize::MAX);
    source.bytes_at(0, len).map(|bytes| Some(bytes.into_owned())).map_err(|e| e.in_file(name))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let place = || path.display().to_string();
    let error = |e| Error::io("cannot read", e).in_file(place());
    check_len(&place(), std::fs::metadata(path).map_err(error)?.len())?;
    std::fs::read(path).map_err(error)
}

fn check_len(name: &str, len: u64) -> Result<()> {
    if len > LONGEST {
        let message = format!("it has {len} bytes, and at most {LONGEST} are read");
        return Err(Error::new(ErrorKind::LimitExceeded, message).in_file(name));
    }
    Ok(())
}
