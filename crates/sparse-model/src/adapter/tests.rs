//! Folders as PEFT writes them.

use super::*;
use crate::testing::{T, file_bytes, put, t};

const CONFIG: &str = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 8}"#;

fn f32s(name: &str, shape: &[u64], values: &[f32]) -> T {
    t(name, Dtype::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

fn numbers(n: usize, first: f32) -> Vec<f32> {
    (0..n).map(|i| first + i as f32).collect()
}

/// Returns the factors of one module with `inner` inputs and `out` outputs.
fn pair(path: &str, names: [&str; 2], inner: u64, out: u64) -> Vec<T> {
    vec![
        f32s(
            &format!("base_model.model.{path}{}", names[0]),
            &[2, inner],
            &numbers(2 * inner as usize, 1.0),
        ),
        f32s(
            &format!("base_model.model.{path}{}", names[1]),
            &[out, 2],
            &numbers(2 * out as usize, -3.0),
        ),
    ]
}

const LINEAR: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

fn open(config: &str, tensors: &[T]) -> Result<Adapter> {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), ADAPTER_CONFIG, config);
    put(folder.path(), ADAPTER_WEIGHTS, file_bytes(tensors));
    put(folder.path(), "README.md", "words");
    Adapter::open(folder.path())
}

fn spec(shape: &[u64]) -> TensorSpec {
    TensorSpec::new(Dtype::Bf16, shape).unwrap()
}

/// Returns what merging adds, number by number.
fn change(f: &AdapterFactors) -> Vec<f64> {
    let columns = f.right.len() / f.rank;
    let at = |i: usize, j: usize| -> f64 {
        (0..f.rank)
            .map(|k| f64::from(f.left[i * f.rank + k]) * f64::from(f.right[k * columns + j]))
            .sum()
    };
    let rows = f.left.len() / f.rank;
    (0..rows)
        .flat_map(|i| (0..columns).map(move |j| (i, j)))
        .map(|(i, j)| f.scale * at(i, j))
        .collect()
}

