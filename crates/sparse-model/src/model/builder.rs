//! Putting a model together from its files.

use crate::checkpoint::{FileKind, ModelFile, Warning};
use crate::container::ContainerFormat;
use crate::file::FileBytes;
use crate::header::{Header, HeaderTensor, MAX_HEADER_BYTES};
use crate::shards::shard_names;
use sparse_core::{ByteSource, Error, ErrorKind, Limits, Result, TensorEntry, check_path};
use std::collections::{HashMap, HashSet};

/// Files and tensors of a model, put in order.
#[derive(Debug)]
pub(super) struct Parts {
    /// By path.
    pub(super) files: Vec<ModelFile>,
    /// One for each file.
    pub(super) sources: Vec<FileBytes>,
    /// By name.
    pub(super) entries: Vec<TensorEntry>,
    /// One for each tensor.
    pub(super) places: Vec<Place>,
    /// By path.
    pub(super) empty_folders: Vec<String>,
    /// By file.
    pub(super) warnings: Vec<Warning>,
}

/// Place of a tensor; `name_start` is where its plain name begins within the entry's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) name_start: usize,
}

/// What was found in a file.
pub(super) enum Content {
    Plain,
    Safetensors(Header),
    Container(ContainerFormat, Vec<HeaderTensor>),
}

/// Model in the making: files are added in the order of their paths.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) files: Vec<ModelFile>,
    sources: Vec<FileBytes>,
    /// Tensors in order of file and offset; `name` is the plain one.
    tensors: Vec<(TensorEntry, Place)>,
    pub(super) empty_folders: Vec<String>,
    pub(super) warnings: Vec<Warning>,
}

impl Builder {
    /// Adds a file.
    pub(super) fn add(&mut self, path: String, source: FileBytes, content: Content) {
        let file = self.files.len();
        let mut add = |tensors: &[HeaderTensor]| {
            self.tensors.extend(tensors.iter().map(|t| {
                (
                    TensorEntry { name: t.name.clone(), spec: t.spec.clone() },
                    Place { file, offset: t.offset, name_start: 0 },
                )
            }));
        };
        let kind = match content {
            Content::Plain => FileKind::Plain,
            Content::Safetensors(header) => {
                add(header.tensors());
                FileKind::Safetensors { head_len: header.head_len(), tensors: Vec::new() }
            }
            Content::Container(format, tensors) => {
                add(&tensors);
                let head_len = tensors.first().map_or(0, |t| t.offset);
                FileKind::Container { format, head_len, tensors: Vec::new() }
            }
        };
        self.files.push(ModelFile { path, len: source.byte_len(), kind });
        self.sources.push(source);
    }

