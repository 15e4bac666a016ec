//! Small models, for targets and their seeds.

use crate::units::plausible;
use sparse_core::Dtype;

/// A tensor: name, type as safetensors calls it, shape, bytes.
pub(crate) type Tensor<'a> = (&'a str, &'a str, &'a [u64], Vec<u8>);

/// A safetensors file.
pub(crate) fn safetensors(tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut at = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let start = at;
            at += bytes.len();
            format!(
                r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{at}]}}"#
            )
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.bytes());
    tensors.iter().for_each(|t| out.extend(&t.3));
    out
}

/// The files of a model; its fine-tune differs in most of them.
pub(crate) fn files(tuned: bool) -> Vec<(&'static str, Vec<u8>)> {
    // The words of a fine-tune are those of its base, a few of them with other low bits.
    let words = |seed: u64, dtype: Dtype, n: usize| {
        let mut words = plausible(seed, dtype, n);
        if tuned {
            let width = dtype.storage_bytes();
            words.chunks_exact_mut(width).step_by(3).for_each(|w| w[0] ^= 5);
        }
        words
    };
    let mut tensors: Vec<Tensor<'static>> = vec![
        ("a.weight", "BF16", &[16, 24], words(1, Dtype::Bf16, 384)),
        ("b.weight", "F32", &[6, 20], words(2, Dtype::F32, 120)),
        ("c.weight", "F16", &[8, 12], words(3, Dtype::F16, 96)),
        ("norm", "BF16", &[16], words(4, Dtype::Bf16, 16)),
        ("same", "F32", &[10], plausible(5, Dtype::F32, 10)),
        ("steps", "I64", &[3], words(6, Dtype::I64, 3)),
    ];
    if tuned {
        // A grown vocabulary, and a new tensor.
        tensors[3] = ("norm", "BF16", &[18], words(4, Dtype::Bf16, 18));
        tensors.push(("score", "F32", &[2, 9], plausible(9, Dtype::F32, 18)));
    }
    let config = if tuned { "{\"layers\": 3, \"tuned\": true}" } else { "{\"layers\": 3}" };
    vec![
        ("config.json", config.into()),
        ("model.safetensors", safetensors(&tensors)),
        ("nested/notes.txt", b"the same words in both of them, and then once more".to_vec()),
    ]
}
