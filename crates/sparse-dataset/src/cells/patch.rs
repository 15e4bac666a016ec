//! Text as a patch of its counterpart in the base: tokens that are deleted, tokens that stay, and
//! text inserted between them.

use super::bytes::{CellCoder, Setting};
use super::diff::{Tokens, common, shared};
use crate::cm::{Coder, mix};
use sparse_core::{Error, Result};

/// Shortest text that is patched, in bytes; shorter ones are coded byte by byte with the
/// counterpart as context.
const PATCH_FROM: usize = 20;

/// Returns the share of the shorter text's tokens that the longer one has in the same order, in
/// 1/256.
pub(crate) fn similarity(a: &[u8], b: &[u8]) -> u32 {
    let (a, b) = (Tokens::new(a), Tokens::new(b));
    (256 * shared(&a.hashes, &b.hashes) / a.len().max(b.len()).max(1)) as u32
}

/// Estimates the time for a model to code `to` given `from`, in bytes that take as long: inserted
/// bytes, and a flag for each token.
pub(crate) fn patch_len(from: &[u8], to: &[u8]) -> usize {
    if from == to {
        return 0;
    }
    let tokens = Tokens::new(from);
    match Some(()).filter(|()| from.len() >= PATCH_FROM).and_then(|()| Script::find(&tokens, to)) {
        Some(script) => script.inserts.iter().map(Vec::len).sum::<usize>() + script.keeps.len() / 8,
        None => to.len(),
    }
}

/// Edit script from a counterpart to a text.
#[derive(Debug, Default)]
struct Script {
    /// Whether each token stays.
    keeps: Vec<bool>,
    /// Text inserted before each token that stays, and before the end.
    inserts: Vec<Vec<u8>>,
}

impl Script {
    /// Returns the script from `from` to `to`, if they share enough.
    fn find(from: &Tokens<'_>, to: &[u8]) -> Option<Script> {
        let to = Tokens::new(to);
        let pairs = common(&from.hashes, &to.hashes);
        let shared: usize = pairs.iter().map(|&(i, _)| from.slice(i, i + 1).len()).sum();
        if shared * 4 < to.text.len() {
            return None;
        }
        let mut keeps = vec![false; from.len()];
        let mut inserts = Vec::with_capacity(pairs.len() + 1);
        let mut at = 0;
        for (i, j) in pairs {
            // Hashes of different tokens may be equal.
            if from.slice(i, i + 1) != to.slice(j, j + 1) {
                return None;
            }
            keeps[i] = true;
            inserts.push(to.slice(at, j).to_vec());
            at = j + 1;
        }
        inserts.push(to.slice(at, to.len()).to_vec());
        Some(Script { keeps, inserts })
    }
}

/// Part of a patch: tokens deleted, bytes inserted, tokens that stay.
#[derive(Clone, Copy, Debug, Default)]
struct Run<'a> {
    gone: usize,
    insert: &'a [u8],
    stays: usize,
}

impl Script {
    fn runs(&self) -> Vec<Run<'_>> {
        let mut out: Vec<Run<'_>> = Vec::new();
        let mut inserts = self.inserts.iter();
        let mut gone = 0;
        for &keep in &self.keeps {
            if !keep {
                gone += 1;
                continue;
            }
            let insert = inserts.next().map_or(&[][..], |i| i);
            match out.last_mut() {
                Some(run) if gone == 0 && insert.is_empty() => run.stays += 1,
                _ => out.push(Run { gone, insert, stays: 1 }),
            }
            gone = 0;
        }
        if let Some(insert) = inserts.next().filter(|i| !i.is_empty()) {
            out.push(Run { gone: 0, insert, stays: 0 });
        }
        out
    }
}

/// Context of the decisions on a token.
struct Trail {
    history: u64,
    before: [u64; 2],
    edits: u64,
}

