//! Kinds of object stores.

/// Kind of an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreKind {
    /// `s3://`: Amazon S3, and what speaks its protocol.
    S3,
    /// `gs://`: Google Cloud Storage.
    Google,
    /// `az://`: Azure Blob Storage.
    Azure,
}

impl StoreKind {
    /// Returns the kind that a scheme stands for.
    pub(super) fn of_scheme(scheme: &str) -> Option<StoreKind> {
        match scheme {
            "s3" => Some(StoreKind::S3),
            "gs" => Some(StoreKind::Google),
            "az" => Some(StoreKind::Azure),
            _ => None,
        }
    }
}
