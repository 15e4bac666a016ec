//! Reading JSON with `serde_json`, value by value, into records of our own.
//!
//! A [`Record`] is told the members of an object one after the other, those that occur twice
//! included, and takes what it knows: no tree is built, memory grows with what is kept. What nobody
//! asked for is skipped without recursion, so that no nesting overflows the stack.

use serde_core::de::{Deserialize, Visitor};
use serde_core::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// Longest description of a fault, in bytes: it may quote a string of the text.
const MAX_MESSAGE: usize = 160;

/// Reason why a text cannot be read, and its place.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Byte of the text: the one that is wrong, or the last of a value that is wrong as a whole.
    pub(crate) offset: usize,
    /// Whether the text is JSON so far, and only has another content than expected.
    pub(crate) is_json: bool,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Describes what `serde_json` found wrong in `text`.
    fn new(text: &[u8], e: &serde_json::Error) -> Fault {
        let mut lines = text.split_inclusive(|&b| b == b'\n');
        let before =
            lines.by_ref().take(e.line().saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
        let offset = before.saturating_add(e.column().saturating_sub(1)).min(text.len());
        let whole = e.to_string();
        // Line and column say the same as the offset.
        let message = whole.rsplit_once(" at line ").map_or(&*whole, |(message, _)| message);
        let end = (0..=MAX_MESSAGE).rev().find(|&n| message.is_char_boundary(n)).unwrap_or(0);
        let message = match message.get(..end) {
            Some(start) if message.len() > end => format!("{start}…"),
            _ => message.to_owned(),
        };
        let is_json = e.classify() == serde_json::error::Category::Data;
        Fault { offset, is_json, message }
    }
}

/// Reads `text`, which is one value and nothing else, as `seed` does.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(
    text: &'de [u8],
    seed: S,
) -> Result<S::Value, Fault> {
    let utf8 = std::str::from_utf8(text).map_err(|e| Fault {
        offset: e.valid_up_to(),
        is_json: false,
        message: "the text is not UTF-8".into(),
    })?;
    let mut json = serde_json::Deserializer::from_str(utf8);
    let read = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    read.map_err(|e| Fault::new(text, &e))
}

/// Record that an object is read into, member by member.
pub(crate) trait Record<'de>: Sized {
    /// Type that the object becomes.
    type Value;

    /// Takes the member `name`, whose value it must read from `map`.
    fn member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error>;

    /// Finishes, after all members have been taken.
    fn finish<E: Error>(self) -> Result<Self::Value, E>;
}

/// Reader of an object into a [`Record`].
pub(crate) struct Object<R>(pub(crate) R);

impl<'de, R: Record<'de>> DeserializeSeed<'de> for Object<R> {
    type Value = R::Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<R::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, R: Record<'de>> Visitor<'de> for Object<R> {
    type Value = R::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<R::Value, A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            self.0.member(name, &mut map)?;
        }
        self.0.finish()
    }
}

/// Reader of what `S` reads, or of `null`.
pub(crate) struct Nullable<S>(pub(crate) S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(json).map(Some)
    }
}

/// String, its escapes resolved, borrowed from the text where it has none.
pub(crate) struct Text<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
        }
        json.deserialize_str(Strings)
    }
}

/// Whole number of at most 64 bits: neither a sign nor a fraction is rounded away.
pub(crate) struct Whole(pub(crate) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 0 to {}", u64::MAX)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }
        }
        json.deserialize_u64(Numbers)
    }
}

/// Reader of an array of up to `most` values.
pub(crate) struct Array<T> {
    most: usize,
    what: &'static str,
    of: PhantomData<T>,
}

impl<T> Array<T> {
    /// Creates the reader; errors say that `what` was expected.
    pub(crate) fn up_to(most: usize, what: &'static str) -> Self {
        Array { most, what, of: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Array<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<T>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Array<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            if values.len() == self.most {
                return Err(A::Error::invalid_length(self.most + 1, &self));
            }
            values.push(value);
        }
        Ok(values)
    }
}

/// Checks and drops the next value of `map`.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Stores `value` in `slot`, which nobody has filled before.
pub(crate) fn once<T, E: Error>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom(format_args!("{name} is there twice"))),
    }
}

