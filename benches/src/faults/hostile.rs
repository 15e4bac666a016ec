//! Rows: deltas whose checksums fit and whose content lies.

use super::dice::{Dice, thin};
use super::kinds::Kind;
use super::library::{Library, Right};
use super::outcome::{Outcome, Verdict};
use super::row::{Plan, Row, number, word};
use crate::files::get;
use sparse_container::{PieceSource, Reader, checksum, chunk_checksum};
use sparse_core::{Error, Limits, Result};

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    let place = "index changed and written with checksums that fit; the libraries, 4 GB of \
        address space at most";
    let row = |name, fault, place, plan, run| Row { name, fault, place, plan, run };
    vec![
        row(
            "hostile-index",
            "every byte of the index or manifest replaced: small, large, 2^32, 2^64 - 1",
            place,
            |lab| {
                let mut all = Vec::new();
                for kind in lab.kinds().iter().filter(|k| k.small) {
                    let n = Parts::of(&get(&kind.delta())?)?.index.len();
                    let of_kind =
                        (0..n).flat_map(|at| BYTES.map(|how| format!("{} {how} {at}", kind.name)));
                    all.extend(thin(of_kind.collect(), lab.most(usize::MAX, 40)));
                }
                Ok(Plan::Trials(all))
            },
            lying_index,
        ),
        row(
            "hostile-names",
            "names of files that lead outside, or that no system should be given",
            place,
            |lab| {
                let kinds: Vec<Kind> = lab.kinds().into_iter().filter(|k| k.small).collect();
                let names = (0..NAMES.len())
                    .flat_map(|n| kinds.iter().map(move |k| format!("{} name {n}", k.name)));
                Ok(Plan::Trials(thin(names.collect(), lab.most(usize::MAX, 40))))
            },
            lying_name,
        ),
        row(
            "hostile-payload",
            "bytes of parameters, chunks and blobs replaced, their checksums made to fit",
            "payload changed likewise",
            |lab| {
                let mut all = Vec::new();
                for kind in lab.kinds() {
                    let most = match (kind.small, kind.dataset) {
                        (true, _) => lab.most(2000, 25),
                        (false, false) => lab.most(300, 3),
                        // Seconds each: what is coded wrongly decodes to as much as limits allow.
                        (false, true) => lab.most(100, 1),
                    };
                    let n = records(&get(&kind.delta())?)?.iter().map(|r| r.len).sum::<usize>();
                    let of_kind = (0..n)
                        .flat_map(|at| PAYLOAD.map(|how| format!("{} {how} {at}", kind.name)));
                    all.extend(thin(of_kind.collect(), most));
                }
                Ok(Plan::Trials(all))
            },
            lying_payload,
        ),
    ]
}

const BYTES: [&str; 8] = ["zero", "most", "more", "less", "2^32", "2^64", "omit", "twice"];
const PAYLOAD: [&str; 3] = ["zero", "most", "bit"];

/// Parts of a delta: the bytes before the index, and the uncompressed index.
struct Parts {
    front: Vec<u8>,
    index: Vec<u8>,
}

const TRAILER: usize = 40;

impl Parts {
    fn of(delta: &[u8]) -> Result<Parts> {
        let bad = || Error::corrupt("not a delta as FORMAT.md describes it");
        let trailer =
            delta.len().checked_sub(TRAILER).and_then(|at| delta.get(at..)).ok_or_else(bad)?;
        let field = |i: usize| {
            let bytes = trailer.get(8 * i..8 * i + 8).and_then(|b| b.try_into().ok());
            bytes.and_then(|b| usize::try_from(u64::from_le_bytes(b)).ok()).ok_or_else(bad)
        };
        let (offset, stored, plain) = (field(0)?, field(1)?, field(2)?);
        let stored = delta.get(offset..offset + stored).ok_or_else(bad)?;
        let index = match trailer.get(24) {
            Some(0) => stored.to_vec(),
            _ => zstd::bulk::decompress(stored, plain).map_err(|_| bad())?,
        };
        Ok(Parts { front: delta.get(..offset).ok_or_else(bad)?.to_vec(), index })
    }

    /// The delta, with a trailer whose checksum fits.
    fn join(&self) -> Vec<u8> {
        let len = (self.index.len() as u64).to_le_bytes();
        let mut trailer = (self.front.len() as u64).to_le_bytes().to_vec();
        trailer.extend([len, len].concat());
        trailer.extend([0; 4]);
        let header = self.front.get(..12).unwrap_or_default();
        let sum = checksum(&[header, &self.index, &trailer].concat());
        trailer.extend(sum.to_le_bytes());
        trailer.extend(b"\xd3END");
        [&*self.front, &*self.index, &*trailer].concat()
    }

    fn replace(&mut self, old: &[u8], new: &[u8]) -> bool {
        let found = self.index.windows(old.len().max(1)).position(|w| w == old);
        if let Some(at) = found {
            self.index.splice(at..at + old.len(), new.iter().copied());
        }
        found.is_some()
    }
}

/// Something in the payload, and its checksum as the index has it.
struct Record {
    at: usize,
    len: usize,
    sum: Vec<u8>,
    /// Whether it is a chunk, of which fewer bits of the checksum are kept.
    chunk: bool,
}

