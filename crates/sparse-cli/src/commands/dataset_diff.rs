//! `sparse dataset-diff`.

use crate::args::DatasetDiff;
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right, plain};
use crate::session::Session;
use serde::Serialize;
use sparse_dataset::{
    ColumnChange, ColumnDifference, Compressor, Dataset, DatasetDelta, DatasetDifference,
    EditedCell, Restorer, SplitDifference,
};
use sparse_open::{Wanted, shown};
use std::path::Path;

/// Characters of a text that are shown around where it was edited, and of a new cell.
const SHOWN: usize = 60;

#[derive(Serialize)]
struct Body<'a> {
    base: String,
    derivative: String,
    #[serde(flatten)]
    found: &'a DatasetDifference,
}

pub(crate) fn diff(session: &Session, args: DatasetDiff) -> Result<(), Failure> {
    let base = session.opener().dataset("base", &args.base)?;
    let derivative = derivative(session, &base, &args)?;
    let job = Compressor::new(&derivative).base(&base).key(args.key);
    let job = job.memory(args.memory.bytes()).temporary(args.memory.folder());
    let job = job.limits(session.limits()).cancel(session.cancel_token());
    let found = job.observer(&*session.progress).difference(args.examples)?;
    let body = Body { base: shown(&args.base), derivative: shown(&args.derivative), found: &found };
    session.answer(&body, || text(&found))
}

/// Opens the derivative; that of a delta is restored to a folder that goes with the session.
fn derivative(session: &Session, base: &Dataset, args: &DatasetDiff) -> Result<Dataset, Failure> {
    let is_delta = |path: &Path| path.is_file() && DatasetDelta::is_one(path, &session.limits());
    let path = &args.derivative;
    let is_named_so = path.extension().is_some_and(|e| e == "sparse");
    let is_elsewhere = is_named_so && !path.exists();
    if !(is_delta(path) || is_elsewhere) {
        return Ok(session.opener().dataset("derivative", path)?);
    }
    let local = session.opener().local("delta", path, Wanted::Delta)?;
    let delta = session.opener().dataset_delta(&local)?;
    let name = Path::new(delta.target_id()).file_name().unwrap_or("derivative".as_ref());
    let restored = session.opener().scratch()?.join(name);
    let job = Restorer::new(&delta).base(base).limits(session.limits());
    let job = job.memory(args.memory.bytes()).temporary(args.memory.folder());
    let job = job.cancel(session.cancel_token()).observer(&*session.progress);
    job.write(&restored)?;
    Ok(Dataset::open(&restored)?)
}

fn text(found: &DatasetDifference) -> String {
    let mut out = String::new();
    for split in &found.splits {
        out.push_str(&split_text(split));
        out.push('\n');
    }
    out.push_str(&format!(
        "of the base's {}, {} are in none of the splits\n",
        human::count(found.base_rows, "row"),
        found.removed
    ));
    if !found.removed_columns.is_empty() {
        let names: Vec<_> = found.removed_columns.iter().map(|name| plain(name)).collect();
        out.push_str(&format!("columns that are gone: {}\n", names.join(", ")));
    }
    out
}

fn split_text(split: &SplitDifference) -> String {
    let rows = split.rows;
    let mut out = format!(
        "split {}: {}: {} as in the base, {} edited, {} new",
        plain(&split.name),
        human::count(rows.total, "row"),
        rows.copied,
        rows.edited,
        rows.new
    );
    if split.repeated > 0 {
        out.push_str(&format!(", {} of them repeated", split.repeated));
    }
    out.push_str(match split.jumps {
        0 => "; in the base's order\n",
        _ => "; in another order\n",
    });
    let columns: Vec<_> = split.columns.iter().map(column).collect();
    let head = [("", Left), ("column", Left), ("type", Left), ("from", Left), ("edits", Right)];
    out.push_str(&human::table(head, &columns));
    for row in &split.edits {
        out.push_str(&format!("\nrow {} (row {} of the base)\n", row.row, row.base_row));
        row.cells.iter().for_each(|cell| out.push_str(&edit(cell)));
    }
    for row in &split.new {
        out.push_str(&format!("\nrow {} (new)\n", row.row));
        for (name, cell) in &row.cells {
            let cell = cell.as_deref().map_or_else(|| "null".to_owned(), |text| part(text, 0));
            out.push_str(&format!("  {}: {cell}\n", plain(name)));
        }
    }
    out
}

fn column(of: &ColumnDifference) -> [String; 5] {
    let sign = match of.change {
        ColumnChange::Kept => "",
        ColumnChange::New => "+",
        _ => "~",
    };
    let from = of.source.as_deref().unwrap_or(match of.change {
        ColumnChange::New => "new",
        _ => "the base",
    });
    let edits = if of.edited == 0 { String::new() } else { of.edited.to_string() };
    let [name, dtype, from] = [&of.name, &of.dtype, from].map(|text| plain(text).into_owned());
    [sign.to_owned(), name, dtype, from, edits]
}

/// Shows a cell before and after, around the first character that differs.
fn edit(cell: &EditedCell) -> String {
    let (before, after) = (cell.before.as_deref(), cell.after.as_deref());
    let same = match (before, after) {
        (Some(a), Some(b)) => a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let side = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), |text| part(text, same));
    format!("  {}:\n  - {}\n  + {}\n", plain(&cell.column), side(before), side(after))
}

/// Shows some characters of a text from a little before `at` on.
fn part(text: &str, at: usize) -> String {
    let skipped = at.saturating_sub(SHOWN / 3);
    let mut rest = text.chars().skip(skipped);
    let shown: String = rest.by_ref().take(SHOWN).collect();
    let (front, back) =
        (if skipped > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
    format!("{front}{}{back}", plain(&shown.replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_shown_where_they_are() {
        let long = "word ".repeat(40);
        assert_eq!(part("abc", 2), "abc");
        assert_eq!(part(&long, 100).chars().next(), Some('…'));
        assert_eq!(part(&long, 100).chars().count(), SHOWN + 2);
        assert_eq!(part(&long, 195).chars().last(), Some(' '));
        assert_eq!(part("a\nb", 0), "a b");
    }
}
