//! Cells as text, the form in which they are predicted and coded.
//!
//! Numbers that people typed are shorter and more alike in decimal than in bits, and a cast to
//! another type then costs nothing. A cell whose text does not lead back to the same bits is
//! written as a mark and its bytes.

use super::Kind;
use sparse_core::{Error, Result};
use std::io::Write;

/// A cell as text; the buffer is reused.
pub(crate) type Form = Vec<u8>;

/// Marks bytes that follow verbatim; no number begins like this.
const VERBATIM: u8 = 1;

fn array<const N: usize>(cell: &[u8]) -> Option<[u8; N]> {
    cell.try_into().ok()
}

fn write_int(kind: (u8, bool), cell: &[u8], out: &mut Form) -> Option<()> {
    macro_rules! write_as {
        ($t:ty) => {
            write!(out, "{}", <$t>::from_le_bytes(array(cell)?)).ok()
        };
    }
    match kind {
        (1, true) => write_as!(i8),
        (2, true) => write_as!(i16),
        (4, true) => write_as!(i32),
        (8, true) => write_as!(i64),
        (16, true) => write_as!(i128),
        (1, false) => write_as!(u8),
        (2, false) => write_as!(u16),
        (4, false) => write_as!(u32),
        (8, false) => write_as!(u64),
        (16, false) => write_as!(u128),
        _ => None,
    }
}

fn read_int(kind: (u8, bool), text: &str) -> Option<Vec<u8>> {
    macro_rules! read_as {
        ($t:ty) => {
            Some(text.parse::<$t>().ok()?.to_le_bytes().to_vec())
        };
    }
    match kind {
        (1, true) => read_as!(i8),
        (2, true) => read_as!(i16),
        (4, true) => read_as!(i32),
        (8, true) => read_as!(i64),
        (16, true) => read_as!(i128),
        (1, false) => read_as!(u8),
        (2, false) => read_as!(u16),
        (4, false) => read_as!(u32),
        (8, false) => read_as!(u64),
        (16, false) => read_as!(u128),
        _ => None,
    }
}

/// Writes the shortest decimal that leads back to the same bits, if there is one.
fn write_float(width: u8, cell: &[u8], out: &mut Form) -> Option<()> {
    macro_rules! write_as {
        ($t:ty) => {{
            let value = <$t>::from_le_bytes(array(cell)?);
            let magnitude = value.abs();
            if magnitude != 0.0 && !(1e-7..1e17).contains(&magnitude) && magnitude.is_finite() {
                write!(out, "{value:e}").ok()?;
            } else {
                write!(out, "{value}").ok()?;
            }
        }};
    }
    let start = out.len();
    match width {
        4 => write_as!(f32),
        8 => write_as!(f64),
        _ => return None,
    }
    let same =
        read_float(width, std::str::from_utf8(out.get(start..)?).ok()?).is_some_and(|b| b == cell);
    same.then_some(())
}

fn read_float(width: u8, text: &str) -> Option<Vec<u8>> {
    match width {
        4 => Some(text.parse::<f32>().ok()?.to_le_bytes().to_vec()),
        8 => Some(text.parse::<f64>().ok()?.to_le_bytes().to_vec()),
        _ => None,
    }
}

/// Writes the text of `cell` to `out`, which is cleared first.
pub(crate) fn to_form(kind: Kind, cell: &[u8], out: &mut Form) {
    out.clear();
    let written = match kind {
        Kind::Text | Kind::Bytes | Kind::Fixed { .. } => {
            out.extend_from_slice(cell);
            Some(())
        }
        Kind::Bool => {
            let text = match cell {
                [0] => Some(&b"false"[..]),
                [1] => Some(&b"true"[..]),
                _ => None,
            };
            text.map(|t| out.extend_from_slice(t))
        }
        Kind::Int { width, signed } => write_int((width, signed), cell, out),
        Kind::Float { width } => write_float(width, cell, out),
    };
    if written.is_none() {
        out.clear();
        out.push(VERBATIM);
        out.extend_from_slice(cell);
    }
}

/// Parses the text of a cell.
///
/// # Errors
/// `Corrupt` when it is not the text of a cell of this kind.
pub(crate) fn parse(kind: Kind, form: &[u8]) -> Result<Vec<u8>> {
    let bad = || Error::corrupt(format!("a cell is not of type {kind:?}"));
    let text = || std::str::from_utf8(form).map_err(|_| bad());
    let cell = match (kind, form) {
        (Kind::Text, _) => {
            text()?;
            form.to_vec()
        }
        (Kind::Bytes | Kind::Fixed { .. }, _) => form.to_vec(),
        (_, [VERBATIM, rest @ ..]) => rest.to_vec(),
        (Kind::Bool, b"false") => vec![0],
        (Kind::Bool, b"true") => vec![1],
        (Kind::Bool, _) => return Err(bad()),
        (Kind::Int { width, signed }, _) => read_int((width, signed), text()?).ok_or_else(bad)?,
        (Kind::Float { width }, _) => read_float(width, text()?).ok_or_else(bad)?,
    };
    match kind.width() {
        Some(w) if w != cell.len() => Err(bad()),
        _ => Ok(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(kind: Kind, cell: &[u8]) -> Form {
        let mut form = Form::new();
        to_form(kind, cell, &mut form);
        assert_eq!(parse(kind, &form).unwrap(), cell, "{kind:?} {form:?}");
        form
    }

    proptest! {
        #[test]
        fn all_bits(bits: u128, text: String) {
            for width in [1u8, 2, 4, 8, 16] {
                for signed in [false, true] {
                    round_trip(Kind::Int { width, signed }, &bits.to_le_bytes()[..width as usize]);
                }
            }
            round_trip(Kind::Float { width: 4 }, &bits.to_le_bytes()[..4]);
            round_trip(Kind::Float { width: 8 }, &bits.to_le_bytes()[..8]);
            round_trip(Kind::Text, text.as_bytes());
            round_trip(Kind::Bool, &[u8::from(bits & 1 == 1)]);
        }

        #[test]
        fn garbage(form: Vec<u8>) {
            for kind in [Kind::Bool, Kind::Int { width: 8, signed: true }, Kind::Float {
                width: 8 }, Kind::Text] {
                let _ = parse(kind, &form);
            }
        }
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        let f = |x: f64| {
            String::from_utf8(round_trip(Kind::Float { width: 8 }, &x.to_le_bytes())).unwrap()
        };
        assert_eq!(f(10.0), "10");
        assert_eq!(f(-6.081689), "-6.081689");
        assert_eq!(f(-0.0), "-0");
        assert_eq!(f(1e300), "1e300");
        assert_eq!(f(f64::INFINITY), "inf");
        for odd in [0x7ff8_0000_dead_beef, 0xfff0_0000_0000_0001u64] {
            round_trip(Kind::Float { width: 8 }, &odd.to_le_bytes());
        }
    }
}
