//! `sparse cache`.

use crate::args::{Cache, CacheAction, CachePath, CachePrune, split_inputs};
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right, plain};
use crate::progress::eprint;
use crate::session::Session;
use serde::Serialize;
use sparse::{CacheCheck, CacheCleanup, CacheEntry, CachedModel, DeltaCache, Error, ErrorKind};
use sparse_open::{recorded_model, shown};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(crate) fn cache(session: &Session, args: Cache) -> Result<(), Failure> {
    let cache = DeltaCache::from_env()?
        .limits(session.limits())
        .cancel(session.cancel_token())
        .observer(session.progress.clone());
    match args.action {
        CacheAction::List => list(session, &cache),
        CacheAction::Path(args) => path(session, &cache, args),
        CacheAction::Prune(args) => prune(session, &cache, &args),
        CacheAction::Clear => cleaned(session, &cache, &cache.clear()?),
        CacheAction::Verify => verify(session, &cache),
    }
}

#[derive(Serialize)]
struct List<'a> {
    root: &'a Path,
    limit: Option<u64>,
    bytes: u64,
    own_bytes: u64,
    entries: &'a [CacheEntry],
}

fn list(session: &Session, cache: &DeltaCache) -> Result<(), Failure> {
    let entries = cache.list()?;
    let sum = |of: fn(&CacheEntry) -> u64| entries.iter().map(of).fold(0, u64::saturating_add);
    let body = List {
        root: cache.root(),
        limit: cache.limit(),
        bytes: sum(|e| e.bytes),
        own_bytes: sum(|e| e.own_bytes),
        entries: &entries,
    };
    session.answer(&body, || {
        let mut out = String::new();
        if !entries.is_empty() {
            let head = [
                ("fine-tuned", Left),
                ("base", Left),
                ("kind", Left),
                ("size", Right),
                ("own", Right),
                ("used", Left),
                ("state", Left),
                ("key", Left),
            ];
            let rows: Vec<[String; 8]> = entries.iter().map(row).collect();
            out = human::table(head, &rows);
            out.push('\n');
        }
        let limit =
            body.limit.map_or("no limit".to_owned(), |l| format!("limit {}", human::bytes(l)));
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{}, {} of their own ({limit}), in {}",
            human::count(entries.len() as u64, "model"),
            human::bytes(body.own_bytes),
            plain(&body.root.to_string_lossy())
        );
        out
    })
}

/// Describes an entry.
fn row(entry: &CacheEntry) -> [String; 8] {
    let named =
        |name: &str| if name.is_empty() { "-".to_owned() } else { plain(name).into_owned() };
    let state = match (entry.problems.is_empty(), entry.in_use) {
        (false, _) => "damaged",
        (true, true) => "in use",
        (true, false) => "",
    };
    [
        named(&entry.target),
        named(&entry.base),
        entry.kind.map_or("-".to_owned(), |kind| kind.to_string()),
        human::bytes(entry.bytes),
        human::bytes(entry.own_bytes),
        age(entry.used),
        state.to_owned(),
        entry.key.chars().take(12).collect(),
    ]
}

/// Says how long ago a time was, roughly.
fn age(time: SystemTime) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = SystemTime::now().duration_since(time).map_or(0, |d: Duration| d.as_secs());
    match seconds {
        0..MINUTE => "just now".to_owned(),
        MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        HOUR..DAY => format!("{} h ago", seconds / HOUR),
        _ => format!("{} d ago", seconds / DAY),
    }
}

#[derive(Serialize)]
struct Found<'a> {
    base: Option<String>,
    delta: String,
    path: &'a Path,
    key: &'a str,
    kind: sparse::CachedKind,
    bytes: u64,
    was_cached: bool,
    notes: &'a [String],
    seconds: f64,
}

