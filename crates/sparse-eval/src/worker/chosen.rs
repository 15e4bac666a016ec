//! The tensors of a folder that are the model's.
//!
//! A folder may have others: an adapter in a folder below, the same weights in another layout.
//! Which are the model's is as transformers has it: those of `model.safetensors`; without it, those
//! of the files that `model.safetensors.index.json` names; without that, those of all files at the
//! top.

use serde_json::Value;
use sparse_core::{Error, ErrorKind, Result, TensorEntry, TensorSource};
use std::collections::BTreeSet;

const WHOLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// A safetensors file of a folder, and the names that its tensors have there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeightFile {
    pub(super) path: String,
    pub(super) names: Vec<String>,
}

/// Some tensors of a source, by the names that they have in their files.
pub(super) struct Chosen<S> {
    source: S,
    entries: Vec<TensorEntry>,
    /// Of each entry, its index in the source.
    indices: Vec<usize>,
}

impl<S: TensorSource> Chosen<S> {
    /// Chooses the model's tensors; `read` returns a file of the folder, if it is there.
    ///
    /// # Errors
    /// What `read` reports; `InvalidInput` when the index is none, or names a file that is not
    /// there; `Internal`.
    pub(super) fn new(
        source: S,
        files: Vec<WeightFile>,
        read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
    ) -> Result<Chosen<S>> {
        let mut chosen = Vec::new();
        for file in of_model(files, read)? {
            for name in file.names {
                // A name that several files have is known by file and name.
                let known = source.find(&format!("{}:{name}", file.path));
                let index = known.or_else(|| source.find(&name));
                let entry = index.and_then(|index| Some((index, source.tensors().get(index)?)));
                let Some((index, entry)) = entry else {
                    let message = "the tensor is in a file, but not in the model";
                    return Err(Error::new(ErrorKind::Internal, message).in_tensor(name));
                };
                chosen.push((TensorEntry { name, spec: entry.spec.clone() }, index));
            }
        }
        chosen.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let (entries, indices) = chosen.into_iter().unzip();
        Ok(Chosen { source, entries, indices })
    }

    fn index(&self, index: usize) -> Result<usize> {
        let found = self.indices.get(index).copied();
        found.ok_or_else(|| Error::invalid_argument(format!("there is no tensor {index}")))
    }
}

fn of_model(
    files: Vec<WeightFile>,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
) -> Result<Vec<WeightFile>> {
    // A model that is a single file has no other.
    if files.len() <= 1 {
        return Ok(files);
    }
    let wanted = if files.iter().any(|file| file.path == WHOLE) {
        BTreeSet::from([WHOLE.to_owned()])
    } else if let Some(json) = read(INDEX)? {
        let wanted = shards(&json).map_err(|e| e.in_file(INDEX))?;
        if let Some(missing) = wanted.iter().find(|path| files.iter().all(|f| f.path != **path)) {
            let message = format!("it names {missing:?}, which is not there");
            return Err(Error::new(ErrorKind::InvalidInput, message).in_file(INDEX));
        }
        wanted
    } else {
        files.iter().map(|f| f.path.clone()).filter(|path| !path.contains('/')).collect()
    };
    Ok(files.into_iter().filter(|file| wanted.contains(&file.path)).collect())
}

/// Returns the files that an index names.
fn shards(json: &[u8]) -> Result<BTreeSet<String>> {
    let wrong = || Error::new(ErrorKind::InvalidInput, "it is no index of shards");
    let index: Value = serde_json::from_slice(json).map_err(|e| wrong().with_source(e))?;
    let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(wrong)?;
    map.values().map(|path| path.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

impl<S: TensorSource> TensorSource for Chosen<S> {
    fn tensors(&self) -> &[TensorEntry] {
        &self.entries
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        self.source.read_range_into(self.index(index)?, offset, out)
    }

    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        self.source.slice(*self.indices.get(index)?, offset, len)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.source.check_unchanged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<WeightFile> {
        paths.iter().map(|p| WeightFile { path: (*p).to_owned(), names: Vec::new() }).collect()
    }

    fn chosen(paths: &[&str], index: Option<&str>) -> Result<Vec<String>> {
        let read = |_: &str| Ok(index.map(|json| json.as_bytes().to_vec()));
        Ok(of_model(files(paths), read)?.into_iter().map(|f| f.path).collect())
    }

    #[test]
    fn as_transformers() {
        let adapter = "adapter/adapter_model.safetensors";
        assert_eq!(chosen(&["x/odd.safetensors"], None).unwrap(), ["x/odd.safetensors"]);
        assert_eq!(chosen(&[adapter, WHOLE, "consolidated.safetensors"], None).unwrap(), [WHOLE]);
        let index = r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
        let all = ["a.safetensors", "b.safetensors", "c.safetensors", adapter];
        assert_eq!(chosen(&all, Some(index)).unwrap(), all[..2]);
        assert_eq!(chosen(&all, None).unwrap(), all[..3]);
        let e = chosen(&all[1..], Some(index)).unwrap_err();
        assert!(e.to_string().contains("a.safetensors"), "{e}");
        for wrong in ["", "{}", r#"{"weight_map": {"x": 1}}"#] {
            assert!(chosen(&all, Some(wrong)).is_err());
        }
    }
}
