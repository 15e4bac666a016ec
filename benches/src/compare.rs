//! The `pairs` command: every coder on every pair.

use crate::measure::{mb_per_s, median};
use crate::pair::{Pair, show};
use crate::peers::Peer;
use sparse_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pair to measure: its name, base and fine-tune.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairPath {
    /// Name in the report.
    pub name: String,
    /// The base's path.
    pub base: PathBuf,
    /// The fine-tune's path.
    pub target: PathBuf,
}

/// The pairs below `folder`: each sub-folder that has `base` and `finetuned`, sorted by name.
///
/// # Errors
/// `Io` or `NotFound` when the folder cannot be listed.
pub fn find_pairs(folder: &Path) -> Result<Vec<PairPath>> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| Error::io("cannot list", e).in_file(show(folder)))?;
    let mut pairs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("cannot list", e).in_file(show(folder)))?;
        let (base, target) = (entry.path().join("base"), entry.path().join("finetuned"));
        if base.exists() && target.exists() {
            pairs.push(PairPath {
                name: entry.file_name().to_string_lossy().into_owned(),
                base,
                target,
            });
        }
    }
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pairs)
}

/// The pairs of a command line: the given ones, then those of the folder of `--all`.
///
/// # Errors
/// As [`listed_pairs`] and [`find_pairs`]; `InvalidArgument` when there are none.
pub fn chosen_pairs(paths: &[String], all: Option<&str>) -> Result<Vec<PairPath>> {
    let mut pairs = listed_pairs(paths)?;
    if let Some(folder) = all {
        pairs.extend(find_pairs(Path::new(folder))?);
    }
    if pairs.is_empty() {
        return Err(Error::invalid_argument("no pairs"));
    }
    Ok(pairs)
}

/// The pairs given as alternating paths, named after the folder that a fine-tune lies in.
///
/// # Errors
/// `InvalidArgument` when their number is odd.
pub fn listed_pairs(paths: &[String]) -> Result<Vec<PairPath>> {
    let (pairs, rest) = paths.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::invalid_argument("paths come in pairs: base, fine-tune"));
    }
    let pair = |[base, target]: &[String; 2]| {
        let target_path = Path::new(target);
        let parent = target_path.parent().and_then(Path::file_name).or(target_path.file_name());
        PairPath {
            name: parent.map_or_else(|| target.clone(), |n| n.to_string_lossy().into_owned()),
            base: base.into(),
            target: target.into(),
        }
    };
    Ok(pairs.iter().map(pair).collect())
}

/// One coder on one pair.
#[derive(Clone, Debug)]
pub struct Row {
    /// The coder's name.
    pub coder: String,
    /// What it reached, or why it did not.
    pub outcome: Result<Figures, String>,
}

/// What a coder reached on a pair. It was verified, or there would be no figures.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Compressed bytes.
    pub bytes: u64,
    /// Raw bytes divided by compressed bytes.
    pub ratio: f64,
    /// Encoding speed, MB (10^6 raw bytes of the fine-tune) per second, by the median time.
    pub encode: f64,
    /// Decoding speed, likewise.
    pub decode: f64,
    /// The floor in bytes, for coders that know theirs: see [`Peer::floor`].
    pub floor: Option<u64>,
}

/// All coders on one pair.
#[derive(Clone, Debug)]
pub struct Report {
    /// The pair's name.
    pub pair: String,
    /// Raw bytes of the fine-tune, headers included.
    pub raw: u64,
    /// One row per coder.
    pub rows: Vec<Row>,
}

/// Measure `peer` on `pair`: `runs` times each way.
///
/// Restored bytes are compared with the original after every run, outside the measured time.
///
/// # Errors
/// What the peer reports, and `Corrupt` when a restored byte differs.
pub fn measure(peer: &mut dyn Peer, pair: &Pair, runs: usize) -> Result<Figures> {
    let raw = pair.target.byte_len();
    let mut out: Vec<Vec<u8>> =
        pair.target.files().iter().map(|f| vec![0; f.bytes.len()]).collect();
    let (mut encode, mut decode) = (Vec::<Duration>::new(), Vec::new());
    let mut bytes = 0;
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        let compressed = Arc::new(peer.compress(pair)?);
        encode.push(start.elapsed());
        bytes = compressed.byte_len();
        // Nothing of an earlier run may pass for restored data.
        out.iter_mut().for_each(|o| o.fill(0xA5));
        let start = Instant::now();
        peer.restore(&compressed, &pair.base, &mut out)?;
        decode.push(start.elapsed());
        if pair.target.files().iter().zip(&out).any(|(file, out)| file.bytes != *out) {
            return Err(Error::corrupt("restored bytes differ from the original"));
        }
    }
    Ok(Figures {
        bytes,
        ratio: raw as f64 / (bytes as f64).max(1.0),
        encode: mb_per_s(raw, median(encode)),
        decode: mb_per_s(raw, median(decode)),
        floor: peer.floor(),
    })
}

/// Measure every peer whose name contains one of `only` (all, when empty) on a pair.
///
/// # Errors
/// When the pair cannot be read; a peer that fails is a row that says so.
pub fn report(
    peers: &mut [Box<dyn Peer>],
    path: &PairPath,
    only: &[String],
    runs: usize,
) -> Result<Report> {
    let pair = Pair::load(&path.base, &path.target)?;
    let mut rows = Vec::new();
    for peer in peers {
        let coder = peer.name().to_owned();
        if !only.is_empty()
            && !only.iter().any(|o| coder.to_lowercase().contains(&o.to_lowercase()))
        {
            continue;
        }
        let outcome = measure(peer.as_mut(), &pair, runs).map_err(|e| e.to_string());
        rows.push(Row { coder, outcome });
    }
    Ok(Report { pair: path.name.clone(), raw: pair.target.byte_len(), rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::{Model, tests::model};
    use crate::peers::{Compressed, Memcpy};
    use sparse_core::Dtype;

    /// Restores all but the last byte.
    struct Forgetful;

    impl Peer for Forgetful {
        fn name(&self) -> &str {
            "forgetful"
        }
        fn compress(&mut self, pair: &Pair) -> Result<Compressed> {
            Memcpy.compress(pair)
        }
        fn restore(
            &mut self,
            compressed: &Arc<Compressed>,
            base: &Model,
            out: &mut [Vec<u8>],
        ) -> Result<()> {
            Memcpy.restore(compressed, base, out)?;
            out[0].last_mut().map(|b| *b = 0xA5).unwrap();
            Ok(())
        }
    }

    #[test]
    fn wrong_bytes_are_no_figures() {
        let m = model(&[("a", Dtype::U8, &[4], vec![1, 2, 3, 4])]);
        let pair = Pair { base: m.clone(), target: m, paths: None };
        assert!(measure(&mut Forgetful, &pair, 1).is_err());
        assert!((measure(&mut Memcpy, &pair, 2).unwrap().ratio - 1.0).abs() < 1e-9);
    }

    #[test]
    fn pairs_are_named_after_their_folder() {
        let pairs = listed_pairs(&["m/x/base".into(), "m/x/finetuned".into()]).unwrap();
        assert_eq!(pairs[0].name, "x");
        assert!(listed_pairs(&["a".into()]).is_err());
    }
}
