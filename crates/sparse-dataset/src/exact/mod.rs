//! Files that are restored bit for bit: each is stored as a patch against the file that this
//! program writes, against a file of the base, or against nothing, whichever is smallest.

mod content;
mod keep;
mod patch;
mod recipe;
mod restore;
mod similar;
mod style;

pub(crate) use content::{CONTENT, ContentWatch, FileHashes, content_of};
pub(crate) use keep::{Kept, alone_size, keep, regenerate};
#[cfg(feature = "fuzzing")]
pub(crate) use patch::prefix;
pub(crate) use restore::ExactFiles;
pub(crate) use style::{Restyle, Style};

use crate::io::Packing;
use crate::wire::{Input, put_bytes, put_uint};
use recipe::Recipe;
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
    /// A file of the base: its path in the folder, its length and its digest; with a compression,
    /// the text in it.
    Base { path: String, len: u64, digest: Digest, packing: Packing },
}

/// A compressed file whose text is patched: its recipe, its length and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) recipe: Recipe,
    pub(crate) len: u64,
    pub(crate) digest: Digest,
}

/// Record of a file that is restored bit for bit. Its length and digest, or those of the text in a
/// compressed file, are in the container's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExactFile {
    pub(crate) path: String,
    pub(crate) packed: Option<Packed>,
    pub(crate) reference: Reference,
    /// Base-2 logarithm of the bytes of the reference that each chunk of a patch sees.
    pub(crate) window: u8,
}

/// The kind of a reference before which a file's recipe stands.
const PACKED: u8 = 3;

/// Windows that are allowed.
const WINDOWS: std::ops::RangeInclusive<u8> = 10..=26;

impl ExactFile {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.path.as_bytes());
        out.push(self.window);
        if let Some(Packed { recipe, len, digest }) = &self.packed {
            out.push(PACKED);
            recipe.write(out);
            put_uint(out, *len);
            out.extend(digest.0);
        }
        match &self.reference {
            Reference::Nothing => out.push(0),
            Reference::Written(style) => match style.old_code() {
                Some(code) => out.extend([1, code]),
                None => {
                    out.push(6);
                    style.write(out);
                }
            },
            Reference::Base { path, len, digest, packing } => {
                out.push(match packing {
                    Packing::None => 2,
                    Packing::Gzip => 4,
                    Packing::Zstd => 5,
                });
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
        let mut kind = input.byte()?;
        let mut packed = None;
        if kind == PACKED {
            let recipe = Recipe::read(input)?;
            let (len, digest) = (input.uint()?, Digest(input.array()?));
            packed = Some(Packed { recipe, len, digest });
            kind = input.byte()?;
        }
        let reference = match kind {
            0 => Reference::Nothing,
            1 => Reference::Written(Style::from_old_code(input.byte()?)?),
            6 => Reference::Written(Style::read(input)?),
            2 | 4 | 5 => {
                let path = input.string()?;
                check_path(&path)?;
                let packing = match kind {
                    4 => Packing::Gzip,
                    5 => Packing::Zstd,
                    _ => Packing::None,
                };
                let (len, digest) = (input.uint()?, Digest(input.array()?));
                Reference::Base { path, len, digest, packing }
            }
            other => {
                return Err(Error::corrupt(format!(
                    "unknown kind {other} of a reference of \
                a patch"
                )));
            }
        };
        Ok(ExactFile { path, packed, reference, window })
    }
}
