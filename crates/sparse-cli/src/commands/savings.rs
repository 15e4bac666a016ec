//! `sparse savings`.

use crate::args;
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use crate::text_file;
use serde::{Deserialize, Serialize};
use sparse::{
    Checkpoint, CollectionModel, DeltaSize, Error, ErrorKind, Saved, Savings, SavingsTerms,
};
use sparse_open::shown;
use std::path::{Path, PathBuf};

/// Longest list in JSON, in bytes.
const MAX_LIST: u64 = 1 << 30;

/// A model as a list has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    id: String,
    base: Option<String>,
    family: Option<String>,
    bytes: Option<u64>,
    downloads_per_year: Option<f64>,
    delta_bytes: Option<u64>,
    ratio: Option<f64>,
    path: Option<PathBuf>,
    base_path: Option<PathBuf>,
}

#[derive(Serialize)]
struct Body<'a> {
    list: String,
    base: Option<String>,
    #[serde(flatten)]
    found: &'a Savings,
}

pub(crate) fn savings(session: &Session, args: &args::Savings) -> Result<(), Failure> {
    let entries = entries(session, args)?;
    let mut models = Vec::with_capacity(entries.len());
    for (i, entry) in entries.into_iter().enumerate() {
        let name = format!("model {} ({:?})", i + 1, entry.id);
        models.push(model(session, args, entry).map_err(|failure| match failure {
            // What opening a model reports names its own file.
            Failure::Sparse(e) if e.file().is_none() => {
                let e = Error::new(e.kind(), format!("{name}: {}", e.message()));
                e.in_file(shown(&args.list)).into()
            }
            other => other,
        })?);
    }
    let terms = SavingsTerms::new(args.base_at_hand)
        .with_prices(args.price_storage_gb_month, args.price_transfer_gb);
    let found = Savings::of(&models, &terms).map_err(|e| e.in_file(shown(&args.list)))?;
    let base = args.base.as_deref().map(shown);
    let body = Body { list: shown(&args.list), base, found: &found };
    session.answer(&body, || text(&found))
}

/// Returns the entries of the list, or of the folder.
fn entries(session: &Session, args: &args::Savings) -> Result<Vec<Entry>, Failure> {
    let path = &args.list;
    match (&args.base, path.is_dir()) {
        (Some(base), true) => return folder(path, base),
        (Some(_), false) => {
            let what = "--base goes with a folder of models; a list names its own bases";
            return Err(Failure::Usage(what.to_owned()));
        }
        (None, true) => {
            return Err(Failure::Usage("give the base of the models: --base MODEL".to_owned()));
        }
        (None, false) => {}
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        return json(path);
    }
    table(session, path)
}

/// Takes each folder and safetensors file in a folder as a model.
fn folder(path: &Path, base: &Path) -> Result<Vec<Entry>, Failure> {
    let unreadable = |e| Error::io("cannot list", e).in_file(shown(path));
    let mut models = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let model = entry.map_err(unreadable)?.path();
        let is_file = model.extension().is_some_and(|e| e == "safetensors");
        if (model.is_dir() || is_file) && !is_same(&model, base) {
            models.push(model);
        }
    }
    models.sort();
    if models.is_empty() {
        let what = "there are no models: neither folders nor safetensors files";
        return Err(Error::new(ErrorKind::InvalidInput, what).in_file(shown(path)).into());
    }
    let entry = |model: PathBuf| Entry {
        id: shown(model.file_name().unwrap_or_default()),
        base: Some(shown(base)),
        path: Some(model),
        base_path: Some(base.to_owned()),
        ..Entry::default()
    };
    Ok(models.into_iter().map(entry).collect())
}

/// Returns true if a model in the folder is the base, which may lie beside its fine-tunes.
///
/// Each may be given as a folder or as the file in it.
fn is_same(model: &Path, base: &Path) -> bool {
    let (Ok(model), Ok(base)) = (model.canonicalize(), base.canonicalize()) else { return false };
    let holds = |folder: &Path, file: &Path| file.is_file() && file.parent() == Some(folder);
    model == base || holds(&model, &base) || holds(&base, &model)
}

fn json(path: &Path) -> Result<Vec<Entry>, Failure> {
    let text = text_file::read(path, MAX_LIST)?;
    let entries: Vec<Entry> = serde_json::from_str(&text).map_err(|e| {
        let what = format!("not a list of models: {e}");
        Error::new(ErrorKind::InvalidInput, what).in_file(shown(path))
    })?;
    Ok(entries)
}

#[cfg(not(feature = "dataset"))]
fn table(_: &Session, path: &Path) -> Result<Vec<Entry>, Failure> {
    let what = "this build of sparse reads lists in JSON only (feature dataset)";
    Err(Error::invalid_argument(what).in_file(shown(path)).into())
}

