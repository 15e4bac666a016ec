//! Kinds of columns, as manifests have them.

use super::Kind;
use crate::wire::{Input, put_uint};
use sparse_core::{Error, Result};

/// Appends an encoded kind.
pub(crate) fn write_kind(kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::Bool => out.push(0),
        Kind::Int { width, signed } => out.extend([1 + u8::from(signed), width]),
        Kind::Float { width } => out.extend([3, width]),
        Kind::Text => out.push(4),
        Kind::Bytes => out.push(5),
        Kind::Fixed { width } => {
            out.push(6);
            put_uint(out, width.into());
        }
    }
}

/// Inverts [`write_kind`].
///
/// # Errors
/// `Corrupt` or `Truncated`.
pub(crate) fn read_kind(input: &mut Input<'_>) -> Result<Kind> {
    let tag = input.byte()?;
    let kind = match tag {
        0 => Kind::Bool,
        1 | 2 => Kind::Int { width: input.byte()?, signed: tag == 2 },
        3 => Kind::Float { width: input.byte()? },
        4 => Kind::Text,
        5 => Kind::Bytes,
        6 => Kind::Fixed {
            width: u32::try_from(input.uint()?)
                .map_err(|_| Error::corrupt("a cell of the base is too wide"))?,
        },
        other => {
            return Err(Error::corrupt(format!("unknown kind {other} of a column of the base")));
        }
    };
    match kind {
        Kind::Int { width: 1 | 2 | 4 | 8 | 16, .. } | Kind::Float { width: 4 | 8 } => Ok(kind),
        Kind::Int { width, .. } | Kind::Float { width } => {
            Err(Error::corrupt(format!("a column of the base has numbers of {width} bytes")))
        }
        _ => Ok(kind),
    }
}
