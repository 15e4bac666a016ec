//! What is said when a writer fails.

use super::Format;
use sparse_core::{Error, ErrorKind};

/// Makes an error of what a writer reports: the operating system's, or else one of the values.
pub(super) fn failed(format: Format, e: impl std::error::Error + Send + Sync + 'static) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(c) = cause {
        if c.is::<std::io::Error>() {
            return Error::new(ErrorKind::Io, "cannot write the dataset").with_source(e);
        }
        cause = c.source();
    }
    let text = format!("{} cannot hold this dataset: choose arrow as the format", format.name());
    Error::new(ErrorKind::InvalidArgument, text).with_source(e)
}

/// Returns what is said when the writer of a format panics.
pub(super) fn gave_up(format: Format) -> &'static str {
    match format {
        Format::Parquet => "the writer of Parquet gave up",
        Format::ArrowFile | Format::ArrowStream => "the writer of Arrow gave up",
        Format::JsonLines => "the writer of JSON gave up",
        Format::Csv => "the writer of CSV gave up",
    }
}
