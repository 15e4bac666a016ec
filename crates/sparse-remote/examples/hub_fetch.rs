//! Fetches from the Hub into the local cache, as the environment says where both are.
//!
//! ```text
//! hub_fetch model|adapter|delta|dataset ID[@REVISION]
//! hub_fetch file ID[@REVISION] PATH
//! ```
//!
//! It prints the folder, and then the files in it that were asked for.

use sparse_remote::{FetchProgress, Hub, HubName, RepoKind, Selection};

/// Prints notes.
struct Notes;

impl FetchProgress for Notes {
    fn note(&self, text: &str) {
        eprintln!("note: {text}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (kind, selection) = match arguments.first().map(String::as_str) {
        Some("model") => (RepoKind::Model, Selection::Model),
        Some("adapter") => (RepoKind::Model, Selection::Adapter),
        Some("delta") => (RepoKind::Model, Selection::Delta),
        Some("dataset") => (RepoKind::Dataset, Selection::Dataset { config: None, split: None }),
        Some("file") => {
            (RepoKind::Model, Selection::Files(arguments.get(2..).unwrap_or_default().to_vec()))
        }
        _ => return Err("model, adapter, delta, dataset or file is wanted".into()),
    };
    let name = arguments.get(1).and_then(|id| HubName::parse(id, kind)).ok_or("no id")?;
    let fetched = Hub::from_env()?.named(&name).fetch(&selection, &Notes)?;
    println!("{}", fetched.folder().display());
    fetched.files().iter().for_each(|file| println!("{file}"));
    Ok(())
}
