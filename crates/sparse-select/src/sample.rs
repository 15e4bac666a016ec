//! Stratified samples with a fixed seed.

use sparse_core::Segment;
use std::ops::Range;

/// Length of rows, in elements, above which they are sampled in blocks of this length.
const BLOCK: u64 = 4096;

/// Length of the blocks, in elements, in which vectors are sampled.
const VECTOR_BLOCK: u64 = 256;

/// Seeded, stratified sampler of the elements of tensors.
///
/// It takes one run from each of many equal strata, at a place in it that a generator chooses. The
/// same seed picks the same elements, on every machine.
///
/// # Examples
///
/// ```
/// use sparse_core::Segment;
/// use sparse_select::Sampler;
///
/// let matrix = Segment { rows: 1000, row_len: 64 };
/// let (sample, runs) = Sampler::new(1).pick(matrix, 0.1);
/// assert_eq!(sample.row_len, 64);
/// assert_eq!(runs.len() as u64, sample.rows);
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    state: u64,
}

impl Sampler {
    /// Creates a sampler with this seed.
    pub fn new(seed: u64) -> Sampler {
        Sampler { state: seed }
    }

    /// Returns the next pseudo-random number.
    ///
    /// SplitMix64 (Steele, Lea and Flood).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Picks runs of elements that make up about `share` of `segment`.
    ///
    /// From 1.0 on, that is all of it; a share of 0 or less, or NaN, picks one run. Runs ascend and
    /// have one length: whole rows, or blocks of long rows and vectors. Returns the shape of the
    /// sample, too.
    pub fn pick(&mut self, segment: Segment, share: f64) -> (Segment, Vec<Range<u64>>) {
        let block = if segment.rows == 1 { VECTOR_BLOCK } else { BLOCK }.min(segment.row_len);
        self.pick_blocks(segment, share, block)
    }

    /// Picks whole rows, as [`pick`](Self::pick) does otherwise.
    ///
    /// Factors of matrices are lost in pieces of rows.
    pub fn pick_rows(&mut self, segment: Segment, share: f64) -> (Segment, Vec<Range<u64>>) {
        self.pick_blocks(segment, share, segment.row_len)
    }

    fn pick_blocks(
        &mut self,
        segment: Segment,
        share: f64,
        block: u64,
    ) -> (Segment, Vec<Range<u64>>) {
        let len = segment.len();
        if len == 0 || share >= 1.0 {
            return (segment, Some(0..len).filter(|all| !all.is_empty()).into_iter().collect());
        }
        // Blocks do not cross rows; what is left over at the end of a row is never picked, nor are
        // rows beyond 64 bits.
        let per_row = segment.row_len / block;
        let blocks = segment.rows.min(u64::MAX / segment.row_len) * per_row;
        let count = ((len as f64 * share / block as f64).ceil() as u64).clamp(1, blocks);
        let runs = (0..count)
            .map(|i| {
                // Stratum i is blocks first .. end.
                let first = (u128::from(blocks) * u128::from(i) / u128::from(count)) as u64;
                let end = (u128::from(blocks) * u128::from(i + 1) / u128::from(count)) as u64;
                let pick = first + self.next() % (end - first).max(1);
                let start = pick / per_row * segment.row_len + pick % per_row * block;
                start..start + block
            })
            .collect();
        (Segment { rows: count, row_len: block }, runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_disjoint_and_inside(rows in 0u64..500, row_len in 0u64..9000,
            share in 0.0f64..1.2, seed: u64) {
            let segment = Segment { rows, row_len };
            let (shape, runs) = Sampler::new(seed).pick(segment, share);
            prop_assert_eq!(shape.len(), runs.iter().map(|r| r.end - r.start).sum::<u64>());
            prop_assert!(runs.windows(2).all(|w| w[0].end <= w[1].start));
            prop_assert!(runs.last().is_none_or(|r| r.end <= segment.len()));
            prop_assert_eq!(runs.is_empty(), segment.is_empty());
            prop_assert_eq!(Sampler::new(seed).pick(segment, share).1, runs);
            let (shape, rows) = Sampler::new(seed).pick_rows(segment, share);
            prop_assert!(rows.is_empty() || shape.row_len == row_len);
        }
    }

    #[test]
    fn any_segment_and_any_share_give_runs() {
        for rows in [1, 10, u64::MAX] {
            for row_len in [1, 3, 5000, u64::MAX] {
                for share in [f64::NAN, -1.0, 0.0, 1e-300, 1e-19] {
                    let segment = Segment { rows, row_len };
                    let (_, runs) = Sampler::new(1).pick(segment, share);
                    assert!(!runs.is_empty() && runs.iter().all(|r| r.start < r.end));
                }
            }
        }
    }

    #[test]
    fn the_share_is_met() {
        let segment = Segment { rows: 32_000, row_len: 4096 };
        let (shape, runs) = Sampler::new(7).pick(segment, 0.01);
        assert_eq!((shape.rows, runs.len()), (320, 320));
    }
}
