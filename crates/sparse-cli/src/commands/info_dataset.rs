//! `sparse info` of the delta of a dataset.

use crate::args;
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use serde::Serialize;
use sparse_dataset::{ColumnSummary, DatasetDelta, DatasetSummary, RowCounts, SplitSummary};
use sparse_open::shown;
use std::fmt::Write;

/// Bytes of row groups that are fetched from elsewhere to tell where rows come from.
const MOST_FETCHED: u64 = 64 << 10;

#[derive(Serialize)]
struct Body<'a> {
    delta: String,
    dataset: bool,
    ratio: Option<f64>,
    #[serde(flatten)]
    summary: &'a DatasetSummary,
}

pub(super) fn info(
    session: &Session,
    args: &args::Info,
    delta: &DatasetDelta,
) -> Result<(), Failure> {
    let name = shown(&args.delta);
    let most = if args.delta.exists() { u64::MAX } else { MOST_FETCHED };
    let mut summary = delta.summary_within(most).map_err(|e| e.in_file(name.clone()))?;
    let wanted = |c: &ColumnSummary| {
        args.tensors.as_deref().is_none_or(|pattern| human::matches(pattern, &c.name))
    };
    summary.splits.iter_mut().for_each(|split| split.columns.retain(wanted));
    let ratio = human::ratio(summary.cell_bytes, summary.delta_bytes);
    let body = Body { delta: name, dataset: true, ratio, summary: &summary };
    session.answer(&body, || text(&body, args))
}

fn text(body: &Body<'_>, args: &args::Info) -> String {
    let summary = body.summary;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{}: {} for {} of cells ({}), of a dataset; {} come back",
        human::plain(&body.delta),
        human::bytes(summary.delta_bytes),
        human::bytes(summary.cell_bytes),
        human::ratio_text(body.ratio),
        if summary.exact { "the files bit for bit" } else { "the rows" },
    );
    if let Some(content) = &summary.content {
        let _ = writeln!(out, "SHA-256 of what is restored, as recorded: {content}");
    }
    let _ = writeln!(
        out,
        "base: {}, {}\nderivative: {}",
        human::named(&summary.base_id),
        human::count(summary.base_rows, "row"),
        human::named(&summary.target_id),
    );
    for split in &summary.splits {
        let _ = write!(out, "\n{}", split_text(split, args.files));
    }
    if args.files && !summary.files.is_empty() {
        let rows: Vec<_> = summary
            .files
            .iter()
            .map(|(path, bytes, stored)| {
                let path = human::plain(path).into_owned();
                [path, human::bytes(*bytes), human::bytes(*stored)]
            })
            .collect();
        let head = [("kept file", Left), ("size", Right), ("stored", Right)];
        let _ = write!(out, "\n{}", human::table(head, &rows));
    }
    out
}

fn split_text(split: &SplitSummary, files: bool) -> String {
    let counts = split.counts.map_or_else(String::new, |c| format!(" ({})", rows_text(c)));
    let mut out = format!(
        "split {}: {}{counts}, {} in {}, {} for {} of cells\n",
        human::plain(&split.name),
        human::count(split.rows, "row"),
        human::count(split.groups as u64, "row group"),
        human::count(split.files.len() as u64, "file"),
        human::bytes(split.stored_bytes),
        human::bytes(split.cell_bytes),
    );
    let rows: Vec<_> = split
        .columns
        .iter()
        .map(|c| [&c.name, &c.dtype, &c.source].map(|text| human::plain(text).into_owned()))
        .collect();
    out.push_str(&human::table([("column", Left), ("type", Left), ("from", Left)], &rows));
    if files {
        let rows: Vec<_> = split
            .files
            .iter()
            .map(|(path, format, n)| {
                [human::plain(path).into_owned(), format.clone(), human::count(*n, "row")]
            })
            .collect();
        let head = [("file", Left), ("format", Left), ("rows", Right)];
        out.push_str(&format!("\n{}", human::table(head, &rows)));
    }
    out
}

/// Says where rows come from: `70 as in the base, 5 edited, 2 new`.
fn rows_text(rows: RowCounts) -> String {
    format!("{} as in the base, {} edited, {} new", rows.copied, rows.edited, rows.new)
}
