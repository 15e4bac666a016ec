//! Tests of the conversions and predictions.

use super::*;
use proptest::prelude::*;

/// `value * 2^-scale` for a finite word, as an integer; every number of the type is one.
fn fixed<R: Predicted>(word: u32) -> i128 {
    let field = (word & !R::SIGN) >> R::MANTISSA;
    let mantissa = i128::from(word & ((1 << R::MANTISSA) - 1));
    let m = if field == 0 { mantissa } else { (mantissa | 1 << R::MANTISSA) << (field - 1) };
    if word & R::SIGN == 0 { m } else { -m }
}

/// What the documentation says, the slow way: exact sum, nearest number, halves away from zero.
/// All in units of `2^-UNIT` of the smallest subnormal.
fn naive<R: Predicted>(base: u32, sum: i128) -> u32 {
    const UNIT: u32 = 12;
    let exact = (fixed::<R>(base) << UNIT) + sum;
    // Up to what 128 bits hold.
    let (mut low, mut high) = (0u32, (R::SIGN - (1 << R::MANTISSA)).min(80 << R::MANTISSA));
    let m = exact.unsigned_abs();
    // The last number whose lower bound is not above.
    while high - low > 1 {
        let middle = (low + high) / 2;
        let bound = ((fixed::<R>(middle) + fixed::<R>(middle - 1)).unsigned_abs() << UNIT) / 2;
        if bound <= m { low = middle } else { high = middle }
    }
    low | if exact < 0 { R::SIGN } else { 0 }
}

fn finite<R: Predicted>(word: u32, top: u32) -> u32 {
    // Exponents small enough for 128 bits, which `naive` needs.
    let magnitude = (word & !R::SIGN & R::MASK) % (top << R::MANTISSA);
    magnitude | word & R::SIGN
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn half_is_exact(base: u16, sum in -200_000i32..200_000) {
        let base = finite::<F16>(base.into(), 30);
        // binary32 holds these sums exactly: 11 bits of the base and 18 of the sum may need
        // more than 24, so the sum is cut to what it has beside the base.
        let sum = sum >> 6 << 6;
        let exact = f64::from(F16::widen(base)) + f64::from(sum) * 2f64.powi(-36);
        if sum == 0 || exact == 0.0 || f64::from(exact as f32) != exact {
            return Ok(());
        }
        let (p, _) = F16::predict::<false>(base, sum, F16::scale(-36));
        prop_assert_eq!(p, naive::<F16>(base, sum.into()));
    }

    #[test]
    fn brain_is_exact(base: u16, sum in -30_000i32..30_000) {
        let base = finite::<Bf16>(base.into(), 60);
        let exact = f64::from(Bf16::widen(base)) + f64::from(sum) * 2f64.powi(-112);
        if sum == 0 || exact == 0.0 || f64::from(exact as f32) != exact {
            return Ok(());
        }
        let (p, _) = Bf16::predict::<false>(base, sum, Bf16::scale(-112));
        // 2^-112 in units of 2^-133 * 2^-12.
        prop_assert_eq!(p, naive::<Bf16>(base, i128::from(sum) << 33));
    }

    #[test]
    fn single_is_exact(base: u32, sum in -(1i64 << 40)..1 << 40) {
        let base = finite::<F32>(base, 40);
        let exact = f64::from(f32::from_bits(base)) + sum as f64 * 2f64.powi(-161);
        if sum == 0 || exact == 0.0 {
            return Ok(());
        }
        let (p, _) = F32::predict::<false>(base, sum, F32::scale(-161));
        prop_assert_eq!(p, naive::<F32>(base, sum.into()));
    }

    /// What frameworks do: round the product to the type, add, round again, halves to even.
    #[test]
    fn rounded_products_are_those_of_frameworks(base: u32, other: u32, sum: i32,
        cut in 0u32..31, e in -60i32..20) {
        let (sum, scale) = (sum >> cut, 2f32.powi(e));
        if sum == 0 {
            return Ok(());
        }
        let (b, before) = (base & 0xffff, half::bf16::from_bits(base as u16));
        if !Bf16::is_special(b.into()) {
            let product = half::bf16::from_f32(sum as f32 * scale).to_f32();
            let want = half::bf16::from_f32(before.to_f32() + product);
            prop_assert_eq!(Bf16::predict::<true>(b, sum, Bf16::scale(e)).0, u32::from(want
                .to_bits()));
            let float = Bf16::predict_float::<true>(b, f64::from(sum) * f64::from(scale));
            prop_assert_eq!(float, Bf16::predict::<true>(b, sum, Bf16::scale(e)));
        }
        let (b, before) = (other & 0xffff, half::f16::from_bits(other as u16));
        let product = half::f16::from_f32(sum as f32 * scale);
        if !F16::is_special(b.into()) && product.is_finite() {
            let want = half::f16::from_f32(before.to_f32() + product.to_f32());
            prop_assert_eq!(F16::predict::<true>(b, sum, F16::scale(e)).0, u32::from(want
                .to_bits()));
        }
        let before = f32::from_bits(base);
        if !F32::is_special(base.into()) {
            let want = before + (f64::from(sum) * f64::from(scale)) as f32;
            prop_assert_eq!(F32::predict::<true>(base, sum.into(), F32::scale(e)).0, want
                .to_bits());
        }
    }

    #[test]
    fn residuals_are_bijective(t: u32, p: u32, fraction: u8) {
        fn check<R: Predicted>(t: u32, p: u32, fraction: u8) {
            let (t, p) = (t & R::MASK, p & R::MASK);
            let z = residual::<R>(t, p, fraction);
            assert!(z <= R::MASK);
            assert_eq!(restore::<R>(z, p, fraction), t);
            assert_eq!(residual::<R>(p, p, fraction), 0);
        }
        check::<Bf16>(t, p, fraction);
        check::<F32>(t, p, fraction);
    }

    #[test]
    fn cells_hold_what_rounds_to_them(word: u32, at in 0.01f64..0.99) {
        check_cell::<F32>(word, at);
    }
}

