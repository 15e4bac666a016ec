//! PEFT adapters: LoRA in the folder layout of Hugging Face's `peft`.
//!
//! A folder holds `adapter_config.json` and `adapter_model.safetensors`. What the merge of an
//! adapter into its base adds to each weight follows from the two, as in `peft.tuners.lora`
//! (version 0.21): see [`AdapterModule`].

mod config;
mod fault;
#[cfg(test)]
mod tests;
mod widen;

pub use config::AdapterConfig;

use crate::{Checkpoint, FileKind, Model};
use fault::Fault;
use sparse_core::{Dtype, Error, ErrorKind, Result, TensorSource, TensorSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file that says how the adapter is to be applied.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Name of the file that holds the adapter's tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// Prefix that PEFT puts in front of the paths of the model's modules.
const PREFIX: &str = "base_model.model.";

/// Kind of an adapted module.
///
/// # Examples
///
/// ```
/// use sparse_model::AdapterKind;
///
/// /// Returns the name of one factor's tensor.
/// fn tensor(module: &str, kind: AdapterKind, factor: char) -> String {
///     match kind {
///         AdapterKind::Embedding => format!("{module}.lora_embedding_{factor}"),
///         _ => format!("{module}.lora_{factor}.weight"),
///     }
/// }
///
/// assert_eq!(tensor("q", AdapterKind::Linear, 'A'), "q.lora_A.weight");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A linear or convolutional layer.
    Linear,
    /// An embedding.
    Embedding,
}

/// Adapted weight: its factors, scale and shape.
///
/// With `A` of shape `[rank, in]` and `B` of `[out, rank]` (further dimensions of a convolution's
/// `A` belong to `in`, those of `B` are one), merging adds `scale * B A` to the weight, or `scale *
/// (B A)^T` if it is [`transposed`](Self::transposed).
///
/// # Examples
///
/// ```
/// use sparse_model::{Adapter, AdapterModule};
///
/// /// Says what merging adds to which weight.
/// fn describe(module: &AdapterModule) -> String {
///     let AdapterModule { path, rank, rows, columns, .. } = module;
///     format!("{path}.weight: rank {rank} to {rows} x {columns}")
/// }
/// # use safetensors::{Dtype, serialize, tensor::TensorView};
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 8}"#;
/// # std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
/// # let matrix = |shape| TensorView::new(Dtype::F32, shape, &[0; 24]).unwrap();
/// # let [a, b] = [matrix(vec![2, 3]), matrix(vec![3, 2])];
/// # let weights = serialize([("q.lora_A.weight", a), ("q.lora_B.weight", b)], None).unwrap();
/// # std::fs::write(folder.path().join("adapter_model.safetensors"), weights).unwrap();
///
/// let adapter = Adapter::open(folder.path())?;
/// assert_eq!(describe(&adapter.modules()[0]), "q.weight: rank 2 to 3 x 3");
/// assert_eq!(adapter.modules()[0].scale, 8.0 / 2.0);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdapterModule {
    /// Path of the module in the base model; its weight is called `<path>.weight`.
    pub path: String,
    /// Kind of the module.
    pub kind: AdapterKind,
    /// The tensor `A`, an index into the tensors of [`Adapter::model`].
    pub a: usize,
    /// The tensor `B`.
    pub b: usize,
    /// The bias of `B`, with which a merge changes the module's bias as well (`lora_bias`).
    pub bias: Option<usize>,
    /// The magnitude vector of DoRA, with which the merged weight is not a sum of base and product.
    pub magnitude: Option<usize>,
    /// Number of rows of `A` and columns of `B`.
    pub rank: u64,
    /// Factor of the product: `alpha / rank`, or `alpha / sqrt(rank)`.
    pub scale: f64,
    /// Whether the weight is stored as `[in, out]`.
    pub transposed: bool,
    /// Rows of the weight, as a matrix of its first dimension and all others.
    pub rows: u64,
    /// Columns of the weight.
    pub columns: u64,
}

