//! A file into fields. Only what keeps fields apart is checked.
#![allow(clippy::unit_arg, reason = "a field is set where there is one")]

use super::{
    Attributes, Base, Delta, END_MAGIC, Entry, File, HEADER_LEN, NO_DTYPE, Piece, Segment, Spec,
    TENSOR, TRAILER_LEN, Unit, chunk_count, source, storage_len,
};

/// Most things of a kind, and most bytes of an index: fuzzers need no more.
const MAX_COUNT: u64 = 5000;
const MAX_INDEX: u64 = 1 << 20;

/// Takes a file of format 1.0 apart.
///
/// Checksums are not looked at. `None` for anything else, and for an index with too many things.
pub fn parse(file: &[u8]) -> Option<Delta> {
    let (body, trailer) = file.split_at_checked(file.len().checked_sub(TRAILER_LEN)?)?;
    let mut ends = Fields(trailer);
    let [at, stored, len] = [ends.fixed()?, ends.fixed()?, ends.fixed()?];
    let compressed = u32::from_le_bytes(ends.array()?);
    let (payload, rest) = body.split_at_checked(usize::try_from(at).ok()?)?;
    if payload.len() < HEADER_LEN || !trailer.ends_with(END_MAGIC) || len > MAX_INDEX {
        return None;
    }
    let stored = rest.get(..usize::try_from(stored).ok()?)?;
    let plain = match compressed {
        0 => stored.to_vec(),
        _ => zstd::bulk::decompress(stored, len as usize).ok()?,
    };
    let mut fields = Fields(&plain);
    let delta = index(&mut fields, payload.to_vec())?;
    fields.0.is_empty().then_some(delta)
}

/// The fields, in the order of `docs/FORMAT.md`.
fn index(input: &mut Fields<'_>, payload: Vec<u8>) -> Option<Delta> {
    let mut d = Delta { payload, ..Delta::default() };
    let [bases, entries, files, folders, units] =
        [input.count()?, input.count()?, input.count()?, input.count()?, input.count()?];
    for text in &mut d.provenance {
        *text = input.text()?;
    }
    d.parent = input.byte()?;
    d.bases = bases_of(input, bases)?;
    d.entries = entries_of(input, entries)?;
    pieces_of(input, &mut d)?;
    d.files = files_of(input, files)?;
    d.folders = input.names(folders)?;
    d.units = units_of(input, units)?;
    d.attributes = input.attributes()?;
    for i in input.some_indices()? {
        d.entries.get_mut(i)?.attributes = input.attributes()?;
    }
    for i in input.some_indices()? {
        d.units.get_mut(i)?.attributes = input.attributes()?;
    }
    for unit in &mut d.units {
        let count = chunk_count(unit).filter(|n| *n <= MAX_COUNT)?;
        unit.chunks = input.column(count)?;
    }
    hashes(input, &mut d)?;
    Some(d)
}

fn bases_of(input: &mut Fields<'_>, count: u64) -> Option<Vec<Base>> {
    let kinds = input.bytes(count)?.to_vec();
    let files = input.names(count)?;
    let mut before = Vec::new();
    let each = kinds.into_iter().zip(files).map(|(kind, file)| {
        let mut name = Vec::new();
        if kind == TENSOR {
            before = input.name(&before)?;
            name.clone_from(&before);
        }
        Some(Base { kind, file, name, spec: input.spec()?, digest: [0; 16] })
    });
    each.collect()
}

fn entries_of(input: &mut Fields<'_>, count: u64) -> Option<Vec<Entry>> {
    let kinds = input.bytes(count)?.to_vec();
    let mut out: Vec<Entry> = Vec::new();
    for kind in kinds {
        let name = input.name(out.last().map_or(&[], |e| &e.name))?;
        out.push(Entry { kind, name, spec: input.spec()?, ..Entry::default() });
    }
    for entry in &mut out {
        entry.pieces = vec![Piece::default(); input.count()? as usize];
    }
    if out.iter().map(|e| e.pieces.len() as u64).sum::<u64>() > MAX_COUNT {
        return None;
    }
    for piece in out.iter_mut().flat_map(|e| &mut e.pieces) {
        piece.source = input.byte()?;
    }
    for entry in &mut out {
        let mut left = storage_len(&entry.spec)?;
        if let [pieces @ .., last] = &mut *entry.pieces {
            for piece in pieces {
                piece.len = input.number()?;
                left = left.wrapping_sub(piece.len);
            }
            last.len = left;
        }
    }
    Some(out)
}

