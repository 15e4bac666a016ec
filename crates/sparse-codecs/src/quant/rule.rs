//! The rule that maps differences to small integers and back, which the parameter block of a
//! quantised unit holds.
//!
//! A *code* encodes a weight's change. Zero keeps the base. Other codes count steps, of one size
//! per segment or per group of rows. Where the type is no finer than the step, they count units in
//! the last place, which is exact and takes no more codes. The code below the lowest means that the
//! word is stored.

use crate::entropy::{bytes, varint};
use crate::real::Real;
use crate::word::{Word, difference, restore};
use sparse_core::{Error, Result, Segment, UnitSpec};

/// Least number of elements in a group of rows that share a step.
const GROUP_MIN: u64 = 512;

/// Logarithm to base 2 of about the largest number of groups.
const MAX_GROUPS_LOG2: u32 = 20;

/// Mantissa bits of a segment's step.
pub(super) const STEP_BITS: u32 = 7;

/// Parts of a step in which reconstruction points are moved.
pub(super) const SHIFT_PARTS: f64 = 128.0;

/// Rule by which codes are decoded.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    /// Codes count steps of a size.
    Steps(Steps),
    /// Codes count `2 k + 1` units in the last place.
    Ulps(u32),
}

/// Sizes of steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Steps {
    /// True if each group of rows has a step, false if each segment has one.
    pub(super) by_rows: bool,
    /// Whether units in the last place are counted where they are no smaller than the step.
    pub(super) lattice: bool,
    /// By how much the reconstruction points of codes 1 and -1, and of all others, lie nearer to
    /// zero, in parts of a step.
    pub(super) shifts: [i8; 2],
    /// Largest code, in magnitude.
    pub(super) max_code: u64,
    /// The upper half of the step's binary32, for each group. Zero for differences in units in the
    /// last place.
    pub(super) codes: Vec<u16>,
}

/// Mapping from rows to groups.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// First group of each segment, and rows to a group.
    segments: Vec<(usize, u64)>,
    pub(super) count: usize,
}

impl Groups {
    pub(super) fn new(unit: &UnitSpec, by_rows: bool) -> Groups {
        let least = GROUP_MIN.max(unit.len() >> MAX_GROUPS_LOG2);
        let mut count = 0;
        let segments = unit.segments().iter().map(|s| {
            let Segment { rows, row_len } = *s;
            let first = count;
            let rows_to_group = if by_rows { least.div_ceil(row_len.max(1)) } else { rows.max(1) };
            if !s.is_empty() {
                count += rows.div_ceil(rows_to_group) as usize;
            }
            (first, rows_to_group)
        });
        let segments = segments.collect();
        Groups { segments, count }
    }

    /// Returns the memory taken, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.segments)
    }

    pub(super) fn of(&self, segment: usize, row: u64) -> usize {
        self.segments.get(segment).map_or(0, |&(first, rows)| first + (row / rows) as usize)
    }

    /// Returns the groups of a segment.
    pub(super) fn of_segment(&self, segment: usize) -> std::ops::Range<usize> {
        let first = |i: usize| self.segments.get(i).map_or(self.count, |s| s.0);
        first(segment)..first(segment + 1)
    }
}

impl Rule {
    /// Appends the serial form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Rule::Ulps(k) => {
                out.push(2);
                varint::put(out, u64::from(*k));
            }
            Rule::Steps(s) => {
                out.push(u8::from(s.by_rows) << 7 | u8::from(s.lattice) << 6);
                out.extend(s.shifts.map(|s| s as u8));
                varint::put(out, s.max_code);
                bytes::pack(&s.codes.iter().map(|c| (c >> 8) as u8).collect::<Vec<u8>>(), out);
                bytes::pack(&s.codes.iter().map(|&c| c as u8).collect::<Vec<u8>>(), out);
            }
        }
    }

    /// Estimates the serial form's bytes for `growth` times as many steps like these.
    pub(super) fn grown_bytes(&self, growth: f64) -> f64 {
        let mut head = Vec::new();
        let Rule::Steps(s) = self else {
            self.write(&mut head);
            return head.len() as f64;
        };
        Rule::Steps(Steps { codes: Vec::new(), ..s.clone() }).write(&mut head);
        let halves: [fn(u16) -> u8; 2] = [|c| (c >> 8) as u8, |c| c as u8];
        let sizes = halves.map(|half| {
            bytes::grown_len(&s.codes.iter().map(|&c| half(c)).collect::<Vec<u8>>(), growth)
        });
        head.len() as f64 + sizes.iter().sum::<f64>()
    }

    /// Takes the serial form off the front of `input`.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(super) fn read(
        input: &mut &[u8],
        unit: &UnitSpec,
        groups: impl Fn(bool) -> Groups,
    ) -> Result<(Rule, Groups)> {
        let flags = varint::take_bytes(input, 1, "rule")?[0];
        if flags == 2 {
            let k = varint::take_max(input, u64::from(u32::MAX >> 1), "bound")? as u32;
            return Ok((Rule::Ulps(k), groups(false)));
        }
        if flags & 0x3f != 0 {
            return Err(Error::corrupt(format!("unknown rule {flags}")));
        }
        let by_rows = flags & 0x80 != 0;
        let shifts = varint::take_bytes(input, 2, "shifts")?;
        let shifts = [shifts[0] as i8, shifts[1] as i8];
        let most = (1u64 << (8 * unit.dtype().storage_bytes() - 1)) - 1;
        let max_code = varint::take_max(input, most, "largest code")?;
        let groups = groups(by_rows);
        let high = bytes::unpack(input, groups.count)?;
        let low = bytes::unpack(input, groups.count)?;
        let codes: Vec<u16> =
            high.iter().zip(&low).map(|(&h, &l)| u16::from_le_bytes([l, h])).collect();
        if let Some(bad) = codes.iter().find(|&&c| c != 0 && !(0x80..0x7f80).contains(&c)) {
            return Err(Error::corrupt(format!("step {bad:#06x} is not a positive number")));
        }
        let lattice = flags & 0x40 != 0;
        Ok((Rule::Steps(Steps { by_rows, lattice, shifts, max_code, codes }), groups))
    }
}

