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
    disabled: BTreeMap<CodecId, &'static str>,
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
            self.disabled.insert(id, feature);
        }
        self
    }

    /// Removes the decoder called `name`, and notes that it was left out.
    pub fn disable(&mut self, name: &str) -> &mut Self {
        let found = self.decoders.iter().find(|(_, d)| d.info().name == name);
        if let Some((id, name)) = found.map(|(id, d)| (*id, d.info().name)) {
            self.decoders.remove(&id);
            self.disabled.insert(id, name);
        }
        self
    }

    /// Returns the decoder with this id.
    ///
    /// # Errors
    /// `CodecDisabled` when this build leaves it out, `UnknownCodec` when nobody here has heard of
    /// it.
    pub fn decoder(&self, id: CodecId) -> Result<&Arc<dyn DeltaDecoder>> {
        self.decoders.get(&id).ok_or_else(|| match self.disabled.get(&id) {
            Some(feature) => Error::new(
                ErrorKind::CodecDisabled,
                format!("codec {id} was left out of this build: enable the feature `{feature}`"),
            ),
            None => Error::new(
                ErrorKind::UnknownCodec,
                format!("codec {id} is unknown to this version"),
            ),
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
