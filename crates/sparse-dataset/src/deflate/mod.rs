//! The compressors of zlib and of GNU gzip, bit for bit.
//!
//! A compressed file comes back byte for byte only if its text is compressed in the very same way:
//! the same matches, the same blocks, the same codes. That of other crates differs, and may differ
//! again with each of their versions; this one never changes. `matches` finds what repeats,
//! `trees` codes it; both decide as zlib does (J. Gailly and M. Adler), since the bits follow from
//! that. Decompression is that of `flate2`.

mod bits;
mod matches;
mod trees;

pub(crate) use matches::Deflater;

/// Program whose output is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// zlib, with its default memory level of 8: Python, Java, and most other programs.
    Zlib,
    /// The program `gzip` of GNU.
    GnuGzip,
}

#[cfg(test)]
mod tests;
