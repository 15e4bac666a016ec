//! The table of faults and outcomes.

use super::outcome::{Tally, Verdict};
use super::row::Row;
use crate::measure::Machine;
use std::fmt::Write as _;
use std::process::Command;

/// Marker before the table in a document.
const BEGIN: &str = "<!-- faults: begin -->";
const END: &str = "<!-- faults: end -->";

/// Result of a row.
pub(super) type Result = std::result::Result<Tally, String>;

/// The table in Markdown, with machine, date, commit and command.
pub(super) fn markdown(
    machine: &Machine,
    command: &str,
    results: &[(Row, Result)],
    seconds: u64,
) -> String {
    let mut out = format!(
        "Commit {}, {machine}, {seconds} s:\n`{command}`\n\n\
         | fault | where it is injected | trials | restored | refused | wrong | lost | hung | \
         panic | signal | leftover |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        commit()
    );
    let mut sum = Tally::default();
    for (row, result) in results {
        // Writing to a string does not fail.
        let _ = match result {
            Ok(tally) => {
                sum.merge(tally.clone());
                writeln!(out, "| {} | {} | {} |", row.fault, row.place, cells(tally))
            }
            Err(reason) => {
                writeln!(out, "| {} | not run: {reason} | 0 | | | | | | | | |", row.fault)
            }
        };
    }
    let _ = writeln!(out, "| **all** | | {} |", cells(&sum));
    out
}

fn cells(tally: &Tally) -> String {
    let shown = Verdict::ALL.into_iter().filter(|&v| v != Verdict::Missed);
    let counts = shown.map(|v| tally.count(v).to_string());
    std::iter::once(tally.trials().to_string()).chain(counts).collect::<Vec<_>>().join(" | ")
}

/// The commit that is checked out, and whether files differ from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let Some(name) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "*.rs", "*.toml"]);
    if changed.is_none_or(|c| c.is_empty()) { name } else { format!("{name} with changes") }
}

/// `document` with the table between its markers; only the table where there are none.
pub(super) fn embed(document: &str, table: &str) -> String {
    match (document.find(BEGIN), document.find(END)) {
        (Some(from), Some(to)) if from < to => {
            let (head, tail) = (document.get(..from + BEGIN.len()), document.get(to..));
            format!("{}\n{table}{}", head.unwrap_or_default(), tail.unwrap_or_default())
        }
        _ => table.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Outcome;
    use super::*;

    #[test]
    fn tables_go_between_their_markers() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(embed(&document, "new\n"), format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(embed("nothing", "new\n"), "new\n");
    }

    #[test]
    fn rows_show_what_was_counted() {
        let rows = super::super::rows::rows();
        let mut tally = Tally::default();
        tally.add("x", Outcome::refused());
        tally.add("y", Outcome::new(Verdict::Missed, ""));
        let results = [(rows[0], Ok(tally)), (rows[1], Err("no reason".into()))];
        let text = markdown(&Machine::describe(), "command", &results, 1);
        assert!(text.contains("| 1 | 0 | 1 | 0 | 0 | 0 | 0 | 0 | 0 |"), "{text}");
        assert!(text.contains("not run: no reason"), "{text}");
    }
}
