//! A codec from outside: tried by the selector, chosen where it is the smallest, restored.

mod scaled;

use sparse::{Codecs, Compressor, Delta, Limits, Model, Restorer, Result, SimpleScheme, inspect};
use sparse_core::Simple;
use std::path::Path;
use std::sync::Arc;

const ROWS: usize = 256;

/// A safetensors file of two bf16 matrices.
fn write(path: &Path, tensors: [(&str, Vec<u16>); 2]) -> std::io::Result<()> {
    let (mut head, mut data) = (Vec::new(), Vec::new());
    for (name, words) in tensors {
        let start = data.len();
        data.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        let offsets = format!("[{start},{}]", data.len());
        head.push(format!(
            "\"{name}\":{{\"dtype\":\"BF16\",\"shape\":[{ROWS},{ROWS}],\
             \"data_offsets\":{offsets}}}"
        ));
    }
    let head = format!("{{{}}}", head.join(","));
    std::fs::write(path, [&(head.len() as u64).to_le_bytes(), head.as_bytes(), &data].concat())
}

/// Makes a pair, a delta of it and what the delta restores in `folder`; returns how each tensor is
/// coded.
fn run(folder: &Path) -> Result<Vec<(String, String)>> {
    let io = |e| sparse::Error::io("cannot write the pair", e);
    // Weights of all kinds; one matrix is doubled, one is trained a little.
    let weight = |i: usize| 0x3c00 + (i.wrapping_mul(2_654_435_761) >> 7) as u16 % 0x200;
    let all = || 0..ROWS * ROWS;
    let (base, tuned) = (folder.join("base.safetensors"), folder.join("tuned.safetensors"));
    let plain: Vec<u16> = all().map(weight).collect();
    write(&base, [("doubled", plain.clone()), ("trained", plain)]).map_err(io)?;
    let doubled = all().map(|i| weight(i) + 0x80).collect();
    let trained = all().map(|i| weight(i) + (i % 3) as u16).collect();
    write(&tuned, [("doubled", doubled), ("trained", trained)]).map_err(io)?;

    let open = |path: &Path| Model::open(path);
    let (base, target) = (open(&base)?, open(&tuned)?);
    let codecs = Codecs::default();
    let codecs = codecs.with(Arc::new(SimpleScheme::new(Arc::new(Simple::new(scaled::Scaled)))))?;
    let path = folder.join("d.sparse");
    let report = Compressor::new(&target).base(&base).codecs(codecs.clone()).write(&path)?;
    for choice in &report.choices {
        let tried: Vec<String> = choice
            .candidates
            .iter()
            .map(|c| format!("{} {} bytes", c.codec, c.estimated_bytes))
            .collect();
        println!("{}: {} ({})", choice.tensor, choice.codec, tried.join(", "));
    }

    let delta = Delta::open_with(&path, codecs, &Limits::default())?;
    let restored = folder.join("restored.safetensors");
    Restorer::new(&delta).base(&base).write(&restored)?;
    let read = |path: &Path| std::fs::read(path).map_err(io);
    println!("restored bit for bit: {}", read(&restored)? == read(&tuned)?);
    Ok(inspect(&delta).tensors.into_iter().map(|e| (e.name, e.codec)).collect())
}

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("foreign-codec-{}", std::process::id()));
    std::fs::create_dir(&folder).map_err(|e| sparse::Error::io("cannot make a folder", e))?;
    let done = run(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    done.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        let report = sparse_core::conformance::run(&Simple::new(scaled::Scaled));
        assert!(report.coded > 1000);
    }

    #[test]
    fn chosen_where_it_is_the_smallest_and_restored() {
        let folder = std::env::temp_dir().join(format!("foreign-test-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let coded = run(&folder).unwrap();
        let of = |name: &str| &coded.iter().find(|c| c.0 == name).unwrap().1;
        assert_eq!((&**of("doubled"), &**of("trained")), ("scaled", "lossless"));
        let tuned = std::fs::read(folder.join("tuned.safetensors")).unwrap();
        assert!(std::fs::read(folder.join("restored.safetensors")).unwrap() == tuned);
        // Without the codec, the delta says what it lacks.
        let delta = Delta::open(folder.join("d.sparse"));
        let base = Model::open(folder.join("base.safetensors")).unwrap();
        let refused = sparse::Verifier::new(&delta.unwrap()).base(&base).verify();
        assert_eq!(refused.unwrap_err().kind(), sparse::ErrorKind::UnknownCodec);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
