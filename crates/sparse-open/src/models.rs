//! Models, adapters, and deltas of models.

use crate::found::{Found, Local, Wanted};
use crate::opener::Opener;
use crate::shown::file_name;
use sparse::{Adapter, Delta, Error, ErrorKind, Model, OpenOptions, Result};
use sparse_core::{ByteSource, FileSource};
use sparse_remote::{Location, RepoKind};
use std::path::Path;

/// Fine-tuned model, as it is or as a delta.
#[derive(Debug)]
pub enum Tuned {
    /// Model.
    Model(Box<Model>),
    /// Delta that restores it.
    Delta(Box<Delta>),
}

/// First bytes of every delta.
const DELTA_START: &[u8; 5] = b"\xd3SPRS";

impl Opener {
    /// Opens a model: `role` is what it is to the caller, such as "base".
    ///
    /// # Errors
    /// As [`find`](Opener::find); what opening a model reports.
    pub fn model(&self, role: &str, name: impl AsRef<Path>) -> Result<Model> {
        let location = self.locate(role, name.as_ref(), RepoKind::Model)?;
        let (found, exactly) = self.find_exactly(&location, Wanted::Model)?;
        let model = model_from(found, &exactly)?;
        self.observer.explain(role, &model.root().to_string_lossy());
        Ok(model)
    }

    /// Opens a fine-tuned model, or a delta that restores it.
    ///
    /// # Errors
    /// As [`find`](Opener::find); what opening either reports.
    pub fn tuned(&self, name: impl AsRef<Path>) -> Result<Tuned> {
        let location = self.locate("fine-tuned", name.as_ref(), RepoKind::Model)?;
        let is_delta = |start: &dyn ByteSource| {
            start.bytes_at(0, DELTA_START.len()).is_ok_and(|start| *start == *DELTA_START)
        };
        let (found, exactly) = self.find_exactly(&location, Wanted::Model)?;
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
        model_from(found, &exactly).map(Box::new).map(Tuned::Model)
    }

    /// Opens a PEFT adapter.
    ///
    /// # Errors
    /// As [`find`](Opener::find); what opening an adapter reports.
    pub fn adapter(&self, name: impl AsRef<Path>) -> Result<Adapter> {
        let location = self.locate("adapter", name.as_ref(), RepoKind::Model)?;
        match self.find(&location, Wanted::Adapter)? {
            Found::Local(Local { path, .. }) => Adapter::open(path),
            found => {
                let model = model_from(found, &location)?;
                Adapter::from_model(model).map_err(|e| e.in_file(location.to_string()))
            }
        }
    }

    /// Opens a delta of a model, with the codecs and the limits of the opener.
    ///
    /// # Errors
    /// As [`find`](Opener::find); what opening a delta reports.
    pub fn delta(&self, name: impl AsRef<Path>) -> Result<Delta> {
        let location = self.locate("delta", name.as_ref(), RepoKind::Model)?;
        self.delta_from(self.find(&location, Wanted::Delta)?, &location)
    }

    pub(crate) fn delta_from(&self, found: Found, location: &Location) -> Result<Delta> {
        let place = location.to_string();
        let source = match found {
            Found::Local(Local { path, .. }) => {
                return Delta::open_with(path, self.codecs.clone(), &self.limits);
            }
            Found::File(source) => source,
            Found::Folder(_) => return Err(no_file(location)),
        };
        let delta = Delta::from_source(source, self.codecs.clone(), &self.limits);
        Ok(delta.map_err(|e| e.in_file(&*place))?.called(place))
    }
}

/// Opens a model that was found.
fn model_from(found: Found, location: &Location) -> Result<Model> {
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

/// Returns the error of a folder where a file is wanted.
pub(crate) fn no_file(location: &Location) -> Error {
    let e = "a folder, not a delta file: name the file in it";
    Error::new(ErrorKind::NotThisFormat, e).in_file(location.to_string())
}
