//! Values of a configuration that have several types.

use serde_core::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Value of any type, as far as it is asked for.
pub(super) enum Loose {
    /// `null`, `false`, zero, or empty.
    Unset,
    /// Text.
    Text(String),
    /// Anything else.
    Set,
}

impl Loose {
    /// Returns true unless the value is `null`, `false`, zero, or empty.
    pub(super) fn is_set(&self) -> bool {
        !matches!(self, Loose::Unset)
    }

    /// Returns the text, if it is one.
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Loose::Text(text) => Some(text),
            _ => None,
        }
    }

    fn from_flag(set: bool) -> Loose {
        if set { Loose::Set } else { Loose::Unset }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Loose, E> {
                Ok(Loose::Unset)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Loose, E> {
                Ok(Loose::from_flag(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Loose, E> {
                Ok(Loose::from_flag(value != 0))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Loose, E> {
                Ok(Loose::from_flag(value != 0))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Loose, E> {
                Ok(Loose::from_flag(value != 0.0))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Loose, E> {
                Ok(if text.is_empty() { Loose::Unset } else { Loose::Text(text.to_owned()) })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
                let mut any = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Loose::from_flag(any))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Loose::from_flag(any))
            }
        }
        json.deserialize_any(Values)
    }
}

/// Rows of embeddings: a list for the input embedding, or lists by module.
#[derive(Default)]
pub(super) struct TokenIndices(pub(super) Vec<(String, Vec<u64>)>);

impl<'de> Deserialize<'de> for TokenIndices {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Lists;
        impl<'de> Visitor<'de> for Lists {
            type Value = TokenIndices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rows, or lists of rows by module")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TokenIndices, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = seq.next_element()? {
                    rows.push(row);
                }
                Ok(TokenIndices(vec![(String::new(), rows)]))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TokenIndices, A::Error> {
                let mut lists = Vec::new();
                while let Some(list) = map.next_entry()? {
                    lists.push(list);
                }
                Ok(TokenIndices(lists))
            }
        }
        json.deserialize_any(Lists)
    }
}
