//! A cache that was damaged, or that somebody else wrote to.

#![cfg(all(feature = "cache", feature = "encode"))]
#![allow(clippy::panic, clippy::unwrap_used)]

mod cache_support;

use cache_support::{Place, Rng, tree};
use sparse::Model;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Writes over a file, which may be read-only.
fn overwrite(path: &Path, bytes: &[u8]) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_modified(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    overwrite(path, &bytes);
}

#[test]
fn damage_is_noticed_and_mended() {
    let place = Place::with(1);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 9] = [
        ("a file is gone", |entry| fs::remove_file(entry.join("model/config.json")).unwrap()),
        ("the model is gone", |entry| fs::remove_dir_all(entry.join("model")).unwrap()),
        ("a folder is gone", |entry| fs::remove_dir(entry.join("model/void")).unwrap()),
        ("cut short", |entry| overwrite(&entry.join("model/model-1.safetensors"), b"short")),
        ("another byte", |entry| flip(&entry.join("model/model-1.safetensors"))),
        ("one file more", |entry| fs::write(entry.join("model/evil.py"), "x").unwrap()),
        ("no record", |entry| fs::remove_file(entry.join("record")).unwrap()),
        ("another record", |entry| flip(&entry.join("record"))),
        ("no lock", |entry| fs::remove_file(entry.join("lock")).unwrap()),
    ];
    for (what, damage) in damages {
        let built = place.get(0).unwrap();
        let entry = built.path().parent().unwrap().to_owned();
        drop(built);
        damage(&entry);
        if what != "no lock" {
            let listed = place.cache().list().unwrap();
            assert!(!listed[0].problems.is_empty(), "{what}: {listed:?}");
        }
        let mended = place.get(0).unwrap();
        assert!(mended.restored().is_some(), "{what}");
        place.assert_right(0, mended.path());
        // What was damaged is gone.
        assert_eq!(place.cache().list().unwrap().len(), 1, "{what}");
        place.assert_tidy();
    }
}

/// Nobody notices this but who reads everything.
#[test]
fn a_check_finds_what_stamps_do_not_tell() {
    let place = Place::with(2);
    let cache = place.cache();
    place.fill(0);
    place.fill(1);
    let check = cache.verify().unwrap();
    assert_eq!((check.entries, check.files, check.damaged.len()), (2, 10, 0));
    let held = place.get(1).unwrap();
    for path in [place.get(0).unwrap().path(), held.path()] {
        let file = path.join("model-1.safetensors");
        let before = modified(&file);
        flip(&file);
        set_modified(&file, before);
    }
    assert!(cache.get(&place.delta(0)).unwrap().is_some(), "as far as stamps tell");
    let check = cache.verify().unwrap();
    assert_eq!((check.entries, check.damaged.len()), (2, 2), "{check:?}");
    for damaged in &check.damaged {
        assert!(damaged.problems[0].starts_with("model-1.safetensors differs"), "{damaged:?}");
        // One in use stays.
        assert_eq!(damaged.removed, damaged.path != held.path());
    }
    assert!(held.path().exists());
    // Nobody else gets it, and who asks gets another.
    assert!(cache.get(&place.delta(1)).unwrap().is_none());
    for number in [0, 1] {
        let mended = place.get(number).unwrap();
        assert!(mended.restored().is_some() && mended.path() != held.path());
        place.assert_right(number, mended.path());
    }
    drop(held);
    assert_eq!(cache.verify().unwrap().damaged.len(), 1, "now it can go");
    assert_eq!(cache.list().unwrap().len(), 2);
    assert_eq!(cache.verify().unwrap().damaged, []);
}

