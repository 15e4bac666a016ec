//! Sentence embeddings from a base and a delta, and from the fine-tune itself: the same, bit for
//! bit.
//!
//! ```text
//! cargo run --example embed                   the narrow encoder in the repository's fixtures
//! cargo run --release --example embed -- BASE FINETUNED [DELTA]
//! ```
//!
//! `BASE` and `FINETUNED` are folders of a BERT encoder, such as
//! sentence-transformers/all-MiniLM-L6-v2 and a fine-tune of it. Without `DELTA`, one is made. The
//! fine-tune is loaded by candle itself, without Sparse; the model is that of candle-transformers,
//! unchanged.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use sparse::{DeltaModel, Model};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::Tokenizer;

const SENTENCES: [&str; 4] = [
    "How many apples does Natalia have left?",
    "Natalia ate three of her eight apples.",
    "The function returns the sorted list.",
    "It was a dark and stormy night.",
];

fn main() -> Result<(), Box<dyn Error>> {
    compare(std::env::args_os().skip(1).map(PathBuf::from))
}

fn compare(mut args: impl Iterator<Item = PathBuf>) -> Result<(), Box<dyn Error>> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/minilm-narrow");
    let base = args.next().unwrap_or_else(|| fixture.join("base"));
    let tuned = args.next().unwrap_or_else(|| fixture.join("finetuned"));
    let temporary = tempfile::tempdir()?;
    let delta = match args.next() {
        Some(delta) => delta,
        None => make_delta(&base, &tuned, temporary.path())?,
    };

    let config: Config = serde_json::from_slice(&std::fs::read(tuned.join("config.json"))?)?;
    let ids = token_ids(&tuned, &config)?;
    let (device, dtype) = (Device::Cpu, DType::F32);

    let model = DeltaModel::open(&base, &delta)?;
    let from_delta =
        BertModel::load(sparse_candle::var_builder(Arc::new(model), dtype, &device), &config)?;
    let ours = embed(&from_delta, &ids)?;

    let file = std::fs::read(tuned.join("model.safetensors"))?;
    let from_file =
        BertModel::load(VarBuilder::from_buffered_safetensors(file, dtype, &device)?, &config)?;
    let theirs = embed(&from_file, &ids)?;

    for (i, row) in ours.matmul(&ours.t()?)?.to_vec2::<f32>()?.iter().enumerate() {
        let similarities: Vec<String> = row.iter().map(|s| format!("{s:6.3}")).collect();
        println!("{}  {}", similarities.join(" "), SENTENCES.get(i).unwrap_or(&""));
    }
    let bits = |t: &Tensor| -> candle_core::Result<Vec<u32>> {
        Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    let (ours, theirs) = (bits(&ours)?, bits(&theirs)?);
    if ours != theirs {
        return Err("the embeddings from base and delta differ from the fine-tune's".into());
    }
    println!("{} numbers from base and delta: the fine-tune's, bit for bit", ours.len());
    Ok(())
}

fn make_delta(base: &Path, tuned: &Path, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let open = |path| Model::open(path);
    let out = folder.join("delta.sparse");
    let report = sparse::Compressor::new(&open(tuned)?).base(&open(base)?).write(&out)?;
    println!(
        "made a delta: {} bytes for {} of the fine-tune",
        report.delta_bytes, report.target_bytes
    );
    Ok(out)
}

/// The tokens of each sentence. A folder without a tokenizer gets made-up ones.
fn token_ids(folder: &Path, config: &Config) -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
    let file = folder.join("tokenizer.json");
    if !file.exists() {
        println!("no tokenizer.json: the tokens are made up");
        let made_up = |s: &&str| {
            s.bytes().take(30).map(|b| u32::from(b) % config.vocab_size as u32).collect()
        };
        return Ok(SENTENCES.iter().map(made_up).collect());
    }
    let tokenizer = Tokenizer::from_file(file).map_err(|e| e.to_string())?;
    SENTENCES
        .iter()
        .map(|&s| Ok(tokenizer.encode(s, true).map_err(|e| e.to_string())?.get_ids().to_vec()))
        .collect()
}

/// One embedding for each sentence: the mean over its tokens, of length one.
fn embed(model: &BertModel, sentences: &[Vec<u32>]) -> candle_core::Result<Tensor> {
    let embeddings = sentences.iter().map(|ids| {
        let ids = Tensor::new(&ids[..], &model.device)?.unsqueeze(0)?;
        let mean = model.forward(&ids, &ids.zeros_like()?, None)?.mean(1)?;
        mean.broadcast_div(&mean.sqr()?.sum_keepdim(1)?.sqrt()?)
    });
    Tensor::cat(&embeddings.collect::<candle_core::Result<Vec<_>>>()?, 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn runs() {
        super::compare(std::iter::empty()).unwrap();
    }
}
