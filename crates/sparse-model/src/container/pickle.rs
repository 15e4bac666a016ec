//! A pickle as a graph of plain values: nothing is imported, called or executed.
//!
//! What the pickle would call is kept as a record of the call. Values live in one list and refer to
//! each other by number, so that neither cycles nor nesting cost recursion.

use std::collections::HashMap;
use std::ops::Range;

/// Longest pickle that is read, in bytes. That of 1,000 tensors has about 100 kB.
pub(super) const MAX_PICKLE_BYTES: u64 = 16 << 20;

/// Most values with a record of their own.
const MAX_NODES: usize = 1 << 21;

/// Value of a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything that says nothing about tensors.
    Other,
    Int(i64),
    /// A number in [`Pickle::nodes`].
    Node(usize),
}

/// Value with content.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Members of a collection by key; those of lists and tuples by their number.
    pub(super) items: Vec<(Value, Value)>,
}

/// What a [`Node`] is. Ranges are of the pickle's bytes.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text(Range<usize>),
    /// A class or function: module and name.
    Global(Range<usize>, Range<usize>),
    Collection,
    /// A call, or an object as its class and arguments, and the state that it is given.
    Call {
        callee: Value,
        args: Value,
        state: Value,
    },
    /// Reference to something outside of the pickle.
    Persistent(Value),
}

/// Pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    pub(super) nodes: Vec<Node>,
    pub(super) root: Value,
}

impl<'a> Pickle<'a> {
    /// Reads the first pickle in `bytes`; `None` if it is none, or uses what weights do not need.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Pickle<'a>> {
        let mut machine = Machine { bytes, ..Machine::default() };
        let root = loop {
            if let Some(root) = machine.step()? {
                break root;
            }
        };
        Some(Pickle { bytes, nodes: machine.nodes, root })
    }

    /// Returns the node that a value refers to.
    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(number) => self.nodes.get(number),
            _ => None,
        }
    }

    /// Returns a value that is text.
    pub(super) fn text(&self, value: Value) -> Option<&'a str> {
        match &self.node(value)?.kind {
            Kind::Text(range) => self.str(range),
            _ => None,
        }
    }

    /// Returns module and name of a value that is a class or function.
    pub(super) fn global(&self, value: Value) -> Option<(&'a str, &'a str)> {
        match &self.node(value)?.kind {
            Kind::Global(module, name) => Some((self.str(module)?, self.str(name)?)),
            _ => None,
        }
    }

    /// Returns member `index` of a list or tuple.
    pub(super) fn item(&self, value: Value, index: usize) -> Option<Value> {
        let node = self.node(value).filter(|n| matches!(n.kind, Kind::Collection))?;
        node.items.get(index).map(|item| item.1)
    }

    fn str(&self, range: &Range<usize>) -> Option<&'a str> {
        std::str::from_utf8(self.bytes.get(range.clone())?).ok()
    }
}

/// The machine that a pickle is a program for, reduced to making values.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    nodes: Vec<Node>,
}

