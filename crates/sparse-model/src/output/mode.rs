//! Permissions: a temporary is its writer's alone; a finished output has those of what it replaces,
//! or else those that the umask leaves to new files.
//!
//! Only Unix has such permissions. Elsewhere everything here does nothing, and an output inherits
//! from its folder.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

/// The permissions that a new file or folder gets from the umask and from its folder; unknown where
/// there are none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usual(Option<u32>);

/// Creates a file for reading and writing that nobody else may open.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a folder that nobody else may look into, and tells what its permissions would have been.
pub(super) fn private_folder(path: &Path) -> io::Result<Usual> {
    fs::create_dir(path)?;
    #[cfg(unix)]
    {
        // Nothing is in it yet, and what is put in later cannot be reached even by who opened it
        // before.
        let usual = fs::symlink_metadata(path).map(|m| mode(&m)).ok();
        set_mode(path, 0o700)?;
        Ok(Usual(usual))
    }
    #[cfg(not(unix))]
    Ok(Usual(None))
}

/// Finds out what permissions a new file gets here: creates one at `probe` and removes it. Asking
/// for the umask itself would mean changing it for all threads, and would miss default access
/// control lists.
pub(super) fn usual_for_files(probe: &Path) -> Usual {
    #[cfg(unix)]
    if let Ok(file) = File::options().write(true).create_new(true).open(probe) {
        let usual = file.metadata().map(|m| mode(&m)).ok();
        let _ = fs::remove_file(probe);
        return Usual(usual);
    }
    let _ = probe;
    Usual(None)
}

/// Gives `path`, a finished temporary, the permissions of `old`, which it is about to replace, or
/// the usual ones.
///
/// Failing to is no failure of the output: it stays more private than it might be.
pub(super) fn settle(path: &Path, old: Option<&Metadata>, usual: Usual) {
    #[cfg(unix)]
    {
        match (old, usual) {
            (Some(old), _) => keep_mode(path, old),
            (None, Usual(Some(usual))) => {
                let _ = set_mode(path, usual);
            }
            (None, Usual(None)) => {}
        }
    }
    let _ = (path, old, usual);
}

/// Gives all that is below the folder `new` the permissions of what has the same place below `old`,
/// and is of the same kind.
pub(super) fn settle_below(new: &Path, old: &Path) {
    for entry in fs::read_dir(new).into_iter().flatten().flatten() {
        let (from, to) = (old.join(entry.file_name()), entry.path());
        let (Ok(before), Ok(now)) = (fs::symlink_metadata(&from), fs::symlink_metadata(&to)) else {
            continue;
        };
        if before.is_dir() && now.is_dir() {
            settle_below(&to, &from);
        }
        if (before.is_dir() && now.is_dir()) || (before.is_file() && now.is_file()) {
            settle(&to, Some(&before), Usual(None));
        }
    }
}

#[cfg(unix)]
fn mode(meta: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Takes over the owner as far as that is permitted, and the permissions: those of a group that
/// cannot be kept are no more than those of everybody.
#[cfg(unix)]
fn keep_mode(path: &Path, old: &Metadata) {
    use std::os::unix::fs::{MetadataExt, lchown};
    let Ok(now) = fs::symlink_metadata(path) else { return };
    if now.uid() != old.uid() {
        let _ = lchown(path, Some(old.uid()), None);
    }
    let group_kept = now.gid() == old.gid() || lchown(path, None, Some(old.gid())).is_ok();
    // A program that runs as its owner (set-user-id) is nothing that is ever restored.
    let mut mode = mode(old) & if old.is_dir() { 0o3777 } else { 0o777 };
    if !group_kept {
        mode &= !0o070 | ((mode & 0o007) << 3);
    }
    let _ = set_mode(path, mode);
}
