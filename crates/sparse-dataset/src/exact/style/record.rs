//! A style, and its code in a manifest.

use crate::wire::{Input, put_uint};
use sparse_core::{Error, Result};

/// Differences of a text file from the one that this program writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Quotes {
    #[default]
    None,
    /// All.
    All,
    /// All but numbers.
    Text,
}

const QUOTES: [Quotes; 3] = [Quotes::None, Quotes::All, Quotes::Text];

/// Most spaces of an indentation.
pub(super) const MAX_INDENT: u8 = 16;

impl Style {
    /// Returns the code of a style that the first builds of layout 3 knew; `None` for others.
    pub(crate) fn old_code(self) -> Option<u8> {
        let flags = [self.comma_space, self.colon_space, self.ascii, self.nulls, self.crlf];
        let code = flags.iter().enumerate().fold(0, |code, (i, &f)| code | u8::from(f) << i);
        Style::from_old_code(code).is_ok_and(|old| old == self).then_some(code)
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

    pub(crate) fn write(self, out: &mut Vec<u8>) {
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
        let quotes = QUOTES.iter().position(|q| *q == self.quotes).unwrap_or(0);
        out.extend([self.indent, self.delimiter, quotes as u8]);
    }

    /// Inverts [`write`](Self::write).
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(crate) fn read(input: &mut Input<'_>) -> Result<Style> {
        let unknown = || Error::corrupt("unknown style of a text file");
        let bits = input.uint()?;
        let [indent, delimiter, quotes] = input.array::<3>()?;
        let quotes = QUOTES.get(usize::from(quotes)).copied().ok_or_else(unknown)?;
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
