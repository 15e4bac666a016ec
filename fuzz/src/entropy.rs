//! The entropy coder and its parts: what was put in comes back, and garbage is an error or a value.

use crate::Seed;
use crate::input::Input;
use crate::units::levels;
use sparse_codecs::entropy::bits::{BitReader, BitWriter};
use sparse_codecs::entropy::freq::{FreqTable, PROB_SCALE};
use sparse_codecs::entropy::rans::{
    self, DecodeTables, EncodeScratch, EncodeTables, LANES, LOW, MAX_LANES,
};
use sparse_codecs::entropy::token::TokenScheme;
use sparse_codecs::entropy::{bytes, tables as serial_tables, varint};
use sparse_codecs::simd::{Padded, Simd};
use sparse_core::{Error, Result};

/// Try the part that the first byte names on the rest.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 6 {
        0 => rans_round_trip(input),
        1 => rans_garbage(input),
        2 => tables(input),
        3 => tokens(input),
        4 => packed(input),
        _ => bit_stream(input),
    }
}

/// Lanes, contexts, how uneven the tables are, and then one byte each for token and context.
fn rans_round_trip(mut input: Input<'_>) {
    let lanes = lanes(&mut input);
    let count = 1 + input.byte() % 8;
    let spread = input.byte();
    let mut counts = vec![vec![0u64; 256]; count.into()];
    let (mut tokens, mut contexts) = (Vec::new(), Vec::new());
    while let [token, context, ..] = *input.take(2) {
        tokens.push(token);
        contexts.push(context % count);
        // Uneven weights, so that frequencies of one occur beside large ones.
        counts[usize::from(context % count)][usize::from(token)] +=
            1 << (u32::from(token & spread) % 40);
    }
    let tables: Vec<FreqTable> = counts.iter().map(|c| FreqTable::from_counts(c)).collect();
    let out = encode(&tokens, &contexts, &tables, lanes).expect("every token was counted");
    let (states, words) = out.split_at(4 * lanes);
    assert_eq!(
        decode(states, words, &contexts, &tables).expect("what was encoded decodes"),
        tokens
    );
    if !words.is_empty() {
        assert!(decode(states, &words[..words.len() - 2], &contexts, &tables).is_err());
    }
    // Tables that lack some tokens.
    let last = tokens.last().copied();
    counts.iter_mut().for_each(|c| c[usize::from(last.unwrap_or(0))] = 0);
    let lacking: Vec<FreqTable> = counts.iter().map(|c| FreqTable::from_counts(c)).collect();
    // A table without any token has a code for token 0.
    if encode(&tokens, &contexts, &lacking, lanes).is_ok() {
        assert!(tokens.is_empty() || last == Some(0));
    }
    let mut serial = Vec::new();
    serial_tables::write(&tables, &mut serial);
    let mut rest = &serial[..];
    assert_eq!(
        serial_tables::read(&mut rest, tables.len(), 256).expect("tables come back"),
        tables
    );
    assert!(rest.is_empty());
}

fn rans_garbage(mut input: Input<'_>) {
    let count = 1 + input.byte() % 3;
    let tables: Vec<FreqTable> = (0..count)
        .map(|_| {
            FreqTable::from_counts(&input.take(8).iter().map(|&b| b.into()).collect::<Vec<u64>>())
        })
        .collect();
    let lanes = lanes(&mut input);
    let len = usize::from(input.u16()) % 2048;
    let states = input.take(4 * lanes);
    let contexts: Vec<u8> = (0..len).map(|i| i as u8 % count).collect();
    let _ = decode(states, input.0, &contexts, &tables);
}

/// Any number of lanes, and every other time one of those that have vector kernels.
fn lanes(input: &mut Input<'_>) -> usize {
    let byte = usize::from(input.byte());
    match byte {
        0..128 => 1 + byte % MAX_LANES,
        128..192 => LANES,
        _ => MAX_LANES,
    }
}

/// Encode at every level of vector instructions, which must agree.
fn encode(tokens: &[u8], contexts: &[u8], tables: &[FreqTable], lanes: usize) -> Result<Vec<u8>> {
    let run = |simd| {
        let mut out = Vec::new();
        let tables = EncodeTables::on(simd, tables);
        let words = rans::encode(
            tokens,
            contexts,
            &tables,
            lanes,
            &mut EncodeScratch::default(),
            &mut out,
        )?;
        assert_eq!(out.len(), 4 * lanes + 2 * words);
        Ok(out)
    };
    agree(run)
}

/// Decode at every level of vector instructions, which must agree.
fn decode(states: &[u8], words: &[u8], contexts: &[u8], tables: &[FreqTable]) -> Result<Vec<u8>> {
    let tables = DecodeTables::new(tables);
    let mut padded = Padded::new();
    padded.fill(words);
    let mut prior = 0;
    let run = |simd| {
        prior ^= 0xff;
        let mut tokens = vec![prior; contexts.len()];
        let mut decoder = rans::Decoder::new(simd, states, &padded, &tables)?;
        // In two calls, the first of whole rounds.
        let lanes = (states.len() / 4).max(1);
        let first = contexts.len() / 2 / lanes * lanes;
        decoder.decode(&contexts[..first], &mut tokens[..first])?;
        decoder.decode(&contexts[first..], &mut tokens[first..])?;
        decoder.finish()?;
        Ok(tokens)
    };
    let tokens = agree(run);
    let mut again = vec![0; contexts.len()];
    let whole = rans::decode(states, words, contexts, &tables, &mut again);
    assert_eq!(
        tokens.as_ref().map_err(Error::kind),
        whole.as_ref().map(|()| &again).map_err(Error::kind)
    );
    tokens
}

