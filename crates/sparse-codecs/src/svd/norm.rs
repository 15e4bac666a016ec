//! Sums of squares.

use crate::simd::{self, Kernel, Simd};
use sparse_core::Workers;

/// Sums the squares of numbers on the threads of `cx`.
///
/// The result does not depend on how many threads there are.
pub(super) fn square_norm(numbers: &[f32], cx: Workers<'_>) -> f64 {
    const BLOCK: usize = 1 << 18;
    let sums = cx.executor.map(numbers.len().div_ceil(BLOCK), |i| {
        let block = &numbers[i * BLOCK..((i + 1) * BLOCK).min(numbers.len())];
        simd::run(Simd::from_env(), Squares { numbers: block })
    });
    sums.into_iter().sum()
}

struct Squares<'a> {
    numbers: &'a [f32],
}

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut sums = [0f64; 16];
        let (chunks, rest) = self.numbers.as_chunks::<16>();
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        }
        sums.iter_mut().zip(rest).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        sums.iter().sum()
    }
}
