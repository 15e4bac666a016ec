//! The `svd` command: the time for the leading singular vectors of a large matrix.

use crate::measure::{Machine, computed};
use sparse::Effort;
use sparse_codecs::svd::{Rank, Svd};
use sparse_core::{
    CodecContext, DEFAULT_CHUNK_LEN, DeltaEncoder, Dtype, Result, Segment, Threads, UnitSpec,
};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

/// A matrix of noise in bf16, each entry in as many bits as the type has; seeded.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let entry = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        half::bf16::from_f32((seed >> 40) as f32 / (1u32 << 28) as f32 - 0.03).to_le_bytes()
    };
    (0..len).flat_map(entry).collect()
}

/// Time the codec `svd` at a rank on one matrix of noise, the worst there is: until factors are
/// found, and until all is coded.
///
/// # Errors
/// `InvalidArgument` for a shape that the codec does not take.
pub fn decompose(rows: u64, columns: u64, rank: u32) -> Result<String> {
    let unit = UnitSpec::new(
        Dtype::Bf16,
        Some(Dtype::Bf16),
        DEFAULT_CHUNK_LEN,
        [Segment { rows, row_len: columns }],
    )?;
    let codec = Svd::new(Rank::Fixed(rank));
    let mut analysis = codec.analyze(&unit, Effort::Default)?;
    let (target, base) = (noise(unit.len() as usize, 1), noise(unit.len() as usize, 2));
    let slice = |bytes, chunk| {
        let range = unit.chunk_range(chunk);
        <[u8]>::get(bytes, 2 * range.start as usize..2 * range.end as usize).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cx = CodecContext::new().on(Arc::new(Threads::new(cores)));
    let (start, busy) = (Instant::now(), computed());
    let mut times = Vec::new();
    loop {
        for chunk in 0..unit.chunk_count() {
            analysis.observe(chunk, slice(&target, chunk), Some(slice(&base, chunk)), &mut cx)?;
        }
        let more = analysis.end_pass(&mut cx)?;
        times.push((start.elapsed(), computed().saturating_sub(busy)));
        if !more {
            break;
        }
    }
    let encoder = analysis.finish()?;
    let mut bytes = encoder.params().len();
    for chunk in 0..unit.chunk_count() {
        let mut out = Vec::new();
        encoder.encode_chunk(
            chunk,
            slice(&target, chunk),
            Some(slice(&base, chunk)),
            &mut out,
            &mut cx,
        )?;
        bytes += out.len();
    }
    times.push((start.elapsed(), computed().saturating_sub(busy)));
    let mut text = format!(
        "{}\n\n{rows} x {columns} in bf16, rank {rank}: {bytes} bytes; on all cores, in \
            seconds:\n\n| until | wall | processor |\n|---|---:|---:|\n",
        Machine::describe()
    );
    let ends = times
        .first()
        .map(|t| ("factors are found", t))
        .into_iter()
        .chain(times.last().map(|t| ("all is coded", t)));
    for (what, (wall, busy)) in ends {
        let _ =
            writeln!(text, "| {what} | {:.2} | {:.2} |", wall.as_secs_f64(), busy.as_secs_f64());
    }
    Ok(text)
}
