//! Reading a base and its fine-tune into memory.
//!
//! A minimal safetensors reader, for benchmarks only: whole files in memory, so that coders are
//! timed on memory.

use sparse_core::{Dtype, Error, ErrorKind, Result, TensorSpec};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Header size up to which a safetensors file is valid.
const MAX_HEADER: usize = 100_000_000;
/// Links (text files that hold a relative path) followed before giving up.
const MAX_LINKS: usize = 8;

/// A tensor in a [`ModelFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its type and shape.
    pub spec: TensorSpec,
    /// Index of its file in [`Model::files`].
    pub file: usize,
    /// Its bytes within the file.
    pub range: Range<usize>,
}

/// A safetensors file in memory.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// File name without folder.
    pub name: String,
    /// All bytes, header included.
    pub bytes: Vec<u8>,
    /// Place where the header ends and tensor data begin.
    pub data_start: usize,
}

/// A model in memory: one or several safetensors files.
#[derive(Clone, Debug, Default)]
pub struct Model {
    files: Vec<ModelFile>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

/// A base and a fine-tune of it.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// The base.
    pub base: Model,
    /// The fine-tune, which coders compress.
    pub target: Model,
    /// Paths of base and fine-tune, links resolved. `None` if they were made in memory.
    pub paths: Option<[PathBuf; 2]>,
}

/// Content of a safetensors header.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// Place where tensor data begin.
    pub data_start: usize,
    /// The tensors in order of their bytes; every `file` is 0.
    pub tensors: Vec<Tensor>,
    /// The `__metadata__` object as JSON text, if there is one.
    pub metadata: Option<String>,
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl Header {
    /// Parse the header at the front of `bytes`, which belong to a file of `file_len` bytes.
    ///
    /// # Errors
    /// `InvalidInput` when it is malformed, or when the tensors do not fill the file exactly.
    pub fn parse(bytes: &[u8], file_len: usize) -> Result<Header> {
        let len = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
        let len = len
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n <= MAX_HEADER)
            .ok_or_else(|| invalid("no safetensors header"))?;
        let text = bytes.get(8..8 + len).ok_or_else(|| invalid("the header ends early"))?;
        let json: serde_json::Value = serde_json::from_slice(text)
            .map_err(|e| invalid("the header is not JSON").with_source(e))?;
        let object = json.as_object().ok_or_else(|| invalid("the header is not an object"))?;
        let mut header = Header { data_start: 8 + len, ..Header::default() };
        for (name, value) in object {
            if name == "__metadata__" {
                header.metadata = Some(value.to_string());
                continue;
            }
            header
                .tensors
                .push(tensor(name, value, 8 + len).map_err(|e| e.in_tensor(name.as_str()))?);
        }
        header.tensors.sort_by_key(|t| (t.range.start, t.range.end));
        let mut at = header.data_start;
        for t in &header.tensors {
            if t.range.start != at {
                return Err(invalid("tensors overlap or leave a gap").in_tensor(t.name.as_str()));
            }
            at = t.range.end;
        }
        if at != file_len {
            return Err(invalid(format!("tensors end at byte {at} of {file_len}")));
        }
        Ok(header)
    }
}

fn tensor(name: &str, value: &serde_json::Value, data_start: usize) -> Result<Tensor> {
    let dtype = value.get("dtype").and_then(|v| v.as_str()).and_then(Dtype::from_name);
    let dtype = dtype.ok_or_else(|| invalid("unknown dtype"))?;
    let numbers = |key: &str| -> Option<Vec<u64>> {
        value.get(key)?.as_array()?.iter().map(serde_json::Value::as_u64).collect()
    };
    let shape = numbers("shape").ok_or_else(|| invalid("no shape"))?;
    let spec = TensorSpec::new(dtype, shape)?;
    let offsets = numbers("data_offsets").ok_or_else(|| invalid("no data_offsets"))?;
    let &[start, end] = offsets.as_slice() else {
        return Err(invalid("data_offsets are not two numbers"));
    };
    if end.checked_sub(start) != Some(spec.byte_len()) {
        return Err(invalid("data_offsets contradict the shape"));
    }
    let absolute = |n: u64| usize::try_from(n).ok().and_then(|n| n.checked_add(data_start));
    match (absolute(start), absolute(end)) {
        (Some(start), Some(end)) => {
            Ok(Tensor { name: name.to_owned(), spec, file: 0, range: start..end })
        }
        _ => Err(invalid("data_offsets overflow")),
    }
}

impl Model {
    /// Read a folder in Hugging Face layout, a single safetensors file, or a text file that holds
    /// the relative path of either.
    ///
    /// # Errors
    /// `NotFound`, `Io`, or `InvalidInput` when a file is malformed or a tensor is there twice.
    pub fn load(path: &Path) -> Result<Model> {
        let path = resolve(path)?;
        let mut files = Vec::new();
        for file in weight_files(&path)? {
            let bytes = std::fs::read(&file)
                .map_err(|e| Error::io("cannot read", e).in_file(show(&file)))?;
            files.push((file_name(&file), bytes));
        }
        Model::from_files(files)
    }

