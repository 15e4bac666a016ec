//! Grouping: jobs sorted into units.

use super::choose::Bench;
use super::examine::Pair;
use super::job::{
    Chosen, Counts, Encoders, Job, OWN_UNIT, Part, Plan, SegmentPlan, StoredPlan, UnitPlan,
};
use super::report::ChoiceReport;
use crate::settings::Settings;
use sparse_container::{BaseEntry, Piece, PieceSource};
use sparse_core::{Dtype, Error, ErrorKind, Result, Segment, UnitSpec};
use sparse_model::Checkpoint;
use sparse_select::Scheme;
use std::collections::BTreeMap;

/// Elements that are looked at to see which small tensors should share a unit.
const AFFINITY_SAMPLE: u64 = 1024;

/// Groups the jobs of all tensors into units.
pub(super) fn group(
    bench: Bench<'_>,
    parts: Vec<Vec<Part>>,
    encoders: Encoders,
    choices: Vec<ChoiceReport>,
) -> Result<Plan> {
    let Bench { pair, settings, .. } = bench;
    let mut builder = Builder {
        pair,
        settings,
        bases: Vec::new(),
        base_index: BTreeMap::new(),
        groups: BTreeMap::new(),
        own: Vec::new(),
        encoders: encoders.list,
    };
    let mut counts = Counts::default();
    for (tensor, parts) in parts.iter().enumerate() {
        let coded = |with_base: bool| {
            parts.iter().any(|p| match p {
                Part::Code(job) => job.base.is_some() == with_base,
                Part::Store { .. } => !with_base,
                Part::Copy { .. } => false,
            })
        };
        counts.explained +=
            u64::from(parts.iter().any(|p| matches!(p, Part::Code(job) if job.module.is_some())));
        match (coded(true), coded(false)) {
            _ if pair.matches[tensor].tied.is_some() => counts.identical += 1,
            (true, _) => counts.against_base += 1,
            (false, true) if parts.len() > 1 => counts.against_base += 1,
            (false, true) => counts.standalone += 1,
            (false, false) => counts.identical += 1,
        }
    }
    // File order, so that restoring a file goes through each unit from front to back.
    let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); parts.len()];
    let mut parts: Vec<Option<Vec<Part>>> = parts.into_iter().map(Some).collect();
    let mut places: Vec<(usize, usize, Place)> = Vec::new();
    let mut stored = Vec::new();
    for tensor in file_order(pair.target) {
        for part in parts[tensor].take().unwrap_or_default() {
            let position = pieces[tensor].len();
            let (len, place) = match part {
                Part::Copy { base, start, len } => {
                    let source = PieceSource::Base { base: builder.base(base)?, offset: start };
                    pieces[tensor].push(Piece { len, source });
                    continue;
                }
                Part::Store { start, len } => {
                    stored.push(StoredPlan { tensor, piece: position, start, len });
                    // The blob is written at the end only.
                    let source = PieceSource::Unit { unit: 0, segment: 0, offset: 0 };
                    pieces[tensor].push(Piece { len, source });
                    continue;
                }
                Part::Code(job) => (job.segment.len(), builder.add(job)?),
            };
            // The unit's number is known at the end only.
            let source = PieceSource::Unit { unit: 0, segment: 0, offset: 0 };
            pieces[tensor].push(Piece { len, source });
            places.push((tensor, position, place));
        }
    }
    let (units, numbers) = builder.units()?;
    for (tensor, position, place) in places {
        let unit = numbers[&place.group];
        pieces[tensor][position].source =
            PieceSource::Unit { unit, segment: place.segment, offset: 0 };
    }
    Ok(Plan { bases: builder.bases, units, pieces, stored, summary: counts, choices })
}

/// Returns the target's tensors in the order in which they lie in its files.
pub(crate) fn file_order(model: &dyn Checkpoint) -> Vec<usize> {
    let mut order: Vec<usize> = (0..model.tensors().len()).collect();
    order.sort_by_key(|&t| model.location(t).map(|l| (l.file, l.offset)));
    order
}

/// What decides which unit a segment goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// Shared with others of these types, this encoder and this affinity.
    Shared(Dtype, Option<Dtype>, u32, u32),
    /// For an encoder that holds the whole unit in memory; numbered.
    Held(Dtype, Option<Dtype>, u32, usize),
    /// Unit of its own.
    Own(usize),
}

