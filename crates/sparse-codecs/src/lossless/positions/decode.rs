//! Decoding positions.

use super::{Class, GAPS, Positions, take_count};
use crate::entropy::rans::{self, DecodeTables};
use crate::lossless::model::{KEYS, Model};
use crate::lossless::scan::Run;
use crate::simd::{self, Padded, RawBits, Simd};
use crate::word::{Word, restore};
use sparse_core::{Error, Result};

/// Maps keys to classes, per profile, given the class of each frequency table.
pub(in crate::lossless) fn class_maps(model: &Model, classes: &[u8]) -> Vec<[u8; KEYS]> {
    let class = |&table: &u8| classes.get(usize::from(table)).copied().unwrap_or(0);
    model.profiles.iter().map(|profile| std::array::from_fn(|key| class(&profile[key]))).collect()
}

/// Parameters of a unit for decoding positions.
#[derive(Debug)]
pub(in crate::lossless) struct PositionDecoder {
    /// Class of each key, by profile.
    pub(in crate::lossless) class_maps: Vec<[u8; KEYS]>,
    coding: Vec<Class>,
    tables: DecodeTables,
    /// By token: raw bits, and what they are added to.
    gaps: Vec<(u32, u32)>,
    values: Vec<(u32, u64)>,
    raw_shift: u32,
    simd: Simd,
    float: bool,
}

/// Scratch memory.
#[derive(Default)]
pub(in crate::lossless) struct PositionWork {
    /// The class of each element of the chunk.
    pub(in crate::lossless) classes: Vec<u8>,
    counts: Vec<u32>,
    contexts: Vec<u8>,
    tokens: Vec<u8>,
    /// Gaps, then positions in their place.
    places: Vec<u32>,
}

impl PositionDecoder {
    /// Returns the memory of its tables, in bytes.
    pub(in crate::lossless) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.class_maps)
            + size_of_val(&*self.coding)
            + self.tables.memory_bytes()
            + size_of_val(&*self.gaps)
            + size_of_val(&*self.values)
    }

    pub(in crate::lossless) fn new(
        model: &Model,
        positions: &Positions,
        simd: Simd,
        float: bool,
    ) -> Self {
        PositionDecoder {
            class_maps: class_maps(model, &positions.classes),
            coding: positions.coding.clone(),
            tables: DecodeTables::new(&positions.tables),
            gaps: (0..=u8::MAX)
                .map(|t| GAPS.expand(t.into()))
                .map(|(bits, value)| (bits, u32::try_from(value).unwrap_or(u32::MAX)))
                .collect(),
            values: model.tokens.expansions(),
            raw_shift: model.tokens.scheme.raw_shift(),
            simd,
            float,
        }
    }

    /// Returns true if all elements are of one class.
    ///
    /// Then `classes` need not be filled in.
    pub(in crate::lossless) fn is_plain(&self) -> bool {
        self.coding.len() == 1
    }

    /// Puts the changes into `out`, which holds the predictions.
    ///
    /// So does `predictions`. The classes of all elements are in `work`.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(in crate::lossless) fn decode<W: Word>(
        &self,
        states: &[u8],
        words: &Padded,
        raw: &Padded,
        predictions: &[u8],
        out: &mut [u8],
        work: &mut PositionWork,
    ) -> Result<()> {
        let PositionWork { classes, counts, contexts, tokens, places } = work;
        let len = out.len() / W::BYTES;
        let mut raw = RawBits { bytes: raw, position: 0 };
        counts.clear();
        contexts.clear();
        let mut left = len;
        for class in &self.coding {
            let n = take_count(&mut raw, class.order)?;
            left = left
                .checked_sub(n as usize)
                .ok_or_else(|| Error::corrupt("there are more changes than elements"))?;
            counts.push(n);
            contexts.resize(contexts.len() + n as usize, class.gaps);
            contexts.resize(contexts.len() + n as usize, class.values);
        }
        tokens.resize(contexts.len(), 0);
        let mut decoder = rans::Decoder::new(self.simd, states, words, &self.tables)?;
        decoder.decode(contexts, tokens)?;
        decoder.finish()?;
        let mut tokens = &tokens[..];
        for (class, (coding, &n)) in (0u8..).zip(self.coding.iter().zip(&*counts)) {
            let (gaps, rest) = tokens.split_at(n as usize);
            let (values, rest) = rest.split_at(n as usize);
            tokens = rest;
            places.clear();
            let shift = u32::from(coding.shift);
            places.extend(gaps.iter().map(|&t| {
                let (bits, value) = self.gaps[usize::from(t)];
                // A gap that does not fit lies past the end of any chunk.
                let gap = (u64::from(value) << shift) + raw.take(bits + shift);
                u32::try_from(gap).unwrap_or(u32::MAX)
            }));
            if !self.place(class, len, classes, places) {
                return Err(Error::corrupt("a change lies past the end of its chunk"));
            }
            for (&place, &token) in places.iter().zip(values) {
                let (bits, value) =
                    self.values.get(usize::from(token)).copied().unwrap_or_default();
                let value = value.wrapping_add(raw.take(bits) << self.raw_shift);
                let at = place as usize * W::BYTES;
                let (p, o) = (&predictions[at..at + W::BYTES], &mut out[at..at + W::BYTES]);
                W::store(restore::<W>(value & W::MASK, W::load(p), self.float), o);
            }
        }
        if !raw.bytes.is_exact(raw.position) {
            return Err(Error::corrupt("raw bits do not end where they should"));
        }
        Ok(())
    }

    /// Turns gaps into positions; returns whether all are within the chunk.
    fn place(&self, class: u8, len: usize, classes: &[u8], places: &mut [u32]) -> bool {
        if !self.is_plain() {
            return simd::select(self.simd, classes, class, places);
        }
        let mut next = 0u64;
        for place in places.iter_mut() {
            let at = next + u64::from(*place);
            if at >= len as u64 {
                return false;
            }
            // Below `len`, which fits.
            *place = at as u32;
            next = at + 1;
        }
        true
    }
}

/// Fills in the classes of a chunk, run by run.
///
/// By `fill(class map, elements, classes)`.
pub(in crate::lossless) fn fill_classes(
    maps: &[[u8; KEYS]],
    runs: &[Run],
    profiles: &[u8],
    classes: &mut Vec<u8>,
    mut fill: impl FnMut(&[u8; KEYS], std::ops::Range<usize>, &mut [u8]),
) {
    let len = runs.last().map_or(0, |r| r.start + r.len);
    classes.resize(len, 0);
    // Neighbouring runs of one profile are one.
    let mut rest = &mut classes[..];
    let mut list = runs.iter().zip(profiles).peekable();
    while let Some((run, &profile)) = list.next() {
        let mut end = run.start + run.len;
        while let Some((next, _)) = list.next_if(|next| *next.1 == profile) {
            end = next.start + next.len;
        }
        let (these, others) = std::mem::take(&mut rest).split_at_mut(end - run.start);
        rest = others;
        fill(&maps[usize::from(profile) % maps.len().max(1)], run.start..end, these);
    }
}
