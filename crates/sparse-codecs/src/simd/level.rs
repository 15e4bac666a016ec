//! Levels of vector instructions, and the proof that a processor has one.

use std::sync::OnceLock;

/// Set of processor features that kernels are written for.
///
/// # Examples
///
/// ```
/// use sparse_codecs::simd::Level;
///
/// assert_eq!(Level::from_name("avx2"), Some(Level::Avx2));
/// assert!(Level::Scalar < Level::Avx512);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// No vectors.
    Scalar,
    /// x86-64 with AVX2, BMI1, BMI2 and POPCNT.
    Avx2,
    /// The same and AVX-512 F, BW, CD, DQ, VL, VBMI and VBMI2.
    Avx512,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Avx512];

    /// Returns the level of that name, in lower case: `scalar`, `avx2`, `avx512`.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|l| l.name() == name)
    }

    /// Returns the name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }
}

/// Level that this processor has. What kernels compute does not depend on it.
///
/// # Examples
///
/// ```
/// use sparse_codecs::simd::{Level, Simd};
///
/// // Whatever the processor has, it is not more than was asked for.
/// assert!(Simd::at_most(Level::Avx2).level() <= Level::Avx2);
/// assert_eq!(Simd::SCALAR.level(), Level::Scalar);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(pub(super) Level);

impl Simd {
    /// No vectors: every processor has that.
    pub const SCALAR: Simd = Simd(Level::Scalar);

    /// Returns the highest level that the processor has.
    pub fn detect() -> Simd {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vbmi2");
            if avx512 {
                return Simd(Level::Avx512);
            }
            if avx2 {
                return Simd(Level::Avx2);
            }
        }
        Simd::SCALAR
    }

    /// Returns `level`, or the highest below it that the processor has.
    pub fn at_most(level: Level) -> Simd {
        Simd(Simd::detect().0.min(level))
    }

    /// Returns the level that the environment variable `SPARSE_SIMD` allows.
    ///
    /// It is a [level's name](Level::from_name); without it, the same as [`detect`](Self::detect).
    /// Looked up once.
    pub fn from_env() -> Simd {
        static SIMD: OnceLock<Simd> = OnceLock::new();
        *SIMD.get_or_init(|| {
            let level = std::env::var("SPARSE_SIMD").ok().and_then(|name| Level::from_name(&name));
            level.map_or_else(Simd::detect, Simd::at_most)
        })
    }

    /// Returns the level.
    pub fn level(self) -> Level {
        self.0
    }
}
