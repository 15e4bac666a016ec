//! The records that pass from stage to stage.

use super::report::ChoiceReport;
use crate::settings::Settings;
use sparse_container::{BaseEntry, BaseStart, Piece};
use sparse_core::{DeltaEncoder, Dtype, Observer, Segment, UnitSpec};
use sparse_model::Checkpoint;
use sparse_select::{LosslessSchemes, Scheme};
use std::sync::Arc;

/// From this many elements on, a tensor is a unit of its own: its tables cost nothing in
/// comparison.
pub(super) const OWN_UNIT: u64 = 4 << 20;

/// The largest unit of an encoder that holds it in memory, in tests.
pub(super) const TEST_UNIT_BYTES: u64 = 1 << 14;

/// What is compressed, and how.
#[derive(Clone, Copy)]
pub(crate) struct Compressing<'a> {
    pub(crate) base: Option<&'a dyn Checkpoint>,
    pub(crate) target: &'a dyn Checkpoint,
    pub(crate) settings: &'a Settings,
    pub(crate) observer: &'a dyn Observer,
}

/// A run of rows of a target tensor that is to be coded.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Tensor of the target, and the first storage element in it.
    pub(super) tensor: usize,
    pub(super) start: u64,
    pub(super) segment: Segment,
    pub(super) dtype: Dtype,
    /// Tensor of the base that it is coded against.
    pub(super) base: Option<usize>,
    /// First storage element in that.
    pub(super) base_start: u64,
    /// What codes it if nothing is lost.
    pub(super) lossless: LosslessSchemes,
    /// The encoder, by its number in [`Encoders`]: after selection.
    pub(super) encoder: u32,
    /// Whether it is a unit of its own, whatever its size.
    pub(super) alone: bool,
    /// The module of the adapter that explains the change.
    pub(super) module: Option<usize>,
}

impl Job {
    /// Returns true if it is a unit of its own by its size.
    pub(super) fn is_large(&self) -> bool {
        self.segment.len() >= OWN_UNIT
    }
}

/// How one part of a tensor is made up.
#[derive(Clone)]
pub(super) enum Part {
    /// `len` elements of a base tensor, from `start` on.
    Copy { base: usize, start: u64, len: u64 },
    /// `len` elements from `start` on, stored by a general compressor.
    Store { start: u64, len: u64 },
    /// Coded.
    Code(Job),
}

/// An encoder, and the scheme that it is of.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) scheme: Arc<dyn Scheme>,
    pub(super) encoder: Arc<dyn DeltaEncoder>,
}

/// All encoders in use: first those of the schemes without a setting, in their order, then those
/// that the policy chose.
#[derive(Default)]
pub(super) struct Encoders {
    pub(super) names: Vec<String>,
    pub(super) list: Vec<Option<Chosen>>,
}

/// The plan of a delta: everything about it but the payload.
pub(crate) struct Plan {
    pub(crate) bases: Vec<BaseEntry>,
    pub(crate) units: Vec<UnitPlan>,
    /// Per tensor of the target; those that are stored are to be filled in, and none of a tensor
    /// that is the same as another.
    pub(crate) pieces: Vec<Vec<Piece>>,
    pub(crate) stored: Vec<StoredPlan>,
    pub(crate) summary: Counts,
    /// How tensors came to their codecs, where the policy gives a choice.
    pub(crate) choices: Vec<ChoiceReport>,
}

/// Part of a tensor of the target that is stored by a general compressor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredPlan {
    pub(crate) tensor: usize,
    /// Its place among the tensor's pieces.
    pub(crate) piece: usize,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// How many tensors are made up in which way.
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
    pub(crate) scheme: Arc<dyn Scheme>,
    pub(crate) encoder: Arc<dyn DeltaEncoder>,
    pub(crate) spec: UnitSpec,
    pub(crate) segments: Vec<SegmentPlan>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentPlan {
    /// Tensor of the target, and the first storage element in it.
    pub(crate) tensor: usize,
    pub(crate) start: u64,
    /// Tensor of the base, and its place in the list of base entries.
    pub(crate) base: Option<(usize, u32)>,
    /// First storage element in that.
    pub(crate) base_start: u64,
    /// The module of the adapter that explains the change.
    pub(crate) module: Option<usize>,
}

impl UnitPlan {
    pub(crate) fn base_starts(&self) -> Vec<BaseStart> {
        let start =
            |s: &SegmentPlan| s.base.map(|(_, base)| BaseStart { base, offset: s.base_start });
        self.segments.iter().filter_map(start).collect()
    }
}
