//! The folders of a cache.

use super::key::Key;
use super::lock::{Lock, Tried};
use sparse_core::{CancelToken, Error, Observer, Result};
use sparse_output::{ScratchDir, ensure_own_folder};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Content of a file that tells backup programs to leave a folder out (bford.info/cachedir).
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # Everything here can be restored again by sparse.\n";

/// Folder of this version of the layout. Another version would have another, so that programs of
/// both can share a cache.
const VERSION: &str = "v1";

/// Name of the scratch folders that entries are built in.
const SCRATCH: &str = "entry";

/// Folders of a cache, which exist and are the user's own.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Finds the folders below `root`, if there are any.
    ///
    /// # Errors
    /// As [`ensure_own_folder`].
    pub(super) fn find(root: &Path) -> Result<Option<Layout>> {
        let exists = fs::symlink_metadata(root.join(VERSION)).is_ok();
        exists.then(|| Layout::make(root)).transpose()
    }

    /// Makes the folders that are missing.
    ///
    /// # Errors
    /// As [`ensure_own_folder`].
    pub(super) fn make(root: &Path) -> Result<Layout> {
        let layout = Layout { folder: root.join(VERSION) };
        ensure_own_folder(&layout.folder)?;
        for folder in [layout.models(), layout.locks(), layout.building(), layout.trash()] {
            ensure_own_folder(folder)?;
        }
        // Backups that keep too much are no reason to stop.
        let tag = File::create_new(root.join("CACHEDIR.TAG"));
        let _ = tag.and_then(|mut file| file.write_all(TAG.as_bytes()));
        Ok(layout)
    }

    fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    fn locks(&self) -> PathBuf {
        self.folder.join("locks")
    }

    fn building(&self) -> PathBuf {
        self.folder.join("building")
    }

    fn trash(&self) -> PathBuf {
        self.folder.join("trash")
    }

    fn lock_path(&self, key: &Key) -> PathBuf {
        self.locks().join(key.to_string())
    }

    fn key_folder(&self, key: &Key) -> PathBuf {
        self.models().join(key.to_string())
    }

    /// Returns the folder of a generation.
    pub(super) fn generation(&self, key: &Key, number: u64) -> PathBuf {
        self.key_folder(key).join(number.to_string())
    }

    /// Lists the keys of which there is anything.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn keys(&self) -> Result<Vec<Key>> {
        let names = folders_in(&self.models())?;
        Ok(names.iter().filter_map(|name| Key::parse(name)).collect())
    }

    /// Lists the generations of a key, the newest first.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn generations(&self, key: &Key) -> Result<Vec<u64>> {
        let folder = self.key_folder(key);
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            _ => return Ok(Vec::new()),
        }
        let number = |name: &String| name.parse().ok().filter(|n: &u64| n.to_string() == *name);
        let mut numbers: Vec<u64> = folders_in(&folder)?.iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Locks a key, to add or remove generations of it, and waits for others who do.
    ///
    /// # Errors
    /// As [`Lock::wait`].
    pub(super) fn lock(
        &self,
        key: &Key,
        cancel: &CancelToken,
        observer: &dyn Observer,
    ) -> Result<KeyLock> {
        let path = self.lock_path(key);
        let lock = Lock::wait(&path, cancel, observer)?;
        Ok(KeyLock { lock: Some(lock), path, folder: self.key_folder(key) })
    }

    /// Locks a key unless another holds it, or the file system has no locks.
    pub(super) fn try_lock(&self, key: &Key) -> Option<KeyLock> {
        let path = self.lock_path(key);
        match Lock::try_made(&path) {
            Ok(Tried::Taken(lock)) if lock.is_held() => {
                Some(KeyLock { lock: Some(lock), path, folder: self.key_folder(key) })
            }
            _ => None,
        }
    }

    /// Creates a folder to build an entry in.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn scratch(&self) -> Result<ScratchDir> {
        ScratchDir::create(self.building(), SCRATCH)
    }

    /// Gives what was built the name of a new generation.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn publish(&self, built: &Path, key: &Key) -> Result<u64> {
        // A second try only where a file system has no locks.
        const ATTEMPTS: u64 = 100;
        let failed = |path: &Path, e| {
            Error::io("cannot put into the cache", e).in_file(path.display().to_string())
        };
        let folder = self.key_folder(key);
        ensure_own_folder(&folder)?;
        let first = self.generations(key)?.first().map_or(1, |newest| newest.saturating_add(1));
        let mut number = first;
        loop {
            let path = self.generation(key, number);
            match fs::rename(built, &path) {
                Ok(()) => break,
                Err(_) if path.exists() && number < first.saturating_add(ATTEMPTS) => {
                    number = number.saturating_add(1);
                }
                Err(e) => return Err(failed(&path, e)),
            }
        }
        flush(&folder).and_then(|()| flush(&self.models())).map_err(|e| failed(&folder, e))?;
        Ok(number)
    }

    /// Moves the folder of a generation out of sight, then removes it.
    ///
    /// # Errors
    /// What moving reports. What cannot be removed is left to the next who tidies.
    pub(super) fn discard(&self, key: &Key, number: u64) -> std::io::Result<()> {
        static DISCARDED: AtomicU64 = AtomicU64::new(0);
        let count = DISCARDED.fetch_add(1, Ordering::Relaxed);
        let name = format!("{key}.{number}.{}.{count}", std::process::id());
        let away = self.trash().join(name);
        fs::rename(self.generation(key, number), &away)?;
        let _ = remove(&away);
        Ok(())
    }

    /// Removes what dead processes left of building and of removing.
    pub(super) fn tidy(&self) {
        ScratchDir::remove_leftovers(self.building(), SCRATCH);
        for name in folders_in(&self.trash()).unwrap_or_default() {
            let _ = remove(&self.trash().join(name));
        }
    }
}

/// Lock of a key. When it is dropped, what is empty goes: the key's folder, and the lock's file.
#[derive(Debug)]
pub(super) struct KeyLock {
    lock: Option<Lock>,
    path: PathBuf,
    folder: PathBuf,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            if lock.is_held() {
                // It stays if there is anything in it.
                let _ = fs::remove_dir(&self.folder);
            }
            lock.remove(&self.path);
        }
    }
}

/// Lists the folders in a folder by name, but not what links lead to.
fn folders_in(folder: &Path) -> Result<Vec<String>> {
    let failed = |e| Error::io("cannot list the cache", e).in_file(folder.display().to_string());
    let mut names = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Somebody cleared the cache at this moment.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(names),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|t| t.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a folder with all that is in it, also where something in it may not be written to.
fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            unlock_folders(folder);
            fs::remove_dir_all(folder)
        }
        other => other,
    }
}

/// Gives the owner all rights to a folder and to those below it; no link is followed.
fn unlock_folders(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                unlock_folders(&entry.path());
            }
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
}

/// Makes what was created or renamed in a folder durable, where there is a way to ask for that.
pub(super) fn flush(folder: &Path) -> std::io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        // Some network file systems do not flush folders.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}
