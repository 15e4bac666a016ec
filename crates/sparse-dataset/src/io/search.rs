//! What is looked for in a dataset, and by which rules.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Rules by which files are found and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rules {
    /// As before layout 3 of the manifest: JSON Lines as arrow-json reads them.
    Old,
    /// As in layout 3 without its flag of recent rules: no compressed text, no lists of JSON, CSV
    /// with commas only.
    Layout3,
    #[default]
    Current,
}

/// What is looked for in a folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    pub(crate) rules: Rules,
    /// Whether a file that cannot be read as rows is one without rows, and no error.
    pub(crate) lenient: bool,
    /// Files that are not read as rows, with the reason.
    pub(crate) excluded: BTreeMap<PathBuf, String>,
}
