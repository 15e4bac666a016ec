//! Which files of a model are needed.

use serde_json::Value;
use sparse_core::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Reads a small file that the choice of others depends on.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>>;

/// Names under which libraries look for weights, without the ending.
const USUAL: [&str; 2] = ["model", "diffusion_pytorch_model"];
/// Endings of what is small and belongs to a model.
const BESIDE: [&str; 12] =
    ["json", "txt", "md", "model", "jinja", "py", "tiktoken", "spm", "bpe", "vocab", "yaml", "yml"];
/// Endings of weights in forms that are not read, for the message.
const OTHER_WEIGHTS: [&str; 8] =
    [".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ckpt"];
/// Folders with the same weights in another form, and with traces of training.
const LEFT_OUT: [&str; 9] =
    ["onnx", "openvino", "coreml", "tflite", "gguf", "original", "metal", "runs", "logs"];

const WEIGHTS: &str = ".safetensors";
const INDEX: &str = ".safetensors.index.json";

/// Chooses the files of a model: small ones first, weights last.
pub(super) fn choose(files: &[String], read: Read<'_>) -> Result<Vec<String>> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| !is_left_out(file)) {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        folders.entry(folder).or_default().push(name);
    }
    let has = |name: &str| files.iter().any(|file| file == name);
    let of_parts = has("model_index.json") || has("modules.json");
    let mut weights = BTreeSet::new();
    for (folder, names) in &folders {
        let root = folder.is_empty();
        // A pipeline's root may have all of its parts once more, in one file.
        let again = root && has("model_index.json") && folders.len() > 1;
        if again || (!root && !of_parts && !weights.is_empty()) {
            continue;
        }
        weights.extend(weights_of(folder, names, files, read)?);
    }
    if weights.is_empty() {
        return Err(none(files));
    }
    let beside = files.iter().filter(|file| !is_left_out(file) && is_beside(file));
    let mut chosen: Vec<String> = beside.cloned().collect();
    // An index before the shards that it names, and those in order.
    let (indices, shards): (Vec<_>, Vec<_>) =
        weights.into_iter().partition(|file| file.ends_with(INDEX));
    chosen.extend(indices);
    chosen.extend(shards);
    Ok(chosen)
}

/// Returns the weights in one folder, with their index.
fn weights_of(
    folder: &str,
    names: &[&str],
    files: &[String],
    read: Read<'_>,
) -> Result<Vec<String>> {
    let path = |name: &str| match folder {
        "" => name.to_owned(),
        _ => format!("{folder}/{name}"),
    };
    let has = |name: &str| names.contains(&name);
    let indices: Vec<String> = USUAL
        .iter()
        .map(|stem| format!("{stem}{INDEX}"))
        .filter(|name| has(name))
        .map(|name| path(&name))
        .collect();
    if let Some(index) = indices.first() {
        return with_shards(index, folder, files, read);
    }
    if let Some(name) = USUAL.iter().map(|stem| format!("{stem}{WEIGHTS}")).find(|n| has(n)) {
        return Ok(vec![path(&name)]);
    }
    if let Some(index) = names.iter().find(|name| name.ends_with(INDEX)) {
        return with_shards(&path(index), folder, files, read);
    }
    Ok(names.iter().filter(|name| name.ends_with(WEIGHTS)).map(|name| path(name)).collect())
}

/// Returns an index and the shards that it names.
fn with_shards(index: &str, folder: &str, files: &[String], read: Read<'_>) -> Result<Vec<String>> {
    let named = format!("the index of the weights, {index},");
    let wrong = |e: &str| Error::new(ErrorKind::InvalidInput, format!("{named} {e}"));
    let json: Value =
        serde_json::from_slice(&read(index)?).map_err(|e| wrong("is not JSON").with_source(e))?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| wrong("has no weight_map"))?;
    let shards: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    let mut chosen = vec![index.to_owned()];
    for shard in shards {
        let path = if folder.is_empty() { shard.to_owned() } else { format!("{folder}/{shard}") };
        if !files.contains(&path) {
            let e = format!("{named} names {path}, which is not there");
            return Err(Error::new(ErrorKind::NotFound, e));
        }
        chosen.push(path);
    }
    Ok(chosen)
}

