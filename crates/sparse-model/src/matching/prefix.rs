//! Names that differ by a prefix.

use super::counterpart::{Counterpart, RenameEvidence};
use super::state::{Fit, Matching, fit};
use sparse_core::{CancelToken, Result, TensorEntry};
use std::collections::{BTreeMap, HashMap};

/// Rule "replace the first by the second": prefix of the target, prefix of the base.
type Rule<'a> = (&'a str, &'a str);

/// Returns the endings of a name in whole components, the longest first.
///
/// That is the name itself. Components end at a dot, or, in names qualified by a file, at a slash
/// or colon.
fn endings(name: &str) -> impl Iterator<Item = &str> {
    let starts =
        name.char_indices().filter(|(_, c)| matches!(c, '.' | '/' | ':')).map(|(i, _)| i + 1);
    std::iter::once(0).chain(starts).filter_map(|start| name.get(start..)).filter(|e| !e.is_empty())
}

/// Finds rules and applies them, the best supported first.
pub(super) fn match_by_prefix(matching: &mut Matching<'_>, cancel: &CancelToken) -> Result<()> {
    let (base, target) = (matching.base.tensors(), matching.target.tensors());
    for (target_prefix, base_prefix) in rules(matching, base, target, cancel)? {
        for t in matching.unmatched() {
            cancel.check()?;
            let Some(entry) = target.get(t) else { continue };
            let Some(rest) = entry.name.strip_prefix(target_prefix) else { continue };
            let found = matching.base.find(&format!("{base_prefix}{rest}"));
            let Some((b, other)) = found.and_then(|b| Some((b, base.get(b)?))) else { continue };
            match fit(&other.spec, &entry.spec) {
                Some(Fit::Whole) => matching
                    .set(t, Counterpart::Renamed { base: b, evidence: RenameEvidence::Prefix }),
                Some(Fit::Rows(rows)) => matching.set(t, Counterpart::Rows { base: b, rows }),
                None => {}
            }
        }
    }
    Ok(())
}

/// Returns the rules that hold, by falling number of votes.
fn rules<'a>(
    matching: &Matching<'_>,
    base: &'a [TensorEntry],
    target: &'a [TensorEntry],
    cancel: &CancelToken,
) -> Result<Vec<Rule<'a>>> {
    if matching.renamed.is_empty() {
        return Ok(Vec::new());
    }
    // Each ending and the base tensor that has it; `None` where several do.
    let mut owners: HashMap<&str, Option<&TensorEntry>> = HashMap::new();
    for entry in base {
        for ending in endings(&entry.name) {
            // A name may be millions of components long.
            cancel.check()?;
            owners.entry(ending).and_modify(|o| *o = None).or_insert(Some(entry));
        }
    }
    // Votes of all that the names did not settle: what the content did is good evidence too.
    let mut votes: BTreeMap<Rule<'a>, usize> = BTreeMap::new();
    for entry in matching.renamed.iter().filter_map(|&t| target.get(t)) {
        cancel.check()?;
        let longest = endings(&entry.name).find_map(|e| Some((e, *owners.get(e)?)));
        if let Some((ending, Some(owner))) = longest
            && owner.name != entry.name
            && fit(&owner.spec, &entry.spec).is_some()
            && let (Some(t), Some(b)) =
                (entry.name.strip_suffix(ending), owner.name.strip_suffix(ending))
        {
            *votes.entry((t, b)).or_default() += 1;
        }
    }
    let holds = |&((target_prefix, base_prefix), votes): &(Rule<'a>, usize)| {
        let targets = matching.renamed.iter().filter_map(|&t| target.get(t));
        let targets = targets.filter(|e| e.name.starts_with(target_prefix)).count();
        if cancel.is_cancelled() {
            return false;
        }
        // Those that only the content step used were renamed as well.
        let unused = base.iter().filter(|e| matching.target.find(&e.name).is_none());
        let bases = unused.filter(|e| e.name.starts_with(base_prefix)).count();
        votes >= 2 && votes * 2 >= targets.min(bases)
    };
    let mut rules: Vec<(Rule<'a>, usize)> = votes.into_iter().filter(|r| r.1 >= 2).collect();
    // Stable, after the order of the map: the result does not depend on anything else.
    rules.sort_by_key(|r| std::cmp::Reverse(r.1));
    // Rules beyond these explain next to nothing, and each costs a pass over the names.
    rules.truncate(64);
    let rules = rules.into_iter().filter(holds).map(|(rule, _)| rule).collect();
    cancel.check()?;
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::endings;

    #[test]
    fn endings_are_whole_components() {
        let of = |name| endings(name).collect::<Vec<_>>();
        assert_eq!(of("a.bc.d"), ["a.bc.d", "bc.d", "d"]);
        assert_eq!(of("x/m.st:a"), ["x/m.st:a", "m.st:a", "st:a", "a"]);
        assert_eq!(of("a."), ["a."]);
        assert_eq!(of(""), [""; 0]);
    }
}