fn records(delta: &[u8]) -> Result<Vec<Record>> {
    let reader = Reader::open(delta, &Limits::default())?;
    let mut all = Vec::new();
    let index = reader.index();
    let blobs = index.entries.iter().flat_map(|e| &e.pieces).filter_map(|p| match p.source {
        PieceSource::Blob { blob, .. } => Some(blob),
        _ => None,
    });
    for blob in blobs.chain(index.units.iter().map(|u| u.params)) {
        let sum = blob.checksum.to_le_bytes().to_vec();
        all.push(Record { at: blob.offset as usize, len: blob.len as usize, sum, chunk: false });
    }
    for unit in &index.units {
        let mut at = unit.chunks_offset as usize;
        for chunk in &unit.chunks {
            let sum = chunk.checksum.to_le_bytes().to_vec();
            all.push(Record { at, len: chunk.len as usize, sum, chunk: true });
            at += chunk.len as usize;
        }
    }
    Ok(all)
}

fn opened(library: &mut Library<'_>, trial: &str) -> Result<(Kind, Parts)> {
    limit_memory();
    let kind = library.lab.kind(word(trial, 0))?;
    let parts = Parts::of(library.bytes(&kind.delta())?)?;
    Ok((kind, parts))
}

/// Limits this process to 4 GB of address space, so that an unchecked size ends it.
fn limit_memory() {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{Resource, setrlimit};
        // Where that is not permitted, the trials are a little milder.
        let _ = setrlimit(Resource::RLIMIT_AS, 4 << 30, 4 << 30);
    }
}

fn lying_index(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let (kind, mut parts) = opened(library, trial)?;
    let at = number(trial, 2) as usize;
    let Some(&byte) = parts.index.get(at) else { return Ok(Outcome::new(Verdict::Missed, "")) };
    let new = match word(trial, 1) {
        "zero" => vec![0],
        "most" => vec![if byte & 0x80 == 0 { 0x7f } else { 0xff }],
        "more" => vec![byte.wrapping_add(1)],
        "less" => vec![byte.wrapping_sub(1)],
        "2^32" => vec![0x80, 0x80, 0x80, 0x80, 0x10],
        "2^64" => [vec![0xff; 9], vec![1]].concat(),
        "omit" => vec![],
        _ => vec![byte, byte],
    };
    if new == [byte] {
        return Ok(Outcome::new(Verdict::Missed, ""));
    }
    parts.index.splice(at..=at, new);
    library.judge(&kind, parts.join(), None, Right::Consistent)
}

/// Names instead of that of the first file; the same length where that is possible, so that the
/// rest stays as it is.
const NAMES: [&str; 22] = [
    "../evil.txt",
    "/evil.jsonl",
    "a/../../b.x",
    "./evil.jsn",
    "a//evil.jso",
    "..",
    ".",
    "",
    "a\\..\\..\\b.j",
    "C:/evil.jso",
    "con\nfig.jso",
    "\u{1b}[31mred.js",
    "evil\0.json.",
    "CON",
    "nul.txt",
    "COM1.json.a",
    "aux.",
    "config.jso ",
    "\u{202e}nosj.gifn",
    "con\u{200b}fig.js",
    "model.safetensors/x",
    "evil.json.partial",
];

fn lying_name(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let (kind, mut parts) = opened(library, trial)?;
    let name = NAMES.get(number(trial, 2) as usize).copied().unwrap_or_default();
    let old: &[u8] = match kind.name {
        "adapter" => b"adapter_config.json",
        "rows" | "table" => b"target.parquet",
        "exact" => b"target.jsonl",
        _ => b"config.json",
    };
    let mut new = name.as_bytes().to_vec();
    // Lengths are written before names in some places and not in others: keep them.
    if new.len() > 3 {
        new.resize(old.len(), b'x');
    }
    // Of a dataset, the first is the path of the target, for people only: change that and the
    // file's.
    let mut changed = parts.replace(old, &new);
    while parts.replace(old, &new) {
        changed = true;
    }
    match changed && new != old {
        true => library.judge(&kind, parts.join(), None, Right::Consistent),
        false => Ok(Outcome::new(Verdict::Missed, "")),
    }
}

fn lying_payload(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let (kind, mut parts) = opened(library, trial)?;
    let mut at = number(trial, 2) as usize;
    for record in records(library.bytes(&kind.delta())?)? {
        if at >= record.len {
            at -= record.len;
            continue;
        }
        let mut dice = Dice::new(library.lab.seed, trial);
        let Some(bytes) = parts.front.get_mut(record.at..record.at + record.len) else { break };
        if let Some(byte) = bytes.get_mut(at) {
            *byte = match word(trial, 1) {
                "zero" => 0,
                "most" => 0xff,
                _ => *byte ^ 1 << dice.below(8),
            };
        }
        let sum = match record.chunk {
            true => chunk_checksum(bytes).to_le_bytes().to_vec(),
            false => checksum(bytes).to_le_bytes().to_vec(),
        };
        if sum == record.sum || !parts.replace(&record.sum, &sum) {
            break;
        }
        // Restored files have digests of their own, so only the original bytes may be restored.
        return library.judge(&kind, parts.join(), None, Right::SameOrRefused);
    }
    Ok(Outcome::new(Verdict::Missed, ""))
}
