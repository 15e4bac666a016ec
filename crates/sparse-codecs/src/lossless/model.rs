//! The statistical model of a unit, which its parameter block holds.
//!
//! A weight's *key* is the exponent (or half-exponent) of its prediction. Its row has a *profile*,
//! a look-up from key to frequency table; the few profiles are shared by all rows of the unit, and
//! each chunk names the profiles of its rows. A row of small updates and a row of large ones thus
//! differ in profile, a small and a large weight of one row in key.

use super::positions::Positions;
use crate::entropy::freq::FreqTable;
use crate::entropy::token::{MAX_TOKENS, Token, TokenScheme};
use crate::entropy::{bytes, tables, varint};
use sparse_core::{Dtype, DtypeClass, Error, Limits, Result, UnitSpec};

/// Number of keys.
pub(super) const KEYS: usize = 64;

/// Largest number of profiles.
pub(super) const MAX_PROFILES: usize = 64;

/// Largest number of frequency tables.
pub(super) const MAX_TABLES: usize = 64;

/// Rule that turns a prediction into a key: `clamp((magnitude >> shift) - origin, 0, KEYS - 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRule {
    pub(super) shift: u32,
    pub(super) origin: u64,
}

impl KeyRule {
    #[inline(always)]
    pub(super) fn key(self, magnitude: u64) -> u8 {
        (magnitude >> self.shift).saturating_sub(self.origin).min(KEYS as u64 - 1) as u8
    }
}

/// Mapping between integers and tokens: a scheme, and tokens of their own for frequent values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) scheme: TokenScheme,
    /// Values with a token of their own, ascending. Their tokens follow those of the scheme.
    pub(super) exact: Vec<u64>,
    /// Tokens of the scheme.
    pub(super) regular: usize,
}

impl Tokens {
    pub(super) fn new(scheme: TokenScheme, exact: Vec<u64>, bits: u32) -> Tokens {
        Tokens { scheme, exact, regular: scheme.token_count(bits) }
    }

    pub(super) fn count(&self) -> usize {
        self.regular + self.exact.len()
    }

    #[inline(always)]
    pub(super) fn split(&self, value: u64) -> Token {
        if !self.exact.is_empty()
            && let Ok(i) = self.exact.binary_search(&value)
        {
            return Token { token: (self.regular + i) as u32, raw: 0, raw_bits: 0 };
        }
        self.scheme.split(value)
    }

    /// Returns the number of raw bits that follow each token.
    pub(super) fn raw_counts(&self) -> Box<[u8; MAX_TOKENS]> {
        let mut counts = Box::new([0; MAX_TOKENS]);
        counts.iter_mut().zip(self.expansions()).for_each(|(c, e)| *c = e.0 as u8);
        counts
    }

    /// Sums the raw bits that follow all of `tokens`.
    pub(super) fn raw_bits(&self, tokens: &[u8]) -> u64 {
        /// Sums by arithmetic instead of a look-up, so that the loop becomes vectors.
        ///
        /// Four counts fit a byte.
        fn sum(tokens: &[u8], last: u8, raw: impl Fn(u8) -> u8) -> u64 {
            let raw = |t: u8| if t <= last { raw(t) } else { 0 };
            let (blocks, rest) = tokens.as_chunks::<128>();
            let mut bits: u64 = rest.iter().map(|&t| u64::from(raw(t))).sum();
            for block in blocks {
                let mut sums = [0u8; 32];
                for part in block.as_chunks::<32>().0 {
                    sums.iter_mut().zip(part).for_each(|(sum, &t)| *sum += raw(t));
                }
                bits += sums.iter().map(|&s| u64::from(s)).sum::<u64>();
            }
            bits
        }
        // Values with tokens of their own have no raw bits.
        let last = self.regular.saturating_sub(1).min(u8::MAX.into()) as u8;
        match self.scheme {
            TokenScheme::Hybrid { msb } => sum(tokens, last, |t| (t >> msb).saturating_sub(1)),
            TokenScheme::Signed { msb } => {
                sum(tokens, last, |t| (t.div_ceil(2) >> msb).saturating_sub(1))
            }
            TokenScheme::Shift { shift } => sum(tokens, last, |_| shift as u8),
        }
    }

    /// Returns the number of tokens for each exponent.
    ///
    /// `None` unless tokens are the upper bits of a float, exponent first.
    pub(super) fn in_an_exponent(&self, kind: Kind) -> Option<f64> {
        match self.scheme {
            TokenScheme::Shift { shift } if kind.float && !kind.has_base => {
                // The lowest bit of a value is its sign.
                Some(f64::from(kind.mantissa as i32 + 1 - shift as i32).exp2())
            }
            _ => None,
        }
    }

