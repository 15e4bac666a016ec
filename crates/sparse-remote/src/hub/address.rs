//! Addresses of the Hub's pages, interface and files.

use crate::url::encoded_segment;
use crate::{RepoKind, Url};
use sparse_core::Result;

/// A repository, and where the Hub is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub(super) endpoint: &'a Url,
    pub(super) kind: RepoKind,
    pub(super) id: &'a str,
}

impl Address<'_> {
    /// Returns the address of the repository's page.
    pub(super) fn page(&self) -> Url {
        match self.kind {
            RepoKind::Model => self.endpoint.with_path([self.id]),
            RepoKind::Dataset => self.endpoint.with_path(["datasets", self.id]),
        }
    }

    /// Returns an address of the interface, of a word and a revision.
    pub(super) fn api(&self, word: &str, revision: &str) -> Result<Url> {
        let (plural, id, revision) = (self.kind.plural(), self.id, one_segment(revision));
        self.below(&format!("api/{plural}/{id}/{word}/{revision}"))
    }

    /// Returns the address of a file.
    pub(super) fn file(&self, revision: &str, file: &str) -> Result<Url> {
        let prefix = if self.kind == RepoKind::Dataset { "datasets/" } else { "" };
        let (id, revision, file) = (self.id, one_segment(revision), encoded_segment(file));
        self.below(&format!("{prefix}{id}/resolve/{revision}/{file}"))
    }

    /// Returns the address that says where large files are to be put.
    pub(super) fn batch(&self) -> Result<Url> {
        let prefix = if self.kind == RepoKind::Dataset { "datasets/" } else { "" };
        self.below(&format!("{prefix}{}.git/info/lfs/objects/batch", self.id))
    }

    /// Returns an address below the endpoint; `path` is percent-encoded.
    fn below(&self, path: &str) -> Result<Url> {
        self.endpoint.join(&format!("{}/{path}", self.endpoint.path().trim_end_matches('/')))
    }
}

/// Percent-encodes a revision, whose `/` do not separate folders.
fn one_segment(text: &str) -> String {
    encoded_segment(text).replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded() {
        let endpoint = Url::parse("https://mirror.example/hf/").unwrap();
        let address = Address { endpoint: &endpoint, kind: RepoKind::Dataset, id: "org/name" };
        let file = address.file("refs/pr/1", "a b/c?#.csv").unwrap().to_string();
        let base = "https://mirror.example/hf/datasets/org/name";
        assert_eq!(file, format!("{base}/resolve/refs%2Fpr%2F1/a%20b/c%3F%23.csv"));
        assert_eq!(address.page().to_string(), base);
        let api = address.api("revision", "v1").unwrap().to_string();
        assert_eq!(api, "https://mirror.example/hf/api/datasets/org/name/revision/v1");
    }
}
