//! What opening inputs needs: clients, limits, who is told, and where copies go.

use crate::observer::{OpenObserver, Silent};
use sparse::{CancelToken, Codecs, Error, Limits, Result};
use sparse_output::ScratchDir;
use sparse_remote::{Location, RepoKind};
use std::fmt;
use std::path::{Path, PathBuf};
#[cfg(feature = "http")]
use std::sync::OnceLock;
use std::sync::{Arc, Mutex, PoisonError};

/// Opens inputs by name.
///
/// Clients are made when the first name wants them, from the environment (`HF_ENDPOINT`,
/// `HF_TOKEN`, `HF_HUB_CACHE`, …). Copies that it makes of what cannot be read in place go with
/// it, so it must live as long as the datasets that it opened.
///
/// # Examples
///
/// ```
/// use sparse::{CancelToken, Limits};
/// use sparse_open::Opener;
///
/// let cancel = CancelToken::new();
/// let opener = Opener::new().with_limits(Limits::for_memory(1 << 30)).with_cancel(cancel);
/// assert!(opener.model("base", "no/such/model/here").is_err());
/// ```
pub struct Opener {
    pub(crate) observer: Arc<dyn OpenObserver>,
    pub(crate) cancel: CancelToken,
    pub(crate) limits: Limits,
    pub(crate) codecs: Codecs,
    pub(crate) streams: bool,
    #[cfg(feature = "http")]
    client: OnceLock<sparse_remote::Client>,
    #[cfg(feature = "hub")]
    hub: OnceLock<sparse_remote::Hub>,
    /// What came from the Hub, to be looked at when something goes wrong.
    #[cfg(feature = "hub")]
    pub(crate) fetched: Mutex<Vec<sparse_remote::Fetched>>,
    scratch: Mutex<Vec<ScratchDir>>,
}

impl Default for Opener {
    fn default() -> Opener {
        Opener::new()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Opener {
    /// Creates an opener that tells nobody, with all codecs and the default limits.
    #[must_use]
    pub fn new() -> Opener {
        Opener {
            observer: Arc::new(Silent),
            cancel: CancelToken::new(),
            limits: Limits::default(),
            codecs: Codecs::default(),
            streams: false,
            #[cfg(feature = "http")]
            client: OnceLock::new(),
            #[cfg(feature = "hub")]
            hub: OnceLock::new(),
            #[cfg(feature = "hub")]
            fetched: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// Sets who is told of downloads and of what a name was taken for.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn OpenObserver>) -> Opener {
        self.observer = observer;
        self
    }

    /// Sets the token that stops downloads.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Opener {
        self.cancel = cancel;
        self
    }

    /// Sets the limits that deltas are opened with.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Opener {
        self.limits = limits;
        self
    }

    /// Sets the codecs that deltas are opened with.
    #[must_use]
    pub fn with_codecs(mut self, codecs: Codecs) -> Opener {
        self.codecs = codecs;
        self
    }

    /// Sets whether models of the Hub are read by ranges.
    ///
    /// By default they are fetched to its cache.
    #[must_use]
    pub fn with_streaming(mut self, streams: bool) -> Opener {
        self.streams = streams;
        self
    }

    /// Says what `name` is, and tells the observer why; `role` is what it is to the caller.
    ///
    /// # Errors
    /// `InvalidArgument` for what looks like a URL and is none that is known.
    pub fn locate(&self, role: &str, name: &Path, kind: RepoKind) -> Result<Location> {
        let Some(text) = name.to_str() else { return Ok(Location::Path(name.to_owned())) };
        let location = Location::parse(text, kind)?;
        let is_path = location.path().is_some();
        // Of a path, only where the name could have been something else.
        if !is_path || sparse_remote::HubName::parse(text, kind).is_some() {
            let why = match location {
                Location::Hub(_) if text.contains("://") => "a repository of the Hub",
                _ => location.explain(),
            };
            self.observer.explain(role, &format!("{location} is {why}"));
        }
        Ok(location)
    }

    /// Returns the client for web servers, made when it is first wanted.
    ///
    /// # Errors
    /// What reading certificates reports that the environment names.
    #[cfg(feature = "http")]
    pub fn client(&self) -> Result<&sparse_remote::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut options = sparse_remote::ClientOptions::default();
        options.cancel = self.cancel.clone();
        options.notice = self.notice();
        let client = sparse_remote::Client::new(options)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Returns the Hub, as the environment says, made when it is first wanted.
    ///
    /// # Errors
    /// As [`sparse_remote::Hub::from_env`].
    #[cfg(feature = "hub")]
    pub fn hub(&self) -> Result<&sparse_remote::Hub> {
        if let Some(hub) = self.hub.get() {
            return Ok(hub);
        }
        let mut settings = sparse_remote::HubSettings::from_env()?;
        settings.client.cancel = self.cancel.clone();
        settings.client.notice = self.notice();
        let hub = sparse_remote::Hub::new(settings)?;
        Ok(self.hub.get_or_init(|| hub))
    }

    /// Returns who is told why a server is waited for.
    #[cfg(feature = "http")]
    fn notice(&self) -> sparse_remote::Notice {
        let observer = self.observer.clone();
        sparse_remote::Notice::new(move |text| observer.note(text))
    }

    /// Finds a damaged file in the cache of the Hub.
    ///
    /// All files that this opener found there are read: it is for the time after an input was
    /// refused.
    ///
    /// # Errors
    /// As [`sparse_remote::Fetched::damaged`].
    #[cfg(feature = "hub")]
    pub fn damaged(&self) -> Result<Option<PathBuf>> {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for fetched in fetched {
            if let Some(path) = fetched.damaged(&self.cancel)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Creates a private folder, which goes with the opener.
    ///
    /// # Errors
    /// `Io` when it cannot be made.
    pub fn scratch(&self) -> Result<PathBuf> {
        let folder = ScratchDir::create(std::env::temp_dir(), "sparse-download")?;
        let path = folder.path().to_owned();
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
        Ok(path)
    }
}

/// Returns the error of a location that this build has no means for.
pub(crate) fn missing(location: &Location) -> Error {
    let what = match location {
        Location::Hub(_) => "the Hub (feature hub)",
        Location::Http(_) => "web servers (feature http)",
        Location::Object(_) => "object stores (feature object-store)",
        _ => "names of that kind",
    };
    Error::invalid_argument(format!("this build of sparse cannot read from {what}"))
        .in_file(location.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what was explained.
    #[derive(Default)]
    struct Explained(Mutex<Vec<String>>);

    impl sparse::Observer for Explained {}

    impl OpenObserver for Explained {
        fn explain(&self, role: &str, text: &str) {
            self.0.lock().unwrap().push(format!("{role}: {text}"));
        }
    }

    #[test]
    fn names_are_explained_where_they_could_be_another_thing() {
        let explained = Arc::new(Explained::default());
        let opener = Opener::new().with_observer(explained.clone());
        let locate = |name: &str| opener.locate("base", Path::new(name), RepoKind::Model).unwrap();
        assert!(locate("./a/b/c").path().is_some());
        assert!(explained.0.lock().unwrap().is_empty());
        assert!(locate("org/name").path().is_none());
        assert!(explained.0.lock().unwrap()[0].starts_with("base: hf://org/name is "));
    }

    #[test]
    fn copies_go_with_the_opener() {
        let opener = Opener::new();
        let folder = opener.scratch().unwrap();
        assert!(folder.is_dir());
        drop(opener);
        assert!(!folder.exists());
    }
}
