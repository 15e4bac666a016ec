//! Serves folders of this machine as a Hub on loopback, for tests with other clients.
//!
//! ```text
//! hub_server model:org/name=FOLDER dataset:org/name@refs/convert/parquet=FOLDER token:TEXT
//! ```
//!
//! It prints its address, and ends when standard input does.

use sparse_remote::testing::{Access, Repo, Site, TestServer};
use std::io::{Read, Write};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut site = Site::new();
    for argument in std::env::args().skip(1) {
        site = add(site, &argument)?;
    }
    let server = TestServer::start(site)?;
    println!("{}", server.endpoint());
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // What a test wants to know afterwards.
    for request in server.log().requests() {
        println!("{} {} {} {}", request.status, request.sent, request.method, request.path);
    }
    Ok(())
}

/// Adds what one argument names.
fn add(site: Site, argument: &str) -> Result<Site, Box<dyn std::error::Error>> {
    let (kind, rest) = argument.split_once(':').ok_or("KIND:... is wanted")?;
    if kind == "token" {
        return Ok(site.with_token(rest));
    }
    let (name, folder) = rest.split_once('=').ok_or("NAME=FOLDER is wanted")?;
    let (id, branch) = name.split_once('@').unwrap_or((name, "main"));
    let repo = match kind {
        "model" | "gated-model" => Repo::model(id),
        "dataset" => Repo::dataset(id),
        _ => return Err(format!("{kind} is no kind").into()),
    };
    let access = if kind == "gated-model" { Access::Gated } else { Access::Open };
    let repo = repo.with_access(access).on_branch(branch).with_folder(Path::new(folder))?;
    Ok(site.with_repo(repo))
}
