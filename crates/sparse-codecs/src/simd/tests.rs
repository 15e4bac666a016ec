//! Each kernel against its twin, on random and hostile input.

use super::*;
use crate::entropy::freq::FreqTable;
use crate::entropy::rans::{DecodeTables, EncodeScratch, EncodeTables, Slot, encode};
use proptest::prelude::*;

fn levels() -> impl Iterator<Item = Simd> {
    [Level::Avx2, Level::Avx512].into_iter().map(Simd::at_most)
}

fn padded(bytes: &[u8]) -> Padded {
    let mut p = Padded::new();
    // Earlier content must not matter.
    p.fill(&[0xff; 300]);
    p.fill(bytes);
    p
}

/// A few tables of differing width.
fn tables(seed: u64) -> Vec<FreqTable> {
    (0..1 + seed % 5)
        .map(|i| {
            let width = 1 + (seed >> (8 * i)) % 112;
            let counts: Vec<u64> =
                (0..width).map(|s| 1 + s.wrapping_mul(seed.rotate_left(i as u32)) % 1000).collect();
            FreqTable::from_counts(&counts)
        })
        .collect()
}

/// Of words of 32 bits.
fn expansions(bits: u32) -> [(u32, u32); 256] {
    std::array::from_fn(|t| (t as u32 % (bits + 1), (t as u32).wrapping_mul(0x9e37_79b9)))
}

/// A scheme for words of 16 bits.
fn scheme() -> impl Strategy<Value = TokenScheme> {
    prop_oneof![
        (1u32..=4).prop_map(|msb| TokenScheme::Hybrid { msb }),
        (1u32..=2).prop_map(|msb| TokenScheme::Signed { msb }),
        (8u32..=14).prop_map(|shift| TokenScheme::Shift { shift }),
    ]
}

/// Its expansions, and those of some exact values.
fn expansion16(scheme: TokenScheme, exact: &[u16]) -> (usize, Expansion16) {
    let regular = (0..scheme.token_count(16) as u32).map(|t| scheme.expand(t));
    let all: Vec<_> = regular.chain(exact.iter().map(|&v| (0, v.into()))).take(256).collect();
    (all.len(), Expansion16::new(&all, scheme).unwrap())
}

/// States, words taken, and output of everything.
type RansOut = ([u32; 64], usize, Vec<u8>);

fn run_rans(simd: Simd, states: &[u32], words: &Padded, slots: &[Slot], c: &[u8]) -> RansOut {
    let lanes = states.len();
    let mut rans = Rans { states: [7; 64], lanes, words: Words { bytes: words, next: 0 }, slots };
    rans.states[..lanes].copy_from_slice(states);
    let mut tokens = vec![0xAA; c.len()];
    rans_rounds(simd, &mut rans, c, &mut tokens);
    (rans.states, rans.words.next, tokens)
}

