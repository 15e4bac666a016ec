//! PEFT adapters: LoRA in the folder layout of Hugging Face's `peft`.
//!
//! A folder holds `adapter_config.json` and `adapter_model.safetensors`. What the merge of an
//! adapter into its base adds to each weight follows from the two, as in `peft.tuners.lora`
//! (version 0.21): see [`AdapterModule`]. Adapters of other kinds are opened, too:
//! [`Adapter::check`] says why they are not merged here.

mod config;
mod fault;
mod kind;
mod loose;
mod names;
#[cfg(test)]
mod tests;
mod widen;

pub use config::AdapterConfig;
pub use kind::AdapterKind;

use crate::{Checkpoint, FileKind, Model};
use fault::Fault;
use names::{Part, Place, place_of};
use sparse_core::{Dtype, Error, ErrorKind, Result, TensorSource, TensorSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file that says how the adapter is to be applied.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Name of the file that holds the adapter's tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

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
    /// Number of adapted parameters of the module that this one lies around: above zero only where
    /// several [parameters](AdapterConfig::target_parameters) of one module are adapted.
    pub wraps: u32,
    /// Number of rows of `A` and columns of `B`; of fused experts, that of all of them.
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

impl AdapterModule {
    /// Returns the module as it is to be merged into a weight of this shape.
    ///
    /// The shape decides whether the weight is stored as `[in, out]`; of square ones, `in_out`, and
    /// if that is not known the configuration. PEFT, too, goes by the layer's class, whatever the
    /// configuration says.
    #[must_use]
    pub fn placed_in(&self, spec: &TensorSpec, in_out: Option<bool>) -> AdapterModule {
        let (out, inner) = self.out_and_in();
        let transposed = match (self.kind, spec.shape()) {
            (AdapterKind::Embedding, _) => true,
            (_, &[rows, _]) if out != inner => rows == inner,
            (_, [_, _]) => in_out.unwrap_or(self.transposed),
            _ => false,
        };
        let (rows, columns) = if transposed { (inner, out) } else { (out, inner) };
        AdapterModule { transposed, rows, columns, ..self.clone() }
    }

    fn out_and_in(&self) -> (u64, u64) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// Returns true if the product has the shape of this weight, one way round or the other.
    fn fits(&self, spec: &TensorSpec) -> bool {
        let (out, inner) = self.out_and_in();
        let is = |rows: u64, columns: u64| {
            spec.shape().first() == Some(&rows)
                && rows.checked_mul(columns).is_some_and(|n| n == spec.storage_len())
        };
        match (self.kind, spec.shape().len()) {
            (AdapterKind::Embedding, _) => is(inner, out),
            (_, 2) => is(out, inner) || is(inner, out),
            _ => is(out, inner),
        }
    }
}

/// Rows of a weight that an adapter replaces.
///
/// # Examples
///
/// ```
/// use sparse_model::adapter::AdapterRows;
///
/// /// Returns the name of the weight.
/// fn weight(rows: &AdapterRows) -> String {
///     format!("{}.weight", rows.path)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterRows {
    /// Path of the module in the base model; its weight is called `<path>.weight`.
    pub path: String,
    /// The tensor with the new rows, an index into the tensors of [`Adapter::model`].
    pub tensor: usize,
    /// The row of the weight that each of its rows replaces.
    pub rows: Vec<u64>,
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
    contents: Contents,
    /// Why it is not merged.
    obstacle: Option<String>,
}

/// Tensors of an adapter by what they are for.
#[derive(Debug, Default)]
struct Contents {
    modules: Vec<AdapterModule>,
    rows: Vec<AdapterRows>,
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
    /// Opens the folder of an adapter, of any kind; or its weights, where they are all of it.
    ///
    /// # Errors
    /// `NotFound` when the folder does not exist or holds no adapter; what [`Model::open`] reports.
    pub fn open(folder: impl AsRef<Path>) -> Result<Adapter> {
        let folder = folder.as_ref();
        let place = || folder.display().to_string();
        if !folder.exists() {
            let message = format!("does not exist: an adapter is a folder with {ADAPTER_CONFIG}");
            return Err(Error::new(ErrorKind::NotFound, message).in_file(place()));
        }
        Adapter::from_model(Model::open(folder)?).map_err(|e| e.in_file(place()))
    }

