//! Changes of fields.

use super::{Attributes, Delta, Piece, Unit, chunk_count, dump, parse, source};
use crate::input::Random;

/// Changes bytes without knowing what they mean: libFuzzer's own mutator. The first `size` of the
/// buffer's bytes are given, up to `max` may be used; returns how many are.
pub type Bytes = fn(buffer: &mut [u8], size: usize, max: usize) -> usize;

/// Most chunks that a changed unit gets, to go with its changed shape.
const MAX_CHUNKS: u64 = 300;

/// Changes a delta file in place, for libFuzzer: `buffer` holds `size` bytes and may take `max`.
pub fn mutate_in_place(
    buffer: &mut [u8],
    size: usize,
    max: usize,
    seed: u32,
    bytes: Bytes,
) -> usize {
    if let Some(file) = mutate(&buffer[..size], seed, bytes).filter(|f| f.len() <= max) {
        buffer[..file.len()].copy_from_slice(&file);
        return file.len();
    }
    bytes(buffer, size, max)
}

/// Changes one to four fields of a delta file. `None` when it is none, or one time in 16, so that
/// frame and checksums are damaged as well.
pub fn mutate(file: &[u8], seed: u32, bytes: Bytes) -> Option<Vec<u8>> {
    let mut change = Change { random: Random(seed.into()), bytes };
    if change.below(16) == 0 {
        return None;
    }
    let mut delta = parse(file)?;
    for _ in 0..=change.below(4) {
        change.once(&mut delta);
    }
    for unit in &mut delta.units {
        if let Some(n) = chunk_count(unit).filter(|n| *n <= MAX_CHUNKS) {
            unit.chunks.resize(n as usize, 0);
        }
    }
    Some(dump(&delta))
}

struct Change {
    random: Random,
    bytes: Bytes,
}

impl Change {
    fn below(&mut self, n: usize) -> usize {
        (self.random.number() % n.max(1) as u64) as usize
    }

    fn once(&mut self, d: &mut Delta) {
        match self.below(20) {
            0..=7 => self.number(d),
            8..=11 => self.payload(d),
            12..=15 => self.text(d),
            16 => self.byte(d),
            17 => self.digest(d),
            _ => self.list(d),
        }
    }

