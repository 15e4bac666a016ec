//! Sizes under one way to model the differences.

use super::data::Elements;
use super::tables::{SYMBOL_BITS, merged_bits, table_bits};
use sparse_codecs::entropy::token::TokenScheme;
use std::collections::{BTreeMap, HashMap};

/// Context of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    None,
    /// The base's exponent; half-exponents in types above 16 bits, as in the codec.
    Key,
    /// That, and the tensor: a tensor has tables of its own where that is smaller.
    TensorAndKey,
}

/// A model of the differences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// Whether differences are mirrored, so that they are positive away from zero.
    pub(super) mirrored: bool,
    pub(super) scheme: TokenScheme,
    pub(super) context: Context,
    /// Whether frequent values with raw bits have tokens of their own (in types above 16 bits).
    pub(super) exact: bool,
}

/// A value gets a token of its own if more than one element in `EXACT_SHARE` has it; there are at
/// most `MAX_EXACT` such values.
const EXACT_SHARE: u64 = 1000;
const MAX_EXACT: usize = 16;
/// Frequent values are searched in one of this many elements.
const EXACT_STRIDE: usize = 7;

/// The zig-zag of `target - base` in the order of the type.
///
/// Mirrored, both change sign where the base is negative; else the order is the one that pco and
/// FM-Delta use.
fn difference(target: u64, base: u64, bits: u32, float: bool, mirrored: bool) -> u64 {
    let (sign, mask) = (1u64 << (bits - 1), u64::MAX >> (64 - bits));
    let ordered = |x: u64| if float && x & sign != 0 { x ^ (sign - 1) } else { x };
    let flip = if float && mirrored { base & sign } else { 0 };
    let d = ordered(target ^ flip).wrapping_sub(ordered(base ^ flip)) & mask;
    ((d << 1) ^ (d >> (bits - 1)).wrapping_neg()) & mask
}

/// The exponent of a base's word, or half-exponent.
fn key(base: u64, bits: u32, mantissa: Option<u32>) -> u32 {
    match mantissa {
        Some(m) => {
            let shift = if bits > 16 { m - 1 } else { m };
            ((base & !(1 << (bits - 1))) >> shift) as u32
        }
        None => 0,
    }
}

/// Bits of the XOR with the base, each byte of the word under a table of its own.
pub(super) fn xor_bits(unit: &Elements) -> f64 {
    let width = unit.dtype.storage_bytes();
    let mut counts = vec![vec![0u64; 256]; width];
    unit.words(|_, t, b| {
        let x = t ^ b;
        for (i, counts) in counts.iter_mut().enumerate() {
            counts[(x >> (8 * i) & 0xFF) as usize] += 1;
        }
    });
    counts.iter().map(|c| table_bits(c)).sum()
}

/// Bits under `variant`, tables included.
pub(super) fn bits(unit: &Elements, variant: Variant) -> f64 {
    let (bits, mantissa) = (unit.bits(), unit.mantissa());
    let difference = |t, b| difference(t, b, bits, mantissa.is_some(), variant.mirrored);
    let scheme = if bits == 8 { TokenScheme::Shift { shift: 0 } } else { variant.scheme };
    let exact = if variant.exact && bits > 16 {
        frequent(unit, scheme, &difference)
    } else {
        HashMap::new()
    };
    let regular = scheme.token_count(bits);
    let symbols = regular + exact.len();
    let mut raw_bits = 0u64;
    let mut cells: BTreeMap<(usize, u32), Vec<u64>> = BTreeMap::new();
    unit.words(|segment, t, b| {
        let z = difference(t, b);
        let context = match variant.context {
            Context::None => (0, 0),
            Context::Key => (0, key(b, bits, mantissa)),
            Context::TensorAndKey => (segment, key(b, bits, mantissa)),
        };
        let token = match exact.get(&z) {
            Some(&i) => regular + i,
            None => {
                let token = scheme.split(z);
                raw_bits += u64::from(token.raw_bits);
                token.token as usize
            }
        };
        if let Some(count) = cells.entry(context).or_insert_with(|| vec![0; symbols]).get_mut(token)
        {
            *count += 1;
        }
    });
    // The list of exact values: about four bytes each.
    raw_bits as f64 + 32.0 * exact.len() as f64 + context_bits(&cells)
}