    /// Takes the adapter from a folder that is open already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_model(model: Model) -> Result<Adapter> {
        let is_there = |name: &str| model.files().iter().any(|f| f.path == name);
        let of_others = model.tensors().iter().any(|t| names::is_of_others(&t.name));
        if !is_there(ADAPTER_CONFIG) && !of_others {
            let message = format!("no adapter: there is no {ADAPTER_CONFIG}");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let read = AdapterConfig::of(&model).and_then(|config| {
            let contents = Contents::of(&model, &config)?;
            Ok((config, contents))
        });
        let (config, contents, obstacle) = match read {
            Ok((config, contents)) => (config, contents, None),
            Err(_) if of_others && !is_there(ADAPTER_CONFIG) => {
                let fault = Error::from(Fault::OtherKeys).to_string();
                (AdapterConfig::default(), Contents::default(), Some(fault))
            }
            Err(e) => (AdapterConfig::default(), Contents::default(), Some(e.to_string())),
        };
        Ok(Adapter { model, config, contents, obstacle })
    }

    /// Checks that the adapter is of a kind that is merged here, and complete.
    ///
    /// # Errors
    /// `InvalidInput` with what is the matter.
    pub fn check(&self) -> Result<()> {
        match &self.obstacle {
            None => Ok(()),
            Some(obstacle) => Err(Error::new(ErrorKind::InvalidInput, obstacle.clone())),
        }
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
        &self.contents.modules
    }

    /// Returns the rows that were trained by themselves (`trainable_token_indices`).
    pub fn rows(&self) -> &[AdapterRows] {
        &self.contents.rows
    }

    /// Returns the adapter's tensors that are neither part of a module nor rows.
    ///
    /// They take the place of the base's tensor of their [name](Self::name_in_base): modules that
    /// were trained whole (`modules_to_save`), biases, embeddings that were saved beside it.
    pub fn rest(&self) -> &[usize] {
        &self.contents.rest
    }

