//! `sparse info`.

use crate::args;
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use serde::Serialize;
use sparse::{EntrySummary, Summary};
#[cfg(feature = "dataset")]
use sparse_open::AnyDelta;
use sparse_open::shown;
use std::fmt::Write;

#[derive(Serialize)]
struct Body<'a> {
    delta: String,
    is_adapter: bool,
    ratio: Option<f64>,
    #[serde(flatten)]
    summary: &'a Summary,
}

pub(crate) fn info(session: &Session, args: &args::Info) -> Result<(), Failure> {
    #[cfg(not(feature = "dataset"))]
    let delta = session.opener().delta(&args.delta)?;
    #[cfg(feature = "dataset")]
    let delta = match session.opener().any_delta(&args.delta)? {
        AnyDelta::Model(delta) => delta,
        AnyDelta::Dataset(delta) => return super::info_dataset::info(session, args, &delta),
    };
    let all = sparse::inspect(&delta);
    let mut part = all.clone();
    let wanted = |e: &EntrySummary| {
        args.tensors.as_deref().is_none_or(|pattern| human::matches(pattern, &e.name))
    };
    part.tensors.retain(wanted);
    let body = Body {
        delta: shown(&args.delta),
        is_adapter: all.adapter.is_some(),
        ratio: human::ratio(all.target_bytes, all.delta_bytes),
        summary: &part,
    };
    session.answer(&body, || text(&body, &all, args))
}

fn text(body: &Body<'_>, summary: &Summary, args: &args::Info) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{}: {} for {} ({}), format {}, written by {}",
        human::plain(&body.delta),
        human::bytes(summary.delta_bytes),
        human::bytes(summary.target_bytes),
        human::ratio_text(body.ratio),
        human::plain(&summary.version),
        human::plain(&summary.tool),
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
    let base = match (summary.needs_base, summary.base_id.as_str()) {
        (true, id) => human::named(id),
        (false, "") => "none needed".to_owned(),
        (false, id) if summary.adapter.is_some() => {
            format!("none needed; the adapter is for {}", human::named(id))
        }
        (false, id) => format!("none needed; nothing of {} was used", human::named(id)),
    };
    let _ = writeln!(out, "base: {base}\nfine-tuned: {}\n", human::named(&summary.target_id));
    out.push_str(&tensor_table(&body.summary.tensors));
    let _ = writeln!(out, "\n{}", totals(body, summary, args.tensors.is_some()));
    if args.files {
        let rows: Vec<_> = summary
            .files
            .iter()
            .map(|f| [human::plain(&f.path).into_owned(), human::bytes(f.bytes)])
            .collect();
        let _ = write!(out, "\n{}", human::table([("file", Left), ("size", Right)], &rows));
        for folder in &summary.folders {
            let _ = writeln!(out, "{}/", human::plain(folder));
        }
    }
    out
}

fn tensor_table(tensors: &[EntrySummary]) -> String {
    let rows: Vec<_> = tensors
        .iter()
        .map(|t| {
            let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
            [
                human::plain(&t.name).into_owned(),
                t.dtype.name().to_owned(),
                format!("[{}]", shape.join(", ")),
                human::plain(&t.codec).into_owned(),
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

/// Sums up the bytes of tensors, other contents and the index.
fn totals(body: &Body<'_>, summary: &Summary, filtered: bool) -> String {
    let sum = |entries: &[EntrySummary]| {
        entries.iter().fold((0, 0u64, 0u64), |(n, bytes, stored), e| {
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
        out = format!("shown: {}\n", line(sum(&body.summary.tensors), "tensor"));
    }
    out.push_str(&format!(
        "{}\n{} in {}\nindex and frame: {}",
        line(sum(&summary.tensors), "tensor"),
        line(sum(&summary.others), "other piece"),
        human::count(summary.files.len() as u64, "file"),
        human::bytes(summary.index_bytes),
    ));
    out
}
