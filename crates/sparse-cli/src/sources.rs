//! Where inputs are: paths, repositories of the Hub, files on web servers, objects in stores.

use crate::failure::Failure;
use crate::human::plain;
use crate::progress::eprint;
use crate::session::Session;
use sparse::{Adapter, Codecs, Delta, Error, Model};
use sparse_core::{ByteSource, FileSource};
#[cfg(feature = "dataset")]
use sparse_dataset::{Dataset, DatasetDelta};
use sparse_remote::{Location, RepoKind};
use std::path::{Path, PathBuf};

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

/// Input that was found: something on this machine, or bytes elsewhere.
enum Found {
    Local(PathBuf),
    Remote(Box<dyn ByteSource>),
}

impl Session {
    /// Says what `name` is, and with `-v` why; `role` is what it is to the command.
    fn locate(&self, role: &str, name: &Path, kind: RepoKind) -> Result<Location, Failure> {
        let Some(text) = name.to_str() else { return Ok(Location::Path(name.to_owned())) };
        let location = Location::parse(text, kind)?;
        if self.explains_inputs() && location.path().is_none() {
            let text = format!("{role}: {location} is {}\n", location.explain());
            eprint(&plain(&text));
        }
        Ok(location)
    }

    /// Finds one file.
    fn find_file(&self, location: &Location) -> Result<Found, Failure> {
        match location {
            Location::Path(path) => Ok(Found::Local(path.clone())),
            #[cfg(feature = "http")]
            Location::Http(url) => {
                let source = sparse_remote::HttpSource::open(self.client()?, url)?;
                Ok(Found::Remote(Box::new(source)))
            }
            other => Err(missing(other).into()),
        }
    }

    /// Opens a model: `role` is what it is to the command.
    pub(crate) fn open(&self, role: &str, name: &Path) -> Result<Model, Failure> {
        let location = self.locate(role, name, RepoKind::Model)?;
        let model = match self.find_file(&location)? {
            Found::Local(path) => Model::open(path)?,
            Found::Remote(source) => model_from(&location, source)?,
        };
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
        match self.find_file(&location)? {
            Found::Local(path) => {
                let file = path.is_file().then(|| sparse_core::open_file(&path)).transpose();
                let file = file.ok().flatten().and_then(|file| FileSource::new(file).ok());
                match file.is_some_and(|file| is_delta(&file)) {
                    true => self.open_delta(&path).map(Box::new).map(Tuned::Delta),
                    false => Ok(Tuned::Model(Box::new(Model::open(path)?))),
                }
            }
            Found::Remote(source) if is_delta(&*source) => {
                self.delta_from(&location, source).map(Box::new).map(Tuned::Delta)
            }
            Found::Remote(source) => model_from(&location, source).map(Box::new).map(Tuned::Model),
        }
    }

    /// Opens a PEFT adapter.
    pub(crate) fn open_adapter(&self, name: &Path) -> Result<Adapter, Failure> {
        let location = self.locate("adapter", name, RepoKind::Model)?;
        match location {
            Location::Path(path) => Ok(Adapter::open(path)?),
            other => Err(missing(&other).into()),
        }
    }

    /// Opens a delta of a model with all codecs and the limits of this run.
    pub(crate) fn open_delta(&self, name: &Path) -> Result<Delta, Failure> {
        let location = self.locate("delta", name, RepoKind::Model)?;
        match self.find_file(&location)? {
            Found::Local(path) => Ok(Delta::open_with(path, Codecs::default(), &self.limits())?),
            Found::Remote(source) => self.delta_from(&location, source),
        }
    }

    fn delta_from(
        &self,
        location: &Location,
        source: Box<dyn ByteSource>,
    ) -> Result<Delta, Failure> {
        let place = location.to_string();
        let delta = Delta::from_source(source, Codecs::default(), &self.limits());
        Ok(delta.map_err(|e| e.in_file(&*place))?.called(place))
    }

