//! The `cut` command: a small real pair out of a large one, for fixtures.

use crate::pair::{Header, Model, header_bytes, resolve, show};
use sparse_core::{Error, ErrorKind, Result, TensorSpec};
use std::path::{Path, PathBuf};

/// Largest JSON file that is copied along.
const SMALL_JSON: u64 = 16 << 10;

/// What to keep.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The base.
    pub base: PathBuf,
    /// The fine-tune.
    pub target: PathBuf,
    /// Folder that gets `base/` and `finetuned/`.
    pub out: PathBuf,
    /// Names of tensors to keep; a trailing `*` stands for any ending.
    pub tensors: Vec<String>,
    /// Rows to which embedding-like tensors are cut.
    pub rows: u64,
    /// Pairs of extents: every dimension of the first is cut to its first indices, as many as the
    /// second says. A configuration that is copied along is not adapted.
    pub dims: Vec<(u64, u64)>,
}

/// Write the cut pair: both models as one `model.safetensors`, tensors in the order of the
/// original, header in the style and with the metadata of the original, small JSON files copied
/// unchanged.
///
/// # Errors
/// `NotFound` when a name is in neither model, `AlreadyExists` when `base/` or `finetuned/` is
/// there, and what reading or writing reports.
pub fn cut(options: &Cut) -> Result<()> {
    let sides = [("base", resolve(&options.base)?), ("finetuned", resolve(&options.target)?)];
    let models = [Model::load(&sides[0].1)?, Model::load(&sides[1].1)?];
    for pattern in &options.tensors {
        if !models.iter().flat_map(Model::tensors).any(|t| matches(pattern, &t.name)) {
            return Err(
                Error::new(ErrorKind::NotFound, "in neither model").in_tensor(pattern.as_str())
            );
        }
    }
    for ((side, source), model) in sides.iter().zip(&models) {
        let folder = options.out.join(side);
        let fail = |e| Error::io("cannot write", e).in_file(show(&folder));
        std::fs::create_dir_all(&options.out).map_err(fail)?;
        std::fs::create_dir(&folder).map_err(fail)?;
        std::fs::write(folder.join("model.safetensors"), cut_model(options, model)?)
            .map_err(fail)?;
        copy_small_json(source, &folder)?;
    }
    Ok(())
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether a tensor has one row per token or position, so that its first rows alone still make
/// sense.
fn is_embedding(name: &str, shape: &[u64]) -> bool {
    shape.len() == 2 && ["embed", "lm_head", "wte", "wpe"].iter().any(|part| name.contains(part))
}

fn cut_model(options: &Cut, model: &Model) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    for t in model.tensors().iter().filter(|t| options.tensors.iter().any(|p| matches(p, &t.name)))
    {
        let mut shape = t.spec.shape().to_vec();
        if let (true, Some(rows)) = (is_embedding(&t.name, t.spec.shape()), shape.first_mut()) {
            *rows = options.rows.min(*rows);
        }
        for extent in &mut shape {
            let cut = options.dims.iter().find(|(from, _)| from == extent);
            *extent = cut.map_or(*extent, |(_, to)| *to.min(extent));
        }
        let spec = TensorSpec::new(t.spec.dtype(), shape)?;
        let bytes = first_indices(&t.spec, &spec, model.bytes(t));
        kept.push((t.name.as_str(), spec, bytes));
    }
    let mut metadata = None;
    if let Some(file) = model.files().first() {
        metadata = Header::parse(&file.bytes, file.bytes.len())?.metadata;
    }
    let mut out =
        header_bytes(metadata.as_deref(), kept.iter().map(|(name, spec, _)| (*name, spec)));
    kept.iter().for_each(|(.., bytes)| out.extend_from_slice(bytes));
    Ok(out)
}

