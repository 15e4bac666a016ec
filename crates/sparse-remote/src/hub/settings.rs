//! Where the Hub is, who asks, and where the cache is.

use crate::{ClientOptions, Token, Url};
use sparse_core::{Error, ErrorKind, Executor, Result, Threads};
use sparse_model::HubCache;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The Hub, where the environment names no other.
const ENDPOINT: &str = "https://huggingface.co";
/// Longest file with a token in bytes.
const MOST_TOKEN: u64 = 1 << 16;

/// Settings of a [`Hub`](crate::Hub).
///
/// # Examples
///
/// ```
/// use sparse_core::Threads;
/// use sparse_remote::{HubSettings, Url};
/// use std::sync::Arc;
///
/// let mut settings = HubSettings::new(Url::parse("https://hub.example.com")?, "/data/hub");
/// settings.executor = Arc::new(Threads::new(4));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubSettings {
    /// Address of the Hub.
    pub endpoint: Url,
    /// Token, sent to the endpoint's host and no other.
    pub token: Option<Token>,
    /// Folder of the cache, which has the `models--...` folders.
    pub cache: PathBuf,
    /// Whether the cache alone answers, and no connection is opened.
    pub offline: bool,
    /// Executor of downloads, a piece of work for each file. By default, 8 threads, as the Python
    /// client has them: they wait most of the time.
    pub executor: Arc<dyn Executor>,
    /// When requests are made again, and what stops them.
    pub client: ClientOptions,
}

impl HubSettings {
    /// Creates settings without a token.
    pub fn new(endpoint: Url, cache: impl Into<PathBuf>) -> HubSettings {
        HubSettings {
            endpoint,
            token: None,
            cache: cache.into(),
            offline: false,
            executor: Arc::new(Threads::new(8)),
            client: ClientOptions::default(),
        }
    }

    /// Reads the settings from the variables that the Python client reads.
    ///
    /// They are `HF_ENDPOINT`; `HF_TOKEN`, else the file `HF_TOKEN_PATH` or `$HF_HOME/token`;
    /// `HF_HUB_CACHE` or `HF_HOME`, see [`HubCache::Environment`]; `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// `InvalidArgument` when the endpoint is no URL; `NotFound` when there is no folder for the
    /// cache; `Io` when the file with the token cannot be read.
    pub fn from_env() -> Result<HubSettings> {
        let cache = HubCache::Environment.folder().ok_or_else(|| {
            let e = "there is no folder for the Hugging Face cache: set HF_HOME";
            Error::new(ErrorKind::NotFound, e)
        })?;
        HubSettings::from_variables(|name| std::env::var_os(name), HubCache::home(), cache)
    }

    fn from_variables(
        var: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
        cache: PathBuf,
    ) -> Result<HubSettings> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let text = |name: &str| var(name).map(|value| value.to_string_lossy().into_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = Url::parse(&endpoint).map_err(|e| e.in_file("HF_ENDPOINT"))?;
        let mut settings = HubSettings::new(endpoint, cache);
        let is_true = |name| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            ["1", "ON", "YES", "TRUE"].contains(&&*value)
        };
        settings.offline = is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE");
        let path = var("HF_TOKEN_PATH").map(PathBuf::from);
        let path = path.or_else(|| home.map(|folder| folder.join("token")));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        settings.token = match (token, path) {
            _ if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            (Some(token), _) => Some(Token::new(token)),
            (None, Some(path)) => token_of(&path)?,
            (None, None) => None,
        }
        .filter(|token| !token.is_empty());
        if settings.token.as_ref().is_some_and(|token| !token.is_plain()) {
            let e = "the token of the Hub has characters that no token has: set HF_TOKEN anew";
            return Err(Error::invalid_argument(e));
        }
        Ok(settings)
    }
}

/// Reads the file with the token, if it is there.
fn token_of(path: &Path) -> Result<Option<Token>> {
    let place = || path.display().to_string();
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= MOST_TOKEN => {}
        Ok(_) => {
            let e = "the file with the token of the Hub is not a small file";
            return Err(Error::new(ErrorKind::InvalidInput, e).in_file(place()));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("cannot read the token of the Hub", e).in_file(place())),
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Token::new(text))),
        Err(e) => Err(Error::io("cannot read the token of the Hub", e).in_file(place())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), " hf_file\n").unwrap();
        std::fs::write(dir.path().join("other"), "hf_other").unwrap();
        let other = dir.path().join("other").display().to_string();
        let read = |vars: &[(&str, &str)]| {
            let get = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| OsString::from(v.1));
            HubSettings::from_variables(get, Some(dir.path().into()), "c".into()).unwrap()
        };
        let plain = read(&[]);
        assert_eq!(plain.endpoint.to_string(), "https://huggingface.co/");
        assert!(plain.token == Some(Token::new("hf_file")) && !plain.offline);
        assert_eq!(read(&[("HF_TOKEN", "hf_a")]).token, Some(Token::new("hf_a")));
        assert_eq!(read(&[("HF_TOKEN_PATH", &other)]).token, Some(Token::new("hf_other")));
        assert_eq!(read(&[("HF_TOKEN_PATH", "none")]).token, None);
        assert_eq!(read(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        assert!(read(&[("HF_HUB_OFFLINE", "yes")]).offline);
        assert!(!read(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(!format!("{:?}", read(&[("HF_TOKEN", "hf_a")])).contains("hf_a"));
        let e = HubSettings::from_variables(|_| Some("x".into()), None, "c".into()).unwrap_err();
        assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidArgument, Some("HF_ENDPOINT")));
    }
}
