//! Every committed input, and every seed as it is made today, through its target.

fn replay(name: &str) {
    let target = sparse_fuzz::TARGETS.iter().find(|t| t.name == name).unwrap();
    for (name, bytes) in (target.seeds)() {
        println!("seed {name}");
        (target.run)(&bytes);
    }
    let folder = sparse_fuzz::corpus(target.name);
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no inputs in {}", folder.display());
    for path in paths {
        println!("{}", path.display());
        (target.run)(&std::fs::read(path).unwrap());
    }
}

#[test]
fn adapter_config() {
    replay("adapter_config");
}

#[test]
fn certificate() {
    replay("certificate");
}

#[test]
fn container_open() {
    replay("container_open");
}

#[cfg(feature = "datasets")]
#[test]
fn dataset_batch() {
    replay("dataset_batch");
}

#[cfg(feature = "datasets")]
#[test]
fn dataset_details() {
    replay("dataset_details");
}

#[cfg(feature = "datasets")]
#[test]
fn dataset_manifest() {
    replay("dataset_manifest");
}

#[cfg(feature = "datasets")]
#[test]
fn dataset_patch() {
    replay("dataset_patch");
}

#[cfg(feature = "datasets")]
#[test]
fn dataset_plan() {
    replay("dataset_plan");
}

#[cfg(feature = "datasets")]
#[test]
fn dataset_restore() {
    replay("dataset_restore");
}

#[cfg(feature = "datasets")]
#[test]
fn dataset_row_group() {
    replay("dataset_row_group");
}

#[test]
fn entropy() {
    replay("entropy");
}

#[cfg(feature = "datasets")]
#[test]
fn foreign_arrow() {
    replay("foreign_arrow");
}

#[cfg(feature = "datasets")]
#[test]
fn foreign_csv() {
    replay("foreign_csv");
}

#[cfg(feature = "datasets")]
#[test]
fn foreign_json() {
    replay("foreign_json");
}

#[cfg(feature = "datasets")]
#[test]
fn foreign_parquet() {
    replay("foreign_parquet");
}

#[test]
fn hub_cache() {
    replay("hub_cache");
}

#[test]
fn lossless_chunk() {
    replay("lossless_chunk");
}

#[test]
fn lossless_round_trip() {
    replay("lossless_round_trip");
}

#[test]
fn low_rank_chunk() {
    replay("low_rank_chunk");
}

#[test]
fn model_restore() {
    replay("model_restore");
}

#[test]
fn packed_tensor() {
    replay("packed_tensor");
}

#[test]
fn quantised_chunk() {
    replay("quantised_chunk");
}

#[test]
fn remote_names() {
    replay("remote_names");
}

#[test]
fn routing_files() {
    replay("routing_files");
}

#[test]
fn safetensors_header() {
    replay("safetensors_header");
}

#[test]
fn shard_index() {
    replay("shard_index");
}

#[test]
fn svd_chunk() {
    replay("svd_chunk");
}

#[test]
fn every_target_is_replayed_and_listed() {
    let manifest = include_str!("../Cargo.toml");
    let tests = include_str!("corpus.rs");
    for target in sparse_fuzz::TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
        assert!(tests.contains(&format!("replay(\"{}\")", target.name)), "{}", target.name);
    }
}

#[test]
fn tensor_containers() {
    replay("tensor_containers");
}
