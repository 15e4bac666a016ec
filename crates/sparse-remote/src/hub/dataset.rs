//! Which files of a dataset are needed.

use sparse_core::{Error, ErrorKind, Result};

/// Branch on which the Hub keeps Parquet files that it made of a dataset.
pub(super) const CONVERTED: &str = "refs/convert/parquet";
/// Endings of tables that are preferred.
pub(super) const PARQUET: &[&str] = &[".parquet"];
/// Endings of tables that are taken where there is no Parquet.
pub(super) const OTHERS: &[&str] = &[".jsonl", ".ndjson", ".csv", ".arrow", ".feather", ".json"];
/// Files that describe a dataset and hold no rows.
const NO_ROWS: [&str; 5] =
    ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"];
/// Names of splits that mean the same.
const SAME: [&[&str]; 3] =
    [&["train", "training"], &["validation", "valid", "val", "dev"], &["test", "testing", "eval"]];

/// Part of a dataset.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Name of a folder.
    pub(super) config: Option<String>,
    /// Name of a split.
    pub(super) split: Option<String>,
}

/// Chooses tables, and the dataset's card; `None` where there are no tables at all.
///
/// # Errors
/// `NotFound` when there are tables, and none of this part.
pub(super) fn choose(
    files: &[String],
    endings: &[&str],
    part: &Part,
) -> Result<Option<Vec<String>>> {
    let is_table = |file: &&String| {
        let name = file.rsplit('/').next().unwrap_or(file);
        !file.split('/').any(|p| p.starts_with('.'))
            && !NO_ROWS.contains(&name)
            && endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending))
    };
    let tables: Vec<&String> = files.iter().filter(is_table).collect();
    let chosen: Vec<_> = tables.iter().filter(|file| part.has(file)).collect();
    if chosen.is_empty() {
        let Some(first) = tables.first() else { return Ok(None) };
        let e = format!("there is no table of {}, but for instance {first}", part.text());
        return Err(Error::new(ErrorKind::NotFound, e));
    }
    let beside = files.iter().filter(|file| *file == "README.md");
    Ok(Some(beside.chain(chosen.into_iter().copied()).cloned().collect()))
}

/// Returns whether a table is of a dataset that was too long for the Hub to convert it whole.
pub(super) fn is_part(file: &str) -> bool {
    file.split('/').any(|folder| folder.starts_with("partial-"))
}

impl Part {
    /// Returns whether a table is of this part.
    fn has(&self, file: &str) -> bool {
        let (folders, name) = file.rsplit_once('/').unwrap_or(("", file));
        let in_config = |config: &String| folders.split('/').any(|folder| folder == config);
        self.config.as_ref().is_none_or(in_config)
            && self.split.as_ref().is_none_or(|split| is_of_split(folders, name, split))
    }

    fn text(&self) -> String {
        match (&self.config, &self.split) {
            (Some(config), Some(split)) => format!("split {split} of {config}"),
            (Some(config), None) => config.clone(),
            (None, Some(split)) => format!("split {split}"),
            (None, None) => "any split".to_owned(),
        }
    }
}

/// Returns whether the name of a file, or else of a folder, says that it is of a split.
fn is_of_split(folders: &str, name: &str, split: &str) -> bool {
    let split = split.to_ascii_lowercase();
    let same = SAME.iter().find(|names| names.contains(&&*split));
    let is_split = |word: &str| word == split || same.is_some_and(|names| names.contains(&word));
    let says = |text: &str| {
        let text = text.to_ascii_lowercase();
        let stem = text.split('.').next().unwrap_or_default();
        is_split(stem)
            || stem.split(|c: char| !c.is_ascii_alphanumeric()).any(is_split)
            || stem.strip_prefix(&split).is_some_and(|rest| rest.starts_with(['-', '_']))
    };
    let any_split = |text: &str| SAME.iter().flat_map(|names| names.iter()).any(|n| *n == text);
    let name_says_another = name
        .to_ascii_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| any_split(word) && !is_split(word));
    says(name) || (!name_says_another && folders.split('/').any(says))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_of(files: &[&str], config: &str, split: &str) -> Result<Vec<String>> {
        let files: Vec<_> = files.iter().map(|f| (*f).to_owned()).collect();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let part = Part { config: some(config), split: some(split) };
        Ok(choose(&files, PARQUET, &part)?.unwrap_or_default())
    }

    #[test]
    fn splits_by_name() {
        let files = [
            "README.md",
            "plain/train-00000-of-00002.parquet",
            "plain/train-00001-of-00002.parquet",
            "plain/validation-00000-of-00001.parquet",
            "other/test/0000.parquet",
            "other/partial-train/0000.parquet",
            "script.py",
        ];
        assert_eq!(choose_of(&files, "", "").unwrap(), files[..6]);
        let train = [files[0], files[1], files[2], files[5]];
        assert_eq!(choose_of(&files, "", "train").unwrap(), train);
        assert_eq!(choose_of(&files, "plain", "train").unwrap(), files[..3]);
        assert_eq!(choose_of(&files, "plain", "dev").unwrap(), [files[0], files[3]]);
        assert_eq!(choose_of(&files, "other", "test").unwrap(), [files[0], files[4]]);
        let e = choose_of(&files, "", "nothing").unwrap_err();
        assert!(e.message().contains("split nothing"), "{e}");
        assert!(choose_of(&["a.csv"], "", "").unwrap().is_empty());
        // The file's name counts more than the folder's.
        let files = ["train/test.parquet", "train/a.parquet"];
        assert_eq!(choose_of(&files, "", "train").unwrap(), files[1..]);
    }
}
