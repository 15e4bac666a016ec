//! Words and their differences.

use crate::cm::mix;
use std::collections::HashMap;

/// Cuts text into words, single white space, and other single bytes. Returns the end of each.
pub(crate) fn tokens(text: &[u8]) -> Vec<usize> {
    let mut ends = Vec::with_capacity(text.len() / 3 + 1);
    let mut at = 0;
    // Bytes above ASCII belong to words.
    let word = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80;
    while let Some(&first) = text.get(at) {
        at += 1;
        if word(first) {
            while text.get(at).is_some_and(|&b| word(b)) {
                at += 1;
            }
        }
        ends.push(at);
    }
    ends
}

/// The tokens of a text by their ends, and a hash of each.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) ends: Vec<usize>,
    pub(crate) hashes: Vec<u64>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Tokens<'a> {
        let ends = tokens(text);
        let mut start = 0;
        let hashes = ends
            .iter()
            .map(|&end| {
                let token = text.get(start..end).unwrap_or_default();
                start = end;
                token.iter().fold(token.len() as u64, |h, &b| mix(h, u64::from(b) + 1))
            })
            .collect();
        Tokens { text, ends, hashes }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the text of tokens `from..to`.
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        let start = |i: usize| if i == 0 { 0 } else { self.ends.get(i - 1).copied().unwrap_or(0) };
        self.text.get(start(from)..start(to)).unwrap_or_default()
    }
}

/// Longest edit script that is searched for.
const MAX_DISTANCE: usize = 400;

/// Finds tokens that two texts share, in order: pairs of (place in `a`, place in `b`), both
/// ascending.
///
/// Uses the shortest edit script after Myers (1986) if it is short. Otherwise it takes tokens that
/// occur once in both as anchors (Cohen's patience difference), and treats the gaps between them
/// likewise.
pub(crate) fn common(a: &[u64], b: &[u64]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    gap(a, b, 0, 0, 0, &mut out);
    out
}

fn gap(a: &[u64], b: &[u64], a0: usize, b0: usize, depth: u32, out: &mut Vec<(usize, usize)>) {
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    out.extend((0..prefix).map(|i| (a0 + i, b0 + i)));
    let (ra, rb) = (&a[prefix..], &b[prefix..]);
    let suffix = ra.iter().rev().zip(rb.iter().rev()).take_while(|(x, y)| x == y).count();
    let (ma, mb) = (&ra[..ra.len() - suffix], &rb[..rb.len() - suffix]);
    let (a1, b1) = (a0 + prefix, b0 + prefix);
    if !ma.is_empty() && !mb.is_empty() {
        match myers(ma, mb) {
            Some(pairs) => out.extend(pairs.into_iter().map(|(x, y)| (a1 + x, b1 + y))),
            None if depth < 16 => {
                let anchors = anchors(ma, mb);
                let (mut x0, mut y0) = (0, 0);
                if !anchors.is_empty() {
                    for (x, y) in anchors {
                        gap(&ma[x0..x], &mb[y0..y], a1 + x0, b1 + y0, depth + 1, out);
                        out.push((a1 + x, b1 + y));
                        (x0, y0) = (x + 1, y + 1);
                    }
                    gap(&ma[x0..], &mb[y0..], a1 + x0, b1 + y0, depth + 1, out);
                }
            }
            None => {}
        }
    }
    out.extend((0..suffix).map(|i| (a1 + ma.len() + i, b1 + mb.len() + i)));
}

/// Returns the number of tokens that [`common`] finds.
pub(crate) fn shared(a: &[u64], b: &[u64]) -> usize {
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (ra, rb) = (&a[prefix..], &b[prefix..]);
    let suffix = ra.iter().rev().zip(rb.iter().rev()).take_while(|(x, y)| x == y).count();
    let (ma, mb) = (&ra[..ra.len() - suffix], &rb[..rb.len() - suffix]);
    if ma.is_empty() || mb.is_empty() {
        return prefix + suffix;
    }
    match distance(ma, mb, |_| {}) {
        Some(d) => prefix + suffix + (ma.len() + mb.len() - d) / 2,
        None => common(a, b).len(),
    }
}

/// Returns the pairs of a shortest edit script.
///
/// `None` if that is longer than [`MAX_DISTANCE`].
fn myers(a: &[u64], b: &[u64]) -> Option<Vec<(usize, usize)>> {
    // Diagonals of each step for tracing back: those of step d, -d..=d, begin at d^2.
    let mut trace: Vec<i32> = Vec::new();
    distance(a, b, |diagonals| trace.extend_from_slice(diagonals))?;
    Some(walk_back(&trace, a.len() as isize, b.len() as isize))
}

