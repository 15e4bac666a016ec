//! Which candidate to take.

use sparse_core::{CodecInfo, Fidelity};

/// A way to code something, and what it is expected to cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The codec.
    pub codec: CodecInfo,
    /// Whether the base is used.
    pub with_base: bool,
    /// Expected size in bits.
    pub bits: f64,
}

/// What a caller wants. A policy is a wish, never a value in a file: what is written is the codec it chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The smallest of those that bring back every bit.
    #[default]
    Lossless,
}

impl Policy {
    /// Whether a codec of this fidelity may be chosen.
    pub fn allows(self, fidelity: Fidelity) -> bool {
        match self {
            Policy::Lossless => fidelity == Fidelity::Lossless,
        }
    }

    /// The index of the candidate to take: the smallest that is allowed, the first of equals. `None` if none is
    /// allowed.
    pub fn choose(self, candidates: &[Candidate]) -> Option<usize> {
        let allowed = candidates.iter().enumerate().filter(|c| self.allows(c.1.codec.fidelity));
        allowed.min_by(|a, b| a.1.bits.total_cmp(&b.1.bits)).map(|c| c.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::{BaseUse, CodecId};

    fn candidate(fidelity: Fidelity, bits: f64) -> Candidate {
        let codec = CodecInfo { id: CodecId(9), name: "test", fidelity, base: BaseUse::Optional };
        Candidate { codec, with_base: true, bits }
    }

    #[test]
    fn lossless_never_takes_a_lossy_codec() {
        let candidates = [
            candidate(Fidelity::Lossy, 1.0),
            candidate(Fidelity::UlpBounded(1), 2.0),
            candidate(Fidelity::Lossless, 9.0),
            candidate(Fidelity::Lossless, 8.0),
            candidate(Fidelity::Lossless, 8.0),
        ];
        assert_eq!(Policy::Lossless.choose(&candidates), Some(3));
        assert_eq!(Policy::Lossless.choose(&candidates[..2]), None);
    }
}