/// Factors of a module's change, in binary32: `scale * left right` is added to the weight.
///
/// # Examples
///
/// ```
/// use sparse_model::AdapterFactors;
///
/// /// Returns what merging adds to one weight.
/// fn change(factors: &AdapterFactors, row: usize, column: usize) -> f64 {
///     let columns = factors.right.len() / factors.rank;
///     let left = &factors.left[row * factors.rank..][..factors.rank];
///     let right = factors.right.iter().skip(column).step_by(columns);
///     factors.scale * f64::from(left.iter().zip(right).map(|(l, r)| l * r).sum::<f32>())
/// }
///
/// let mut factors = AdapterFactors::default();
/// (factors.rank, factors.scale) = (1, 2.0);
/// (factors.left, factors.right) = (vec![1.0, 3.0], vec![0.5, 0.25]);
/// assert_eq!(change(&factors, 1, 0), 3.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AdapterFactors {
    /// Number of columns of `left` and rows of `right`.
    pub rank: usize,
    /// Row by row, `rank` numbers each.
    pub left: Vec<f32>,
    /// Row by row, as many numbers each as the weight has columns.
    pub right: Vec<f32>,
    /// See [`AdapterModule::scale`].
    pub scale: f64,
}

/// Adapter on disk, opened for reading.
///
/// # Examples
///
/// ```no_run
/// use sparse_model::Adapter;
///
/// let adapter = Adapter::open("my-lora")?;
/// for module in adapter.modules() {
///     println!("{}: rank {}", module.path, module.rank);
/// }
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Adapter {
    model: Model,
    config: AdapterConfig,
    modules: Vec<AdapterModule>,
    rest: Vec<usize>,
}

/// Tensors of one module.
#[derive(Default)]
struct Parts {
    a: Option<usize>,
    b: Option<usize>,
    bias: Option<usize>,
}

impl Adapter {
    /// Opens the folder of an adapter.
    ///
    /// # Errors
    /// `NotFound` when the folder or one of its two files is missing; `InvalidInput` when they are
    /// malformed, the adapter is no LoRA, or a module lacks one of its factors; what
    /// [`Model::open`] reports.
    pub fn open(folder: impl AsRef<Path>) -> Result<Adapter> {
        let folder = folder.as_ref();
        let place = || folder.display().to_string();
        if !folder.is_dir() {
            let found = if folder.exists() { "is not a folder" } else { "does not exist" };
            let message = format!("{found}: an adapter is a folder with {ADAPTER_CONFIG}");
            return Err(Error::new(ErrorKind::NotFound, message).in_file(place()));
        }
        Adapter::from_model(Model::open(folder)?).map_err(|e| e.in_file(place()))
    }

