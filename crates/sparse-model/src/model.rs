//! A model on disk: its files and its tensors.

use crate::cache::{HubCache, Resolved, resolve};
use crate::checkpoint::{Checkpoint, ModelFile, TensorLocation, Warning};
use crate::container::ContainerFormat;
use crate::file::{FileBytes, LazyFile};
use crate::header::Header;
use crate::scan::{Found, scan};
use sparse_core::check_path;
use sparse_core::{
    ByteSource, Error, ErrorKind, FileStamp, Result, TensorEntry, TensorSource, check_range,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

mod builder;
#[cfg(test)]
mod tests;

use builder::{Builder, Content, Parts};

/// Options for opening a model.
///
/// # Examples
///
/// ```
/// use sparse_model::OpenOptions;
///
/// let mut options = OpenOptions::default();
/// options.exclude.push("original".to_owned());
/// assert!(!options.mmap && OpenOptions::mapped().mmap);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Maps files into memory instead of reading them by position: tensors are then borrowed
    /// without a copy. Off by default; without feature `mmap` it has no effect.
    ///
    /// It asks of the caller that nobody writes to or truncates the files while the model is open
    /// (replacing them by rename is fine). If someone does, results are wrong, and reading past the
    /// end of a truncated file ends the process (`SIGBUS`). Read by position, a file that was cut
    /// short is an error, and is as fast: mapping is for programs that borrow tensors for long and
    /// own the files.
    pub mmap: bool,
    /// Place where model ids are looked up.
    pub cache: HubCache,
    /// Files and folders to leave out, by their path below the root (with `/`). Empty by default:
    /// every file counts.
    pub exclude: Vec<String>,
    /// Takes a `.safetensors` file of a folder that was cut short, or is a Git LFS pointer, as a
    /// plain file with a warning, instead of reporting an error.
    pub allow_incomplete: bool,
}

impl OpenOptions {
    /// Returns the defaults with [`mmap`](Self::mmap) on.
    ///
    /// The caller keeps its contract.
    #[must_use]
    pub fn mapped() -> OpenOptions {
        OpenOptions { mmap: true, ..OpenOptions::default() }
    }

    /// Opens a model, as [`Model::open`] with these options.
    ///
    /// # Errors
    /// As [`Model::open`].
    ///
    /// # Examples
    /// ```
    /// use sparse_model::{Checkpoint, OpenOptions};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("config.json");
    /// # std::fs::write(&path, "{}").unwrap();
    /// let model = OpenOptions::mapped().open(folder.path())?;
    /// assert_eq!(model.files()[0].path, "config.json");
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn open(&self, path_or_id: impl AsRef<Path>) -> Result<Model> {
        match resolve(path_or_id.as_ref(), &self.cache)? {
            Resolved::File(path) => Model::open_file(path, self),
            Resolved::Folder(path) => Model::open_folder(path, self),
        }
    }
}

/// Model on disk, opened for reading.
///
/// The tensors of all its safetensors files are one [`TensorSource`]. A name that occurs in several
/// files is qualified there, `unet/model.safetensors:conv.weight`;
/// [`location`](Checkpoint::location) has the plain one.
///
/// # Examples
///
/// ```
/// use sparse_model::{Checkpoint, FileKind, Model};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// std::fs::write(folder.join("config.json"), "{}").unwrap();
/// let model = Model::open(folder)?;
/// assert_eq!(model.files()[0].kind, FileKind::Plain);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    root: PathBuf,
    /// Name that counts instead of the one that the path tells.
    name: Option<String>,
    is_file: bool,
    parts: Parts,
}

