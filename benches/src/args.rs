//! Command-line arguments, parsed by hand.

use sparse_core::{Error, Result};
use std::collections::BTreeMap;

/// Arguments of one subcommand: positional ones, and `--name value` options.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Positional arguments, in order.
    pub positional: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Args {
    /// Parse `args`; every option takes a value and must be in `known`.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown option or a missing value.
    pub fn parse(args: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Args> {
        let mut out = Args::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix("--") else {
                out.positional.push(arg);
                continue;
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (name.to_owned(), None),
            };
            if !known.contains(&name.as_str()) {
                return Err(Error::invalid_argument(format!("unknown option --{name}")));
            }
            let value = value.or_else(|| args.next());
            let value =
                value.ok_or_else(|| Error::invalid_argument(format!("--{name} needs a value")))?;
            out.options.insert(name, value);
        }
        Ok(out)
    }

    /// The value of option `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The value of option `name`, which must be given.
    ///
    /// # Errors
    /// `InvalidArgument` when it is not.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::invalid_argument(format!("--{name} is missing")))
    }

    /// The value of option `name`, parsed, or `default`.
    ///
    /// # Errors
    /// `InvalidArgument` when it cannot be parsed.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Error::invalid_argument(format!("--{name} cannot be {text:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_positionals() {
        let parse = |text: &str| Args::parse(text.split(' ').map(String::from), &["gb", "out"]);
        let args = parse("a --gb 1.5 b --out=c=d").unwrap();
        assert_eq!(args.positional, ["a", "b"]);
        assert_eq!(args.parsed("gb", 0.0).unwrap(), 1.5);
        assert_eq!(args.required("out").unwrap(), "c=d");
        assert!(args.parsed::<u32>("gb", 0).is_err());
        assert!(args.required("seed").is_err());
        assert!(parse("--seed 1").is_err());
        assert!(parse("--gb").is_err());
    }
}