    /// Takes the adapter from a folder that is open already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_model(model: Model) -> Result<Adapter> {
        let file = |name: &str| model.files().iter().position(|f| f.path == name);
        let missing = |name| Error::new(ErrorKind::NotFound, format!("the folder has no {name}"));
        let config_file = file(ADAPTER_CONFIG).ok_or_else(|| missing(ADAPTER_CONFIG))?;
        let config = AdapterConfig::read(model.file_source(config_file)?)
            .map_err(|e| e.in_file(ADAPTER_CONFIG))?;
        let weights = file(ADAPTER_WEIGHTS).ok_or_else(|| match file("adapter_model.bin") {
            Some(_) => Fault::Pickle.into(),
            None => missing(ADAPTER_WEIGHTS),
        })?;
        let FileKind::Safetensors { tensors, .. } = &model.files()[weights].kind else {
            return Err(Fault::NotSafetensors.into());
        };
        let mut parts: BTreeMap<(&str, AdapterKind), Parts> = BTreeMap::new();
        let mut magnitudes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rest = Vec::new();
        for &tensor in tensors {
            let name = model.location(tensor).map_or("", |l| l.name);
            let Some((path, kind, part)) = split_name(name) else {
                rest.push(tensor);
                continue;
            };
            let other = match part {
                // The embedding's has the same name.
                Part::Magnitude => magnitudes.insert(path, tensor),
                Part::A => parts.entry((path, kind)).or_default().a.replace(tensor),
                Part::B => parts.entry((path, kind)).or_default().b.replace(tensor),
                Part::Bias => parts.entry((path, kind)).or_default().bias.replace(tensor),
            };
            if let Some(other) = other {
                let other = model.location(other).map_or("", |l| l.name);
                let fault = Fault::SamePart(other.to_owned(), name.to_owned());
                return Err(Error::from(fault).in_file(ADAPTER_WEIGHTS));
            }
        }
        let mut modules = Vec::with_capacity(parts.len());
        for ((path, kind), parts) in &parts {
            let mut module =
                module(&model, &config, path, *kind, parts).map_err(|e| e.in_tensor(*path))?;
            module.magnitude = magnitudes.remove(path);
            modules.push(module);
        }
        rest.extend(magnitudes.into_values());
        rest.sort_unstable();
        Ok(Adapter { model, config, modules, rest })
    }

    /// Returns the contents of `adapter_config.json`.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Returns the folder: files and tensors.
    ///
    /// Some may lie in further files and not belong to the adapter.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the adapted weights, sorted by path.
    pub fn modules(&self) -> &[AdapterModule] {
        &self.modules
    }

    /// Returns the adapter's tensors that are no part of a module.
    ///
    /// Modules that were trained whole beside it (`modules_to_save`) are among them.
    pub fn rest(&self) -> &[usize] {
        &self.rest
    }

    /// Returns the module that adapts the weight of this name, if the shape fits.
    ///
    /// Checkpoints and classes of models disagree about prefixes (`model.`, `bert.`), so where no
    /// module has the path exactly, one whose path ends the weight's, or is ended by it, is taken
    /// if there is only one.
    pub fn find(&self, weight: &str, spec: &TensorSpec) -> Option<&AdapterModule> {
        let path = weight.strip_suffix(".weight")?;
        let rows = spec.shape().first().copied().unwrap_or(1);
        let fits = |m: &&AdapterModule| {
            m.rows == rows && rows.checked_mul(m.columns).is_some_and(|n| n == spec.storage_len())
        };
        let exact = self.modules.iter().find(|m| m.path == path);
        if exact.is_some() {
            return exact.filter(fits);
        }
        let tail = |long: &str, short: &str| {
            long.strip_suffix(short).is_some_and(|head| head.ends_with('.')) && !short.is_empty()
        };
        let mut similar =
            self.modules.iter().filter(|m| tail(path, &m.path) || tail(&m.path, path)).filter(fits);
        similar.next().filter(|_| similar.next().is_none())
    }

    /// Reads the factors of a module, in binary32.
    ///
    /// # Errors
    /// What reading reports, with the tensor; `LimitExceeded` for more than memory can address.
    pub fn factors(&self, module: &AdapterModule) -> Result<AdapterFactors> {
        let read = |tensor: usize| -> Result<Vec<f32>> {
            let entry = self.model.tensors().get(tensor);
            let dtype = entry.map_or(Dtype::F32, |e| e.spec.dtype());
            let bytes = self.model.bytes(tensor)?;
            widen::to_f32(dtype, &bytes)
                .map_err(|e| e.in_tensor(entry.map_or("", |e| &e.name)).in_file(ADAPTER_WEIGHTS))
        };
        let (a, b) = (read(module.a)?, read(module.b)?);
        let rank = usize::try_from(module.rank).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "the rank exceeds the address space")
        })?;
        let (left, right) = if module.transposed {
            (transpose(&a, rank), transpose_back(&b, rank))
        } else {
            (b, a)
        };
        Ok(AdapterFactors { rank, left, right, scale: module.scale })
    }
}