/// Returns the value of `slot`, or an error if it has none.
pub(crate) fn required<T, E: Error>(slot: Option<T>, name: &str) -> Result<T, E> {
    slot.ok_or_else(|| E::custom(format_args!("{name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Object of whole numbers.
    #[derive(Default)]
    struct Sum(u64);

    impl<'de> Record<'de> for Sum {
        type Value = u64;

        fn member<A: MapAccess<'de>>(
            &mut self,
            name: Cow<'de, str>,
            map: &mut A,
        ) -> Result<(), A::Error> {
            match &*name {
                "skip" => skip(map)?,
                "text" => self.0 += map.next_value::<Text<'_>>()?.0.len() as u64,
                "pair" => {
                    self.0 += map.next_value_seed(Array::<Whole>::up_to(2, "a pair"))?.len() as u64
                }
                _ => {
                    self.0 +=
                        map.next_value_seed(Nullable(PhantomData::<Whole>))?.map_or(0, |n| n.0)
                }
            }
            Ok(())
        }

        fn finish<E: Error>(self) -> Result<u64, E> {
            Ok(self.0)
        }
    }

    fn sum(text: &str) -> Result<u64, Fault> {
        read(text.as_bytes(), Object(Sum::default()))
    }

    #[test]
    fn values_are_read() {
        let text = r#" {"a" : 1, "\u0062\n\ud83d\ude00ü":null, "pair":[7, 8], "text":"\u00e9x",
            "skip": [{"a":[1e9, -0.5]}, true], "a":4} "#;
        assert_eq!(sum(text).unwrap(), 10);
    }

    #[test]
    fn faults_say_what_and_where() {
        let fault = |text: &str| {
            let e = sum(text).unwrap_err();
            (e.offset, e.is_json, e.to_string())
        };
        let is = |at, is_json, message: &str| (at, is_json, message.to_owned());
        assert_eq!(fault("[]"), is(0, true, "invalid type: sequence, expected an object"));
        for number in ["-1", "1.0", "1e0", "18446744073709551616", "-0", "true", "\"1\""] {
            let (at, is_json, message) = fault(&format!("{{\n\"a\":{number}}}"));
            assert!((6..6 + number.len()).contains(&at) && is_json, "{number}: {at} {message}");
            assert!(message.contains("expected a whole number from 0 to 18446744073709551615"));
        }
        assert_eq!(fault(r#"{"a":garbage}"#), is(5, false, "expected value"));
        assert_eq!(fault(r#"{"a":01}"#), is(6, false, "invalid number"));
        assert_eq!(fault(r#"{"a":1,}"#), is(7, false, "trailing comma"));
        assert_eq!(fault(r#"{"a":1"#), is(5, false, "EOF while parsing an object"));
        assert_eq!(fault("{}x"), is(2, false, "trailing characters"));
        assert_eq!(fault(r#"{"pair":[1,2,3,4]}"#).2, "invalid length 3, expected a pair");
        let e = read(b"{\"a\xff\":1}", Object(Sum::default())).unwrap_err();
        assert_eq!((e.offset, e.is_json), (3, false));
    }

    #[test]
    fn what_a_fault_quotes_is_short_and_moves_nothing() {
        let long = format!(r#"{{"a":"{}"}}"#, "ü".repeat(1 << 16));
        let e = sum(&long).unwrap_err();
        assert!(e.to_string().len() < 200 && e.offset < long.len(), "{e}");
        // A string that reads like a place in a message of serde_json.
        for place in ["line 9 column 9", "line 99999999999999999999 column 1"] {
            let text = format!("{{\"a\":\"x at {place}\"}}");
            let e = sum(&text).unwrap_err();
            assert!(e.offset <= text.len(), "{e} {}", e.offset);
        }
    }

    #[test]
    fn nesting_does_not_recurse() {
        let deep = format!("{}1{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(sum(&format!(r#"{{"skip":{deep}}}"#)).unwrap(), 0);
        assert!(sum(&format!(r#"{{"a":{deep}}}"#)).is_err());
        assert!(sum(&deep).is_err());
    }
}