    /// A model from safetensors files in memory, given by name and content.
    ///
    /// # Errors
    /// As [`load`](Self::load), of malformed files.
    pub fn from_files(files: Vec<(String, Vec<u8>)>) -> Result<Model> {
        let mut model = Model::default();
        for (index, (name, bytes)) in files.into_iter().enumerate() {
            let header =
                Header::parse(&bytes, bytes.len()).map_err(|e| e.in_file(name.as_str()))?;
            for t in header.tensors {
                if model.by_name.insert(t.name.clone(), model.tensors.len()).is_some() {
                    return Err(invalid("the tensor is there twice")
                        .in_tensor(t.name)
                        .in_file(name));
                }
                model.tensors.push(Tensor { file: index, ..t });
            }
            model.files.push(ModelFile { name, bytes, data_start: header.data_start });
        }
        Ok(model)
    }

    /// The files.
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// The tensors, in order of file and offset.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).and_then(|&i| self.tensors.get(i))
    }

    /// The bytes of `tensor`, which must be of this model (else nothing).
    pub fn bytes(&self, tensor: &Tensor) -> &[u8] {
        self.files
            .get(tensor.file)
            .and_then(|f| f.bytes.get(tensor.range.clone()))
            .unwrap_or_default()
    }

    /// Returns the bytes of the tensor of this name, type and shape, the counterpart for a delta.
    pub fn counterpart(&self, name: &str, spec: &TensorSpec) -> Option<&[u8]> {
        self.find(name).filter(|t| t.spec == *spec).map(|t| self.bytes(t))
    }

    /// Bytes of all files, headers included.
    pub fn byte_len(&self) -> u64 {
        self.files.iter().map(|f| f.bytes.len() as u64).sum()
    }
}

impl Pair {
    /// Read both models, see [`Model::load`].
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load(base: &Path, target: &Path) -> Result<Pair> {
        let paths = [resolve(base)?, resolve(target)?];
        Ok(Pair {
            base: Model::load(&paths[0])?,
            target: Model::load(&paths[1])?,
            paths: Some(paths),
        })
    }
}

/// Follow a text file that holds a relative path, as archives use in place of a symbolic link.
///
/// # Errors
/// `NotFound` when there is nothing, `Io`, `InvalidInput` when links go round in circles.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let meta = std::fs::metadata(&path)
            .map_err(|e| Error::io("cannot open", e).in_file(show(&path)))?;
        if meta.is_dir()
            || path.extension().is_some_and(|e| e == "safetensors")
            || meta.len() > 4096
        {
            return Ok(path);
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::io("cannot read", e).in_file(show(&path)))?;
        path = path.parent().unwrap_or(Path::new("")).join(text.trim());
    }
    Err(invalid("too many links").in_file(show(&path)))
}

/// The safetensors files of a resolved path: the file itself, those that the folder's index names,
/// or else all of the folder; sorted by name.
///
/// # Errors
/// `NotFound` when there are none, `Io`, `InvalidInput` when the index is malformed.
pub fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut names = BTreeSet::new();
    let index = path.join("model.safetensors.index.json");
    if index.is_file() {
        let bytes =
            std::fs::read(&index).map_err(|e| Error::io("cannot read", e).in_file(show(&index)))?;
        let json: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|e| invalid("the index is not JSON").with_source(e).in_file(show(&index)))?;
        let map = json.get("weight_map").and_then(|m| m.as_object());
        let map =
            map.ok_or_else(|| invalid("the index has no weight_map").in_file(show(&index)))?;
        for file in map.values() {
            let name = file.as_str().filter(|n| !n.contains(['/', '\\']) && *n != "..");
            names.insert(
                name.ok_or_else(|| invalid("bad file name").in_file(show(&index)))?.to_owned(),
            );
        }
    } else {
        let entries =
            std::fs::read_dir(path).map_err(|e| Error::io("cannot list", e).in_file(show(path)))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("cannot list", e).in_file(show(path)))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".safetensors") {
                names.insert(name);
            }
        }
    }
    if names.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "no safetensors files").in_file(show(path)));
    }
    Ok(names.into_iter().map(|n| path.join(n)).collect())
}