/// Transposes `rank` rows to rows of `rank`.
fn transpose(rows: &[f32], rank: usize) -> Vec<f32> {
    let n = rows.len().checked_div(rank).unwrap_or(0);
    (0..n).flat_map(|i| rows.iter().skip(i).step_by(n).copied()).collect()
}

/// Transposes rows of `rank` to `rank` rows.
fn transpose_back(rows: &[f32], rank: usize) -> Vec<f32> {
    (0..rank).flat_map(|k| rows.iter().skip(k).step_by(rank).copied()).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    A,
    B,
    Bias,
    Magnitude,
}

/// Splits a tensor's name into module, kind and part.
///
/// Names are as PEFT saves them, or with the name of the adapter behind the part, as in its memory
/// (`lora_A.default.weight`).
fn split_name(name: &str) -> Option<(&str, AdapterKind, Part)> {
    const PARTS: [(&str, AdapterKind, Part); 5] = [
        (".lora_A", AdapterKind::Linear, Part::A),
        (".lora_B", AdapterKind::Linear, Part::B),
        (".lora_embedding_A", AdapterKind::Embedding, Part::A),
        (".lora_embedding_B", AdapterKind::Embedding, Part::B),
        (".lora_magnitude_vector", AdapterKind::Linear, Part::Magnitude),
    ];
    let path = name.strip_prefix(PREFIX).unwrap_or(name);
    PARTS.iter().find_map(|&(word, kind, part)| {
        let at = path.rfind(word)?;
        let (path, tail) = (path.get(..at)?, path.get(at + word.len()..)?);
        let ends = tail.split('.').skip(1);
        if !tail.is_empty() && !tail.starts_with('.') {
            return None;
        }
        // Perhaps the name of the adapter, then perhaps what it is.
        let last = ends.clone().last();
        if ends.count() > 2 {
            return None;
        }
        match (last, part) {
            (Some("bias"), Part::B) => Some((path, kind, Part::Bias)),
            (Some("bias"), _) => None,
            _ => Some((path, kind, part)),
        }
    })
}

fn module(
    model: &Model,
    config: &AdapterConfig,
    path: &str,
    kind: AdapterKind,
    parts: &Parts,
) -> Result<AdapterModule> {
    let a = parts.a.ok_or(Fault::NoFactor('A'))?;
    let b = parts.b.ok_or(Fault::NoFactor('B'))?;
    let spec = |tensor: usize| model.tensors().get(tensor).map(|e| &e.spec);
    let shape = |tensor: usize| spec(tensor).map_or(&[][..], TensorSpec::shape);
    let (Some(&rank), Some(&out)) = (shape(a).first(), shape(b).first()) else {
        return Err(Fault::NoMatrices.into());
    };
    // Dimensions were checked when the header was read: their product is that of the bytes.
    let inner: u64 = shape(a)[1..].iter().product();
    let of_b: u64 = shape(b)[1..].iter().product();
    if shape(a).len() < 2 || rank == 0 || of_b != rank {
        return Err(Fault::Ranks(shape(a).to_vec(), shape(b).to_vec()).into());
    }
    for tensor in [a, b] {
        if let Some(dtype) = spec(tensor).map(TensorSpec::dtype).filter(|&d| !widen::is_float(d)) {
            return Err(Fault::Factors(dtype).into());
        }
    }
    let transposed = config.fan_in_fan_out || kind == AdapterKind::Embedding;
    let (rows, columns) = if transposed { (inner, out) } else { (out, inner) };
    let scale = config.scale(path, rank)?;
    Ok(AdapterModule {
        path: path.to_owned(),
        kind,
        a,
        b,
        bias: parts.bias,
        magnitude: None,
        rank,
        scale,
        transposed,
        rows,
        columns,
    })
}
