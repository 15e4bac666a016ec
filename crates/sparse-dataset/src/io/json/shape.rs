//! The shape of JSON values: the kinds of values at each place, and the type that stores all of
//! them exactly.

use super::text::{Fault, MAX_DEPTH, Text};
use arrow_schema::{DataType, Field, Fields, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// Kinds of values at a place, as flags.
const NULL: u16 = 1;
const BOOL: u16 = 1 << 1;
const TEXT: u16 = 1 << 2;
const LIST: u16 = 1 << 3;
const OBJECT: u16 = 1 << 4;
const INTEGER: u16 = 1 << 5;
const NEGATIVE: u16 = 1 << 6;
/// An integer of more than 53 bits, which floating point may not store.
const LONG: u16 = 1 << 7;
/// An integer that needs 64 bits without sign.
const BIG: u16 = 1 << 8;
/// A number with a point or an exponent, or minus zero.
const FRACTION: u16 = 1 << 9;
/// A number of `FRACTION` with an integral value.
const WHOLE: u16 = 1 << 10;
/// A value that no type of Arrow can store.
const RAW: u16 = 1 << 11;
/// A key that some objects lack.
const MISSING: u16 = 1 << 12;

/// Flag of a key for the writer: nulls are written.
pub(super) const NULLS: u8 = 1;
/// Flag of a key for the writer: integral values of floating point are written without a point.
pub(super) const PLAIN: u8 = 2;
/// Flag of a key for the writer: text that is JSON is written without quotes.
pub(super) const AS_IS: u8 = 4;

/// Most levels of types; values below are text.
const MAX_TYPE_DEPTH: usize = 24;

/// Most keys of an object that become columns; with more, the object is text. Lines have no such
/// limit here.
const MAX_KEYS: usize = 1000;

/// Values at a place, in all rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    flags: u16,
    items: Option<Box<Shape>>,
    object: Option<Box<Object>>,
}

/// Keys of objects, in an order that all objects share if there is one.
#[derive(Clone, Debug, Default)]
struct Object {
    keys: Vec<Key>,
    by_name: HashMap<String, usize>,
    /// Numbers of keys in order, and the reverse.
    order: Vec<usize>,
    rank: Vec<usize>,
    objects: u64,
    /// Number of objects whose keys are in another order.
    disordered: u64,
}

#[derive(Clone, Debug)]
struct Key {
    name: String,
    shape: Shape,
    present: u64,
    /// The last object that has the key.
    last: u64,
}

impl Object {
    /// Returns the number of a key; a new key is inserted after `previous`.
    fn find(&mut self, name: &str, previous: Option<usize>) -> usize {
        let next = previous.map_or(0, |p| self.rank.get(p).map_or(0, |r| r + 1));
        if let Some(&guess) = self.order.get(next)
            && self.keys.get(guess).is_some_and(|k| k.name == name)
        {
            return guess;
        }
        if let Some(&found) = self.by_name.get(name) {
            return found;
        }
        let number = self.keys.len();
        self.keys.push(Key { name: name.to_owned(), shape: Shape::default(), present: 0, last: 0 });
        self.by_name.insert(name.to_owned(), number);
        self.order.insert(next.min(self.order.len()), number);
        self.rank = vec![0; self.keys.len()];
        for (rank, &number) in self.order.iter().enumerate() {
            if let Some(r) = self.rank.get_mut(number) {
                *r = rank;
            }
        }
        number
    }

    fn in_order(&self) -> impl Iterator<Item = &Key> {
        self.order.iter().filter_map(|&i| self.keys.get(i))
    }
}

impl Shape {
    /// Reads a value from a text and adds it.
    pub(super) fn read(&mut self, text: &mut Text<'_>, depth: usize) -> Result<(), Fault> {
        match text.peek() {
            Some(b'n') => {
                self.flags |= NULL;
                text.word("null")
            }
            Some(b't') => {
                self.flags |= BOOL;
                text.word("true")
            }
            Some(b'f') => {
                self.flags |= BOOL;
                text.word("false")
            }
            Some(b'"') => {
                let lone = text.string()?.lone;
                self.flags |= TEXT | if lone { RAW } else { 0 };
                Ok(())
            }
            Some(b'[' | b'{') if depth >= MAX_TYPE_DEPTH => {
                self.flags |= RAW;
                text.value(depth)
            }
            Some(b'[') => {
                self.flags |= LIST;
                let items = self.items.get_or_insert_default();
                text.list(depth, |text| items.read(text, depth + 1))
            }
            Some(b'{') => {
                self.flags |= OBJECT;
                self.read_object(text, depth)
            }
            _ => {
                let (number, integer) = text.number()?;
                self.flags |= flags_of(number, integer);
                Ok(())
            }
        }
    }

