//! Which files of a repository are needed.

use super::model::Read;
use super::{dataset, model};
use sparse_core::{Error, ErrorKind, Result};

/// Chooses files of a repository.
///
/// # Examples
///
/// ```
/// use sparse_remote::Selection;
///
/// let only_train = Selection::Dataset { config: None, split: Some("train".to_owned()) };
/// let one_file = Selection::Files(vec!["config.json".to_owned()]);
/// assert_ne!(only_train, one_file);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// Weights in safetensors, by their index where there is one, and what is small beside them:
    /// configuration, tokenizer, code, model card, licence.
    Model,
    /// Weights and configuration of an adapter of PEFT.
    Adapter,
    /// Files that end in `.sparse`.
    Delta,
    /// Tables: Parquet of the repository, else what the Hub made of it, else JSON Lines, CSV and
    /// Arrow.
    Dataset {
        /// Only of this configuration, which is the name of a folder.
        config: Option<String>,
        /// Only of this split, such as `train`.
        split: Option<String>,
    },
    /// Files by their paths.
    Files(Vec<String>),
}

/// Branch of a dataset, or revision, and what of it is looked for.
pub(super) struct Candidate {
    /// Branch, where it is not the one that was asked for.
    pub(super) branch: Option<&'static str>,
    pub(super) rule: Rule,
}

/// What is looked for in one commit.
#[derive(Clone)]
pub(super) enum Rule {
    /// As the selection says.
    Plain(Selection),
    /// Files of a dataset whose names end so.
    Tables(&'static [&'static str], dataset::Part),
}

impl Selection {
    /// Returns where to look, in order of preference.
    ///
    /// `main` is whether the default branch is asked for, of which the Hub makes Parquet files.
    pub(super) fn candidates(&self, main: bool) -> Vec<Candidate> {
        let Selection::Dataset { config, split } = self else {
            return vec![Candidate { branch: None, rule: Rule::Plain(self.clone()) }];
        };
        let part = dataset::Part { config: config.clone(), split: split.clone() };
        let tables =
            |branch, endings| Candidate { branch, rule: Rule::Tables(endings, part.clone()) };
        let mut all = vec![tables(None, dataset::PARQUET)];
        if main {
            all.push(tables(Some(dataset::CONVERTED), dataset::PARQUET));
        }
        all.push(tables(None, dataset::OTHERS));
        all
    }
}

impl Rule {
    /// Chooses among `files`, in the order in which they get their names: weights last.
    ///
    /// Returns `None` where there are no tables of this form at all.
    ///
    /// # Errors
    /// `NotFound` when what is looked for is not there; what `read` reports.
    pub(super) fn choose(&self, files: &[String], read: Read<'_>) -> Result<Option<Vec<String>>> {
        match self {
            Rule::Plain(Selection::Model) => model::choose(files, read).map(Some),
            Rule::Plain(Selection::Adapter) => adapter(files).map(Some),
            Rule::Plain(Selection::Delta) => delta(files).map(Some),
            Rule::Plain(Selection::Files(names)) => named(files, names).map(Some),
            Rule::Plain(Selection::Dataset { .. }) => Ok(None),
            Rule::Tables(endings, part) => dataset::choose(files, endings, part),
        }
    }
}

fn adapter(files: &[String]) -> Result<Vec<String>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let (config, weights) = ("adapter_config.json", "adapter_model.safetensors");
    if !has(config) {
        let e = "it is no adapter of PEFT: there is no adapter_config.json";
        return Err(Error::new(ErrorKind::NotFound, e));
    }
    if !has(weights) {
        let e = "the adapter has no adapter_model.safetensors: save it in safetensors first";
        return Err(Error::new(ErrorKind::NotFound, e));
    }
    let beside = ["README.md", "LICENSE"].into_iter().filter(|name| has(name));
    Ok(beside.chain([config, weights]).map(str::to_owned).collect())
}

fn delta(files: &[String]) -> Result<Vec<String>> {
    let deltas: Vec<_> = files.iter().filter(|file| file.ends_with(".sparse")).cloned().collect();
    if deltas.is_empty() {
        let e = "there is no delta: no file ends in .sparse";
        return Err(Error::new(ErrorKind::NotFound, e));
    }
    let beside = files.iter().filter(|file| *file == "README.md").cloned();
    Ok(beside.chain(deltas).collect())
}

fn named(files: &[String], names: &[String]) -> Result<Vec<String>> {
    if let Some(name) = names.iter().find(|name| !files.contains(name)) {
        let last = name.rsplit('/').next().unwrap_or(name);
        let like = |file: &&String| file.rsplit('/').next() == Some(last);
        let hint = files.iter().find(like).map(|file| format!(", but there is {file}"));
        let e = format!("there is no file {name}{}", hint.unwrap_or_default());
        return Err(Error::new(ErrorKind::NotFound, e));
    }
    Ok(names.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(selection: Selection, files: &[&str]) -> Result<Vec<String>> {
        let files: Vec<_> = files.iter().map(|f| (*f).to_owned()).collect();
        let chosen = Rule::Plain(selection).choose(&files, &|_| Ok(Vec::new()))?;
        Ok(chosen.unwrap())
    }

    #[test]
    fn adapters_deltas_and_files() {
        let files = ["README.md", "adapter_config.json", "adapter_model.safetensors", "x/a.sparse"];
        assert_eq!(choose(Selection::Adapter, &files).unwrap(), files[..3]);
        assert_eq!(choose(Selection::Delta, &files).unwrap(), [files[0], files[3]]);
        let one = |name: &str| Selection::Files(vec![name.to_owned()]);
        assert_eq!(choose(one("x/a.sparse"), &files).unwrap(), ["x/a.sparse"]);
        let e = choose(one("a.sparse"), &files).unwrap_err();
        assert!(e.kind() == ErrorKind::NotFound && e.message().contains("x/a.sparse"), "{e}");
        let e = choose(Selection::Adapter, &["adapter_config.json"]).unwrap_err();
        assert!(e.message().contains("adapter_model.safetensors"), "{e}");
        assert_eq!(choose(Selection::Delta, &["a"]).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
