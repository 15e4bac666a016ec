//! Thrift's compact protocol, checked against a description before a parser reads it.
//!
//! Nothing is built: a parser that allocates by declared counts, or recurses for each level, may
//! follow after this walk. The walk needs no recursion, ends with the bytes, and refuses what
//! parsers could read in different ways: fields of other types than described, a field given twice,
//! lists of booleans, sets and maps, none of which Parquet uses.

use sparse_core::{Error, ErrorKind, Result};

/// Expected type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Bool,
    Byte,
    /// An integer of 16, 32 or 64 bits, which are encoded alike.
    Int,
    Double,
    Binary,
    Struct(&'static Struct),
    List(&'static Shape),
    /// A field that is not described; any value is skipped.
    Any,
}

/// Description of a struct.
#[derive(Debug)]
pub(super) struct Struct {
    pub(super) name: &'static str,
    pub(super) fields: &'static [(i16, Shape)],
}

/// Event of the walk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A field of a described struct begins.
    Field { of: &'static str, id: i16 },
    /// An integer field's value.
    Int { of: &'static str, id: i16, value: i64 },
    /// A list of this many elements.
    List { of: &'static str, id: i16, count: usize },
    /// A described struct ends.
    End { of: &'static str },
}

/// Most levels of structs and lists; Parquet has eight.
const MAX_DEPTH: usize = 32;

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed: {what}"))
}

/// Reader of bytes.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte.ok_or_else(|| Error::truncated("the metadata end early"))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number in the metadata has more than 64 bits"))
    }

    fn int(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn skip(&mut self, len: u64) -> Result<()> {
        let len = usize::try_from(len).ok().filter(|&n| n <= self.left());
        self.at += len.ok_or_else(|| Error::truncated("the metadata end early"))?;
        Ok(())
    }

    /// Skips a value without inner values; returns it if it is an integer.
    fn plain(&mut self, wire: u8) -> Result<Option<i64>> {
        match wire {
            // A boolean field's value is its type.
            wire::TRUE | wire::FALSE => {}
            wire::BYTE => self.skip(1)?,
            wire::I16 | wire::I32 | wire::I64 => return self.int().map(Some),
            wire::DOUBLE => self.skip(8)?,
            wire::BINARY => {
                let len = self.varint()?;
                self.skip(len)?;
            }
            wire::UUID => self.skip(16)?,
            _ => return Err(malformed("the metadata have a value of an unknown type")),
        }
        Ok(None)
    }
}

/// Codes of types.
mod wire {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I32: u8 = 5;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const STRUCT: u8 = 12;
    pub(super) const UUID: u8 = 13;
}

impl Shape {
    fn fits(self, wire: u8) -> bool {
        match self {
            Shape::Bool => matches!(wire, wire::TRUE | wire::FALSE),
            Shape::Byte => wire == wire::BYTE,
            Shape::Int => matches!(wire, wire::I16 | wire::I32 | wire::I64),
            Shape::Double => wire == wire::DOUBLE,
            Shape::Binary => wire == wire::BINARY,
            Shape::Struct(_) => wire == wire::STRUCT,
            Shape::List(_) => wire == wire::LIST,
            Shape::Any => true,
        }
    }
}

/// A struct or list that the walk is in.
enum Frame {
    Struct { described: Option<&'static Struct>, last: i16, seen: u64 },
    List { shape: Shape, wire: u8, left: usize },
}

fn frame(shape: Shape) -> Frame {
    let described = if let Shape::Struct(described) = shape { Some(described) } else { None };
    Frame::Struct { described, last: 0, seen: 0 }
}

/// Walks through a struct at the start of `bytes` and passes events to `each`; returns the struct's
/// length.
///
/// # Errors
/// `InvalidInput` when it is not as described, `Truncated` when it does not end; those of `each`.
pub(super) fn walk(
    bytes: &[u8],
    root: &'static Struct,
    mut each: impl FnMut(Event) -> Result<()>,
) -> Result<usize> {
    let mut input = Compact { bytes, at: 0 };
    let mut open = vec![frame(Shape::Struct(root))];
    while let Some(top) = open.last_mut() {
        let next = match top {
            Frame::Struct { described, last, seen } => {
                field(&mut input, *described, (last, seen), &mut each)?
            }
            Frame::List { left: 0, .. } => Step::End,
            Frame::List { shape, wire, left } => {
                *left -= 1;
                let (shape, wire) = (*shape, *wire);
                value(&mut input, shape, wire, &mut |_, _| Ok(()))?
            }
        };
        match next {
            Step::Within => {}
            Step::Into(frame) if open.len() < MAX_DEPTH => open.push(frame),
            Step::Into(_) => return Err(malformed("the metadata nest too deeply")),
            Step::End => {
                open.pop();
            }
        }
    }
    Ok(input.at)
}

enum Step {
    Within,
    Into(Frame),
    End,
}

fn field(
    input: &mut Compact<'_>,
    described: Option<&'static Struct>,
    (last, seen): (&mut i16, &mut u64),
    each: &mut impl FnMut(Event) -> Result<()>,
) -> Result<Step> {
    let head = input.byte()?;
    let wire = head & 0x0f;
    let of = described.map(|d| d.name);
    if wire == 0 {
        of.map_or(Ok(()), |of| each(Event::End { of }))?;
        return Ok(Step::End);
    }
    let id = match head >> 4 {
        0 => i16::try_from(input.int()?).ok(),
        delta => last.checked_add(delta.into()),
    };
    let id = id
        .filter(|id| *id >= 0)
        .ok_or_else(|| malformed("a field of the metadata has a number out of range"))?;
    *last = id;
    let Some(described) = described else {
        return value(input, Shape::Any, wire, &mut |_, _| Ok(()));
    };
    let shape = described.fields.iter().find(|f| f.0 == id).map_or(Shape::Any, |f| f.1);
    if !shape.fits(wire) {
        return Err(malformed(&format!("field {id} of {} has another type", described.name)));
    }
    if id < 64 {
        if *seen & 1 << id != 0 {
            return Err(malformed(&format!("field {id} of {} occurs twice", described.name)));
        }
        *seen |= 1 << id;
    }
    let of = described.name;
    each(Event::Field { of, id })?;
    value(input, shape, wire, &mut |int, count| match (int, count) {
        (Some(value), _) => each(Event::Int { of, id, value }),
        (_, Some(count)) => each(Event::List { of, id, count }),
        _ => Ok(()),
    })
}

/// Skips a value, or steps to the first of its inner values.
fn value(
    input: &mut Compact<'_>,
    shape: Shape,
    wire: u8,
    tell: &mut dyn FnMut(Option<i64>, Option<usize>) -> Result<()>,
) -> Result<Step> {
    match wire {
        wire::STRUCT => Ok(Step::Into(frame(shape))),
        wire::LIST => {
            let head = input.byte()?;
            let (wire, count) = (head & 0x0f, u64::from(head >> 4));
            let count = if count == 15 { input.varint()? } else { count };
            // Every element takes at least a byte.
            let count = usize::try_from(count).ok().filter(|&n| n <= input.left());
            let count =
                count.ok_or_else(|| Error::truncated("a list is longer than the metadata"))?;
            tell(None, Some(count))?;
            let element = if let Shape::List(element) = shape { *element } else { Shape::Any };
            // Some writers give an empty list no type.
            if count > 0 && (!element.fits(wire) || matches!(wire, wire::TRUE | wire::FALSE)) {
                return Err(malformed("a list of the metadata has elements of another type"));
            }
            Ok(Step::Into(Frame::List { shape: element, wire, left: count }))
        }
        wire => {
            tell(input.plain(wire)?, None)?;
            Ok(Step::Within)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INNER: Struct = Struct { name: "inner", fields: &[(1, Shape::Int), (2, Shape::Bool)] };
    static OUTER: Struct = Struct {
        name: "outer",
        fields: &[
            (1, Shape::Int),
            (2, Shape::List(&Shape::Struct(&INNER))),
            (3, Shape::Binary),
            (4, Shape::Double),
        ],
    };

    fn check(bytes: &[u8]) -> Result<usize> {
        walk(bytes, &OUTER, |_| Ok(()))
    }

    #[test]
    fn a_struct_as_described() {
        let bytes = [
            0x15, 0x05, // 1: -3
            0x19, 0x2c, 0x16, 0x02, 0x11, 0x00, 0x00, // 2: two structs
            0x18, 0x02, b'a', b'b', // 3: a text
            0x17, 0, 0, 0, 0, 0, 0, 0, 0, // 4
            0x59, 0x25, 0x02, 0x04, // 9, not described: a list of two integers
            0x00,
        ];
        let mut events = Vec::new();
        let tell = |e| {
            events.push(format!("{e:?}"));
            Ok(())
        };
        assert_eq!(walk(&bytes, &OUTER, tell).unwrap(), bytes.len());
        let text = events.join("\n");
        for part in [
            "id: 1, value: -3",
            "id: 2, count: 2",
            "of: \"inner\", id: 1, value: 1",
            "id: 9, count: 2",
        ] {
            assert!(text.contains(part), "{text}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(check(&bytes[..cut]).unwrap_err().kind(), ErrorKind::Truncated);
        }
    }

    #[test]
    fn what_can_be_misunderstood_is_refused() {
        for (bytes, says) in [
            (&[0x18, 0x01, b'a', 0][..], "another type"),
            (&[0x15, 0x02, 0x05, 0x02, 0x02, 0][..], "twice"),
            (&[0x19 + 0x10, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0][..], "longer than the metadata"),
            (&[0x19 + 0x10, 0x15, 0x02, 0][..], "elements of another type"),
            (&[0x99, 0x12, 0x01, 0][..], "elements of another type"),
            (&[0x9b, 0x01, 0x55, 0x02, 0x02, 0][..], "unknown type"),
            (
                &[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0][..],
                "more than 64 bits",
            ),
            (&[0x05, 0x01, 0x02, 0][..], "number out of range"),
        ] {
            let error = check(bytes).unwrap_err();
            assert!(error.message().contains(says), "{bytes:x?}: {}", error.message());
        }
        let error = check(&[0x9c; 100]).unwrap_err();
        assert!(error.message().contains("nest too deeply"), "{}", error.message());
        assert!(check(&[0x99; 100]).is_err());
    }
}
