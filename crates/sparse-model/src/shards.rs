//! The list of shards, `model.safetensors.index.json`.

use crate::json::{Fault, Json};
use std::collections::BTreeSet;

/// The files that the index `bytes` names, each once, sorted.
pub(crate) fn shard_names(bytes: &[u8]) -> Result<BTreeSet<String>, Fault> {
    let mut shards = None;
    let mut json = Json::of_bytes(bytes)?;
    json.object(|json, name| {
        if name != "weight_map" {
            return json.skip();
        }
        let at = json.offset();
        let mut found = BTreeSet::new();
        json.object(|json, _tensor| {
            found.insert(json.string()?.into_owned());
            Ok(())
        })?;
        match shards.replace(found) {
            None => Ok(()),
            Some(_) => Err(Json::unexpected(at, "weight_map is there twice")),
        }
    })?;
    json.end()?;
    shards.ok_or_else(|| Json::unexpected(0, "weight_map is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_once() {
        let json = br#"{"metadata":{"total_size":3},"weight_map":{"a":"2","b":"1","c":"2"}}"#;
        assert_eq!(shard_names(json).unwrap(), BTreeSet::from(["1".to_owned(), "2".to_owned()]));
        for bad in [
            &b"{}"[..],
            b"[]",
            b"{\xff}",
            br#"{"weight_map":{"a":1}}"#,
            br#"{"weight_map":{}} x"#,
            br#"{"weight_map":{},"weight_map":{}}"#,
        ] {
            assert!(shard_names(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