/// What pieces of each source say, column by column.
fn pieces_of(input: &mut Fields<'_>, d: &mut Delta) -> Option<()> {
    let mut of = |sources: &[u8], each: &mut dyn FnMut(&mut Piece) -> Option<()>| -> Option<()> {
        let all = d.entries.iter_mut().flat_map(|e| &mut e.pieces);
        all.filter(|p| sources.contains(&p.source)).try_for_each(each)
    };
    let (base, unit) = (&[source::BASE], &[source::UNIT]);
    let (blob, after) = (&[source::BLOB, source::BLOB_AFTER_BASE], &[source::BLOB_AFTER_BASE]);
    let mut last = Step::new(1);
    of(base, &mut |p| Some(p.base = last.next(input)?))?;
    of(base, &mut |p| Some(p.offset = input.number()?))?;
    let mut last = Step::new(0);
    of(unit, &mut |p| Some(p.unit = last.next(input)?))?;
    let mut last = Step::new(1);
    of(unit, &mut |p| Some(p.segment = last.next(input)?))?;
    of(unit, &mut |p| Some(p.offset = input.number()?))?;
    of(blob, &mut |p| Some(p.codec = input.number()?))?;
    // Gaps in front of blobs, until their lengths are known.
    of(blob, &mut |p| Some(p.blob = input.signed()?))?;
    let mut expected = HEADER_LEN as u64;
    of(blob, &mut |p| {
        p.blob_len = input.number()?;
        p.blob = expected.wrapping_add(p.blob);
        expected = p.blob.wrapping_add(p.blob_len);
        Some(())
    })?;
    let mut last = Step::new(1);
    of(after, &mut |p| Some(p.base = last.next(input)?))?;
    of(after, &mut |p| Some(p.base_offset = input.number()?))?;
    of(after, &mut |p| Some(p.base_len = input.number()?))
}

fn files_of(input: &mut Fields<'_>, count: u64) -> Option<Vec<File>> {
    let paths = input.names(count)?;
    let counts = input.column(count)?;
    let total = counts.iter().try_fold(0u64, |n, c| n.checked_add(*c)).filter(|n| *n <= MAX_COUNT);
    let mut parts = input.indices(total?)?.into_iter();
    let file = |(path, n)| File { path, parts: parts.by_ref().take(n).collect(), digest: [0; 16] };
    Some(paths.into_iter().zip(counts.into_iter().map(|n| n as usize)).map(file).collect())
}

fn units_of(input: &mut Fields<'_>, count: u64) -> Option<Vec<Unit>> {
    let codecs = input.column(count)?;
    let mut units: Vec<Unit> =
        codecs.into_iter().map(|codec| Unit { codec, ..Unit::default() }).collect();
    let mut each = |f: &mut dyn FnMut(&mut Fields<'_>, &mut Unit) -> Option<()>| {
        units.iter_mut().try_for_each(|u| f(input, u))
    };
    each(&mut |i, u| Some(u.dtype = i.byte()?))?;
    each(&mut |i, u| Some(u.base_dtype = i.byte()?))?;
    each(&mut |i, u| Some(u.chunk_len = i.number()?))?;
    each(&mut |i, u| Some(u.params = i.signed()?))?;
    let mut expected = HEADER_LEN as u64;
    each(&mut |i, u| {
        u.params_len = i.number()?;
        u.params = expected.wrapping_add(u.params);
        expected = u.params.wrapping_add(u.params_len);
        Some(())
    })?;
    each(&mut |i, u| {
        u.first = u.params.wrapping_add(u.params_len).wrapping_add(i.signed()?);
        Some(())
    })?;
    each(&mut |i, u| Some(u.segments = vec![Segment::default(); i.count()? as usize]))?;
    each(&mut |i, u| {
        u.segments.iter_mut().try_for_each(|s| {
            (s.rows, s.row_len) = (i.number()?, i.number()?);
            Some(())
        })
    })?;
    let mut last = Step::new(1);
    for s in units.iter_mut().filter(|u| u.base_dtype != NO_DTYPE).flat_map(|u| &mut u.segments) {
        s.base = last.next(input)?;
    }
    for s in units.iter_mut().filter(|u| u.base_dtype != NO_DTYPE).flat_map(|u| &mut u.segments) {
        s.offset = input.number()?;
    }
    Some(units)
}