proptest! {
    #[test]
    fn rans_on_garbage(
        seed: u64,
        states in prop::collection::vec(any::<u32>(), 64),
        wide in any::<bool>(),
        words in prop::collection::vec(any::<u8>(), 0..600),
        contexts in prop::collection::vec(0u8..7, 0..400),
        wild in any::<bool>(),
    ) {
        let tables = DecodeTables::new(&tables(seed));
        let mut contexts = contexts;
        if wild {
            contexts.iter_mut().for_each(|c| *c = c.wrapping_mul(83));
        }
        let words = padded(&words);
        let states = &states[..if wide { 64 } else { 32 }];
        let want = run_rans(Simd::SCALAR, states, &words, tables.slots(), &contexts);
        for simd in levels() {
            prop_assert_eq!(&run_rans(simd, states, &words, tables.slots(), &contexts), &want);
            // Without a table there is nothing to do.
            let none = run_rans(simd, states, &words, &tables.slots()[..100], &contexts);
            prop_assert_eq!(&none.0[..states.len()], states);
            prop_assert_eq!(none.2, vec![0xAA; contexts.len()]);
        }
    }

    #[test]
    fn rans_on_streams(seed: u64, wide: bool, picks in prop::collection::vec(any::<u16>(),
        0..2000), cut in 0usize..3) {
        let tables = tables(seed);
        let contexts: Vec<u8> = picks.iter().map(|p| (usize::from(*p) % tables.len()) as u8)
            .collect();
        let tokens: Vec<u8> = picks
            .iter()
            .zip(&contexts)
            .map(|(p, &c)| (usize::from(p >> 3) % tables[c as usize].freqs().len()) as u8)
            .collect();
        let lanes = if wide { 64 } else { 32 };
        let run = |simd| {
            let mut out = Vec::new();
            let encoded = EncodeTables::on(simd, &tables);
            encode(&tokens, &contexts, &encoded, lanes, &mut EncodeScratch::default(), &mut out)
                .unwrap();
            out
        };
        let out = run(Simd::SCALAR);
        for simd in levels() {
            prop_assert_eq!(&run(simd), &out);
        }
        let (head, words) = out.split_at(4 * lanes);
        let states: Vec<u32> = head.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        // Truncated, also in the middle of a word.
        let words = padded(&words[..words.len().saturating_sub(cut)]);
        let tables = DecodeTables::new(&tables);
        let want = run_rans(Simd::SCALAR, &states, &words, tables.slots(), &contexts);
        if cut == 0 {
            let whole = tokens.len() - tokens.len() % lanes;
            prop_assert_eq!(&want.2[..whole], &tokens[..whole]);
        }
        for simd in levels() {
            prop_assert_eq!(&run_rans(simd, &states, &words, tables.slots(), &contexts), &want);
        }
    }

    #[test]
    fn contexts(
        predictions in prop::collection::vec(any::<u32>(), 0..200),
        table in prop::array::uniform32(any::<u8>()),
        shift in 0u32..32,
        origin in any::<u64>(),
        cut in 0u32..64,
        float: bool,
    ) {
        let table: [u8; 64] = std::array::from_fn(|i| table[i % 32] ^ i as u8);
        let n = predictions.len();
        let wide: Vec<[u8; 4]> = predictions.iter().map(|p| p.to_le_bytes()).collect();
        let narrow: Vec<[u8; 2]> = predictions.iter().map(|&p| (p as u16).to_le_bytes()).collect();
        for origin in [origin >> cut, origin % 300, 1 << 40] {
            let (mut want, mut got) = (vec![0; n], vec![1; n]);
            for simd in levels() {
                let rule = ContextRule { shift: shift % 16, origin, float };
                contexts16(Simd::SCALAR, rule, &table, &narrow, &mut want);
                contexts16(simd, rule, &table, &narrow, &mut got);
                prop_assert_eq!(&got, &want);
                let rule = ContextRule { shift, origin, float };
                contexts32(Simd::SCALAR, rule, &table, &wide, &mut want);
                contexts32(simd, rule, &table, &wide, &mut got);
                prop_assert_eq!(&got, &want);
            }
        }
    }

    #[test]
    fn restoring(
        tokens in prop::collection::vec(any::<u8>(), 0..300),
        predictions in prop::collection::vec(any::<u32>(), 300..301),
        raw in prop::collection::vec(any::<u8>(), 0..400),
        start in 0usize..100,
        float: bool,
        scheme in scheme(),
        exact in prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(any::<u16>(), 1..5)],
        few in 1usize..=256,
        bits in 0u32..=28,
    ) {
        let n = tokens.len();
        let raw = padded(&raw);
        let wide: Vec<[u8; 4]> = predictions[..n].iter().map(|p| p.to_le_bytes()).collect();
        let narrow: Vec<[u8; 2]> = predictions[..n].iter().map(|&p| (p as u16).to_le_bytes())
            .collect();
        let (count, expansion) = expansion16(scheme, &exact);
        // Tokens without an expansion may differ between twins.
        let tokens: Vec<u8> = tokens.iter().map(|&t| (usize::from(t) % count.min(few)) as u8)
            .collect();
        let run16 = |simd| {
            let mut bits = RawBits { bytes: &raw, position: start };
            let mut out = vec![[0xAA; 2]; n];
            restore16(simd, float, &expansion, &tokens, &narrow, &mut bits, &mut out);
            (bits.position, out)
        };
        let wide_expansion = expansions(bits);
        let run32 = |simd| {
            let mut bits = RawBits { bytes: &raw, position: start };
            let mut out = vec![[0xAA; 4]; n];
            restore32(simd, float, &wide_expansion, scheme.raw_shift(), &tokens, &wide,
                &mut bits, &mut out);
            (bits.position, out)
        };
        for simd in levels() {
            prop_assert_eq!(run16(simd), run16(Simd::SCALAR));
            prop_assert_eq!(run32(simd), run32(Simd::SCALAR));
        }
    }

    #[test]
    fn decoding_at_once(
        seed: u64,
        states in prop::collection::vec(any::<u32>(), 64),
        wide in any::<bool>(),
        words in prop::collection::vec(any::<u8>(), 0..600),
        raw in prop::collection::vec(any::<u8>(), 0..600),
        contexts in prop::collection::vec(any::<u8>(), 0..20),
        predictions in prop::collection::vec(any::<u16>(), 40 * 32),
        float: bool,
        scheme in scheme().prop_filter("tokens of the tables", |s| s.token_count(16) >= 112),
    ) {
        let tables = DecodeTables::new(&tables(seed));
        let (words, raw) = (padded(&words), padded(&raw));
        let predictions: Vec<[u8; 2]> = predictions.iter().map(|p| p.to_le_bytes()).collect();
        let lanes = if wide { 64 } else { 32 };
        let contexts: Vec<u8> = contexts.iter().flat_map(|&c| (0..64).map(move |i| c
            .wrapping_mul(i))).collect();
        let predictions = &predictions[..contexts.len()];
        let states: [u32; 64] = std::array::from_fn(|i| states[i]);
        let (_, expansion) = expansion16(scheme, &[]);
        let run = |simd| {
            let mut rans = Rans { states, lanes, words: Words { bytes: &words, next: 0 },
                slots: tables.slots() };
            let mut bits = RawBits { bytes: &raw, position: 0 };
            let mut out = vec![[0xAA; 2]; contexts.len()];
            decode16(simd, &mut rans, &contexts, float, &expansion, predictions, &mut bits,
                &mut out);
            (rans.states, rans.words.next, bits.position, out)
        };
        for simd in levels() {
            prop_assert_eq!(run(simd), run(Simd::SCALAR));
        }
    }

    #[test]
    fn splitting(
        target in prop::collection::vec(any::<u32>(), 0..1500),
        spread in 0u32..32,
        float: bool,
        msb in 1u32..=3,
        which in 0usize..3,
        before in 0u32..64,
    ) {
        let n = target.len();
        let prediction = |i: usize, t: u32| t.wrapping_sub((i as u32)
            .wrapping_mul(0x9e37_79b9) >> spread);
        let scheme = |bits: u32| match which {
            0 => TokenScheme::Signed { msb: msb.div_ceil(2) },
            1 => TokenScheme::Hybrid { msb },
            _ => TokenScheme::Shift { shift: bits - 8 },
        };
        let counts = |scheme: TokenScheme, bits| -> [u8; 256] {
            std::array::from_fn(|t| if t < scheme.token_count(bits) { scheme
                .expand(t as u32).0 as u8 } else { 0 })
        };
        let words = |f: &dyn Fn(usize, u32) -> u32| -> Vec<u32> {
            target.iter().enumerate().map(|(i, &t)| f(i, t)).collect()
        };
        let (t, p) = (words(&|_, t| t), words(&prediction));
        let narrow = |w: &[u32]| -> Vec<[u8; 2]> { w.iter().map(|&w| (w as u16).to_le_bytes())
            .collect() };
        let wide = |w: &[u32]| -> Vec<[u8; 4]> { w.iter().map(|&w| w.to_le_bytes()).collect() };
        let run = |simd| {
            let mut writer = BitWriter::new();
            writer.put(0, before);
            let (mut v16, mut v32) = (vec![[1; 2]; n], vec![[1; 4]; n]);
            let (mut t16, mut t32) = (vec![1; n], vec![1; n]);
            split16(simd, float, scheme(16), &narrow(&t), &narrow(&p), &mut v16, &mut t16);
            split32(simd, float, scheme(32), &wide(&t), &wide(&p), &mut v32, &mut t32);
            let (s16, s32) = (scheme(16), scheme(32));
            put_raw16(simd, &mut writer, &counts(s16, 16), s16.raw_shift(), &t16, &v16);
            if which < 2 {
                put_raw32(simd, &mut writer, &counts(s32, 32), s32.raw_shift(), &t32, &v32);
            }
            let mut bytes = Vec::new();
            writer.finish_into(&mut bytes);
            (v16, t16, v32, t32, bytes)
        };
        let want = run(Simd::SCALAR);
        // The scalar twins, against the definition of tokens.
        let mut writer = BitWriter::new();
        writer.put(0, before);
        for (v, &t) in want.0.iter().zip(&want.1) {
            let split = scheme(16).split(u16::from_le_bytes(*v).into());
            prop_assert_eq!(split.token, u32::from(t));
            writer.put(split.raw, split.raw_bits);
        }
        for (v, &t) in want.2.iter().zip(&want.3) {
            let split = scheme(32).split(u32::from_le_bytes(*v).into());
            prop_assert_eq!(split.token, u32::from(t));
            if which < 2 {
                writer.put(split.raw, split.raw_bits);
            }
        }
        let mut bytes = Vec::new();
        writer.finish_into(&mut bytes);
        prop_assert_eq!(&bytes, &want.4);
        for simd in levels() {
            prop_assert_eq!(run(simd), want.clone());
        }
    }

    #[test]
    fn bounds(pairs in prop::collection::vec((0u8..64, any::<u8>()), 0..500), cut in 0u32..8,
        start in any::<u8>()) {
        let (keys, tokens): (Vec<u8>, Vec<u8>) = pairs.into_iter().map(|(k, t)| (k >> (cut / 2),
            t >> cut)).unzip();
        // As it is documented, and not as any level does it.
        let mut want = [start; 64];
        for (&k, &t) in keys.iter().zip(&tokens) {
            want[k as usize] = want[k as usize].max(t.saturating_add(1));
        }
        for simd in levels().chain([Simd::SCALAR]) {
            let mut bounds = [start; 64];
            bound_tokens(simd, &keys, &tokens, &mut bounds);
            prop_assert_eq!(bounds, want);
        }
    }

    #[test]
    fn prices(pairs in prop::collection::vec((0u8..64, any::<u8>()), 0..300), seed: u32) {
        let (keys, tokens): (Vec<u8>, Vec<u8>) = pairs.into_iter().unzip();
        let mut table = Box::new([[[0f32; 8]; 256]; 64]);
        for (i, p) in table.as_flattened_mut().as_flattened_mut().iter_mut().enumerate() {
            *p = (seed.wrapping_mul(i as u32) >> 8) as f32 / 1000.0;
        }
        let mut out = vec![0; keys.len()];
        let (mut want, map) = (out.clone(), std::array::from_fn(|i| (i as u8)
            .wrapping_mul(seed as u8)));
        look_up(Simd::SCALAR, &map, &keys, &mut want);
        for simd in levels() {
            let scalar = price(Simd::SCALAR, &table, &keys, &tokens);
            prop_assert_eq!(price(simd, &table, &keys, &tokens).map(f32::to_bits), scalar
                .map(f32::to_bits));
            look_up(simd, &map, &keys, &mut out);
            prop_assert_eq!(&out, &want);
        }
    }
}

