//! What a model's configuration and the shapes of its tensors say of its layers.

use crate::Checkpoint;
use serde_core::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sparse_core::Result;
use std::collections::BTreeMap;
use std::fmt;

/// Longest configuration that is looked at, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Deepest object of a configuration that is looked at.
const MAX_DEPTH: usize = 4;

/// Model types of `transformers` with layers of the class `Conv1D`, which stores `[in, out]`.
const CONV1D_MODELS: [&str; 5] = ["gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"];

/// Names that these layers have. GPT-BigCode and nanoGPT call theirs the same, and store
/// `[out, in]`.
const CONV1D_NAMES: [&str; 4] = ["c_attn", "c_proj", "c_fc", "q_attn"];

/// Facts of a model's layers that its tensors alone do not tell.
///
/// # Examples
///
/// ```
/// use sparse_model::{Architecture, Model};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # std::fs::write(folder.path().join("config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
/// let model = Model::open(folder.path())?;
/// let architecture = Architecture::of(&model)?;
/// assert_eq!(architecture.is_in_out("h.0.attn.c_proj.weight"), Some(true));
/// assert_eq!(architecture.is_in_out("lm_head.weight"), Some(false));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Architecture {
    config: Config,
    /// Of weights that are not square and have a bias, by the last part of the module's path:
    /// whether the bias is as long as the rows (`[in, out]`); nothing where they differ.
    by_shape: BTreeMap<String, Option<bool>>,
    has_head: bool,
}

/// Members of `config.json` at any depth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Config {
    model_types: Vec<String>,
    classes: Vec<String>,
    tied: Option<bool>,
    heads: Option<u64>,
    key_value_heads: Option<u64>,
}

impl Architecture {
    /// Reads what the model's files say.
    ///
    /// A configuration that is missing or cannot be understood says nothing.
    ///
    /// # Errors
    /// What reading reports.
    pub fn of(model: &dyn Checkpoint) -> Result<Architecture> {
        let file = model.files().iter().position(|f| f.path == "config.json");
        let mut config = Config::default();
        if let Some(file) = file.filter(|&f| model.files()[f].len <= MAX_CONFIG_BYTES) {
            let source = model.file_source(file)?;
            let bytes = source.bytes_at(0, source.byte_len() as usize)?;
            config = Config::parse(&bytes);
        }
        let mut by_shape: BTreeMap<String, Option<bool>> = BTreeMap::new();
        let mut has_head = false;
        for entry in model.tensors() {
            let Some(path) = entry.name.strip_suffix(".weight") else { continue };
            has_head |= is_head(path);
            let &[rows, columns] = entry.spec.shape() else { continue };
            let bias = model.find(&format!("{path}.bias")).map(|b| model.tensors()[b].spec.shape());
            let Some(&[len]) = bias else { continue };
            if rows == columns || (len != rows && len != columns) {
                continue;
            }
            let found = Some(len == columns);
            let known = by_shape.entry(last(path).to_owned()).or_insert(found);
            if *known != found {
                *known = None;
            }
        }
        Ok(Architecture { config, by_shape, has_head })
    }

    /// Returns whether a linear weight is stored as `[in, out]`.
    ///
    /// GPT-2 has them so. `None` where neither shapes nor configuration tell. Weights that are not
    /// called as those of GPT-2 are taken for `[out, in]` if nothing speaks against it.
    pub fn is_in_out(&self, weight: &str) -> Option<bool> {
        let name = last(weight.strip_suffix(".weight").unwrap_or(weight));
        if let Some(&Some(found)) = self.by_shape.get(name) {
            return Some(found);
        }
        let odd = CONV1D_NAMES.contains(&name);
        let types = &self.config.model_types;
        if types.iter().any(|t| CONV1D_MODELS.contains(&&**t)) {
            return Some(odd);
        }
        if !odd || !types.is_empty() {
            return Some(false);
        }
        let mut siblings =
            CONV1D_NAMES.iter().filter_map(|n| self.by_shape.get(*n).copied().flatten());
        let first = siblings.next()?;
        siblings.all(|s| s == first).then_some(first)
    }

    /// Returns true if the output layer is the input embedding.
    ///
    /// The two then change together.
    pub fn is_tied(&self) -> bool {
        let generates = self.config.classes.iter().any(|c| {
            ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM"]
                .iter()
                .any(|end| c.ends_with(end))
        });
        self.config.tied.unwrap_or(!self.has_head && generates)
    }

    /// Returns true if a module of this path is an output layer over a vocabulary.
    pub fn is_head(path: &str) -> bool {
        is_head(path)
    }

    /// Returns true if a module of this path looks up tokens or positions.
    pub fn is_embedding(path: &str) -> bool {
        let name = last(path);
        name.contains("embed") && name != "embed_out"
            || matches!(name, "wte" | "wpe" | "shared" | "tok_embeddings")
    }

