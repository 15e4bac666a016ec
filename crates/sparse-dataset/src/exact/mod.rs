//! Files that come back byte by byte: each is stored as a patch against what this program writes,
//! against a file of the base, or against nothing, whichever is smallest.

mod content;
mod keep;
mod patch;
mod restore;
mod style;

pub(crate) use content::{CONTENT, ContentWatch, FileHashes, content_of};
pub(crate) use keep::{Kept, alone_size, keep, regenerate};
#[cfg(feature = "fuzzing")]
pub(crate) use patch::prefix;
pub(crate) use restore::ExactFiles;
pub(crate) use style::{Restyle, Style};

use crate::wire::{Input, put_bytes, put_uint};
use sparse_core::{CodecId, Digest, Error, Result, check_output_path, check_path};

/// The codec of patches, as the container knows it.
pub(crate) const PATCH_CODEC: CodecId = CodecId(17);

/// What a file is a patch against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// Nothing.
    Nothing,
    /// The file that this program writes from the rows, in a style.
    Written(Style),
    /// A file of the base: its path in the folder, its length and its digest.
    Base { path: String, len: u64, digest: Digest },
}

/// A file that comes back byte by byte. Its length and digest are in the container's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExactFile {
    pub(crate) path: String,
    pub(crate) reference: Reference,
    /// How much of the reference a patch sees at once, as a power of two.
    pub(crate) window: u8,
}

/// Windows that are allowed.
const WINDOWS: std::ops::RangeInclusive<u8> = 10..=26;

impl ExactFile {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.path.as_bytes());
        out.push(self.window);
        match &self.reference {
            Reference::Nothing => out.push(0),
            Reference::Written(style) => out.extend([1, style.code()]),
            Reference::Base { path, len, digest } => {
                out.push(2);
                put_bytes(out, path.as_bytes());
                put_uint(out, *len);
                out.extend(digest.0);
            }
        }
    }

    /// Reads a record off the front of `input`.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`; `InvalidInput` for a path that leaves its folder.
    pub(crate) fn read(input: &mut Input<'_>) -> Result<ExactFile> {
        let path = input.string()?;
        check_output_path(&path)?;
        let window = input.byte()?;
        if !WINDOWS.contains(&window) {
            return Err(Error::corrupt(format!("a patch sees 2^{window} bytes")));
        }
        let reference = match input.byte()? {
            0 => Reference::Nothing,
            1 => Reference::Written(Style::from_code(input.byte()?)?),
            2 => {
                let path = input.string()?;
                check_path(&path)?;
                Reference::Base { path, len: input.uint()?, digest: Digest(input.array()?) }
            }
            other => return Err(Error::corrupt(format!("unknown reference {other} of a file"))),
        };
        Ok(ExactFile { path, reference, window })
    }
}
