//! The file of the base that is most like another one.

use crate::io::{Packing, open_text};
use sparse_core::{Error, Result};
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a file that are looked at, from its beginning.
const PART: u64 = 8 << 20;

/// Bytes of a word that is hashed.
const WORD: usize = 32;

/// Hashes that stand for a file.
const HASHES: usize = 256;

/// Hashes that two files must share.
const SHARED: usize = 4;

/// The smallest hashes of the words of 32 bytes at places that the content chooses.
#[derive(Clone, Debug, Default)]
struct Sketch(HashSet<u64>);

impl Sketch {
    /// Looks at a file, or at the text in a compressed one.
    fn of(path: &Path) -> Result<Sketch> {
        let packing = Packing::of_name(&path.to_string_lossy()).1;
        let mut bytes = Vec::new();
        let read = |packing, bytes: &mut Vec<u8>| {
            let input = open_text(path, packing)?;
            let read = input.take(PART).read_to_end(bytes);
            read.map_err(|e| Error::io("cannot read", e).in_file(path.display().to_string()))
        };
        if read(packing, &mut bytes).is_err() {
            bytes.clear();
            read(Packing::None, &mut bytes)?;
        }
        let mut hashes = Vec::new();
        let mut rolling = 0u64;
        for (i, &b) in bytes.iter().enumerate() {
            // The influence of a byte ends after 64 of them.
            rolling = (rolling << 1).wrapping_add(mixed(b.into()));
            let end = i + 1;
            if end >= WORD && rolling >> 60 == 0 {
                let word = bytes.get(end - WORD..end).unwrap_or_default();
                hashes.push(xxhash_rust::xxh3::xxh3_64(word));
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(HASHES);
        Ok(Sketch(hashes.into_iter().collect()))
    }

    fn shared(&self, other: &Sketch) -> usize {
        self.0.intersection(&other.0).count()
    }
}

/// Spreads the bits of a number.
fn mixed(n: u64) -> u64 {
    let n = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The files of a base, each with a sketch once one is asked for.
#[derive(Debug)]
pub(super) struct Similar {
    files: Vec<(PathBuf, String)>,
    sketches: Option<Vec<Sketch>>,
}

impl Similar {
    /// Takes files, each with its path in the base.
    pub(super) fn new(files: Vec<(PathBuf, String)>) -> Similar {
        Similar { files, sketches: None }
    }

    /// Returns the file that shares most with `path`, if any shares much.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn to(&mut self, path: &Path) -> Result<Option<(PathBuf, String)>> {
        if self.sketches.is_none() {
            let sketches = self.files.iter().map(|(path, _)| Sketch::of(path));
            self.sketches = Some(sketches.collect::<Result<_>>()?);
        }
        let own = Sketch::of(path)?;
        let sketches = self.sketches.iter().flatten();
        let best = self.files.iter().zip(sketches).max_by_key(|(_, s)| own.shared(s));
        let shared = best.filter(|(_, s)| own.shared(s) >= SHARED);
        Ok(shared.map(|(file, _)| file.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_with_most_in_common_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let text = |seed: u64, rows: std::ops::Range<u64>| -> String {
            rows.map(|i| format!("{} says {}\n", i * seed, mixed(i * seed))).collect()
        };
        let put = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            (path, name.to_owned())
        };
        let files = vec![
            put("a", text(3, 0..900)),
            put("b", text(5, 0..900)),
            put("c", String::new()),
            put("d", "short".into()),
        ];
        let mut similar = Similar::new(files);
        let (like_b, _) = put("x", text(7, 0..300) + &text(5, 100..500));
        assert_eq!(similar.to(&like_b).unwrap().unwrap().1, "b");
        let (other, _) = put("y", text(11, 0..300));
        assert_eq!(similar.to(&other).unwrap(), None);
    }
}