/// A path for people.
pub fn show(path: &Path) -> String {
    path.display().to_string()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The front of a safetensors file: length and header, for tensors laid end to end in this order.
///
/// Written as the reference library does: `__metadata__` first, no blanks, padded to a multiple of
/// eight bytes. `metadata` is JSON text.
pub fn header_bytes<'a>(
    metadata: Option<&str>,
    tensors: impl IntoIterator<Item = (&'a str, &'a TensorSpec)>,
) -> Vec<u8> {
    let mut text = String::from("{");
    if let Some(metadata) = metadata {
        text += &format!("\"__metadata__\":{metadata},");
    }
    let mut at = 0;
    for (name, spec) in tensors {
        let end = at + spec.byte_len();
        let (name, shape) = (serde_json::Value::from(name), serde_json::Value::from(spec.shape()));
        let dtype = spec.dtype();
        text += &format!(
            "{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{at},{end}]}},"
        );
        at = end;
    }
    if text.ends_with(',') {
        text.pop();
    }
    text.push('}');
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Folders `base` and `finetuned`, a little apart, in `folder`.
    pub(crate) fn put_pair(folder: &Path) {
        let bytes: Vec<u8> = (0..8000u32).map(|i| ((i * 7919) >> 5) as u8).collect();
        let mut tuned = bytes.clone();
        tuned.iter_mut().step_by(40).for_each(|b| *b ^= 1);
        for (side, bytes) in [("base", bytes), ("finetuned", tuned)] {
            let m = model(&[("a", Dtype::Bf16, &[40, 100], bytes)]);
            std::fs::create_dir(folder.join(side)).unwrap();
            std::fs::write(folder.join(side).join("model.safetensors"), &m.files()[0].bytes)
                .unwrap();
            std::fs::write(folder.join(side).join("config.json"), "{}").unwrap();
        }
    }

    /// A model of one file.
    pub(crate) fn model(tensors: &[(&str, Dtype, &[u64], Vec<u8>)]) -> Model {
        let specs: Vec<_> =
            tensors.iter().map(|(_, d, s, _)| TensorSpec::new(*d, s.to_vec()).unwrap()).collect();
        let mut file = header_bytes(
            Some("{\"format\":\"pt\"}"),
            tensors.iter().zip(&specs).map(|((name, ..), spec)| (*name, spec)),
        );
        tensors.iter().for_each(|(.., bytes)| file.extend_from_slice(bytes));
        Model::from_files(vec![("model.safetensors".into(), file)]).unwrap()
    }

    #[test]
    fn reads_what_it_writes() {
        let m = model(&[
            ("b \"quoted\"", Dtype::Bf16, &[2, 3], (0..12).collect()),
            ("a", Dtype::F32, &[], vec![1, 2, 3, 4]),
            ("empty", Dtype::I64, &[0, 4], vec![]),
        ]);
        assert_eq!(m.files()[0].data_start % 8, 0);
        assert_eq!(m.tensors().len(), 3);
        assert_eq!(m.bytes(m.find("a").unwrap()), [1, 2, 3, 4]);
        let spec = TensorSpec::new(Dtype::Bf16, [2, 3]).unwrap();
        assert_eq!(m.counterpart("b \"quoted\"", &spec).unwrap().len(), 12);
        let other = TensorSpec::new(Dtype::F16, [2, 3]).unwrap();
        assert!(m.counterpart("b \"quoted\"", &other).is_none());
    }

    #[test]
    fn malformed_headers_are_refused() {
        let file = |text: &str, data: usize| {
            let mut f = (text.len() as u64).to_le_bytes().to_vec();
            f.extend_from_slice(text.as_bytes());
            f.resize(f.len() + data, 0);
            Model::from_files(vec![("m".into(), f)])
        };
        let one = |offsets: &str| {
            format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}}}"#)
        };
        assert!(file(&one("[0,4]"), 4).is_ok());
        for (text, data) in [
            (one("[0,4]").as_str(), 5),
            (&one("[0,4]"), 3),
            (&one("[1,5]"), 5),
            (&one("[4,0]"), 4),
            (&one("[18446744073709551612,18446744073709551616]"), 4),
            (&one("[18446744073709551611,18446744073709551615]"), 4),
            (&one("[0]"), 4),
            ("[]", 0),
            ("{", 0),
            (r#"{"a":{"dtype":"U7","shape":[4],"data_offsets":[0,4]}}"#, 4),
        ] {
            assert!(file(text, data).is_err(), "{text}");
        }
        assert!(Model::from_files(vec![("m".into(), vec![255; 16])]).is_err());
        assert!(Model::from_files(vec![("m".into(), vec![1])]).is_err());
    }

    #[test]
    fn links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        let m = model(&[("a", Dtype::U8, &[4], vec![1, 2, 3, 4])]);
        std::fs::write(dir.path().join("real/model.safetensors"), &m.files()[0].bytes).unwrap();
        std::fs::write(dir.path().join("link"), "real\n").unwrap();
        std::fs::write(dir.path().join("loop"), "loop").unwrap();
        assert_eq!(Model::load(&dir.path().join("link")).unwrap().byte_len(), m.byte_len());
        assert_eq!(
            Model::load(&dir.path().join("loop")).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(Model::load(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