/// What `run` says, which must not depend on the level.
fn agree(mut run: impl FnMut(Simd) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let first = run(Simd::SCALAR);
    for simd in levels() {
        let other = run(simd);
        assert_eq!(
            first.as_ref().map_err(Error::kind),
            other.as_ref().map_err(Error::kind),
            "on {:?}",
            simd.level()
        );
    }
    first
}

fn tables(mut input: Input<'_>) {
    let count = usize::from(input.byte()) % 80;
    let max_symbols = usize::from(input.u16()) % 300;
    for table in serial_tables::read(&mut input.0, count, max_symbols).into_iter().flatten() {
        assert!(table.freqs().len() <= max_symbols);
        assert_eq!(table.freqs().iter().map(|&f| u32::from(f)).sum::<u32>(), PROB_SCALE);
        assert_eq!(DecodeTables::new(std::slice::from_ref(&table)).contexts(), 1);
    }
}

fn tokens(mut input: Input<'_>) {
    while !input.0.is_empty() {
        let (scheme, bits) = (input.byte(), 1 + u32::from(input.byte()) % 64);
        let value = input.u64() & (u64::MAX >> (64 - bits));
        let msb = 1 + u32::from(scheme >> 2) % 4;
        let scheme = match scheme % 3 {
            0 => TokenScheme::Hybrid { msb },
            1 => TokenScheme::Signed { msb: msb.div_ceil(2) },
            // Tokens are small numbers.
            _ => TokenScheme::Shift { shift: bits.saturating_sub(8) },
        };
        let t = scheme.split(value);
        assert!((t.token as usize) < scheme.token_count(bits));
        assert!(t.raw_bits == 64 || t.raw >> t.raw_bits == 0);
        let (raw_bits, rest) = scheme.expand(t.token);
        assert_eq!(raw_bits, t.raw_bits);
        assert_eq!(rest.wrapping_add(t.raw << scheme.raw_shift()), value);
    }
}

fn packed(mut input: Input<'_>) {
    let mut out = Vec::new();
    bytes::pack(input.0, &mut out);
    assert!(out.len() <= input.0.len() + 1);
    out.push(7);
    let mut rest = &out[..];
    assert_eq!(bytes::unpack(&mut rest, input.0.len()).expect("what was packed unpacks"), input.0);
    assert_eq!(rest, [7]);

    let len = usize::from(input.u16()) % 4096;
    if let Ok(bytes) = bytes::unpack(&mut input.0, len) {
        assert_eq!(bytes.len(), len);
    }
    let mut integer = input.0;
    if let Ok(value) = varint::take(&mut integer) {
        let mut out = Vec::new();
        varint::put(&mut out, value);
        assert_eq!(varint::take(&mut &out[..]).expect("what was put is taken"), value);
        assert_eq!(varint::zigzag(varint::unzigzag(value)), value);
    }
}

fn bit_stream(mut input: Input<'_>) {
    let mut values = Vec::new();
    while !input.0.is_empty() {
        let count = u32::from(input.byte()) % 65;
        let value = input.u64().checked_shr(64 - count).unwrap_or(0);
        values.push((value, count));
    }
    let mut writer = BitWriter::new();
    values.iter().for_each(|&(value, count)| writer.put(value, count));
    let mut out = Vec::new();
    writer.finish_into(&mut out);
    let mut reader = BitReader::new(&out);
    for (value, count) in values {
        assert_eq!(reader.take(count), value);
    }
    assert!(reader.is_exact());
}

/// One or two for each part.
pub fn seeds() -> Vec<Seed> {
    let text = b"the quick brown fox jumps over the lazy dog, again and again and again and again";
    let table = FreqTable::from_counts(&[900, 50, 50, 1, 0, 7]);
    let mut serial = vec![2, 2, 6, 0];
    serial_tables::write(&[table.clone(), table], &mut serial);
    let garbage = |lanes: u8, states: usize| {
        let tables = [1, 0, 90, 5, 5, 1, 0, 0, 0, 0, lanes, 200, 0];
        [&tables[..], &LOW.to_le_bytes().repeat(states), text].concat()
    };
    let mut packed = Vec::new();
    bytes::pack(&[1, 1, 1, 2].repeat(40), &mut packed);
    vec![
        ("rans".into(), [&[0, 6, 2, 7], &text[..]].concat()),
        ("rans-32-lanes".into(), [&[0, 128, 2, 7], &text.repeat(4)[..]].concat()),
        ("rans-64-lanes".into(), [&[0, 255, 2, 7], &text.repeat(4)[..]].concat()),
        ("rans-one-lane".into(), [&[0, 0, 0, 0], &text[..]].concat()),
        ("rans-garbage".into(), garbage(3, 4)),
        ("rans-garbage-32-lanes".into(), garbage(128, LANES)),
        ("rans-garbage-64-lanes".into(), garbage(255, MAX_LANES)),
        ("tables".into(), serial),
        ("tokens".into(), [&[3], &text[..]].concat()),
        ("pack".into(), [&[4], &text[..]].concat()),
        ("unpack".into(), [&[4, 160, 0], &packed[..]].concat()),
        ("bits".into(), [&[5], &text[..]].concat()),
    ]
}
