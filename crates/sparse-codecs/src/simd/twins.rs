//! Scalar kernels, compiled for the features of a level.

/// One kernel of [`twins`]: its name, then the level's features.
macro_rules! twin {
    (contexts16 $f:literal) => {
        twin!(@ $f contexts16(rule: $crate::simd::ContextRule, table: &[u8; 64],
            predictions: &[[u8; 2]], contexts: &mut [u8]));
    };
    (contexts32 $f:literal) => {
        twin!(@ $f contexts32(rule: $crate::simd::ContextRule, table: &[u8; 64],
            predictions: &[[u8; 4]], contexts: &mut [u8]));
    };
    (look_up $f:literal) => {
        twin!(@ $f look_up(table: &[u8; 64], keys: &[u8], out: &mut [u8]));
    };
    (restore16 $f:literal) => {
        twin!(@ $f restore16(float: bool, expansion: &$crate::simd::Expansion16, tokens: &[u8],
            predictions: &[[u8; 2]], raw: &mut $crate::simd::RawBits<'_>, out: &mut [[u8; 2]]));
    };
    (restore32 $f:literal) => {
        twin!(@ $f restore32(float: bool, expansion: &[(u32, u32); 256], raw_shift: u32,
            tokens: &[u8], predictions: &[[u8; 4]], raw: &mut $crate::simd::RawBits<'_>,
            out: &mut [[u8; 4]]));
    };
    (split16 $f:literal) => {
        twin!(@ $f split16(float: bool, scheme: $crate::entropy::token::TokenScheme,
            target: &[[u8; 2]], predictions: &[[u8; 2]], values: &mut [[u8; 2]],
            tokens: &mut [u8]));
    };
    (split32 $f:literal) => {
        twin!(@ $f split32(float: bool, scheme: $crate::entropy::token::TokenScheme,
            target: &[[u8; 4]], predictions: &[[u8; 4]], values: &mut [[u8; 4]],
            tokens: &mut [u8]));
    };
    (put_raw16 $f:literal) => {
        twin!(@ $f put_raw16(writer: &mut $crate::entropy::bits::BitWriter, counts: &[u8; 256],
            raw_shift: u32, tokens: &[u8], values: &[[u8; 2]]));
    };
    (put_raw32 $f:literal) => {
        twin!(@ $f put_raw32(writer: &mut $crate::entropy::bits::BitWriter, counts: &[u8; 256],
            raw_shift: u32, tokens: &[u8], values: &[[u8; 4]]));
    };
    (price $f:literal) => {
        #[target_feature(enable = $f)]
        pub(super) fn price(prices: &$crate::simd::PriceTable, keys: &[u8],
            tokens: &[u8]) -> [f32; 8] {
            scalar::price(prices, keys, tokens)
        }
    };
    (@ $f:literal $name:ident($($arg:ident: $type:ty),*)) => {
        #[target_feature(enable = $f)]
        pub(super) fn $name($($arg: $type),*) {
            scalar::$name($($arg),*);
        }
    };
}

/// For a level without kernels of its own: the scalar ones, compiled for its features.
macro_rules! twins {
    ($features:literal: $($function:ident)*) => { $(twin!($function $features);)* };
}

/// Call the kernel `$restore` for an expansion's scheme, with the scheme's number as its parameter
/// and its bits as the first argument; without a scheme, the scalar one.
#[cfg(target_arch = "x86_64")]
macro_rules! by_scheme {
    ($restore:ident, $expansion:ident, ($float:ident, $($args:ident),*)) => {{
        use crate::entropy::token::TokenScheme;
        use $crate::simd::types::{Form, HYBRID};
        match $expansion.form {
            Form::Scheme(TokenScheme::Hybrid { msb }) => $restore::<HYBRID>(msb, $expansion,
                $float, $($args),*),
            Form::Scheme(TokenScheme::Signed { msb }) => $restore::<SIGNED>(msb, $expansion,
                $float, $($args),*),
            Form::Scheme(TokenScheme::Shift { shift }) => $restore::<SHIFT>(shift, $expansion,
                $float, $($args),*),
            Form::Other => scalar::restore16($float, $expansion, $($args),*),
        }
    }};
}