fn path(session: &Session, cache: &DeltaCache, args: CachePath) -> Result<(), Failure> {
    let (base, name) =
        split_inputs(args.inputs, false, false, "the delta").map_err(Failure::Usage)?;
    let delta = session.opener().delta(&name)?;
    let cache = cache.clone().expect_content(args.expect_sha256);
    let is_merged = delta.is_adapter() && base.is_some();
    if !is_merged && let Some(found) = cache.get(&delta)? {
        // The base need not even be there.
        return print_path(session, base, &name, &found);
    }
    let base = base.or_else(|| recorded_model(&delta));
    let opened = base.as_deref().map(|path| session.opener().model("base", path)).transpose()?;
    let found = cache.get_or_reconstruct(opened.as_ref(), &delta)?;
    print_path(session, base, &name, &found)
}

fn print_path(
    session: &Session,
    base: Option<PathBuf>,
    delta: &Path,
    found: &CachedModel,
) -> Result<(), Failure> {
    let notes = found.restored().map_or(&[][..], |report| &report.notes);
    let body = Found {
        base: base.as_deref().map(shown),
        delta: shown(delta),
        path: found.path(),
        key: found.key(),
        kind: found.kind(),
        bytes: found.bytes(),
        was_cached: found.restored().is_none(),
        notes,
        seconds: session.start().elapsed().as_secs_f64(),
    };
    if session.verbose() {
        eprint(&human::notes(notes));
    }
    // For other programs, so as it is.
    session.answer(&body, || format!("{}\n", found.path().display()))
}

#[derive(Serialize)]
struct Cleaned<'a> {
    root: &'a Path,
    #[serde(flatten)]
    cleanup: &'a CacheCleanup,
}

fn prune(session: &Session, cache: &DeltaCache, args: &CachePrune) -> Result<(), Failure> {
    let limit = args.limit.or(cache.limit()).ok_or_else(|| {
        Failure::Usage("there is no limit: give --limit, or set SPARSE_CACHE_LIMIT".to_owned())
    })?;
    cleaned(session, cache, &cache.prune(limit)?)
}

fn cleaned(session: &Session, cache: &DeltaCache, done: &CacheCleanup) -> Result<(), Failure> {
    let body = Cleaned { root: cache.root(), cleanup: done };
    session.report(&body, || {
        let in_use = match done.in_use {
            0 => String::new(),
            n => format!(", {n} of them in use"),
        };
        format!(
            "removed {} ({}), kept {} ({}{in_use})\n",
            human::count(done.removed, "model"),
            human::bytes(done.removed_bytes),
            human::count(done.kept, "model"),
            human::bytes(done.kept_bytes),
        )
    })
}

#[derive(Serialize)]
struct Checked<'a> {
    root: &'a Path,
    #[serde(flatten)]
    check: &'a CacheCheck,
    seconds: f64,
}

fn verify(session: &Session, cache: &DeltaCache) -> Result<(), Failure> {
    let check = cache.verify()?;
    let seconds = session.start().elapsed().as_secs_f64();
    let body = Checked { root: cache.root(), check: &check, seconds };
    let text = || {
        let mut out = String::new();
        for entry in &check.damaged {
            let state = if entry.removed { "removed" } else { "in use" };
            for problem in &entry.problems {
                let path = entry.path.to_string_lossy();
                let _ = writeln!(out, "{} ({state}): {}", plain(&path), plain(problem));
            }
        }
        let _ = writeln!(
            out,
            "{} in {} and {}: {} damaged",
            human::bytes(check.bytes),
            human::count(check.files, "file"),
            human::count(check.entries, "model"),
            check.damaged.len()
        );
        out
    };
    if check.damaged.is_empty() {
        return session.report(&body, text);
    }
    let message = format!(
        "damaged: {} of {}; what is damaged is restored anew when it is asked for",
        check.damaged.len(),
        human::count(check.entries, "model"),
    );
    let e = Error::new(ErrorKind::InvalidInput, message);
    let e = e.in_file(cache.root().display().to_string());
    session.answer_and_fail(&body, text, e.into())
}