impl CellCoder {
    /// Codes `value` given its counterpart `s.aligned`, as a patch if that is possible and useful.
    ///
    /// # Errors
    /// When decoding, as [`value`](Self::value).
    pub(crate) fn near<C: Coder>(
        &mut self,
        coder: &mut C,
        s: &Setting<'_>,
        value: &[u8],
    ) -> Result<Vec<u8>> {
        let Some(base) = s.aligned.filter(|b| b.len() >= PATCH_FROM) else {
            return self.value(coder, s, value);
        };
        let tokens = Tokens::new(base);
        let script = if C::DECODES { None } else { Script::find(&tokens, value) };
        if self.model.flag(coder, 43, &[s.column], script.is_some()) {
            if self.model.streams.is_some() {
                return self.plain_patch(coder, s, &tokens, &script.unwrap_or_default());
            }
            self.patch(coder, s, &tokens, &script.unwrap_or_default())
        } else {
            self.value(coder, &Setting { aligned: None, ..*s }, value)
        }
    }

    fn patch<C: Coder>(
        &mut self,
        coder: &mut C,
        s: &Setting<'_>,
        base: &Tokens<'_>,
        script: &Script,
    ) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut trail = Trail { history: 0, before: [0; 2], edits: 0 };
        let mut inserts = script.inserts.iter();
        // First token deleted since the last one that stayed.
        let mut gone = 0;
        for (j, &token) in base.hashes.iter().enumerate() {
            let next = base.hashes.get(j + 1).copied().unwrap_or(0);
            let contexts = trail.contexts(s.column, token, next);
            let keep = script.keeps.get(j).copied().unwrap_or(false);
            let keep = self.model.flag(coder, 44, &contexts, keep);
            if keep {
                let insert = inserts.next().map_or(&[][..], |i| i);
                self.insert(coder, s, &mut trail, base, (gone, j), insert, &mut out)?;
                if C::DECODES {
                    let kept = base.slice(j, j + 1);
                    self.allow(kept.len())?;
                    out.extend_from_slice(kept);
                }
                gone = j + 1;
            } else if trail.history & 1 == 0 {
                trail.edits += 1;
            }
            trail.history = trail.history << 1 | u64::from(!keep);
            trail.before = [token, trail.before[0]];
        }
        let insert = inserts.next().map_or(&[][..], |i| i);
        self.insert(coder, s, &mut trail, base, (gone, base.len()), insert, &mut out)?;
        Ok(out)
    }

    /// Codes a patch as runs: number of tokens deleted, text inserted, number of tokens that stay.
    fn plain_patch<C: Coder>(
        &mut self,
        coder: &mut C,
        s: &Setting<'_>,
        base: &Tokens<'_>,
        script: &Script,
    ) -> Result<Vec<u8>> {
        let runs = if C::DECODES { Vec::new() } else { script.runs() };
        let count = self.model.uint(coder, 45, &[0, 0], runs.len() as u64);
        let mut runs = runs.into_iter();
        let mut out = Vec::new();
        let mut at = 0usize;
        for _ in 0..count {
            let run = runs.next().unwrap_or_default();
            let gone = self.model.uint(coder, 46, &[0, 0], run.gone as u64);
            let stays = self.model.uint(coder, 47, &[0, 0], run.stays as u64);
            let insert = self.plain_bytes::<C>(s.column, run.insert)?;
            if C::DECODES {
                let add =
                    |at: usize, n: u64| usize::try_from(n).ok().and_then(|n| at.checked_add(n));
                let start = add(at, gone).filter(|&e| e <= base.len());
                let end = start.and_then(|s| add(s, stays)).filter(|&e| e <= base.len());
                let (Some(start), Some(end)) = (start, end) else {
                    return Err(Error::corrupt("a patch refers to bytes outside its text"));
                };
                let kept = base.slice(start, end);
                self.allow(kept.len() + 1)?;
                out.extend_from_slice(&insert);
                out.extend_from_slice(kept);
                at = end;
            }
        }
        Ok(out)
    }

    #[allow(clippy::too_many_arguments)]
    fn insert<C: Coder>(
        &mut self,
        coder: &mut C,
        s: &Setting<'_>,
        trail: &mut Trail,
        base: &Tokens<'_>,
        (gone, at): (usize, usize),
        insert: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let went = base.hashes.get(gone..at).unwrap_or_default().iter().fold(0, |h, &t| mix(h, t));
        let token = base.hashes.get(at).copied().unwrap_or(1);
        let deleted = (at - gone).min(3) as u64;
        let column = s.column << 8;
        let contexts = [
            mix(mix(column | deleted, token), trail.before[0]),
            mix(mix(column | deleted, trail.before[0]), trail.before[1]),
            mix(column | deleted, trail.history & 0xff),
            mix(mix(column, went), token),
            mix(column | deleted, token),
            mix(mix(column, went), trail.edits.min(3)),
            column | deleted | trail.edits.min(7) << 3,
            mix(column | 1, trail.before[0]),
        ];
        if !self.model.flag(coder, 45, &contexts, !insert.is_empty()) {
            return Ok(());
        }
        trail.edits += u64::from(deleted == 0);
        let setting = Setting {
            column: s.column | 1 << 20,
            parents: [went, trail.before[0]],
            aligned: (gone < at).then(|| base.slice(gone, at)),
            above: None,
            bulk: s.bulk,
        };
        let text = self.value(coder, &setting, insert)?;
        out.extend_from_slice(&text);
        Ok(())
    }

    /// Counts bytes copied from the base.
    fn allow(&mut self, bytes: usize) -> Result<()> {
        self.allowance = self.allowance.checked_sub(bytes).ok_or_else(|| {
            sparse_core::Error::new(
                sparse_core::ErrorKind::LimitExceeded,
                "a row group decodes to more bytes than it may take",
            )
        })?;
        Ok(())
    }
}