    /// Another number, near the old one, near a power of two, or one that is elsewhere in the file.
    fn number(&mut self, d: &mut Delta) {
        let end = d.payload.len() as u64;
        let mut all = numbers(d);
        let (Some(at), other) = (self.any(&all), self.any(&all)) else { return };
        let old = *all[at];
        let other = other.map_or(0, |i| *all[i]);
        *all[at] = match self.below(9) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => other,
            3 => old.wrapping_add(other),
            4 => (1 << self.below(64)) - self.below(2) as u64,
            5 => u64::MAX - self.below(3) as u64,
            6 => old ^ 1 << self.below(64),
            7 => end.wrapping_add(self.below(5) as u64).wrapping_sub(2),
            _ => self.below(20) as u64,
        };
    }

    fn any<T>(&mut self, all: &[T]) -> Option<usize> {
        (!all.is_empty()).then(|| self.below(all.len()))
    }

    /// Bytes of a parameter block, chunk or blob; its length may change, then it moves to the end.
    fn payload(&mut self, d: &mut Delta) {
        let mut regions: Vec<(&mut u64, &mut u64)> = Vec::new();
        let mut fixed: Vec<(u64, u64)> = Vec::new();
        for p in d.entries.iter_mut().flat_map(|e| &mut e.pieces) {
            if [source::BLOB, source::BLOB_AFTER_BASE].contains(&p.source) {
                regions.push((&mut p.blob, &mut p.blob_len));
            }
        }
        for Unit { params, params_len, first, chunks, .. } in &mut d.units {
            regions.push((params, params_len));
            match &mut chunks[..] {
                [only] => regions.push((first, only)),
                many => {
                    let mut at = *first;
                    for len in many {
                        fixed.push((at, *len));
                        at = at.wrapping_add(*len);
                    }
                }
            }
        }
        let Some(i) = self.any(&vec![(); regions.len() + fixed.len()]) else { return };
        let (at, len) = match regions.get(i) {
            Some((at, len)) => (**at, **len),
            None => fixed[i - regions.len()],
        };
        let (Ok(start), Ok(size)) = (usize::try_from(at), usize::try_from(len)) else { return };
        let Some(old) = start.checked_add(size).and_then(|end| d.payload.get(start..end)) else {
            return;
        };
        let new = self.some_bytes(old, if i < regions.len() { 64 } else { 0 });
        if new.len() == size {
            d.payload[start..start + size].copy_from_slice(&new);
        } else if let Some((at, len)) = regions.get_mut(i) {
            (**at, **len) = (d.payload.len() as u64, new.len() as u64);
            d.payload.extend(new);
        }
    }

    /// Bytes changed by libFuzzer, at most `more` longer.
    fn some_bytes(&mut self, old: &[u8], more: usize) -> Vec<u8> {
        let mut buffer = old.to_vec();
        buffer.resize(old.len() + more, 0);
        // libFuzzer takes no empty buffer.
        if buffer.is_empty() {
            return buffer;
        }
        let len = (self.bytes)(&mut buffer, old.len(), old.len() + more);
        // Where lengths must not change, what is cut off stays as it was.
        buffer.truncate(if more == 0 { old.len() } else { len });
        buffer
    }

    fn text(&mut self, d: &mut Delta) {
        let mut all = texts(d);
        let (Some(at), Some(other)) = (self.any(&all), self.any(&all)) else { return };
        *all[at].0 = match self.below(4) {
            0 => all[other].0.clone(),
            _ => self.some_bytes(&all[at].0.clone(), 16),
        };
        if all[at].1 {
            // The end of a name.
            all[at].0.retain(|b| *b != 0xff);
        }
    }

    fn byte(&mut self, d: &mut Delta) {
        let mut all: Vec<&mut u8> = vec![&mut d.parent];
        all.extend(d.bases.iter_mut().flat_map(|b| [&mut b.kind, &mut b.spec.dtype]));
        for e in &mut d.entries {
            all.extend([&mut e.kind, &mut e.spec.dtype]);
            all.extend(e.pieces.iter_mut().map(|p| &mut p.source));
        }
        all.extend(d.units.iter_mut().flat_map(|u| [&mut u.dtype, &mut u.base_dtype]));
        all.extend(d.payload.iter_mut().take(super::HEADER_LEN).skip(8));
        if let Some(at) = self.any(&all) {
            *all[at] = if self.below(4) == 0 { 255 } else { self.below(24) as u8 };
        }
    }

    fn digest(&mut self, d: &mut Delta) {
        let mut all: Vec<&mut [u8; 16]> = d.bases.iter_mut().map(|b| &mut b.digest).collect();
        all.extend(d.entries.iter_mut().map(|e| &mut e.digest));
        all.extend(d.files.iter_mut().map(|f| &mut f.digest));
        if let (Some(at), Some(other)) = (self.any(&all), self.any(&all)) {
            *all[at] = *all[other];
        }
    }

    /// A thing more or less, or in another place.
    fn list(&mut self, d: &mut Delta) {
        match self.below(10) {
            0 => self.shuffle(&mut d.bases),
            1 => self.shuffle(&mut d.entries),
            2 => self.shuffle(&mut d.files),
            3 => self.shuffle(&mut d.folders),
            4 => self.shuffle(&mut d.units),
            5 => self.shuffle(&mut d.attributes),
            6 | 7 => {
                if let Some(i) = self.any(&d.entries) {
                    let entry = &mut d.entries[i];
                    match self.below(4) {
                        0 => self.shuffle(&mut entry.attributes),
                        1 => self.shuffle(&mut entry.spec.shape),
                        _ => self.shuffle(&mut entry.pieces),
                    }
                }
            }
            8 => {
                if let Some(i) = self.any(&d.units) {
                    match self.below(3) {
                        0 => self.shuffle(&mut d.units[i].attributes),
                        _ => self.shuffle(&mut d.units[i].segments),
                    }
                }
            }
            _ => {
                if let Some(i) = self.any(&d.files) {
                    self.shuffle(&mut d.files[i].parts);
                }
            }
        }
    }

    fn shuffle<T: Clone + Default>(&mut self, list: &mut Vec<T>) {
        let Some(i) = self.any(list) else { return list.push(T::default()) };
        match self.below(4) {
            0 => drop(list.remove(i)),
            1 => {
                let to = self.below(list.len());
                list.swap(i, to);
            }
            2 => {
                let to = self.below(list.len() + 1);
                list.insert(to, list[i].clone());
            }
            // Many of them.
            _ => {
                let many = 1 << self.below(7);
                list.extend(vec![list[i].clone(); many]);
            }
        }
    }
}

