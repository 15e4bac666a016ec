//! Contents of units: weights as they occur, and as they must not be able to hurt.

use super::random::Random;
use crate::{Dtype, DtypeClass, UnitSpec};

/// How target and base of a unit are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Independent random bits: no codec can gain.
    RandomBits,
    /// NaN payloads, both zeros, infinities, subnormals and their neighbours.
    Special,
    /// N(0, 0.02) weights, N(0, 0.0001) update.
    Gaussian,
    /// Target equal to the base.
    Identical,
    /// Zero target against a random base.
    Zeroed,
    /// Both zero.
    Zero,
    /// One element of 1000 changed.
    Sparse,
    /// The update's size differs by row.
    RowScaled,
    /// Every element moved by the same number of units in the last place.
    Shift,
    /// The extremes of the type, alternating.
    Extremes,
    /// Every bit pattern of a 16-bit type against a shuffled base; every pair of an 8-bit type.
    Exhaustive,
}

impl Pattern {
    /// Those that fit a unit of any size and type.
    pub(super) const GENERAL: [Pattern; 10] = [
        Pattern::RandomBits,
        Pattern::Special,
        Pattern::Gaussian,
        Pattern::Identical,
        Pattern::Zeroed,
        Pattern::Zero,
        Pattern::Sparse,
        Pattern::RowScaled,
        Pattern::Shift,
        Pattern::Extremes,
    ];

    /// Returns the bytes of target and base.
    pub(super) fn fill(self, unit: &UnitSpec, random: &mut Random) -> (Vec<u8>, Option<Vec<u8>>) {
        let (dtype, base_dtype) = (unit.dtype(), unit.base_dtype());
        let mut target = Elements::new(dtype, unit);
        let mut base = base_dtype.map(|d| Elements::new(d, unit));
        let same_type = base_dtype == Some(dtype);
        let mut order: Vec<u64> = Vec::new();
        if self == Pattern::Exhaustive {
            order = (0..unit.len()).collect();
            random.shuffle(&mut order);
        }
        let shift = 1 + random.next() % 5;
        for run in unit.row_runs(0..unit.len()) {
            // A row that was hardly touched, one that was, ...: six orders of magnitude.
            let row_scale = 0.1f64.powi((run.row % 7) as i32);
            for i in 0..run.len {
                let weight = random.gauss() * 0.02;
                // What most patterns start from: the base's bits in the target's type.
                let plain = element(dtype, weight);
                let (t, b) = match self {
                    Pattern::RandomBits => (random.next(), random.next()),
                    Pattern::Special => {
                        (special(dtype, random), special(base_dtype.unwrap_or(dtype), random))
                    }
                    Pattern::Gaussian => (
                        element(dtype, weight + random.gauss() * 1e-4),
                        base_bits(base_dtype, weight),
                    ),
                    Pattern::Identical => (plain, base_bits(base_dtype, weight)),
                    Pattern::Zeroed => (0, base_bits(base_dtype, weight)),
                    Pattern::Zero => (0, 0),
                    Pattern::Sparse if random.below(1000) == 0 => {
                        (random.next(), base_bits(base_dtype, weight))
                    }
                    Pattern::Sparse => (plain, base_bits(base_dtype, weight)),
                    Pattern::RowScaled => (
                        element(dtype, weight + random.gauss() * 0.01 * row_scale),
                        base_bits(base_dtype, weight),
                    ),
                    // Against a base of another type the shift is from the converted value.
                    Pattern::Shift => (plain.wrapping_add(shift), base_bits(base_dtype, weight)),
                    Pattern::Extremes => {
                        let sign = 1u64 << (8 * dtype.storage_bytes() - 1);
                        let all = [u64::MAX, 0, sign, sign - 1, sign + 1, 1];
                        (
                            all[(run.column as usize + i) % 6],
                            all[(run.column as usize + i + 1 + run.row as usize) % 6],
                        )
                    }
                    Pattern::Exhaustive => {
                        let n = target.count();
                        let other = order.get(n as usize).copied().unwrap_or(0);
                        if same_type && dtype.storage_bytes() == 1 {
                            (n >> 8, n)
                        } else {
                            (n, other)
                        }
                    }
                };
                target.push(t);
                if let Some(base) = &mut base {
                    base.push(b);
                }
            }
        }
        (target.bytes, base.map(|b| b.bytes))
    }
}

/// Bytes of elements of one type.
struct Elements {
    width: usize,
    bytes: Vec<u8>,
}

impl Elements {
    fn new(dtype: Dtype, unit: &UnitSpec) -> Self {
        let width = dtype.storage_bytes();
        Elements { width, bytes: Vec::with_capacity(unit.len() as usize * width) }
    }

    fn count(&self) -> u64 {
        (self.bytes.len() / self.width) as u64
    }

    fn push(&mut self, bits: u64) {
        self.bytes.extend_from_slice(&bits.to_le_bytes()[..self.width]);
    }
}

fn base_bits(dtype: Option<Dtype>, value: f64) -> u64 {
    dtype.map_or(0, |d| element(d, value))
}

/// Returns the storage element nearest to `value`.
///
/// In thousandths for integers; the packed types get any bits.
fn element(dtype: Dtype, value: f64) -> u64 {
    match dtype.storage_class() {
        DtypeClass::Float { exponent, mantissa } => float(exponent, mantissa, value),
        DtypeClass::Integer if dtype == Dtype::Bool => u64::from(value > 0.0),
        DtypeClass::Integer => (value * 1000.0) as i64 as u64,
        DtypeClass::Opaque => value.to_bits() >> 40,
    }
}

