//! Finds what a name leads to: paths, the Hub, web servers, object stores.

#[cfg(feature = "hub")]
use crate::observer::Downloads;
use crate::opener::{Opener, missing};
use sparse::{Error, Result};
use sparse_core::ByteSource;
#[cfg(feature = "hub")]
use sparse_remote::{Fetched, HttpSource, HubName, Selection};
use sparse_remote::{Location, RepoKind};
use std::fmt;
use std::path::{Path, PathBuf};
#[cfg(feature = "hub")]
use std::sync::PoisonError;

/// Kind of input that is looked for under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// Model: weights, configuration, tokenizer.
    Model,
    /// PEFT adapter.
    Adapter,
    /// Delta of a model or of a dataset.
    Delta,
    /// Dataset: data files and what describes them.
    #[cfg(feature = "dataset")]
    Dataset,
}

/// File or folder on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where it is.
    pub path: PathBuf,
    /// Name to record for it, where that is not the path.
    pub name: Option<String>,
    /// Files of the folder that are no part of it.
    pub exclude: Vec<String>,
}

/// Input that was found.
pub enum Found {
    /// Something on this machine.
    Local(Local),
    /// File elsewhere.
    File(Box<dyn ByteSource>),
    /// Files elsewhere, by their paths below the folder.
    Folder(Vec<(String, Box<dyn ByteSource>)>),
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Local(local) => f.debug_tuple("Local").field(local).finish(),
            Found::File(file) => f.debug_tuple("File").field(&file.byte_len()).finish(),
            Found::Folder(files) => {
                f.debug_list().entries(files.iter().map(|(path, _)| path)).finish()
            }
        }
    }
}

impl Opener {
    /// Finds what is at `location`, and downloads what cannot be read in place.
    ///
    /// # Errors
    /// `NotFound`, `AccessDenied`, `Unavailable` and others of the place; `InvalidArgument` where
    /// this build has no means for it, or where several deltas are in one repository.
    pub fn find(&self, location: &Location, wanted: Wanted) -> Result<Found> {
        Ok(self.find_exactly(location, wanted)?.0)
    }

    /// Finds the path of an input on this machine, for programs that take paths alone.
    ///
    /// A repository of the Hub is downloaded first.
    ///
    /// # Errors
    /// As [`find`](Opener::find); `InvalidArgument` for what is read where it is.
    pub fn local(&self, role: &str, name: impl AsRef<Path>, wanted: Wanted) -> Result<PathBuf> {
        let location = self.locate(role, name.as_ref(), RepoKind::Model)?;
        match self.find(&location, wanted)? {
            Found::Local(local) => Ok(local.path),
            _ => {
                let e = "this must be on this machine: fetch it first, or do without --stream";
                Err(Error::invalid_argument(e).in_file(location.to_string()))
            }
        }
    }

    /// Finds what is at `location`, and returns what exactly that is: of a repository with its
    /// commit, and of a delta in one with its file.
    ///
    /// # Errors
    /// As [`find`](Opener::find).
    pub fn find_exactly(&self, location: &Location, wanted: Wanted) -> Result<(Found, Location)> {
        let _ = wanted;
        let found = match location {
            Location::Path(path) => {
                let (path, name, exclude) = (path.clone(), None, Vec::new());
                Found::Local(Local { path, name, exclude })
            }
            #[cfg(feature = "http")]
            Location::Http(url) => {
                let source = sparse_remote::HttpSource::open(self.client()?, url)?;
                Found::File(Box::new(source))
            }
            #[cfg(feature = "hub")]
            Location::Hub(name) => {
                let found = self.find_on_hub(name, wanted).map_err(|e| also_no_path(name, e));
                return found.map(|(found, name)| (found, Location::Hub(name)));
            }
            #[cfg(feature = "object-store")]
            Location::Object(name) => self.find_in_store(name)?,
            other => return Err(missing(other)),
        };
        Ok((found, location.clone()))
    }

