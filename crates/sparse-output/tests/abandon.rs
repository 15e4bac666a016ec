//! Giving up all outputs at once. Alone in its program, since nothing can be written afterwards.

#![allow(clippy::unwrap_used)]

use sparse_output::{AtomicDir, AtomicFile, Overwrite, ScratchDir, abandon_outputs};
use std::time::Duration;

#[test]
fn what_is_abandoned_never_appears() {
    let dir = tempfile::tempdir().unwrap();
    let file = AtomicFile::create(dir.path().join("file"), Overwrite::Refuse).unwrap();
    let folder = AtomicDir::create(dir.path().join("folder"), Overwrite::Refuse).unwrap();
    folder.create_file("a/b", 10).unwrap();
    let scratch = ScratchDir::create(dir.path(), "scratch").unwrap();
    drop(AtomicFile::create(dir.path().join("gone"), Overwrite::Refuse).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    assert!(abandon_outputs());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // These wait until the process ends.
    std::thread::spawn(move || file.commit());
    std::thread::spawn(move || folder.commit());
    std::thread::spawn(move || drop(scratch));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