/// The first indices of each dimension of a tensor of shape `from`, as many as `to` has.
fn first_indices(from: &TensorSpec, to: &TensorSpec, bytes: &[u8]) -> Vec<u8> {
    let width = from.dtype().storage_bytes();
    let (Some((&row, outer)), Some((&kept, kept_outer))) =
        (from.shape().split_last(), to.shape().split_last())
    else {
        return bytes.to_vec();
    };
    let mut out = Vec::with_capacity(to.byte_len() as usize);
    for (i, row) in (0u64..).zip(bytes.chunks_exact((row as usize * width).max(1))) {
        // The place of the row in each of the outer dimensions, innermost first.
        let mut rest = i;
        let within = outer.iter().zip(kept_outer).rev().all(|(&extent, &kept)| {
            let at = rest % extent;
            rest /= extent;
            at < kept
        });
        if within {
            out.extend_from_slice(row.get(..kept as usize * width).unwrap_or_default());
        }
    }
    out
}

/// Copy the small JSON files of `source` (a folder, or else nothing is copied); not the shard
/// index, which would be wrong.
fn copy_small_json(source: &Path, folder: &Path) -> Result<()> {
    if !source.is_dir() {
        return Ok(());
    }
    let fail = |e| Error::io("cannot copy from", e).in_file(show(source));
    for entry in std::fs::read_dir(source).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = std::fs::metadata(entry.path()).map_err(fail)?;
        let wanted =
            name.ends_with(".json") && !name.ends_with(".index.json") && meta.len() <= SMALL_JSON;
        if wanted && meta.is_file() {
            // Content only: the source may be write-protected.
            let bytes = std::fs::read(entry.path()).map_err(fail)?;
            std::fs::write(folder.join(name), bytes).map_err(fail)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::model;
    use sparse_core::Dtype;

    #[test]
    fn cuts_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let m = model(&[
            ("embed.weight", Dtype::U8, &[4, 2], (0..8).collect()),
            ("layer.0.w", Dtype::U8, &[4, 2], (8..16).collect()),
            ("layer.1.w", Dtype::U8, &[4, 2], (16..24).collect()),
        ]);
        for side in ["b", "f"] {
            let folder = dir.path().join(side);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("model.safetensors"), &m.files()[0].bytes).unwrap();
            std::fs::write(folder.join("config.json"), "{}").unwrap();
            std::fs::write(folder.join("tokenizer.json"), vec![b' '; 20 << 10]).unwrap();
        }
        let mut options = Cut {
            base: dir.path().join("b"),
            target: dir.path().join("f"),
            out: dir.path().join("out"),
            tensors: vec!["embed.weight".into(), "layer.1*".into()],
            rows: 3,
            dims: Vec::new(),
        };
        cut(&options).unwrap();
        let cut_base = Model::load(&dir.path().join("out/base")).unwrap();
        let names: Vec<_> =
            cut_base.tensors().iter().map(|t| (t.name.as_str(), t.spec.shape())).collect();
        assert_eq!(names, [("embed.weight", &[3, 2][..]), ("layer.1.w", &[4, 2][..])]);
        assert_eq!(cut_base.bytes(cut_base.find("embed.weight").unwrap()), [0, 1, 2, 3, 4, 5]);
        assert!(
            cut_base.files()[0].bytes[8..]
                .starts_with(br#"{"__metadata__":{"format":"pt"},"embed.weight""#)
        );
        assert!(dir.path().join("out/finetuned/config.json").exists());
        assert!(!dir.path().join("out/finetuned/tokenizer.json").exists());
        assert_eq!(cut(&options).unwrap_err().kind(), ErrorKind::AlreadyExists);
        options.out = dir.path().join("narrow");
        options.dims = vec![(2, 1), (4, 2)];
        cut(&options).unwrap();
        let narrow = Model::load(&dir.path().join("narrow/finetuned")).unwrap();
        for (name, shape, bytes) in
            [("embed.weight", [3, 1], &[0, 2, 4][..]), ("layer.1.w", [2, 1], &[16, 18])]
        {
            let t = narrow.find(name).unwrap();
            assert_eq!((t.spec.shape(), narrow.bytes(t)), (&shape[..], bytes));
        }
        options.tensors.push("nowhere".into());
        assert_eq!(cut(&options).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
