//! Rows: a writer or a source of bytes that the program gives to the libraries fails at its n-th
//! call.

use super::dice::thin;
use super::kinds::Kind;
use super::lab::Lab;
use super::library::{Act, Library, panic_text};
use super::outcome::{Outcome, Verdict};
use super::row::{Plan, Row, number, word};
use crate::pair::show;
use sparse::{Bound, Model, Policy};
use sparse_core::{ByteSource, Error, Result};
use sparse_dataset::Dataset;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "writer",
            fault: "`Write` that fails, writes nothing, writes a part, is interrupted, or fails \
                to flush",
            place: "the n-th call of the writer given to `compress` of the libraries, every n",
            plan: writers,
            run: with_writer,
        },
        Row {
            name: "source",
            fault: "`ByteSource` that fails, or gives a wrong byte",
            place: "the n-th read of the delta given to `verify` and `reconstruct` of models, \
                every n",
            plan: sources,
            run: with_source,
        },
    ]
}

/// Writes to memory, but for one call.
struct Faulty<'a> {
    out: &'a mut Vec<u8>,
    calls: &'a mut u64,
    nth: u64,
    how: &'a str,
}

impl Faulty<'_> {
    fn is_now(&mut self) -> bool {
        *self.calls += 1;
        *self.calls == self.nth + 1
    }
}

impl Write for Faulty<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut take = bytes.len();
        if self.is_now() {
            match self.how {
                "fails" => return Err(io::ErrorKind::StorageFull.into()),
                "nothing" => return Ok(0),
                "interrupted" => return Err(io::ErrorKind::Interrupted.into()),
                _ => take = take.div_ceil(2),
            }
        }
        self.out.extend(bytes.get(..take).unwrap_or_default());
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.is_now() {
            true if self.how == "fails" => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

/// Compresses to a writer that counts its calls.
fn compress(kind: &Kind, writer: Faulty<'_>) -> Result<()> {
    if kind.dataset {
        let [base, target] = [kind.base(), kind.target()].map(Dataset::open);
        let exact = kind.name == "exact";
        let (base, target) = (base?, target?);
        let job = sparse_dataset::Compressor::new(&target).base(&base).exact(exact);
        return job.write_to(writer).map(drop);
    }
    let open = |path| Model::open(path);
    let base = if kind.alone { None } else { Some(open(kind.base())?) };
    let target = open(kind.target())?;
    let mut job = sparse::Compressor::new(&target).base(base.as_ref());
    if kind.name == "within" {
        job = job.policy(Policy::Within(Bound::Relative(0.05)));
    }
    job.write_to(writer).map(drop)
}

const COMPRESSED: [&str; 6] = ["lossless", "alone", "within", "rows", "exact", "model"];

fn writers(lab: &Lab) -> Result<Plan> {
    let mut all = Vec::new();
    for name in COMPRESSED {
        let (mut out, mut calls) = (Vec::new(), 0);
        let kind = lab.kind(name)?;
        compress(&kind, Faulty { out: &mut out, calls: &mut calls, nth: u64::MAX - 1, how: "" })?;
        for how in ["fails", "nothing", "part", "interrupted"] {
            all.extend((0..calls).map(|n| format!("{name} {how} {n}")));
        }
    }
    Ok(Plan::Trials(thin(all, lab.most(4000, 30))))
}

fn with_writer(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let kind = library.lab.kind(word(trial, 0))?;
    let (mut right, mut out, mut calls) = (Vec::new(), Vec::new(), 0);
    // Names in the delta depend on how its inputs are called, so it is compared with one that was
    // made likewise.
    compress(&kind, Faulty { out: &mut right, calls: &mut calls, nth: u64::MAX - 1, how: "" })?;
    calls = 0;
    let faulty =
        Faulty { out: &mut out, calls: &mut calls, nth: number(trial, 2), how: word(trial, 1) };
    let done = catch_unwind(AssertUnwindSafe(|| compress(&kind, faulty)));
    Ok(match done {
        Err(e) => Outcome::new(Verdict::Panic, panic_text(&*e)),
        Ok(_) if calls <= number(trial, 2) => Outcome::new(Verdict::Missed, ""),
        Ok(Ok(())) if out == right => Outcome::restored(),
        Ok(Ok(())) => Outcome::new(Verdict::Wrong, "success, and another delta"),
        Ok(Err(_)) => Outcome::refused(),
    })
}

/// Bytes in memory, but for one read.
struct Unreliable {
    bytes: Vec<u8>,
    calls: Arc<AtomicU64>,
    nth: u64,
    lies: bool,
}

impl ByteSource for Unreliable {
    fn byte_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let now = self.calls.fetch_add(1, Ordering::Relaxed) == self.nth;
        if now && !self.lies {
            return Err(Error::io("cannot read", io::Error::other("a fault")).at_offset(offset));
        }
        self.bytes.read_exact_at(offset, out)?;
        if let Some(byte) = out.first_mut().filter(|_| now) {
            *byte ^= 0x10;
        }
        Ok(())
    }
}

/// Verifies or restores the delta of a kind that a source gives: how often it was read.
fn read(
    library: &mut Library<'_>,
    kind: &Kind,
    trial: &str,
    nth: u64,
) -> Result<(u64, Result<Outcome>)> {
    let bytes = library.bytes(&kind.delta())?.to_vec();
    let calls = Arc::new(AtomicU64::new(0));
    let lies = word(trial, 1) == "lies";
    let source = Box::new(Unreliable { bytes, calls: calls.clone(), nth, lies });
    let folder = library.lab.fresh(&library.lab.fast)?;
    let out = folder.join("restored");
    let base = kind.base();
    let base = (!kind.alone).then_some(&*base);
    let restores = word(trial, 2) == "reconstruct";
    let act = if restores { Act::Restore(&out) } else { Act::Verify };
    let done = catch_unwind(AssertUnwindSafe(|| library.try_model(source, base, act)));
    let outcome = match done {
        Err(e) => Ok(Outcome::new(Verdict::Panic, panic_text(&*e))),
        Ok(Ok(())) if !restores => Ok(Outcome::restored()),
        Ok(Ok(())) => Ok(match super::lab::difference(&out, &kind.restored()) {
            None => Outcome::restored(),
            Some(what) => Outcome::new(Verdict::Wrong, what),
        }),
        Ok(Err(_)) if !super::lab::names(&folder).is_empty() => {
            Ok(Outcome::new(Verdict::Leftover, format!("in {}", show(&folder))))
        }
        Ok(Err(e)) => Err(e),
    };
    Ok((calls.load(Ordering::Relaxed), outcome))
}

fn sources(lab: &Lab) -> Result<Plan> {
    let mut all = Vec::new();
    let mut library = Library::new(lab);
    for kind in lab.kinds().iter().filter(|k| !k.dataset) {
        for act in ["verify", "reconstruct"] {
            for how in ["fails", "lies"] {
                let name = format!("{} {how} {act}", kind.name);
                let (calls, done) = read(&mut library, kind, &name, u64::MAX)?;
                done?;
                all.extend((0..calls).map(|n| format!("{name} {n}")));
            }
        }
    }
    Ok(Plan::Trials(thin(all, lab.most(4000, 30))))
}

fn with_source(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let kind = library.lab.kind(word(trial, 0))?;
    let nth = number(trial, 3);
    Ok(match read(library, &kind, trial, nth)? {
        (calls, _) if calls <= nth => Outcome::new(Verdict::Missed, ""),
        (_, Ok(outcome)) => outcome,
        (_, Err(_)) => Outcome::refused(),
    })
}