#[derive(Clone, Copy, Debug)]
struct Place {
    group: Group,
    segment: u32,
}

struct Builder<'a> {
    pair: &'a Pair<'a>,
    settings: &'a Settings,
    bases: Vec<BaseEntry>,
    base_index: BTreeMap<usize, u32>,
    groups: BTreeMap<Group, Vec<(Segment, SegmentPlan)>>,
    own: Vec<Group>,
    encoders: Vec<Option<Chosen>>,
}

impl Builder<'_> {
    /// Returns the number of the base entry for a tensor of the base.
    fn base(&mut self, tensor: usize) -> Result<u32> {
        if let Some(&number) = self.base_index.get(&tensor) {
            return Ok(number);
        }
        let number = u32::try_from(self.bases.len()).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "there are more than 2^32 tensors")
        })?;
        self.bases.push(self.pair.base_entry(tensor)?);
        self.base_index.insert(tensor, number);
        Ok(number)
    }

    fn add(&mut self, job: Job) -> Result<Place> {
        let base_dtype = match (job.base, self.pair.base) {
            (Some(base), Some(model)) => Some(model.tensors()[base].spec.dtype()),
            _ => None,
        };
        let base = match job.base {
            Some(base) => Some((base, self.base(base)?)),
            None => None,
        };
        let number = job.encoder;
        let scheme = self.chosen(number)?.scheme.clone();
        let group = if scheme.max_unit_len(job.dtype).is_some() {
            let group = |n| Group::Held(job.dtype, base_dtype, number, n);
            let filled = |n| {
                let segments = self.groups.get(&group(n));
                let lens = |s: &Vec<(Segment, SegmentPlan)>| s.iter().map(|s| s.0.len()).sum();
                segments.map_or(0u64, lens)
            };
            let room = |n: &usize| filled(*n) == 0 || filled(*n) + job.segment.len() <= OWN_UNIT;
            group((0..).find(room).unwrap_or_default())
        } else if job.alone || job.is_large() {
            let group = Group::Own(self.own.len());
            self.own.push(Group::Shared(job.dtype, base_dtype, number, 0));
            group
        } else {
            Group::Shared(job.dtype, base_dtype, number, self.affinity(&job, &*scheme)?)
        };
        let segments = self.groups.entry(group).or_default();
        let place = Place { group, segment: segments.len() as u32 };
        let Job { tensor, start, base_start, module, .. } = job;
        segments.push((job.segment, SegmentPlan { tensor, start, base, base_start, module }));
        Ok(place)
    }

    /// Returns which small tensors it may share a unit with.
    ///
    /// By its first elements.
    fn affinity(&self, job: &Job, scheme: &dyn Scheme) -> Result<u32> {
        let width = job.dtype.storage_bytes();
        scheme.affinity(job.dtype, &mut || {
            let mut sample = vec![0; job.segment.len().min(AFFINITY_SAMPLE) as usize * width];
            let offset = job.start * width as u64;
            self.pair.target.read_range_into(job.tensor, offset, &mut sample)?;
            Ok(sample)
        })
    }

    fn chosen(&self, number: u32) -> Result<&Chosen> {
        let missing = || Error::invalid_argument("a codec that needs a setting was given none");
        self.encoders.get(number as usize).and_then(Option::as_ref).ok_or_else(missing)
    }

    fn units(&mut self) -> Result<(Vec<UnitPlan>, BTreeMap<Group, u32>)> {
        let mut units = Vec::new();
        let mut numbers = BTreeMap::new();
        for (group, segments) in std::mem::take(&mut self.groups) {
            let kind = if let Group::Own(i) = group { self.own[i] } else { group };
            let (number, dtype, base_dtype) = match kind {
                Group::Shared(dtype, base, number, _) | Group::Held(dtype, base, number, _) => {
                    (number, dtype, base)
                }
                Group::Own(_) => continue,
            };
            let Chosen { scheme, encoder } = self.chosen(number)?.clone();
            let (shapes, segments): (Vec<_>, Vec<_>) = segments.into_iter().unzip();
            numbers.insert(group, units.len() as u32);
            units.push(UnitPlan {
                scheme,
                encoder,
                spec: UnitSpec::new(dtype, base_dtype, self.settings.chunk_len, shapes)?,
                segments,
            });
        }
        Ok((units, numbers))
    }
}
