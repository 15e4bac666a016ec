//! The list of shards, `model.safetensors.index.json`.

use crate::fields::{Fault, Object, Record, Text, once, read, required, skip};
use serde_core::de::{Error, MapAccess};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Reads the files that the index `bytes` names, each once, sorted.
pub(crate) fn shard_names(bytes: &[u8]) -> Result<BTreeSet<String>, Fault> {
    read(bytes, Object(Index(None)))
}

/// Index as a whole; all but the map is skipped.
struct Index(Option<BTreeSet<String>>);

impl<'de> Record<'de> for Index {
    type Value = BTreeSet<String>;

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        if name != "weight_map" {
            return skip(map);
        }
        let shards = map.next_value_seed(Object(Shards(BTreeSet::new())))?;
        once(&mut self.0, "weight_map", shards)
    }

    fn finish<E: Error>(self) -> Result<Self::Value, E> {
        required(self.0, "weight_map")
    }
}

/// Map from tensors to shards: its values.
struct Shards(BTreeSet<String>);

impl<'de> Record<'de> for Shards {
    type Value = BTreeSet<String>;

    fn member<A: MapAccess<'de>>(&mut self, _: Cow<'de, str>, map: &mut A) -> Result<(), A::Error> {
        let Text(shard) = map.next_value()?;
        if !self.0.contains(&*shard) {
            self.0.insert(shard.into_owned());
        }
        Ok(())
    }

    fn finish<E: Error>(self) -> Result<Self::Value, E> {
        Ok(self.0)
    }
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