    /// Returns the name in the base of one of [`rest`](Self::rest).
    pub fn name_in_base(&self, tensor: usize) -> Option<String> {
        match place_of(self.model.location(tensor)?.name) {
            Place::Whole(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the module that adapts the weight of this name, if the shape fits.
    ///
    /// [`AdapterModule::placed_in`] says which way round.
    ///
    /// Checkpoints and classes of models disagree about prefixes (`model.`, `bert.`), so where no
    /// module has the path exactly, one whose path ends the weight's, or is ended by it, is taken
    /// if there is only one.
    pub fn find(&self, weight: &str, spec: &TensorSpec) -> Option<&AdapterModule> {
        let path = weight.strip_suffix(".weight")?;
        let modules = || self.modules().iter().filter(|m| m.wraps == 0);
        let exact = modules().find(|m| m.path == path);
        if exact.is_some() {
            return exact.filter(|m| m.fits(spec));
        }
        let mut similar = modules().filter(|m| is_similar(path, &m.path)).filter(|m| m.fits(spec));
        similar.next().filter(|_| similar.next().is_none())
    }

    /// Reads a tensor of the adapter, in binary32.
    ///
    /// # Errors
    /// What reading reports, with the tensor; `InvalidInput` for what is no float.
    pub fn values(&self, tensor: usize) -> Result<Vec<f32>> {
        let entry = self.model.tensors().get(tensor);
        let dtype = entry.map_or(Dtype::F32, |e| e.spec.dtype());
        let bytes = self.model.bytes(tensor)?;
        widen::to_f32(dtype, &bytes)
            .map_err(|e| e.in_tensor(entry.map_or("", |e| &e.name)).in_file(ADAPTER_WEIGHTS))
    }

    /// Reads the factors of a module, in binary32.
    ///
    /// # Errors
    /// What reading reports, with the tensor; `LimitExceeded` for more than memory can address.
    pub fn factors(&self, module: &AdapterModule) -> Result<AdapterFactors> {
        let (a, b) = (self.values(module.a)?, self.values(module.b)?);
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

/// Returns true if one path ends in the other, after a dot.
fn is_similar(a: &str, b: &str) -> bool {
    let tail = |long: &str, short: &str| {
        long.strip_suffix(short).is_some_and(|head| head.ends_with('.')) && !short.is_empty()
    };
    tail(a, b) || tail(b, a)
}

impl AdapterConfig {
    /// Reads the configuration in the folder of an adapter.
    fn of(model: &Model) -> Result<AdapterConfig> {
        let file = model.files().iter().position(|f| f.path == ADAPTER_CONFIG);
        let file = file.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the folder has no {ADAPTER_CONFIG}"))
        })?;
        AdapterConfig::read(model.file_source(file)?).map_err(|e| e.in_file(ADAPTER_CONFIG))
    }
}

impl Contents {
    /// Sorts the tensors of an adapter.
    fn of(model: &Model, config: &AdapterConfig) -> Result<Contents> {
        let file = |name: &str| model.files().iter().position(|f| f.path == name);
        let weights = file(ADAPTER_WEIGHTS).ok_or_else(|| match file("adapter_model.bin") {
            Some(_) => Fault::Pickle.into(),
            None => Error::new(ErrorKind::NotFound, format!("the folder has no {ADAPTER_WEIGHTS}")),
        })?;
        let FileKind::Safetensors { tensors, .. } = &model.files()[weights].kind else {
            return Err(Fault::NotSafetensors.into());
        };
        let mut parts: BTreeMap<(String, AdapterKind, u32), Parts> = BTreeMap::new();
        let mut magnitudes: BTreeMap<String, usize> = BTreeMap::new();
        let (mut rows, mut rest) = (Vec::new(), Vec::new());
        for &tensor in tensors {
            let name = model.location(tensor).map_or("", |l| l.name);
            let (path, kind, wraps, part) = match place_of(name) {
                Place::Part { path, kind, wraps, part } => (path, kind, wraps, part),
                Place::Rows(path) => {
                    rows.push(token_rows(model, config, path, tensor)?);
                    continue;
                }
                Place::Whole(_) => {
                    rest.push(tensor);
                    continue;
                }
                Place::Before => continue,
            };
            let other = if part == Part::Magnitude {
                // The embedding's has the same name.
                magnitudes.insert(path, tensor)
            } else {
                let parts = parts.entry((path, kind, wraps)).or_default();
                let slot = match part {
                    Part::A => &mut parts.a,
                    Part::B => &mut parts.b,
                    _ => &mut parts.bias,
                };
                slot.replace(tensor)
            };
            if let Some(other) = other {
                let other = model.location(other).map_or("", |l| l.name);
                let fault = Fault::SamePart(other.to_owned(), name.to_owned());
                return Err(Error::from(fault).in_file(ADAPTER_WEIGHTS));
            }
        }
        let mut modules = Vec::with_capacity(parts.len());
        for ((path, kind, wraps), parts) in &parts {
            let mut module =
                module(model, config, path, *kind, parts).map_err(|e| e.in_tensor(&**path))?;
            module.magnitude = magnitudes.remove(path);
            module.wraps = *wraps;
            modules.push(module);
        }
        if let Some((path, _)) = magnitudes.first_key_value() {
            return Err(Error::from(Fault::NoFactor('A')).in_tensor(&**path));
        }
        if modules.is_empty() && rows.is_empty() && rest.is_empty() {
            return Err(Fault::Empty.into());
        }
        Ok(Contents { modules, rows, rest })
    }
}

/// Finds which rows of the module at `path` a tensor replaces.
fn token_rows(
    model: &Model,
    config: &AdapterConfig,
    path: String,
    tensor: usize,
) -> Result<AdapterRows> {
    let lists = &config.token_indices;
    let named = lists.iter().find(|(end, _)| *end == path || is_similar(&path, end));
    let rows = match (named, &lists[..]) {
        (Some((_, rows)), _) | (None, [(_, rows)]) => rows.clone(),
        _ => Vec::new(),
    };
    let count = model.tensors().get(tensor).and_then(|t| t.spec.shape().first().copied());
    if count != Some(rows.len() as u64) {
        return Err(Error::from(Fault::Rows).in_tensor(path));
    }
    Ok(AdapterRows { path, tensor, rows })
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
        wraps: 0,
        rank,
        scale,
        transposed,
        rows,
        columns,
    })
}