    fn read_object(&mut self, text: &mut Text<'_>, depth: usize) -> Result<(), Fault> {
        let object = self.object.get_or_insert_default();
        if depth > 0 && object.keys.len() > MAX_KEYS {
            self.flags |= RAW;
            return text.value(depth);
        }
        object.objects += 1;
        let this = object.objects;
        let (mut previous, mut ordered) = (None, true);
        text.object(depth, |text, quoted| {
            let at = quoted.inside.start;
            let refused = |what: String| Fault { at, what: what.into(), incomplete: false };
            if quoted.lone {
                return Err(refused("a key has half of a surrogate pair".into()));
            }
            let name = text.content(&quoted);
            let number = object.find(&name, previous);
            let rank = |i: usize| object.rank.get(i).copied().unwrap_or(0);
            ordered &= previous.is_none_or(|p| rank(p) < rank(number));
            previous = Some(number);
            let Some(key) = object.keys.get_mut(number) else {
                return Err(refused("a key is lost".into()));
            };
            if key.last == this {
                return Err(refused(format!("the key {name:?} is there twice")));
            }
            key.last = this;
            key.present += 1;
            key.shape.read(text, depth + 1)
        })?;
        object.disordered += u64::from(!ordered);
        Ok(())
    }

    /// Ends a file: finds the keys that some of its objects lack.
    pub(super) fn end(&mut self) {
        if let Some(items) = &mut self.items {
            items.end();
        }
        let Some(object) = &mut self.object else { return };
        for key in &mut object.keys {
            if key.present < object.objects {
                key.shape.flags |= MISSING;
                // Arrow cannot tell a null from a missing key.
                key.shape.flags |= if key.shape.flags & NULL != 0 { RAW } else { 0 };
            }
            key.shape.end();
        }
    }

    /// Objects whose keys have another order than the others'.
    pub(super) fn disordered(&self) -> u64 {
        let items = self.items.as_ref().map_or(0, |i| i.disordered());
        let object = self.object.as_ref();
        let own = object.map_or(0, |o| {
            o.keys.iter().fold(o.disordered, |sum, k| sum.saturating_add(k.shape.disordered()))
        });
        items.saturating_add(own)
    }

    /// Adds the shape of another file.
    pub(crate) fn merge(&mut self, other: &Shape) {
        self.flags |= other.flags;
        if let Some(items) = &other.items {
            self.items.get_or_insert_default().merge(items);
        }
        if let Some(from) = &other.object {
            let to = self.object.get_or_insert_default();
            to.objects = to.objects.saturating_add(from.objects);
            let mut previous = None;
            for key in from.in_order() {
                let number = to.find(&key.name, previous);
                previous = Some(number);
                if let Some(k) = to.keys.get_mut(number) {
                    k.present = k.present.saturating_add(key.present);
                    k.shape.merge(&key.shape);
                }
            }
        }
    }

    /// Returns true if values here are kept as text.
    pub(super) fn is_raw(&self) -> bool {
        let has = |flag: u16| self.flags & flag != 0;
        let kinds =
            [BOOL, TEXT, LIST, OBJECT, INTEGER | FRACTION].into_iter().filter(|&k| has(k)).count();
        let keys = self.object.as_ref().map_or(0, |o| o.keys.len());
        kinds > 1
            || has(RAW)
            || (has(FRACTION) && has(LONG))
            || (has(BIG) && has(NEGATIVE))
            || (has(OBJECT) && (keys == 0 || keys > MAX_KEYS))
    }

    /// Returns true if values here or below are kept as text.
    pub(crate) fn has_raw(&self) -> bool {
        self.is_raw()
            || self.items.as_ref().is_some_and(|i| i.has_raw())
            || self.object.as_ref().is_some_and(|o| o.keys.iter().any(|k| k.shape.has_raw()))
    }