impl Machine<'_> {
    /// Does one instruction; the outer option is `None` for one that is wrong or not known.
    ///
    /// Returns the value of the whole at its end.
    fn step(&mut self) -> Option<Option<Value>> {
        match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = *self.stack.last()?;
                self.stack.push(top);
            }
            b'}' | b']' | b')' | 0x8f => self.node(Kind::Collection, Vec::new())?,
            b't' | b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.node(Kind::Collection, numbered(0, items))?;
            }
            count @ 0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(count - 0x84))?;
                let items = self.above(from)?;
                self.node(Kind::Collection, numbered(0, items))?;
            }
            b'd' => {
                let items = pairs(&self.since_mark()?)?;
                self.node(Kind::Collection, items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend(&[key, value], true)?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.extend(&items, true)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item], false)?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.extend(&items, false)?;
            }
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.node(Kind::Call { callee, args, state: Value::Other }, Vec::new())?;
            }
            0x92 => {
                let (_, args, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.node(Kind::Call { callee, args, state: Value::Other }, Vec::new())?;
            }
            b'b' => {
                let given = self.pop()?;
                if let Value::Node(object) = *self.stack.last()?
                    && let Kind::Call { state, .. } = &mut self.nodes.get_mut(object)?.kind
                {
                    *state = given;
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.node(Kind::Persistent(id), Vec::new())?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.node(Kind::Global(module, name), Vec::new())?;
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.node(Kind::Global(module, name), Vec::new())?;
            }
            b'q' => self.memoize(1)?,
            b'r' => self.memoize(4)?,
            0x94 => {
                let top = *self.stack.last()?;
                self.memo.insert(self.memo.len() as u64, top);
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            code => self.scalar(code)?,
        }
        Some(None)
    }

    /// Does an instruction that pushes a text, bytes or a number.
    fn scalar(&mut self, code: u8) -> Option<()> {
        match code {
            b'X' => self.text(4),
            0x8c | b'U' => self.text(1),
            0x8d => self.text(8),
            b'T' => self.text(4),
            b'B' => self.skip(4),
            b'C' => self.skip(1),
            0x8e | 0x96 => self.skip(8),
            b'V' => {
                let line = self.line()?;
                self.node(Kind::Text(line), Vec::new())
            }
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'S' | b'F' => {
                self.line()?;
                self.push(Value::Other)
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)
            }
            b'K' => self.int(1),
            b'M' => self.int(2),
            b'J' => {
                let bytes = self.take(4)?.try_into().ok()?;
                self.push(Value::Int(i64::from(i32::from_le_bytes(bytes))))
            }
            0x8a => self.long(1),
            0x8b => self.long(4),
            b'I' | b'L' => {
                let line = self.line()?;
                let text = std::str::from_utf8(self.bytes.get(line)?).ok()?;
                let number = text.trim_end_matches('L').parse().map_or(Value::Other, Value::Int);
                self.push(number)
            }
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(len)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// Reads an unsigned little-endian number of up to eight bytes.
    fn number(&mut self, width: usize) -> Option<u64> {
        let bytes = self.take(width)?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Takes bytes after their length.
    fn counted(&mut self, width: usize) -> Option<Range<usize>> {
        let len = usize::try_from(self.number(width)?).ok()?;
        let start = self.at;
        self.take(len)?;
        Some(start..self.at)
    }

    fn line(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let len = self.bytes.get(start..)?.iter().position(|&b| b == b'\n')?;
        self.at = start + len + 1;
        Some(start..start + len)
    }

    fn push(&mut self, value: Value) -> Option<()> {
        self.stack.push(value);
        Some(())
    }

    /// Pops a value; not beyond the last mark.
    fn pop(&mut self) -> Option<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor { self.stack.pop() } else { None }
    }

    fn pop_text(&mut self) -> Option<Range<usize>> {
        match self.pop()? {
            Value::Node(number) => match &self.nodes.get(number)?.kind {
                Kind::Text(range) => Some(range.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    fn above(&mut self, from: usize) -> Option<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        (floor <= from && from <= self.stack.len()).then(|| self.stack.split_off(from))
    }

    fn since_mark(&mut self) -> Option<Vec<Value>> {
        let from = self.marks.pop()?;
        self.above(from)
    }

    fn node(&mut self, kind: Kind, items: Vec<(Value, Value)>) -> Option<()> {
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        self.nodes.push(Node { kind, items });
        self.push(Value::Node(self.nodes.len() - 1))
    }

    /// Adds to the collection or object on top of the stack.
    fn extend(&mut self, values: &[Value], keyed: bool) -> Option<()> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let Some(Value::Node(number)) = self.stack.get(floor..)?.last() else { return None };
        let items = &mut self.nodes.get_mut(*number)?.items;
        let new = if keyed { pairs(values)? } else { numbered(items.len(), values.to_vec()) };
        items.extend(new);
        Some(())
    }

    fn memoize(&mut self, width: usize) -> Option<()> {
        let (number, top) = (self.number(width)?, *self.stack.last()?);
        self.memo.insert(number, top);
        Some(())
    }

    fn recall(&mut self, width: usize) -> Option<()> {
        let number = self.number(width)?;
        let value = *self.memo.get(&number)?;
        self.push(value)
    }

    fn text(&mut self, width: usize) -> Option<()> {
        let range = self.counted(width)?;
        self.node(Kind::Text(range), Vec::new())
    }

    fn skip(&mut self, width: usize) -> Option<()> {
        self.counted(width)?;
        self.push(Value::Other)
    }

    fn int(&mut self, width: usize) -> Option<()> {
        let number = i64::try_from(self.number(width)?).ok()?;
        self.push(Value::Int(number))
    }

    /// Pushes a signed number of any length; one of more than eight bytes says nothing here.
    fn long(&mut self, width: usize) -> Option<()> {
        let range = self.counted(width)?;
        let bytes = self.bytes.get(range)?;
        if bytes.len() > 8 {
            return self.push(Value::Other);
        }
        let sign = bytes.last().map_or(0, |&last| if last >= 0x80 { 0xff } else { 0 });
        let mut all = [sign; 8];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(all)))
    }
}

fn numbered(from: usize, values: Vec<Value>) -> Vec<(Value, Value)> {
    (from as i64..).map(Value::Int).zip(values).collect()
}

fn pairs(values: &[Value]) -> Option<Vec<(Value, Value)>> {
    let (pairs, rest) = values.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_come_out() {
        // {"a": [1, -2, 300], "b": m.f("a")}
        let bytes = b"\x80\x02}q\0(X\x01\0\0\0aq\x01](K\x01J\xfe\xff\xff\xffM\x2c\x01e\
            X\x01\0\0\0bcm\nf\nh\x01\x85Ru.";
        let pickle = Pickle::parse(bytes).unwrap();
        let root = pickle.node(pickle.root).unwrap();
        let [(a, list), (b, call)] = root.items[..] else { panic!("{root:?}") };
        assert_eq!((pickle.text(a), pickle.text(b)), (Some("a"), Some("b")));
        let numbers: Vec<_> = (0..4).map(|i| pickle.item(list, i)).collect();
        let int = |n| Some(Value::Int(n));
        assert_eq!(numbers, [int(1), int(-2), int(300), None]);
        let Kind::Call { callee, args, .. } = pickle.node(call).unwrap().kind else { panic!() };
        assert_eq!(pickle.global(callee), Some(("m", "f")));
        assert_eq!(pickle.item(args, 0).and_then(|v| pickle.text(v)), Some("a"));
    }

    #[test]
    fn signs_of_long_numbers() {
        for (bytes, want) in [
            (&b"\x8a\x02\xff\x00."[..], Value::Int(255)),
            (b"\x8a\x01\xff.", Value::Int(-1)),
            (b"\x8a\x00.", Value::Int(0)),
            (b"\x8a\x09\0\0\0\0\0\0\0\0\x01.", Value::Other),
            (b"L-7L\n.", Value::Int(-7)),
        ] {
            assert_eq!(Pickle::parse(bytes).unwrap().root, want);
        }
    }

    #[test]
    fn wrong_programs_are_refused() {
        for bytes in [
            &b""[..],
            b".",
            b"(.",
            b"t.",
            b"a.",
            b"K",
            b"h\x07.",
            b"X\xff\xff\xff\xff.",
            b"K\x01K\x02s.",
            b"i.",
            b"(K\x01u.",
            b"}(K\x01u.",
            b"\x85.",
        ] {
            assert!(Pickle::parse(bytes).is_none(), "{bytes:?}");
        }
        // A list in itself, and nesting without end, cost no recursion.
        assert!(Pickle::parse(b"]q\0h\0a.").is_some());
        assert!(Pickle::parse(&[&b")"[..], &[0x85; 1 << 20], b"."].concat()).is_some());
        assert!(Pickle::parse(&[&b")"[..], &[0x85; MAX_NODES], b"."].concat()).is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pickle::parse(&bytes);
        }
    }
}
