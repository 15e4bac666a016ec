//! Compressed files as their text and a recipe: how compressing the text makes the same bytes.

use crate::deflate::{Deflater, Maker};
use crate::io::{Packing, open_text};
use crate::wire::{Input, put_bytes, put_uint};
use flate2::Crc;
use sparse_core::{Error, Result, open_file};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

/// How the bytes of a compressed file are made from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    /// A file of one member.
    Gzip { header: Vec<u8>, level: u8, maker: Maker, flushed: bool },
    /// A file of one frame.
    Zstd(Frame),
}

/// How a frame of Zstandard was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    level: u8,
    checksum: bool,
    content_size: bool,
    /// Whether all of the text was compressed by one call.
    at_once: bool,
    /// Whether all text was flushed before the end, as pandas does; in gzip, too.
    flushed: bool,
    /// Version of the library that made the bytes: another one may make others.
    version: u32,
}

/// Longest header of a member that is kept, in bytes.
const MAX_HEADER: usize = 1 << 16;

/// Longest text that is compressed by one call, in bytes.
const MAX_AT_ONCE: u64 = 256 << 20;

/// Highest level of Zstandard that is tried: higher ones take much memory.
const MAX_LEVEL: u8 = 19;

impl Recipe {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Recipe::Gzip { header, level, maker, flushed } => {
                let gnu = u8::from(*maker == Maker::GnuGzip);
                out.extend([1, gnu | u8::from(*flushed) << 1, *level]);
                put_bytes(out, header);
            }
            Recipe::Zstd(frame) => {
                let Frame { checksum, content_size, at_once, flushed, .. } = *frame;
                let flags = [checksum, content_size, at_once, flushed];
                let flags = flags.iter().enumerate().fold(0, |all, (i, &f)| all | u8::from(f) << i);
                out.extend([2, frame.level, flags]);
                put_uint(out, frame.version.into());
            }
        }
    }

    /// Inverts [`write`](Self::write).
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(super) fn read(input: &mut Input<'_>) -> Result<Recipe> {
        let unknown = || Error::corrupt("a file is compressed in an unknown way");
        match input.byte()? {
            1 => {
                let (maker, flushed) = match input.byte()? {
                    0 => (Maker::Zlib, false),
                    1 => (Maker::GnuGzip, false),
                    2 => (Maker::Zlib, true),
                    _ => return Err(unknown()),
                };
                let level = input.byte()?;
                let header = input.blob()?.to_vec();
                if !(1..=9).contains(&level) || header.len() > MAX_HEADER {
                    return Err(unknown());
                }
                Ok(Recipe::Gzip { header, level, maker, flushed })
            }
            2 => {
                let (level, flags) = (input.byte()?, input.byte()?);
                let version = u32::try_from(input.uint()?).map_err(|_| unknown())?;
                if !(1..=MAX_LEVEL).contains(&level) || flags >> 4 != 0 {
                    return Err(unknown());
                }
                let [checksum, content_size, at_once, flushed] =
                    [0, 1, 2, 3].map(|i| flags >> i & 1 == 1);
                let frame = Frame { level, checksum, content_size, at_once, flushed, version };
                Ok(Recipe::Zstd(frame))
            }
            _ => Err(unknown()),
        }
    }

    /// Returns a hint for a file whose bytes were not made again.
    pub(super) fn why_not(&self) -> Option<String> {
        let Recipe::Zstd(frame) = self else { return None };
        let here = zstd::zstd_safe::version_number();
        (frame.version != here).then(|| {
            format!(
                "it was compressed by Zstandard {}, and this program has {here}: take a build of \
                    Sparse with that version",
                frame.version
            )
        })
    }

    /// Begins to compress a text of `len` bytes to `out`.
    ///
    /// # Errors
    /// `Io`; `Corrupt` when the text is too long for the recipe.
    pub(super) fn begin<W: Write>(&self, out: W, len: u64) -> Result<Recompressor<W>> {
        let failed = |e| Error::io("cannot write", e);
        let kind = match self {
            Recipe::Gzip { header, level, maker, flushed } => {
                let mut out = out;
                out.write_all(header).map_err(failed)?;
                let deflater = Deflater::new(out, *level, *maker);
                Kind::Gzip(Box::new(deflater), Crc::new(), *flushed)
            }
            Recipe::Zstd(frame) if frame.at_once => {
                if len > MAX_AT_ONCE {
                    return Err(Error::corrupt("a text is too long to be compressed at once"));
                }
                Kind::AtOnce(*frame, Vec::new(), out)
            }
            Recipe::Zstd(frame) => {
                let made = zstd::stream::write::Encoder::new(out, frame.level.into());
                let encoder = made.and_then(|mut encoder| {
                    encoder.include_checksum(frame.checksum)?;
                    encoder.include_contentsize(frame.content_size)?;
                    if frame.content_size {
                        encoder.set_pledged_src_size(Some(len))?;
                    }
                    Ok(encoder)
                });
                Kind::Zstd(Box::new(encoder.map_err(failed)?), frame.flushed)
            }
        };
        Ok(Recompressor(kind))
    }
}

