//! The delta to be published, checked, and what is known of it.

use super::super::quality::sentence;
use crate::failure::Failure;
use crate::session::Session;
use sha2::{Digest, Sha256};
use sparse::{CancelToken, Codecs, Delta, Error, Observer};
use sparse_core::{ByteSource, FileSource, open_file};
use sparse_open::shown;
use sparse_open::{Found, Wanted};
use sparse_remote::{HubName, Location, RepoKind};
use std::path::Path;
use std::sync::Arc;

/// Bytes that are read at once for the digest.
const BLOCK: u64 = 4 << 20;

/// Delta that is to be published.
pub(super) struct Opened {
    pub(super) source: Arc<dyn ByteSource>,
    /// Name of the file, which ends in `.sparse`: that is how deltas are found in a repository.
    pub(super) name: String,
    pub(super) facts: Facts,
}

/// What a card tells of a delta.
pub(super) struct Facts {
    pub(super) is_dataset: bool,
    pub(super) is_adapter: bool,
    pub(super) needs_base: bool,
    /// Base on the Hub.
    pub(super) base: Option<HubName>,
    pub(super) delta_bytes: u64,
    /// Of what is restored.
    pub(super) target_bytes: u64,
    /// Of the delta, in hexadecimal digits.
    pub(super) sha256: String,
    /// Of what is restored, if the delta records it.
    pub(super) content: Option<String>,
    /// What is lost, in words.
    pub(super) certificate: Option<String>,
    /// Whether the very bytes come back of what is a dataset.
    pub(super) is_exact: bool,
}

impl Opened {
    /// Opens a delta, checks it as far as that goes without its base, and takes its digest.
    ///
    /// # Errors
    /// What opening reports; `Corrupt` where a checksum differs; `Cancelled`.
    pub(super) fn open(session: &Session, name: &Path) -> Result<Opened, Failure> {
        let location = session.opener().locate("delta", name, RepoKind::Model)?;
        let place = |e: Error| e.in_file(shown(name));
        let (found, exactly) = session.opener().find_exactly(&location, Wanted::Delta)?;
        let source: Arc<dyn ByteSource> = match found {
            Found::Local(local) => {
                let file = open_file(&local.path).and_then(FileSource::new);
                Arc::new(file.map_err(place)?)
            }
            Found::File(source) => Arc::from(source),
            Found::Folder(_) => {
                let e = Error::invalid_argument("a folder: name the delta file in it");
                return Err(place(e).into());
            }
        };
        let mut facts = facts(session, &source).map_err(place)?;
        facts.sha256 =
            sha256(&*source, &session.cancel_token(), &*session.progress).map_err(place)?;
        Ok(Opened { source, name: file_name(&exactly), facts })
    }
}

fn facts(session: &Session, source: &Arc<dyn ByteSource>) -> Result<Facts, Error> {
    #[cfg(feature = "dataset")]
    {
        use sparse_dataset::DatasetDelta;
        match DatasetDelta::from_source(Box::new(source.clone()), &session.limits()) {
            Ok(delta) => {
                return Ok(Facts {
                    is_dataset: true,
                    is_adapter: false,
                    needs_base: true,
                    base: on_hub(delta.base_id()),
                    delta_bytes: delta.byte_len(),
                    target_bytes: delta.decoded_bytes(),
                    sha256: String::new(),
                    content: delta.content_hash()?.map(|content| content.to_string()),
                    certificate: None,
                    is_exact: delta.is_exact(),
                });
            }
            Err(e) if e.kind() == sparse::ErrorKind::NotThisFormat => {}
            Err(e) => return Err(e),
        }
    }
    let delta = Delta::from_source(Box::new(source.clone()), Codecs::default(), &session.limits())?;
    check_chunks(&delta, &session.cancel_token())?;
    let summary = sparse::inspect(&delta);
    let (is_adapter, needs_base) = (delta.is_adapter(), summary.needs_base);
    // A base of which nothing is used is none.
    let base = if is_adapter || needs_base { on_hub(&summary.base_id) } else { None };
    Ok(Facts {
        is_dataset: false,
        is_adapter,
        needs_base,
        base,
        delta_bytes: summary.delta_bytes,
        target_bytes: summary.target_bytes,
        sha256: String::new(),
        content: summary.content.map(|content| content.to_string()),
        certificate: summary.certificate.as_ref().map(sentence),
        is_exact: true,
    })
}

/// Compares the checksums of everything that is coded.
fn check_chunks(delta: &Delta, cancel: &CancelToken) -> Result<(), Error> {
    let reader = delta.reader();
    for (unit, record) in delta.index().units.iter().enumerate() {
        reader.read_params(unit)?;
        for (chunk, _) in (0u64..).zip(&record.chunks) {
            cancel.check()?;
            reader.read_chunk(unit, chunk)?;
        }
    }
    Ok(())
}

/// Returns the repository that a recorded name is of.
fn on_hub(recorded: &str) -> Option<HubName> {
    let is_full = recorded.starts_with("hf://");
    match Location::parse(recorded, RepoKind::Model) {
        Ok(Location::Hub(name)) if is_full => Some(name),
        _ => None,
    }
}

fn sha256(
    source: &dyn ByteSource,
    cancel: &CancelToken,
    observer: &dyn Observer,
) -> Result<String, Error> {
    let len = source.byte_len();
    observer.begin("hashing", len);
    let mut digest = Sha256::new();
    let mut at = 0;
    while at < len {
        cancel.check()?;
        let count = (len - at).min(BLOCK);
        digest.update(&*source.bytes_at(at, usize::try_from(count).unwrap_or(usize::MAX))?);
        observer.advance(count);
        at += count;
    }
    observer.end();
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns the name that a delta gets in a repository.
fn file_name(location: &Location) -> String {
    let name = match location {
        Location::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        Location::Http(url) => url.file_name(),
        Location::Object(object) => object.file_name().to_owned(),
        Location::Hub(name) => name.file.clone().unwrap_or_else(|| name.id.clone()),
        other => other.to_string(),
    };
    let last = name.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("delta");
    if last.ends_with(".sparse") { last.to_owned() } else { format!("{last}.sparse") }
}
