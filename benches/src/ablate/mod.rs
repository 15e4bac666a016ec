//! The `ablate` command: the gain of each part of the lossless codec's model, on a real pair.
//!
//! All rows except the last are sizes that an ideal coder would reach: the empirical entropy of the
//! tokens in their contexts, plus raw bits, plus the size of the tables ([`tables`]). The last row
//! is the size that the codec wrote.

mod codec;
mod data;
mod scheme;
pub mod tables;

pub use data::{Elements, load};

use crate::compare::PairPath;
use crate::tables::{Table, percent, thousands};
use codec::Coded;
use scheme::{Context, Variant};
use sparse_codecs::entropy::token::TokenScheme;
use sparse_core::Result;

/// Zig-zag integers as tokens, the sign left among the raw bits.
const ZIGZAG: TokenScheme = TokenScheme::Hybrid { msb: 2 };
/// The sign in the token.
const SIGNED: TokenScheme = TokenScheme::Signed { msb: 2 };

/// A row of the table: a model, and the row from which it differs by one step.
#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    /// Index of the row to compare with; itself for none.
    from: usize,
    model: Model,
}

#[derive(Clone, Copy, Debug)]
enum Model {
    XorBytes,
    Tokens(Variant),
    /// The codec's own floor.
    Floor,
    /// Size that the codec wrote.
    Codec,
    /// Size of its parameter blocks: profiles, tables, exact values.
    Parameters,
}

const PLAIN: Variant =
    Variant { mirrored: false, scheme: ZIGZAG, context: Context::None, exact: false };
const EXPONENT: Variant =
    Variant { mirrored: true, scheme: SIGNED, context: Context::Key, exact: false };
const TENSOR: Variant = Variant { context: Context::TensorAndKey, ..EXPONENT };

/// The rows.
const STEPS: [Step; 13] = [
    Step {
        name: "XOR, each byte of the word by its own order-0 table",
        from: 0,
        model: Model::XorBytes,
    },
    Step { name: "integer difference, one table", from: 0, model: Model::Tokens(PLAIN) },
    Step {
        name: "+ mirrored at zero",
        from: 1,
        model: Model::Tokens(Variant { mirrored: true, ..PLAIN }),
    },
    Step {
        name: "+ sign in the token",
        from: 2,
        model: Model::Tokens(Variant { mirrored: true, scheme: SIGNED, ..PLAIN }),
    },
    Step { name: "+ exponent of the base", from: 3, model: Model::Tokens(EXPONENT) },
    Step { name: "+ exponent and tensor", from: 4, model: Model::Tokens(TENSOR) },
    Step {
        name: "+ exact values (types above 16 bits)",
        from: 5,
        model: Model::Tokens(Variant { exact: true, ..TENSOR }),
    },
    Step { name: "exponent and row profile: floor of the codec", from: 6, model: Model::Floor },
    Step { name: "the codec, written", from: 6, model: Model::Codec },
    Step {
        name: "exponent and tensor, sign not in the token",
        from: 5,
        model: Model::Tokens(Variant { scheme: ZIGZAG, ..TENSOR }),
    },
    Step {
        name: "exponent and tensor, not mirrored",
        from: 5,
        model: Model::Tokens(Variant { mirrored: false, ..TENSOR }),
    },
    Step {
        name: "exponent, with exact values",
        from: 4,
        model: Model::Tokens(Variant { exact: true, ..EXPONENT }),
    },
    Step { name: "the codec: parameter blocks alone", from: 12, model: Model::Parameters },
];

/// One pair's column.
#[derive(Clone, Debug)]
pub struct Ablation {
    /// The pair's name.
    pub pair: String,
    /// Raw bytes of the fine-tune's changed tensors that have a counterpart of the same type.
    pub raw: u64,
    /// Bytes by row.
    pub bytes: Vec<f64>,
    /// Profiles and tables of each unit.
    pub models: Vec<(u8, u8)>,
}

