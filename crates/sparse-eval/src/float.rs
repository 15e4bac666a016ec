//! The two types in which models are computed.

/// f32, or f64 to check the former.
pub(crate) trait Float: Copy + Send + Sync {
    /// Converts to f64.
    fn wide(self) -> f64;
    /// Rounds from f64.
    fn narrow(wide: f64) -> Self;
    /// Writes the softmax of `x` to `out`, which is as long.
    fn softmax(x: &[Self], out: &mut [Self]);
}

macro_rules! float {
    ($type:ty) => {
        impl Float for $type {
            fn wide(self) -> f64 {
                self as f64
            }

            fn narrow(wide: f64) -> Self {
                wide as $type
            }

            fn softmax(x: &[Self], out: &mut [Self]) {
                let most = x.iter().copied().fold(<$type>::NEG_INFINITY, <$type>::max);
                for (out, x) in out.iter_mut().zip(x) {
                    *out = (x - most).exp();
                }
                let factor = out.iter().sum::<$type>().recip();
                out.iter_mut().for_each(|x| *x *= factor);
            }
        }
    };
}

float!(f32);
float!(f64);
