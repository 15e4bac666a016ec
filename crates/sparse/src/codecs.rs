//! The codecs that a program has.

use sparse_core::{CodecId, CodecInfo, DeltaDecoder, Error, Registry, Result};
#[cfg(feature = "encode")]
use sparse_select::Scheme;
use std::fmt;
use std::sync::Arc;

/// Codecs of a program, for both directions.
///
/// They are decoders, and the schemes by which a selector chooses among encoders.
///
/// The default is every codec of this build, each of which is a feature of this crate. A codec from
/// elsewhere is added with [`with`](Codecs::with); from then on it is tried, chosen where it is the
/// smallest, and restored like the others.
///
/// # Examples
///
/// ```
/// use sparse::{CodecId, Codecs};
///
/// let codecs = Codecs::default();
/// assert!(codecs.decoder(CodecId(1)).is_ok());
/// assert!(codecs.without("svd").decoder(CodecId(9)).is_err());
/// ```
#[derive(Clone)]
pub struct Codecs {
    registry: Registry,
    #[cfg(feature = "encode")]
    schemes: Vec<Arc<dyn Scheme>>,
}

/// Numbers and names of all codecs of this project, with the features that they are behind.
const OURS: [(CodecId, &str, &str); 9] = [
    (CodecId(0), "raw", "raw"),
    (CodecId(1), "lossless", "lossless"),
    (CodecId(3), "low-rank", "low-rank"),
    (CodecId(4), "sparse", "sparse-codec"),
    (CodecId(5), "int8", "int8"),
    (CodecId(6), "sparse-int8", "sparse-int8"),
    (CodecId(7), "sign", "sign"),
    (CodecId(8), "ulp-bounded", "ulp-bounded"),
    (CodecId(9), "svd", "svd"),
];

impl Default for Codecs {
    fn default() -> Self {
        let decoders: Vec<Arc<dyn DeltaDecoder>> = vec![
            Arc::new(sparse_codecs::raw::Raw),
            Arc::new(sparse_codecs::lossless::Lossless),
            #[cfg(feature = "low-rank")]
            Arc::new(sparse_codecs::low_rank::LowRank),
            #[cfg(feature = "sparse-codec")]
            Arc::new(sparse_codecs::sparse::Sparse::default()),
            #[cfg(feature = "int8")]
            Arc::new(sparse_codecs::int8::Int8::default()),
            #[cfg(feature = "sparse-int8")]
            Arc::new(sparse_codecs::sparse_int8::SparseInt8::default()),
            #[cfg(feature = "sign")]
            Arc::new(sparse_codecs::sign::Sign::default()),
            #[cfg(feature = "ulp-bounded")]
            Arc::new(sparse_codecs::ulp_bounded::UlpBounded::default()),
            #[cfg(feature = "svd")]
            Arc::new(sparse_codecs::svd::Svd::default()),
        ];
        let mut codecs = Codecs::none();
        for (id, _, feature) in OURS {
            codecs.registry.add_disabled(id, feature);
        }
        for decoder in decoders {
            // Their ids differ, so adding them cannot fail.
            let _ = codecs.registry.add(decoder);
        }
        #[cfg(feature = "encode")]
        {
            // Another crate may have enabled codecs that this build does not read.
            let known = |s: &Arc<dyn Scheme>| codecs.registry.decoder(s.info().id).is_ok();
            let schemes = sparse_codecs::schemes().into_iter().filter(known).collect();
            codecs.schemes = schemes;
        }
        codecs
    }
}

impl Codecs {
    /// Creates a set without any codec.
    pub fn none() -> Codecs {
        Codecs {
            registry: Registry::new(),
            #[cfg(feature = "encode")]
            schemes: Vec::new(),
        }
    }

    /// Adds a scheme, and with it the decoder of what its encoders write.
    ///
    /// # Errors
    /// `AlreadyExists` when there is a scheme of that name, or another codec of that number;
    /// `InvalidArgument` when the number is this project's, or no policy can be written with the
    /// name.
    #[cfg(feature = "encode")]
    pub fn with(mut self, scheme: Arc<dyn Scheme>) -> Result<Codecs> {
        check_name(scheme.name())?;
        if self.schemes.iter().any(|s| s.name() == scheme.name()) {
            let message = format!("there is a scheme called {} already", scheme.name());
            return Err(Error::new(sparse_core::ErrorKind::AlreadyExists, message));
        }
        self = self.with_decoder(scheme.decoder())?;
        self.schemes.push(scheme);
        Ok(self)
    }

    /// Adds a decoder alone: for programs that only read.
    ///
    /// # Errors
    /// `AlreadyExists` when there is another codec of that number; `InvalidArgument` when the
    /// number is this project's.
    pub fn with_decoder(mut self, decoder: Arc<dyn DeltaDecoder>) -> Result<Codecs> {
        let info = decoder.info();
        check_number(info)?;
        match self.registry.decoder(info.id) {
            // Several schemes may share a codec.
            Ok(other) if other.info().name == info.name => {}
            _ => {
                self.registry.add(decoder)?;
            }
        }
        Ok(self)
    }

    /// Removes the scheme called `name`, and the codec of that name: nothing is coded with it, and
    /// a delta that needs it is refused with the error `CodecDisabled`.
    #[must_use]
    pub fn without(mut self, name: &str) -> Codecs {
        #[cfg(feature = "encode")]
        self.schemes.retain(|s| s.name() != name && s.info().name != name);
        self.registry.disable(name);
        self
    }

    /// Returns the decoder of a codec.
    ///
    /// # Errors
    /// `CodecDisabled` when this build or program leaves it out, `UnknownCodec` when nobody here
    /// knows it.
    pub fn decoder(&self, id: CodecId) -> Result<&Arc<dyn DeltaDecoder>> {
        self.registry.decoder(id)
    }

    /// Returns all decoders, by id.
    pub fn decoders(&self) -> impl Iterator<Item = &Arc<dyn DeltaDecoder>> {
        self.registry.iter()
    }

    /// Returns all schemes, in the order in which they are tried.
    #[cfg(feature = "encode")]
    pub fn schemes(&self) -> &[Arc<dyn Scheme>] {
        &self.schemes
    }
}

/// Checks that a codec has a number of its own: others would read its deltas as something else.
fn check_number(info: &CodecInfo) -> Result<()> {
    let (id, name) = (info.id, info.name);
    if id >= CodecId::FIRST_FOREIGN || OURS.iter().any(|ours| (ours.0, ours.1) == (id, name)) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "codec {name} has number {id}, but numbers below {} are for codecs of Sparse: give it one \
            from CodecId::FIRST_FOREIGN on",
        CodecId::FIRST_FOREIGN
    )))
}

/// Checks that a policy can be written with the name.
#[cfg(feature = "encode")]
fn check_name(name: &str) -> Result<()> {
    if !name.is_empty() && !name.contains([':', ';', '=']) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "{name:?} cannot be the name of a scheme: give at least one character, and none of `:`, \
            `;` and `=`"
    )))
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Codecs");
        out.field("decoders", &self.registry);
        #[cfg(feature = "encode")]
        out.field("schemes", &self.schemes.iter().map(|s| s.name()).collect::<Vec<_>>());
        out.finish()
    }
}