    fn data_type(&self) -> DataType {
        let has = |flag: u16| self.flags & flag != 0;
        if self.is_raw() || has(TEXT) {
            DataType::Utf8
        } else if has(BOOL) {
            DataType::Boolean
        } else if has(LIST) {
            let item = self.items.as_ref().map_or(DataType::Null, |i| i.data_type());
            DataType::List(Arc::new(Field::new("item", item, true)))
        } else if has(OBJECT) {
            DataType::Struct(self.fields())
        } else if has(FRACTION) {
            DataType::Float64
        } else if has(BIG) {
            DataType::UInt64
        } else if has(INTEGER) {
            DataType::Int64
        } else {
            DataType::Null
        }
    }

    fn fields(&self) -> Fields {
        let keys = self.object.iter().flat_map(|o| o.in_order());
        keys.map(|k| Field::new(&k.name, k.shape.data_type(), true)).collect()
    }

    /// Returns the schema of lines of this shape.
    pub(crate) fn schema(&self) -> Schema {
        Schema::new(self.fields())
    }

    /// Returns the number of objects here.
    pub(crate) fn objects(&self) -> u64 {
        self.object.as_ref().map_or(0, |o| o.objects)
    }

    /// Returns true if all keys of another shape's objects are among those of this one's.
    pub(crate) fn has_keys_of(&self, other: &Shape) -> bool {
        other.object.iter().flat_map(|o| &o.keys).all(|key| self.key(&key.name).is_some())
    }

    /// Returns the keys of all lines: those of one file in its order, then those that it lacks.
    pub(crate) fn order_of(&self, file: &Shape) -> Vec<&str> {
        let own = file.object.iter().flat_map(|o| o.in_order());
        let own = own
            .filter_map(|k| self.object.as_ref()?.by_name.get_key_value(&k.name))
            .map(|k| &**k.0);
        let rest = self.object.iter().flat_map(|o| o.in_order()).map(|k| &*k.name);
        own.chain(rest.filter(|name| file.key(name).is_none())).collect()
    }

    /// Returns the writer's flags for the keys of a file, in the order of
    /// [`order_of`](Self::order_of).
    pub(crate) fn keys_of(&self, file: &Shape) -> Vec<u8> {
        let mut out = Vec::new();
        for name in self.order_of(file) {
            if let Some(shape) = self.key(name) {
                shape.add_key(file.key(name), true, &mut out);
            }
        }
        if out.iter().all(|&b| b == 0) {
            out.clear();
        }
        out
    }

    /// Appends the flags of this place and those below; `own` is the shape of the file there.
    fn add_key(&self, own: Option<&Shape>, may_lack: bool, out: &mut Vec<u8>) {
        if self.is_raw() {
            out.push(AS_IS);
            return;
        }
        let has = |flag: u16| own.is_some_and(|f| f.flags & flag != 0);
        let nulls = may_lack && has(NULL);
        let plain = self.flags & FRACTION != 0 && has(INTEGER) && !has(WHOLE);
        out.push(if nulls { NULLS } else { 0 } | if plain { PLAIN } else { 0 });
        if let Some(items) = self.items.as_ref().filter(|_| self.flags & LIST != 0) {
            items.add_key(own.and_then(|f| f.items()), false, out);
        }
        for key in self.object.iter().flat_map(|o| o.in_order()) {
            key.shape.add_key(own.and_then(|f| f.key(&key.name)), true, out);
        }
    }

    /// Returns the shape of the items of lists here.
    pub(super) fn items(&self) -> Option<&Shape> {
        self.items.as_deref()
    }

    /// Returns the shape of the values of a key of objects here.
    pub(super) fn key(&self, name: &str) -> Option<&Shape> {
        let object = self.object.as_ref()?;
        object.keys.get(*object.by_name.get(name)?).map(|k| &k.shape)
    }
}

const _: () = assert!(MAX_TYPE_DEPTH < MAX_DEPTH);

fn flags_of(number: &str, integer: bool) -> u16 {
    if !integer || number == "-0" {
        return match number.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                FRACTION | if value.fract() == 0.0 { WHOLE } else { 0 }
            }
            _ => RAW,
        };
    }
    let long = |magnitude: u64| if magnitude > 1 << 53 { LONG } else { 0 };
    if let Ok(value) = number.parse::<i64>() {
        return INTEGER | long(value.unsigned_abs()) | if value < 0 { NEGATIVE } else { 0 };
    }
    if number.parse::<u64>().is_ok() { INTEGER | LONG | BIG } else { RAW }
}
