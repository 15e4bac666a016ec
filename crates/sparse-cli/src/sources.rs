//! Inputs as commands open them, wherever they are.

use crate::failure::Failure;
use crate::find::{Found, Local, Wanted};
use crate::human::plain;
use crate::progress::eprint;
use crate::session::Session;
use sparse::{Adapter, Codecs, Delta, Error, Model, OpenOptions};
use sparse_core::{ByteSource, FileSource};
#[cfg(feature = "dataset")]
use sparse_dataset::{Dataset, DatasetDelta};
use sparse_remote::{Location, RepoKind};
use std::path::Path;
#[cfg(feature = "dataset")]
use std::path::PathBuf;

/// Delta of a model or of a dataset.
#[cfg(feature = "dataset")]
pub(crate) enum AnyDelta {
    Model(Delta),
    Dataset(DatasetDelta),
}

/// Fine-tuned model, as it is or as a delta.
pub(crate) enum Tuned {
    Model(Box<Model>),
    Delta(Box<Delta>),
}

/// First bytes of every delta.
const DELTA_START: &[u8; 5] = b"\xd3SPRS";

/// Turns a name from the command line into text for people and JSON: without secrets.
pub(crate) fn shown(name: &Path) -> String {
    let text = name.to_string_lossy();
    if !text.contains("://") {
        return text.into_owned();
    }
    Location::parse(&text, RepoKind::Model).map_or_else(|_| "a URL".to_owned(), |l| l.to_string())
}

impl Session {
    /// Opens a model: `role` is what it is to the command.
    pub(crate) fn open(&self, role: &str, name: &Path) -> Result<Model, Failure> {
        let location = self.locate(role, name, RepoKind::Model)?;
        let model = model_from(self.find(&location, Wanted::Model)?, &location)?;
        if self.explains_inputs() {
            eprint(&format!("{role}: {}\n", plain(&model.root().to_string_lossy())));
        }
        Ok(model)
    }

    /// Opens a fine-tuned model, or a delta that restores it.
    pub(crate) fn open_tuned(&self, name: &Path) -> Result<Tuned, Failure> {
        let location = self.locate("fine-tuned", name, RepoKind::Model)?;
        let is_delta = |start: &dyn ByteSource| {
            start.bytes_at(0, DELTA_START.len()).is_ok_and(|start| *start == *DELTA_START)
        };
        let found = self.find(&location, Wanted::Model)?;
        let delta = match &found {
            Found::Local(Local { path, .. }) if path.is_file() => {
                let file = sparse_core::open_file(path).and_then(FileSource::new);
                file.is_ok_and(|file| is_delta(&file))
            }
            Found::File(source) => is_delta(&**source),
            _ => false,
        };
        if delta {
            return self.delta_from(found, &location).map(Box::new).map(Tuned::Delta);
        }
        model_from(found, &location).map(Box::new).map(Tuned::Model)
    }

    /// Opens a PEFT adapter.
    pub(crate) fn open_adapter(&self, name: &Path) -> Result<Adapter, Failure> {
        let location = self.locate("adapter", name, RepoKind::Model)?;
        match self.find(&location, Wanted::Adapter)? {
            Found::Local(Local { path, .. }) => Ok(Adapter::open(path)?),
            found => {
                let model = model_from(found, &location)?;
                Ok(Adapter::from_model(model).map_err(|e| e.in_file(location.to_string()))?)
            }
        }
    }

    /// Opens a delta of a model with all codecs and the limits of this run.
    pub(crate) fn open_delta(&self, name: &Path) -> Result<Delta, Failure> {
        let location = self.locate("delta", name, RepoKind::Model)?;
        self.delta_from(self.find(&location, Wanted::Delta)?, &location)
    }

    fn delta_from(&self, found: Found, location: &Location) -> Result<Delta, Failure> {
        let place = location.to_string();
        let source = match found {
            Found::Local(Local { path, .. }) => {
                return Ok(Delta::open_with(path, Codecs::default(), &self.limits())?);
            }
            Found::File(source) => source,
            Found::Folder(_) => return Err(no_file(location).into()),
        };
        let delta = Delta::from_source(source, Codecs::default(), &self.limits());
        Ok(delta.map_err(|e| e.in_file(&*place))?.called(place))
    }

