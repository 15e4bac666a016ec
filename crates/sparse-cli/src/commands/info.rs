//! `sparse info`.

use super::{lossy, open_delta};
use crate::args;
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use serde::Serialize;
use sparse::{EntrySummary, Summary};
use std::fmt::Write;

#[derive(Serialize)]
struct Body<'a> {
    delta: String,
    format_version: &'a str,
    tool: &'a str,
    id: Option<String>,
    parent: Option<String>,
    base_id: &'a str,
    target_id: &'a str,
    needs_base: bool,
    single_file: bool,
    is_adapter: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<super::quality::Numbers>,
    delta_bytes: u64,
    target_bytes: u64,
    ratio: Option<f64>,
    index_bytes: u64,
    tensors: Vec<Entry<'a>>,
    others: Vec<Entry<'a>>,
    files: Vec<File<'a>>,
    empty_folders: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    dtype: &'a str,
    shape: &'a [u64],
    codec: &'a str,
    bytes: u64,
    stored_bytes: u64,
    ratio: Option<f64>,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    bytes: u64,
}

impl<'a> From<&'a EntrySummary> for Entry<'a> {
    fn from(e: &'a EntrySummary) -> Self {
        Entry {
            name: &e.name,
            dtype: e.dtype.name(),
            shape: &e.shape,
            codec: &e.codec,
            bytes: e.bytes,
            stored_bytes: e.stored_bytes,
            ratio: e.ratio,
        }
    }
}

pub(crate) fn info(session: &Session, args: &args::Info) -> Result<(), Failure> {
    let summary = sparse::inspect(&open_delta(session, &args.delta)?);
    let wanted = |e: &&EntrySummary| {
        e.is_tensor
            && args.tensors.as_deref().is_none_or(|pattern| human::matches(pattern, &e.name))
    };
    let tensors: Vec<Entry<'_>> = summary.entries.iter().filter(wanted).map(Entry::from).collect();
    let body = Body {
        delta: lossy(&args.delta),
        format_version: &summary.version,
        tool: &summary.tool,
        id: summary.id.map(|id| id.to_string()),
        parent: summary.parent.map(|id| id.to_string()),
        base_id: &summary.base_id,
        target_id: &summary.target_id,
        needs_base: summary.needs_base,
        single_file: summary.is_single_file,
        is_adapter: summary.adapter.is_some(),
        sha256: summary.content.map(|c| c.to_string()),
        certificate: summary.certificate.as_ref().map(Into::into),
        delta_bytes: summary.delta_bytes,
        target_bytes: summary.target_bytes,
        ratio: human::ratio(summary.target_bytes, summary.delta_bytes),
        index_bytes: summary.index_bytes,
        tensors,
        others: summary.entries.iter().filter(|e| !e.is_tensor).map(Entry::from).collect(),
        files: summary.files.iter().map(|(path, bytes)| File { path, bytes: *bytes }).collect(),
        empty_folders: &summary.folders,
    };
    session.answer(&body, || text(&body, &summary, args))
}

fn text(body: &Body<'_>, summary: &Summary, args: &args::Info) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{}: {} for {} ({}), format {}, written by {}",
        human::plain(&body.delta),
        human::bytes(body.delta_bytes),
        human::bytes(body.target_bytes),
        human::ratio_text(body.ratio),
        human::plain(body.format_version),
        human::plain(body.tool),
    );
    if let Some(a) = summary.adapter {
        let _ = writeln!(
            out,
            "a LoRA adapter of {}, rank {} to {}",
            human::count(a.modules, "module"),
            a.ranks.0,
            a.ranks.1
        );
    }
    if let Some(c) = &summary.certificate {
        let _ = writeln!(out, "certified: {}", super::quality::sentence(c));
    }
    if let Some(content) = &summary.content {
        let _ = writeln!(out, "SHA-256 of what is restored, as recorded: {content}");
    }
    let base = if body.needs_base { named(body.base_id) } else { "none needed".to_owned() };
    let _ = writeln!(out, "base: {base}\nfine-tuned: {}\n", named(body.target_id));
    out.push_str(&tensor_table(&body.tensors));
    let _ = writeln!(out, "\n{}", totals(body, summary, args.tensors.is_some()));
    if args.files {
        let rows: Vec<_> = body
            .files
            .iter()
            .map(|f| [human::plain(f.path).into_owned(), human::bytes(f.bytes)])
            .collect();
        let _ = write!(out, "\n{}", human::table([("file", Left), ("size", Right)], &rows));
        for folder in body.empty_folders {
            let _ = writeln!(out, "{}/", human::plain(folder));
        }
    }
    out
}

fn named(id: &str) -> String {
    if id.is_empty() { "not named".to_owned() } else { human::plain(id).into_owned() }
}

fn tensor_table(tensors: &[Entry<'_>]) -> String {
    let rows: Vec<_> = tensors
        .iter()
        .map(|t| {
            let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
            [
                human::plain(t.name).into_owned(),
                t.dtype.to_owned(),
                format!("[{}]", shape.join(", ")),
                human::plain(t.codec).into_owned(),
                human::bytes(t.bytes),
                human::bytes(t.stored_bytes),
                human::ratio_text(t.ratio),
            ]
        })
        .collect();
    let head = [
        ("tensor", Left),
        ("dtype", Left),
        ("shape", Left),
        ("codec", Left),
        ("size", Right),
        ("stored", Right),
        ("ratio", Right),
    ];
    human::table(head, &rows)
}

/// Where the bytes are.
fn totals(body: &Body<'_>, summary: &Summary, filtered: bool) -> String {
    let sum = |tensor: bool| {
        let of = summary.entries.iter().filter(|e| e.is_tensor == tensor);
        of.fold((0, 0u64, 0u64), |(n, bytes, stored), e| {
            (n + 1, bytes.saturating_add(e.bytes), stored.saturating_add(e.stored_bytes))
        })
    };
    let line = |(n, bytes, stored): (u64, u64, u64), noun: &str| {
        let ratio = human::ratio_text(human::ratio(bytes, stored));
        format!(
            "{}: {} in {} ({ratio})",
            human::count(n, noun),
            human::bytes(bytes),
            human::bytes(stored)
        )
    };
    let mut out = String::new();
    if filtered {
        let shown = body.tensors.iter().fold((0, 0u64, 0u64), |(n, bytes, stored), t| {
            (n + 1, bytes.saturating_add(t.bytes), stored.saturating_add(t.stored_bytes))
        });
        out = format!("shown: {}\n", line(shown, "tensor"));
    }
    out.push_str(&format!(
        "{}\n{} in {}\nindex and frame: {}",
        line(sum(true), "tensor"),
        line(sum(false), "other piece"),
        human::count(summary.files.len() as u64, "file"),
        human::bytes(body.index_bytes),
    ));
    out
}
