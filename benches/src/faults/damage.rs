//! Rows: deltas that were damaged, cut, glued together, or made to lie.

use super::dice::{Dice, thin};
use super::kinds::Kind;
use super::library::{Library, Right};
use super::outcome::{Outcome, Verdict};
use super::row::{Plan, Row, number, word};
use sparse_core::{Error, Result};
use std::fs;

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    let place = "delta in memory (models) or file (datasets); `verify`, then `reconstruct`, by \
        the libraries";
    let row = |name, fault, plan, run| Row { name, fault, place, plan, run };
    vec![
        row(
            "flip-every-bit",
            "every bit of 8 small deltas, flipped",
            |lab| {
                let mut all = Vec::new();
                for kind in lab.kinds().iter().filter(|k| k.small) {
                    let most = lab.most(usize::MAX, 220);
                    all.extend(thin(bits(kind)?, most));
                }
                Ok(Plan::Trials(all))
            },
            changed,
        ),
        row(
            "flip-sampled",
            "random bits of large deltas, flipped",
            |lab| sampled(lab, lab.most(1500, 6), "flip-any"),
            changed,
        ),
        row(
            "truncate",
            "deltas cut at every length (small) or at random ones (large)",
            |lab| {
                let mut all = Vec::new();
                for kind in lab.kinds() {
                    let most =
                        if kind.small { lab.most(usize::MAX, 60) } else { lab.most(300, 10) };
                    let lengths = (0..len(&kind)?).map(|n| format!("{} cut {n}", kind.name));
                    all.extend(thin(lengths.collect(), most));
                }
                Ok(Plan::Trials(all))
            },
            changed,
        ),
        row(
            "splice",
            "head of one delta and tail of another; parts swapped, repeated or left out",
            |lab| {
                let mut all = sampled_list(lab, lab.most(400, 2), "swap");
                all.extend(sampled_list(lab, lab.most(200, 1), "repeat"));
                all.extend(sampled_list(lab, lab.most(200, 1), "omit"));
                for kind in lab.kinds().iter().filter(|k| k.small) {
                    for other in lab.kinds().iter().filter(|k| k.small && k.name != kind.name) {
                        let n = lab.most(40, 2);
                        all.extend(
                            (0..n).map(|i| format!("{} splice {i} {}", kind.name, other.name)),
                        );
                    }
                }
                Ok(Plan::Trials(all))
            },
            changed,
        ),
        row(
            "overwrite",
            "a part of the delta overwritten with zeros or noise",
            |lab| {
                let mut all = sampled_list(lab, lab.most(300, 2), "noise");
                all.extend(sampled_list(lab, lab.most(300, 1), "zeros"));
                Ok(Plan::Trials(all))
            },
            changed,
        ),
        row(
            "trailing",
            "bytes after the end: zeros, noise, the delta again",
            |lab| {
                let mut all = sampled_list(lab, lab.most(40, 1), "after-noise");
                all.extend(sampled_list(lab, lab.most(40, 1), "after-zeros"));
                all.extend(sampled_list(lab, 1, "after-itself"));
                Ok(Plan::Trials(all))
            },
            changed,
        ),
    ]
}

fn len(kind: &Kind) -> Result<u64> {
    let path = kind.delta();
    fs::metadata(&path).map(|m| m.len()).map_err(|e| Error::io("cannot examine a delta", e))
}

fn bits(kind: &Kind) -> Result<Vec<String>> {
    let bytes = 0..len(kind)?;
    Ok(bytes
        .flat_map(|at| (0..8).map(move |bit| format!("{} flip {at} {bit}", kind.name)))
        .collect())
}

fn sampled_list(lab: &super::lab::Lab, n: usize, what: &str) -> Vec<String> {
    let kinds = lab.kinds();
    (0..n).flat_map(|i| kinds.iter().map(move |k| format!("{} {what} {i}", k.name))).collect()
}

fn sampled(lab: &super::lab::Lab, n: usize, what: &str) -> Result<Plan> {
    let kinds = lab.kinds();
    let large = kinds.iter().filter(|k| !k.small);
    Ok(Plan::Trials(
        large.flat_map(|k| (0..n).map(move |i| format!("{} {what} {i}", k.name))).collect(),
    ))
}

fn changed(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let kind = lab.kind(word(trial, 0))?;
    let mut dice = Dice::new(lab.seed, trial);
    let original = library.bytes(&kind.delta())?.to_vec();
    let (n, mut bytes) = (original.len(), original.clone());
    let at = number(trial, 2) as usize;
    match word(trial, 1) {
        "flip" => flip(&mut bytes, at, number(trial, 3) as u32),
        "flip-any" => flip(&mut bytes, dice.below(n), dice.below(8) as u32),
        "cut" => bytes.truncate(at),
        "swap" => swap(&mut bytes, &mut dice),
        "repeat" => {
            let (from, len) = (dice.below(n), 1 + dice.below(n / 4));
            let part = original.get(from..(from + len).min(n)).unwrap_or_default().to_vec();
            let to = dice.below(n);
            bytes.splice(to..to, part);
        }
        "omit" => {
            let (from, len) = (dice.below(n), 1 + dice.below(n / 4));
            bytes.drain(from..(from + len).min(n));
        }
        "splice" => {
            let other = lab.kind(word(trial, 3))?;
            let tail = library.bytes(&other.delta())?;
            let from = dice.below(tail.len());
            bytes.truncate(dice.below(n));
            bytes.extend(tail.get(from..).unwrap_or_default());
        }
        what @ ("noise" | "zeros") => {
            let (from, len) = (dice.below(n), 1 + dice.below(n / 8 + 64));
            let end = (from + len).min(n);
            let fill = if what == "noise" { dice.bytes(end - from) } else { vec![0; end - from] };
            bytes.splice(from..end, fill);
        }
        "after-zeros" => bytes.resize(n + 1 + dice.below(5000), 0),
        "after-noise" => {
            let len = 1 + dice.below(5000);
            bytes.extend(dice.bytes(len));
        }
        "after-itself" => bytes.extend(&original),
        what => return Err(Error::invalid_argument(format!("no damage is called {what}"))),
    }
    if bytes == original {
        return Ok(Outcome::new(Verdict::Missed, ""));
    }
    library.judge(&kind, bytes, None, Right::SameOrRefused)
}

fn flip(bytes: &mut [u8], at: usize, bit: u32) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

/// Swaps two parts of one length.
fn swap(bytes: &mut [u8], dice: &mut Dice) {
    let n = bytes.len();
    let len = 1 + dice.below(n / 3);
    let first = dice.below(n - 2 * len + 1);
    let second = first + len + dice.below(n - first - 2 * len + 1);
    let (a, b) = bytes.split_at_mut(second);
    if let (Some(a), Some(b)) = (a.get_mut(first..first + len), b.get_mut(..len)) {
        a.swap_with_slice(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapping_keeps_all_bytes() {
        for seed in 0..200 {
            let mut bytes: Vec<u8> = (0..50).collect();
            swap(&mut bytes, &mut Dice::new(seed, "swap"));
            assert_ne!(bytes, (0..50).collect::<Vec<u8>>());
            bytes.sort_unstable();
            assert_eq!(bytes, (0..50).collect::<Vec<u8>>());
        }
    }
}
