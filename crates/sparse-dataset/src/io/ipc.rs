//! Checks of the lengths that Arrow IPC files declare: their reader allocates any declared length,
//! and a program that cannot allocate aborts.

use super::flat;
use super::limits::exceeded;
use arrow_ipc::{CompressionType, Message, MessageHeader};
use sparse_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Bytes to which any compressed buffer may decompress. Above it the limit is `MAX_RATIO` times its
/// length, or `LZ4_RATIO` for LZ4.
const HARMLESS_BUFFER: u64 = 64 << 20;
const MAX_RATIO: u64 = 1000;
const LZ4_RATIO: u64 = 255;

/// Bytes to which the compressed buffers of a batch may decompress, in addition to `BATCH_RATIO`
/// times their length.
const HARMLESS_BATCH: u64 = 512 << 20;
const BATCH_RATIO: u64 = 20;

/// Bytes that joining the parts of a dictionary may copy in any case: each part copies all before
/// it.
const HARMLESS_COPIES: u64 = 1 << 30;

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed: {what}"))
}

/// A file and its length.
struct Checked<'a> {
    file: &'a mut File,
    len: u64,
    /// Bytes of each dictionary so far, and bytes that were copied for it.
    dictionaries: HashMap<i64, (u64, u64)>,
    /// Number of messages with metadata of their own.
    told: u64,
}

