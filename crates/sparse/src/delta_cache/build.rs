//! Building an entry: restored in a folder of its own, described, and published by one rename.

use super::generation::{Generation, LOCK, MODEL, RECORD, Tree, USED, hash};
use super::key::Key;
use super::layout::{Layout, flush};
use super::record::{CachedKind, FileRecord, Record};
use super::times;
use crate::RestoreReport;
use crate::restore::{Restoring, reconstruct_sharing};
use crate::share::SharedFiles;
use sparse_core::{Digest, Error, Observer, Result};
use sparse_model::Checkpoint;
use sparse_output::{Sharing, ensure_own_folder, open_unfollowed};
use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What is to be built, and where.
pub(super) struct Build<'a> {
    pub(super) job: Restoring<'a>,
    pub(super) layout: &'a Layout,
    pub(super) key: &'a Key,
    pub(super) observer: &'a dyn Observer,
}

impl Build<'_> {
    /// Builds a new generation. The key has to be locked, and none of its generations whole: the
    /// others go afterwards, unless they are in use.
    ///
    /// # Errors
    /// What restoring and writing reports; nothing is there then.
    pub(super) fn run(&self) -> Result<RestoreReport> {
        let Build { layout, key, .. } = *self;
        layout.tidy();
        let scratch = layout.scratch()?;
        let entry = scratch.path().join("entry");
        ensure_own_folder(&entry)?;
        let start = Instant::now();
        let shared = Arc::default();
        let report = self.restore(&entry.join(MODEL), &shared)?;
        let mut record = self.describe(&entry.join(MODEL), &shared)?;
        record.took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        for (name, text) in [(RECORD, &*record.text()), (LOCK, ""), (USED, "")] {
            write(&entry.join(name), text)?;
        }
        flush(&entry).map_err(|e| failed(&entry, e))?;
        self.job.settings.cancel.check()?;
        let newest = layout.publish(&entry, key)?;
        for number in layout.generations(key)?.into_iter().filter(|n| *n != newest) {
            Generation::new(layout, key, number).remove(layout);
        }
        Ok(report)
    }

    /// Restores the files.
    fn restore(&self, model: &Path, shared: &Arc<SharedFiles>) -> Result<RestoreReport> {
        #[cfg(feature = "encode")]
        if self.key.base.is_some() {
            return crate::adapter::reconstruct_merged_sharing(
                &self.job,
                model,
                shared,
                self.observer,
            );
        }
        // With a separator at the end it is a folder, also for a single file.
        reconstruct_sharing(&self.job, &model.join(""), shared, self.observer)
    }

    /// Describes what was restored, and takes the right to write to it from everybody.
    fn describe(&self, model: &Path, shared: &SharedFiles) -> Result<Record> {
        let Restoring { base, delta, settings } = self.job;
        let index = delta.index();
        let mut tree = Tree::default();
        tree.list(model, "", usize::MAX).map_err(|e| failed(model, e))?;
        // What was restored was compared with these; a merged model has none.
        let known: HashMap<&str, Digest> = match self.key.base {
            None => index.files.iter().map(|f| (&*f.path, f.digest)).collect(),
            Some(_) => HashMap::new(),
        };
        let files: Vec<(String, Metadata)> = tree.files.into_iter().collect();
        let files = settings.executor().try_map(files.len(), |i| {
            let Some((path, metadata)) = files.get(i) else { return Ok(None) };
            let place = model.join(path);
            let sharing = shared.get(path);
            if sharing != Some(Sharing::HardLink) {
                protect(&place, metadata).map_err(|e| failed(&place, e))?;
            }
            let digest = match known.get(&**path) {
                Some(digest) => *digest,
                None => {
                    let opened = open_unfollowed(OpenOptions::new().read(true), &place);
                    let mut file = opened.map_err(|e| failed(&place, e))?;
                    hash(&mut file, &settings.cancel)?.map_err(|e| failed(&place, e))?.1
                }
            };
            Ok(Some(FileRecord {
                path: path.clone(),
                len: metadata.len(),
                modified: times::modified(metadata),
                digest,
                sharing,
            }))
        })?;
        let base_name = base.map(|b| b.name()).filter(|name| !name.is_empty());
        Ok(Record {
            kind: match (self.key.base, delta.is_adapter()) {
                (Some(_), _) => CachedKind::Merged,
                (None, true) => CachedKind::Adapter,
                (None, false) => CachedKind::Model,
            },
            base_name: base_name.unwrap_or_else(|| index.provenance.base_id.clone()),
            target_name: index.provenance.target_id.clone(),
            is_file: self.key.base.is_none() && delta.is_single_file(),
            built: times::nanos(SystemTime::now()),
            took: 0,
            files: files.into_iter().flatten().collect(),
            folders: tree.folders.into_iter().collect(),
        })
    }
}

/// Takes the right to write to a file from everybody, so that nobody edits it by accident.
fn protect(path: &Path, metadata: &Metadata) -> std::io::Result<()> {
    let mut permissions = metadata.permissions();
    permissions.set_readonly(true);
    // On Windows, a file that may not be written to cannot be removed everywhere.
    if cfg!(unix) { fs::set_permissions(path, permissions) } else { Ok(()) }
}

/// Writes a small file to the disk.
fn write(path: &Path, text: &str) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| failed(path, e))
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io("cannot build an entry of the cache", e).in_file(path.display().to_string())
}

/// Computes a digest of all that is in a model: paths, contents, empty folders.
///
/// # Errors
/// What reading reports; `Cancelled`.
pub(super) fn digest_of_model(
    model: &dyn Checkpoint,
    settings: &crate::settings::Settings,
) -> Result<Digest> {
    const WINDOW: u64 = 1 << 20;
    let files = model.files();
    let digests = settings.executor().try_map(files.len(), |i| {
        let (source, mut digester) = (model.file_source(i)?, sparse_container::Digester::new());
        let len = source.byte_len();
        let mut at = 0;
        while at < len {
            settings.cancel.check()?;
            let window = (len - at).min(WINDOW);
            digester.update(&source.bytes_at(at, window as usize)?);
            at += window;
        }
        Ok(digester.finish())
    })?;
    let mut all = sparse_container::Digester::new();
    let mut add = |path: &str, len: u64, digest: &[u8]| {
        all.update(&(path.len() as u64).to_le_bytes());
        all.update(path.as_bytes());
        all.update(&len.to_le_bytes());
        all.update(digest);
    };
    for (file, Digest(digest)) in files.iter().zip(&digests) {
        add(&file.path, file.len, digest);
    }
    // No file is that long.
    model.empty_folders().iter().for_each(|folder| add(folder, u64::MAX, &[]));
    Ok(all.finish())
}
