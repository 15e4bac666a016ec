//! Puts, gets and lists objects; `scripts/check_s3.py` checks it against an emulator of S3.
//!
//! ```text
//! objects put URL [overwrite] [abandon] < FILE     abandon: give up at the end
//! objects get URL > FILE
//! objects ranges URL START-END... > FILE
//! objects pinned URL                               the first byte; a line of input; the last byte
//! objects list URL
//! objects all URL > FILE                           all objects below URL, one after another
//! ```
//!
//! What fails is printed with its kind, and the exit status is 1.

use sparse_core::{ByteSource, Error, Result};
use sparse_remote::{Bucket, ObjectName, ObjectSource, WriteOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::process::ExitCode;

/// Parts as short as S3 takes them.
const PART: usize = 5 << 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let [command, url, rest @ ..] = args else {
        return Err(Error::invalid_argument("usage: objects put|get|ranges|pinned|list|all URL"));
    };
    let name: ObjectName = url.parse()?;
    match command.as_str() {
        "put" => put(&name, rest),
        "get" => get(&name),
        "ranges" => ranges(&name, rest),
        "pinned" => pinned(&name),
        "list" => list(&name),
        "all" => all(&name),
        _ => Err(Error::invalid_argument("there is no such command")),
    }
}

fn put(name: &ObjectName, words: &[String]) -> Result<()> {
    let has = |word: &str| words.iter().any(|w| w == word);
    let options = WriteOptions::new().part_bytes(PART).overwrite(has("overwrite"));
    let mut object = Bucket::open(name)?.write(&name.key, options)?;
    let mut buffer = vec![0; 1 << 20];
    let mut stdin = io::stdin().lock();
    loop {
        let read = stdin.read(&mut buffer).map_err(|e| Error::io("cannot read the input", e))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        // What failed, `commit` says, too.
        if object.write_all(bytes).is_err() {
            break;
        }
    }
    if has("abandon") {
        return Ok(());
    }
    let info = object.commit()?;
    println!("{} {}", info.len, info.etag);
    Ok(())
}

fn get(name: &ObjectName) -> Result<()> {
    let object = ObjectSource::open(name)?;
    let mut at = 0;
    while at < object.byte_len() {
        let len = (object.byte_len() - at).min(1 << 20);
        show(&object.bytes_at(at, usize::try_from(len).unwrap_or(usize::MAX))?)?;
        at += len;
    }
    Ok(())
}

fn ranges(name: &ObjectName, ranges: &[String]) -> Result<()> {
    let parse = |text: &String| -> Option<Range<u64>> {
        let (start, end) = text.split_once('-')?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = ranges.iter().map(parse).collect();
    let ranges = ranges.ok_or_else(|| Error::invalid_argument("a range is START-END"))?;
    let bucket = Bucket::open(name)?;
    let object = bucket.head(&name.key)?;
    bucket.get_ranges(&object, &ranges)?.iter().try_for_each(|bytes| show(bytes))
}

fn pinned(name: &ObjectName) -> Result<()> {
    let object = ObjectSource::open(name)?;
    show(&object.bytes_at(0, 1)?)?;
    io::stdin().read_line(&mut String::new()).map_err(|e| Error::io("cannot read a line", e))?;
    show(&object.bytes_at(object.byte_len().saturating_sub(1), 1)?)
}

fn list(name: &ObjectName) -> Result<()> {
    for object in Bucket::open(name)?.list(&name.key)? {
        println!("{} {}", object.len, object.key);
    }
    Ok(())
}

fn all(name: &ObjectName) -> Result<()> {
    let bucket = Bucket::open(name)?;
    bucket.list(&name.key)?.iter().try_for_each(|object| {
        let bytes = bucket.get_range(object, 0..object.len)?;
        show(&bytes)
    })
}

fn show(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|e| Error::io("cannot write the output", e))
}
