//! One generation of an entry: is it whole, is it in use, and its removal.

use super::key::Key;
use super::layout::Layout;
use super::lock::{Lock, Mode, Tried};
use super::record::{FileRecord, Record};
use super::times;
use sparse_container::Digester;
use sparse_core::{CancelToken, Digest, Error, Executor, Result, zeros};
use sparse_output::{Sharing, open_unfollowed};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Names in the folder of a generation.
pub(super) const MODEL: &str = "model";
pub(super) const RECORD: &str = "record";
pub(super) const USED: &str = "used";
pub(super) const LOCK: &str = "lock";
/// Is there when a check found the generation damaged.
pub(super) const DAMAGED: &str = "damaged";

/// Bytes hashed at a time.
const WINDOW: usize = 1 << 20;

/// Most problems that are told of one generation.
const MAX_PROBLEMS: usize = 20;

/// How thoroughly files are compared with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thorough {
    /// By size and time of modification alone.
    Stamps,
    /// As that; a file of the right size but another time is hashed.
    Suspects,
    /// Every file is hashed.
    All,
}

/// With what files are compared.
#[derive(Clone, Copy)]
pub(super) struct Checker<'a> {
    pub(super) thorough: Thorough,
    pub(super) executor: &'a dyn Executor,
    pub(super) cancel: &'a CancelToken,
}

/// Folder of a generation, which may be in any state.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) key: Key,
    pub(super) number: u64,
    pub(super) folder: PathBuf,
}

/// Generation that is locked for use.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) generation: Generation,
    pub(super) record: Record,
    pub(super) lock: Lock,
}

/// What is wrong with a generation; empty if nothing is.
pub(super) type Problems = Vec<String>;

impl Generation {
    pub(super) fn new(layout: &Layout, key: &Key, number: u64) -> Generation {
        Generation { key: *key, number, folder: layout.generation(key, number) }
    }

