//! Arguments of `sparse push`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Push {
    /// The delta to publish
    pub(crate) delta: PathBuf,

    /// Where to: org/name or hf://org/name on the Hub, with a path inside the repository where the
    /// delta's own name is not wanted; or s3://bucket/key
    #[arg(value_name = "DEST")]
    pub(crate) destination: String,

    /// Create the repository as a private one, if it is missing
    #[arg(long)]
    pub(crate) private: bool,

    /// Licence, as the Hub abbreviates it [default: that of the base, by its card]
    #[arg(long, value_name = "LICENSE", value_parser = licence)]
    pub(crate) license: Option<String>,

    /// Message of the commit
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// Branch to publish on [default: main]
    #[arg(long, value_name = "BRANCH", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) revision: Option<String>,

    /// What becomes of a model card (README.md) that is there with other content
    #[arg(long, value_enum, default_value_t = OldCard::Keep)]
    pub(crate) card: OldCard,

    /// Replace a delta of the same name
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Show the card and what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Fate of a card that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OldCard {
    /// It stays as it is.
    Keep,
    /// It is replaced.
    Replace,
}

fn licence(text: &str) -> Result<String, String> {
    if is_licence(text) {
        // As the Hub has them all.
        return Ok(text.to_ascii_lowercase());
    }
    Err("give a licence as the Hub abbreviates it, such as apache-2.0".to_owned())
}

/// Returns whether a text may be a licence's abbreviation.
pub(crate) fn is_licence(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._+".contains(&b);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(good)
}
