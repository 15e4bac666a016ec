//! Compressed text files, `.gz` and `.zst`: read as the text in them, and written as text.
//!
//! A file may be several members of gzip or frames of Zstandard one after the other, and what it
//! expands to is limited as in other formats.

use super::limits::Expansion;
use super::steady::Steady;
use crate::executor::lock;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use sparse_core::{Error, ErrorKind, Result, open_file};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Compression around a text file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Packing {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// Splits the ending of a compressed file off its name.
    pub(crate) fn of_name(name: &str) -> (&str, Packing) {
        let ending = |ending: &str| {
            let at = name.len().checked_sub(ending.len())?;
            let found = name.get(at..)?;
            found.eq_ignore_ascii_case(ending).then(|| name.get(..at)).flatten()
        };
        let known = [(".gz", Packing::Gzip), (".zst", Packing::Zstd), (".zstd", Packing::Zstd)];
        let found = known.into_iter().find_map(|(e, packing)| Some((ending(e)?, packing)));
        found.unwrap_or((name, Packing::None))
    }

    fn name(self) -> &'static str {
        match self {
            Packing::None => "text",
            Packing::Gzip => "gzip",
            Packing::Zstd => "Zstandard",
        }
    }
}

/// Opens a text file, and decompresses it on the way.
///
/// # Errors
/// `NotFound`, `Io`. Reading reports a damaged file as an error of this crate inside one of `io`.
pub(crate) fn open_text(path: &Path, packing: Packing) -> Result<Box<dyn Read>> {
    let file = open_file(path)?;
    let len = file.metadata().map_err(|e| Error::io("cannot read", e))?.len();
    let file = BufReader::with_capacity(1 << 16, Steady(file));
    let text: Box<dyn Read> = match packing {
        Packing::None => return Ok(Box::new(file)),
        Packing::Gzip => Box::new(Members(Some(GzDecoder::new(file)))),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(file);
            Box::new(decoder.map_err(|e| Error::io("cannot start Zstandard", e))?)
        }
    };
    Ok(Box::new(Unpacked { text, packing, expansion: Expansion::of(len) }))
}

/// Text on its way out of a compressed file.
struct Unpacked {
    text: Box<dyn Read>,
    packing: Packing,
    expansion: Expansion,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.text.read(buffer).map_err(|e| damaged(e, self.packing))?;
        self.expansion.take(n).map_err(io::Error::other)?;
        Ok(n)
    }
}

/// Returns the error of a decoder as one of the file, unless the system could not read it.
fn damaged(e: io::Error, packing: Packing) -> io::Error {
    if e.raw_os_error().is_some() || e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return e;
    }
    let name = packing.name();
    let text = if e.kind() == io::ErrorKind::UnexpectedEof {
        format!("malformed: its {name} data end too early: the file was cut short")
    } else {
        format!("malformed: its {name} data are damaged, or of another format: {e}")
    };
    io::Error::other(Error::new(ErrorKind::InvalidInput, text))
}

/// Reads the members of a gzip file one after the other.
struct Members<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.0 else { return Ok(0) };
            let n = member.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let Some(mut rest) = self.0.take().map(GzDecoder::into_inner) else { return Ok(0) };
            if !is_over(&mut rest)? {
                self.0 = Some(GzDecoder::new(rest));
            }
        }
    }
}

/// Returns true if nothing follows a member, or only zeros, with which some programs fill blocks.
fn is_over(rest: &mut impl BufRead) -> io::Result<bool> {
    let mut zeros = false;
    loop {
        let bytes = rest.fill_buf()?;
        if bytes.is_empty() {
            return Ok(true);
        }
        let n = bytes.iter().take_while(|&&b| b == 0).count();
        if n < bytes.len() {
            // A member begins with this byte.
            return match zeros || n > 0 || bytes.first() != Some(&0x1f) {
                true => Err(io::Error::other("other bytes follow after its end")),
                false => Ok(false),
            };
        }
        zeros = true;
        rest.consume(n);
    }
}

enum Encoder<'a> {
    Gzip(GzEncoder<Box<dyn Write + Send + 'a>>),
    Zstd(zstd::stream::write::Encoder<'static, Box<dyn Write + Send + 'a>>),
}

/// Level of Zstandard for files that are written anew.
const ZSTD_LEVEL: i32 = 3;

/// Compresses what is written. Clones write to the same file, so that who made it can end it after
/// the writer of the format is gone.
#[derive(Clone)]
pub(crate) struct Packer<'a>(Arc<Mutex<Option<Encoder<'a>>>>);

