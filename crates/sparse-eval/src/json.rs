//! Fields of a configuration file.

use crate::error::unsupported;
use serde_json::{Map, Value};
use sparse_core::Result;

/// A JSON object whose fields are read with their types checked. A field that is `null` is absent.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn parse(json: &[u8]) -> Result<Fields> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(map)) => Ok(Fields(map)),
            Ok(_) => Err(unsupported("it must be a JSON object")),
            Err(e) => Err(unsupported("it is not valid JSON").with_source(e)),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|v| !v.is_null())
    }

    /// Returns a field read by `read`.
    fn read<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match read(value) {
            Some(v) => Ok(Some(v)),
            None => Err(unsupported(format!("{name} must be {expected}, and is {value}"))),
        }
    }

    /// Returns a whole number.
    pub(crate) fn count(&self, name: &str) -> Result<Option<usize>> {
        self.read(name, "a whole number", as_count)
    }

    /// Returns a whole number, or the first of a list of them.
    pub(crate) fn first_count(&self, name: &str) -> Result<Option<usize>> {
        self.read(name, "a whole number or a list of them", |v| match v {
            Value::Array(list) => list.first().and_then(as_count),
            v => as_count(v),
        })
    }

    pub(crate) fn needed_count(&self, name: &str) -> Result<usize> {
        self.count(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>> {
        self.read(name, "a number", Value::as_f64)
    }

    pub(crate) fn needed_number(&self, name: &str) -> Result<f64> {
        self.number(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        self.read(name, "a text", Value::as_str)?.ok_or_else(|| missing(name))
    }

    /// Returns a text, or `default` where there is none.
    pub(crate) fn text_or<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.read(name, "a text", Value::as_str)?.unwrap_or(default))
    }

    /// Tells whether there is such a field, be it `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields>> {
        self.read(name, "an object", |v| v.as_object().cloned().map(Fields))
    }
}

fn as_count(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn missing(name: &str) -> sparse_core::Error {
    unsupported(format!("{name} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked() {
        let fields = Fields::parse(br#"{"a": 3, "b": "x", "c": null, "d": [4], "e": -1}"#).unwrap();
        assert_eq!(fields.count("a").unwrap(), Some(3));
        assert_eq!(fields.number("a").unwrap(), Some(3.0));
        assert_eq!(fields.count("c").unwrap(), None);
        assert_eq!(fields.first_count("d").unwrap(), Some(4));
        for name in ["b", "d", "e"] {
            assert!(fields.count(name).unwrap_err().to_string().contains(name));
        }
        assert!(fields.needed_count("c").is_err());
        assert!(fields.text("a").is_err());
        assert!(fields.flag("b").is_err());
    }
}
