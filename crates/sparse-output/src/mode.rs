//! Permissions: a temporary is its writer's alone; a finished output has those of what it replaces,
//! or else those that the umask leaves to new files.
//!
//! Only Unix has such permissions. Elsewhere everything here does nothing, and an output inherits
//! from its folder.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
#[cfg(unix)]
use std::{fs::Permissions, os::unix::fs::PermissionsExt};
use tempfile::{Builder, NamedTempFile, TempDir};

/// Permissions that a new file or folder gets from the umask and from its folder; unknown where
/// there are none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usual(Option<u32>);

/// Creates a file in `folder` that nobody else may open.
///
/// Also returns what its permissions would have been: those of another file, made and removed.
/// Asking for the umask itself would mean changing it for all threads, and would miss default
/// access control lists.
pub(super) fn private_file(
    builder: &mut Builder<'_, '_>,
    folder: &Path,
) -> io::Result<(NamedTempFile, Usual)> {
    #[cfg(unix)]
    let usual = {
        let mut probe = builder.clone();
        let probe = probe.permissions(Permissions::from_mode(0o666)).tempfile_in(folder);
        probe.and_then(|f| f.as_file().metadata()).map(|m| mode(&m)).ok()
    };
    #[cfg(not(unix))]
    let usual = None;
    Ok((builder.tempfile_in(folder)?, Usual(usual)))
}

/// Creates a folder in `folder` that nobody else may look into.
///
/// Also returns what its permissions would have been.
pub(super) fn private_folder(
    builder: &mut Builder<'_, '_>,
    folder: &Path,
) -> io::Result<(TempDir, Usual)> {
    #[cfg(unix)]
    {
        let dir = builder.permissions(Permissions::from_mode(0o777)).tempdir_in(folder)?;
        // Nothing is in it yet, and what is put in later cannot be reached even by who opened it
        // before.
        let usual = fs::symlink_metadata(dir.path()).map(|m| mode(&m)).ok();
        set_mode(dir.path(), 0o700)?;
        Ok((dir, Usual(usual)))
    }
    #[cfg(not(unix))]
    Ok((builder.tempdir_in(folder)?, Usual(None)))
}

/// Gives `path`, a finished temporary, the permissions of `old`.
///
/// Those are of what it is about to replace; without that, it gets the usual ones.
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

/// Gives all that is below the folder `new` the permissions of its counterpart.
///
/// That is what has the same place below `old` and is of the same kind.
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
    meta.permissions().mode() & 0o7777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
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
