//! Names that somebody types or a delta records, and URLs that a server redirects to.
//!
//! An input is a name, a byte of zero, and what a header `Location` says.

use crate::Seed;
use sparse_remote::{Location, RepoKind, Url};

/// Parse; what is written of a name without secrets means the same, and hides what may be secret.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (name, target) = text.split_once('\0').unwrap_or((&text, ""));
    for kind in [RepoKind::Model, RepoKind::Dataset] {
        let Ok(location) = Location::parse(name, kind) else { continue };
        // A repository without `datasets/` is of the kind that is wanted, a page of its own.
        let kind = match &location {
            Location::Hub(name) => name.kind,
            Location::Object(_) => kind,
            _ => continue,
        };
        let again = Location::parse(&location.to_string(), kind);
        assert_eq!(again.expect("it was written by us"), location);
    }
    let Ok(url) = Url::parse(name) else { return };
    let joined = url.join(target);
    for url in [Some(url), joined.ok()].into_iter().flatten() {
        let shown = url.to_string();
        assert!(!shown.contains('@') || url.path().contains('@'), "{shown}");
        assert!(shown.bytes().filter(|b| *b == b'?').count() <= 1, "{shown}");
        assert!(url.path().starts_with('/') && url.origin().len() > "http://".len(), "{shown}");
        let again = Url::parse(&shown.replace("?…", "")).expect("it was a URL");
        assert_eq!((again.origin(), again.path()), (url.origin(), url.path()));
    }
}

/// Every form of a name.
pub fn seeds() -> Vec<Seed> {
    [
        ("id", "org/name@refs/pr/1\0"),
        ("page", "https://huggingface.co/datasets/org/name/tree/refs%2Fconvert%2Fparquet/a\0"),
        ("full", "hf://datasets/org/name@v2/data/train.parquet\0"),
        ("signed", "https://user:secret@host:8443/a%20b/c?X-Amz-Signature=1f3a#x\0../d?e=f"),
        ("object", "s3://bucket/key/of/it\0//other.example/x"),
        ("file", "file:///a%2Fb\0https://[::1]:80/"),
    ]
    .map(|(name, text)| (name.into(), text.as_bytes().to_vec()))
    .to_vec()
}
