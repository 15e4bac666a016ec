//! A style, and its code in a manifest.

use crate::wire::{Input, put_bytes, put_uint};
use sparse_core::{Error, Result};
use std::sync::Arc;

/// Differences of a text file from the one that this program writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// JSON: a space after each comma.
    pub(crate) comma_space: bool,
    /// JSON: a space after each colon.
    pub(crate) colon_space: bool,
    /// JSON: characters outside ASCII are written as `\uXXXX`.
    pub(crate) ascii: bool,
    /// JSON: nulls are written.
    pub(crate) nulls: bool,
    /// CSV and JSON Lines: lines end with a carriage return and a line feed.
    pub(crate) crlf: bool,
    /// JSON: slashes are escaped, as pandas does.
    pub(crate) slashes: bool,
    /// JSON: `<`, `>` and `&` are written as `\uXXXX`, as Go does.
    pub(crate) html: bool,
    /// JSON: fractions are written as Python does.
    pub(crate) python: bool,
    /// JSON: fractions never have an exponent, as pandas writes them.
    pub(crate) plain: bool,
    /// JSON: digits of `\uXXXX` are upper case.
    pub(crate) upper: bool,
    /// JSON: levels are indented by so many spaces; with `tabs`, by tabs.
    pub(crate) indent: u8,
    pub(crate) tabs: bool,
    /// Delimiter of CSV.
    pub(crate) delimiter: u8,
    /// CSV: the fields that are in quotes without need.
    pub(crate) quotes: Quotes,
    /// Whether the text is CSV.
    pub(crate) csv: bool,
}

/// Fields of CSV that are in quotes without need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Quotes {
    #[default]
    None,
    /// All.
    All,
    /// All but numbers.
    Text,
    /// Those of some columns, as Arrow writes text.
    Columns(Arc<QuotedColumns>),
}

/// Columns whose fields are in quotes without need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotedColumns {
    /// Whether the first line is in quotes, of all columns.
    pub(super) header: bool,
    /// Whether empty fields of these columns are in quotes, too.
    pub(super) empty: bool,
    /// A bit for each column, the lowest one first; columns beyond have none.
    pub(super) bits: Vec<u8>,
}

/// Bytes of bits for the most columns that CSV may have.
const MAX_BITS: usize = 10_000_usize.div_ceil(8);

impl QuotedColumns {
    pub(super) fn has(&self, column: usize) -> bool {
        self.bits.get(column / 8).is_some_and(|byte| byte >> (column % 8) & 1 == 1)
    }
}

/// Most spaces of an indentation.
pub(super) const MAX_INDENT: u8 = 16;

impl Style {
    /// Returns the code of a style that the first builds of layout 3 knew; `None` for others.
    pub(crate) fn old_code(&self) -> Option<u8> {
        let flags = [self.comma_space, self.colon_space, self.ascii, self.nulls, self.crlf];
        let code = flags.iter().enumerate().fold(0, |code, (i, &f)| code | u8::from(f) << i);
        Style::from_old_code(code).is_ok_and(|old| old == *self).then_some(code)
    }

    /// Decodes a style of the first builds of layout 3: with CR LF it is one of CSV.
    ///
    /// # Errors
    /// `Corrupt` when the code has no meaning.
    pub(crate) fn from_old_code(code: u8) -> Result<Style> {
        if code >> 5 != 0 {
            return Err(Error::corrupt(format!("unknown style {code} of a text file")));
        }
        let flag = |i: u8| code >> i & 1 == 1;
        let [comma_space, colon_space, ascii, nulls, crlf] = [0, 1, 2, 3, 4].map(flag);
        let csv = crlf;
        let delimiter = if csv { b',' } else { 0 };
        Ok(Style {
            comma_space,
            colon_space,
            ascii,
            nulls,
            crlf,
            csv,
            delimiter,
            ..Style::default()
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let flags = [
            self.comma_space,
            self.colon_space,
            self.ascii,
            self.nulls,
            self.crlf,
            self.slashes,
            self.html,
            self.python,
            self.upper,
            self.tabs,
            self.csv,
            self.plain,
        ];
        let bits = flags.iter().enumerate().fold(0, |bits, (i, &f)| bits | u64::from(f) << i);
        put_uint(out, bits);
        let quotes = match self.quotes {
            Quotes::None => 0,
            Quotes::All => 1,
            Quotes::Text => 2,
            Quotes::Columns(_) => 3,
        };
        out.extend([self.indent, self.delimiter, quotes]);
        if let Quotes::Columns(columns) = &self.quotes {
            out.push(u8::from(columns.header) | u8::from(columns.empty) << 1);
            put_bytes(out, &columns.bits);
        }
    }

    /// Inverts [`write`](Self::write).
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(crate) fn read(input: &mut Input<'_>) -> Result<Style> {
        let unknown = || Error::corrupt("unknown style of a text file");
        let bits = input.uint()?;
        let [indent, delimiter, quotes] = input.array::<3>()?;
        let quotes = match quotes {
            0 => Quotes::None,
            1 => Quotes::All,
            2 => Quotes::Text,
            3 => {
                let (flags, bits) = (input.byte()?, input.blob()?);
                if flags >> 2 != 0 || bits.len() > MAX_BITS {
                    return Err(unknown());
                }
                let (header, empty) = (flags & 1 == 1, flags & 2 == 2);
                Quotes::Columns(Arc::new(QuotedColumns { header, empty, bits: bits.to_vec() }))
            }
            _ => return Err(unknown()),
        };
        if bits >> 12 != 0 || indent > MAX_INDENT {
            return Err(unknown());
        }
        let flag = |i: u32| bits >> i & 1 == 1;
        Ok(Style {
            comma_space: flag(0),
            colon_space: flag(1),
            ascii: flag(2),
            nulls: flag(3),
            crlf: flag(4),
            slashes: flag(5),
            html: flag(6),
            python: flag(7),
            upper: flag(8),
            tabs: flag(9),
            csv: flag(10),
            plain: flag(11),
            indent,
            delimiter,
            quotes,
        })
    }
}
