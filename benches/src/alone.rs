//! The `alone` command: models without a base, compared with the best that splitting bytes and
//! Huffman codes could reach.

use crate::measure::{cpu_timed, mb_per_s};
use crate::ours::{open_weights, pool};
use crate::pair::resolve;
use sparse::{Delta, Effort, Limits, Result, TensorSource};
use sparse_core::{Dtype, DtypeClass};
use std::path::Path;
use std::time::Duration;

/// Bytes that ZipNN (arXiv 2411.05239) codes at once.
const BLOCK: usize = 256 << 10;

/// One model at one effort.
#[derive(Clone, Debug)]
pub struct Alone {
    /// Its name.
    pub name: String,
    /// Bytes of its files.
    pub raw: u64,
    /// Bytes that no Huffman code of byte planes goes below: in blocks of 256 KiB, each plane at
    /// the smaller of its order-0 entropy and its length, without any code tables.
    pub planes: u64,
    /// Bytes of our file, everything included.
    pub ours: u64,
    /// Processor's time, one thread, to compress from mapped files to memory.
    pub encode: Duration,
    /// Time to restore from memory to memory, with all digests verified.
    pub decode: Duration,
}

/// Compress the model at `path` without a base, `runs` times.
///
/// # Errors
/// What opening, compressing and verifying report.
pub fn alone(name: &str, path: &Path, effort: Effort, runs: usize) -> Result<Alone> {
    let model = open_weights(&resolve(path)?)?;
    let pool = pool(1)?;
    let (encode, (delta, report)) = cpu_timed(runs, || {
        pool.install(|| sparse::Compressor::new(&model).effort(effort).write_to(Vec::new()))
    })?;
    let ours = delta.len() as u64;
    let delta = Delta::from_source(Box::new(delta), sparse::Codecs::default(), &Limits::default())?;
    let (decode, _) = cpu_timed(runs, || pool.install(|| sparse::Verifier::new(&delta).verify()))?;
    let mut planes = 0;
    let mut tensors = 0;
    for (i, tensor) in model.tensors().iter().enumerate() {
        let bytes = model.bytes(i)?;
        tensors += bytes.len() as u64;
        planes += bytes.chunks(BLOCK).map(|b| planes_floor(tensor.spec.dtype(), b)).sum::<u64>();
    }
    // Headers, and files other than tensors.
    planes += report.target_bytes - tensors;
    Ok(Alone { name: name.into(), raw: report.target_bytes, planes, ours, encode, decode })
}

/// The bytes of a block as planes: the bytes of its words; a bfloat16's or a float32's exponent is
/// a byte of its own.
fn planes_floor(dtype: Dtype, block: &[u8]) -> u64 {
    let width = dtype.storage_bytes();
    let exponent_of_8_bits = matches!(dtype.class(), DtypeClass::Float { exponent: 8, .. });
    let mut counts = vec![[0u64; 256]; width];
    for word in block.chunks_exact(width) {
        for (counts, &byte) in counts.iter_mut().zip(word) {
            counts[usize::from(byte)] += 1;
        }
    }
    if exponent_of_8_bits && width >= 2 {
        let [low, high] = [width - 2, width - 1];
        (counts[low], counts[high]) = ([0; 256], [0; 256]);
        for word in block.chunks_exact(width) {
            let x = u16::from_le_bytes([word[low], word[high]]);
            counts[high][usize::from(x >> 7 & 0xff)] += 1;
            counts[low][usize::from(x & 0x7f | x >> 8 & 0x80)] += 1;
        }
    }
    let elements = (block.len() / width) as u64;
    let plane = |counts: &[u64; 256]| {
        let used = counts.iter().filter(|&&c| c > 0);
        let bits: f64 = used.map(|&c| c as f64 * (elements as f64 / c as f64).log2()).sum();
        ((bits / 8.0).ceil() as u64).min(elements)
    };
    counts.iter().map(plane).sum::<u64>() + (block.len() % width) as u64
}

/// A table of all models.
pub fn markdown(rows: &[Alone]) -> String {
    let mut text = String::from(
        "| model | raw | byte planes, floor | sparse | of raw | of the floor | encode, MB/s | \
            decode, MB/s |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for r in rows {
        text += &format!(
            "| {} | {} | {} | {} | {:.1} % | {:.2} | {:.0} | {:.0} |\n",
            r.name,
            r.raw,
            r.planes,
            r.ours,
            100.0 * r.ours as f64 / r.raw.max(1) as f64,
            r.ours as f64 / r.planes.max(1) as f64,
            mb_per_s(r.raw, r.encode),
            mb_per_s(r.raw, r.decode)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::model;

    #[test]
    fn the_floor_of_planes() {
        // One exponent, one sign, all mantissas: seven bits a word.
        let block: Vec<u8> =
            (0..256u16).flat_map(|m| (0x3f80 | (m & 0x7f)).to_le_bytes()).collect();
        assert_eq!(planes_floor(Dtype::Bf16, &block), 224);
        assert_eq!(planes_floor(Dtype::I8, &[1, 2, 3, 4]), 1);
        assert_eq!(planes_floor(Dtype::F32, &[7; 16]), 0);
    }

    #[test]
    fn a_model_alone() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..20_000u32)
            .flat_map(|i| (0x3f00 | (((i * 7919) >> 5) as u16 & 0xff)).to_le_bytes())
            .collect();
        let m = model(&[("a", Dtype::Bf16, &[100, 200], bytes)]);
        let path = dir.path().join("m.safetensors");
        std::fs::write(&path, &m.files()[0].bytes).unwrap();
        let row = alone("m", &path, Effort::Fast, 1).unwrap();
        assert!(row.ours < row.raw && row.planes < row.raw);
        assert!(markdown(&[row]).contains("| m | "));
    }
}
