//! The safetensors header.
//!
//! A safetensors file is eight bytes of header length (little-endian), the header as JSON, and the
//! tensors, which tile the rest without gaps. The rules are those of the `safetensors` crate, and
//! stricter in two points: two tensors of the same name are an error, and so are more than 1024
//! dimensions.

mod faults;
mod record;

use faults::{LEN_BYTES, clip, invalid};
use record::{RawTensor, Rules};
use sparse_core::{ByteSource, Dtype, Error, ErrorKind, Result, TensorSpec};
use std::collections::HashSet;

/// Largest header read, in bytes: the limit of the `safetensors` crate.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Content of the head of a safetensors file.
///
/// # Examples
///
/// ```
/// use sparse_model::Header;
///
/// let json = br#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
/// let mut head = (json.len() as u64).to_le_bytes().to_vec();
/// head.extend(json);
/// let header = Header::parse(&head, head.len() as u64 + 2)?;
/// assert_eq!(header.tensors()[0].offset, header.head_len());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    head_len: u64,
    tensors: Vec<HeaderTensor>,
}

/// Tensor of a [`Header`].
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, TensorSpec};
/// use sparse_model::HeaderTensor;
///
/// /// Returns the bytes of the file that hold a tensor.
/// fn range(tensor: &HeaderTensor) -> std::ops::Range<u64> {
///     tensor.offset..tensor.offset + tensor.spec.byte_len()
/// }
///
/// let spec = TensorSpec::new(Dtype::Bf16, [2, 3])?;
/// assert_eq!(range(&HeaderTensor { name: "w".to_owned(), spec, offset: 64 }), 64..76);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Its name.
    pub name: String,
    /// Its type and shape.
    pub spec: TensorSpec,
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
}

impl Header {
    /// Reads and checks the header of `file`.
    ///
    /// # Errors
    /// `InvalidInput` when the file is not safetensors or breaks its rules; `Truncated` when it
    /// ends before the header or the tensors do; `LimitExceeded` for a header of more than
    /// [`MAX_HEADER_BYTES`]; what reading reports.
    pub fn read(file: &dyn ByteSource) -> Result<Header> {
        Header::read_with(file, Rules::Strict)
    }

    fn read_with(file: &dyn ByteSource, rules: Rules) -> Result<Header> {
        let file_len = file.byte_len();
        let mut start = [0; 256];
        let have = start.len().min(usize::try_from(file_len).unwrap_or(usize::MAX));
        let start = start.get_mut(..have).unwrap_or_default();
        file.read_exact_at(0, start)?;
        let head_len = head_len(start, file_len)?;
        // At most 100 MB and at most the file, so that this cannot take much more memory than there
        // is data.
        let json_len = usize::try_from(head_len - LEN_BYTES).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "the header exceeds the address space")
        })?;
        Header::parse_json(&file.bytes_at(LEN_BYTES, json_len)?, file_len, rules)
    }

    /// Parses a head that stands at the start of a file of `file_len` bytes.
    ///
    /// The head is the length field and the JSON after it. Bytes after it are ignored.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(head: &[u8], file_len: u64) -> Result<Header> {
        Header::parse_with(head, file_len, Rules::Strict)
    }

    /// Reads the header of `file`, also where it breaks rules that do not matter here.
    ///
    /// Bytes may belong to no tensor, the metadata may be anything, and tensors may overlap: of
    /// those, the first is taken, or the first of equal ones, as the header lists them. Returns
    /// the fault beside the header, if there is one.
    ///
    /// # Errors
    /// As [`read`](Self::read), for every other fault.
    ///
    /// # Examples
    /// ```
    /// use sparse_model::Header;
    ///
    /// let json = br#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    /// let file = [&(json.len() as u64).to_le_bytes()[..], json, &[0; 4]].concat();
    /// assert!(Header::read(&file).is_err());
    /// let (header, fault) = Header::read_lenient(&file)?;
    /// assert_eq!(header.tensors()[0].offset, header.head_len() + 1);
    /// assert!(fault.is_some());
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn read_lenient(file: &dyn ByteSource) -> Result<(Header, Option<Error>)> {
        let fault = match Header::read(file) {
            Ok(header) => return Ok((header, None)),
            Err(fault) if fault.kind() == ErrorKind::InvalidInput => fault,
            Err(e) => return Err(e),
        };
        match Header::read_with(file, Rules::Lenient) {
            Ok(header) if !header.tensors.is_empty() => Ok((header, Some(fault))),
            Ok(_) => Err(fault),
            Err(e) if e.kind() == ErrorKind::InvalidInput => Err(fault),
            Err(e) => Err(e),
        }
    }

    fn parse_with(head: &[u8], file_len: u64, rules: Rules) -> Result<Header> {
        let head_len = head_len(head, file_len)?;
        let json = usize::try_from(head_len).ok().and_then(|end| head.get(LEN_BYTES as usize..end));
        let json = json.ok_or_else(|| {
            Error::truncated(format!(
                "the header has {head_len} bytes, but only {} are there",
                head.len()
            ))
        })?;
        Header::parse_json(json, file_len, rules)
    }

    /// Returns the bytes before the first tensor: the length field and the JSON.
    pub fn head_len(&self) -> u64 {
        self.head_len
    }

    /// Returns the tensors in the order in which they lie in the file.
    pub fn tensors(&self) -> &[HeaderTensor] {
        &self.tensors
    }

    fn parse_json(json: &[u8], file_len: u64, rules: Rules) -> Result<Header> {
        let head_len = LEN_BYTES + json.len() as u64;
        let mut raw = record::read_tensors(json, rules)?;

        let mut names = HashSet::with_capacity(raw.len());
        if let Some((name, _)) = raw.iter().find(|(name, _)| !names.insert(&**name)) {
            return Err(invalid("two tensors have the same name").in_tensor(&**name));
        }
        drop(names);
        // Stable: empty tensors at the same place keep the order of the header.
        raw.sort_by_key(|(_, t)| t.data_offsets);

        let mut tensors = Vec::with_capacity(raw.len());
        let mut end = 0u64;
        for (name, tensor) in raw {
            let (from, to) = tensor.data_offsets;
            if rules == Rules::Lenient && from < end {
                continue;
            }
            match tensor.check(end, rules) {
                // In range: `from` is not before the end of the one before it, and the last end is
                // checked below.
                Ok(spec) => tensors.push(HeaderTensor {
                    name: name.into_owned(),
                    spec,
                    offset: head_len.saturating_add(from),
                }),
                Err(e) => return Err(e.in_tensor(name)),
            }
            end = to;
        }
        let want = head_len.checked_add(end).ok_or_else(|| {
            invalid(
                "the sizes of the tensors overflow \
                64 bits",
            )
        })?;
        if want > file_len {
            return Err(Error::truncated(format!(
                "the header describes {want} bytes, but the file has {file_len}: it was cut short"
            )));
        }
        if want < file_len && rules == Rules::Strict {
            return Err(invalid(format!(
                "the header describes {want} bytes, but the file has {file_len}: {} bytes \
                    belong to no tensor",
                file_len - want
            ))
            .at_offset(want));
        }
        Ok(Header { head_len, tensors })
    }
}