/// Digests are fields, checksums are skipped.
fn hashes(input: &mut Fields<'_>, d: &mut Delta) -> Option<()> {
    if d.parent != 0 {
        d.parent_digest = input.array()?;
    }
    for base in &mut d.bases {
        base.digest = input.array()?;
    }
    for i in 0..d.entries.len() {
        if !d.digest_follows(&d.entries[i]) {
            d.entries[i].digest = input.array()?;
        }
    }
    for file in d.files.iter_mut().filter(|f| f.parts.len() > 1) {
        file.digest = input.array()?;
    }
    let blobs = d.pieces(&[source::BLOB, source::BLOB_AFTER_BASE]).filter(|p| p.blob_len > 0);
    let params = d.units.iter().filter(|u| u.params_len > 0);
    let chunks = d.units.iter().flat_map(|u| &u.chunks).filter(|n| **n > 0);
    let sums = 8 * (blobs.count() + params.count()) + 4 * chunks.count();
    input.bytes(sums as u64).map(|_| ())
}

/// A column of indices, each coded as its difference from the one before plus a step.
struct Step {
    expected: u64,
    step: u64,
}

impl Step {
    fn new(step: u64) -> Step {
        Step { expected: 0, step }
    }

    fn next(&mut self, input: &mut Fields<'_>) -> Option<u64> {
        let value = self.expected.wrapping_add(input.signed()?);
        self.expected = value.wrapping_add(self.step);
        Some(value)
    }
}

/// The bytes of an index, from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, n: u64) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N as u64)?.try_into().ok()
    }

    fn fixed(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<u64> {
        let z = self.number()?;
        Some(z >> 1 ^ (z & 1).wrapping_neg())
    }

    fn count(&mut self) -> Option<u64> {
        self.number().filter(|n| *n <= MAX_COUNT)
    }

    fn column(&mut self, n: u64) -> Option<Vec<u64>> {
        (0..n).map(|_| self.number()).collect()
    }

    fn indices(&mut self, n: u64) -> Option<Vec<u64>> {
        let mut last = Step::new(1);
        (0..n).map(|_| last.next(self)).collect()
    }

    /// Which of a list have something, behind their number.
    fn some_indices(&mut self) -> Option<Vec<usize>> {
        let n = self.count()?;
        self.indices(n)?.into_iter().map(|i| usize::try_from(i).ok()).collect()
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let n = self.number()?;
        self.bytes(n).map(<[u8]>::to_vec)
    }

    /// A name that shares its beginning with the one before.
    fn name(&mut self, before: &[u8]) -> Option<Vec<u8>> {
        let kept = before.len().checked_sub(usize::try_from(self.number()?).ok()?)?;
        let end = self.0.iter().position(|b| *b == 0xff)?;
        let own = self.bytes(end as u64 + 1)?;
        Some([&before[..kept], &own[..end]].concat())
    }

    fn names(&mut self, n: u64) -> Option<Vec<Vec<u8>>> {
        let mut before = Vec::new();
        let each = (0..n).map(|_| {
            before = self.name(&before)?;
            Some(before.clone())
        });
        each.collect()
    }

    fn spec(&mut self) -> Option<Spec> {
        let dtype = self.byte()?;
        let rank = self.count()?;
        Some(Spec { dtype, shape: self.column(rank)? })
    }

    fn attributes(&mut self) -> Option<Attributes> {
        (0..self.count()?).map(|_| Some((self.number()?, self.text()?))).collect()
    }
}
