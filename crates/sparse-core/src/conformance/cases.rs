//! The units that the suite codes: types, shapes, contents.

use super::data::Pattern;
use super::random::Random;
use crate::{DEFAULT_CHUNK_LEN, Dtype, Effort, Segment, UnitSpec};

/// A unit with contents.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) unit: UnitSpec,
    pub(super) effort: Effort,
    pub(super) target: Vec<u8>,
    pub(super) base: Option<Vec<u8>>,
    /// Whether to run the costlier checks too (threads, data that changes under the encoder, ...).
    pub(super) thorough: bool,
}

/// Types of target and base.
pub(super) type Pair = (Dtype, Option<Dtype>);

pub(super) const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Default, Effort::Max];

/// Returns the types of base that are tried under targets of type `dtype`.
pub(super) fn bases(dtype: Dtype) -> Vec<Option<Dtype>> {
    let mut bases = vec![None, Some(dtype)];
    bases.extend(match dtype {
        Dtype::Bf16 => vec![Some(Dtype::F32), Some(Dtype::F16), Some(Dtype::I32)],
        Dtype::F16 => vec![Some(Dtype::F32), Some(Dtype::Bf16)],
        Dtype::F32 => vec![Some(Dtype::Bf16), Some(Dtype::F16), Some(Dtype::F64)],
        Dtype::F64 => vec![Some(Dtype::F32)],
        Dtype::F8E4M3 => vec![Some(Dtype::Bf16)],
        _ => vec![],
    });
    bases
}

/// Returns true if models are made of that pair of types.
///
/// Such pairs get every shape and effort; the others share them out.
pub(super) fn is_main((dtype, base): Pair) -> bool {
    matches!(
        (dtype, base),
        (Dtype::Bf16, None | Some(Dtype::Bf16 | Dtype::F32))
            | (Dtype::F16, Some(Dtype::F16))
            | (Dtype::F32, Some(Dtype::F32))
            | (Dtype::U8, None)
    )
}