fn float(exponent: u32, mantissa: u32, value: f64) -> u64 {
    let bits = value.to_bits();
    let sign = (bits >> 63) << (exponent + mantissa);
    let bias = (1i64 << (exponent - 1)) - 1;
    let biased = ((bits >> 52) & 0x7ff) as i64 - 1023 + bias;
    let fraction = bits & ((1 << 52) - 1);
    if value == 0.0 {
        return sign;
    }
    let (significand, drop) = if biased > 0 {
        (((biased as u64) << 52) | fraction, 52 - mantissa)
    } else {
        ((1 << 52) | fraction, (i64::from(52 - mantissa) + 1 - biased).min(63) as u32)
    };
    let half = if drop == 0 { 0 } else { 1u64 << (drop - 1) };
    let largest = (((1u64 << exponent) - 1) << mantissa) - 1;
    // Rounding may carry into the exponent, which is the right result.
    sign | (significand.saturating_add(half) >> drop).min(largest)
}

/// Returns a bit pattern at or beside one where codes tend to go wrong.
fn special(dtype: Dtype, random: &mut Random) -> u64 {
    let width = 8 * dtype.storage_bytes() as u32;
    let sign = 1u64 << (width - 1);
    let near = [0, 1, 2, u64::MAX, random.next() % 64][random.below(5)];
    let magnitude = match dtype.storage_class() {
        DtypeClass::Float { exponent, mantissa } => {
            let infinity = ((1u64 << exponent) - 1) << mantissa;
            let quiet = 1 << (mantissa - 1);
            let payload = random.next() & (quiet - 1);
            [
                0,
                infinity,
                infinity | quiet,
                infinity | payload,
                infinity | quiet | payload,
                1 << mantissa,
                payload,
            ][random.below(7)]
        }
        _ => [0, sign, 1 << (width / 2), random.next()][random.below(4)],
    };
    let negative = if random.below(2) == 0 { sign } else { 0 };
    // Exact values half of the time: the neighbours of a NaN are other NaNs.
    negative ^ if random.below(2) == 0 { magnitude } else { magnitude.wrapping_add(near) }
}

/// Computes the largest distance between two runs of elements.
///
/// In units in the last place of the ordered bit patterns.
pub(super) fn ulp_distance(dtype: Dtype, a: &[u8], b: &[u8]) -> u64 {
    let width = dtype.storage_bytes();
    let sign = 1u64 << (8 * width - 1);
    let mask = u64::MAX >> (64 - 8 * width);
    let ordered = |bytes: &[u8]| {
        let bits = bytes.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
        match dtype.storage_class() {
            DtypeClass::Float { .. } if bits & sign != 0 => !bits & mask,
            DtypeClass::Float { .. } => bits | sign,
            _ => bits,
        }
    };
    a.chunks_exact(width)
        .zip(b.chunks_exact(width))
        .map(|(a, b)| ordered(a).abs_diff(ordered(b)))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;

    #[test]
    fn floats_round_as_the_processor_does() {
        let mut random = Random::named("floats");
        for _ in 0..10_000 {
            let value = random.gauss() * 0.1f64.powi(random.below(50) as i32);
            let ours = f32::from_bits(float(8, 23, value) as u32);
            assert!(
                (f64::from(ours) - value).abs() <= (f64::from(value as f32) - value).abs(),
                "{value}"
            );
            assert_eq!(float(11, 52, value), value.to_bits());
        }
        assert_eq!(float(8, 7, 1.0), 0x3f80);
        assert_eq!(float(5, 10, 1e9), 0x7bff);
        assert_eq!(float(5, 10, -2f64.powi(-24)), 0x8001);
    }

    #[test]
    fn distances() {
        let d = |a: u16, b: u16| ulp_distance(Dtype::Bf16, &a.to_le_bytes(), &b.to_le_bytes());
        assert_eq!(d(0x3f80, 0x3f82), 2);
        assert_eq!(d(0, 0x8000), 1);
        assert_eq!(d(1, 0x8001), 3);
        assert_eq!(ulp_distance(Dtype::F64, &[0; 8], &(-0.0f64).to_le_bytes()), 1);
        assert_eq!(ulp_distance(Dtype::I8, &[3, 9], &[4, 7]), 2);
    }

    #[test]
    fn exhaustive_means_every_pattern() {
        let seg = [Segment { rows: 256, row_len: 256 }];
        let unit = UnitSpec::new(Dtype::Bf16, Some(Dtype::Bf16), 100, seg).unwrap();
        let (target, base) = Pattern::Exhaustive.fill(&unit, &mut Random::named("x"));
        for bytes in [target, base.unwrap()] {
            let all: std::collections::BTreeSet<_> = bytes.chunks_exact(2).collect();
            assert_eq!(all.len(), 65_536);
        }
        let unit = UnitSpec::new(Dtype::U8, Some(Dtype::U8), 100, seg).unwrap();
        let (target, base) = Pattern::Exhaustive.fill(&unit, &mut Random::named("x"));
        let all: std::collections::BTreeSet<_> =
            target.iter().zip(base.as_ref().unwrap()).collect();
        assert_eq!(all.len(), 65_536);
    }

    #[test]
    fn special_values_are_met() {
        let unit =
            UnitSpec::new(Dtype::F16, None, 100, [Segment { rows: 1, row_len: 2000 }]).unwrap();
        let (target, _) = Pattern::Special.fill(&unit, &mut Random::named("x"));
        let values: Vec<u16> =
            target.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        for special in [0, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0xfe00, 0x0001, 0x0400, 0x7bff] {
            assert!(values.contains(&special), "{special:#x}");
        }
        let signalling =
            |v: &&u16| **v & 0x7c00 == 0x7c00 && **v & 0x0200 == 0 && **v & 0x01ff != 0;
        assert!(values.iter().filter(signalling).count() > 100);
    }
}