    /// Returns, for each token, its number of raw bits and its own value.
    ///
    /// Raw bits are added to the value.
    pub(super) fn expansions(&self) -> Vec<(u32, u64)> {
        let regular = (0..self.regular as u32).map(|t| self.scheme.expand(t));
        regular.chain(self.exact.iter().map(|&v| (0, v))).collect()
    }
}

/// The parameters of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) tokens: Tokens,
    pub(super) key: KeyRule,
    /// Key to table, per profile.
    pub(super) profiles: Vec<[u8; KEYS]>,
    pub(super) tables: Vec<FreqTable>,
    /// Model of chunks in which few elements change.
    pub(super) positions: Option<Positions>,
}

/// The kind of data in a unit, which fixes everything that the parameter block leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Width of a word in bits.
    pub(super) bits: u32,
    pub(super) float: bool,
    /// Mantissa bits of a float.
    pub(super) mantissa: u32,
    pub(super) has_base: bool,
}

impl Kind {
    pub(super) fn of(unit: &UnitSpec) -> Kind {
        let (float, mantissa) = match unit.dtype().storage_class() {
            DtypeClass::Float { mantissa, .. } => (true, mantissa),
            _ => (false, 0),
        };
        Kind {
            bits: 8 * unit.dtype().storage_bytes() as u32,
            float,
            mantissa,
            has_base: unit.base_dtype().is_some(),
        }
    }

    /// Returns the token scheme to begin with.
    pub(super) fn scheme(self) -> TokenScheme {
        match (self.bits, self.float, self.has_base) {
            // A byte is a token.
            (8, ..) => TokenScheme::Shift { shift: 0 },
            // Without a base, exponents are what can be modelled: a float's zig-zag has the sign
            // last.
            (_, true, false) => TokenScheme::Shift { shift: self.bits - 8 },
            (64, ..) => TokenScheme::Signed { msb: 1 },
            _ => TokenScheme::Signed { msb: 2 },
        }
    }

    /// Returns the key rule to use.
    ///
    /// Float keys are exponents from `2^-56` to `2^8`, or half-exponents from `2^-28` to `2^4`,
    /// where weights live; what is outside shares the first or the last key.
    pub(super) fn key_rule(self) -> KeyRule {
        let Kind { bits, float, mantissa, .. } = self;
        let bias = (1u64 << (bits - 2 - mantissa.min(bits - 2))) - 1;
        match (bits, float) {
            // Bytes have few values, so their upper bits suffice.
            (8, _) => KeyRule { shift: 2, origin: 0 },
            (16, true) => {
                KeyRule { shift: mantissa, origin: (bias + 8).saturating_sub(KEYS as u64) }
            }
            // Wide floats have the bits to make half-exponents worth while.
            (_, true) => KeyRule {
                shift: mantissa - 1,
                origin: (2 * (bias + 4)).saturating_sub(KEYS as u64),
            },
            (_, false) => KeyRule { shift: bits - 1, origin: 0 },
        }
    }
}

/// Returns true if the codec can use a base of this type for such a target.
pub(super) fn base_fits(dtype: Dtype, base: Option<Dtype>) -> bool {
    base.is_none_or(|b| b == dtype || super::convert::Cast::new(b, dtype).is_some())
}

/// The first byte of a parameter block: the scheme in the upper two bits, its number in the lower
/// six.
const HYBRID: u8 = 0x00;
const SIGNED: u8 = 0x40;
const SHIFT: u8 = 0x80;

impl Model {
    /// Leaves one empty table for each class.
    ///
    /// If all chunks are coded as positions, tables matter as names of classes only.
    pub(super) fn drop_tables(&mut self) {
        let Some(positions) = &mut self.positions else { return };
        for table in self.profiles.iter_mut().flatten() {
            *table = positions.classes.get(usize::from(*table)).copied().unwrap_or(0);
        }
        positions.classes = (0..positions.coding.len() as u8).collect();
        self.tables = vec![FreqTable::from_counts(&[]); positions.coding.len()];
    }