type Shape = (&'static [(u64, u64)], u32);

const D: u32 = DEFAULT_CHUNK_LEN;
/// Small tensors of many shapes, some of them empty.
const MIXED: &[(u64, u64)] =
    &[(2, 3), (0, 5), (1, 1), (3, 7), (4, 0), (1, 64), (5, 13), (9, 1), (0, 0)];

const SHAPES: &[Shape] = &[
    (&[], D),
    (&[(0, 0)], 1),
    (&[(0, 5), (3, 0)], 7),
    (&[(1, 1)], 1),
    (&[(1, 1)], D),
    (&[(1, 31)], D),
    (&[(1, 32)], D),
    (&[(1, 33)], D),
    (&[(1, 63)], 64),
    (&[(1, 64)], 64),
    (&[(1, 65)], 64),
    (&[(1, 95)], D),
    (&[(3, 32)], D),
    (&[(1, 97)], D),
    (&[(1, 127)], 64),
    (&[(2, 64)], 64),
    (&[(3, 43)], 64),
    (&[(1, 6)], 7),
    (&[(1, 7)], 7),
    (&[(1, 8)], 7),
    (&[(1, 13)], 7),
    (&[(2, 7)], 7),
    (&[(3, 5)], 7),
    (&[(1, 5)], 1),
    (&[(27, 37)], 1000),
    (&[(10, 100)], 1000),
    (&[(7, 143)], 1000),
    (&[(2, 1000)], 1000),
    (&[(3, 667)], 1000),
    (&[(31, 33)], D),
    (&[(1, 1024)], D),
    (&[(41, 25)], D),
    (&[(10, 33)], 64),
    (&[(2, 777)], 64),
    (&[(130, 1)], 64),
    (&[(2, 40), (0, 7), (1, 31), (30, 2)], 64),
    (MIXED, 1),
    (MIXED, 7),
    (MIXED, 64),
    (MIXED, 1000),
    (MIXED, D),
];

/// The shape whose contents vary: rows that cross chunks, vectors between matrices, an odd total.
const MEDIUM: Shape = (&[(20, 33), (1, 50), (0, 7), (13, 64), (1, 1), (6, 71)], 500);
/// Small enough to try every truncation and every flipped bit.
const SMALL: Shape = (&[(3, 7), (1, 12), (2, 4)], 16);
/// Large enough for tables to pay, and for estimates to mean something.
const LARGE: Shape = (&[(150, 200), (1, 777), (40, 256)], D);

fn case(pair: Pair, shape: Shape, pattern: Pattern, effort: Effort, thorough: bool) -> Case {
    let (segments, chunk_len) = shape;
    let segments: Vec<_> =
        segments.iter().map(|&(rows, row_len)| Segment { rows, row_len }).collect();
    let contents = format!("{pattern:?} {} on {}", pair.0, pair.1.map_or("nothing", Dtype::name));
    let len: u64 = segments.iter().map(Segment::len).sum();
    let name = format!(
        "{contents}, {len} elements in {} segments, chunks of {chunk_len}, {effort:?}",
        segments.len()
    );
    #[expect(clippy::expect_used, reason = "the suite's own shapes and pairs are valid")]
    let unit = UnitSpec::new(pair.0, pair.1, chunk_len, segments).expect("a valid unit");
    let (target, base) = pattern.fill(&unit, &mut Random::named(&contents));
    Case { name, unit, effort, target, base, thorough }
}

/// Returns every case of a pair that is to come back whole.
pub(super) fn round_trips(pair: Pair) -> impl Iterator<Item = Case> {
    let main = is_main(pair);
    let salt = pair.0.code() as usize + pair.1.map_or(0, |d| 1 + d.code() as usize);
    let contents = EFFORTS.into_iter().zip(0usize..).flat_map(move |(effort, e)| {
        let share = move |i: usize| (i + salt) % 3 == e;
        let chosen = move |i: usize| main || share(i) || effort == Effort::Default;
        let thorough = move |i: usize| share(i) || (main && effort == Effort::Default);
        Pattern::GENERAL
            .into_iter()
            .zip(0usize..)
            .filter(move |(_, i)| chosen(*i))
            .map(move |(pattern, i)| case(pair, MEDIUM, pattern, effort, thorough(i)))
    });
    let shapes = EFFORTS.into_iter().zip(0usize..).flat_map(move |(effort, e)| {
        let chosen = move |i: usize| main || (i + salt) % 6 == e;
        SHAPES.iter().zip(0usize..).filter(move |(_, i)| chosen(*i)).map(move |(&shape, i)| {
            let pattern = [Pattern::Gaussian, Pattern::RandomBits][(i + e + salt / 6) % 2];
            case(pair, shape, pattern, effort, false)
        })
    });
    let patterns =
        if main { &[Pattern::Gaussian, Pattern::Sparse][..] } else { &[Pattern::Gaussian] };
    let large = EFFORTS
        .into_iter()
        .filter(move |&e| main || e == Effort::Default)
        .flat_map(move |effort| patterns.iter().map(move |&p| case(pair, LARGE, p, effort, false)));
    let narrow = pair.0.storage_bytes() <= 2 && pair.1.is_none_or(|b| b.storage_bytes() <= 2);
    let exhaustive = narrow
        .then(|| case(pair, (&[(256, 256)], 20_001), Pattern::Exhaustive, Effort::Default, false));
    contents.chain(shapes).chain(large).chain(exhaustive)
}

/// Returns small cases of a pair, to be damaged in every way.
pub(super) fn small(pair: Pair) -> Vec<Case> {
    let efforts = if is_main(pair) { &EFFORTS[..] } else { &[Effort::Default] };
    let mut cases: Vec<_> =
        efforts.iter().map(|&e| case(pair, SMALL, Pattern::Gaussian, e, false)).collect();
    cases.push(case(pair, SMALL, Pattern::RandomBits, Effort::Default, false));
    cases
}

/// Returns cases that use more of a codec's modes.
///
/// They are damaged at random places.
pub(super) fn larger(pair: Pair) -> Vec<Case> {
    let patterns = [Pattern::Gaussian, Pattern::Sparse, Pattern::RowScaled];
    let count = if is_main(pair) { 3 } else { 1 };
    patterns
        .into_iter()
        .take(count)
        .map(|p| case(pair, MEDIUM, p, Effort::Default, false))
        .collect()
}

/// Returns units unlike those of [`small`] in every respect.
///
/// Parameters are bound to them by mistake.
pub(super) fn strange_units(unit: &UnitSpec) -> Vec<UnitSpec> {
    let huge = 1u64 << 40;
    let seg = |rows, row_len| Segment { rows, row_len };
    let (dtype, base, len) = (unit.dtype(), unit.base_dtype(), unit.chunk_len());
    let other_base = if base.is_some() { None } else { Some(dtype) };
    let same = unit.segments().to_vec();
    [
        UnitSpec::new(dtype, base, len, []),
        UnitSpec::new(dtype, base, len, [seg(1, 1)]),
        UnitSpec::new(dtype, base, len, [seg(700, 3)]),
        UnitSpec::new(dtype, base, 1, same.clone()),
        UnitSpec::new(dtype, base, u32::MAX, same.clone()),
        UnitSpec::new(dtype, other_base, len, same.clone()),
        UnitSpec::new(Dtype::U8, None, len, same.clone()),
        UnitSpec::new(Dtype::F64, Some(Dtype::F64), len, same.clone()),
        UnitSpec::new(Dtype::Bf16, Some(Dtype::F32), len, same),
        // Nothing of this size may be allocated or walked: a decoder's cost is bounded by what it
        // is given.
        UnitSpec::new(dtype, base, len, [seg(huge, 1)]),
        UnitSpec::new(dtype, base, len, [seg(1, huge)]),
        UnitSpec::new(dtype, base, len, [seg(1 << 20, 1 << 20), seg(0, huge), seg(huge, 0)]),
    ]
    .into_iter()
    .flatten()
    .collect()
}