#[test]
fn in_use_and_damaged_it_stays_where_it_is() {
    let place = Place::with(1);
    let held = place.get(0).unwrap();
    fs::remove_file(held.path().join("config.json")).unwrap();
    let mended = place.get(0).unwrap();
    assert_ne!(mended.path(), held.path());
    assert!(held.path().join("model-1.safetensors").exists());
    place.assert_right(0, mended.path());
    assert_eq!(place.cache().list().unwrap().len(), 2);
    drop(held);
    assert!(place.get(0).unwrap().restored().is_none());
    drop(mended);
    assert_eq!(place.cache().clear().unwrap().removed, 2);
}

/// A copy of a cache, and backups, have other times.
#[test]
fn touching_is_no_damage() {
    let place = Place::with(1);
    let file = place.get(0).unwrap().path().join("model-1.safetensors");
    let before = modified(&file);
    set_modified(&file, before + Duration::from_secs(5));
    assert!(place.get(0).unwrap().restored().is_none());
    assert_eq!(modified(&file), before, "so that it is not hashed again");
}

/// All files of an entry.
fn files(entry: &Path) -> Vec<PathBuf> {
    tree(entry).into_keys().filter(|n| !n.ends_with('/')).map(|n| entry.join(n)).collect()
}

/// Whatever the files hold: nothing panics, and what is handed out is right.
#[test]
fn any_garbage_anywhere() {
    let place = Place::with(1);
    let mut rng = Rng(7);
    for round in 0..60 {
        let built = place.get(0).unwrap();
        let entry = built.path().parent().unwrap().to_owned();
        drop(built);
        for _ in 0..=rng.next() % 3 {
            let files = files(&entry);
            let file = &files[rng.next() as usize % files.len()];
            let mut bytes = fs::read(file).unwrap();
            match rng.next() % 4 {
                0 => bytes.truncate(rng.next() as usize % (bytes.len() + 1)),
                1 => bytes.extend((0..rng.next() % 100).map(|n| n as u8)),
                2 => bytes = (0..rng.next() % 1000).map(|_| rng.next() as u8).collect(),
                _ if bytes.is_empty() => bytes.push(1),
                _ => {
                    let at = rng.next() as usize % bytes.len();
                    bytes[at] ^= 1 << (rng.next() % 8);
                }
            }
            overwrite(file, &bytes);
        }
        place.cache().list().unwrap();
        if round % 3 == 0 {
            place.cache().verify().unwrap();
        }
        if round % 7 == 0 {
            place.cache().prune(0).unwrap();
        }
        place.assert_right(0, place.get(0).unwrap().path());
    }
}

#[test]
fn what_dead_processes_left_goes() {
    let place = Place::with(2);
    place.fill(0);
    let v1 = place.path("cache/v1");
    let left = [
        v1.join("building/.entry.999999999.abcdefghij.partial/entry/model"),
        v1.join("trash/something.1.999999999.0/model"),
    ];
    for left in &left {
        fs::create_dir_all(left).unwrap();
        fs::write(left.join("weights"), "x").unwrap();
    }
    // A key's folder without anything in it.
    fs::create_dir(v1.join("models").join("0".repeat(32))).unwrap();
    place.fill(1);
    if cfg!(unix) {
        place.assert_tidy();
    }
    assert_eq!(place.cache().list().unwrap().len(), 2);
}