/// Take one pair apart.
///
/// # Errors
/// What reading and coding report; `InvalidArgument` when the pair has nothing to code.
pub fn ablate(path: &PairPath) -> Result<Ablation> {
    let units = load(path)?;
    let mut bytes = vec![0.0; STEPS.len()];
    let mut models = Vec::new();
    for unit in &units {
        let Coded { written, params, floor, profiles, tables } = codec::code(unit)?;
        models.push((profiles, tables));
        for (sum, step) in bytes.iter_mut().zip(&STEPS) {
            *sum += match step.model {
                Model::XorBytes => scheme::xor_bits(unit) / 8.0,
                Model::Tokens(variant) => scheme::bits(unit, variant) / 8.0,
                Model::Floor => floor / 8.0,
                Model::Codec => written as f64,
                Model::Parameters => params as f64,
            };
        }
    }
    let raw = units.iter().map(Elements::byte_len).sum();
    Ok(Ablation { pair: path.name.clone(), raw, bytes, models })
}

/// All pairs side by side: bytes, and what each step changes.
pub fn markdown(columns: &[Ablation]) -> String {
    let mut head = vec![String::new()];
    head.extend(columns.iter().map(|c| c.pair.clone()));
    let (mut sizes, mut changes) = (Table::new(&head), Table::new(&head));
    let mut raw = vec!["raw bytes of what is coded".to_owned()];
    raw.extend(columns.iter().map(|c| thousands(c.raw)));
    sizes.row(&raw);
    for (i, step) in STEPS.iter().enumerate() {
        let at = |c: &Ablation, i: usize| c.bytes.get(i).copied().unwrap_or_default();
        let mut size = vec![step.name.to_owned()];
        size.extend(columns.iter().map(|c| thousands(at(c, i).round() as u64)));
        sizes.row(&size);
        if step.from != i {
            let mut change =
                vec![format!("{} (row {}, from row {})", step.name, i + 1, step.from + 1)];
            change.extend(columns.iter().map(|c| {
                let (new, old) = (at(c, i), at(c, step.from));
                format!("{:+.1} %", (new - old) * 100.0 / old.max(1.0))
            }));
            changes.row(&change);
        }
    }
    let mut models = vec!["profiles / tables of the codec, by unit".to_owned()];
    models.extend(columns.iter().map(|c| {
        let units: Vec<_> = c.models.iter().map(|(p, t)| format!("{p}/{t}")).collect();
        units.join(", ").replace('/', " of ")
    }));
    sizes.row(&models);
    let mut share = vec!["the codec in percent of raw".to_owned()];
    share.extend(
        columns.iter().map(|c| percent(c.bytes.get(8).copied().unwrap_or_default() as u64, c.raw)),
    );
    sizes.row(&share);
    format!("### Bytes\n\n{}\n### Change of each step\n\n{}", sizes.finish(), changes.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{Synth, synth};
    use sparse_core::Dtype;

    fn column(dtype: Dtype) -> Ablation {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("pair");
        let options = Synth {
            out: out.clone(),
            bytes: 1_500_000,
            seed: 3,
            dtype,
            update: 1e-4,
            threads: 1,
            lora: None,
            matrix: None,
            shard_bytes: 1 << 30,
        };
        synth(&options).unwrap();
        let path = PairPath {
            name: "synth".into(),
            base: out.join("base"),
            target: out.join("finetuned"),
        };
        ablate(&path).unwrap()
    }

    #[test]
    fn steps_are_what_they_say() {
        for dtype in [Dtype::Bf16, Dtype::F32] {
            let column = column(dtype);
            let b = &column.bytes;
            // Differences beat XOR, exponents help, and so do rows; the codec is near its floor.
            assert!(b[1] < b[0] && b[4] < b[3] && b[7] < b[4], "{b:?}");
            assert!(b[8] > b[7] && b[8] < b[7] * 1.06, "{b:?}");
            assert!(b[5] <= b[4] * 1.001, "{b:?}");
            let text = markdown(&[column]);
            assert!(text.contains("| + exponent of the base |"), "{text}");
        }
    }

    #[test]
    fn steps_refer_to_rows_before_or_variants() {
        assert!(STEPS.iter().enumerate().all(|(i, s)| s.from <= i));
    }
}
