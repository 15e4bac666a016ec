//! A folder on disk, for targets of what is read by path.

use std::path::PathBuf;
use std::{fs, process};

/// Makes an empty folder for a target of this process, in memory where there is a place for that.
///
/// libFuzzer ends a process without a word, so folders of processes that are gone are removed here.
pub(crate) fn room(target: &str) -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    let parent = if shared.is_dir() { shared } else { std::env::temp_dir() };
    let prefix = format!("sparse-fuzz-{target}-");
    for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(&prefix).and_then(|p| p.parse::<u32>().ok());
        if process.is_some_and(|p| !PathBuf::from(format!("/proc/{p}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let own = parent.join(format!("{prefix}{}", process::id()));
    let _ = fs::remove_dir_all(&own);
    fs::create_dir_all(&own).expect("temporary folders can be made");
    own
}

/// Writes files below a folder, with the folders that they lie in.
pub(crate) fn put(folder: &std::path::Path, files: &[(&str, &[u8])]) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("folders");
        fs::write(path, bytes).expect("files can be written");
    }
}
