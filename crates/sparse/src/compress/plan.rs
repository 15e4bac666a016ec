//! What is to be coded how: tensors sorted into units.

use super::hint;
use super::pair::{Pair, equal_prefix};
use super::select::{Bar, ChoiceReport, Trials, select, try_jobs};
use super::trial::Bench;
use crate::Options;
use crate::context::Contexts;
use crate::reference::References;
use sparse_codecs::lossless::{Lossless, widened_from};
use sparse_codecs::low_rank::{LowRank, looks_low_rank};
use sparse_codecs::svd::Svd;
use sparse_container::{BaseEntry, BaseStart, Piece, PieceSource};
use sparse_core::{
    BaseUse, DeltaDecoder, DeltaEncoder, Dtype, DtypeClass, Effort, Error, ErrorKind, Result,
    Segment, TensorSource, TensorSpec, UnitSpec,
};
use sparse_model::{Counterpart, Model};
use sparse_select::{Candidate, Policy, Sampler};
use std::collections::BTreeMap;
use std::sync::Arc;

/// From this many elements on, a tensor is a unit of its own: its tables cost nothing in
/// comparison.
pub(super) const OWN_UNIT: u64 = 4 << 20;

/// Rows that are looked at to see whether a change is of low rank.
const LOW_RANK_ROWS: u64 = 256;

/// Elements that are looked at to see whether a tensor is widened from a narrower type.
const WIDENED_SAMPLE: u64 = 1024;

/// Elements that are looked at to decide whether a base helps.
const TRIAL: u64 = 1 << 15;

/// The plan of a delta: everything about it but the payload.
pub(crate) struct Plan {
    pub(crate) bases: Vec<BaseEntry>,
    pub(crate) units: Vec<UnitPlan>,
    /// Per tensor of the target.
    pub(crate) pieces: Vec<Vec<Piece>>,
    pub(crate) summary: Counts,
    /// How tensors came to their codecs, where the policy gives a choice.
    pub(crate) choices: Vec<ChoiceReport>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) identical: u64,
    pub(crate) against_base: u64,
    pub(crate) standalone: u64,
    /// Tensors whose change a module of the adapter explains.
    pub(crate) explained: u64,
}

/// A unit, and where its segments' bytes are.
pub(crate) struct UnitPlan {
    pub(crate) encoder: Arc<dyn DeltaEncoder>,
    pub(crate) spec: UnitSpec,
    pub(crate) segments: Vec<SegmentPlan>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentPlan {
    /// Tensor of the target, and the first storage element in it.
    pub(crate) tensor: usize,
    pub(crate) start: u64,
    /// Tensor of the base (from the same element on), and its place in the list of base entries.
    pub(crate) base: Option<(usize, u32)>,
    /// The module of the adapter that explains the change.
    pub(crate) module: Option<usize>,
}

impl UnitPlan {
    pub(crate) fn base_starts(&self) -> Vec<BaseStart> {
        let start = |s: &SegmentPlan| s.base.map(|(_, base)| BaseStart { base, offset: s.start });
        self.segments.iter().filter_map(start).collect()
    }
}

/// What codes a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Lossless,
    /// Lossless too, for changes of low rank.
    LowRank,
    /// One of the encoders that the policy chose.
    Lossy(u32),
}

/// A run of rows of a target tensor that is to be coded.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) tensor: usize,
    pub(super) start: u64,
    pub(super) segment: Segment,
    pub(super) dtype: Dtype,
    pub(super) base: Option<usize>,
    pub(super) coding: Coding,
    /// Whether it is a unit of its own, whatever its size.
    pub(super) alone: bool,
    /// The module of the adapter that explains the change.
    pub(super) module: Option<usize>,
}

/// How one tensor is made up.
#[derive(Clone)]
pub(super) enum Part {
    /// So many elements from the start of a base tensor.
    Copy { base: usize, len: u64 },
    /// Coded.
    Code(Job),
}

/// Plan by the policy. Where it spreads bytes, the whole of its budget is for the weights.
pub(crate) fn plan(pair: &Pair<'_>, options: &Options) -> Result<Plan> {
    let budget = match options.policy {
        Policy::TargetSize(bytes) => Some(bytes),
        _ => None,
    };
    plan_within(pair, options, &Tried::new(pair, options)?, budget, &[])
}