    #[cfg(feature = "hub")]
    fn find_on_hub(&self, name: &HubName, wanted: Wanted) -> Result<(Found, HubName)> {
        let hub = self.hub()?;
        let repo = hub.named(name);
        let selection = match wanted {
            Wanted::Model => Selection::Model,
            Wanted::Adapter => Selection::Adapter,
            Wanted::Delta => Selection::Delta,
            #[cfg(feature = "dataset")]
            Wanted::Dataset => Selection::Dataset { config: None, split: None },
        };
        let by_ranges = wanted == Wanted::Delta || (wanted == Wanted::Model && self.streams);
        if by_ranges && !hub.settings().offline && repo.cached(&selection).is_err() {
            let files = repo.sources(&selection, &Downloads(&*self.observer))?;
            // The commit that was asked for to list them.
            return in_place(name, repo.commit()?, wanted, files);
        }
        let fetched = repo.fetch(&selection, &Downloads(&*self.observer));
        self.observer.end();
        let fetched = fetched?;
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).push(fetched.clone());
        let mut exactly = name.at(fetched.commit());
        let recorded = Some(exactly.to_string());
        let path = match wanted {
            Wanted::Delta => {
                let file = delta_of(name, &fetched)?;
                exactly.file = Some(file.to_owned());
                fetched.folder().join(file)
            }
            _ => fetched.path().to_owned(),
        };
        // What others fetched of the snapshot does not belong to what was asked for.
        let exclude = fetched.others()?;
        if !exclude.is_empty() {
            let text = format!("no part of it: {}", exclude.join(", "));
            self.observer.explain(&name.to_string(), &text);
        }
        Ok((Found::Local(Local { path, name: recorded, exclude }), exactly))
    }

    #[cfg(feature = "object-store")]
    fn find_in_store(&self, name: &sparse_remote::ObjectName) -> Result<Found> {
        let bucket = sparse_remote::Bucket::open(name)?.with_cancel(self.cancel.clone());
        match bucket.source(&name.key) {
            Ok(source) => Ok(Found::File(Box::new(source))),
            Err(e) if e.kind() != sparse::ErrorKind::NotFound => Err(e),
            Err(e) => {
                let prefix = format!("{}/", name.key);
                let objects = bucket.list(&name.key)?;
                if objects.is_empty() {
                    return Err(e);
                }
                let mut files: Vec<(String, Box<dyn ByteSource>)> = Vec::new();
                for object in objects {
                    let Some(below) = object.key.strip_prefix(&prefix) else { continue };
                    let below = below.to_owned();
                    files.push((below, Box::new(bucket.source(&object.key)?)));
                }
                Ok(Found::Folder(files))
            }
        }
    }
}

/// Returns the files of a repository that are read by ranges.
#[cfg(feature = "hub")]
fn in_place(
    name: &HubName,
    commit: String,
    wanted: Wanted,
    mut files: Vec<(String, HttpSource)>,
) -> Result<(Found, HubName)> {
    if wanted == Wanted::Delta && files.len() > 1 {
        files.retain(|file| is_delta(&file.0));
    }
    let is_one = wanted == Wanted::Delta || name.file.is_some();
    let mut exactly = name.at(commit);
    let found = match files.len() {
        1 if is_one => {
            let (path, source) = files.remove(0);
            exactly.file = Some(path);
            Found::File(Box::new(source))
        }
        _ if wanted == Wanted::Delta => {
            return Err(several(name, files.iter().map(|file| &*file.0)));
        }
        _ => Found::Folder(
            files.into_iter().map(|(path, source)| (path, Box::new(source) as _)).collect(),
        ),
    };
    Ok((found, exactly))
}

/// Returns the delta among the files that were fetched, with a card beside it or not.
#[cfg(feature = "hub")]
fn delta_of<'a>(name: &HubName, fetched: &'a Fetched) -> Result<&'a str> {
    let deltas: Vec<&str> = match fetched.files() {
        [only] => vec![only],
        all => all.iter().map(|file| &**file).filter(|file| is_delta(file)).collect(),
    };
    match deltas.as_slice() {
        [only] => Ok(only),
        all => Err(several(name, all.iter().copied())),
    }
}

/// Returns whether a file of a repository is a delta, by its name.
#[cfg(feature = "hub")]
fn is_delta(file: &str) -> bool {
    file.ends_with(".sparse")
}

/// Returns the error of a repository with several deltas.
#[cfg(feature = "hub")]
fn several<'a>(name: &HubName, files: impl Iterator<Item = &'a str>) -> Error {
    let files: Vec<&str> = files.collect();
    let e = format!("there are several deltas: name one, as {name}/{}", files.join(", or /"));
    Error::invalid_argument(e).in_file(name.to_string())
}

/// Adds to the failure of a bare name that there is no such path, either.
#[cfg(feature = "hub")]
fn also_no_path(name: &HubName, e: Error) -> Error {
    match e.kind() {
        sparse::ErrorKind::NotFound if !Path::new(&name.id).exists() => {
            let message = format!("{} (and there is no path {})", e.message(), name.id);
            let mut out = Error::new(e.kind(), message);
            if let Some(file) = e.file() {
                out = out.in_file(file);
            }
            out
        }
        _ => e,
    }
}