#[test]
fn levels_have_names() {
    for level in Level::ALL {
        assert_eq!(Level::from_name(level.name()), Some(level));
        assert!(Simd::at_most(level).level() <= level);
    }
    assert_eq!(Level::from_name("mmx"), None);
    assert_eq!(Simd::at_most(Level::Scalar), Simd::SCALAR);
}

proptest! {
    #[test]
    fn masks_and_members(
        bytes in prop::collection::vec(0u8..6, 0..1500),
        value in 0u8..7,
        gaps in prop::collection::vec(prop_oneof![0u32..4, 0u32..400, any::<u32>()], 0..200),
    ) {
        let members: Vec<u32> = (0..).zip(&bytes).filter(|b| *b.1 == value).map(|b| b.0).collect();
        let mut naive = Vec::new();
        let mut next = 0u64;
        for &gap in &gaps {
            next += u64::from(gap);
            naive.extend(members.get(next as usize).copied());
            next += 1;
        }
        for simd in levels().chain([Simd::SCALAR]) {
            let mut places = gaps.clone();
            let enough = select(simd, &bytes, value, &mut places);
            prop_assert_eq!(enough, naive.len() == gaps.len());
            if enough {
                prop_assert_eq!(&places, &naive);
            }
            let mut out = vec![7];
            masks(simd, &bytes, value, &mut out);
            prop_assert_eq!(out.len(), bytes.len().div_ceil(64));
            for i in 0..64 * out.len() {
                prop_assert_eq!(out[i / 64] >> (i % 64) & 1 != 0, bytes.get(i) == Some(&value));
            }
        }
    }
}