impl Model {
    /// Opens a model with default options.
    ///
    /// That is the path of a safetensors file or of a folder, or the id of a model in the local
    /// Hugging Face cache (`org/name` or `org/name@revision`). A path that exists is never
    /// taken for an id.
    ///
    /// A folder's files are all taken, links followed. A `.safetensors` file that breaks the format
    /// counts as a plain file there, with a [warning](Checkpoint::warnings).
    ///
    /// # Errors
    /// With the file: `NotFound` when there is no such path or model, a link leads nowhere, or a
    /// shard that an index names is missing; `InvalidInput` when a file that was named directly is
    /// not safetensors, a link leads back to its own folder, or a file name is not UTF-8;
    /// `Truncated` when a safetensors file was cut short; `LimitExceeded` for absurd headers and
    /// folders; `Io` when the system refuses.
    pub fn open(path_or_id: impl AsRef<Path>) -> Result<Model> {
        OpenOptions::default().open(path_or_id)
    }

    fn open_file(path: PathBuf, options: &OpenOptions) -> Result<Model> {
        let place = path.display().to_string();
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the file name is not UTF-8: rename the file")
                .in_file(&*place)
        })?;
        let relative = name.to_owned();
        let metadata = std::fs::metadata(&path)
            .map_err(|e| Error::io("cannot read the file's length", e).in_file(&*place))?;
        let stamp = FileStamp::of(&metadata);
        let source = LazyFile::new(path.clone(), place.clone(), stamp, options.mmap, true);
        let mut builder = Builder::default();
        let content = only(&relative, &source, &mut builder).map_err(|e| e.in_file(&*place))?;
        builder.add(relative, FileBytes::Disk(source), content);
        Ok(Model { root: path, name: None, is_file: true, parts: builder.finish()? })
    }

    fn open_folder(root: PathBuf, options: &OpenOptions) -> Result<Model> {
        let found = scan(&root, &options.exclude)?;
        let mut builder = Builder::default();
        builder.empty_folders = found.empty_folders;
        for Found { relative, path, stamp } in found.files {
            let is_safetensors = relative.ends_with(".safetensors");
            let is_other = ContainerFormat::of_name(&relative).is_some();
            let kept = is_safetensors || is_other;
            let source = LazyFile::new(path, relative.clone(), stamp.clone(), options.mmap, kept);
            let content = if is_safetensors {
                match safetensors(&relative, &source, &mut builder) {
                    Ok(content) => content,
                    Err(e) if tolerable(&e, &source, options) => {
                        builder.warnings.push(Warning {
                            file: relative.clone(),
                            message: format!("treated as a plain file: {e}"),
                        });
                        Content::Plain
                    }
                    Err(e) => return Err(e.in_file(relative)),
                }
            } else {
                other_form(&relative, &source)
            };
            if let (Content::Plain, false) = (&content, is_safetensors)
                && is_pointer(&source)
            {
                builder.warnings.push(Warning {
                    file: relative.clone(),
                    message: "a Git LFS pointer, not the file itself: fetch that with `git lfs \
                        pull`, or only the pointer is kept"
                        .to_owned(),
                });
            }
            // Tensors of a file that is plain after all are never asked for: no reason to keep it
            // open.
            let source = match (&content, kept) {
                (Content::Plain, true) => {
                    let path = source.path().to_owned();
                    LazyFile::new(path, relative.clone(), stamp, options.mmap, false)
                }
                _ => source,
            };
            builder.add(relative, FileBytes::Disk(source), content);
        }
        builder.check_indices()?;
        Ok(Model { root, name: None, is_file: false, parts: builder.finish()? })
    }

    /// Opens a model of one safetensors file that is not on disk.
    ///
    /// `name` is what the model is called, and the file.
    ///
    /// # Errors
    /// As [`open`](Self::open) for a file.
    ///
    /// # Examples
    /// ```
    /// use sparse_core::TensorSource;
    /// use sparse_model::Model;
    ///
    /// # let json = r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} "#;
    /// let file = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[7]].concat();
    /// let model = Model::from_source("mine.safetensors", Box::new(file))?;
    /// assert_eq!(&*model.bytes(0)?, [7]);
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn from_source(name: impl Into<String>, source: Box<dyn ByteSource>) -> Result<Model> {
        let name = name.into();
        let mut builder = Builder::default();
        let content = only(&name, &source, &mut builder)?;
        builder.add(name.clone(), FileBytes::Elsewhere(source), content);
        let root = PathBuf::from(&name);
        Ok(Model { root, name: Some(name), is_file: true, parts: builder.finish()? })
    }

    /// Opens a model whose files are not on disk, given by their paths below the root.
    ///
    /// `name` is what the model is called. Files ending in `.safetensors` must be that; an index
    /// of shards must have all of them.
    ///
    /// # Errors
    /// As [`open`](Self::open) for a folder; `InvalidInput` when two files have one path, or a path
    /// leads out of the folder.
    pub fn from_sources(
        name: impl Into<String>,
        files: impl IntoIterator<Item = (String, Box<dyn ByteSource>)>,
    ) -> Result<Model> {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let mut builder = Builder::default();
        for (path, source) in files {
            check_path(&path)?;
            if builder.files.last().is_some_and(|f| f.path == path) {
                let e = Error::new(ErrorKind::InvalidInput, "there are two files of that path");
                return Err(e.in_file(path));
            }
            let content = if path.ends_with(".safetensors") {
                safetensors(&path, &source, &mut builder).map_err(|e| e.in_file(&*path))?
            } else {
                other_form(&path, &source)
            };
            builder.add(path, FileBytes::Elsewhere(source), content);
        }
        builder.check_indices()?;
        let name = name.into();
        let root = PathBuf::from(&name);
        Ok(Model { root, name: Some(name), is_file: false, parts: builder.finish()? })
    }

    /// Returns the model under another [name](Checkpoint::name), which deltas record.
    ///
    /// An id on the Hub says more than a path, where that is where the model came from.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Model {
        Model { name: Some(name.into()), ..self }
    }

    /// Returns the model with `place` as what errors call it: a URL, for instance.
    ///
    /// For a model that is not on disk; of one that is, errors name the path.
    #[must_use]
    pub fn called(self, place: impl Into<String>) -> Model {
        let on_disk = self.parts.sources.iter().any(|source| source.path().is_some());
        let root = if on_disk { self.root } else { PathBuf::from(place.into()) };
        Model { root, ..self }
    }

    /// Returns the path of the file or folder.
    ///
    /// Of an id that is the snapshot's folder; of a model that is not on disk, its name.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn source(&self, file: usize) -> Result<&FileBytes> {
        self.parts
            .sources
            .get(file)
            .ok_or_else(|| Error::invalid_argument(format!("there is no file with index {file}")))
    }

    fn place(&self, index: usize, offset: u64, len: usize) -> Result<(&FileBytes, u64)> {
        check_range(&self.parts.entries, index, offset, len)?;
        let place = self.parts.places.get(index).ok_or_else(|| {
            Error::invalid_argument(format!(
                "there is no tensor with index \
                {index}"
            ))
        })?;
        // Within the file, as the header was checked against its length.
        Ok((self.source(place.file)?, place.offset.saturating_add(offset)))
    }
}

