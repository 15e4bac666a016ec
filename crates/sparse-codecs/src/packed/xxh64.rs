//! XXH64, seed 0: written out here because the codecs have no dependencies.

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

#[inline(always)]
fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// Hashes `data`.
pub(super) fn xxh64(data: &[u8]) -> u64 {
    let (stripes, tail) = data.as_chunks::<32>();
    let mut hash = if stripes.is_empty() { P5 } else { merge(lanes(stripes)) };
    hash = hash.wrapping_add(data.len() as u64);
    let (words, tail) = tail.as_chunks::<8>();
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let (halves, tail) = tail.as_chunks::<4>();
    for half in halves {
        hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
    }
    for byte in tail {
        hash ^= u64::from(*byte).wrapping_mul(P5);
        hash = hash.rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P2);
    hash = (hash ^ hash >> 29).wrapping_mul(P3);
    hash ^ hash >> 32
}

fn lanes(stripes: &[[u8; 32]]) -> [u64; 4] {
    let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    lanes
}

fn merge(lanes: [u64; 4]) -> u64 {
    let [a, b, c, d] = lanes;
    let mut hash = a.rotate_left(1).wrapping_add(b.rotate_left(7));
    hash = hash.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
    for lane in lanes {
        hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_xxh64() {
        let data: Vec<u8> = (0..1000u32).map(|i| (i * i / 7) as u8).collect();
        for len in (0..100).chain([256, 999, 1000]) {
            assert_eq!(xxh64(&data[..len]), xxhash_rust::xxh64::xxh64(&data[..len], 0), "{len}");
        }
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
    }
}
