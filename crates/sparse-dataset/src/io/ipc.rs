//! What Arrow IPC files declare, compared with what is there: their reader allocates whatever a length says, and a program
//! that cannot allocate is at an end.

use arrow_ipc::{Message, MessageHeader, root_as_footer, root_as_message};
use sparse_core::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// The compressed buffers of a batch may become so many times as long as the file, or this long: a column of one value shrinks more.
const MAX_EXPANSION: u64 = 1000;
const HARMLESS: u64 = 256 << 20;

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed: {what}"))
}

/// A file and its length.
struct Checked<'a> {
    file: &'a mut File,
    len: u64,
}

/// Compare the lengths that a file or stream declares with the file's.
///
/// # Errors
/// `InvalidInput` when they do not fit; `Io`.
pub(super) fn check_lengths(file: &mut File, stream: bool) -> Result<()> {
    let unreadable = |e| Error::io("cannot read", e);
    let len = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let mut checked = Checked { file, len };
    if stream { checked.stream() } else { checked.footer() }?;
    checked.file.rewind().map_err(unreadable)
}

impl Checked<'_> {
    fn bytes(&mut self, at: u64, len: u64) -> Result<Vec<u8>> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(malformed("a part of it lies past its end"));
        }
        let mut out = vec![0; len as usize];
        self.file.seek(SeekFrom::Start(at)).map_err(|e| Error::io("cannot read", e))?;
        self.file.read_exact(&mut out).map_err(|e| Error::io("cannot read", e))?;
        Ok(out)
    }

    fn length(&mut self, at: u64) -> Result<i32> {
        let bytes = self.bytes(at, 4)?;
        Ok(bytes.as_chunks::<4>().0.first().map_or(0, |b| i32::from_le_bytes(*b)))
    }

    fn stream(&mut self) -> Result<()> {
        let mut at = 0;
        // A stream may end without its mark.
        while at + 4 <= self.len {
            let (start, len) = self.message_start(at)?;
            if len == 0 {
                break;
            }
            at = self.message(start, len)?;
        }
        Ok(())
    }

    /// Where a message's metadata begins, behind a mark that old files do not have, and its length.
    fn message_start(&mut self, at: u64) -> Result<(u64, u64)> {
        let (start, len) = match self.length(at)? {
            -1 => (at + 8, self.length(at + 4)?),
            len => (at + 4, len),
        };
        Ok((start, u64::try_from(len).map_err(|_| malformed("a negative length"))?))
    }

    fn footer(&mut self) -> Result<()> {
        let end = self.len.checked_sub(10).ok_or_else(|| malformed("too short"))?;
        let len = u64::try_from(self.length(end)?).map_err(|_| malformed("a negative length"))?;
        let start = end.checked_sub(len).ok_or_else(|| malformed("its footer is longer than the file"))?;
        let bytes = self.bytes(start, len)?;
        let footer = root_as_footer(&bytes).map_err(|e| malformed(&format!("its footer: {e}")))?;
        for block in footer.dictionaries().iter().flatten().chain(footer.recordBatches().iter().flatten()) {
            let [at, len, body] = [block.offset(), block.metaDataLength().into(), block.bodyLength()]
                .map(|n| u64::try_from(n).map_err(|_| malformed("a negative length")));
            let (at, len, body) = (at?, len?, body?);
            if at.checked_add(len).and_then(|n| n.checked_add(body)).is_none_or(|end| end > self.len) {
                return Err(malformed("a part of it lies past its end"));
            }
            let (start, own) = self.message_start(at)?;
            // The reader believes the footer: both must say where the body begins.
            if start + own != at + len {
                return Err(malformed("its footer and a message differ"));
            }
            self.message(start, own)?;
        }
        Ok(())
    }

    /// Check a message; returns where it ends.
    fn message(&mut self, start: u64, len: u64) -> Result<u64> {
        let bytes = self.bytes(start, len)?;
        let message = root_as_message(&bytes).map_err(|e| malformed(&format!("a message: {e}")))?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| malformed("a negative length"))?;
        let at = start + len;
        let end = at.checked_add(body).filter(|&end| end <= self.len);
        let end = end.ok_or_else(|| malformed("a part of it lies past its end"))?;
        self.compressed(&message, at, end)?;
        Ok(end)
    }

    /// Each compressed buffer begins with its length.
    fn compressed(&mut self, message: &Message<'_>, body: u64, end: u64) -> Result<()> {
        let batch = match message.header_type() {
            MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|d| d.data()),
            _ => message.header_as_record_batch(),
        };
        let Some(batch) = batch.filter(|b| b.compression().is_some()) else { return Ok(()) };
        let mut sum = 0u64;
        for buffer in batch.buffers().iter().flatten().filter(|b| b.length() >= 8) {
            let at = u64::try_from(buffer.offset()).ok().and_then(|o| body.checked_add(o));
            let at = at
                .filter(|&a| a.saturating_add(8) <= end)
                .ok_or_else(|| malformed("a buffer past its end"))?;
            let declared = self.bytes(at, 8)?;
            let declared = declared.as_chunks::<8>().0.first().map_or(0, |b| i64::from_le_bytes(*b));
            // -1 stands for a buffer that is not compressed.
            sum = sum.saturating_add(u64::try_from(declared.max(0)).unwrap_or(0));
        }
        if sum > self.len.saturating_mul(MAX_EXPANSION).max(HARMLESS) {
            return Err(malformed(
                "its compressed parts say they are more than 1000 times as long as the file",
            ));
        }
        Ok(())
    }
}
