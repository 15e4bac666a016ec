//! A model as files: tensors, and the bytes around them.

use crate::container::ContainerFormat;
use sparse_core::{ByteSource, Error, Result, TensorSource};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// File of a [`Checkpoint`].
///
/// # Examples
///
/// ```
/// use sparse_model::{FileKind, ModelFile};
///
/// /// Returns the bytes of the largest file.
/// fn largest(files: &[ModelFile]) -> u64 {
///     files.iter().map(|file| file.len).max().unwrap_or(0)
/// }
///
/// let config = ModelFile { path: "config.json".to_owned(), len: 700, kind: FileKind::Plain };
/// assert_eq!(largest(&[config]), 700);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Its path below the root, with `/` on every system.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// What it holds.
    pub kind: FileKind,
}

/// Content of a file.
///
/// # Examples
///
/// ```
/// use sparse_model::{Checkpoint, FileKind, Model};
///
/// /// Counts the safetensors files.
/// fn shards(model: &dyn Checkpoint) -> usize {
///     let is_shard = |kind: &FileKind| matches!(kind, FileKind::Safetensors { .. });
///     model.files().iter().filter(|file| is_shard(&file.kind)).count()
/// }
/// # let folder = tempfile::tempdir().unwrap();
/// # std::fs::write(folder.path().join("config.json"), "{}").unwrap();
/// # let model = Model::open(folder.path())?;
/// assert_eq!((model.files().len(), shards(&model)), (1, 0));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Bytes.
    Plain,
    /// A head and tensors, which tile the file; in an odd file there may be bytes between and after
    /// them.
    Safetensors {
        /// Bytes of the length field and the JSON.
        head_len: u64,
        /// Indices into [`TensorSource::tensors`], in the order in which the tensors lie in the
        /// file.
        tensors: Vec<usize>,
    },
    /// Tensors in another form than safetensors, and bytes around them.
    Container {
        /// The form.
        format: ContainerFormat,
        /// Bytes before the first tensor.
        head_len: u64,
        /// Indices into [`TensorSource::tensors`], in the order in which the tensors lie in the
        /// file.
        tensors: Vec<usize>,
    },
}

impl FileKind {
    /// Lists the tensors by their index, in the order in which they lie in the file.
    pub fn tensors(&self) -> &[usize] {
        match self {
            FileKind::Plain => &[],
            FileKind::Safetensors { tensors, .. } | FileKind::Container { tensors, .. } => tensors,
        }
    }

    /// Returns the length of the head: the bytes before the first tensor that say what is where.
    ///
    /// `None` for a plain file.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(sparse_model::FileKind::Plain.head_len(), None);
    /// ```
    pub fn head_len(&self) -> Option<u64> {
        match self {
            FileKind::Plain => None,
            FileKind::Safetensors { head_len, .. } | FileKind::Container { head_len, .. } => {
                Some(*head_len)
            }
        }
    }
}

/// Part of a file: a tensor, or bytes that belong to none.
///
/// # Examples
///
/// ```
/// use sparse_model::{Checkpoint, Extent, Model};
///
/// # let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("config.json"), "{}").unwrap();
/// let model = Model::open(folder.path())?;
/// assert_eq!(model.extents(0), [Extent::Bytes { offset: 0, len: 2 }]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Bytes: a head, a gap, a whole plain file.
    Bytes {
        /// The first one, from the start of the file.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The tensor with this index, from byte `offset` of the file on.
    Tensor {
        /// Index into [`TensorSource::tensors`].
        tensor: usize,
        /// Its first byte, from the start of the file.
        offset: u64,
    },
}

/// Oddity of a file that the user should know of.
///
/// # Examples
///
/// ```
/// use sparse_model::{Checkpoint, Model};
///
/// # let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("notes.safetensors"), "these are no tensors").unwrap();
/// let model = Model::open(folder.path())?;
/// let warning = &model.warnings()[0];
/// assert_eq!(warning.file, "notes.safetensors");
/// assert!(warning.message.starts_with("treated as a plain file"));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file's path below the root.
    pub file: String,
    /// A sentence.
    pub message: String,
}

/// Place of a tensor.
///
/// # Examples
///
/// ```
/// use sparse_model::{Checkpoint, Model};
///
/// /// Says where a tensor lies.
/// fn place(model: &dyn Checkpoint, tensor: usize) -> Option<String> {
///     let found = model.location(tensor)?;
///     let file = &model.files()[found.file].path;
///     Some(format!("{} from byte {} of {file} on", found.name, found.offset))
/// }
/// # let json = r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} "#;
/// # let file = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[7]].concat();
/// # let folder = tempfile::tempdir().unwrap();
/// # std::fs::write(folder.path().join("a.safetensors"), file).unwrap();
/// # let model = Model::open(folder.path())?;
/// assert_eq!(place(&model, 0).unwrap(), "w from byte 62 of a.safetensors on");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorLocation<'a> {
    /// Index into [`Checkpoint::files`].
    pub file: usize,
    /// Its name in that file.
    pub name: &'a str,
    /// Its first byte, from the start of the file.
    pub offset: u64,
}

