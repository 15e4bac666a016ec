//! Arguments of `sparse savings`.

use super::share;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Savings {
    /// A list of models (JSON, JSON Lines, CSV or Parquet), or with --base a folder of models
    pub(crate) list: PathBuf,

    /// Base of every model in the folder
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<PathBuf>,

    /// Price of keeping 10^9 bytes for a month
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub(crate) price_storage_gb_month: Option<f64>,

    /// Price of sending 10^9 bytes
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub(crate) price_transfer_gb: Option<f64>,

    /// Share of the downloads of fine-tunes, 0 to 1, whose client has the base already
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = super::route::unit)]
    pub(crate) base_at_hand: f64,

    /// Downloads in a year of each model of which the list says none
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = price)]
    pub(crate) downloads: f64,

    /// Share of the weights to look at where a model is measured, above 0 and up to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    pub(crate) share: f64,
}

/// Parses a finite number of at least 0.
fn price(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if x >= 0.0 && f64::is_finite(x) => Ok(x),
        _ => Err("give a number of at least 0".to_owned()),
    }
}
