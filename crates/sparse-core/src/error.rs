//! The one error type that all layers share.

use std::borrow::Cow;
use std::fmt;

/// `std::result::Result` with this crate's [`Error`].
///
/// # Examples
///
/// ```
/// fn half(of: u64) -> sparse_core::Result<u64> {
///     match of % 2 {
///         0 => Ok(of / 2),
///         _ => Err(sparse_core::Error::invalid_argument(format!("{of} is odd"))),
///     }
/// }
///
/// assert_eq!(half(4).ok(), Some(2));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Kind of an error, by what the caller can do about it.
///
/// # Examples
///
/// ```
/// use sparse_core::{ErrorKind, parse_size};
///
/// assert_eq!(parse_size("20 apples").unwrap_err().kind(), ErrorKind::InvalidArgument);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The delta names a codec that this program has never heard of: a newer program wrote it.
    UnknownCodec,
    /// The codec is known but was left out of this build: enable its feature.
    CodecDisabled,
    /// The file's format version is newer (or older) than this program reads.
    UnsupportedVersion,
    /// The file is not of the expected kind at all (wrong magic).
    NotThisFormat,
    /// The data contradicts itself or its checksum: fetch it again.
    Corrupt,
    /// The data ends too early: the transfer was cut short.
    Truncated,
    /// The base is not the one that the delta was made against.
    BaseMismatch,
    /// The caller passed something impossible: a wrong buffer length, an index out of range.
    InvalidArgument,
    /// A file that the user named is malformed: not safetensors, bad JSON, a name that leaves the
    /// folder.
    InvalidInput,
    /// Nothing has that name or path.
    NotFound,
    /// The output exists and overwriting was not asked for.
    AlreadyExists,
    /// Going on would exceed a stated limit.
    LimitExceeded,
    /// A server wants a token, or does not let this one in.
    AccessDenied,
    /// A server cannot be reached, is busy, or keeps failing: try again later.
    Unavailable,
    /// The caller asked to stop.
    Cancelled,
    /// The operating system refused; the source error says why.
    Io,
    /// A fault of this program, noticed before it did harm: please report it.
    Internal,
}

impl ErrorKind {
    const NAMES: [(ErrorKind, &str); 17] = [
        (ErrorKind::UnknownCodec, "unknown_codec"),
        (ErrorKind::CodecDisabled, "codec_disabled"),
        (ErrorKind::UnsupportedVersion, "unsupported_version"),
        (ErrorKind::NotThisFormat, "not_this_format"),
        (ErrorKind::Corrupt, "corrupt"),
        (ErrorKind::Truncated, "truncated"),
        (ErrorKind::BaseMismatch, "base_mismatch"),
        (ErrorKind::InvalidArgument, "invalid_argument"),
        (ErrorKind::InvalidInput, "invalid_input"),
        (ErrorKind::NotFound, "not_found"),
        (ErrorKind::AlreadyExists, "already_exists"),
        (ErrorKind::LimitExceeded, "limit_exceeded"),
        (ErrorKind::AccessDenied, "access_denied"),
        (ErrorKind::Unavailable, "unavailable"),
        (ErrorKind::Cancelled, "cancelled"),
        (ErrorKind::Io, "io"),
        (ErrorKind::Internal, "fault"),
    ];

    /// Returns the name of the kind in reports and in other languages. Names do not change.
    ///
    /// # Examples
    /// ```
    /// use sparse_core::ErrorKind;
    ///
    /// assert_eq!(ErrorKind::BaseMismatch.name(), "base_mismatch");
    /// assert_eq!(ErrorKind::from_name("io"), Some(ErrorKind::Io));
    /// ```
    pub fn name(self) -> &'static str {
        let found = ErrorKind::NAMES.iter().find(|(kind, _)| *kind == self);
        found.map_or("fault", |(_, name)| name)
    }

    /// Returns the kind of that name.
    pub fn from_name(name: &str) -> Option<ErrorKind> {
        ErrorKind::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// Error of all layers: a [kind](ErrorKind), a sentence, and where it happened.
///
/// One word wide, so that `Result<T>` stays small. The place (file, tensor, byte offset) is added
/// on the way up by the layer that knows it, see [`Error::in_tensor`], [`Error::in_file`] and
/// [`Error::at_offset`].
///
/// # Examples
///
/// ```
/// use sparse_core::{Error, ErrorKind};
///
/// let e = Error::corrupt("the checksum differs").in_tensor("a.weight").in_file("my.sparse");
/// assert_eq!(e.kind(), ErrorKind::Corrupt);
/// assert_eq!(e.to_string(), "my.sparse: tensor a.weight: the checksum differs");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    file: Option<String>,
    tensor: Option<String>,
    offset: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error of this kind.
    ///
    /// `message` is a sentence without capital and full stop. It says what is wrong, with the
    /// numbers, and what to do about it where that is known.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            file: None,
            tensor: None,
            offset: None,
            source: None,
        }))
    }

    /// Creates an error of kind [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Corrupt, message)
    }

    /// Creates an error of kind [`ErrorKind::Truncated`].
    pub fn truncated(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::Truncated, message)
    }

    /// Creates an error of kind [`ErrorKind::InvalidArgument`].
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// Creates an error from one of the operating system.
    ///
    /// The kind is [`ErrorKind::Io`], or `NotFound`, `AlreadyExists` or `Truncated` when the cause
    /// says so. `doing` says what was being done.
    pub fn io(doing: impl Into<Cow<'static, str>>, cause: std::io::Error) -> Self {
        let kind = match cause.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            std::io::ErrorKind::UnexpectedEof => ErrorKind::Truncated,
            _ => ErrorKind::Io,
        };
        Error::new(kind, doing).with_source(cause)
    }

    /// Attaches the error that caused this one.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the file in which it happened, unless a lower layer did.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.0.file.get_or_insert_with(|| file.into());
        self
    }

    /// Adds the tensor in which it happened, unless a lower layer did.
    #[must_use]
    pub fn in_tensor(mut self, tensor: impl Into<String>) -> Self {
        self.0.tensor.get_or_insert_with(|| tensor.into());
        self
    }

    /// Adds the byte of the file at which it happened, unless a lower layer did.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Returns the kind, which says what the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the sentence alone, without place and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the file in which it happened, if known.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// Returns the tensor in which it happened, if known.
    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }

    /// Returns the byte offset in the file, if known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        if let Some(file) = &e.file {
            write!(f, "{file}: ")?;
        }
        if let Some(tensor) = &e.tensor {
            write!(f, "tensor {tensor}: ")?;
        }
        f.write_str(&e.message)?;
        if let Some(offset) = e.offset {
            write!(f, " (at byte {offset})")?;
        }
        // Operating system errors say the decisive word ("permission denied"), so they are part of
        // the line.
        if let Some(source) = &e.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn place_is_added_once() {
        let e = Error::corrupt("checksum differs")
            .at_offset(7)
            .at_offset(9)
            .in_tensor("a.weight")
            .in_file("d.sparse");
        assert_eq!(e.to_string(), "d.sparse: tensor a.weight: checksum differs (at byte 7)");
    }

    #[test]
    fn io_kinds_are_told_apart() {
        let e = Error::io("cannot open x", std::io::ErrorKind::NotFound.into());
        assert_eq!(e.kind(), ErrorKind::NotFound);
        let e = Error::io("cannot write x", std::io::ErrorKind::StorageFull.into());
        assert_eq!(e.kind(), ErrorKind::Io);
    }
}