    /// Returns what PEFT calls the model's task, if its class says so.
    pub fn task_type(&self) -> Option<&'static str> {
        const TASKS: [(&str, &str); 7] = [
            ("ForCausalLM", "CAUSAL_LM"),
            ("LMHeadModel", "CAUSAL_LM"),
            ("ForSequenceClassification", "SEQ_CLS"),
            ("ForTokenClassification", "TOKEN_CLS"),
            ("ForQuestionAnswering", "QUESTION_ANS"),
            ("T5ForConditionalGeneration", "SEQ_2_SEQ_LM"),
            ("BartForConditionalGeneration", "SEQ_2_SEQ_LM"),
        ];
        let mut classes = self.config.classes.iter();
        classes.find_map(|c| TASKS.iter().find(|(end, _)| c.ends_with(end)).map(|(_, task)| *task))
    }

    /// Returns the numbers of attention heads: of queries, and of keys.
    ///
    /// `None` where `config.json` does not give them.
    pub fn heads(&self) -> Option<(u64, u64)> {
        let heads = self.config.heads?;
        Some((heads, self.config.key_value_heads.unwrap_or(heads)))
    }

    /// Returns the model type that `config.json` gives, if it does.
    pub fn model_type(&self) -> Option<&str> {
        self.config.model_types.first().map(|t| &**t)
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Returns true if a module of this path is an output layer over a vocabulary.
fn is_head(path: &str) -> bool {
    matches!(last(path), "lm_head" | "embed_out" | "output_projection")
        || matches!(path, "output" | "cls.predictions.decoder")
}

impl Config {
    fn parse(json: &[u8]) -> Config {
        let mut found = Config::default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let object = Members { config: &mut found, depth: 0 };
        // What was read before a fault is as good as the rest.
        let _ = serde_core::de::DeserializeSeed::deserialize(object, &mut reader);
        found
    }
}

/// Reader of an object: takes what it knows and looks into nested ones.
struct Members<'a> {
    config: &'a mut Config,
    depth: usize,
}

impl<'de> serde_core::de::DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Members { config, depth } = self;
        while let Some(name) = map.next_key::<String>()? {
            match &*name {
                "model_type" => {
                    if let Scalar::Text(text) = map.next_value()? {
                        config.model_types.push(text);
                    }
                }
                "architectures" if depth == 0 => {
                    if let Scalar::Texts(texts) = map.next_value()? {
                        config.classes = texts;
                    }
                }
                "tie_word_embeddings" => {
                    if let Scalar::Flag(tied) = map.next_value()? {
                        // The whole model's, before that of a part of it.
                        if depth == 0 || config.tied.is_none() {
                            config.tied = Some(tied);
                        }
                    }
                }
                "num_attention_heads" | "num_key_value_heads" if depth == 0 => {
                    if let Scalar::Number(heads) = map.next_value()? {
                        match &*name {
                            "num_attention_heads" => config.heads = Some(heads),
                            _ => config.key_value_heads = Some(heads),
                        }
                    }
                }
                _ if depth + 1 < MAX_DEPTH => {
                    map.next_value_seed(Members { config: &mut *config, depth: depth + 1 })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Value that is text, texts, a flag, a number, or something else.
enum Scalar {
    Text(String),
    Texts(Vec<String>),
    Flag(bool),
    Number(u64),
    Other,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(flag))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                let mut texts = Vec::new();
                while let Some(value) = seq.next_element::<Scalar>()? {
                    if let Scalar::Text(text) = value {
                        texts.push(text);
                    }
                }
                Ok(Scalar::Texts(texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        json.deserialize_any(Values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;
    use crate::testing::{file_bytes, put, t};
    use sparse_core::Dtype;

    fn of(config: &str, shapes: &[(&str, &[u64])]) -> Architecture {
        let folder = tempfile::tempdir().unwrap();
        let tensor = |&(name, shape): &(&str, &[u64])| {
            t(name, Dtype::U8, shape, vec![0; shape.iter().product::<u64>() as usize])
        };
        put(folder.path(), "config.json", config);
        put(
            folder.path(),
            "model.safetensors",
            file_bytes(&shapes.iter().map(tensor).collect::<Vec<_>>()),
        );
        Architecture::of(&Model::open(folder.path()).unwrap()).unwrap()
    }

    #[test]
    fn orientation() {
        let attention = &[("h.0.c_attn.weight", &[2u64, 6][..]), ("h.0.c_attn.bias", &[6])];
        let plain = &[("h.0.c_attn.weight", &[6u64, 2][..]), ("h.0.c_attn.bias", &[6])];
        let square = "h.0.c_proj.weight";
        assert_eq!(of("{}", attention).is_in_out(square), Some(true));
        assert_eq!(of("{}", plain).is_in_out(square), Some(false));
        assert_eq!(of("{}", &[]).is_in_out(square), None);
        assert_eq!(of("broken", &[]).is_in_out(square), None);
        assert_eq!(of("{}", &[]).is_in_out("l.q_proj.weight"), Some(false));
        let json =
            |t: &str| format!(r#"{{"n": 1.5, "x": [1], "decoder": {{"model_type": "{t}"}}}}"#);
        assert_eq!(of(&json("gpt2"), &[]).is_in_out(square), Some(true));
        assert_eq!(of(&json("gpt2"), &[]).is_in_out("lm_head.weight"), Some(false));
        assert_eq!(of(&json("gpt_bigcode"), &[]).is_in_out(square), Some(false));
        // Shapes count more than names.
        assert_eq!(of(&json("gpt2"), plain).is_in_out("h.0.c_attn.weight"), Some(false));
    }

    #[test]
    fn heads() {
        let heads = |config: &str| of(config, &[]).heads();
        assert_eq!(heads(r#"{"num_attention_heads": 8}"#), Some((8, 8)));
        let grouped = r#"{"num_key_value_heads": 2, "num_attention_heads": 8}"#;
        assert_eq!(heads(grouped), Some((8, 2)));
        assert_eq!(heads(r#"{"num_attention_heads": "8", "x": {"num_key_value_heads": 2}}"#), None);
    }

    #[test]
    fn ties_and_tasks() {
        let causal = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#;
        let head: &[(&str, &[u64])] = &[("lm_head.weight", &[2, 2])];
        assert!(of(causal, &[]).is_tied() && !of(causal, head).is_tied());
        assert_eq!(of(causal, head).task_type(), Some("CAUSAL_LM"));
        assert_eq!(of(causal, head).model_type(), Some("llama"));
        let nested = r#"{"text_config": {"tie_word_embeddings": true}}"#;
        assert!(of(nested, head).is_tied() && !of("{}", &[]).is_tied());
    }
}