impl TensorSource for Model {
    fn tensors(&self) -> &[TensorEntry] {
        &self.parts.entries
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        let (source, at) = self.place(index, offset, out.len())?;
        source.read_exact_at(at, out).map_err(|e| match self.parts.entries.get(index) {
            Some(entry) => e.in_tensor(&*entry.name),
            None => e,
        })
    }

    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        let (source, at) = self.place(index, offset, len).ok()?;
        source.slice(at, len)
    }

    /// Checks all files of which anything was read.
    fn check_unchanged(&self) -> Result<()> {
        self.parts.sources.iter().try_for_each(ByteSource::check_unchanged)
    }
}

impl Checkpoint for Model {
    fn name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let components: Vec<_> =
            self.root.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        let cached = components.iter().rev().find_map(|c| c.strip_prefix("models--"));
        match cached {
            Some(id) => id.replacen("--", "/", 1),
            None => components.last().map(|c| c.to_string()).unwrap_or_default(),
        }
    }

    fn is_file(&self) -> bool {
        self.is_file
    }

    fn files(&self) -> &[ModelFile] {
        &self.parts.files
    }

    fn empty_folders(&self) -> &[String] {
        &self.parts.empty_folders
    }

    fn warnings(&self) -> &[Warning] {
        &self.parts.warnings
    }

    fn file_source(&self, file: usize) -> Result<&dyn ByteSource> {
        self.source(file).map(|s| s as _)
    }

    fn location(&self, index: usize) -> Option<TensorLocation<'_>> {
        let (entry, place) = (self.parts.entries.get(index)?, self.parts.places.get(index)?);
        Some(TensorLocation {
            file: place.file,
            name: entry.name.get(place.name_start..)?,
            offset: place.offset,
        })
    }

    fn file_place(&self, file: &ModelFile) -> String {
        let path = if self.is_file { self.root.clone() } else { self.root.join(&file.path) };
        path.display().to_string()
    }

    fn file_path(&self, file: usize) -> Option<&Path> {
        self.parts.sources.get(file)?.path()
    }

    fn input_paths(&self) -> Result<Vec<PathBuf>> {
        let real = |path: &Path| {
            std::fs::canonicalize(path).map_err(|e| {
                Error::io("cannot resolve the path", e).in_file(path.display().to_string())
            })
        };
        if self.parts.sources.iter().any(|source| source.path().is_none()) {
            return Ok(Vec::new());
        }
        let root = real(&self.root)?;
        let mut outside = BTreeSet::new();
        for path in self.parts.sources.iter().filter_map(FileBytes::path) {
            let path = real(path)?;
            if !path.starts_with(&root) {
                outside.insert(path);
            }
        }
        Ok(std::iter::once(root).chain(outside).collect())
    }
}