/// Quotients at which a division that is off by a little shows: states next to multiples of the
/// frequency, for all of these.
#[test]
fn states_are_divided_exactly() {
    use crate::entropy::freq::{PROB_BITS, PROB_SCALE};
    let mut seed = 1u64;
    for freq in 1..=PROB_SCALE {
        let freqs = [u64::from(freq), u64::from(PROB_SCALE - freq)];
        let tables = [FreqTable::from_counts(&freqs)];
        assert_eq!(u32::from(tables[0].freqs()[0]), freq);
        let limit = u64::from(freq) << (32 - PROB_BITS);
        let states: [u32; 64] = std::array::from_fn(|i| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let quotient = (seed >> 33) >> (10 + i % 11);
            let x = match i {
                0 => limit - 1,
                1 => limit,
                _ => quotient * u64::from(freq) + u64::from(freq) - 1 + (seed >> 20) % 3,
            };
            x.clamp(1 << 16, u32::MAX.into()) as u32
        });
        let run = |simd| {
            let mut words = vec![0; 128];
            let encoded = EncodeTables::on(simd, &tables);
            let first = words.len();
            let (lanes, tables, missing) = (64, encoded.symbols(), false);
            let mut job = EncodeRounds { states, lanes, tables, words: &mut words, first, missing };
            encode_rounds(simd, &mut job, &[0; 64], &[0; 64]);
            let (states, first) = (job.states, job.first);
            (states, words[first..].to_vec())
        };
        let want = run(Simd::SCALAR);
        for simd in levels() {
            assert_eq!(run(simd), want, "{simd:?} {freq}");
        }
    }
}

#[test]
fn every_difference_of_16_bits() {
    let scheme = TokenScheme::Signed { msb: 2 };
    let target: Vec<[u8; 2]> = (0..=u16::MAX).map(u16::to_le_bytes).collect();
    for prediction in [0u16, 0x3f80, 0xbf80, 0x8000] {
        let predictions = vec![prediction.to_le_bytes(); target.len()];
        let run = |simd, float| {
            let (mut values, mut tokens) = (vec![[0; 2]; target.len()], vec![0; target.len()]);
            split16(simd, float, scheme, &target, &predictions, &mut values, &mut tokens);
            (values, tokens)
        };
        for (simd, float) in levels().flat_map(|l| [(l, false), (l, true)]) {
            assert_eq!(run(simd, float), run(Simd::SCALAR, float));
        }
    }
}