/// Returns whether a file is in a folder that is left out, or hidden.
fn is_left_out(file: &str) -> bool {
    let folder = |part: &str| {
        let part = part.to_ascii_lowercase();
        LEFT_OUT.contains(&&*part)
            || part.starts_with("checkpoint-")
            || part.starts_with("global_step")
    };
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(folder) || file.split('/').any(|part| part.starts_with('.'))
}

/// Returns whether a file is small and belongs to a model.
fn is_beside(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    if name.ends_with(".index.json") || name == "trainer_state.json" {
        return false;
    }
    match name.rsplit_once('.') {
        Some((_, ending)) => BESIDE.contains(&ending),
        // LICENSE, NOTICE, USE_POLICY.
        None => name.starts_with(|c: char| c.is_ascii_uppercase()),
    }
}

/// Says why there are no weights.
fn none(files: &[String]) -> Error {
    let of = |endings: &[&str]| {
        let is = |file: &&String| endings.iter().any(|ending| file.ends_with(ending));
        files.iter().find(is)
    };
    let e = if let Some(file) = of(&[".sparse"]) {
        format!("there are no weights, but a delta, {file}: reconstruct that")
    } else if let Some(file) = of(&OTHER_WEIGHTS) {
        format!("there are no weights in safetensors, only {file}: convert them first")
    } else {
        "there are no weights: no file ends in .safetensors".to_owned()
    };
    Error::new(ErrorKind::NotFound, e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(files: &[&str], index: &str) -> Result<Vec<String>> {
        let files: Vec<_> = files.iter().map(|f| (*f).to_owned()).collect();
        super::choose(&files, &|_| Ok(index.as_bytes().to_vec()))
    }

    #[test]
    fn one_file_of_weights() {
        let chosen = choose(
            &[
                ".gitattributes",
                "LICENSE",
                "README.md",
                "config.json",
                "model.fp16.safetensors",
                "model.safetensors",
                "onnx/model.onnx",
                "onnx/config.json",
                "picture.png",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
                "sub/other.safetensors",
                "tokenizer.model",
                "training_args.bin",
            ],
            "",
        );
        let want = ["LICENSE", "README.md", "config.json", "tokenizer.model", "model.safetensors"];
        assert_eq!(chosen.unwrap(), want);
    }

    #[test]
    fn shards() {
        let index = r#"{"weight_map":{"a":"model-2.safetensors","b":"model-1.safetensors"}}"#;
        let files = [
            "config.json",
            "consolidated.safetensors",
            "model-1.safetensors",
            "model-2.safetensors",
            "model.safetensors.index.json",
            "model-3.safetensors",
        ];
        let want = ["config.json", files[4], files[2], files[3]];
        assert_eq!(choose(&files, index).unwrap(), want);
        let e = choose(&files[..3], "").map(drop);
        assert!(e.is_ok());
        let few = [files[0], files[2], files[4]];
        let e = choose(&few, index).unwrap_err();
        assert!(e.kind() == ErrorKind::NotFound && e.message().contains("model-2"), "{e}");
        assert_eq!(choose(&files, "[]").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn parts() {
        let files = [
            "all.safetensors",
            "model_index.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        ];
        let want = [files[1], files[2], files[4], files[5]];
        assert_eq!(choose(&files, "").unwrap(), want);
        let files = ["1_Dense/model.safetensors", "model.safetensors", "modules.json"];
        assert_eq!(choose(&files, "").unwrap(), [files[2], files[0], files[1]]);
        assert_eq!(choose(&["a/b.safetensors"], "").unwrap(), ["a/b.safetensors"]);
    }

    #[test]
    fn nothing_to_read() {
        let why = |files: &[&str]| choose(files, "").unwrap_err().to_string();
        assert!(why(&["pytorch_model.bin"]).contains("only pytorch_model.bin"));
        assert!(why(&["my.sparse", "README.md"]).contains("a delta, my.sparse"));
        assert!(why(&["README.md"]).contains("no file ends in .safetensors"));
    }
}
