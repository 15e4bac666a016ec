//! Finding the members of a class, without vectors, or with those of a level's features.

/// Computes one bit for each byte of a block, set where it is `value`.
#[inline(always)]
pub(super) fn mask(block: &[u8; 64], value: u8) -> u64 {
    let mut mask = 0;
    for (i, bytes) in block.as_chunks::<8>().0.iter().enumerate() {
        let x = u64::from_le_bytes(*bytes) ^ (u64::from(value) * ONES);
        // The upper bit of each byte that is zero, exactly: no carry leaves its byte.
        let zeros = !(((x & LOW_BITS) + LOW_BITS) | x | LOW_BITS);
        // These bits, gathered in the upper byte.
        mask |= ((zeros >> 7).wrapping_mul(GATHER) >> 56) << (8 * i);
    }
    mask
}

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
/// Moves bit 0 of byte `i` to bit `56 + i`.
const GATHER: u64 = 0x0102_0408_1020_4080;

/// Computes the mask of a block at the end.
fn mask_of_rest(rest: &[u8], value: u8) -> u64 {
    let mut block = [!value; 64];
    block[..rest.len()].copy_from_slice(rest);
    mask(&block, value)
}

#[inline(always)]
pub(super) fn masks_by(
    bytes: &[u8],
    value: u8,
    out: &mut Vec<u64>,
    mask: impl Fn(&[u8; 64], u8) -> u64,
) {
    out.clear();
    let (blocks, rest) = bytes.as_chunks::<64>();
    out.extend(blocks.iter().map(|b| mask(b, value)));
    if !rest.is_empty() {
        out.push(mask_of_rest(rest, value));
    }
}

/// Bytes that are passed over at a time.
const GROUP: usize = 256;

/// Does [`select`](super::select) by the given functions.
///
/// One makes a mask, the other finds its set bit of an index.
#[inline(always)]
pub(super) fn select_by(
    bytes: &[u8],
    value: u8,
    places: &mut [u32],
    mask: impl Fn(&[u8; 64], u8) -> u64,
    nth: impl Fn(u64, u32) -> u32,
) -> bool {
    let (groups, rest) = bytes.as_chunks::<GROUP>();
    let mut last = [!value; GROUP];
    last[..rest.len()].copy_from_slice(rest);
    let mut groups = groups.iter().chain(std::iter::once(&last));
    // Masks of the current group, number of members up to the end of each, and index of the next
    // member to count from.
    let (mut start, mut masks, mut ends, mut next) =
        (0u32.wrapping_sub(GROUP as u32), [0u64; 4], [0u64; 4], 0u64);
    for place in places {
        next += u64::from(*place);
        while next >= ends[3] {
            next -= ends[3];
            let Some(group) = groups.next() else { return false };
            for (mask_out, block) in masks.iter_mut().zip(group.as_chunks::<64>().0) {
                *mask_out = mask(block, value);
            }
            let mut sum = 0;
            ends = masks.map(|m| {
                sum += u64::from(m.count_ones());
                sum
            });
            start = start.wrapping_add(GROUP as u32);
        }
        let block = ends[..3].iter().map(|&end| usize::from(next >= end)).sum::<usize>();
        let before = [0, ends[0], ends[1], ends[2]][block];
        *place = start.wrapping_add(64 * block as u32 + nth(masks[block], (next - before) as u32));
        next += 1;
    }
    true
}

/// Returns the place of the set bit that `n` others lie below, by halves.
fn nth_set_bit(mask: u64, n: u32) -> u32 {
    let (mut at, mut n) = (0, n);
    for half in [32, 16, 8, 4, 2, 1] {
        let below = (mask >> at & ((1 << half) - 1)).count_ones();
        if n >= below {
            n -= below;
            at += half;
        }
    }
    at
}

pub(super) fn masks(bytes: &[u8], value: u8, out: &mut Vec<u64>) {
    masks_by(bytes, value, out, mask);
}

pub(super) fn select(bytes: &[u8], value: u8, places: &mut [u32]) -> bool {
    select_by(bytes, value, places, mask, nth_set_bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_by_halves() {
        for mask in [1u64, 1 << 63, u64::MAX, 0x8000_0000_0000_0001, 0x5555_0000_1234_8000] {
            let set: Vec<u32> = (0..64).filter(|b| mask >> b & 1 != 0).collect();
            for (n, &bit) in (0..).zip(&set) {
                assert_eq!(nth_set_bit(mask, n), bit);
            }
        }
    }
}