/// What plans are made from: how tensors are made up, and what was tried for their parts.
pub(super) struct Tried {
    parts: Vec<Vec<Part>>,
    trials: Trials,
}

impl Tried {
    /// See [`Trials::least_bytes`].
    pub(super) fn least_bytes(&self) -> u64 {
        self.trials.least_bytes()
    }

    pub(super) fn new(pair: &Pair<'_>, options: &Options) -> Result<Tried> {
        let contexts = Contexts::new(options);
        let parts = options.executor().try_map(pair.target.tensors().len(), |tensor| {
            parts(pair, tensor, options, &contexts)
        })?;
        let references = References::new(pair.base, pair.target, &pair.matches);
        let bench = Bench { pair, references: &references, options, contexts: &contexts };
        let trials = try_jobs(bench, &parts)?;
        Ok(Tried { parts, trials })
    }
}

/// As [`plan`]; `budget` is what the weights may take, and `bars` are what was found out by tensor.
pub(super) fn plan_within(
    pair: &Pair<'_>,
    options: &Options,
    tried: &Tried,
    budget: Option<u64>,
    bars: &[Bar],
) -> Result<Plan> {
    let mut parts = tried.parts.clone();
    let (encoders, choices) =
        select(pair, &mut parts, &tried.trials, &options.policy, budget, bars)?;
    let mut builder = Builder {
        pair,
        options,
        bases: Vec::new(),
        base_index: BTreeMap::new(),
        groups: BTreeMap::new(),
        own: Vec::new(),
        encoders: encoders.list,
    };
    let mut counts = Counts::default();
    for (tensor, parts) in parts.iter().enumerate() {
        let coded = |with_base: bool| {
            parts.iter().any(|p| matches!(p, Part::Code(job) if job.base.is_some() == with_base))
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
    for tensor in file_order(pair.target) {
        for part in parts[tensor].take().unwrap_or_default() {
            let position = pieces[tensor].len();
            let (len, place) = match part {
                Part::Copy { base, len } => {
                    let source = PieceSource::Base { base: builder.base(base)?, offset: 0 };
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
    for (tensor, m) in pair.matches.iter().enumerate() {
        if let Some(first) = m.tied {
            pieces[tensor] = pieces[first].clone();
        }
    }
    Ok(Plan { bases: builder.bases, units, pieces, summary: counts, choices })
}

/// The target's tensors in the order in which they lie in its files.
pub(crate) fn file_order(model: &Model) -> Vec<usize> {
    let mut order: Vec<usize> = (0..model.tensors().len()).collect();
    order.sort_by_key(|&t| model.location(t).map(|l| (l.file, l.offset)));
    order
}

/// Decide how tensor `tensor` is made up.
fn parts(
    pair: &Pair<'_>,
    tensor: usize,
    options: &Options,
    contexts: &Contexts,
) -> Result<Vec<Part>> {
    options.cancel.check()?;
    let m = &pair.matches[tensor];
    let spec = &pair.target.tensors()[tensor].spec;
    let segment = Segment::of(spec);
    if segment.is_empty() || m.tied.is_some() {
        return Ok(Vec::new());
    }
    let (dtype, coding) = (spec.dtype(), Coding::Lossless);
    let whole =
        |base| Job { tensor, start: 0, segment, dtype, base, coding, alone: false, module: None };
    let Some((base_model, base)) = pair.base.zip(m.counterpart.base()) else {
        return Ok(vec![Part::Code(whole(None))]);
    };
    let base_spec = &base_model.tensors()[base].spec;
    let same_type = base_spec.dtype() == spec.dtype();
    let common = match m.counterpart {
        Counterpart::Rows { rows, .. } => {
            let all = spec.shape().first().copied().unwrap_or(1).max(1);
            spec.storage_len() / all * rows
        }
        _ => spec.storage_len(),
    };
    // Tensors whose digests differ need no comparison; where nothing was hashed, none is wanted.
    let may_be_equal = match pair.digests.get(tensor) {
        Some(digest) => common < spec.storage_len() || pair.base_digests.get(&base) == Some(digest),
        None => false,
    };
    let common_bytes = common * spec.dtype().storage_bytes() as u64;
    let mut parts = Vec::new();
    if same_type
        && may_be_equal
        && equal_prefix((pair.target, tensor), (base_model, base), common_bytes, options)?
    {
        parts.push(Part::Copy { base, len: common });
    } else if common % segment.row_len == 0 {
        let rows = Segment { rows: common / segment.row_len, row_len: segment.row_len };
        let job = Job { segment: rows, ..whole(Some(base)) };
        if base_helps(pair, &job, base_spec, options, contexts)? {
            let module = hint::explanation(pair, tensor, base, rows, options)?;
            let low_rank = module.is_some()
                || options.effort != Effort::Fast
                    && is_low_rank(pair, &job, base_spec, options.effort, contexts)?;
            let coding = if low_rank { Coding::LowRank } else { Coding::Lossless };
            let most =
                if low_rank { hint::most_elements(job.dtype) / rows.row_len } else { rows.rows };
            // What is more than the encoder takes is coded in parts.
            let count = rows.rows.div_ceil(most.max(1)).max(1);
            for i in 0..count {
                let (first, end) = (i * rows.rows / count, (i + 1) * rows.rows / count);
                let segment = Segment { rows: end - first, row_len: rows.row_len };
                let start = first * rows.row_len;
                parts.push(Part::Code(Job { start, segment, coding, module, ..job }));
            }
        } else {
            return Ok(vec![Part::Code(whole(None))]);
        }
    } else {
        return Ok(vec![Part::Code(whole(None))]);
    }
    if common < spec.storage_len() {
        let rest = Segment::of(&TensorSpec::new(spec.dtype(), rest_of(spec, common))?);
        parts.push(Part::Code(Job { start: common, segment: rest, ..whole(None) }));
    }
    Ok(parts)
}

/// The shape of what follows the first `common` storage elements, a whole number of rows.
fn rest_of(spec: &TensorSpec, common: u64) -> Vec<u64> {
    let mut shape = spec.shape().to_vec();
    let per_entry = spec.storage_len() / shape[0].max(1);
    shape[0] -= common / per_entry.max(1);
    shape
}

/// Whether the change looks like a merged adapter, by a sample of rows.
fn is_low_rank(
    pair: &Pair<'_>,
    job: &Job,
    base_spec: &TensorSpec,
    effort: Effort,
    contexts: &Contexts,
) -> Result<bool> {
    let (Some(base_model), Some(base)) = (pair.base, job.base) else { return Ok(false) };
    let Segment { rows, row_len } = job.segment;
    if base_spec.dtype() != job.dtype
        || 32 * row_len > hint::most_elements(job.dtype)
        || rows < 32
        || row_len < 32
    {
        return Ok(false);
    }
    // Evenly spread rows: which ones an adapter changed is not known.
    let row_bytes = row_len as usize * job.dtype.storage_bytes();
    let count = rows.min(LOW_RANK_ROWS);
    let (mut target, mut of_base) =
        (vec![0; count as usize * row_bytes], vec![0; count as usize * row_bytes]);
    for (i, (t, b)) in (0..).zip(target.chunks_mut(row_bytes).zip(of_base.chunks_mut(row_bytes))) {
        let offset = (i * rows / count) * row_bytes as u64;
        pair.target.read_range_into(job.tensor, offset, t)?;
        base_model.read_range_into(base, offset, b)?;
    }
    contexts.with(|cx| looks_low_rank(job.dtype, row_len as usize, &target, &of_base, effort, cx))
}

/// Whether coding against the base is expected to be smaller than without: tried on a sample.
fn base_helps(
    pair: &Pair<'_>,
    job: &Job,
    base_spec: &TensorSpec,
    options: &Options,
    contexts: &Contexts,
) -> Result<bool> {
    let (Some(base_model), Some(base)) = (pair.base, job.base) else { return Ok(false) };
    let share = TRIAL as f64 / job.segment.len() as f64;
    let (shape, runs) = Sampler::new(job.tensor as u64).pick(job.segment, share);
    let read = |model: &Model, tensor: usize, width: usize| -> Result<Vec<u8>> {
        let mut out = vec![0; shape.len() as usize * width];
        let mut at = 0;
        for run in &runs {
            let len = (run.end - run.start) as usize * width;
            model.read_range_into(tensor, run.start * width as u64, &mut out[at..at + len])?;
            at += len;
        }
        Ok(out)
    };
    let target = read(pair.target, job.tensor, job.dtype.storage_bytes())?;
    let base_bytes = read(base_model, base, base_spec.dtype().storage_bytes())?;
    // Where a good part did not change at all, there is no question.
    if base_spec.dtype() == job.dtype {
        let width = job.dtype.storage_bytes();
        if count_equal(&target, &base_bytes, width) * 16 > shape.len()
            || clearly_near(job.dtype, &target, &base_bytes)
        {
            return Ok(true);
        }
    }
    let mut candidates = Vec::new();
    for base in [Some((base_spec.dtype(), &base_bytes)), None] {
        let unit = UnitSpec::new(job.dtype, base.map(|b| b.0), options.chunk_len, [shape])?;
        let base_bytes = base.map(|b| b.1.as_slice());
        let bits = contexts.with(|cx| {
            sparse_select::estimate(&Lossless, &unit, &target, base_bytes, Effort::Fast, cx)
        })?;
        if let Some(bits) = bits {
            let codec = Lossless.info().clone();
            debug_assert!(codec.base == BaseUse::Optional);
            candidates.push(Candidate {
                codec,
                with_base: base.is_some(),
                bits: bits.payload.iter().sum(),
            });
        }
    }
    Ok(Policy::Lossless.choose(&candidates).is_some_and(|c| candidates[c].with_base))
}

/// Whether the differences of floats are so short that no estimate is needed: shorter than the
/// mantissas are, which is what coding without a base leaves, unless many of them end in zeros.
fn clearly_near(dtype: Dtype, target: &[u8], base: &[u8]) -> bool {
    /// What a token takes at most beyond the length of the difference, and an exponent at least
    /// beyond its mantissa.
    const MARGIN: f64 = 4.0 - 2.0;
    fn look<const N: usize>(target: &[u8], base: &[u8]) -> (usize, u32, u32) {
        let load = |bytes: &[u8; N]| {
            let mut word = [0; 4];
            word[..N].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        };
        let (target, base) = (target.as_chunks::<N>().0, base.as_chunks::<N>().0);
        let (mut bits, mut odd) = (0, 0);
        for (t, b) in target.iter().zip(base) {
            let (t, b) = (load(t), load(b));
            // Where the sign differs, this is as long as the word.
            bits += 32 - t.abs_diff(b).leading_zeros();
            odd += t & 1;
        }
        (target.len(), bits, odd)
    }
    let DtypeClass::Float { mantissa, .. } = dtype.storage_class() else { return false };
    let (count, bits, odd) = match dtype.storage_bytes() {
        2 => look::<2>(target, base),
        4 => look::<4>(target, base),
        _ => return false,
    };
    odd as usize > count / 4 && f64::from(bits) < (f64::from(mantissa) - MARGIN) * count as f64
}

/// How many elements of so many bytes are equal.
fn count_equal(a: &[u8], b: &[u8], width: usize) -> u64 {
    fn count<const N: usize>(a: &[u8], b: &[u8]) -> u64 {
        a.as_chunks::<N>().0.iter().zip(b.as_chunks::<N>().0).filter(|(a, b)| a == b).count() as u64
    }
    match width {
        1 => count::<1>(a, b),
        2 => count::<2>(a, b),
        4 => count::<4>(a, b),
        _ => count::<8>(a, b),
    }
}

/// What decides which unit a segment goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// Shared with others of these types and this encoder, of those that the policy chose; and with
    /// what they are widened from, if they are.
    Shared(Dtype, Option<Dtype>, Option<u32>, Option<Dtype>),
    /// Changes of low rank of this type; numbered, since the encoder holds the whole unit in
    /// memory.
    LowRank(Dtype, usize),
    /// As `Shared`, for an encoder that holds the whole unit in memory; numbered.
    Held(Dtype, Option<Dtype>, Option<u32>, usize),
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
    options: &'a Options,
    bases: Vec<BaseEntry>,
    base_index: BTreeMap<usize, u32>,
    groups: BTreeMap<Group, Vec<(Segment, SegmentPlan)>>,
    own: Vec<Group>,
    encoders: Vec<Arc<dyn DeltaEncoder>>,
}

impl Builder<'_> {
    /// The number of the base entry for a tensor of the base.
    fn base(&mut self, tensor: usize) -> Result<u32> {
        if let Some(&number) = self.base_index.get(&tensor) {
            return Ok(number);
        }
        let number = u32::try_from(self.bases.len())
            .map_err(|_| Error::new(ErrorKind::LimitExceeded, "more than 2^32 tensors"))?;
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
        let lossy = match job.coding {
            Coding::Lossy(number) => Some(number),
            _ => None,
        };
        let held = lossy
            .and_then(|n| self.encoders.get(n as usize))
            .is_some_and(|e| e.info().id == Svd::ID);
        let group = if job.coding == Coding::LowRank || held {
            let group = |n| match job.coding {
                Coding::LowRank => Group::LowRank(job.dtype, n),
                _ => Group::Held(job.dtype, base_dtype, lossy, n),
            };
            let filled = |n| {
                let segments = self.groups.get(&group(n));
                segments
                    .map_or(0, |s: &Vec<(Segment, SegmentPlan)>| s.iter().map(|s| s.0.len()).sum())
            };
            let room = |n: &usize| filled(*n) == 0 || filled(*n) + job.segment.len() <= OWN_UNIT;
            group((0..).find(room).unwrap_or_default())
        } else if job.alone || job.segment.len() >= OWN_UNIT {
            let group = Group::Own(self.own.len());
            self.own.push(Group::Shared(job.dtype, base_dtype, lossy, None));
            group
        } else {
            Group::Shared(job.dtype, base_dtype, lossy, self.widened_from(&job)?)
        };
        let segments = self.groups.entry(group).or_default();
        let place = Place { group, segment: segments.len() as u32 };
        segments.push((
            job.segment,
            SegmentPlan { tensor: job.tensor, start: job.start, base, module: job.module },
        ));
        Ok(place)
    }

    /// The type that a tensor seems to be widened from, by its first elements: those that are can
    /// share a unit which is coded in that type.
    fn widened_from(&self, job: &Job) -> Result<Option<Dtype>> {
        if job.coding != Coding::Lossless || !matches!(job.dtype, Dtype::F32 | Dtype::F64) {
            return Ok(None);
        }
        let width = job.dtype.storage_bytes();
        let mut sample = vec![0; job.segment.len().min(WIDENED_SAMPLE) as usize * width];
        self.pair.target.read_range_into(job.tensor, job.start * width as u64, &mut sample)?;
        Ok(widened_from(job.dtype, &sample))
    }

    fn units(&mut self) -> Result<(Vec<UnitPlan>, BTreeMap<Group, u32>)> {
        let mut units = Vec::new();
        let mut numbers = BTreeMap::new();
        for (group, segments) in std::mem::take(&mut self.groups) {
            let kind = if let Group::Own(i) = group { self.own[i] } else { group };
            let (encoder, dtype, base_dtype): (Arc<dyn DeltaEncoder>, _, _) = match kind {
                Group::LowRank(dtype, _) => (Arc::new(LowRank), dtype, Some(dtype)),
                Group::Shared(dtype, base_dtype, lossy, _)
                | Group::Held(dtype, base_dtype, lossy, _) => {
                    let chosen =
                        lossy.and_then(|number| self.encoders.get(number as usize)).cloned();
                    (chosen.unwrap_or_else(|| Arc::new(Lossless)), dtype, base_dtype)
                }
                Group::Own(_) => continue,
            };
            let (shapes, segments): (Vec<_>, Vec<_>) = segments.into_iter().unzip();
            numbers.insert(group, units.len() as u32);
            units.push(UnitPlan {
                encoder,
                spec: UnitSpec::new(dtype, base_dtype, self.options.chunk_len, shapes)?,
                segments,
            });
        }
        Ok((units, numbers))
    }
}
