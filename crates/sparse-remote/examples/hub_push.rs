//! Pushes files to a model on the Hub, as the environment says where that is.
//!
//! ```text
//! hub_push ID FILE...
//! ```
//!
//! It creates the repository if it has to, and prints the commit.

use sparse_core::{FileSource, Unobserved, open_file};
use sparse_output::Overwrite;
use sparse_remote::{Hub, PushFile, RepoKind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let repo = Hub::from_env()?.repo(RepoKind::Model, arguments.next().ok_or("no id")?);
    let paths: Vec<String> = arguments.collect();
    let open = |path: &String| FileSource::new(open_file(path)?);
    let sources = paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let files: Vec<_> =
        paths.iter().zip(&sources).map(|(path, s)| PushFile::new(name(path), s)).collect();
    repo.create(false)?;
    println!("{}", repo.push(&files, "Files of hub_push", Overwrite::Refuse, &Unobserved)?);
    Ok(())
}