    /// Opens a delta of a model or of a dataset.
    #[cfg(feature = "dataset")]
    pub(crate) fn open_any_delta(&self, name: &Path) -> Result<AnyDelta, Failure> {
        let location = self.locate("delta", name, RepoKind::Model)?;
        let limits = self.limits();
        match self.find_file(&location)? {
            Found::Local(path) if DatasetDelta::is_one(&path, &limits) => {
                Ok(AnyDelta::Dataset(DatasetDelta::open_with(path, &limits)?))
            }
            Found::Local(path) => {
                Ok(AnyDelta::Model(Delta::open_with(path, Codecs::default(), &limits)?))
            }
            Found::Remote(source) => {
                let source = std::sync::Arc::<dyn ByteSource>::from(source);
                match DatasetDelta::from_source(Box::new(source.clone()), &limits) {
                    Err(e) if e.kind() == sparse::ErrorKind::NotThisFormat => {
                        self.delta_from(&location, Box::new(source)).map(AnyDelta::Model)
                    }
                    Err(e) => Err(e.in_file(location.to_string()).into()),
                    Ok(delta) => Ok(AnyDelta::Dataset(delta)),
                }
            }
        }
    }

    /// Opens a delta of a dataset.
    #[cfg(feature = "dataset")]
    pub(crate) fn open_dataset_delta(&self, name: &Path) -> Result<DatasetDelta, Failure> {
        let location = self.locate("delta", name, RepoKind::Dataset)?;
        match self.find_file(&location)? {
            Found::Local(path) => Ok(DatasetDelta::open_with(path, &self.limits())?),
            Found::Remote(source) => {
                let delta = DatasetDelta::from_source(source, &self.limits());
                Ok(delta.map_err(|e| e.in_file(location.to_string()))?)
            }
        }
    }

    /// Opens a dataset: `role` is what it is to the command.
    #[cfg(feature = "dataset")]
    pub(crate) fn open_dataset(&self, role: &str, name: &Path) -> Result<Dataset, Failure> {
        let location = self.locate(role, name, RepoKind::Dataset)?;
        match self.find_file(&location)? {
            Found::Local(path) => Ok(Dataset::open(path)?),
            Found::Remote(source) => {
                let path = self.download(&location, &*source)?;
                Ok(Dataset::open(path)?.named(location.to_string()))
            }
        }
    }

    /// Copies a file to this run's scratch folder: rows are read in an order of their own.
    #[cfg(feature = "dataset")]
    fn download(&self, location: &Location, source: &dyn ByteSource) -> Result<PathBuf, Failure> {
        let name = file_name(location);
        let path = self.scratch()?.join(if name.is_empty() { "data" } else { &name });
        let mut file = std::fs::File::create_new(&path)
            .map_err(|e| Error::io("cannot write", e).in_file(path.display().to_string()))?;
        sparse_remote::copy(source, &mut file, &self.cancel_token(), &self.progress)
            .map_err(|e| e.in_file(path.display().to_string()))?;
        Ok(path)
    }
}

/// Opens a model of one file that is not on this machine.
fn model_from(location: &Location, source: Box<dyn ByteSource>) -> Result<Model, Failure> {
    let place = location.to_string();
    let model = Model::from_source(file_name(location), source);
    Ok(model.map_err(|e| e.in_file(&*place))?.called(place))
}

/// Returns the last part of a location that is not a path.
fn file_name(location: &Location) -> String {
    match location {
        Location::Http(url) => url.file_name(),
        Location::Object(object) => object.file_name().to_owned(),
        other => other.to_string(),
    }
}

/// Returns the error of a location that this build has no means for.
fn missing(location: &Location) -> Error {
    let what = match location {
        Location::Hub(_) => "the Hub (feature hub)",
        Location::Http(_) => "web servers (feature http)",
        Location::Object(_) => "object stores (feature object-store)",
        _ => "names of that kind",
    };
    Error::invalid_argument(format!("this build of sparse cannot read from {what}"))
        .in_file(location.to_string())
}
