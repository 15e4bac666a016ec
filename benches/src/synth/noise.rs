//! Fast seeded noise.

/// xoshiro256++, seeded by splitmix64.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// The generator of one row of one tensor.
    pub fn new(seed: u64, tensor: u64, row: u64) -> Rng {
        let mut state = seed;
        state = splitmix(&mut state) ^ tensor;
        state = splitmix(&mut state) ^ row;
        Rng([0; 4].map(|_: u64| splitmix(&mut state)))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Uniform in [0, 1).
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

const LAYERS: usize = 256;
/// Start of the tail, and the area of each layer, for 256 layers.
const TAIL: f64 = 3.654_152_885_361_009;
const AREA: f64 = 0.004_928_673_233_99;

/// The standard normal distribution, by the ziggurat method (Marsaglia and Tsang).
#[derive(Clone, Debug)]
pub struct Gauss {
    /// Right edges of the layers, and the density there.
    x: [f64; LAYERS + 1],
    f: [f64; LAYERS + 1],
}

impl Default for Gauss {
    fn default() -> Self {
        Gauss::new()
    }
}

impl Gauss {
    /// Compute the tables.
    pub fn new() -> Gauss {
        let density = |x: f64| (-0.5 * x * x).exp();
        let (mut x, mut f) = ([0.0; LAYERS + 1], [1.0; LAYERS + 1]);
        x[0] = AREA / density(TAIL);
        x[1] = TAIL;
        for i in 2..LAYERS {
            x[i] = (-2.0 * (AREA / x[i - 1] + density(x[i - 1])).ln()).sqrt();
        }
        for i in 0..LAYERS {
            f[i] = density(x[i]);
        }
        Gauss { x, f }
    }

    /// One sample.
    #[inline]
    pub fn sample(&self, rng: &mut Rng) -> f32 {
        loop {
            let bits = rng.bits();
            let layer = (bits & 0xFF) as usize;
            // Uniform in [-1, 1) from the upper bits, which the layer does not use.
            let u = ((bits as i64) >> 11) as f64 * (1.0 / (1u64 << 52) as f64);
            let x = u * self.x[layer];
            if x.abs() < self.x[layer + 1] {
                return x as f32;
            }
            if let Some(x) = self.edge(rng, layer, x) {
                return x as f32;
            }
        }
    }

    #[cold]
    fn edge(&self, rng: &mut Rng, layer: usize, x: f64) -> Option<f64> {
        if layer == 0 {
            loop {
                let a = (1.0 - rng.uniform()).ln() / TAIL;
                let b = (1.0 - rng.uniform()).ln();
                if -2.0 * b >= a * a {
                    return Some(if x < 0.0 { a - TAIL } else { TAIL - a });
                }
            }
        }
        let y = self.f[layer + 1] + (self.f[layer] - self.f[layer + 1]) * rng.uniform();
        (y < (-0.5 * x * x).exp()).then_some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_standard_normal() {
        let (gauss, mut rng) = (Gauss::new(), Rng::new(1, 2, 3));
        let n = 2_000_000;
        let (mut m1, mut m2, mut m4, mut above) = (0.0, 0.0, 0.0, [0; 4]);
        for _ in 0..n {
            let x = f64::from(gauss.sample(&mut rng));
            m1 += x;
            m2 += x * x;
            m4 += x * x * x * x;
            (0..4).filter(|&i| x.abs() > i as f64 + 0.5).for_each(|i| above[i] += 1);
        }
        let n = f64::from(n);
        assert!((m1 / n).abs() < 4e-3);
        assert!((m2 / n - 1.0).abs() < 6e-3);
        assert!((m4 / n - 3.0).abs() < 4e-2);
        for (count, p) in above.into_iter().zip([0.617_075, 0.133_614, 0.012_419, 0.000_465_3]) {
            assert!((f64::from(count) / n - p).abs() < 5.0 * (p / n).sqrt(), "{count} {p}");
        }
    }

    #[test]
    fn rows_differ() {
        let first = |t, r| Rng::new(1, t, r).bits();
        assert_ne!(first(0, 0), first(0, 1));
        assert_ne!(first(0, 1), first(1, 0));
    }
}