/// Reads a safetensors file; says what is odd about it.
fn safetensors(path: &str, source: &dyn ByteSource, builder: &mut Builder) -> Result<Content> {
    let (header, fault) = Header::read_lenient(source)?;
    builder.warnings.extend(fault.map(|fault| Warning {
        file: path.to_owned(),
        message: format!("breaks a rule of safetensors, and is kept as it is: {fault}"),
    }));
    Ok(Content::Safetensors(header))
}

/// Looks for tensors in a file that is not safetensors, by its name.
fn other_form(path: &str, source: &dyn ByteSource) -> Content {
    let Some(format) = ContainerFormat::of_name(path) else { return Content::Plain };
    let tensors = format.tensors(source);
    if tensors.is_empty() { Content::Plain } else { Content::Container(format, tensors) }
}

/// Reads a file that is a model by itself.
fn only(path: &str, source: &dyn ByteSource, builder: &mut Builder) -> Result<Content> {
    match other_form(path, source) {
        Content::Plain => safetensors(path, source, builder),
        content => Ok(content),
    }
}

/// How a pointer of Git LFS begins.
const POINTER: &[u8] = b"version https://git-lfs";

/// Longest pointer of Git LFS, in bytes.
const MAX_POINTER_BYTES: u64 = 1024;

/// Returns true for a file that Git LFS left in the place of another.
fn is_pointer(source: &dyn ByteSource) -> bool {
    source.byte_len() <= MAX_POINTER_BYTES
        && source.bytes_at(0, POINTER.len()).is_ok_and(|start| *start == *POINTER)
}

/// Returns true if a `.safetensors` file of a folder may be taken as plain bytes.
///
/// Odd files are kept as they are. A download that was cut short is not: whoever compresses it
/// wants to know.
fn tolerable(e: &Error, source: &dyn ByteSource, options: &OpenOptions) -> bool {
    match e.kind() {
        ErrorKind::Truncated => options.allow_incomplete,
        ErrorKind::InvalidInput => {
            let is_pointer = source.bytes_at(0, POINTER.len()).is_ok_and(|b| *b == *POINTER);
            options.allow_incomplete || !is_pointer
        }
        ErrorKind::LimitExceeded => true,
        _ => false,
    }
}