    /// Appends the serial form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(match self.tokens.scheme {
            TokenScheme::Hybrid { msb } => HYBRID | msb as u8,
            TokenScheme::Signed { msb } => SIGNED | msb as u8,
            TokenScheme::Shift { shift } => SHIFT | shift as u8,
        });
        varint::put(out, self.tokens.exact.len() as u64);
        let mut last = 0;
        for &v in &self.tokens.exact {
            varint::put(out, v - last);
            last = v;
        }
        out.push(self.key.shift as u8);
        varint::put(out, self.key.origin);
        out.push(self.profiles.len() as u8);
        out.push(self.tables.len() as u8);
        // Tables are in order of cost, so that neighbouring keys have neighbouring tables.
        let mut steps = Vec::with_capacity(self.profiles.len() * KEYS);
        let mut last = 0u8;
        for &table in self.profiles.iter().flatten() {
            steps.push(varint::zigzag(i64::from(table) - i64::from(last)) as u8);
            last = table;
        }
        bytes::pack(&steps, out);
        tables::write(&self.tables, out);
        if let Some(positions) = &self.positions {
            positions.write(out);
        }
    }

    /// Parses the serial form, which must fill `params`.
    pub(super) fn read(kind: Kind, params: &[u8], limits: &Limits) -> Result<Model> {
        Limits::check("parameters", params.len() as u64, limits.max_params_bytes)?;
        let mut input = params;
        let mut byte = |what| varint::take_bytes(&mut input, 1, what).map(|b| b[0]);
        let b = byte("token scheme")?;
        let number = u32::from(b & 0x3f);
        let scheme = match b & 0xc0 {
            HYBRID if (1..=4).contains(&number) => TokenScheme::Hybrid { msb: number },
            SIGNED if (1..=2).contains(&number) => TokenScheme::Signed { msb: number },
            SHIFT if number < kind.bits => TokenScheme::Shift { shift: number },
            _ => return Err(Error::corrupt(format!("unknown token scheme {b}"))),
        };
        let exact_count =
            varint::take_max(&mut input, MAX_TOKENS as u64, "number of exact values")?;
        let max = u64::MAX >> (64 - kind.bits);
        let mut exact: Vec<u64> = Vec::new();
        for i in 0..exact_count {
            let step = varint::take_max(&mut input, max, "exact value")?;
            let value = exact.last().unwrap_or(&0).checked_add(step).filter(|&v| v <= max);
            match value {
                Some(value) if i == 0 || step > 0 => exact.push(value),
                _ => return Err(Error::corrupt("the exact values are not in ascending order")),
            }
        }
        let tokens = Tokens::new(scheme, exact, kind.bits);
        if tokens.count() > MAX_TOKENS {
            return Err(Error::corrupt("there are too many tokens"));
        }
        let mut byte = |what| varint::take_bytes(&mut input, 1, what).map(|b| b[0]);
        let shift = u32::from(byte("key shift")?);
        if shift >= kind.bits {
            return Err(Error::corrupt("the key shift exceeds the word"));
        }
        let origin = varint::take_max(&mut input, max, "key origin")?;
        let mut byte = |what| varint::take_bytes(&mut input, 1, what).map(|b| b[0] as usize);
        let (profile_count, table_count) = (byte("profiles")?, byte("tables")?);
        if !(1..=MAX_PROFILES).contains(&profile_count) || !(1..=MAX_TABLES).contains(&table_count)
        {
            return Err(Error::corrupt(format!(
                "the numbers of profiles ({profile_count}) and \
                tables ({table_count}) are not possible"
            )));
        }
        let steps = bytes::unpack(&mut input, profile_count * KEYS)?;
        let mut last = 0i64;
        let mut profiles = vec![[0; KEYS]; profile_count];
        for (slot, &step) in profiles.iter_mut().flatten().zip(&steps) {
            last += varint::unzigzag(u64::from(step));
            if !(0..table_count as i64).contains(&last) {
                return Err(Error::corrupt("a profile refers to a table that does not exist"));
            }
            *slot = last as u8;
        }
        let tables = tables::read(&mut input, table_count, tokens.count())?;
        let positions = match input {
            [] => None,
            _ => Some(Positions::read(&mut input, table_count, tokens.count())?),
        };
        if !input.is_empty() {
            return Err(Error::corrupt(format!("{} bytes follow the parameters", input.len())));
        }
        Ok(Model { tokens, key: KeyRule { shift, origin }, profiles, tables, positions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind() -> Kind {
        Kind { bits: 32, float: true, mantissa: 23, has_base: true }
    }

    proptest! {
        #[test]
        fn raw_bits_are_those_of_each_token(
            picks in prop::collection::vec(any::<u16>(), 0..700),
            exact in prop::collection::btree_set(any::<u64>(), 0..16),
            bits in prop::sample::select(&[16u32, 32, 64][..]),
            which in 0usize..3,
        ) {
            let scheme = [
                TokenScheme::Hybrid { msb: 1 },
                TokenScheme::Signed { msb: 1 },
                TokenScheme::Shift { shift: bits - 7 },
            ][which];
            let exact = if which == 2 { Vec::new() } else { exact.into_iter().collect() };
            let tokens = Tokens::new(scheme, exact, bits);
            let counts = tokens.raw_counts();
            let some: Vec<u8> = picks.iter().map(|&p| (usize::from(p) % tokens.count()) as u8)
                .collect();
            let want: u64 = some.iter().map(|&t| u64::from(counts[t as usize])).sum();
            prop_assert_eq!(tokens.raw_bits(&some), want);
        }
    }

    fn sample() -> Model {
        let tables = vec![FreqTable::from_counts(&[9, 1]), FreqTable::from_counts(&[3, 3, 3, 1])];
        let mut profiles = vec![[0; KEYS], [1; KEYS]];
        profiles[0][40..].fill(1);
        let scheme = TokenScheme::Signed { msb: 2 };
        Model {
            tokens: Tokens::new(scheme, vec![0, 889, 1129], 32),
            key: kind().key_rule(),
            profiles,
            tables,
            positions: None,
        }
    }

    #[test]
    fn serial_form_is_short_and_true() {
        let mut out = Vec::new();
        sample().write(&mut out);
        assert!(out.len() < 64, "{}", out.len());
        assert_eq!(Model::read(kind(), &out, &Limits::default()).unwrap(), sample());
        for cut in 0..out.len() {
            assert!(Model::read(kind(), &out[..cut], &Limits::default()).is_err());
        }
    }

    proptest! {
        #[test]
        fn garbage(
            bytes: Vec<u8>,
            changes in prop::collection::vec((0usize..64, any::<u8>()), 1..4),
            bits in prop::sample::select(vec![8u32, 16, 32, 64]),
            float: bool,
        ) {
            let kind = Kind { bits, float, mantissa: bits / 2, has_base: true };
            let _ = Model::read(kind, &bytes, &Limits::default());
            let mut out = Vec::new();
            sample().write(&mut out);
            for (at, to) in changes {
                if let Some(b) = out.get_mut(at) {
                    *b = to;
                }
            }
            if let Ok(model) = Model::read(kind, &out, &Limits::default()) {
                prop_assert!(model.tokens.expansions().len() == model.tokens.count());
                prop_assert!(model.profiles.iter().flatten().all(|&t| usize::from(t) < model
                    .tables.len()));
                prop_assert!(usize::from(model.key.key(u64::MAX >> (64 - bits))) < KEYS);
            }
        }
    }

    #[test]
    fn exact_values_stay_within_the_word() {
        for bits in [16u32, 64] {
            let max = u64::MAX >> (64 - bits);
            let mut params = vec![SIGNED | 1, 2];
            varint::put(&mut params, max);
            varint::put(&mut params, 1);
            let kind = Kind { bits, ..kind() };
            let e = Model::read(kind, &params, &Limits::default()).unwrap_err();
            assert_eq!(e.message(), "the exact values are not in ascending order");
        }
    }

    #[test]
    fn keys_cover_the_weights() {
        for (bits, mantissa, bias) in [(16, 7, 127u64), (32, 23, 127), (64, 52, 1023)] {
            let rule = Kind { bits, float: true, mantissa, has_base: true }.key_rule();
            assert_eq!(rule.key((bias + 20) << mantissa), 63);
            assert!((40..63).contains(&rule.key((bias - 5) << mantissa)));
            assert_eq!(rule.key(0), 0);
            assert_ne!(rule.key((bias - 5) << mantissa), rule.key((bias - 6) << mantissa));
        }
        assert_eq!(
            Kind { bits: 16, float: true, mantissa: 10, has_base: true }.key_rule().key(0x7fff),
            31
        );
    }

    #[test]
    fn exact_values_have_their_own_tokens() {
        let tokens = sample().tokens;
        let expansions = tokens.expansions();
        for v in [0, 1, 888, 889, 890, 1129, u64::from(u32::MAX)] {
            let t = tokens.split(v);
            assert_eq!(
                expansions[t.token as usize],
                (t.raw_bits, v - (t.raw << tokens.scheme.raw_shift()))
            );
        }
        assert_eq!(tokens.split(889).raw_bits, 0);
    }
}
