//! Which codecs a program has.

use crate::{CodecId, DeltaDecoder, Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Set of decoders by id: a value that is passed in, never a global.
///
/// # Examples
///
/// ```
/// use sparse_core::{CodecId, ErrorKind, Registry};
///
/// let mut registry = Registry::new();
/// registry.add_disabled(CodecId(5), "int8");
/// let kind = |id| registry.decoder(CodecId(id)).err().map(|e| e.kind());
/// assert_eq!(kind(5), Some(ErrorKind::CodecDisabled));
/// assert_eq!(kind(77), Some(ErrorKind::UnknownCodec));
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    decoders: BTreeMap<CodecId, Arc<dyn DeltaDecoder>>,
    disabled: BTreeMap<CodecId, Disabled>,
}

/// Why there is no decoder.
#[derive(Clone, Copy)]
enum Disabled {
    /// The build lacks this feature.
    Feature(&'static str),
    /// The program removed the codec of this name.
    Removed(&'static str),
}

impl Registry {
    /// Creates a registry without codecs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a decoder.
    ///
    /// # Errors
    /// `AlreadyExists` when its id is taken.
    pub fn add(&mut self, decoder: Arc<dyn DeltaDecoder>) -> Result<&mut Self> {
        let info = decoder.info();
        let id = info.id;
        if let Some(other) = self.decoders.get(&id) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("codec id {id} of {} is taken by {}", info.name, other.info().name),
            ));
        }
        self.disabled.remove(&id);
        self.decoders.insert(id, decoder);
        Ok(self)
    }

    /// Records a codec that this build leaves out.
    ///
    /// The error about it can then name the feature to enable.
    pub fn add_disabled(&mut self, id: CodecId, feature: &'static str) -> &mut Self {
        if !self.decoders.contains_key(&id) {
            self.disabled.insert(id, Disabled::Feature(feature));
        }
        self
    }

    /// Removes the decoder called `name`.
    ///
    /// The error about it says that the program did.
    pub fn disable(&mut self, name: &str) -> &mut Self {
        let found = self.decoders.iter().find(|(_, d)| d.info().name == name);
        if let Some((id, name)) = found.map(|(id, d)| (*id, d.info().name)) {
            self.decoders.remove(&id);
            self.disabled.insert(id, Disabled::Removed(name));
        }
        self
    }

    /// Returns the decoder with this id.
    ///
    /// # Errors
    /// `CodecDisabled` when this build or program leaves it out, `UnknownCodec` when nobody here
    /// has heard of it.
    pub fn decoder(&self, id: CodecId) -> Result<&Arc<dyn DeltaDecoder>> {
        self.decoders.get(&id).ok_or_else(|| {
            let (kind, message) = match self.disabled.get(&id) {
                Some(Disabled::Feature(feature)) => (
                    ErrorKind::CodecDisabled,
                    format!(
                        "codec {id} was left out of this build: enable the feature `{feature}`"
                    ),
                ),
                Some(Disabled::Removed(name)) => (
                    ErrorKind::CodecDisabled,
                    format!("codec {id} ({name}) is disabled in this program"),
                ),
                None if id >= CodecId::FIRST_FOREIGN => (
                    ErrorKind::UnknownCodec,
                    format!(
                        "codec {id} is from outside the project: only a program that has it can \
                            read this"
                    ),
                ),
                None => {
                    let message = format!("codec {id} is unknown to this version: a newer one may");
                    (ErrorKind::UnknownCodec, message + " have it")
                }
            };
            Error::new(kind, message)
        })
    }

    /// Returns all decoders, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn DeltaDecoder>> {
        self.decoders.values()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|d| d.info())).finish()
    }
}
