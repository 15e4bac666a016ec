//! The `remote` command: how much of a delta on a server is fetched for what.
//!
//! The server is this program's own, on loopback, and counts what it sends.

use crate::pair::{resolve, show};
use sparse::{
    BaseCheck, Codecs, Delta, DeltaModel, Error, Limits, Model, Result, TensorSource, inspect,
};
use sparse_core::{FileSource, open_file};
use sparse_remote::testing::{Content, Site, TestServer};
use sparse_remote::{Client, HttpSource, Url};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows that are read of a tensor.
const ROWS: u64 = 64;

/// What was fetched for one purpose.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What it was for.
    pub purpose: String,
    /// Requests.
    pub requests: usize,
    /// Bytes of the answers' bodies, as the server counts them.
    pub bytes: u64,
    /// Time from opening to the end.
    pub time: Duration,
}

/// Serves the delta at `delta` and reads parts of it. What comes is compared with the local file.
///
/// # Errors
/// What opening and reading report; `Corrupt` when bytes differ.
pub fn remote(base: &Path, delta: &Path) -> Result<(u64, Vec<Fetched>)> {
    let file = FileSource::new(open_file(delta)?)?;
    let server = TestServer::start(Site::new().with_file("d.sparse", Content::new(file)))?;
    let url = Url::parse(&format!("{}/files/d.sparse", server.endpoint()))?;
    let base = Arc::new(Model::open(resolve(base)?)?);
    let local = Delta::open(delta).map_err(|e| e.in_file(show(delta)))?;
    let len = local.reader().byte_len();
    let local = model(&base, local)?;
    // The largest tensor that the delta holds more than nothing of.
    let sizes = local.tensors().iter().map(|t| t.spec.byte_len());
    let tensor = sizes.enumerate().max_by_key(|&(_, len)| len).map_or(0, |(i, _)| i);

    let mut rows = Vec::new();
    let mut measure = |purpose: &str, read: &dyn Fn(Delta) -> Result<()>| -> Result<()> {
        server.clear_log();
        let begin = Instant::now();
        let source = HttpSource::open(&Client::new(Default::default())?, &url)?;
        read(Delta::from_source(Box::new(source), Codecs::default(), &Limits::default())?)?;
        let (time, log) = (begin.elapsed(), server.log());
        let (requests, bytes) = (log.requests().len(), log.sent());
        rows.push(Fetched { purpose: purpose.to_owned(), requests, bytes, time });
        Ok(())
    };
    measure("what it contains (`sparse info`)", &|delta| {
        inspect(&delta);
        Ok(())
    })?;
    let spec = local.tensors().get(tensor).map(|t| t.spec.clone());
    let spec = spec.ok_or_else(|| Error::invalid_argument("the delta has no tensors"))?;
    let height = spec.shape().first().copied().unwrap_or(1);
    let width = spec.byte_len() / height.max(1);
    let start = height / 2 * width;
    let some = usize::try_from(ROWS.min(height - height / 2) * width).unwrap_or(usize::MAX);
    let read = |delta: Delta, start: u64, len: usize| -> Result<()> {
        let model = model(&base, delta)?;
        if model.range(tensor, start, len)? != local.range(tensor, start, len)? {
            return Err(Error::corrupt("what came differs from the file"));
        }
        Ok(())
    };
    measure(&format!("{ROWS} rows of the largest tensor"), &|delta| read(delta, start, some))?;
    let all = usize::try_from(spec.byte_len()).unwrap_or(usize::MAX);
    measure("the largest tensor", &|delta| read(delta, 0, all))?;
    Ok((len, rows))
}

fn model(base: &Arc<Model>, delta: Delta) -> Result<DeltaModel> {
    let model = DeltaModel::new(Some(base.clone()), Arc::new(delta))?;
    Ok(model.with_base_check(BaseCheck::Never))
}

/// Writes the table of one delta of `len` bytes.
pub fn markdown(len: u64, rows: &[Fetched]) -> String {
    let mut out = String::from("| read | requests | bytes | share of the delta, % | ms |\n");
    out.push_str("|---|---:|---:|---:|---:|\n");
    for row in rows {
        let share = 100.0 * row.bytes as f64 / len.max(1) as f64;
        let ms = 1e3 * row.time.as_secs_f64();
        let Fetched { purpose, requests, bytes, .. } = row;
        out.push_str(&format!("| {purpose} | {requests} | {bytes} | {share:.4} | {ms:.1} |\n"));
    }
    out
}