/// Returns the length of the head of a file that begins with `start`.
///
/// The file has `file_len` bytes.
fn head_len(start: &[u8], file_len: u64) -> Result<u64> {
    let is_header = start.get(LEN_BYTES as usize) == Some(&b'{');
    if let Some(what) = other_format(start).filter(|_| !is_header) {
        return Err(invalid(format!("not a safetensors file: {what}")));
    }
    let Some((len, rest)) = start.split_first_chunk::<8>() else {
        return Err(invalid(format!("not a safetensors file: it has only {} bytes", start.len())));
    };
    let len = u64::from_le_bytes(*len);
    // What begins like a header is taken at its word, so that a file that was cut short is called
    // just that.
    let ends_here = rest.is_empty() && file_len == LEN_BYTES;
    if !is_header && !ends_here {
        return Err(invalid("not a safetensors file: no header at its start").at_offset(LEN_BYTES));
    }
    if len > MAX_HEADER_BYTES {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("the safetensors header: {len} bytes, limit {MAX_HEADER_BYTES}"),
        ));
    }
    let head_len = LEN_BYTES + len;
    if head_len > file_len {
        return Err(Error::truncated(format!(
            "the header alone has {head_len} bytes, but the file has {file_len}: it was cut short"
        )));
    }
    Ok(head_len)
}

/// Names formats that people take for safetensors, by how they begin.
fn other_format(start: &[u8]) -> Option<&'static str> {
    [
        (
            &b"version https://git-lfs"[..],
            "a Git LFS pointer; fetch the file itself with `git lfs pull`",
        ),
        (b"PK\x03\x04", "a zip archive, as PyTorch's .bin and .pt files are"),
        (b"GGUF", "a GGUF file"),
        (b"<!DOCTYPE", "a web page"),
        (b"<html", "a web page"),
    ]
    .into_iter()
    .find_map(|(magic, what)| start.starts_with(magic).then_some(what))
}

impl RawTensor<'_> {
    /// Checks that a tensor begins at `end`, or after it, and is as long as its shape says.
    ///
    /// Returns its spec.
    fn check(self, end: u64, rules: Rules) -> Result<TensorSpec> {
        let dtype = Dtype::from_name(&self.dtype)
            .ok_or_else(|| invalid(format!("unknown element type {:?}", clip(&self.dtype))))?;
        let spec = TensorSpec::new(dtype, self.shape)
            .map_err(|e| invalid("its shape is impossible").with_source(e))?;
        let (from, to) = self.data_offsets;
        if to.checked_sub(from) != Some(spec.byte_len()) {
            return Err(invalid(format!(
                "its data_offsets are {from}..{to}, but its type and shape need {} bytes",
                spec.byte_len()
            )));
        }
        if from < end {
            return Err(invalid(format!(
                "its data overlaps that of the tensor before it ({from} < {end})"
            )));
        }
        if from > end && rules == Rules::Strict {
            return Err(invalid(format!("bytes {end}..{from} of the data belong to no tensor")));
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests;