/// What lies within the cell of a word rounds to it, with a fraction that says where.
fn check_cell<R: Predicted>(word: u32, at: f64) {
    if R::is_special(word.into()) {
        return;
    }
    let (value, low, high) = R::cell(word);
    let (inner, outer) = (low.abs().min(high.abs()), low.abs().max(high.abs()));
    // The cell of a zero reaches to both sides of it.
    let zero = word & !R::SIGN == 0;
    assert!(if zero {
        value == 0.0 && inner == outer
    } else {
        (inner..=outer).contains(&value.abs())
    });
    assert_eq!((low > high) | (low.is_sign_positive() & zero), word & R::SIGN != 0, "{word:x}");
    let want = [value, low.min(high), low.max(high)].map(|x| (x * 0.5) as f32);
    assert_eq!(R::change(word, 0, 0.5), want.into(), "{word:x}");
    let x = low + (high - low) * at;
    if x == 0.0 || (x < 0.0) != (word & R::SIGN != 0) {
        return;
    }
    // A base of zero, so that nothing is rounded before.
    let (p, fraction) = R::predict_float::<false>(0, x);
    assert_eq!(p, word, "{x} in {low}..{high}");
    let place = (x - low) / (high - low);
    // At powers of two, the cell is lopsided.
    let bend = if word & ((1 << R::MANTISSA) - 1) == 0 { 1.0 / 6.0 } else { 0.0 };
    assert!(
        (f64::from(fraction) / 256.0 - place).abs() < 0.01 + bend,
        "{word:x}: {fraction} at {place}"
    );
}

#[test]
fn cells_of_all_words() {
    for word in 0..=0xffff {
        for at in [0.01, 0.2, 0.33, 0.49, 0.51, 0.7, 0.99] {
            check_cell::<Bf16>(word, at);
            check_cell::<F16>(word, at);
        }
    }
    // Zeros, the smallest numbers, both sides of the first normal number, the largest.
    for magnitude in [0, 1, 2, 3, 0x7f_ffff, 0x80_0000, 0x80_0001, 0x7f00_0000, 0x7f7f_ffff] {
        for word in [magnitude, magnitude | 0x8000_0000] {
            [0.01, 0.49, 0.51, 0.99].into_iter().for_each(|at| check_cell::<F32>(word, at));
        }
    }
}

#[test]
fn special_words_predict_themselves() {
    for word in [0x7f80, 0xff80, 0x7fc1, 0xffff] {
        assert_eq!(Bf16::predict::<false>(word, 12345, 1.0), (word, CENTRE));
    }
    assert_eq!(Bf16::predict::<false>(0x8000, 0, 1.0), (0x8000, CENTRE));
    assert_eq!(F32::predict::<false>(0x7fc0_0001, 1, 1.0), (0x7fc0_0001, CENTRE));
    // Beyond the largest number lies infinity.
    assert_eq!(F16::predict::<false>(0x7bff, 1 << 30, 1.0).0, 0x7c00);
    assert_eq!(F32::predict::<false>(0x7f7f_ffff, 1 << 60, F32::scale(400)).0, 0x7f80_0000);
}