    /// Locks it for use; `None` when it is being removed.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn hold(&self) -> io::Result<Option<Lock>> {
        // Whoever looks whether it is in use has the lock for an instant. Whoever removes it moves
        // it away before giving the lock back.
        const ATTEMPTS: u32 = 200;
        for _ in 0..ATTEMPTS {
            match Lock::try_on(&self.folder.join(LOCK), Mode::Shared)? {
                Tried::Taken(lock) => return Ok(Some(lock)),
                Tried::Gone => return Ok(None),
                Tried::Busy => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Ok(None)
    }

    /// Returns whether a living process uses it, as far as the file system tells.
    pub(super) fn is_in_use(&self) -> bool {
        match Lock::try_on(&self.folder.join(LOCK), Mode::Alone) {
            Ok(Tried::Taken(lock)) => !lock.is_held(),
            Ok(Tried::Busy) => true,
            Ok(Tried::Gone) => false,
            Err(_) => is_file(&self.folder.join(LOCK)),
        }
    }

    /// Removes it unless a living process uses it; returns whether it did. The key has to be
    /// locked.
    pub(super) fn remove(&self, layout: &Layout) -> bool {
        let lock = match Lock::try_on(&self.folder.join(LOCK), Mode::Alone) {
            Ok(Tried::Taken(lock)) if lock.is_held() => Some(lock),
            Ok(Tried::Taken(_) | Tried::Busy) => return false,
            // It cannot be told: there are too many open files, for instance.
            Err(_) if is_file(&self.folder.join(LOCK)) => return false,
            // Nobody can use what has no lock.
            Ok(Tried::Gone) | Err(_) => None,
        };
        // Windows moves no folder in which a file is open.
        let lock = if cfg!(windows) { None } else { lock };
        let gone = layout.discard(&self.key, self.number).is_ok();
        drop(lock);
        gone
    }

    /// Notes that it is used now.
    pub(super) fn touch(&self) {
        let used = open_unfollowed(OpenOptions::new().write(true), self.folder.join(USED));
        // Where nothing can be written, nothing will be removed either.
        let _ = used.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Returns when it was last used, in nanoseconds since 1970; 0 if that is unknown.
    pub(super) fn used(&self) -> i128 {
        fs::symlink_metadata(self.folder.join(USED)).map_or(0, |m| times::modified(&m))
    }

    /// Notes that it is damaged, for whoever comes next.
    pub(super) fn condemn(&self) {
        let path = self.folder.join(DAMAGED);
        let _ = open_unfollowed(OpenOptions::new().write(true).create(true), path);
    }

    /// Returns the record, and what is wrong with the generation.
    ///
    /// # Errors
    /// `Cancelled`; `Io` when a file that is there cannot be opened, for want of file handles, for
    /// instance. Other files that cannot be read are a problem, and no error.
    pub(super) fn check(&self, checker: &Checker<'_>) -> Result<(Option<Record>, Problems)> {
        let record = match Record::read(&self.folder.join(RECORD)) {
            Ok(record) => record,
            Err(e) if is_of_the_moment(&e) && is_file(&self.folder.join(RECORD)) => {
                return Err(e.in_file(self.folder.display().to_string()));
            }
            Err(e) => return Ok((None, vec![e.to_string()])),
        };
        if fs::symlink_metadata(self.folder.join(DAMAGED)).is_ok() {
            return Ok((Some(record), vec!["a check found it damaged".to_owned()]));
        }
        let problems = self.compare(&record, checker)?;
        Ok((Some(record), problems))
    }

    /// Compares the files with the record.
    fn compare(&self, record: &Record, checker: &Checker<'_>) -> Result<Problems> {
        let model = self.folder.join(MODEL);
        let mut found = Tree::default();
        let most = record.files.len() + record.folders.len();
        if let Err(e) = found.list(&model, "", most) {
            return Ok(vec![format!("its files cannot be listed: {e}")]);
        }
        let mut problems = found.odd;
        for folder in &record.folders {
            if !found.folders.remove(folder) {
                problems.push(format!("the folder {folder} is missing"));
            }
        }
        let mut suspects = Vec::new();
        for file in &record.files {
            match found.files.remove(&file.path) {
                None => problems.push(format!("{} is missing", file.path)),
                Some(now) if now.len() != file.len => problems.push(format!(
                    "{} has {} bytes instead of {}",
                    file.path,
                    now.len(),
                    file.len
                )),
                Some(now) => {
                    let is_same = times::modified(&now) == file.modified;
                    match checker.thorough {
                        Thorough::Stamps if !is_same => {
                            problems.push(format!("{} was written to", file.path));
                        }
                        Thorough::Suspects if !is_same => suspects.push(file),
                        Thorough::All => suspects.push(file),
                        _ => {}
                    }
                }
            }
        }
        let others = found.files.into_keys().chain(found.folders);
        problems.extend(others.map(|other| format!("{other} does not belong to it")));
        problems.truncate(MAX_PROBLEMS);
        if problems.is_empty() {
            problems = compare_content(&model, &suspects, checker)?;
        }
        Ok(problems)
    }
}

/// Tells whether an error may be gone at the next attempt, as one of too many open files.
fn is_of_the_moment(e: &Error) -> bool {
    /// What a disk reports that cannot read, on every Unix (`EIO`).
    const BROKEN: i32 = 5;
    let lasting = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
    let cause = e.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|e| {
        e.raw_os_error().is_some_and(|code| code != BROKEN) && !lasting.contains(&e.kind())
    })
}

/// Tells whether there is a file, and no link, folder or anything else.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Hashes files.
fn compare_content(model: &Path, files: &[&FileRecord], checker: &Checker<'_>) -> Result<Problems> {
    let compare = |i: usize| -> Result<Option<String>> {
        let Some(record) = files.get(i) else { return Ok(None) };
        let path = model.join(&record.path);
        let opened = open_unfollowed(OpenOptions::new().read(true), &path);
        let hashed = match opened {
            Ok(mut file) => {
                let hashed = hash(&mut file, checker.cancel)?;
                if hashed.as_ref().is_ok_and(|h| *h == (record.len, record.digest)) {
                    restore_time(&file, record);
                }
                hashed
            }
            Err(e) => {
                let failed = Error::io("cannot open", e);
                if is_of_the_moment(&failed) && is_file(&path) {
                    return Err(failed.in_file(path.display().to_string()));
                }
                return Ok(Some(format!("{}: {failed}", record.path)));
            }
        };
        Ok(match hashed {
            Ok(found) if found == (record.len, record.digest) => None,
            Ok((_, found)) => Some(format!(
                "{} differs: its digest is {found} instead of {}",
                record.path, record.digest
            )),
            Err(e) => Some(format!("{} cannot be read: {e}", record.path)),
        })
    };
    let problems = checker.executor.try_map(files.len(), compare)?;
    Ok(problems.into_iter().flatten().take(MAX_PROBLEMS).collect())
}

/// Gives a file that was only touched its recorded time again, so that it is not hashed each time.
fn restore_time(file: &File, record: &FileRecord) {
    // A hard link's time is that of the original.
    if record.sharing != Some(Sharing::HardLink)
        && let Some(time) = times::time(record.modified)
    {
        let _ = file.set_modified(time);
    }
}

/// Computes length and digest of a file's content.
///
/// # Errors
/// `Cancelled`; what reading reports is inside.
pub(super) fn hash(file: &mut File, cancel: &CancelToken) -> Result<io::Result<(u64, Digest)>> {
    let mut buffer = zeros::<u8>(WINDOW)?;
    let (mut digester, mut len) = (Digester::new(), 0);
    loop {
        cancel.check()?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Ok((len, digester.finish()))),
            Ok(count) => {
                digester.update(buffer.get(..count).unwrap_or_default());
                len += count as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Ok(Err(e)),
        }
    }
}