/// Bits of tokens and tables: keys of alike histograms share one, and each tensor has its own
/// tables or the common ones, whichever is less.
fn context_bits(cells: &BTreeMap<(usize, u32), Vec<u64>>) -> f64 {
    let mut common: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut by_tensor: BTreeMap<usize, Vec<(u32, &Vec<u64>)>> = BTreeMap::new();
    for (&(tensor, key), counts) in cells {
        let sum = common.entry(key).or_insert_with(|| vec![0; counts.len()]);
        sum.iter_mut().zip(counts).for_each(|(a, b)| *a += b);
        by_tensor.entry(tensor).or_default().push((key, counts));
    }
    if by_tensor.len() == 1 {
        return merged_bits(common.into_values().collect()).1;
    }
    // Tensors that are better off with the common tables share them, made from these tensors alone.
    let mut own = Vec::new();
    let mut shared: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for cells in by_tensor.into_values() {
        let under_common: f64 = cells
            .iter()
            .map(|(key, counts)| common.get(key).map_or(f64::INFINITY, |c| cross_bits(counts, c)))
            .sum();
        let (tables, alone) = merged_bits(cells.iter().map(|c| c.1.clone()).collect());
        if alone < under_common {
            own.extend(tables);
        } else {
            for (key, counts) in cells {
                let sum = shared.entry(key).or_insert_with(|| vec![0; counts.len()]);
                sum.iter_mut().zip(counts).for_each(|(a, b)| *a += b);
            }
        }
    }
    // Tables of different tensors may meet, too; the look-up from key to table was charged with the
    // tables.
    let shared_cells = shared.len();
    own.extend(shared.into_values());
    merged_bits(own).1 + SYMBOL_BITS * shared_cells as f64
}

/// Bits of `counts` under the table of `model`, which has all of its symbols.
fn cross_bits(counts: &[u64], model: &[u64]) -> f64 {
    let total: u64 = model.iter().sum();
    let pairs = counts.iter().zip(model).filter(|p| *p.0 > 0);
    pairs.map(|(&c, &m)| c as f64 * (total as f64 / m.max(1) as f64).log2()).sum()
}

/// Frequent values whose tokens leave raw bits, numbered.
fn frequent(
    unit: &Elements,
    scheme: TokenScheme,
    difference: &impl Fn(u64, u64) -> u64,
) -> HashMap<u64, usize> {
    let mut counts: HashMap<u64, u64> = HashMap::new();
    let (mut at, mut seen) = (0usize, 0u64);
    unit.words(|_, t, b| {
        at += 1;
        if at % EXACT_STRIDE == 0 {
            seen += 1;
            let z = difference(t, b);
            if scheme.split(z).raw_bits > 0 {
                *counts.entry(z).or_default() += 1;
            }
        }
    });
    let enough = (seen / EXACT_SHARE).max(8);
    let mut frequent: Vec<_> =
        counts.into_iter().filter(|c| c.1 > enough).map(|(v, n)| (n, v)).collect();
    frequent.sort_unstable_by(|a, b| b.cmp(a));
    frequent.truncate(MAX_EXACT);
    frequent.into_iter().enumerate().map(|(i, (_, value))| (value, i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_codecs::entropy::freq::entropy_bits;

    #[test]
    fn differences_in_order() {
        let d = |t: f32, b: f32, mirrored| {
            difference(t.to_bits().into(), b.to_bits().into(), 32, true, mirrored)
        };
        let up = f32::from_bits(1.5f32.to_bits() + 1);
        // Zig-zag: +1 is 2, -1 is 1.
        for (t, b, plain, mirrored) in [
            (up, 1.5, 2, 2),
            (1.5, up, 1, 1),
            (-up, -1.5, 1, 2),
            (-1.5, -up, 2, 1),
            (2.0, 2.0, 0, 0),
        ] {
            assert_eq!((d(t, b, false), d(t, b, true)), (plain, mirrored), "{t} {b}");
        }
        assert_eq!(difference(3, 5, 8, false, true), 3);
    }

    #[test]
    fn keys_are_exponents() {
        assert_eq!(key(0xBF80, 16, Some(7)), 127);
        assert_eq!(key(u64::from((-1.5f32).to_bits()), 32, Some(23)), 255);
        assert_eq!(key(77, 32, None), 0);
    }

    #[test]
    fn cross_entropy_of_itself() {
        let counts = [3, 0, 5, 8];
        assert!((cross_bits(&counts, &counts) - entropy_bits(&counts)).abs() < 1e-9);
    }
}
