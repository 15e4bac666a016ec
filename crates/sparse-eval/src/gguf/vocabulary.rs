//! Tokenizers as metadata of GGUF files.
//!
//! llama.cpp has tokenizers of its own, which it chooses by name. What it needs for them follows
//! from a `tokenizer.json` where that is byte pair encoding; any other is left out. The whole
//! `tokenizer.json` is added, too, under the key that the GGUF specification has for it.

use super::metadata::Metadata;
use crate::config::ModelConfig;
use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;

/// Key of the whole `tokenizer.json`.
pub(super) const WHOLE: &str = "tokenizer.huggingface.json";

/// Kinds of tokens, by llama.cpp's numbers.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// Regular expressions by which llama.cpp splits a text before the merges, with their names there.
const SPLITS: [(&str, &str); 2] = [
    (
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "llama-bpe",
    ),
    (
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "qwen2",
    ),
];

/// Returns the metadata of a tokenizer, and notes on what could not be expressed.
pub(super) fn of_tokenizer(json: Option<&[u8]>, config: &ModelConfig) -> (Metadata, Vec<String>) {
    let mut notes = Vec::new();
    let parsed: Option<Json> = json.and_then(|json| serde_json::from_slice(json).ok());
    let described = parsed.as_ref().and_then(|json| described(json, config, &mut notes));
    let mut out = described.unwrap_or_else(|| {
        notes.push(
            "the file has no tokenizer that llama.cpp can use: the model has none of byte pair \
             encoding in a tokenizer.json"
                .to_owned(),
        );
        vec![("tokenizer.ggml.model".to_owned(), Value::String("no_vocab".to_owned()))]
    });
    for (name, id) in [("bos", config.bos), ("eos", config.eos)] {
        if let Some(id) = id {
            out.push((format!("tokenizer.ggml.{name}_token_id"), Value::U32(id)));
        }
    }
    if let Some(text) = json.and_then(|json| String::from_utf8(json.to_vec()).ok()) {
        out.push((WHOLE.to_owned(), Value::String(text)));
    }
    (out, notes)
}

fn described(json: &Json, config: &ModelConfig, notes: &mut Vec<String>) -> Option<Metadata> {
    let model = json.get("model")?;
    if model.get("type").and_then(Json::as_str) != Some("BPE") {
        return None;
    }
    let merges = merges(model.get("merges")?)?;
    let (tokens, kinds) = tokens(json, config.vocabulary)?;
    let texts = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
    let byte_level = steps(json).any(|step| step.get("type").is_some_and(|t| t == "ByteLevel"));
    let mut out = Metadata::new();
    let mut add = |key: &str, value: Value| out.push((format!("tokenizer.ggml.{key}"), value));
    if byte_level {
        add("model", Value::String("gpt2".to_owned()));
        let split = split_name(json).unwrap_or_else(|| {
            notes.push(
                "llama.cpp may split text otherwise: the tokenizer's expression is none of those \
                 that are known here, so that the file says \"default\""
                    .to_owned(),
            );
            "default"
        });
        add("pre", Value::String(split.to_owned()));
        add("merges", texts(&merges));
    } else {
        // As SentencePiece's: what is merged first has the highest score.
        add("model", Value::String("llama".to_owned()));
        let ranks: std::collections::HashMap<String, usize> =
            merges.iter().enumerate().map(|(i, merge)| (merge.replace(' ', ""), i)).collect();
        let score = |token: &String| ranks.get(token).map_or(0.0, |&rank| -(rank as f32) - 1.0);
        add("scores", Value::Array(tokens.iter().map(|t| Value::F32(score(t))).collect()));
    }
    add("tokens", texts(&tokens));
    add("token_type", Value::Array(kinds.into_iter().map(Value::I32).collect()));
    Some(out)
}

/// Returns merges as `left right`, which files have as texts or as pairs.
fn merges(json: &Json) -> Option<Vec<String>> {
    let merge = |merge: &Json| match merge {
        Json::String(text) => Some(text.clone()),
        Json::Array(pair) => match pair.as_slice() {
            [left, right] => Some(format!("{} {}", left.as_str()?, right.as_str()?)),
            _ => None,
        },
        _ => None,
    };
    json.as_array()?.iter().map(merge).collect()
}

/// Returns all tokens in the order of their numbers, and their kinds. Numbers without a token get a
/// name that no text has.
fn tokens(json: &Json, count: usize) -> Option<(Vec<String>, Vec<i32>)> {
    let mut tokens: Vec<String> = (0..count).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![kind::UNUSED; count];
    let mut set = |id: u64, text: &str, kind: i32| {
        let place = usize::try_from(id).ok().filter(|id| *id < count);
        if let Some(id) = place {
            text.clone_into(&mut tokens[id]);
            kinds[id] = kind;
        }
    };
    let falls_back = json["model"]["byte_fallback"] == true;
    for (text, id) in json["model"]["vocab"].as_object()? {
        let is_byte = falls_back && text.len() == 6 && text.starts_with("<0x");
        set(id.as_u64()?, text, if is_byte { kind::BYTE } else { kind::NORMAL });
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let special = token["special"] == true;
        let kind = if special { kind::CONTROL } else { kind::USER_DEFINED };
        set(token["id"].as_u64()?, token["content"].as_str()?, kind);
    }
    Some((tokens, kinds))
}

