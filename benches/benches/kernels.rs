//! The lossless codec and its parts, on one core, memory to memory, at every level of vector
//! instructions that the processor has. Synthetic, seeded pairs; each result is verified before it
//! is timed. Throughput counts bytes of the restored weights, also where a part handles tokens only
//! (then those of bf16).
//!
//! `cargo bench -p sparse-bench --bench kernels -- decode/bf16`
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sparse_bench::peers::{Bitx, TensorCoder};
use sparse_codecs::entropy::freq::{FreqTable, PROB_SCALE};
use sparse_codecs::entropy::rans::{self, DecodeTables, EncodeScratch, EncodeTables};
use sparse_codecs::lossless::{Lossless, LosslessOn};
use sparse_codecs::simd::{Level, Padded, Simd};
use sparse_core::{
    CodecContext, DEFAULT_CHUNK_LEN, DeltaDecoder, DeltaEncoder, Dtype, Effort, EncodedUnit,
    Segment, TensorSpec, UnitSpec, decode_unit, encode_unit,
};
use std::hint::black_box;

/// 4 MiB of 16-bit weights.
const ROWS: u64 = 1024;
const COLUMNS: u64 = 2048;

/// Rows of what is analysed, too: a matrix of this size is a unit of its own. As a test, a few will
/// do.
fn encoded_rows() -> u64 {
    if std::env::args().any(|a| a == "--bench") { 4096 } else { 128 }
}

/// Standard deviations of the update; that of the base is 0.02. In bf16, about 99, 68, 32, 12 and 4
/// % of the weights stay the same.
const UPDATES: [f64; 5] = [1e-6, 3e-5, 1e-4, 3e-4, 1e-3];

/// A xorshift generator, and normal variates from it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

struct Pair {
    unit: UnitSpec,
    base: Vec<u8>,
    target: Vec<u8>,
}

impl Pair {
    fn new(dtype: Dtype, update: f64) -> Pair {
        Pair::with_rows(dtype, update, ROWS)
    }

    fn with_rows(dtype: Dtype, update: f64, rows: u64) -> Pair {
        let mut random = Random(0x5eed);
        let (mut base, mut target) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let spread = (0.35 * random.normal()).exp2();
            for _ in 0..COLUMNS {
                let (b, d) = (0.02 * spread * random.normal(), update * spread * random.normal());
                match dtype {
                    Dtype::Bf16 => {
                        let b = half::bf16::from_f64(b);
                        base.extend(b.to_le_bytes());
                        target.extend(half::bf16::from_f64(b.to_f64() + d).to_le_bytes());
                    }
                    Dtype::F16 => {
                        let b = half::f16::from_f64(b);
                        base.extend(b.to_le_bytes());
                        target.extend(half::f16::from_f64(b.to_f64() + d).to_le_bytes());
                    }
                    Dtype::F32 => {
                        base.extend((b as f32).to_le_bytes());
                        target.extend(((b as f32) + d as f32).to_le_bytes());
                    }
                    other => panic!("no pairs of {other}"),
                }
            }
        }
        let segment = Segment { rows, row_len: COLUMNS };
        let unit = UnitSpec::new(dtype, Some(dtype), DEFAULT_CHUNK_LEN, [segment]).unwrap();
        Pair { unit, base, target }
    }

    fn encode(&self, codec: LosslessOn, effort: Effort, cx: &mut CodecContext) -> EncodedUnit {
        encode_unit(&codec, &self.unit, &self.target, Some(&self.base), effort, cx).unwrap()
    }

    /// Encoded, and found to decode to the target.
    fn verified(&self, codec: LosslessOn, effort: Effort, cx: &mut CodecContext) -> EncodedUnit {
        let encoded = self.encode(codec, effort, cx);
        let mut out = vec![0xAA; self.target.len()];
        decode_unit(&codec, &self.unit, &encoded, Some(&self.base), &mut out, cx).unwrap();
        assert!(out == self.target, "the round trip is not exact");
        encoded
    }

    fn chunk(&self, chunk: u64) -> std::ops::Range<usize> {
        let range = self.unit.chunk_range(chunk);
        let width = self.unit.dtype().storage_bytes();
        range.start as usize * width..range.end as usize * width
    }

    fn id(&self, level: Simd, update: f64) -> BenchmarkId {
        BenchmarkId::new(format!("{}/{update:.0e}", self.unit.dtype()), level.level().name())
    }
}

