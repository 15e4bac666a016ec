//! Reading the configuration of an adapter, and asking it for the scale of a module.
//!
//! An input is the file, a byte of zero, and the path of the module.

use crate::Seed;
use sparse_model::AdapterConfig;

/// Parse the file; compile its patterns, and match them.
pub fn run(data: &[u8]) {
    let (json, path) = match data.iter().position(|b| *b == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"model.layers.0.self_attn.q_proj"[..]),
    };
    let Ok(config) = AdapterConfig::parse(json) else { return };
    let path = String::from_utf8_lossy(path);
    for rank in [0, 1, config.rank, u64::MAX] {
        if let Ok(scale) = config.scale(&path, rank) {
            assert!(scale.is_finite());
        }
    }
}

/// Configurations as PEFT writes them, with patterns of all sorts.
pub fn seeds() -> Vec<Seed> {
    let plain = r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": null,
 "base_model_name_or_path": "org/name", "target_modules": ["q_proj", "v_proj"],
 "modules_to_save": ["score"], "fan_in_fan_out": false, "use_rslora": true, "use_dora": false}"#;
    let patterns = r#"{"r": 8, "lora_alpha": 1.5e1, "rank_pattern": {"q_proj": 4},
 "alpha_pattern": {"^model.layers.1.v_proj": 3, "layers\\.[2-9]+\\.k_proj": 4, "(a|b){2,5}": 5,
 "mlp.up|mlp.down": 6, "\\w+?\\d*.[^x]$": 7, "(?i:Q_PROJ)": 8}}"#;
    let with = |json: &str, path: &str| [json.as_bytes(), b"\0", path.as_bytes()].concat();
    vec![
        ("plain".into(), with(plain, "model.layers.0.q_proj")),
        ("patterns".into(), with(patterns, "x.layers.23.k_proj")),
        ("no-pattern-matches".into(), with(patterns, "ababab.mlp")),
        ("without-a-path".into(), plain.as_bytes().to_vec()),
        ("other-kind".into(), br#"{"peft_type": "IA3", "r": 1, "lora_alpha": 1}"#.to_vec()),
    ]
}