#[test]
fn linear_layers() {
    let adapter = open(CONFIG, &pair("encoder.q", LINEAR, 3, 4)).unwrap();
    let [module] = adapter.modules() else { panic!("{:?}", adapter.modules()) };
    assert_eq!((&*module.path, module.kind, module.rank), ("encoder.q", AdapterKind::Linear, 2));
    assert_eq!((module.rows, module.columns, module.scale, module.transposed), (4, 3, 4.0, false));
    let f = adapter.factors(module).unwrap();
    // A = [[1, 2, 3], [4, 5, 6]], B = [[-3, -2], [-1, 0], [1, 2], [3, 4]].
    assert_eq!(f.right, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(f.left, [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(change(&f)[..4], [-44.0, -64.0, -84.0, -4.0]);
    assert!(adapter.rest().is_empty());
}

#[test]
fn stored_the_other_way_round() {
    let plain = open(CONFIG, &pair("q", LINEAR, 3, 4)).unwrap();
    let config = CONFIG.replace("\"r\"", "\"fan_in_fan_out\": true, \"r\"");
    let turned = open(&config, &pair("q", LINEAR, 3, 4)).unwrap();
    let embedding =
        open(CONFIG, &pair("q", [".lora_embedding_A", ".lora_embedding_B"], 3, 4)).unwrap();
    assert_eq!(embedding.modules()[0].kind, AdapterKind::Embedding);
    let want = change(&plain.factors(&plain.modules()[0]).unwrap());
    for adapter in [turned, embedding] {
        let module = &adapter.modules()[0];
        assert_eq!((module.rows, module.columns, module.transposed), (3, 4, true));
        let got = change(&adapter.factors(module).unwrap());
        for i in 0..4 {
            for j in 0..3 {
                assert_eq!(got[j * 4 + i], want[i * 3 + j]);
            }
        }
    }
}

#[test]
fn convolutions_and_half_precision() {
    let bf16 = |x: f32| ((x.to_bits() >> 16) as u16).to_le_bytes();
    let a: Vec<u8> = numbers(12, 1.0).into_iter().flat_map(bf16).collect();
    let b: Vec<u8> = numbers(10, 0.0).into_iter().flat_map(bf16).collect();
    let tensors = [
        t("base_model.model.conv.lora_A.default.weight", Dtype::Bf16, &[2, 3, 1, 2], a),
        t("base_model.model.conv.lora_B.default.weight", Dtype::Bf16, &[5, 2, 1, 1], b),
    ];
    let adapter = open(CONFIG, &tensors).unwrap();
    let module = adapter.find("conv.weight", &spec(&[5, 3, 1, 2])).unwrap();
    assert_eq!((module.rows, module.columns), (5, 6));
    assert_eq!(adapter.factors(module).unwrap().right[11], 12.0);
    assert!(adapter.find("conv.weight", &spec(&[5, 7])).is_none());
    assert!(adapter.find("conv.bias", &spec(&[5, 3, 1, 2])).is_none());
}

#[test]
fn weights_are_found_in_spite_of_prefixes() {
    let tensors: Vec<T> = ["model.layers.0.q", "model.layers.1.q"]
        .into_iter()
        .flat_map(|p| pair(p, LINEAR, 3, 4))
        .collect();
    let adapter = open(CONFIG, &tensors).unwrap();
    let shape = spec(&[4, 3]);
    let found = |name: &str| adapter.find(name, &shape).map(|m| &*m.path);
    assert_eq!(found("model.layers.1.q.weight"), Some("model.layers.1.q"));
    assert_eq!(found("layers.1.q.weight"), Some("model.layers.1.q"));
    assert_eq!(found("text.model.layers.0.q.weight"), Some("model.layers.0.q"));
    assert_eq!(found("q.weight"), None);
    assert_eq!(found("ayers.0.q.weight"), None);
    assert_eq!(found("model.layers.0.k.weight"), None);
}

#[test]
fn what_is_no_pair_of_factors() {
    let mut tensors = pair("q", LINEAR, 3, 4);
    tensors.push(f32s("base_model.model.q.lora_B.bias", &[4], &numbers(4, 0.0)));
    tensors.push(f32s("base_model.model.q.lora_magnitude_vector", &[4], &numbers(4, 0.0)));
    tensors.push(f32s("base_model.model.classifier.weight", &[4], &numbers(4, 0.0)));
    let adapter = open(CONFIG, &tensors).unwrap();
    let module = &adapter.modules()[0];
    let name = |tensor: usize| &*adapter.model().tensors()[tensor].name;
    assert_eq!(module.bias.map(name), Some("base_model.model.q.lora_B.bias"));
    assert_eq!(module.magnitude.map(name), Some("base_model.model.q.lora_magnitude_vector"));
    assert_eq!(
        adapter.rest().iter().map(|&t| name(t)).collect::<Vec<_>>(),
        ["base_model.model.classifier.weight"]
    );
}

#[test]
fn what_cannot_be_merged_is_opened_and_says_why() {
    let kind = |r: Result<Adapter>| r.unwrap().check().unwrap_err().kind();
    assert_eq!(kind(open("{}", &pair("q", LINEAR, 3, 4))), ErrorKind::InvalidInput);
    assert_eq!(kind(open(CONFIG, &pair("q", LINEAR, 3, 4)[..1])), ErrorKind::InvalidInput);
    assert_eq!(kind(open(CONFIG, &[])), ErrorKind::InvalidInput);
    let mut twice = pair("q", LINEAR, 3, 4);
    twice.push(f32s("q.lora_A.weight", &[2, 3], &numbers(6, 0.0)));
    assert_eq!(kind(open(CONFIG, &twice)), ErrorKind::InvalidInput);
    let mut unequal = pair("q", LINEAR, 3, 4);
    unequal[0] = f32s(&unequal[0].name, &[3, 3], &numbers(9, 0.0));
    assert_eq!(kind(open(CONFIG, &unequal)), ErrorKind::InvalidInput);
    let mut integers = pair("q", LINEAR, 3, 4);
    integers[0].dtype = Dtype::I32;
    assert_eq!(kind(open(CONFIG, &integers)), ErrorKind::InvalidInput);
    let mut lonely = pair("q", LINEAR, 3, 4);
    lonely.push(f32s("base_model.model.k.lora_magnitude_vector", &[4], &numbers(4, 0.0)));
    assert_eq!(kind(open(CONFIG, &lonely)), ErrorKind::InvalidInput);
    let other = open(r#"{"peft_type": "LOHA", "r": 4, "alpha": 8}"#, &pair("q", LINEAR, 3, 4));
    let e = other.unwrap().check().unwrap_err();
    assert!(e.message().contains("LOHA"), "{e}");
    // More rows than the configuration names.
    let config = CONFIG.replace("\"r\"", "\"trainable_token_indices\": [7], \"r\"");
    let rows =
        |n| f32s("e.token_adapter.trainable_tokens_delta", &[n, 3], &numbers(3 * n as usize, 0.0));
    assert_eq!(kind(open(&config, &[rows(2)])), ErrorKind::InvalidInput);
    let adapter = open(&config, &[rows(1)]).unwrap();
    assert_eq!((&*adapter.rows()[0].path, &adapter.rows()[0].rows[..]), ("e", &[7][..]));

    let folder = tempfile::tempdir().unwrap();
    let open = || Adapter::open(folder.path());
    assert_eq!(open().unwrap_err().kind(), ErrorKind::NotFound);
    put(folder.path(), ADAPTER_CONFIG, CONFIG);
    assert_eq!(kind(open()), ErrorKind::InvalidInput);
    put(folder.path(), "adapter_model.bin", "PK");
    let e = open().unwrap().check().unwrap_err();
    assert!(e.message().contains("pickle"), "{e}");
    put(folder.path(), ADAPTER_WEIGHTS, "short");
    assert_eq!(kind(open()), ErrorKind::InvalidInput);
    let e = Adapter::open(folder.path().join("nowhere")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn shapes_decide_which_way_round() {
    let adapter = open(CONFIG, &pair("q", LINEAR, 3, 4)).unwrap();
    let module = &adapter.modules()[0];
    let turned = module.placed_in(&spec(&[3, 4]), Some(false));
    assert!(turned.transposed && (turned.rows, turned.columns) == (3, 4));
    assert!(!module.placed_in(&spec(&[4, 3]), Some(true)).transposed);
    let square = open(CONFIG, &pair("q", LINEAR, 3, 3)).unwrap();
    let module = &square.modules()[0];
    assert!(module.placed_in(&spec(&[3, 3]), Some(true)).transposed);
    assert!(!module.placed_in(&spec(&[3, 3]), None).transposed);
}