/// Returns the steps before the model and after it, those of sequences one by one.
fn steps(json: &Json) -> impl Iterator<Item = &Json> {
    let parts = [("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")];
    parts.into_iter().flat_map(move |(part, inner)| {
        let step = &json[part];
        std::iter::once(step).chain(step[inner].as_array().into_iter().flatten())
    })
}

fn split_name(json: &Json) -> Option<&'static str> {
    let mut splits = steps(json).filter(|step| step["type"] == "Split");
    match splits.next() {
        Some(split) => {
            let expression = split["pattern"]["Regex"].as_str()?;
            let known = SPLITS.into_iter().find(|(known, _)| *known == expression);
            known.filter(|_| splits.next().is_none()).map(|(_, name)| name)
        }
        None => {
            let step = &json["pre_tokenizer"];
            let own = step["type"] == "ByteLevel" && step["use_regex"] != false;
            own.then_some("gpt-2")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        let json = br#"{"model_type": "llama", "vocab_size": 6, "hidden_size": 64,
            "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 160,
            "eos_token_id": 0}"#;
        ModelConfig::parse(json).unwrap()
    }

    fn texts(metadata: &Metadata, key: &str) -> Vec<String> {
        let (_, value) = metadata.iter().find(|(k, _)| k == key).unwrap();
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(all) => all.iter().map(|v| v.to_string().unwrap().clone()).collect(),
            _ => panic!("{value:?}"),
        }
    }

    const VOCAB: &str = r#""vocab": {"a": 1, "b": 2, "ab": 3, "<0x0A>": 4}"#;
    const ADDED: &str = r#""added_tokens": [{"id": 0, "content": "<end>", "special": true}]"#;

    #[test]
    fn byte_level() {
        let json = format!(
            r#"{{{ADDED}, "pre_tokenizer": {{"type": "ByteLevel", "use_regex": true}},
                "model": {{"type": "BPE", {VOCAB}, "merges": [["a", "b"]]}}}}"#
        );
        let (metadata, notes) = of_tokenizer(Some(json.as_bytes()), &config());
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(texts(&metadata, "tokenizer.ggml.pre"), ["gpt-2"]);
        assert_eq!(texts(&metadata, "tokenizer.ggml.merges"), ["a b"]);
        let tokens = texts(&metadata, "tokenizer.ggml.tokens");
        assert_eq!(tokens, ["<end>", "a", "b", "ab", "<0x0A>", "[PAD5]"]);
        assert_eq!(texts(&metadata, WHOLE), [json]);
    }

    #[test]
    fn byte_fallback() {
        let json = format!(
            r#"{{{ADDED}, "model": {{"type": "BPE", "byte_fallback": true, {VOCAB},
                "merges": ["a b"]}}}}"#
        );
        let (metadata, _) = of_tokenizer(Some(json.as_bytes()), &config());
        assert_eq!(texts(&metadata, "tokenizer.ggml.model"), ["llama"]);
        let find = |key: &str| {
            let (_, value) = metadata.iter().find(|(k, _)| k == key).unwrap();
            value.to_vec().unwrap().clone()
        };
        assert_eq!(find("tokenizer.ggml.scores")[3].to_f32().unwrap(), -1.0);
        let kinds = find("tokenizer.ggml.token_type");
        let kinds: Vec<_> = kinds.iter().map(|k| k.to_i32().unwrap()).collect();
        assert_eq!(kinds, [3, 1, 1, 1, 6, 5]);
    }

    #[test]
    fn others_are_noted() {
        for json in [None, Some("{}"), Some(r#"{"model": {"type": "Unigram"}}"#)] {
            let (metadata, notes) = of_tokenizer(json.map(str::as_bytes), &config());
            assert_eq!(texts(&metadata, "tokenizer.ggml.model"), ["no_vocab"]);
            assert_eq!(notes.len(), 1);
        }
        let json = format!(
            r#"{{"decoder": {{"type": "ByteLevel"}},
                "pre_tokenizer": {{"type": "Split", "pattern": {{"Regex": "x"}}}},
                "model": {{"type": "BPE", {VOCAB}, "merges": []}}}}"#
        );
        let (metadata, notes) = of_tokenizer(Some(json.as_bytes()), &config());
        assert_eq!(texts(&metadata, "tokenizer.ggml.pre"), ["default"]);
        assert_eq!(notes.len(), 1);
    }
}