/// What is in a folder, by path below it.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<String, Metadata>,
    pub(super) folders: std::collections::BTreeSet<String>,
    /// What is neither a file nor a folder, as sentences.
    pub(super) odd: Vec<String>,
}

impl Tree {
    /// Adds what is in `folder`, whose paths begin with `prefix`, and below. No link is followed.
    ///
    /// It stops soon after it has found more than `most`: what is there is not what is expected.
    pub(super) fn list(&mut self, folder: &Path, prefix: &str, most: usize) -> io::Result<()> {
        if !fs::symlink_metadata(folder)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no folder"));
        }
        for entry in fs::read_dir(folder)? {
            if self.files.len() + self.folders.len() + self.odd.len() > most {
                break;
            }
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let found = fs::symlink_metadata(entry.path())?;
            if found.is_dir() {
                self.folders.insert(path.clone());
                self.list(&entry.path(), &format!("{path}/"), most)?;
            } else if found.is_file() {
                self.files.insert(path, found);
            } else {
                self.odd.push(format!("{path} is a link or a device"));
            }
        }
        Ok(())
    }
}

/// Finds the newest generation of a key that is whole, and locks it for use.
///
/// # Errors
/// `Io` when the cache cannot be listed or locked; `Cancelled`.
pub(super) fn find(
    layout: &Layout,
    key: &Key,
    executor: &dyn Executor,
    cancel: &CancelToken,
) -> Result<Option<Held>> {
    let checker = Checker { thorough: Thorough::Suspects, executor, cancel };
    for number in layout.generations(key)? {
        let generation = Generation::new(layout, key, number);
        // One that cannot be locked is as good as none.
        let Ok(Some(lock)) = generation.hold() else { continue };
        let (record, problems) = generation.check(&checker)?;
        if let Some(record) = record.filter(|_| problems.is_empty()) {
            generation.touch();
            return Ok(Some(Held { generation, record, lock }));
        }
    }
    Ok(None)
}
