//! A list of JSON objects, read as one object on each line.

use crate::text_form::Brackets;
use sparse_core::{Error, ErrorKind};
use std::io::{self, BufRead, Read};

/// Reads the items of a list: the text between them becomes the end of a line, and line ends within
/// them become spaces.
pub(crate) struct Items<R> {
    input: R,
    place: Place,
    /// Open objects and lists within an item.
    depth: u32,
    string: bool,
    escaped: bool,
    items: u64,
    /// Text outside of items since the last one.
    outside: Vec<u8>,
    brackets: Brackets,
    /// Item that is being read, as far as it was not taken yet.
    out: Vec<u8>,
    taken: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the list.
    Start,
    /// Before an item.
    Item,
    Inside,
    /// After an item.
    After,
    /// After the list.
    End,
}

/// Longest text between two items, in bytes.
const MAX_OUTSIDE: usize = 1 << 16;

impl<R: BufRead> Items<R> {
    pub(crate) fn new(input: R) -> Items<R> {
        Items {
            input,
            place: Place::Start,
            depth: 0,
            string: false,
            escaped: false,
            items: 0,
            outside: Vec::new(),
            brackets: Brackets::default(),
            out: Vec::new(),
            taken: 0,
        }
    }

    /// Returns the text around the items, once all have been read.
    pub(crate) fn brackets(&self) -> &Brackets {
        &self.brackets
    }

    fn byte(&mut self, b: u8) -> io::Result<()> {
        if self.place == Place::Inside {
            self.inside(b);
            return Ok(());
        }
        let begins = self.place == Place::Item && b == b'{';
        if !begins {
            self.outside.push(b);
        }
        self.place = match (self.place, b) {
            (place, b' ' | b'\t' | b'\n' | b'\r') => place,
            (Place::Start, b'[') => Place::Item,
            (Place::Item, b'{') => {
                let text = std::mem::take(&mut self.outside);
                match self.items {
                    0 => self.brackets.open = text,
                    1 => self.brackets.between = text,
                    _ => {}
                }
                self.items += 1;
                self.depth = 1;
                self.out.push(b);
                Place::Inside
            }
            (Place::After, b',') => {
                self.out.push(b'\n');
                Place::Item
            }
            (Place::After, b']') => {
                self.out.push(b'\n');
                Place::End
            }
            (Place::Item, _) => return Err(self.refused("an object is expected")),
            (Place::After, _) => {
                return Err(self.refused("a comma or the end of the list is expected"));
            }
            _ => return Err(self.refused("a list of objects is expected, and nothing else")),
        };
        match self.outside.len() > MAX_OUTSIDE {
            true => Err(self.refused("there is too much space around it")),
            false => Ok(()),
        }
    }

    fn inside(&mut self, b: u8) {
        self.out.push(if matches!(b, b'\n' | b'\r') { b' ' } else { b });
        if self.string {
            match b {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            return;
        }
        match b {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.place = Place::After;
                }
            }
            _ => {}
        }
    }

    fn refused(&self, what: &str) -> io::Error {
        let text = format!("malformed: item {}: {what}", self.items + 1);
        io::Error::other(Error::new(ErrorKind::InvalidInput, text))
    }
}

impl<R: BufRead> BufRead for Items<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken >= self.out.len() {
            self.taken = 0;
            self.out.clear();
            while self.out.is_empty() {
                let bytes = self.input.fill_buf()?;
                if bytes.is_empty() {
                    if self.place != Place::End {
                        return Err(self.refused("the list has no end"));
                    }
                    if !self.outside.is_empty() {
                        self.brackets.close = std::mem::take(&mut self.outside);
                    }
                    break;
                }
                // The buffer cannot be borrowed while its bytes change the rest.
                let bytes = bytes.get(..bytes.len().min(1 << 14)).unwrap_or_default().to_vec();
                bytes.iter().try_for_each(|&b| self.byte(b))?;
                self.input.consume(bytes.len());
            }
        }
        Ok(self.out.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.taken += n;
    }
}

impl<R: BufRead> Read for Items<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn read(text: &str) -> io::Result<(String, Brackets)> {
        let mut items = Items::new(BufReader::with_capacity(3, text.as_bytes()));
        let mut out = String::new();
        items.read_to_string(&mut out)?;
        Ok((out, items.brackets().clone()))
    }

    #[test]
    fn items_become_lines() {
        let (text, brackets) =
            read("[\n  {\"a\": [1,\n2], \"b\": \"}]\\\"\"},\n  {},\n{}\n]\n").unwrap();
        assert_eq!(text, "{\"a\": [1, 2], \"b\": \"}]\\\"\"}\n{}\n{}\n");
        let parts = [&brackets.open, &brackets.between, &brackets.close];
        assert_eq!(
            parts.map(|p| String::from_utf8_lossy(p).into_owned()),
            ["[\n  ", ",\n  ", "\n]\n"]
        );
        assert_eq!(read("[{}]").unwrap().0, "{}\n");
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "[", "[{}", "[{},]", "[1]", "[{}] x", "{}", "[{} {}]", "[{},,{}]"] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().contains("malformed: item"), "{text:?}: {error}");
        }
    }
}