/// Returns the code of the least step that is not smaller than `step`.
///
/// It has at most `bits` mantissa bits; zero for no positive number.
pub(super) fn step_code(step: f64, bits: u32) -> u16 {
    if step.is_nan() || step <= 0.0 {
        return 0;
    }
    let wide = (step as f32).to_bits().clamp(0x0080_0000, 0x7f00_0000);
    let unit = 1u32 << (23 - bits);
    // At most one binary32 below, if the conversion rounded down, which no one will miss.
    ((wide.saturating_add(unit - 1) & !(unit - 1)) >> 16) as u16
}

/// A step, made ready for one type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Zero if codes are units in the last place.
    pub(super) size: f64,
    pub(super) inverse: f64,
    /// Exponent field from which units in the last place are at least as large as the step.
    pub(super) lattice_from: i32,
    /// Reconstruction points of codes 1 and 2, relative to the step, and of all codes above 2 less
    /// the code.
    shifts: [f64; 2],
    pub(super) max_code: u64,
}

impl Step {
    pub(super) fn new<R: Real>(steps: &Steps, group: usize) -> Step {
        let bits = u32::from(steps.codes.get(group).copied().unwrap_or(0)) << 16;
        let size = f64::from(f32::from_bits(bits));
        let ceil_log2 = (bits >> 23) as i32 - 127 + i32::from(bits & 0x7f_ffff != 0);
        // Subnormals are spaced as the least normal numbers.
        let from = ceil_log2 + R::BIAS + R::MANTISSA as i32;
        let lattice_from = if from <= 1 { 0 } else { from };
        Step {
            size,
            inverse: if size > 0.0 { size.recip() } else { 0.0 },
            lattice_from: if steps.lattice { lattice_from } else { i32::MAX },
            shifts: steps.shifts.map(|s| f64::from(s) / SHIFT_PARTS),
            max_code: steps.max_code,
        }
    }

    /// Returns true if all codes are units in the last place, and none means a stored word.
    #[inline(always)]
    pub(super) fn is_exact(&self) -> bool {
        self.size == 0.0
    }

    /// Returns true if codes count units in the last place at this prediction.
    #[inline(always)]
    pub(super) fn counts_ulps<R: Real>(&self, prediction: u64) -> bool {
        R::exponent(prediction) >= self.lattice_from
    }

    /// Returns the code of a stored word.
    #[inline(always)]
    pub(super) fn stored_code(&self) -> i64 {
        -(self.max_code as i64) - 1
    }

    /// Returns the word of a surrogate, unless the word is stored.
    ///
    /// The step is not exact.
    #[inline(always)]
    pub(super) fn restored<R: Real>(&self, surrogate: u64, prediction: u64) -> u64 {
        let code = ulps::<R>(surrogate, prediction);
        // Where units in the last place are counted, the surrogate is the word.
        let moves = (code != 0) & !self.counts_ulps::<R>(prediction);
        let moved = self.moved::<R>(code, prediction);
        if moves { moved } else { surrogate }
    }

    /// Moves the prediction by the reconstruction point of a code.
    ///
    /// The code is not zero and fits 32 bits.
    #[inline(always)]
    pub(super) fn moved<R: Real>(&self, code: i64, prediction: u64) -> u64 {
        let code = f64::from(code as i32);
        R::round(R::value(prediction) + self.point(code.abs()).copysign(code))
    }

    /// Returns the size of the change that a code of this magnitude encodes.
    #[inline(always)]
    pub(super) fn point(&self, magnitude: f64) -> f64 {
        let shift = if magnitude == 1.0 { self.shifts[0] } else { self.shifts[1] };
        (magnitude - shift) * self.size
    }
}

/// Computes the zigzag of a signed difference, within the width of the type.
#[inline(always)]
pub(super) fn zigzag<R: Real>(code: i64) -> u64 {
    varint::zigzag(code) & R::W::MASK
}

/// Computes the difference of a target from its prediction.
///
/// In units in the last place, mirrored, as a signed integer.
#[inline(always)]
pub(super) fn ulps<R: Real>(target: u64, prediction: u64) -> i64 {
    varint::unzigzag(difference::<R::W>(target, prediction, true))
}

/// Moves a prediction by `code` times `2 k + 1` units in the last place.
#[inline(always)]
pub(super) fn apply_ulps<R: Real>(code: i64, k: u32, prediction: u64) -> u64 {
    let unused = 64 - R::W::BITS;
    let d = code.wrapping_mul(2 * i64::from(k) + 1) << unused >> unused;
    restore::<R::W>(zigzag::<R>(d), prediction, true)
}

/// Returns the code of a stored word under [`Rule::Ulps`].
pub(super) const fn stored_ulps<R: Real>() -> i64 {
    -(1 << (<R::W as Word>::BITS - 1))
}
