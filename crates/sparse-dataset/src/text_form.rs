//! The form of a text file: its compression, its delimiter, and what stands around its rows.

use crate::io::Packing;
use crate::wire::{Input, put_bytes};
use sparse_core::{Error, Result};

/// Form of a text file; by default that of plain JSON Lines, or of CSV with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextForm {
    pub(crate) packing: Packing,
    /// Byte between the fields of CSV.
    pub(crate) delimiter: u8,
    /// JSON: the rows are the items of a list.
    pub(crate) array: Option<Brackets>,
}

impl Default for TextForm {
    fn default() -> Self {
        TextForm { packing: Packing::None, delimiter: b',', array: None }
    }
}

/// Text around the items of a list of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Brackets {
    /// Text before the first item.
    pub(crate) open: Vec<u8>,
    /// Text between the first two items.
    pub(crate) between: Vec<u8>,
    /// Text after the last item.
    pub(crate) close: Vec<u8>,
}

impl Default for Brackets {
    fn default() -> Self {
        Brackets { open: b"[\n".into(), between: b",\n".into(), close: b"\n]\n".into() }
    }
}

/// Longest text of brackets, in bytes.
const MAX_BRACKETS: usize = 1 << 16;

/// Bytes that delimit fields.
pub(crate) const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

const PACKINGS: [Packing; 3] = [Packing::None, Packing::Gzip, Packing::Zstd];

impl TextForm {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let packing = PACKINGS.iter().position(|p| *p == self.packing).unwrap_or(0);
        out.extend([packing as u8, self.delimiter, u8::from(self.array.is_some())]);
        if let Some(Brackets { open, between, close }) = &self.array {
            [open, between, close].into_iter().for_each(|text| put_bytes(out, text));
        }
    }

    /// Inverts [`write`](Self::write).
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(crate) fn read(input: &mut Input<'_>) -> Result<TextForm> {
        let unknown =
            |what: &str, code: u8| Error::corrupt(format!("unknown {what} {code} of a data file"));
        let code = input.byte()?;
        let packing = PACKINGS.get(usize::from(code)).copied();
        let packing = packing.ok_or_else(|| unknown("compression", code))?;
        let delimiter = input.byte()?;
        if !DELIMITERS.contains(&delimiter) {
            return Err(unknown("delimiter", delimiter));
        }
        let array = match input.byte()? {
            0 => None,
            1 => Some(Brackets {
                open: bracket(input)?,
                between: bracket(input)?,
                close: bracket(input)?,
            }),
            other => return Err(unknown("layout", other)),
        };
        Ok(TextForm { packing, delimiter, array })
    }
}

fn bracket(input: &mut Input<'_>) -> Result<Vec<u8>> {
    let text = input.blob()?;
    let fits = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'[' | b']' | b',');
    if text.len() > MAX_BRACKETS || !text.iter().all(fits) {
        return Err(Error::corrupt("the brackets of a list are other text"));
    }
    Ok(text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_come_back() {
        let array = Some(Brackets::default());
        for form in [
            TextForm::default(),
            TextForm { packing: Packing::Gzip, delimiter: b';', array: None },
            TextForm { packing: Packing::Zstd, delimiter: b'\t', array },
        ] {
            let mut out = Vec::new();
            form.write(&mut out);
            let mut input = Input(&out);
            assert_eq!(TextForm::read(&mut input).unwrap(), form);
            input.end().unwrap();
            for cut in 0..out.len() {
                assert!(TextForm::read(&mut Input(&out[..cut])).is_err());
            }
        }
        for bad in [&[3, b',', 0][..], &[0, b'x', 0], &[0, b',', 2], b"\0,\x01\x01{\0\0"] {
            assert!(TextForm::read(&mut Input(bad)).is_err(), "{bad:?}");
        }
    }
}
