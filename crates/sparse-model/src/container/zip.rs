//! The members of a zip archive that are stored as they are.

use sparse_core::ByteSource;
use std::collections::HashMap;
use std::ops::Range;

/// Longest directory that is read, in bytes.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;

/// Length of the record at the end, without its comment.
const END_BYTES: usize = 22;

/// Archive that was read: where its stored members begin.
pub(super) struct Zip<'a> {
    file: &'a dyn ByteSource,
    /// Local header and length of each stored member, by name.
    members: HashMap<String, (u64, u64)>,
}

impl<'a> Zip<'a> {
    /// Reads the directory of `file`; `None` if it is not an archive, or an odd one.
    pub(super) fn open(file: &'a dyn ByteSource) -> Option<Zip<'a>> {
        let directory = directory(file)?;
        let len = directory.end - directory.start;
        if len > MAX_DIRECTORY_BYTES {
            return None;
        }
        let bytes = file.bytes_at(directory.start, usize::try_from(len).ok()?).ok()?;
        let mut members = HashMap::new();
        let mut rest = &*bytes;
        while rest.starts_with(b"PK\x01\x02") {
            let (head, after) = rest.split_at_checked(46)?;
            let (name_len, extra_len) = (u16_at(head, 28)?, u16_at(head, 30)?);
            let comment_len = u16_at(head, 32)?;
            let (name, after) = after.split_at_checked(name_len.into())?;
            let (extra, after) = after.split_at_checked(extra_len.into())?;
            rest = after.split_at_checked(comment_len.into())?.1;
            let (stored, plain, at) = sizes(head, extra)?;
            let (flags, method) = (u16_at(head, 8)?, u16_at(head, 10)?);
            if method == 0 && flags & 1 == 0 && stored == plain {
                let name = std::str::from_utf8(name).ok()?.to_owned();
                // Two members of one name: which one counts is anyone's guess.
                if members.insert(name, (at, plain)).is_some() {
                    return None;
                }
            }
        }
        Some(Zip { file, members })
    }

    /// Lists the names of the stored members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Returns the bytes of the file that a stored member is.
    pub(super) fn range(&self, name: &str) -> Option<Range<u64>> {
        let &(at, len) = self.members.get(name)?;
        let local = self.file.bytes_at(at, 30).ok()?;
        if !local.starts_with(b"PK\x03\x04") {
            return None;
        }
        let lens = u64::from(u16_at(&local, 26)?) + u64::from(u16_at(&local, 28)?);
        let start = at.checked_add(30 + lens)?;
        let end = start.checked_add(len)?;
        (end <= self.file.byte_len()).then_some(start..end)
    }
}

/// Finds the directory of an archive.
fn directory(file: &dyn ByteSource) -> Option<Range<u64>> {
    let file_len = file.byte_len();
    let tail_len = file_len.min((END_BYTES + usize::from(u16::MAX)) as u64);
    let tail_start = file_len - tail_len;
    let tail = file.bytes_at(tail_start, usize::try_from(tail_len).ok()?).ok()?;
    let is_end = |&at: &usize| {
        let record = tail.get(at..).unwrap_or_default();
        let comment = u16_at(record, 20).map(usize::from);
        record.starts_with(b"PK\x05\x06") && comment == Some(record.len() - END_BYTES)
    };
    let at = (0..=tail.len().checked_sub(END_BYTES)?).rev().find(is_end)?;
    let record = tail.get(at..)?;
    let (mut len, mut start) = (u64::from(u32_at(record, 12)?), u64::from(u32_at(record, 16)?));
    let locator = at.checked_sub(20).and_then(|from| tail.get(from..at));
    if let Some(locator) = locator.filter(|l| l.starts_with(b"PK\x06\x07")) {
        let large = file.bytes_at(u64_at(locator, 8)?, 56).ok()?;
        if !large.starts_with(b"PK\x06\x06") {
            return None;
        }
        (len, start) = (u64_at(&large, 40)?, u64_at(&large, 48)?);
    }
    let end = start.checked_add(len)?;
    (end <= tail_start + at as u64).then_some(start..end)
}

/// Returns a member's stored and plain length, and the place of its local header.
fn sizes(head: &[u8], extra: &[u8]) -> Option<(u64, u64, u64)> {
    let small = |at| u32_at(head, at).map(u64::from);
    let (mut stored, mut plain, mut at) = (small(20)?, small(24)?, small(42)?);
    let mut rest = extra;
    while let (Some(id), Some(len)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let field = rest.get(4..)?.get(..len.into())?;
        rest = rest.get(4 + usize::from(len)..)?;
        if id != 1 {
            continue;
        }
        // Only what does not fit 32 bits is there, in this order.
        let mut from = 0;
        for value in [&mut plain, &mut stored, &mut at] {
            if *value == u64::from(u32::MAX) {
                *value = u64_at(field, from)?;
                from += 8;
            }
        }
    }
    Some((stored, plain, at))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