    /// Checks that every shard that an index names is there.
    pub(super) fn check_indices(&mut self) -> Result<()> {
        let mut warnings = Vec::new();
        for (file, source) in self.files.iter().zip(&self.sources) {
            if !file.path.ends_with(".safetensors.index.json") {
                continue;
            }
            let mut warn = |message| warnings.push(Warning { file: file.path.clone(), message });
            if let Err(e) = Limits::check("the index", file.len, MAX_HEADER_BYTES) {
                warn(e.to_string());
                continue;
            }
            let bytes = source.bytes_at(0, usize::try_from(file.len).unwrap_or(usize::MAX))?;
            let shards = match shard_names(&bytes) {
                Ok(shards) => shards,
                Err(e) => {
                    warn(format!("not an index of shards: {e}"));
                    continue;
                }
            };
            // Weights that were written anew in one file leave the index of the old shards behind.
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let beside = |f: &&ModelFile| {
                f.path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder
                    && matches!(f.kind, FileKind::Safetensors { .. })
            };
            let name = |f: &ModelFile| f.path.rsplit('/').next().unwrap_or_default().to_owned();
            let others: Vec<String> = self.files.iter().filter(beside).map(name).collect();
            let stale = !others.is_empty() && !others.iter().any(|name| shards.contains(name));
            for shard in &shards {
                let shard = &**shard;
                if check_path(shard).is_err() {
                    warn(format!("names a shard outside its folder: {shard}"));
                    continue;
                }
                let path = match file.path.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/{shard}"),
                    None => shard.to_owned(),
                };
                if self.files.binary_search_by(|f| f.path.as_str().cmp(&path)).is_err() {
                    if stale {
                        warn("it is stale: none of the shards that it names is here".to_owned());
                        break;
                    }
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!(
                            "the shard {path} that this index names is missing (an incomplete \
                                download?)"
                        ),
                    )
                    .in_file(&*file.path));
                }
            }
        }
        self.warnings.append(&mut warnings);
        Ok(())
    }

    /// Sorts the tensors by name, and makes their names unique.
    pub(super) fn finish(mut self) -> Result<Parts> {
        self.qualify()?;
        // From here on in order of name; the files keep the order of offset.
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by(|&a, &b| {
            let name = |i: usize| self.tensors.get(i).map(|t| t.0.name.as_str());
            name(a).cmp(&name(b))
        });
        let mut index_of = vec![0; order.len()];
        for (index, &old) in order.iter().enumerate() {
            if let Some(slot) = index_of.get_mut(old) {
                *slot = index;
            }
        }
        for ((_, place), &index) in self.tensors.iter().zip(&index_of) {
            if let Some(
                FileKind::Safetensors { tensors, .. } | FileKind::Container { tensors, .. },
            ) = self.files.get_mut(place.file).map(|f| &mut f.kind)
            {
                tensors.push(index);
            }
        }
        self.tensors.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let (entries, places) = self.tensors.into_iter().unzip();
        self.warnings.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(Parts {
            files: self.files,
            sources: self.sources,
            entries,
            places,
            empty_folders: self.empty_folders,
            warnings: self.warnings,
        })
    }

    /// Makes names unique: those that occur more than once get their file in front.
    ///
    /// Where one is in a safetensors file, those in other files give way: beside one's weights
    /// there often lies a copy in another form.
    fn qualify(&mut self) -> Result<()> {
        let mut first = HashSet::new();
        if self.files.iter().any(|f| matches!(f.kind, FileKind::Container { .. })) {
            let in_safetensors = |place: &Place| {
                let kind = self.files.get(place.file).map(|f| &f.kind);
                matches!(kind, Some(FileKind::Safetensors { .. }))
            };
            let named = self.tensors.iter().filter(|(_, place)| in_safetensors(place));
            first.extend(named.map(|(entry, _)| entry.name.clone()));
        }
        for (entry, place) in &mut self.tensors {
            if let Some(file) = self.files.get(place.file)
                && matches!(file.kind, FileKind::Container { .. })
                && first.contains(&entry.name)
            {
                entry.name = format!("{}:{}", file.path, entry.name);
                place.name_start = file.path.len() + 1;
            }
        }
        // A qualified name may, in theory, be the plain name of another tensor, which is then
        // qualified too.
        loop {
            let mut count: HashMap<&str, usize> = HashMap::with_capacity(self.tensors.len());
            for (entry, _) in &self.tensors {
                *count.entry(&entry.name).or_default() += 1;
            }
            let twice: Vec<usize> = (0..)
                .zip(&self.tensors)
                .filter(|(_, (entry, _))| count.get(entry.name.as_str()).is_some_and(|&n| n > 1))
                .map(|(i, _)| i)
                .collect();
            if twice.is_empty() {
                return Ok(());
            }
            let mut changed = false;
            for i in twice {
                let Some((entry, place)) = self.tensors.get_mut(i) else { continue };
                if place.name_start == 0
                    && let Some(file) = self.files.get(place.file)
                {
                    entry.name = format!("{}:{}", file.path, entry.name);
                    place.name_start = file.path.len() + 1;
                    changed = true;
                }
            }
            if !changed {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "two tensors cannot be told apart by file and name: rename one of their \
                        files",
                ));
            }
        }
    }
}