/// Compares the lengths that a file or stream declares with the length of the file.
///
/// Returns the number of messages, mostly record batches, with metadata of their own, which are
/// lost when the file is written anew.
///
/// # Errors
/// `InvalidInput` when they do not fit; `Io`.
pub(super) fn check_lengths(file: &mut File, stream: bool) -> Result<u64> {
    let unreadable = |e| Error::io("cannot read", e);
    let len = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let mut checked = Checked { file, len, dictionaries: HashMap::new(), told: 0 };
    if stream { checked.stream() } else { checked.footer() }?;
    checked.file.rewind().map_err(unreadable)?;
    Ok(checked.told)
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
        // A stream may end without an end mark.
        while at + 4 <= self.len {
            let (start, len) = self.message_start(at)?;
            if len == 0 {
                break;
            }
            at = self.message(start, len)?;
        }
        Ok(())
    }

    /// Returns the place and length of a message's metadata, after a mark that old files lack.
    fn message_start(&mut self, at: u64) -> Result<(u64, u64)> {
        let (start, len) = match self.length(at)? {
            -1 => (at + 8, self.length(at + 4)?),
            len => (at + 4, len),
        };
        Ok((start, u64::try_from(len).map_err(|_| malformed("a length is negative"))?))
    }

    fn footer(&mut self) -> Result<()> {
        let end = self.len.checked_sub(10).ok_or_else(|| {
            malformed(
                "it is too short for an \
            Arrow file",
            )
        })?;
        let len =
            u64::try_from(self.length(end)?).map_err(|_| malformed("a length is negative"))?;
        let start =
            end.checked_sub(len).ok_or_else(|| malformed("its footer is longer than the file"))?;
        let bytes = self.bytes(start, len)?;
        let footer = flat::footer(&bytes)?;
        let mut parts = Vec::new();
        for block in
            footer.dictionaries().iter().flatten().chain(footer.recordBatches().iter().flatten())
        {
            let [at, len, body] =
                [block.offset(), block.metaDataLength().into(), block.bodyLength()]
                    .map(|n| u64::try_from(n).map_err(|_| malformed("a length is negative")));
            let (at, len, body) = (at?, len?, body?);
            if at
                .checked_add(len)
                .and_then(|n| n.checked_add(body))
                .is_none_or(|end| end > self.len)
            {
                return Err(malformed("a part of it lies past its end"));
            }
            let (start, own) = self.message_start(at)?;
            // The reader trusts the footer: both must agree on where the body begins.
            if start + own != at + len {
                return Err(malformed("its footer and a message differ"));
            }
            self.message(start, own)?;
            parts.push((at, at + len + body));
        }
        // Each part is read as often as it is listed.
        parts.sort_unstable();
        if parts.iter().zip(parts.iter().skip(1)).any(|(a, b)| b.0 < a.1) {
            return Err(malformed("two parts of it overlap"));
        }
        Ok(())
    }

    /// Checks a message; returns its end.
    fn message(&mut self, start: u64, len: u64) -> Result<u64> {
        let bytes = self.bytes(start, len)?;
        let message = flat::message(&bytes)?;
        let body =
            u64::try_from(message.bodyLength()).map_err(|_| malformed("a length is negative"))?;
        let at = start + len;
        let end = at.checked_add(body).filter(|&end| end <= self.len);
        let end = end.ok_or_else(|| malformed("a part of it lies past its end"))?;
        self.told += u64::from(message.custom_metadata().is_some_and(|m| !m.is_empty()));
        self.dictionary(&message, body)?;
        self.compressed(&message, at, end)?;
        Ok(end)
    }

    /// Checks that joining the parts of a dictionary does not copy too many bytes.
    fn dictionary(&mut self, message: &Message<'_>, body: u64) -> Result<()> {
        let Some(batch) = message.header_as_dictionary_batch() else { return Ok(()) };
        let (bytes, copied) = self.dictionaries.entry(batch.id()).or_default();
        *bytes = if batch.isDelta() { bytes.saturating_add(body) } else { body };
        *copied = copied.saturating_add(*bytes);
        let limit = self.len.saturating_mul(BATCH_RATIO).max(HARMLESS_COPIES);
        if *copied > limit {
            return Err(exceeded(format!(
                "a dictionary has many parts, and joining them would copy more than {limit} \
                    bytes: write it in one part"
            )));
        }
        Ok(())
    }

    /// Checks compressed buffers, each of which begins with its length.
    fn compressed(&mut self, message: &Message<'_>, body: u64, end: u64) -> Result<()> {
        let batch = match message.header_type() {
            MessageHeader::DictionaryBatch => {
                message.header_as_dictionary_batch().and_then(|d| d.data())
            }
            _ => message.header_as_record_batch(),
        };
        let Some((batch, compression)) = batch.and_then(|b| Some((b, b.compression()?))) else {
            return Ok(());
        };
        let ratio =
            if compression.codec() == CompressionType::LZ4_FRAME { LZ4_RATIO } else { MAX_RATIO };
        let (mut sum, mut packed) = (0u64, 0u64);
        for buffer in batch.buffers().iter().flatten().filter(|b| b.length() >= 8) {
            let at = u64::try_from(buffer.offset()).ok().and_then(|o| body.checked_add(o));
            let at = at
                .filter(|&a| a.saturating_add(8) <= end)
                .ok_or_else(|| malformed("a buffer lies past its end"))?;
            let declared = self.bytes(at, 8)?;
            let declared =
                declared.as_chunks::<8>().0.first().map_or(0, |b| i64::from_le_bytes(*b));
            // -1 stands for a buffer that is not compressed.
            let declared = u64::try_from(declared.max(0)).unwrap_or(0);
            let len = u64::try_from(buffer.length()).unwrap_or(0);
            if declared > len.saturating_mul(ratio).max(HARMLESS_BUFFER) {
                let text = format!(
                    "a buffer of {len} bytes declares that it decompresses to \
                    {declared}"
                );
                return Err(malformed(&text).at_offset(at));
            }
            sum = sum.saturating_add(declared);
            packed = packed.saturating_add(len);
        }
        if sum > packed.saturating_mul(BATCH_RATIO).saturating_add(HARMLESS_BATCH) {
            return Err(exceeded(format!(
                "buffers of {packed} bytes decompress to {sum}, more \
                than is taken in one batch"
            ))
            .at_offset(body));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::dataset::Dataset;
    use arrow_ipc::writer::StreamWriter;
    use arrow_ipc::{KeyValue, KeyValueArgs, Message, MessageArgs, MessageHeader, MetadataVersion};
    use arrow_ipc::{RecordBatch, RecordBatchArgs};
    use arrow_schema::Schema;
    use flatbuffers::FlatBufferBuilder;

    /// Makes a record batch of three rows without columns that has metadata of its own.
    fn batch() -> Vec<u8> {
        let mut b = FlatBufferBuilder::new();
        let (key, value) = (b.create_string("made by"), b.create_string("hand"));
        let pair = KeyValue::create(&mut b, &KeyValueArgs { key: Some(key), value: Some(value) });
        let custom_metadata = Some(b.create_vector(&[pair]));
        let nodes = Some(b.create_vector::<arrow_ipc::FieldNode>(&[]));
        let buffers = Some(b.create_vector::<arrow_ipc::Buffer>(&[]));
        let batch = RecordBatchArgs { length: 3, nodes, buffers, ..RecordBatchArgs::default() };
        let header = Some(RecordBatch::create(&mut b, &batch).as_union_value());
        let message = MessageArgs {
            version: MetadataVersion::V5,
            header_type: MessageHeader::RecordBatch,
            header,
            bodyLength: 0,
            custom_metadata,
        };
        let message = Message::create(&mut b, &message);
        b.finish(message, None);
        let mut bytes = b.finished_data().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let len = (bytes.len() as u32).to_le_bytes();
        [&[0xff; 4], &len[..], &bytes].concat()
    }

    #[test]
    fn what_is_not_kept_is_named() {
        let mut writer = StreamWriter::try_new(Vec::new(), &Schema::empty()).unwrap();
        writer.finish().unwrap();
        let stream = writer.into_inner().unwrap();
        let (schema, end) = stream.split_at(stream.len() - 8);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.arrow");
        for (batches, note) in [(Vec::new(), None), (batch(), Some("metadata of 1 record"))] {
            std::fs::write(&path, [schema, &batches, end].concat()).unwrap();
            let dataset = Dataset::open(&path).unwrap();
            assert_eq!(dataset.notes().len(), usize::from(note.is_some()));
            assert!(dataset.notes().iter().all(|n| n.contains(note.unwrap())));
        }
    }
}
