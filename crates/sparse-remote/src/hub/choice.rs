//! What is meant of a repository, by the lists of the Hub and of the cache.

use super::dataset;
use super::download::is_there;
use super::listing::{HubFile, noted, present};
use super::model::Read;
use super::plan::{Fetched, Plan};
use super::progress::FetchProgress;
use super::refusal::Failure;
use super::repo::HubRepo;
use super::select::{Rule, Selection};
use crate::Client;
use sparse_core::{Error, ErrorKind, Result};
use sparse_model::HubCache;
use std::collections::HashMap;
use std::path::Path;

/// Longest file that the choice of others depends on, in bytes.
const MOST_READ: u64 = 64 << 20;

impl HubRepo {
    /// Returns what the cache has of the revision, as a rule says.
    pub(super) fn cached_at(&self, rule: &Rule) -> Result<Fetched> {
        let layout = self.layout();
        let folder = HubCache::snapshot(&layout.folder(), &self.revision)?;
        let commit = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let present = present(&folder)?;
        let paths = |files: Vec<HubFile>| files.into_iter().map(|file| file.path).collect();
        let all: Vec<String> = match noted(&layout, &commit).map(paths) {
            Some(noted) => noted,
            None => present.clone(),
        };
        let read = |name: &str| read_small(&folder.join(name));
        let files = self.choose(rule, &all, &read)?;
        let files = files.ok_or_else(|| Error::new(ErrorKind::NotFound, "there are no tables"))?;
        let (files, missing): (Vec<String>, Vec<String>) =
            files.into_iter().partition(|file| present.binary_search(file).is_ok());
        // Who fetched with a choice of their own may have left out what nobody computes with.
        if let Some(file) = missing.iter().find(|file| !is_prose(file)) {
            let e = format!("the snapshot lacks {file}: its download was interrupted");
            return Err(Error::new(ErrorKind::NotFound, e));
        }
        Ok(Fetched { path: self.path_in(&folder), folder, commit, files })
    }

    /// Finds out what is to be fetched, and of which branch.
    pub(super) fn plan(
        &self,
        selection: &Selection,
        client: &Client,
        progress: &dyn FetchProgress,
    ) -> Result<(HubRepo, Plan), Failure> {
        let mut first = None;
        let mut known: Option<(String, Vec<HubFile>)> = None;
        for candidate in selection.candidates(self.revision == "main") {
            let repo = self.at(candidate.branch);
            let (commit, files) = match (&known, candidate.branch) {
                (Some(known), None) => known.clone(),
                _ => match repo.at_commit(client) {
                    // The Hub has made no Parquet files of it.
                    Err(failure) if candidate.branch.is_some() && failure.is_gone => continue,
                    listed => listed?,
                },
            };
            let names: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
            let read = |name: &str| repo.read(&commit, &files, (name, progress));
            match repo.choose(&candidate.rule, &names, &read) {
                Ok(Some(chosen)) => {
                    if chosen.iter().any(|file| dataset::is_part(file)) {
                        let (id, why) = (self.address().id, "Parquet of its first rows only");
                        progress.note(&format!("{id} is not whole: the Hub has made {why}"));
                    }
                    let by_path: HashMap<&str, &HubFile> =
                        files.iter().map(|file| (&*file.path, file)).collect();
                    let file = |name: &String| by_path.get(&**name).map(|file| (*file).clone());
                    let files = chosen.iter().filter_map(file).collect();
                    return Ok((repo, Plan { commit, files }));
                }
                Ok(None) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => drop(first.get_or_insert(e)),
                Err(e) => return Err(e.in_file(self.address().page().to_string()).into()),
            }
            if candidate.branch.is_none() {
                known = Some((commit, files));
            }
        }
        let none = || {
            let e = "there are no tables: Parquet, JSON Lines, CSV and Arrow are read";
            Error::new(ErrorKind::NotFound, e)
        };
        let error = first.unwrap_or_else(none).in_file(self.address().page().to_string());
        Err(Failure { error, is_gone: true })
    }

    /// Returns the commit of the revision, and its files.
    fn at_commit(&self, client: &Client) -> Result<(String, Vec<HubFile>), Failure> {
        let commit = self.resolve(client)?;
        let files = self.list(client, &commit)?;
        Ok((commit, files))
    }

    /// Chooses among files of the repository, as a rule says of those that are meant.
    fn choose(&self, rule: &Rule, files: &[String], read: Read<'_>) -> Result<Option<Vec<String>>> {
        let Some(path) = &self.path else { return rule.choose(files, read) };
        if files.contains(path) {
            return Ok(Some(vec![path.clone()]));
        }
        let prefix = format!("{path}/");
        let below = |file: &String| file.strip_prefix(&prefix).map(str::to_owned);
        let below: Vec<String> = files.iter().filter_map(below).collect();
        if below.is_empty() {
            let e = format!("there is no file or folder {path}");
            return Err(Error::new(ErrorKind::NotFound, e));
        }
        let read = |name: &str| read(&format!("{prefix}{name}"));
        let chosen = rule.choose(&below, &read)?;
        let whole = |name: String| format!("{prefix}{name}");
        Ok(chosen.map(|names| names.into_iter().map(whole).collect()))
    }

    /// Returns the content of a file, brought into the cache if it is not there.
    fn read(
        &self,
        commit: &str,
        files: &[HubFile],
        (name, progress): (&str, &dyn FetchProgress),
    ) -> Result<Vec<u8>> {
        let file = files
            .iter()
            .find(|file| file.path == name)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no file {name}")))?;
        let layout = self.layout();
        if !is_there(&layout, file) {
            self.downloads(&layout, commit, progress).fetch(file)?;
        }
        read_small(&layout.blob(file.digest.text()))
    }
}

fn read_small(path: &Path) -> Result<Vec<u8>> {
    let place = || path.display().to_string();
    let failed = |e| Error::io("cannot read", e).in_file(place());
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > MOST_READ {
        let e = format!("an index of {len} bytes, and {MOST_READ} are read at most");
        return Err(Error::new(ErrorKind::LimitExceeded, e).in_file(place()));
    }
    std::fs::read(path).map_err(failed)
}

/// Returns true if a file is for people to read, and nothing depends on it.
fn is_prose(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let starts = ["license", "licence", "notice", "use_policy", "readme", ".git"];
    name.ends_with(".md") || starts.iter().any(|start| name.starts_with(start))
}