/// Tensors that lie in files, among other files: a target of a delta, or its base.
///
/// [`Model`](crate::Model) is one on disk; [`TensorFile`](crate::TensorFile) makes one of any
/// [`TensorSource`].
///
/// # Examples
/// ```
/// use sparse_core::TensorSource;
/// use sparse_model::{Checkpoint, Model};
///
/// /// Lists a model's tensors by file.
/// fn list(model: &dyn Checkpoint) -> Vec<String> {
///     let of = |i| Some((model.files().get(model.location(i)?.file)?.path.as_str(), i));
///     (0..model.tensors().len())
///         .filter_map(of)
///         .map(|(file, i)| format!("{file}: {}", model.tensors()[i].name))
///         .collect()
/// }
/// # let folder = tempfile::tempdir().unwrap();
/// # let model = Model::open(folder.path())?;
/// assert!(list(&model).is_empty());
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait Checkpoint: TensorSource {
    /// Returns the model's name for people.
    ///
    /// That is its id in the Hugging Face cache, the last part of its path, or nothing.
    fn name(&self) -> String;

    /// Returns true if the model is a single file, named directly.
    fn is_file(&self) -> bool;

    /// Returns true if the files are made up from the tensors, and exist nowhere.
    ///
    /// A delta against such a base refers to its tensors alone, so that any files with these
    /// tensors do.
    fn is_virtual(&self) -> bool {
        false
    }

    /// Lists every file, sorted by path (by bytes).
    fn files(&self) -> &[ModelFile];

    /// Lists the folders with nothing in them, by path, sorted.
    ///
    /// Paths are below the root, with `/`.
    fn empty_folders(&self) -> &[String] {
        &[]
    }

    /// Lists what is odd about the model, without being an error.
    fn warnings(&self) -> &[Warning] {
        &[]
    }

    /// Gives access to the bytes of file `file`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such file.
    fn file_source(&self, file: usize) -> Result<&dyn ByteSource>;

    /// Returns the place of tensor `index`, or `None` when there is no such tensor.
    fn location(&self, index: usize) -> Option<TensorLocation<'_>>;

    /// Returns the name of `file` for errors: its whole path, if it has one.
    fn file_place(&self, file: &ModelFile) -> String {
        file.path.clone()
    }

    /// Returns where file `file` lies on this machine's disk, if it does.
    fn file_path(&self, file: usize) -> Option<&Path> {
        let _ = file;
        None
    }

    /// Lists the paths that hold the model, links resolved.
    ///
    /// They are its root and whatever lies outside of it. Give them to
    /// `sparse_output::refuse_inside` before anything is written.
    ///
    /// # Errors
    /// `Io` or `NotFound` when a path cannot be resolved (any more).
    fn input_paths(&self) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    /// Lists what file `file` consists of, from its first byte to its last.
    ///
    /// The head of a file with tensors is an extent of its own. Nothing for a file that is not
    /// there, or empty.
    fn extents(&self, file: usize) -> Vec<Extent> {
        let Some(record) = self.files().get(file) else { return Vec::new() };
        let mut extents = Vec::new();
        let mut end = 0;
        let mut upto = |extents: &mut Vec<Extent>, to: u64, next: u64| {
            if to > end {
                extents.push(Extent::Bytes { offset: end, len: to - end });
            }
            end = next;
        };
        if let Some(head) = record.kind.head_len() {
            upto(&mut extents, head, head);
        }
        for &tensor in record.kind.tensors() {
            let (Some(entry), Some(place)) = (self.tensors().get(tensor), self.location(tensor))
            else {
                continue;
            };
            let offset = place.offset;
            upto(&mut extents, offset, offset.saturating_add(entry.spec.byte_len()));
            extents.push(Extent::Tensor { tensor, offset });
        }
        upto(&mut extents, record.len, record.len);
        extents
    }

    /// Reads the head of file `file`: its bytes before the first tensor that say what is where.
    ///
    /// Verbatim; empty for a plain file.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such file; what reading reports.
    fn file_head(&self, file: usize) -> Result<Cow<'_, [u8]>> {
        let source = self.file_source(file)?;
        match self.files().get(file).and_then(|f| f.kind.head_len()) {
            Some(head_len) => {
                let len = usize::try_from(head_len).map_err(|_| {
                    Error::invalid_argument(
                        "the head is larger than the address \
                        space",
                    )
                })?;
                source.bytes_at(0, len)
            }
            _ => Ok(Cow::Borrowed(&[])),
        }
    }

    /// Finds the tensor that file `file` calls `name`.
    fn find_in_file(&self, file: usize, name: &str) -> Option<usize> {
        let is_it = |&i: &usize| self.location(i).is_some_and(|l| l.file == file && l.name == name);
        let path = &self.files().get(file)?.path;
        self.find(name).filter(is_it).or_else(|| self.find(&format!("{path}:{name}")).filter(is_it))
    }
}
