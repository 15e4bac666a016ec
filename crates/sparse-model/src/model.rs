//! A model on disk: its files and its tensors.

use crate::cache::{HubCache, Resolved, resolve};
use crate::checkpoint::{Checkpoint, FileKind, ModelFile, TensorLocation, Warning};
use crate::file::LazyFile;
use crate::header::{Header, MAX_HEADER_BYTES};
use crate::scan::{Found, scan};
use crate::shards::shard_names;
use sparse_core::check_path;
use sparse_core::{
    ByteSource, Error, ErrorKind, FileStamp, Limits, Result, TensorEntry, TensorSource, check_range,
};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

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
    is_file: bool,
    files: Vec<ModelFile>,
    sources: Vec<LazyFile>,
    entries: Vec<TensorEntry>,
    places: Vec<Place>,
    empty_folders: Vec<String>,
    warnings: Vec<Warning>,
}

/// Place of a tensor; `name_start` is where its plain name begins within the entry's.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    offset: u64,
    name_start: usize,
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
        let header = Header::read(&source).map_err(|e| e.in_file(&*place))?;
        let mut builder = Builder::default();
        builder.add(relative, source, Some(header));
        builder.finish(path, true)
    }

    fn open_folder(root: PathBuf, options: &OpenOptions) -> Result<Model> {
        let found = scan(&root, &options.exclude)?;
        let mut builder = Builder { empty_folders: found.empty_folders, ..Builder::default() };
        for Found { relative, path, stamp } in found.files {
            let is_safetensors = relative.ends_with(".safetensors");
            let source =
                LazyFile::new(path, relative.clone(), stamp.clone(), options.mmap, is_safetensors);
            let mut header = None;
            if is_safetensors {
                match Header::read(&source) {
                    Ok(h) => header = Some(h),
                    Err(e) if tolerable(&e, &source, options) => builder.warnings.push(Warning {
                        file: relative.clone(),
                        message: format!("taken as a plain file: {e}"),
                    }),
                    Err(e) => return Err(e.in_file(relative)),
                }
            }
            // Tensors of a file that is plain after all are never asked for: no reason to keep it
            // open.
            let source = match (&header, is_safetensors) {
                (None, true) => {
                    let path = source.path().to_owned();
                    LazyFile::new(path, relative.clone(), stamp, options.mmap, false)
                }
                _ => source,
            };
            builder.add(relative, source, header);
        }
        builder.check_indices()?;
        builder.finish(root, false)
    }

    /// Returns the path of the file or folder; for an id, the snapshot's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn source(&self, file: usize) -> Result<&LazyFile> {
        self.sources
            .get(file)
            .ok_or_else(|| Error::invalid_argument(format!("no file with index {file}")))
    }

    fn place(&self, index: usize, offset: u64, len: usize) -> Result<(&LazyFile, u64)> {
        check_range(&self.entries, index, offset, len)?;
        let place = self
            .places
            .get(index)
            .ok_or_else(|| Error::invalid_argument(format!("no tensor with index {index}")))?;
        // Within the file, as the header was checked against its length.
        Ok((self.source(place.file)?, place.offset.saturating_add(offset)))
    }
}

impl TensorSource for Model {
    fn tensors(&self) -> &[TensorEntry] {
        &self.entries
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        let (source, at) = self.place(index, offset, out.len())?;
        source.read_exact_at(at, out).map_err(|e| match self.entries.get(index) {
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
        self.sources.iter().try_for_each(ByteSource::check_unchanged)
    }
}

impl Checkpoint for Model {
    fn name(&self) -> String {
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
        &self.files
    }

    fn empty_folders(&self) -> &[String] {
        &self.empty_folders
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn file_source(&self, file: usize) -> Result<&dyn ByteSource> {
        self.source(file).map(|s| s as _)
    }

    fn location(&self, index: usize) -> Option<TensorLocation<'_>> {
        let (entry, place) = (self.entries.get(index)?, self.places.get(index)?);
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

    fn input_paths(&self) -> Result<Vec<PathBuf>> {
        let real = |path: &Path| {
            std::fs::canonicalize(path).map_err(|e| {
                Error::io("cannot resolve the path", e).in_file(path.display().to_string())
            })
        };
        let root = real(&self.root)?;
        let mut outside = BTreeSet::new();
        for source in &self.sources {
            let path = real(source.path())?;
            if !path.starts_with(&root) {
                outside.insert(path);
            }
        }
        Ok(std::iter::once(root).chain(outside).collect())
    }
}

/// Returns whether a `.safetensors` file of a folder may be taken as plain bytes.
///
/// Odd files are kept as they are. A download that was cut short is not: whoever compresses it
/// wants to know.
fn tolerable(e: &Error, source: &LazyFile, options: &OpenOptions) -> bool {
    match e.kind() {
        ErrorKind::Truncated => options.allow_incomplete,
        ErrorKind::InvalidInput => {
            let lfs = b"version https://git-lfs";
            options.allow_incomplete
                || !source
                    .bytes_at(0, lfs.len())
                    .is_ok_and(|start| start.as_ref() == lfs.as_slice())
        }
        ErrorKind::LimitExceeded => true,
        _ => false,
    }
}

#[derive(Default)]
struct Builder {
    files: Vec<ModelFile>,
    sources: Vec<LazyFile>,
    /// Tensors in order of file and offset; `name` is the plain one.
    tensors: Vec<(TensorEntry, Place)>,
    empty_folders: Vec<String>,
    warnings: Vec<Warning>,
}

impl Builder {
    fn add(&mut self, path: String, source: LazyFile, header: Option<Header>) {
        let kind = match header {
            None => FileKind::Plain,
            Some(header) => {
                let file = self.files.len();
                for t in header.tensors() {
                    self.tensors.push((
                        TensorEntry { name: t.name.clone(), spec: t.spec.clone() },
                        Place { file, offset: t.offset, name_start: 0 },
                    ));
                }
                FileKind::Safetensors { head_len: header.head_len(), tensors: Vec::new() }
            }
        };
        self.files.push(ModelFile { path, len: source.byte_len(), kind });
        self.sources.push(source);
    }

    /// Checks that every shard that an index names is there.
    fn check_indices(&mut self) -> Result<()> {
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
            for shard in &shards {
                let shard = &**shard;
                if check_path(shard).is_err() {
                    warn(format!("names a shard outside of its folder: {shard}"));
                    continue;
                }
                let path = match file.path.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/{shard}"),
                    None => shard.to_owned(),
                };
                if self.files.binary_search_by(|f| f.path.as_str().cmp(&path)).is_err() {
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

    fn finish(mut self, root: PathBuf, is_file: bool) -> Result<Model> {
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
            if let Some(FileKind::Safetensors { tensors, .. }) =
                self.files.get_mut(place.file).map(|f| &mut f.kind)
            {
                tensors.push(index);
            }
        }
        self.tensors.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let (entries, places) = self.tensors.into_iter().unzip();
        self.warnings.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(Model {
            root,
            is_file,
            files: self.files,
            sources: self.sources,
            entries,
            places,
            empty_folders: self.empty_folders,
            warnings: self.warnings,
        })
    }

    /// Makes names unique: those that occur more than once get their file in front.
    fn qualify(&mut self) -> Result<()> {
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
                    "files and tensors are named so that two tensors cannot be told apart",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests;