    /// Opens a delta of a model or of a dataset.
    #[cfg(feature = "dataset")]
    pub(crate) fn open_any_delta(&self, name: &Path) -> Result<AnyDelta, Failure> {
        let location = self.locate("delta", name, RepoKind::Model)?;
        let limits = self.limits();
        match self.find(&location, Wanted::Delta)? {
            Found::Local(Local { path, .. }) if DatasetDelta::is_one(&path, &limits) => {
                Ok(AnyDelta::Dataset(DatasetDelta::open_with(path, &limits)?))
            }
            Found::File(source) => {
                let source = std::sync::Arc::<dyn ByteSource>::from(source);
                match DatasetDelta::from_source(Box::new(source.clone()), &limits) {
                    Err(e) if e.kind() == sparse::ErrorKind::NotThisFormat => {
                        let found = Found::File(Box::new(source));
                        self.delta_from(found, &location).map(AnyDelta::Model)
                    }
                    Err(e) => Err(e.in_file(location.to_string()).into()),
                    Ok(delta) => Ok(AnyDelta::Dataset(delta)),
                }
            }
            found => self.delta_from(found, &location).map(AnyDelta::Model),
        }
    }

    /// Opens a delta of a dataset.
    #[cfg(feature = "dataset")]
    pub(crate) fn open_dataset_delta(&self, name: &Path) -> Result<DatasetDelta, Failure> {
        let location = self.locate("delta", name, RepoKind::Dataset)?;
        match self.find(&location, Wanted::Delta)? {
            Found::Local(Local { path, .. }) => Ok(DatasetDelta::open_with(path, &self.limits())?),
            Found::File(source) => {
                let delta = DatasetDelta::from_source(source, &self.limits());
                Ok(delta.map_err(|e| e.in_file(location.to_string()))?)
            }
            Found::Folder(_) => Err(no_file(&location).into()),
        }
    }

    /// Opens a dataset: `role` is what it is to the command.
    #[cfg(feature = "dataset")]
    pub(crate) fn open_dataset(&self, role: &str, name: &Path) -> Result<Dataset, Failure> {
        let location = self.locate(role, name, RepoKind::Dataset)?;
        let (path, name) = match self.find(&location, Wanted::Dataset)? {
            Found::Local(Local { path, name, .. }) => (path, name),
            Found::File(source) => {
                let name = file_name(&location);
                (self.download(vec![(name, source)])?.1, Some(location.to_string()))
            }
            Found::Folder(files) => (self.download(files)?.0, Some(location.to_string())),
        };
        if self.explains_inputs() {
            eprint(&format!("{role}: {}\n", plain(&path.to_string_lossy())));
        }
        let dataset = Dataset::open(path)?;
        Ok(match name {
            Some(name) => dataset.named(name),
            None => dataset,
        })
    }

    /// Copies files to a folder of this run: rows are read in an order of their own.
    ///
    /// Returns the folder, and the last file.
    #[cfg(feature = "dataset")]
    fn download(
        &self,
        files: Vec<(String, Box<dyn ByteSource>)>,
    ) -> Result<(PathBuf, PathBuf), Failure> {
        let folder = self.scratch()?;
        let mut last = folder.clone();
        for (name, source) in files {
            sparse_core::check_path(&name)?;
            last = folder.join(&name);
            let place = |e: Error| e.in_file(last.display().to_string());
            let parent = last.parent().unwrap_or(&folder);
            let made = std::fs::create_dir_all(parent)
                .and_then(|()| std::fs::File::create_new(&last))
                .map_err(|e| place(Error::io("cannot write", e)));
            let mut out = made?;
            sparse_remote::copy(
                &*source,
                &mut out,
                ("downloading", &self.cancel_token()),
                &self.progress,
            )
            .map_err(place)?;
        }
        Ok((folder, last))
    }
}

/// Opens a model that was found.
fn model_from(found: Found, location: &Location) -> Result<Model, Failure> {
    let place = location.to_string();
    let model = match found {
        Found::Local(Local { path, name, exclude }) => {
            let mut options = OpenOptions::default();
            options.exclude = exclude;
            let model = options.open(path)?;
            return Ok(match name {
                Some(name) => model.named(name),
                None => model,
            });
        }
        Found::File(source) => Model::from_source(file_name(location), source),
        Found::Folder(files) => Model::from_sources(&*place, files),
    };
    Ok(model.map_err(|e| e.in_file(&*place))?.called(place))
}

/// Returns the last part of a location that is not a path.
fn file_name(location: &Location) -> String {
    let name = match location {
        Location::Path(path) => path.to_string_lossy().into_owned(),
        Location::Http(url) => url.file_name(),
        Location::Object(object) => object.file_name().to_owned(),
        Location::Hub(name) => name.file.clone().unwrap_or_else(|| name.id.clone()),
        other => other.to_string(),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.is_empty() { "data".to_owned() } else { last.to_owned() }
}

/// Returns the error of a folder where a file is wanted.
fn no_file(location: &Location) -> Error {
    let e = "a folder, not a delta file: name the file in it";
    Error::new(sparse::ErrorKind::NotThisFormat, e).in_file(location.to_string())
}