/// Compresses a text by a recipe.
pub(super) struct Recompressor<W: Write>(Kind<W>);

enum Kind<W: Write> {
    Gzip(Box<Deflater<W>>, Crc, bool),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>, bool),
    AtOnce(Frame, Vec<u8>, W),
}

impl<W: Write> Recompressor<W> {
    /// Ends the file.
    ///
    /// # Errors
    /// Those of the output.
    pub(super) fn finish(self) -> io::Result<W> {
        match self.0 {
            Kind::Gzip(deflater, crc, flushed) => {
                let mut out = deflater.finish(flushed)?;
                out.write_all(&crc.sum().to_le_bytes())?;
                out.write_all(&crc.amount().to_le_bytes())?;
                Ok(out)
            }
            Kind::Zstd(mut encoder, flushed) => {
                if flushed {
                    encoder.flush()?;
                }
                encoder.finish()
            }
            Kind::AtOnce(frame, text, mut out) => {
                let failed = |code| io::Error::other(zstd::zstd_safe::get_error_name(code));
                let mut context = CCtx::create();
                for parameter in [
                    CParameter::CompressionLevel(frame.level.into()),
                    CParameter::ChecksumFlag(frame.checksum),
                    CParameter::ContentSizeFlag(frame.content_size),
                ] {
                    context.set_parameter(parameter).map_err(failed)?;
                }
                let mut packed = Vec::with_capacity(compress_bound(text.len()));
                context.compress2(&mut packed, &text).map_err(failed)?;
                out.write_all(&packed)?;
                Ok(out)
            }
        }
    }
}

