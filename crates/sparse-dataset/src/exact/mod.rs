//! Files that are restored bit for bit: each is stored as a patch against the file that this
//! program writes, against a file of the base, or against nothing, whichever is smallest.

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

/// Reference of a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// No reference.
    Nothing,
    /// The file that this program writes from the rows, in a style.
    Written(Style),
    /// A file of the base: its path in the folder, its length and its digest.
    Base { path: String, len: u64, digest: Digest },
}

/// Record of a file that is restored bit for bit. Its length and digest are in the container's
/// entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExactFile {
    pub(crate) path: String,
    pub(crate) reference: Reference,
    /// Base-2 logarithm of the bytes of the reference that each chunk of a patch sees.
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
            return Err(Error::corrupt(format!(
                "a patch has a window of 2^{window} bytes, which \
                is not supported"
            )));
        }
        let reference = match input.byte()? {
            0 => Reference::Nothing,
            1 => Reference::Written(Style::from_code(input.byte()?)?),
            2 => {
                let path = input.string()?;
                check_path(&path)?;
                Reference::Base { path, len: input.uint()?, digest: Digest(input.array()?) }
            }
            other => {
                return Err(Error::corrupt(format!(
                    "unknown kind {other} of a reference of \
                a patch"
                )));
            }
        };
        Ok(ExactFile { path, reference, window })
    }
}