impl Trail {
    fn contexts(&self, column: u64, token: u64, next: u64) -> [u64; 8] {
        let column = column << 8;
        let [b1, b2] = self.before;
        let h = self.history;
        [
            mix(mix(column | h & 1, token), b1),
            mix(mix(column | h & 3, b1), b2),
            column | h & 0xff,
            mix(mix(column, token), next),
            mix(mix(mix(column | h & 1, b2), b1), token),
            mix(mix(column, token), self.edits.min(3)),
            mix(column | h & 1, token),
            mix(mix(mix(column | h & 1, b1), token), next),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cm::{Decoder, Encoder};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(pairs in prop::collection::vec(("[a-c ]{0,60}", "[a-c ]{0,60}"), 1..10),
            bulk: bool) {
            let mut e = Encoder::new();
            let mut c = CellCoder::new(16, Vec::new(), 0);
            for (base, to) in &pairs {
                let s = Setting { aligned: Some(base.as_bytes()), bulk, ..Setting::default() };
                c.near(&mut e, &s, to.as_bytes()).unwrap();
            }
            let (bytes, bulk_bytes) = (e.finish(), std::mem::take(&mut c.bulk));
            let mut d = Decoder::new(&bytes);
            let mut c = CellCoder::new(16, bulk_bytes, 1 << 20);
            for (base, to) in &pairs {
                let s = Setting { aligned: Some(base.as_bytes()), bulk, ..Setting::default() };
                let got = c.near(&mut d, &s, &[]).unwrap();
                prop_assert_eq!(&got[..], to.as_bytes());
            }
        }
    }

    #[test]
    fn rules_of_edits_are_learned() {
        let mut e = Encoder::new();
        let mut c = CellCoder::new(18, Vec::new(), 0);
        for i in 0..2000 {
            let base = format!(
                "Natalia sold {i}/2 = <<{i}/2={}>>{} clips in May, and then some more.",
                i / 2,
                i / 2
            );
            let to = format!("Natalia sold {i}/2 = {} clips in May, and then some more.", i / 2);
            let s = Setting { aligned: Some(base.as_bytes()), ..Setting::default() };
            c.near(&mut e, &s, to.as_bytes()).unwrap();
        }
        let bytes = e.finish();
        assert!(bytes.len() < 300, "{}", bytes.len());
    }
}
