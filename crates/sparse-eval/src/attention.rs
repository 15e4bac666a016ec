//! Causal attention with heads of keys and values that several heads of queries share.

use crate::float::Float;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

/// Number of scores that are in memory at a time: 32 MiB of f32.
const SCORES: usize = 1 << 23;

/// Queries, keys and values of some positions.
#[derive(Debug)]
pub(crate) struct Heads {
    /// `[batch, heads, new, width]`, scaled and contiguous.
    pub(crate) queries: Tensor,
    /// `[batch, kv_heads, old + new, width]`
    pub(crate) keys: Tensor,
    /// As the keys.
    pub(crate) values: Tensor,
}

/// Returns what each of the new positions takes from itself and from all before it:
/// `[batch, new, heads · width]`.
///
/// Queries are taken in blocks, so that the scores of a long text do not have to fit in memory, and
/// keys behind a block are left out.
pub(crate) fn attend(heads: &Heads) -> Result<Tensor> {
    let (batch, count, new, width) = heads.queries.dims4()?;
    let (_, kv_count, total, _) = heads.keys.dims4()?;
    let Some(old) = total.checked_sub(new) else { bail!("there are fewer keys than queries") };
    let block = (SCORES / (batch * count * total).max(1)).clamp(1, new.max(1));
    let mut parts = Vec::with_capacity(new.div_ceil(block));
    for start in (0..new).step_by(block) {
        let len = block.min(new - start);
        let seen = old + start + len;
        // Heads that share keys lie side by side, so that they are rows of one product.
        let queries = heads.queries.narrow(2, start, len)?.contiguous()?;
        let queries = queries.reshape((batch, kv_count, count / kv_count * len, width))?;
        let keys = heads.keys.narrow(2, 0, seen)?;
        let scores = queries.matmul(&keys.transpose(2, 3)?)?;
        let shares = scores.apply_op1_no_bwd(&CausalSoftmax { rows: len, first: old + start })?;
        let taken = shares.matmul(&heads.values.narrow(2, 0, seen)?)?;
        parts.push(taken.reshape((batch, count, len, width))?);
    }
    let taken = if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 2)? };
    taken.transpose(1, 2)?.reshape((batch, new, count * width))
}

/// Softmax of rows of scores, of which row `r` ends after `first + r % rows + 1`.
struct CausalSoftmax {
    rows: usize,
    first: usize,
}

impl CausalSoftmax {
    fn rows<T: WithDType + Float>(&self, scores: &[T], width: usize) -> Vec<T> {
        let mut out = vec![T::zero(); scores.len()];
        scores
            .par_chunks(width)
            .zip(out.par_chunks_mut(width))
            .enumerate()
            .with_min_len(8)
            .for_each(|(row, (scores, out))| {
                let seen = (self.first + row % self.rows + 1).min(width);
                T::softmax(&scores[..seen], &mut out[..seen]);
            });
        out
    }
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = layout.shape();
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("not contiguous") };
        let Some(&width) = shape.dims().last() else { bail!("a softmax needs rows") };
        let out = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(self.rows(&x[start..end], width)),
            CpuStorage::F64(x) => CpuStorage::F64(self.rows(&x[start..end], width)),
            _ => bail!("attention is in f32 or f64"),
        };
        Ok((out, shape.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn numbers(count: usize, step: f64) -> Vec<f64> {
        (0..count).map(|i| (i as f64 * step).sin()).collect()
    }

    /// Computes the definition, one number at a time.
    fn naive(q: &[f64], k: &[f64], v: &[f64], dims: [usize; 5]) -> Vec<f64> {
        let [batch, heads, kv_heads, new, width] = dims;
        let total = k.len() / (batch * kv_heads * width);
        let mut out = vec![0.0; batch * new * heads * width];
        for b in 0..batch {
            for h in 0..heads {
                let kv = (b * kv_heads + h / (heads / kv_heads)) * total;
                for i in 0..new {
                    let q = &q[((b * heads + h) * new + i) * width..][..width];
                    let seen = total - new + i + 1;
                    let score = |j: usize| -> f64 {
                        let k = &k[(kv + j) * width..][..width];
                        q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>().exp()
                    };
                    let all: f64 = (0..seen).map(score).sum();
                    for j in 0..seen {
                        for d in 0..width {
                            out[((b * new + i) * heads + h) * width + d] +=
                                score(j) / all * v[(kv + j) * width + d];
                        }
                    }
                }
            }
        }
        out
    }

    #[test]
    fn is_the_definition() {
        let (batch, heads, kv_heads, width) = (2, 6, 2, 4);
        for (new, old) in [(1, 0), (5, 0), (1, 4), (3, 2)] {
            let total = new + old;
            let q = numbers(batch * heads * new * width, 0.7);
            let k = numbers(batch * kv_heads * total * width, 0.3);
            let v = numbers(batch * kv_heads * total * width, 1.1);
            let tensor = |x: &[f64], h: usize, t: usize| {
                Tensor::from_vec(x.to_vec(), (batch, h, t, width), &Device::Cpu).unwrap()
            };
            let all = Heads {
                queries: tensor(&q, heads, new),
                keys: tensor(&k, kv_heads, total),
                values: tensor(&v, kv_heads, total),
            };
            let ours = attend(&all).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let theirs = naive(&q, &k, &v, [batch, heads, kv_heads, new, width]);
            for (a, b) in ours.iter().zip(&theirs) {
                assert!((a - b).abs() < 1e-13, "{a} {b}");
            }
        }
    }

    #[test]
    fn blocks_change_nothing() {
        // 1 head of 2900 positions has more scores than one block holds; its last rows are computed
        // alone, too.
        let len = 2900;
        assert!(len * len > SCORES);
        let tensor = |step: f64| {
            let x: Vec<f32> = numbers(len * 2, step).iter().map(|&x| x as f32).collect();
            Tensor::from_vec(x, (1, 1, len, 2), &Device::Cpu).unwrap()
        };
        let all = Heads { queries: tensor(0.7), keys: tensor(0.3), values: tensor(1.1) };
        let whole = attend(&all).unwrap().narrow(1, len - 3, 3).unwrap();
        let queries = all.queries.narrow(2, len - 3, 3).unwrap().contiguous().unwrap();
        let last = attend(&Heads { queries, ..all }).unwrap();
        let gap = (whole - last).unwrap().abs().unwrap().max_all().unwrap();
        assert!(gap.to_dtype(DType::F32).unwrap().to_scalar::<f32>().unwrap() < 1e-6);
    }
}
