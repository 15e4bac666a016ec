//! What a name on the command line leads to: paths, the Hub, web servers, object stores.

use crate::failure::Failure;
use crate::human::plain;
use crate::progress::eprint;
use crate::session::Session;
use sparse::Error;
use sparse_core::ByteSource;
use sparse_remote::{Location, RepoKind};
use std::path::{Path, PathBuf};

/// What a command looks for under a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Model,
    Adapter,
    Delta,
    #[cfg(feature = "dataset")]
    Dataset,
}

/// File or folder on this machine.
pub(crate) struct Local {
    pub(crate) path: PathBuf,
    /// What to record as its name, where that is not the path.
    pub(crate) name: Option<String>,
    /// Files of the folder that are no part of it.
    pub(crate) exclude: Vec<String>,
}

/// Input that was found.
#[cfg_attr(not(any(feature = "hub", feature = "object-store")), allow(dead_code))]
pub(crate) enum Found {
    /// Something on this machine.
    Local(Local),
    /// File elsewhere.
    File(Box<dyn ByteSource>),
    /// Files elsewhere, by their paths below the folder.
    Folder(Vec<(String, Box<dyn ByteSource>)>),
}

impl Session {
    /// Says what `name` is, and with `-v` why; `role` is what it is to the command.
    pub(crate) fn locate(
        &self,
        role: &str,
        name: &Path,
        kind: RepoKind,
    ) -> Result<Location, Failure> {
        let Some(text) = name.to_str() else { return Ok(Location::Path(name.to_owned())) };
        let location = Location::parse(text, kind)?;
        let is_path = location.path().is_some();
        // Of a path, only where the name could have been something else.
        let tells = !is_path || sparse_remote::HubName::parse(text, kind).is_some();
        if self.explains_inputs() && tells {
            let text = format!("{role}: {location} is {}", location.explain());
            eprint(&format!("{}\n", plain(&text)));
        }
        Ok(location)
    }

    /// Finds what is at `location`.
    pub(crate) fn find(&self, location: &Location, wanted: Wanted) -> Result<Found, Failure> {
        let _ = wanted;
        match location {
            Location::Path(path) => {
                let (path, name, exclude) = (path.clone(), None, Vec::new());
                Ok(Found::Local(Local { path, name, exclude }))
            }
            #[cfg(feature = "http")]
            Location::Http(url) => {
                let source = sparse_remote::HttpSource::open(self.client()?, url)?;
                Ok(Found::File(Box::new(source)))
            }
            #[cfg(feature = "hub")]
            Location::Hub(name) => self.find_on_hub(name, wanted),
            #[cfg(feature = "object-store")]
            Location::Object(name) => self.find_in_store(name),
            other => Err(missing(other).into()),
        }
    }

    #[cfg(feature = "hub")]
    fn find_on_hub(&self, name: &sparse_remote::HubName, wanted: Wanted) -> Result<Found, Failure> {
        use sparse_remote::Selection;
        let repo = self.hub()?.named(name);
        let selection = match wanted {
            Wanted::Model => Selection::Model,
            Wanted::Adapter => Selection::Adapter,
            Wanted::Delta => Selection::Delta,
            #[cfg(feature = "dataset")]
            Wanted::Dataset => Selection::Dataset { config: None, split: None },
        };
        let offline = self.hub()?.settings().offline;
        let looked = || -> sparse::Result<Found> {
            let is_range = wanted == Wanted::Delta || (wanted == Wanted::Model && self.streams());
            if is_range && !offline && repo.cached(&selection).is_err() {
                let mut files = repo.sources(&selection, &self.progress)?;
                if wanted == Wanted::Delta && files.len() > 1 {
                    files.retain(|file| is_delta(&file.0));
                }
                let is_one = wanted == Wanted::Delta || name.file.is_some();
                return match files.len() {
                    1 if is_one => Ok(Found::File(Box::new(files.remove(0).1))),
                    _ if wanted == Wanted::Delta => {
                        Err(several(name, files.iter().map(|file| &*file.0)))
                    }
                    _ => Ok(Found::Folder(boxed(files))),
                };
            }
            let fetched = repo.fetch(&selection, &self.progress);
            sparse::Observer::end(&self.progress);
            let fetched = fetched?;
            // Of a delta, the file, with a card beside it or not; of all else what was named.
            let all = fetched.files();
            let deltas: Vec<&str> = match all {
                [only] => vec![only],
                all => all.iter().map(|file| &**file).filter(|file| is_delta(file)).collect(),
            };
            let path = match (wanted, deltas.as_slice()) {
                (Wanted::Delta, [only]) => fetched.folder().join(only),
                (Wanted::Delta, all) => return Err(several(name, all.iter().copied())),
                _ => fetched.path().to_owned(),
            };
            let pinned = name.at(fetched.commit());
            // What others fetched of the snapshot does not belong to what was asked for.
            let exclude = fetched.others()?;
            if self.explains_inputs() && !exclude.is_empty() {
                let text = format!("{name}: no part of it: {}", exclude.join(", "));
                eprint(&format!("{}\n", plain(&text)));
            }
            let name = Some(pinned.to_string());
            Ok(Found::Local(Local { path, name, exclude }))
        };
        looked().map_err(|e| self.also_no_path(name, e).into())
    }

    /// Adds to the failure of a bare name that there is no such path, either.
    #[cfg(feature = "hub")]
    fn also_no_path(&self, name: &sparse_remote::HubName, e: Error) -> Error {
        match e.kind() {
            sparse::ErrorKind::NotFound | sparse::ErrorKind::AccessDenied => {
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

    #[cfg(feature = "object-store")]
    fn find_in_store(&self, name: &sparse_remote::ObjectName) -> Result<Found, Failure> {
        let bucket = sparse_remote::Bucket::open(name)?.with_cancel(self.cancel_token());
        match bucket.source(&name.key) {
            Ok(source) => Ok(Found::File(Box::new(source))),
            Err(e) if e.kind() != sparse::ErrorKind::NotFound => Err(e.into()),
            Err(e) => {
                let prefix = format!("{}/", name.key);
                let objects = bucket.list(&name.key)?;
                if objects.is_empty() {
                    return Err(e.into());
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

#[cfg(feature = "hub")]
fn boxed(files: Vec<(String, sparse_remote::HttpSource)>) -> Vec<(String, Box<dyn ByteSource>)> {
    files.into_iter().map(|(path, source)| (path, Box::new(source) as _)).collect()
}

/// Returns whether a file of a repository is a delta, by its name.
#[cfg(feature = "hub")]
fn is_delta(file: &str) -> bool {
    file.ends_with(".sparse")
}

/// Returns the error of a repository with several deltas.
#[cfg(feature = "hub")]
fn several<'a>(name: &sparse_remote::HubName, files: impl Iterator<Item = &'a str>) -> Error {
    let files: Vec<&str> = files.collect();
    let e = format!("there are several deltas: name one, as {name}/{}", files.join(", or /"));
    Error::invalid_argument(e).in_file(name.to_string())
}

/// Returns whether a recorded name is that of a repository of the Hub.
pub(crate) fn is_on_hub(recorded: &str) -> bool {
    let location = Location::parse(recorded, RepoKind::Model);
    recorded.starts_with("hf://") && matches!(location, Ok(Location::Hub(_)))
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