/// All numbers of a file.
fn numbers(d: &mut Delta) -> Vec<&mut u64> {
    let mut all: Vec<&mut u64> = Vec::new();
    all.extend(d.bases.iter_mut().flat_map(|b| &mut b.spec.shape));
    for e in &mut d.entries {
        all.extend(&mut e.spec.shape);
        all.extend(e.attributes.iter_mut().map(|a| &mut a.0));
        let last = e.pieces.len().saturating_sub(1);
        for (i, p) in e.pieces.iter_mut().enumerate() {
            piece_numbers(p, i < last, &mut all);
        }
    }
    all.extend(d.files.iter_mut().flat_map(|f| &mut f.parts));
    for u in &mut d.units {
        all.extend([&mut u.codec, &mut u.chunk_len, &mut u.params, &mut u.params_len]);
        all.push(&mut u.first);
        for s in &mut u.segments {
            all.extend([&mut s.rows, &mut s.row_len, &mut s.base, &mut s.offset]);
        }
        all.extend(&mut u.chunks);
        all.extend(u.attributes.iter_mut().map(|a| &mut a.0));
    }
    all.extend(d.attributes.iter_mut().map(|a| &mut a.0));
    all
}

fn piece_numbers<'a>(p: &'a mut Piece, has_len: bool, all: &mut Vec<&'a mut u64>) {
    if has_len {
        all.push(&mut p.len);
    }
    match p.source {
        source::BASE => all.extend([&mut p.base, &mut p.offset]),
        source::UNIT => all.extend([&mut p.unit, &mut p.segment, &mut p.offset]),
        tag => {
            all.extend([&mut p.codec, &mut p.blob, &mut p.blob_len]);
            if tag == source::BLOB_AFTER_BASE {
                all.extend([&mut p.base, &mut p.base_offset, &mut p.base_len]);
            }
        }
    }
}

/// All texts of a file, and whether each is a name that a byte ends.
fn texts(d: &mut Delta) -> Vec<(&mut Vec<u8>, bool)> {
    fn values(attributes: &mut Attributes) -> impl Iterator<Item = (&mut Vec<u8>, bool)> {
        attributes.iter_mut().map(|a| (&mut a.1, false))
    }
    let mut all: Vec<(&mut Vec<u8>, bool)> = values(&mut d.attributes).collect();
    // Names are many and alike: a few of each sort.
    for (i, e) in d.entries.iter_mut().enumerate() {
        all.extend(values(&mut e.attributes));
        all.extend((i < 3).then_some((&mut e.name, true)));
    }
    all.extend(d.units.iter_mut().flat_map(|u| values(&mut u.attributes)));
    let bases = d.bases.iter_mut().take(3);
    all.extend(bases.flat_map(|b| [(&mut b.file, true), (&mut b.name, true)]));
    all.extend(d.files.iter_mut().map(|f| (&mut f.path, true)).take(3));
    all.extend(d.folders.iter_mut().map(|f| (f, true)).take(3));
    all.extend(d.provenance.iter_mut().map(|t| (t, false)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_container::Reader;
    use sparse_core::Limits;

    const GOLDEN: [&[u8]; 4] = [
        include_bytes!("../../../crates/sparse-container/tests/golden/v1_0.sparse"),
        include_bytes!("../../../crates/sparse/tests/golden/v1_0/delta.sparse"),
        include_bytes!("../../../crates/sparse/tests/golden/v1_0/svd-energy.sparse"),
        include_bytes!("../../../crates/sparse-dataset/tests/golden/v2-exact.sparse"),
    ];

    /// In place of libFuzzer's: a byte more, less, or changed.
    fn bytes(buffer: &mut [u8], size: usize, max: usize) -> usize {
        let mut random = Random(size as u64 + 7 * u64::from(buffer.first().copied().unwrap_or(0)));
        if let Some(b) = buffer.get_mut(random.number() as usize % size.max(1)) {
            *b ^= random.number() as u8;
        }
        (size + random.number() as usize % 3).saturating_sub(1).min(max)
    }

    #[test]
    fn what_is_taken_apart_is_put_together() {
        for file in GOLDEN {
            let delta = parse(file).expect("a golden file");
            let again = dump(&delta);
            assert_eq!(parse(&again).as_ref(), Some(&delta));
            let index = |file| Reader::open(file, &Limits::default()).unwrap().index().clone();
            assert_eq!(index(file), index(&again[..]), "with the same checksums");
        }
    }

    #[test]
    fn checksums_of_changed_files_fit() {
        let (mut changed, mut opened) = (0, 0);
        for file in GOLDEN {
            for seed in 0..2000 {
                let Some(new) = mutate(file, seed, bytes) else { continue };
                changed += u32::from(new != file);
                match Reader::open(&new[..], &Limits::default()) {
                    Ok(_) => opened += 1,
                    Err(e) => {
                        assert!(e.message() != "the checksum of the index does not match", "{e}");
                    }
                }
            }
        }
        assert!(changed > 7000 && opened > 1500, "{changed} changed, {opened} opened");
    }
}