/// The levels that this processor has.
fn levels() -> Vec<Simd> {
    let mut levels: Vec<Simd> = Level::ALL.into_iter().map(Simd::at_most).collect();
    levels.dedup();
    levels
}

/// bf16 at all densities, the others at one.
fn pairs() -> Vec<(f64, Pair)> {
    let bf16 = UPDATES.into_iter().map(|u| (u, Pair::new(Dtype::Bf16, u)));
    bf16.chain([Dtype::F16, Dtype::F32].map(|d| (1e-4, Pair::new(d, 1e-4)))).collect()
}

fn memcpy(c: &mut Criterion) {
    let pair = Pair::new(Dtype::Bf16, 1e-4);
    let mut out = vec![0; pair.target.len()];
    let mut group = c.benchmark_group("memcpy");
    group.throughput(Throughput::Bytes(out.len() as u64));
    group.bench_function("by chunk", |b| {
        b.iter(|| {
            for chunk in 0..pair.unit.chunk_count() {
                let range = pair.chunk(chunk);
                black_box(&mut out[range.clone()]).copy_from_slice(&pair.base[range]);
            }
        })
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut cx = CodecContext::new();
    let mut group = c.benchmark_group("decode");
    for (update, pair) in pairs() {
        group.throughput(Throughput::Bytes(pair.target.len() as u64));
        let mut out = vec![0; pair.target.len()];
        for level in levels() {
            let codec = Lossless.on(level);
            let encoded = pair.verified(codec, Effort::Default, &mut cx);
            let decoder = codec.bind(&pair.unit, &encoded.params, &cx.limits).unwrap();
            group.bench_function(pair.id(level, update), |b| {
                b.iter(|| {
                    for (chunk, bytes) in (0..).zip(&encoded.chunks) {
                        let range = pair.chunk(chunk);
                        let base = Some(&pair.base[range.clone()]);
                        decoder.decode_chunk(chunk, bytes, base, &mut out[range], &mut cx).unwrap();
                    }
                })
            });
        }
    }
    group.finish();
}

/// A peer on the same pairs: BitX, the delta scheme of ZipLLM.
fn bitx(c: &mut Criterion) {
    let mut group = c.benchmark_group("BitX");
    for (update, pair) in pairs() {
        let spec = TensorSpec::new(pair.unit.dtype(), [ROWS, COLUMNS]).unwrap();
        let mut bitx = Bitx::new().unwrap();
        let encoded = bitx.encode(&spec, &pair.target, Some(&pair.base)).unwrap();
        let mut out = vec![0; pair.target.len()];
        bitx.decode(&spec, &encoded, Some(&pair.base), &mut out).unwrap();
        assert!(out == pair.target, "the round trip is not exact");
        group.throughput(Throughput::Bytes(out.len() as u64));
        let id = |what| BenchmarkId::new(what, format!("{}/{update:.0e}", pair.unit.dtype()));
        group.bench_function(id("decode"), |b| {
            b.iter(|| bitx.decode(&spec, &encoded, Some(&pair.base), &mut out).unwrap())
        });
        group.bench_function(id("encode"), |b| {
            b.iter(|| bitx.encode(&spec, &pair.target, Some(&pair.base)).unwrap())
        });
    }
    group.finish();
}

/// What is encoded: at three densities, and other types.
const ENCODED: [(Dtype, f64); 5] = [
    (Dtype::Bf16, 1e-6),
    (Dtype::Bf16, 1e-4),
    (Dtype::Bf16, 1e-3),
    (Dtype::F16, 1e-4),
    (Dtype::F32, 1e-4),
];

/// Analysis and encoding.
fn encode(c: &mut Criterion) {
    let mut cx = CodecContext::new();
    for (name, effort) in [("encode fast", Effort::Fast), ("encode default", Effort::Default)] {
        let mut group = c.benchmark_group(name);
        group.sample_size(10);
        for (dtype, update) in ENCODED {
            let pair = Pair::with_rows(dtype, update, encoded_rows());
            group.throughput(Throughput::Bytes(pair.target.len() as u64));
            for level in levels() {
                let codec = Lossless.on(level);
                pair.verified(codec, effort, &mut cx);
                group.bench_function(pair.id(level, update), |b| {
                    b.iter(|| pair.encode(codec, effort, &mut cx))
                });
            }
        }
        group.finish();
    }
}

/// Encoding alone, under a model that is there.
fn encode_chunks(c: &mut Criterion) {
    let mut cx = CodecContext::new();
    let mut group = c.benchmark_group("encode chunks");
    for (update, pair) in pairs() {
        group.throughput(Throughput::Bytes(pair.target.len() as u64));
        for level in levels() {
            let codec = Lossless.on(level);
            let expected = pair.verified(codec, Effort::Fast, &mut cx);
            let mut analysis = codec.analyze(&pair.unit, Effort::Fast).unwrap();
            loop {
                for chunk in 0..pair.unit.chunk_count() {
                    let range = pair.chunk(chunk);
                    let base = Some(&pair.base[range.clone()]);
                    analysis.observe(chunk, &pair.target[range], base, &mut cx).unwrap();
                }
                if !analysis.end_pass(&mut cx).unwrap() {
                    break;
                }
            }
            let encoder = analysis.finish().unwrap();
            let mut out = Vec::new();
            group.bench_function(pair.id(level, update), |b| {
                b.iter(|| {
                    for chunk in 0..pair.unit.chunk_count() {
                        let range = pair.chunk(chunk);
                        let base = Some(&pair.base[range.clone()]);
                        out.clear();
                        encoder
                            .encode_chunk(chunk, &pair.target[range], base, &mut out, &mut cx)
                            .unwrap();
                    }
                })
            });
            // Empty if a filter left this measurement out.
            assert!(out.is_empty() || expected.chunks.last() == Some(&out), "encoding changed");
        }
    }
    group.finish();
}

/// rANS alone: tokens of 24 tables, the likeliest of which has half of them.
fn entropy_coder(c: &mut Criterion) {
    let tables: Vec<FreqTable> = (0..24)
        .map(|table| {
            let density =
                |t: i32| (-(f64::from(t - 2 * table) / (3.0 + f64::from(table))).powi(2)).exp();
            let counts: Vec<u64> = (0..100).map(|t| 1 + (1e6 * density(t)) as u64).collect();
            FreqTable::from_counts(&counts)
        })
        .collect();
    let mut random = Random(0x5eed);
    let contexts: Vec<u8> = (0..DEFAULT_CHUNK_LEN)
        .map(|_| (12 + random.next().leading_zeros().min(11)) as u8)
        .collect();
    let tokens: Vec<u8> = contexts
        .iter()
        .map(|&context| {
            let mut at = (random.next() % u64::from(PROB_SCALE)) as u16;
            let freqs = tables[context as usize].freqs();
            freqs.iter().position(|&f| at.checked_sub(f).map(|rest| at = rest).is_none()).unwrap()
                as u8
        })
        .collect();
    let decode_tables = DecodeTables::new(&tables);
    for lanes in [32, 64] {
        let mut group = c.benchmark_group(format!("rans {lanes} lanes"));
        group.throughput(Throughput::Bytes(2 * tokens.len() as u64));
        for level in levels() {
            let encode_tables = EncodeTables::on(level, &tables);
            let (mut scratch, mut out, mut words) =
                (EncodeScratch::default(), Vec::new(), Padded::new());
            rans::encode(&tokens, &contexts, &encode_tables, lanes, &mut scratch, &mut out)
                .unwrap();
            words.fill(&out[4 * lanes..]);
            let states = out[..4 * lanes].to_vec();
            let mut back = vec![0; tokens.len()];
            let decode = |back: &mut [u8]| {
                let mut decoder =
                    rans::Decoder::new(level, &states, &words, &decode_tables).unwrap();
                decoder.decode(&contexts, back).unwrap();
                decoder.finish().unwrap();
            };
            decode(&mut back);
            assert!(back == tokens, "the round trip is not exact");
            group.bench_function(BenchmarkId::new("decode", level.level().name()), |b| {
                b.iter(|| decode(&mut back))
            });
            group.bench_function(BenchmarkId::new("encode", level.level().name()), |b| {
                b.iter(|| {
                    out.clear();
                    rans::encode(&tokens, &contexts, &encode_tables, lanes, &mut scratch, &mut out)
                        .unwrap()
                })
            });
        }
        group.finish();
    }
}

criterion_group!(kernels, memcpy, decode, bitx, encode_chunks, encode, entropy_coder);
criterion_main!(kernels);
