//! Errors of the writers of formats.

use super::Format;
use sparse_core::{Error, ErrorKind};

/// Converts the error of a writer: one of the operating system, or else one of the values.
pub(super) fn failed(format: Format, e: impl std::error::Error + Send + Sync + 'static) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(c) = cause {
        if c.is::<std::io::Error>() {
            return Error::new(ErrorKind::Io, "cannot write the dataset").with_source(e);
        }
        cause = c.source();
    }
    let text = format!("{} cannot store this dataset: choose arrow as the format", format.name());
    Error::new(ErrorKind::InvalidArgument, text).with_source(e)
}

/// Returns the message for a panic of a format's writer.
pub(super) fn gave_up(format: Format) -> &'static str {
    match format {
        Format::Parquet => "the writer of Parquet failed",
        Format::ArrowFile | Format::ArrowStream => "the writer of Arrow failed",
        Format::JsonLines => "the writer of JSON failed",
        Format::Csv => "the writer of CSV failed",
    }
}