impl<'a> Packer<'a> {
    /// Begins a compressed file.
    ///
    /// # Errors
    /// `InvalidArgument` for text that is not compressed; `Io`.
    pub(crate) fn new(out: Box<dyn Write + Send + 'a>, packing: Packing) -> Result<Packer<'a>> {
        let encoder = match packing {
            Packing::None => {
                return Err(Error::invalid_argument("plain text needs no compression"));
            }
            Packing::Gzip => Encoder::Gzip(GzEncoder::new(out, Compression::default())),
            Packing::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)
                    .and_then(|mut e| e.include_checksum(true).map(|()| e));
                Encoder::Zstd(encoder.map_err(|e| Error::io("cannot start Zstandard", e))?)
            }
        };
        Ok(Packer(Arc::new(Mutex::new(Some(encoder)))))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(self) -> Result<()> {
        let done = match lock(&self.0).take() {
            None => return Ok(()),
            Some(Encoder::Gzip(encoder)) => encoder.finish(),
            Some(Encoder::Zstd(encoder)) => encoder.finish(),
        };
        done.and_then(|mut out| out.flush()).map_err(|e| Error::io("cannot write the dataset", e))
    }
}

impl Write for Packer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *lock(&self.0) {
            Some(Encoder::Gzip(encoder)) => encoder.write(bytes),
            Some(Encoder::Zstd(encoder)) => encoder.write(bytes),
            None => Err(io::Error::other("the file has ended")),
        }
    }

    /// Does nothing: a flush in the middle would only make the file longer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is read as text.
pub(crate) type TextInput = BufReader<Box<dyn Read>>;

/// Opens a text file with a buffer.
///
/// # Errors
/// As [`open_text`].
pub(crate) fn open_buffered(path: &Path, packing: Packing) -> Result<TextInput> {
    Ok(BufReader::with_capacity(1 << 16, open_text(path, packing)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::reading::of_reading;
    use std::fs::File;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(text, 3).unwrap()
    }

    fn read(bytes: &[u8], packing: Packing) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut out = Vec::new();
        open_text(file.path(), packing)?.read_to_end(&mut out).map_err(of_reading)?;
        Ok(out)
    }

    #[test]
    fn names_tell_compression() {
        for (name, want) in [
            ("a.jsonl.gz", ("a.jsonl", Packing::Gzip)),
            ("a.CSV.GZ", ("a.CSV", Packing::Gzip)),
            ("a.csv.zst", ("a.csv", Packing::Zstd)),
            ("a.ndjson.zstd", ("a.ndjson", Packing::Zstd)),
            ("gz", ("gz", Packing::None)),
            ("a.csv", ("a.csv", Packing::None)),
        ] {
            assert_eq!(Packing::of_name(name), want);
        }
    }

    #[test]
    fn members_and_frames_are_joined() {
        for (pack, packing) in
            [(gzip as fn(&[u8]) -> Vec<u8>, Packing::Gzip), (zstd, Packing::Zstd)]
        {
            let two = [pack(b"one\n"), pack(b""), pack(b"two\n")].concat();
            assert_eq!(read(&two, packing).unwrap(), b"one\ntwo\n");
            let long = b"a line of text\n".repeat(100_000);
            assert_eq!(read(&pack(&long), packing).unwrap(), long);
        }
        let padded = [gzip(b"one\n"), vec![0; 700]].concat();
        assert_eq!(read(&padded, Packing::Gzip).unwrap(), b"one\n");
    }

    #[test]
    fn damage_is_told() {
        let text: Vec<u8> = (0..40_000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        for (packed, packing) in [(gzip(&text), Packing::Gzip), (zstd(&text), Packing::Zstd)] {
            for cut in [3, 9, 100, packed.len() / 2, packed.len() - 1] {
                let error = read(&packed[..cut], packing).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{cut}: {error}");
            }
            let error = read(&packed[..packed.len() / 2], packing).unwrap_err();
            assert!(error.message().contains("cut short"), "{error}");
            let mut damaged = packed.clone();
            damaged[packed.len() / 2] ^= 0x55;
            damaged[packed.len() / 2 + 1] ^= 0x55;
            let garbage = [&packed[..], b"trailing garbage"].concat();
            for bytes in [garbage, b"{\"a\": 1}\n".to_vec()] {
                let error = read(&bytes, packing).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.message().starts_with("malformed"), "{error}");
            }
            if packing == Packing::Gzip {
                assert_eq!(read(&damaged, packing).unwrap_err().kind(), ErrorKind::InvalidInput);
            }
        }
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![0; 300 << 20];
        for (packed, packing) in [(gzip(&zeros), Packing::Gzip), (zstd(&zeros), Packing::Zstd)] {
            let error = read(&packed, packing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        }
    }

    #[test]
    fn what_is_packed_is_read() {
        for packing in [Packing::Gzip, Packing::Zstd] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let out = Box::new(File::create(file.path()).unwrap());
            let packer = Packer::new(out, packing).unwrap();
            packer.clone().write_all(b"one\n").unwrap();
            packer.clone().flush().unwrap();
            packer.finish().unwrap();
            let mut out = Vec::new();
            open_text(file.path(), packing).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(out, b"one\n");
        }
    }
}
