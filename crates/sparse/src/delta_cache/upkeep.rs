//! Listing, removing and checking entries.

use super::generation::{Checker, Generation, MODEL, Thorough, Tree};
use super::layout::Layout;
use super::record::Record;
use super::report::{CacheCheck, CacheCleanup, CacheEntry, DamagedEntry};
use super::times;
use sparse_core::{CancelToken, Executor, Observer, Result};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// Generation and what is known of it.
struct Known {
    generation: Generation,
    record: Option<Record>,
    problems: Vec<String>,
}

impl Known {
    /// Returns the bytes that removing it would free.
    fn own_bytes(&self) -> u64 {
        match &self.record {
            Some(record) => record.own_bytes(),
            None => {
                let mut tree = Tree::default();
                // What cannot be listed counts as nothing.
                let _ = tree.list(&self.generation.folder.join(MODEL), "", usize::MAX);
                tree.files.values().map(std::fs::Metadata::len).fold(0, u64::saturating_add)
            }
        }
    }

    fn path(&self) -> PathBuf {
        let folder = self.generation.folder.join(MODEL);
        match &self.record {
            Some(Record { is_file: true, files, .. }) => match &**files {
                [only] => folder.join(&only.path),
                _ => folder,
            },
            _ => folder,
        }
    }

    fn target(&self) -> String {
        self.record.as_ref().map(|r| r.target_name.clone()).unwrap_or_default()
    }

    fn entry(&self) -> CacheEntry {
        let time = |nanos| times::time(nanos).unwrap_or(UNIX_EPOCH);
        let record = self.record.as_ref();
        CacheEntry {
            key: self.generation.key.to_string(),
            kind: record.map(|r| r.kind),
            base: record.map(|r| r.base_name.clone()).unwrap_or_default(),
            target: self.target(),
            path: self.path(),
            files: record.map_or(0, |r| r.files.len() as u64),
            bytes: record.map_or_else(|| self.own_bytes(), Record::bytes),
            own_bytes: self.own_bytes(),
            built: time(record.map_or(0, |r| r.built)),
            used: time(self.generation.used()),
            built_in_ms: record.map_or(0, |r| r.took),
            in_use: self.generation.is_in_use(),
            problems: self.problems.clone(),
        }
    }
}

/// Finds all generations, of each key the newest first.
fn all(layout: &Layout) -> Result<Vec<Generation>> {
    let mut all = Vec::new();
    for key in layout.keys()? {
        let numbers = layout.generations(&key)?;
        all.extend(numbers.into_iter().map(|number| Generation::new(layout, &key, number)));
    }
    Ok(all)
}

/// Looks at all generations, without hashing anything.
fn look(layout: &Layout, executor: &dyn Executor, cancel: &CancelToken) -> Result<Vec<Known>> {
    let checker = Checker { thorough: Thorough::Stamps, executor, cancel };
    let mut known = Vec::new();
    for generation in all(layout)? {
        cancel.check()?;
        let (record, problems) = generation.check(&checker)?;
        known.push(Known { generation, record, problems });
    }
    Ok(known)
}

/// Lists all entries, the one last used first.
///
/// # Errors
/// `Io`; `Cancelled`.
pub(super) fn list(
    layout: &Layout,
    executor: &dyn Executor,
    cancel: &CancelToken,
) -> Result<Vec<CacheEntry>> {
    let mut entries: Vec<CacheEntry> =
        look(layout, executor, cancel)?.iter().map(Known::entry).collect();
    entries.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.key.cmp(&b.key)));
    Ok(entries)
}

/// Removes entries, the one longest unused first, until the others have at most `limit` bytes of
/// their own. None in use is removed.
///
/// # Errors
/// `Io`; `Cancelled`.
pub(super) fn prune(
    layout: &Layout,
    limit: u64,
    executor: &dyn Executor,
    cancel: &CancelToken,
) -> Result<CacheCleanup> {
    layout.tidy();
    let mut entries: Vec<(i128, u64, Generation)> = look(layout, executor, cancel)?
        .into_iter()
        .map(|known| (known.generation.used(), known.own_bytes(), known.generation))
        .collect();
    entries.sort_by_key(|(used, ..)| *used);
    let mut report = CacheCleanup {
        kept: entries.len() as u64,
        kept_bytes: entries.iter().fold(0, |sum, (_, bytes, _)| sum.saturating_add(*bytes)),
        ..CacheCleanup::default()
    };
    for (_, bytes, generation) in &entries {
        // One that is all the base's takes no room, unless no room at all is allowed.
        if report.kept_bytes <= limit && (limit > 0 || report.kept == 0) {
            break;
        }
        cancel.check()?;
        // Whoever has the key locked is building, and will use what is there then.
        let lock = layout.try_lock(&generation.key);
        if lock.is_some() && generation.remove(layout) {
            report.removed += 1;
            report.removed_bytes = report.removed_bytes.saturating_add(*bytes);
            report.kept -= 1;
            report.kept_bytes = report.kept_bytes.saturating_sub(*bytes);
        } else {
            report.in_use += 1;
        }
    }
    Ok(report)
}

/// Hashes all files of all entries. Damaged entries are removed, or, while one is in use, marked so
/// that nobody else gets it.
///
/// # Errors
/// `Io`; `Cancelled`.
pub(super) fn verify(
    layout: &Layout,
    executor: &dyn Executor,
    cancel: &CancelToken,
    observer: &dyn Observer,
) -> Result<CacheCheck> {
    let known = look(layout, executor, cancel)?;
    let total = known.iter().filter_map(|k| k.record.as_ref()).map(Record::bytes);
    observer.begin("verifying", total.fold(0, u64::saturating_add));
    let result = verify_all(layout, known, (executor, cancel), observer);
    observer.end();
    result
}

fn verify_all(
    layout: &Layout,
    known: Vec<Known>,
    (executor, cancel): (&dyn Executor, &CancelToken),
    observer: &dyn Observer,
) -> Result<CacheCheck> {
    let checker = Checker { thorough: Thorough::All, executor, cancel };
    let mut report = CacheCheck::default();
    for Known { generation, .. } in known {
        cancel.check()?;
        // So that it is not removed meanwhile. One without a lock cannot be used: it is checked,
        // and found damaged.
        let lock = match generation.hold() {
            Ok(None) if !generation.folder.exists() => continue,
            held => held.ok().flatten(),
        };
        let (record, mut problems) = generation.check(&checker)?;
        if lock.is_none() {
            problems.push("it cannot be locked".to_owned());
        }
        drop(lock);
        let known = Known { generation, record, problems };
        report.entries += 1;
        if let Some(record) = &known.record {
            report.files += record.files.len() as u64;
            report.bytes = report.bytes.saturating_add(record.bytes());
            observer.advance(record.bytes());
        }
        if !known.problems.is_empty() {
            report.damaged.push(discard(layout, known));
        }
    }
    Ok(report)
}

/// Removes a damaged generation, or marks it.
fn discard(layout: &Layout, known: Known) -> DamagedEntry {
    let (path, target) = (known.path(), known.target());
    let Known { generation, problems, .. } = known;
    generation.condemn();
    let lock = layout.try_lock(&generation.key);
    let removed = lock.is_some() && generation.remove(layout);
    DamagedEntry { key: generation.key.to_string(), target, path, problems, removed }
}