impl<W: Write> Write for Recompressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Gzip(deflater, crc, _) => {
                let n = deflater.write(bytes)?;
                crc.update(bytes.get(..n).unwrap_or_default());
                Ok(n)
            }
            Kind::Zstd(encoder, _) => encoder.write(bytes),
            Kind::AtOnce(_, text, _) => {
                text.try_reserve(bytes.len()).map_err(io::Error::other)?;
                text.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares what is written with a file.
struct Compared {
    file: BufReader<File>,
    buffer: Vec<u8>,
}

impl Write for Compared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.resize(bytes.len(), 0);
        self.file.read_exact(&mut self.buffer)?;
        match self.buffer == bytes {
            true => Ok(bytes.len()),
            false => Err(io::Error::other("the bytes differ")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Finds the recipe that makes a compressed file of `len` bytes of text; `None` if none is known.
///
/// # Errors
/// `NotFound`, `Io`.
pub(super) fn find_recipe(path: &Path, packing: Packing, len: u64) -> Result<Option<Recipe>> {
    for recipe in candidates(path, packing, len)? {
        if makes(&recipe, path, packing, len)? {
            return Ok(Some(recipe));
        }
    }
    Ok(None)
}

/// Returns true if the recipe makes the file.
fn makes(recipe: &Recipe, path: &Path, packing: Packing, len: u64) -> Result<bool> {
    let failed = |e| Error::io("cannot read", e);
    let mut file = BufReader::with_capacity(1 << 16, open_file(path)?);
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let Ok(mut out) = recipe.begin(Compared { file, buffer: Vec::new() }, len) else {
        return Ok(false);
    };
    let mut text = open_text(path, packing)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        // Text that cannot be read, or other bytes: the file is stored in another way.
        let Ok(n) = text.read(&mut buffer) else { return Ok(false) };
        if n == 0 {
            break;
        }
        if out.write_all(buffer.get(..n).unwrap_or_default()).is_err() {
            return Ok(false);
        }
    }
    let Ok(mut compared) = out.finish() else { return Ok(false) };
    Ok(compared.file.read(&mut [0]).map_err(failed)? == 0)
}

/// Returns recipes that may make a file, the most probable first.
fn candidates(path: &Path, packing: Packing, len: u64) -> Result<Vec<Recipe>> {
    let mut head = Vec::new();
    let file = open_file(path)?.take(MAX_HEADER as u64);
    let failed = |e| Error::io("cannot read", e);
    BufReader::new(file).read_to_end(&mut head).map_err(failed)?;
    let tail = tail_of(path)?;
    Ok(match packing {
        Packing::None => Vec::new(),
        Packing::Gzip => gzip_candidates(&head, tail.starts_with(FLUSHED_GZIP)),
        Packing::Zstd => zstd_candidates(&head, &tail, len),
    })
}

/// End of a member that was flushed: an empty stored block and an empty last one. Checksum and
/// length follow.
const FLUSHED_GZIP: &[u8] = b"\0\0\xff\xff\x03\0";

/// Empty last block of a frame that was flushed.
const FLUSHED_ZSTD: &[u8] = b"\x01\0\0";

/// Bytes after an empty last block of gzip.
const TRAILER: u64 = 8;

/// Returns the end of a file.
fn tail_of(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io("cannot read", e);
    let mut file = open_file(path)?;
    let len = file.metadata().map_err(failed)?.len();
    let at = len.saturating_sub(FLUSHED_GZIP.len() as u64 + TRAILER);
    file.seek(SeekFrom::Start(at)).map_err(failed)?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(failed)?;
    Ok(tail)
}

fn gzip_candidates(head: &[u8], flushed: bool) -> Vec<Recipe> {
    let Some(len) = header_len(head) else { return Vec::new() };
    let header = head.get(..len).unwrap_or_default();
    let levels: [u8; 9] = match header.get(8) {
        Some(2) => [9, 8, 7, 6, 5, 4, 3, 2, 1],
        Some(4) => [1, 2, 3, 4, 5, 6, 7, 8, 9],
        _ => [6, 9, 1, 5, 7, 8, 4, 3, 2],
    };
    // GNU gzip says that it runs on Unix; Python says that it does not know.
    let makers = match header.get(9) {
        _ if flushed => &[Maker::Zlib][..],
        Some(3) => &[Maker::GnuGzip, Maker::Zlib],
        _ => &[Maker::Zlib, Maker::GnuGzip],
    };
    let made = |level: u8, maker| {
        let header = header.to_vec();
        Recipe::Gzip { header, level, maker, flushed }
    };
    let (first, rest) = levels.split_at(1);
    let probable = first.iter().flat_map(|&l| makers.iter().map(move |&m| (l, m)));
    let others = makers.iter().flat_map(|&m| rest.iter().map(move |&l| (l, m)));
    probable.chain(others).map(|(l, m)| made(l, m)).collect()
}

/// Returns the length of a member's header.
fn header_len(head: &[u8]) -> Option<usize> {
    let &[0x1f, 0x8b, 8, flags, ..] = head else { return None };
    let mut at = 10;
    if flags & 4 != 0 {
        let len = [*head.get(at)?, *head.get(at + 1)?];
        at += 2 + usize::from(u16::from_le_bytes(len));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += head.get(at..)?.iter().position(|&b| b == 0)? + 1;
        }
    }
    at += if flags & 2 != 0 { 2 } else { 0 };
    (at <= head.len()).then_some(at)
}

fn zstd_candidates(head: &[u8], tail: &[u8], len: u64) -> Vec<Recipe> {
    let &[0x28, 0xb5, 0x2f, 0xfd, descriptor, ..] = head else { return Vec::new() };
    let (checksum, content_size) = (descriptor & 4 != 0, descriptor & 0xe0 != 0);
    let end = tail.len().saturating_sub(if checksum { 4 } else { 0 });
    let flushed = tail.get(..end).is_some_and(|tail| tail.ends_with(FLUSHED_ZSTD));
    let version = zstd::zstd_safe::version_number();
    let made = |level, at_once| {
        Recipe::Zstd(Frame { level, checksum, content_size, at_once, flushed, version })
    };
    let first = [3, 19, 1, 6, 9, 10, 12, 15];
    let rest = (1..=MAX_LEVEL).filter(|l| !first.contains(l));
    let both = |level| {
        let at_once = content_size && !flushed && len <= MAX_AT_ONCE;
        let at_once = at_once.then(|| made(level, true));
        [Some(made(level, false)), at_once]
    };
    first.into_iter().chain(rest).flat_map(both).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..30_000u32).flat_map(|i| format!("row {i}: {}\n", i * i % 977).into_bytes()).collect()
    }

    fn found(bytes: &[u8], packing: Packing) -> Option<Recipe> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        find_recipe(file.path(), packing, text().len() as u64).unwrap()
    }

    fn made(recipe: &Recipe, text: &[u8]) -> Vec<u8> {
        let mut out = recipe.begin(Vec::new(), text.len() as u64).unwrap();
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn recipes_are_found_and_stored() {
        let named = b"\x1f\x8b\x08\x08\x01\x02\x03\x04\x00\x03rows.jsonl\0";
        for header in [&b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"[..], named] {
            for (level, maker, flushed) in
                [(9, Maker::Zlib, true), (1, Maker::Zlib, false), (6, Maker::GnuGzip, false)]
            {
                let recipe = Recipe::Gzip { header: header.to_vec(), level, maker, flushed };
                let file = made(&recipe, &text());
                let found = found(&file, Packing::Gzip).unwrap();
                assert_eq!(made(&found, &text()), file);
            }
        }
        for (level, checksum, content_size, at_once, flushed) in [
            (3, true, true, false, false),
            (3, false, true, true, false),
            (9, false, false, false, false),
            (5, true, false, false, true),
        ] {
            let version = zstd::zstd_safe::version_number();
            let frame = Frame { level, checksum, content_size, at_once, flushed, version };
            let recipe = Recipe::Zstd(frame);
            let file = made(&recipe, &text());
            let found = found(&file, Packing::Zstd).unwrap();
            assert_eq!(made(&found, &text()), file);
            let mut out = Vec::new();
            found.write(&mut out);
            assert_eq!(Recipe::read(&mut Input(&out)).unwrap(), found);
            assert!(Recipe::read(&mut Input(&out[..out.len() - 1])).is_err());
        }
    }

    #[test]
    fn other_files_have_none() {
        let mut file = made(
            &Recipe::Gzip {
                header: b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec(),
                level: 6,
                maker: Maker::Zlib,
                flushed: false,
            },
            &text(),
        );
        file.push(0);
        assert_eq!(found(&file, Packing::Gzip), None);
        assert_eq!(found(b"text", Packing::Gzip), None);
        assert_eq!(found(b"\x1f\x8b\x08\x08name without end", Packing::Gzip), None);
        assert_eq!(found(b"\x28\xb5\x2f\xfd", Packing::Zstd), None);
    }
}
