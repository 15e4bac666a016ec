//! Arguments of `sparse cache`.

use crate::human::byte_size;
use clap::{ArgAction, Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) action: CacheAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheAction {
    /// List the restored models in the cache, the one last used first
    List,

    /// Print the path of a restored model, which is restored first if it is not in the cache
    #[command(override_usage = "sparse cache path [OPTIONS] <BASE> <DELTA>\n       sparse cache \
        path [OPTIONS] <DELTA>")]
    Path(CachePath),

    /// Remove models, the one longest unused first, until the others fit into a limit
    Prune(CachePrune),

    /// Remove all models but those in use
    Clear,

    /// Hash all files in the cache; damaged models are removed, and restored anew when asked for
    Verify,
}

#[derive(Args, Debug)]
pub(crate) struct CachePath {
    /// The base, unless the delta needs none or is in the cache; then the delta
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// Fail unless what is restored has this SHA-256, which you got from somebody you trust
    #[arg(long, value_name = "HEX")]
    pub(crate) expect_sha256: Option<sparse::ContentHash>,
}

#[derive(Args, Debug)]
pub(crate) struct CachePrune {
    /// Room that is left to the models, such as 20G [default: SPARSE_CACHE_LIMIT]
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub(crate) limit: Option<u64>,
}

impl CacheAction {
    /// Returns the name of the command, as it is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            CacheAction::List => "cache list",
            CacheAction::Path(_) => "cache path",
            CacheAction::Prune(_) => "cache prune",
            CacheAction::Clear => "cache clear",
            CacheAction::Verify => "cache verify",
        }
    }
}
