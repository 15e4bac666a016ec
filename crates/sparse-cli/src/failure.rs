//! Failures of commands: sentences, advice, exit codes, and JSON.

use crate::human::plain;
use serde::Serialize;
use sparse::{Error, ErrorKind};
use std::error::Error as _;
use std::io;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of the library.
    Sparse(Error),
    /// The arguments are wrong or contradict each other.
    Usage(String),
    /// The report could not be written to standard output.
    Report(io::Error),
    /// The program itself is at fault: it panicked.
    Fault(String),
    /// A signal asked to stop; the exit code says which.
    Stopped(u8),
    /// A failure that was printed already, with its exit code.
    Told(u8),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Sparse(error)
    }
}

/// `error` of the JSON output.
#[derive(Serialize)]
pub(crate) struct ErrorJson<'a> {
    kind: &'static str,
    message: String,
    file: Option<&'a str>,
    tensor: Option<&'a str>,
    offset: Option<u64>,
}

impl Failure {
    /// Returns the exit code that docs/cli.md lists.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Report(_) | Failure::Fault(_) => 1,
            Failure::Stopped(code) | Failure::Told(code) => *code,
            Failure::Sparse(error) => match error.kind() {
                ErrorKind::InvalidArgument => 2,
                ErrorKind::BaseMismatch => 3,
                ErrorKind::NotThisFormat
                | ErrorKind::Corrupt
                | ErrorKind::Truncated
                | ErrorKind::InvalidInput
                | ErrorKind::LimitExceeded => 4,
                ErrorKind::UnsupportedVersion
                | ErrorKind::UnknownCodec
                | ErrorKind::CodecDisabled => 5,
                ErrorKind::AlreadyExists => 6,
                ErrorKind::AccessDenied | ErrorKind::Unavailable => 7,
                ErrorKind::Cancelled => 130,
                _ => 1,
            },
        }
    }

    /// Returns true if the reader of standard output went away (`| head`), which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Report(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns the name of the kind in JSON. Names are part of the schema and do not change.
    fn kind(&self) -> &'static str {
        match self {
            Failure::Usage(_) => "usage",
            Failure::Report(_) => "io",
            Failure::Fault(_) => "fault",
            Failure::Stopped(_) => "cancelled",
            Failure::Told(_) => "other",
            Failure::Sparse(error) => error.kind().name(),
        }
    }

    /// Returns one sentence: where, what, and what to do about it.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Failure::Usage(message) | Failure::Fault(message) => plain(message).into_owned(),
            Failure::Report(e) => format!("cannot write to standard output: {e}"),
            Failure::Stopped(_) => "interrupted; no output is left behind".to_owned(),
            Failure::Told(code) => format!("failed with exit code {code}"),
            Failure::Sparse(error) => {
                let text = error.to_string();
                let text = plain(&text);
                match advice(error) {
                    Some(advice) => format!("{text}; {advice}"),
                    None => text.into_owned(),
                }
            }
        }
    }

    /// Returns the failure for JSON.
    pub(crate) fn json(&self) -> ErrorJson<'_> {
        let error = match self {
            Failure::Sparse(error) => Some(error),
            _ => None,
        };
        ErrorJson {
            kind: self.kind(),
            message: self.sentence(),
            file: error.and_then(Error::file),
            tensor: error.and_then(Error::tensor),
            offset: error.and_then(Error::offset),
        }
    }
}

/// Returns advice, unless the message gives it already.
fn advice(error: &Error) -> Option<&'static str> {
    match error.kind() {
        // The delta may name its base, and then the message does.
        ErrorKind::BaseMismatch if error.message().contains("made against") => None,
        ErrorKind::BaseMismatch => Some("give the base that the delta was made from"),
        ErrorKind::Corrupt if error.message().contains("is fetched again") => None,
        ErrorKind::Truncated | ErrorKind::Corrupt => Some("copy or download it again"),
        ErrorKind::NotThisFormat => Some("give a delta that `sparse compress` made"),
        ErrorKind::UnknownCodec => Some("use a newer version of sparse"),
        // A file never replaces a folder, nor a folder a file, not even with --force.
        ErrorKind::AlreadyExists if error.message().contains("is to be written") => {
            Some("choose another name")
        }
        ErrorKind::AlreadyExists => Some("use --force to replace it"),
        ErrorKind::Io => {
            let cause = error.source()?.downcast_ref::<io::Error>()?;
            match cause.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some space, or write elsewhere")
                }
                io::ErrorKind::PermissionDenied => Some("check its permissions"),
                io::ErrorKind::ReadOnlyFilesystem => Some("write elsewhere"),
                io::ErrorKind::FileTooLarge => {
                    Some("raise the limit on file sizes, or write elsewhere")
                }
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let code = |kind| Failure::from(Error::new(kind, "x")).exit_code();
        for (want, kinds) in [
            (1, &[ErrorKind::Io, ErrorKind::NotFound][..]),
            (2, &[ErrorKind::InvalidArgument]),
            (3, &[ErrorKind::BaseMismatch]),
            (
                4,
                &[
                    ErrorKind::Corrupt,
                    ErrorKind::Truncated,
                    ErrorKind::NotThisFormat,
                    ErrorKind::InvalidInput,
                ],
            ),
            (
                5,
                &[ErrorKind::UnsupportedVersion, ErrorKind::UnknownCodec, ErrorKind::CodecDisabled],
            ),
            (6, &[ErrorKind::AlreadyExists]),
            (7, &[ErrorKind::AccessDenied, ErrorKind::Unavailable]),
            (130, &[ErrorKind::Cancelled]),
        ] {
            for &kind in kinds {
                assert_eq!(code(kind), want, "{kind:?}");
            }
        }
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
    }

    #[test]
    fn sentences() {
        let full = Error::io("cannot write", io::ErrorKind::StorageFull.into()).in_file("d.sparse");
        assert!(Failure::from(full).sentence().ends_with("; free some space, or write elsewhere"));
        let exists = Error::new(ErrorKind::AlreadyExists, "it exists already").in_file("d.sparse");
        assert_eq!(
            Failure::from(exists).sentence(),
            "d.sparse: it exists already; use --force to replace it"
        );
        let evil = Error::corrupt("checksum differs").in_tensor("a\x1b[2J");
        assert!(!Failure::from(evil).sentence().contains('\x1b'));
    }

    #[test]
    fn broken_pipes_are_told_apart() {
        assert!(Failure::Report(io::ErrorKind::BrokenPipe.into()).is_broken_pipe());
        assert!(!Failure::Report(io::ErrorKind::StorageFull.into()).is_broken_pipe());
    }
}