/// Reads a list from a dataset; a cell without text is as if its column were not there.
#[cfg(feature = "dataset")]
fn table(session: &Session, path: &Path) -> Result<Vec<Entry>, Failure> {
    use sparse_dataset::Scalar;

    const COLUMNS: [&str; 9] = [
        "id",
        "base",
        "family",
        "bytes",
        "downloads_per_year",
        "delta_bytes",
        "ratio",
        "path",
        "base_path",
    ];
    let dataset = session.opener().dataset("list", path)?;
    let names: Vec<String> = dataset.column_names().map(str::to_owned).collect();
    if let Some(unknown) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        let what = format!("column {unknown:?} is not known; known are {}", COLUMNS.join(", "));
        return Err(Error::new(ErrorKind::InvalidInput, what).in_file(shown(path)).into());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut entries = Vec::new();
    dataset.for_each_row(&names, |row, values| {
        let cell = |name: &str| {
            let place = names.iter().position(|n| *n == name)?;
            values.get(place).filter(|value| match value {
                Scalar::Null => false,
                Scalar::Text(text) => !text.trim().is_empty(),
                _ => true,
            })
        };
        let wrong = |name: &str, want: &str| {
            let what = format!("row {row}: column {name:?} has no {want}");
            Error::new(ErrorKind::InvalidInput, what)
        };
        let text = |name: &str| match cell(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(str::to_owned).map(Some).ok_or(wrong(name, "text")),
        };
        let number = |name: &str| match cell(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(wrong(name, "number")),
        };
        // Sizes are far below 2^53, up to which floats count.
        let bytes = |name: &str| match number(name)? {
            Some(n) if n < 0.0 || n.fract() != 0.0 || n > 9e15 => Err(wrong(name, "whole number")),
            n => Ok(n.map(|n| n as u64)),
        };
        entries.push(Entry {
            id: text("id")?.unwrap_or_default(),
            base: text("base")?,
            family: text("family")?,
            bytes: bytes("bytes")?,
            downloads_per_year: number("downloads_per_year")?,
            delta_bytes: bytes("delta_bytes")?,
            ratio: number("ratio")?,
            path: text("path")?.map(Into::into),
            base_path: text("base_path")?.map(Into::into),
        });
        Ok(())
    })?;
    Ok(entries)
}

/// Makes a model of an entry; where the entry has a path, its delta is estimated.
fn model(session: &Session, args: &args::Savings, e: Entry) -> Result<CollectionModel, Failure> {
    let invalid = |what: &str| Failure::from(Error::new(ErrorKind::InvalidInput, what.to_owned()));
    if e.id.is_empty() {
        return Err(invalid("it has no id"));
    }
    if e.base.is_none() {
        // It would count as a model that is kept whole, which nobody means.
        let given = [
            ("base_path", e.base_path.is_some()),
            ("delta_bytes", e.delta_bytes.is_some()),
            ("ratio", e.ratio.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, is_given)| *is_given) {
            return Err(invalid(&format!("it has {name}, but no base: give the base's id")));
        }
    }
    if e.base_path.is_some() && (&e.path, e.delta_bytes, e.ratio) == (&None, None, None) {
        return Err(invalid("it has base_path, but no path: give both, or neither"));
    }
    let (mut bytes, mut delta) = (e.bytes, DeltaSize::Unknown);
    match (e.delta_bytes, e.ratio, &e.path) {
        (Some(_), Some(_), _) => return Err(invalid("give delta_bytes or ratio, not both")),
        (Some(size), None, _) => delta = DeltaSize::Measured(size),
        (None, Some(ratio), _) => {
            if !(ratio.is_finite() && ratio > 0.0) {
                return Err(invalid("its ratio is not a number above 0"));
            }
            let size = bytes.ok_or_else(|| invalid("a ratio needs its bytes, too"))?;
            delta = DeltaSize::Measured((size as f64 / ratio).round() as u64);
        }
        (None, None, Some(path)) => {
            let target = session.opener().model("model", path)?;
            bytes = bytes.or_else(|| Some(target.files().iter().map(|file| file.len).sum()));
            if let Some(base) = &e.base {
                let base = e.base_path.clone().unwrap_or_else(|| base.into());
                let base = session.opener().model("base", base)?;
                let found = session.compressor(&target).base(Some(&base)).estimate(args.share)?;
                delta = DeltaSize::Sampled(found.delta_bytes);
            }
        }
        (None, None, None) => {}
    }
    let bytes = bytes.ok_or_else(|| invalid("it has no bytes"))?;
    let downloads = e.downloads_per_year.unwrap_or(args.downloads);
    let model = CollectionModel::new(e.id, bytes, downloads);
    let model = match e.base {
        Some(base) => model.tuned_from(base, delta),
        None => model,
    };
    Ok(match e.family {
        Some(family) => model.in_family(family),
        None => model,
    })
}

fn text(found: &Savings) -> String {
    let mut out = format!(
        "{}, {} of them fine-tunes; deltas: {} known, {} by their family, {} by the others\n\n",
        human::count(found.models, "model"),
        found.fine_tunes,
        found.known,
        found.from_family,
        found.from_others
    );
    let size = |n: f64| human::bytes(n as u64);
    let row = |name: &str, s: &Saved| {
        let price = |p: Option<f64>| p.map_or("-".to_owned(), human::amount);
        [
            name.to_owned(),
            size(s.without),
            size(s.with),
            match s.without > 0.0 {
                true => format!(
                    "{:.1} % ({:.1} to {:.1})",
                    100.0 * s.share,
                    100.0 * s.share_low,
                    100.0 * s.share_high
                ),
                // Nobody downloads anything.
                false => "-".to_owned(),
            },
            price(s.price_without),
            price(s.price_with),
        ]
    };
    let rows = [row("storage", &found.storage), row("transfer in a year", &found.transfer)];
    let head = [
        ("", Left),
        ("whole", Right),
        ("with deltas", Right),
        ("saved", Left),
        ("price of a year, whole", Right),
        ("with deltas", Right),
    ];
    out.push_str(&human::table(head, &rows));
    out.push_str(&human::notes(&found.notes));
    out
}