#[cfg(unix)]
mod links {
    use super::*;
    use sparse::ErrorKind;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// Nothing outside is read, changed or removed because of a link.
    #[test]
    fn no_link_leads_out() {
        let place = Place::with(1);
        let built = place.get(0).unwrap();
        let entry = built.path().parent().unwrap().to_owned();
        drop(built);
        let outside = place.path("outside");
        let swaps = ["model", "model/text", "model/config.json", "record", "lock", "used"];
        for name in swaps {
            fs::rename(entry.join(name), &outside).unwrap();
            symlink(&outside, entry.join(name)).unwrap();
            let before = fs::metadata(&outside).unwrap().mtime_nsec();
            place.cache().list().unwrap();
            let mended = place.get(0).unwrap();
            place.assert_right(0, mended.path());
            if name != "used" {
                assert!(mended.restored().is_some(), "{name}");
            }
            drop(mended);
            assert_eq!(fs::metadata(&outside).unwrap().mtime_nsec(), before, "{name}");
            place.cache().clear().unwrap();
            assert!(outside.exists(), "{name}");
            let _ = fs::remove_file(&outside).or_else(|_| fs::remove_dir_all(&outside));
            place.fill(0);
            assert!(entry.exists());
        }
        // A whole generation, a whole key, the whole cache.
        let key = entry.parent().unwrap();
        for folder in [&*entry, key] {
            fs::rename(folder, &outside).unwrap();
            symlink(&outside, folder).unwrap();
            assert!(place.cache().get(&place.delta(0)).unwrap().is_none());
            assert_eq!(place.cache().clear().unwrap().removed, 0);
            assert!(outside.exists());
            fs::remove_file(folder).unwrap();
            fs::remove_dir_all(&outside).unwrap();
            place.fill(0);
        }
        for folder in [key.parent().unwrap(), &place.path("cache/v1")] {
            fs::rename(folder, &outside).unwrap();
            symlink(&outside, folder).unwrap();
            for e in [
                place.cache().get(&place.delta(0)).unwrap_err(),
                place.get(0).unwrap_err(),
                place.cache().clear().unwrap_err(),
            ] {
                assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
            }
            fs::remove_file(folder).unwrap();
            fs::rename(&outside, folder).unwrap();
            place.fill(0);
        }
    }

    /// The base as the Hugging Face cache has it: names are links to blobs.
    fn in_hub(place: &Place) -> PathBuf {
        let repo = place.path("hub/models--org--base");
        let snapshot = repo.join("snapshots/main");
        fs::create_dir_all(repo.join("blobs")).unwrap();
        for (number, (name, bytes)) in tree(&place.path("base")).into_iter().enumerate() {
            let path = snapshot.join(&name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let blob = repo.join("blobs").join(format!("{number:064x}"));
            fs::write(&blob, bytes).unwrap();
            symlink(blob, path).unwrap();
        }
        snapshot
    }

    /// Files that are in the base: three of five, and the empty one.
    const SAME: [&str; 2] = ["model-2.safetensors", "text/vocabulary.txt"];

    #[test]
    fn only_blobs_are_linked() {
        let place = Place::with(1);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        // Of a folder, nothing is.
        let base = place.path("base");
        let copied = place.get(0).unwrap();
        for name in SAME {
            assert_ne!(inode(&copied.path().join(name)), inode(&base.join(name)));
            overwrite(&copied.path().join(name), b"edited");
        }
        assert!(Model::open(&base).is_ok() && place.get(0).unwrap().restored().is_some());
        drop(copied);
        place.cache().clear().unwrap();

        let snapshot = in_hub(&place);
        let before = tree(&snapshot);
        let base = Model::open(&snapshot).unwrap();
        let linked = place.cache().get_or_reconstruct(&base, &place.delta(0)).unwrap();
        place.assert_right(0, linked.path());
        let entry = &place.cache().list().unwrap()[0];
        let shared: u64 =
            SAME.iter().map(|name| fs::metadata(snapshot.join(name)).unwrap().len()).sum();
        assert_eq!(entry.bytes - entry.own_bytes, shared);
        for name in SAME {
            let path = linked.path().join(name);
            assert!(fs::symlink_metadata(&path).unwrap().is_file(), "no symbolic link");
            let blob = fs::metadata(snapshot.join(name)).unwrap();
            // Or a clone, where the file system has those.
            assert_eq!(inode(&path) == blob.ino(), blob.nlink() == 2);
            assert_ne!(blob.mode() & 0o200, 0, "its permissions are not ours");
        }
        assert_eq!(place.cache().verify().unwrap().damaged, []);
        drop(linked);
        assert_eq!(place.cache().clear().unwrap().removed, 1);
        assert!(tree(&snapshot) == before);
    }
}