/// Returns the length of a shortest edit script, or `None` if that is longer than [`MAX_DISTANCE`].
/// `step` sees the diagonals before each step.
fn distance(a: &[u64], b: &[u64], mut step: impl FnMut(&[i32])) -> Option<usize> {
    if a.len().abs_diff(b.len()) > MAX_DISTANCE || a.len().max(b.len()) > i32::MAX as usize / 2 {
        return None;
    }
    let (n, m) = (a.len() as i32, b.len() as i32);
    let limit = MAX_DISTANCE.min(a.len() + b.len()) as i32;
    let offset = limit + 1;
    let mut v = vec![0i32; 2 * offset as usize + 1];
    let at = |k: i32| (k + offset) as usize;
    for d in 0..=limit {
        step(&v[at(-d)..=at(d)]);
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && v[at(k - 1)] < v[at(k + 1)]);
            let mut x = if down { v[at(k + 1)] } else { v[at(k - 1)] + 1 };
            let mut y = x - k;
            while x < n && y < m && x >= 0 && y >= 0 && a[x as usize] == b[y as usize] {
                x += 1;
                y += 1;
            }
            v[at(k)] = x;
            if x >= n && y >= m {
                return Some(d as usize);
            }
        }
    }
    None
}

fn walk_back(trace: &[i32], n: isize, m: isize) -> Vec<(usize, usize)> {
    let (mut x, mut y) = (n, m);
    let mut pairs = Vec::new();
    for d in (0..trace.len().isqrt() as isize).rev() {
        let get = |k: isize| trace[(d * d + k + d) as usize] as isize;
        let k = x - y;
        if d == 0 {
            while x > 0 && y > 0 {
                x -= 1;
                y -= 1;
                pairs.push((x as usize, y as usize));
            }
            break;
        }
        let down = k == -d || (k != d && get(k - 1) < get(k + 1));
        let from = if down { k + 1 } else { k - 1 };
        let (px, py) = (get(from), get(from) - from);
        let (sx, sy) = if down { (px, py + 1) } else { (px + 1, py) };
        while x > sx && y > sy {
            x -= 1;
            y -= 1;
            pairs.push((x as usize, y as usize));
        }
        (x, y) = (px, py);
    }
    pairs.reverse();
    pairs
}

/// Returns tokens that occur once in both, as the longest sequence that ascends in both.
fn anchors(a: &[u64], b: &[u64]) -> Vec<(usize, usize)> {
    let mut seen: HashMap<u64, [(u32, usize); 2]> = HashMap::new();
    for (side, tokens) in [a, b].into_iter().enumerate() {
        for (i, &t) in tokens.iter().enumerate() {
            let e = &mut seen.entry(t).or_default()[side];
            *e = (e.0 + 1, i);
        }
    }
    let mut pairs: Vec<(usize, usize)> = seen
        .into_values()
        .filter(|e| e[0].0 == 1 && e[1].0 == 1)
        .map(|e| (e[0].1, e[1].1))
        .collect();
    pairs.sort_unstable();
    // Longest increasing subsequence, by piles.
    let mut tops: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; pairs.len()];
    for i in 0..pairs.len() {
        let pile = tops.partition_point(|&t| pairs[t].1 < pairs[i].1);
        before[i] = pile.checked_sub(1).map(|p| tops[p]);
        if pile == tops.len() {
            tops.push(i);
        } else {
            tops[pile] = i;
        }
    }
    let mut out = Vec::with_capacity(tops.len());
    let mut at = tops.last().copied();
    while let Some(i) = at {
        out.push(pairs[i]);
        at = before[i];
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn longest(a: &[u64], b: &[u64]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (j, y) in b.iter().enumerate() {
                let up = row[j + 1];
                row[j + 1] = if x == y { diagonal + 1 } else { up.max(row[j]) };
                diagonal = up;
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn shortest_scripts(a in prop::collection::vec(0u64..6, 0..60),
            b in prop::collection::vec(0u64..6, 0..60)) {
            let pairs = common(&a, &b);
            prop_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
            prop_assert!(pairs.iter().all(|&(x, y)| a[x] == b[y]));
            prop_assert_eq!(pairs.len(), longest(&a, &b));
            prop_assert_eq!(shared(&a, &b), pairs.len());
        }

        #[test]
        fn tokens_tile(text: Vec<u8>) {
            let t = Tokens::new(&text);
            let joined: Vec<u8> = (0..t.len()).flat_map(|i| t.slice(i, i + 1)).copied().collect();
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn long_texts_fall_back_to_anchors() {
        let a: Vec<u64> = (0..5000).collect();
        let b: Vec<u64> = (0..5000).map(|i| if i % 3 == 0 { i + 100_000 } else { i }).collect();
        let pairs = common(&a, &b);
        assert!(pairs.len() > 3300, "{}", pairs.len());
        assert_eq!(shared(&a, &b), pairs.len());
        assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
    }
}
