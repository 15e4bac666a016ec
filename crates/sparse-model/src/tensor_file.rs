//! Tensors from anywhere, laid out as one safetensors file that need not exist.

use crate::checkpoint::{Checkpoint, FileKind, ModelFile, TensorLocation};
use sparse_core::{
    ByteSource, Dtype, Error, Result, TensorEntry, TensorRead, TensorSource, TensorSpec,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// Name of the one file: what loaders look for.
const NAME: &str = "model.safetensors";

/// [`Checkpoint`] of the tensors of any [`TensorSource`], laid out as one safetensors file.
///
/// They can then be compressed without being written to disk first.
///
/// What a delta of it restores is the file `model.safetensors`, byte for byte as the `safetensors`
/// crate would have serialised the same tensors and metadata.
///
/// # Examples
/// ```
/// use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
/// use sparse_core::ByteSource;
/// use sparse_model::{Checkpoint, SafeTensorsSource, TensorFile};
///
/// let weights = [1, 2, 3, 4, 5, 6];
/// let view = TensorView::new(Dtype::U8, vec![2, 3], &weights).unwrap();
/// let bytes = serialize([("w", view)], None).unwrap();
///
/// let tensors = SafeTensorsSource::new(&SafeTensors::deserialize(&bytes).unwrap())?;
/// let file = TensorFile::new(&tensors)?.named("step-7");
/// assert_eq!(*file.file_source(0)?.bytes_at(0, bytes.len())?, bytes);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct TensorFile<'a> {
    name: String,
    tensors: &'a dyn TensorSource,
    head: Vec<u8>,
    /// First byte in the file of each tensor, by index.
    offsets: Vec<u64>,
    files: [ModelFile; 1],
}

impl<'a> TensorFile<'a> {
    /// Lays out `tensors` without metadata.
    ///
    /// # Errors
    /// As [`with_metadata`](Self::with_metadata).
    pub fn new(tensors: &'a dyn TensorSource) -> Result<Self> {
        TensorFile::with_metadata(tensors, &BTreeMap::new())
    }

    /// Lays out `tensors`, and puts `metadata` into the head.
    ///
    /// # Errors
    /// `InvalidArgument`, with the tensor, when tensors are not in order of name, or one is called
    /// `__metadata__`; when all together exceed 2^64 bytes.
    pub fn with_metadata(
        tensors: &'a dyn TensorSource,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let entries = tensors.tensors();
        for pair in entries.windows(2) {
            if let [a, b] = pair
                && a.name >= b.name
            {
                let what = "the source does not list its tensors in the order of their names";
                return Err(Error::invalid_argument(what).in_tensor(&*b.name));
            }
        }
        let order = file_order(entries.iter().map(|e| &e.spec));
        let in_order = || order.iter().filter_map(|&i| entries.get(i));
        let head = head_of(in_order().map(|e| (&*e.name, &e.spec)), metadata)?;
        let head_len = head.len() as u64;
        let mut offsets = vec![0; entries.len()];
        let mut len = head_len;
        for (&index, entry) in order.iter().zip(in_order()) {
            if let Some(offset) = offsets.get_mut(index) {
                *offset = len;
            }
            len = len.checked_add(entry.spec.byte_len()).ok_or_else(|| {
                Error::invalid_argument(
                    "the sizes of the tensors overflow 64 \
                    bits",
                )
            })?;
        }
        let kind = FileKind::Safetensors { head_len, tensors: order };
        let files = [ModelFile { path: NAME.to_owned(), len, kind }];
        Ok(TensorFile { name: String::new(), tensors, head, offsets, files })
    }

    /// Gives the tensors a name: what a delta says of its base and its target.
    ///
    /// Without one, it says nothing.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says of which file and tensor an error of the source is.
    fn place(&self, index: usize, e: Error) -> Error {
        let e = match self.tensors.tensors().get(index) {
            Some(entry) => e.in_tensor(&*entry.name),
            None => e,
        };
        e.in_file(if self.name.is_empty() { NAME } else { &*self.name })
    }

    /// Returns the tensors that end after `offset` of the file.
    ///
    /// In order of offset, each with its bytes in the file.
    fn after(&self, offset: u64) -> impl Iterator<Item = (usize, Range<u64>)> {
        let order = match self.files.first().map(|f| &f.kind) {
            Some(FileKind::Safetensors { tensors, .. }) => &**tensors,
            _ => &[],
        };
        let bytes = |index: usize| {
            let (start, entry) = (*self.offsets.get(index)?, self.tensors.tensors().get(index)?);
            Some(start..start.saturating_add(entry.spec.byte_len()))
        };
        let first = order.partition_point(|&i| bytes(i).is_some_and(|b| b.end <= offset));
        let rest = order.get(first..).unwrap_or_default();
        rest.iter().filter_map(move |&index| Some((index, bytes(index)?)))
    }
}

impl std::fmt::Debug for TensorFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TensorFile").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TensorSource for TensorFile<'_> {
    fn tensors(&self) -> &[TensorEntry] {
        self.tensors.tensors()
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        self.tensors.read_range_into(index, offset, out).map_err(|e| self.place(index, e))
    }

    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        self.tensors.slice(index, offset, len)
    }

    fn read_many(&self, reads: &mut [TensorRead<'_>]) -> Result<()> {
        self.tensors.read_many(reads).map_err(|e| self.place(usize::MAX, e))
    }

    fn check_unchanged(&self) -> Result<()> {
        self.tensors.check_unchanged()
    }
}

impl ByteSource for TensorFile<'_> {
    fn byte_len(&self) -> u64 {
        self.files.first().map_or(0, |f| f.len)
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.byte_len());
        let end = end
            .ok_or_else(|| Error::truncated("the file ends before this byte").at_offset(offset))?;
        // The part of `out` that lies in `bytes` of the file.
        let mut rest = out;
        let mut part = |bytes: &Range<u64>| {
            let overlap = offset.max(bytes.start)..end.min(bytes.end);
            let len = overlap.end.saturating_sub(overlap.start) as usize;
            let (part, later) = std::mem::take(&mut rest).split_at_mut(len);
            rest = later;
            (overlap.start.saturating_sub(bytes.start), part)
        };
        let head = 0..self.head.len() as u64;
        let (from, out) = part(&head);
        if let Some(bytes) = self.head.get(from as usize..).and_then(|h| h.get(..out.len())) {
            out.copy_from_slice(bytes);
        }
        for (tensor, bytes) in self.after(offset).take_while(|(_, bytes)| bytes.start < end) {
            match part(&bytes) {
                (_, []) => {}
                (from, out) => TensorSource::read_range_into(self, tensor, from, out)?,
            }
        }
        Ok(())
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len as u64)?;
        if end <= self.head.len() as u64 {
            return self.head.get(offset as usize..end as usize);
        }
        let (tensor, bytes) = self.after(offset).next()?;
        let from = offset.checked_sub(bytes.start).filter(|_| end <= bytes.end)?;
        self.tensors.slice(tensor, from, len)
    }

    fn check_unchanged(&self) -> Result<()> {
        self.tensors.check_unchanged()
    }
}

impl Checkpoint for TensorFile<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_file(&self) -> bool {
        true
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn files(&self) -> &[ModelFile] {
        &self.files
    }

    fn file_source(&self, file: usize) -> Result<&dyn ByteSource> {
        match file {
            0 => Ok(self),
            _ => Err(Error::invalid_argument(format!("there is no file with index {file}"))),
        }
    }

    fn location(&self, index: usize) -> Option<TensorLocation<'_>> {
        let name = &self.tensors.tensors().get(index)?.name;
        Some(TensorLocation { file: 0, name, offset: *self.offsets.get(index)? })
    }
}

/// Orders tensors as the `safetensors` crate lays them out.
///
/// They are given in order of name. Wide types come first, so that all lie at multiples of their
/// width; then names count.
fn file_order<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> Vec<usize> {
    let mut order: Vec<_> = specs.map(|s| Reverse(rank(s.dtype()))).zip(0..).collect();
    order.sort();
    order.into_iter().map(|(_, index)| index).collect()
}

/// Returns the place of a type in the order of the `safetensors` crate.
fn rank(dtype: Dtype) -> usize {
    const NAMES: [&str; 22] = [
        "BOOL",
        "F4",
        "F6_E2M3",
        "F6_E3M2",
        "U8",
        "I8",
        "F8_E5M2",
        "F8_E4M3",
        "F8_E8M0",
        "F8_E4M3FNUZ",
        "F8_E5M2FNUZ",
        "I16",
        "U16",
        "F16",
        "BF16",
        "I32",
        "U32",
        "F32",
        "C64",
        "F64",
        "I64",
        "U64",
    ];
    NAMES.iter().position(|&n| n == dtype.name()).unwrap_or(NAMES.len())
}

/// Writes the head of a safetensors file: length and JSON.
///
/// `tensors` are in the order in which they lie in the file. The head is padded with spaces, so
/// that the first tensor begins at a multiple of 8 bytes.
///
/// # Errors
/// `InvalidArgument` for a tensor called `__metadata__`.
///
/// # Examples
/// ```
/// use sparse_core::{Dtype, TensorSpec};
/// use std::collections::BTreeMap;
///
/// let spec = TensorSpec::new(Dtype::U8, [2, 3])?;
/// let head = sparse_model::head_of([("w", &spec)], &BTreeMap::new())?;
/// assert_eq!(head.len() % 8, 0);
/// assert!(head[8..].starts_with(br#"{"w":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]}}"#));
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn head_of<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a TensorSpec)>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    const METADATA: &str = "__metadata__";
    let json = |e| Error::invalid_argument("the name cannot be written as JSON").with_source(e);
    let mut out = vec![0; 8];
    out.push(b'{');
    if !metadata.is_empty() {
        out.extend_from_slice(br#""__metadata__":"#);
        serde_json::to_writer(&mut out, metadata).map_err(json)?;
    }
    let mut at: u64 = 0;
    for (name, spec) in tensors {
        if name == METADATA {
            let what = "safetensors reserves this name for metadata: rename the tensor";
            return Err(Error::invalid_argument(what).in_tensor(name));
        }
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        let end = at.saturating_add(spec.byte_len());
        serde_json::to_writer(&mut out, name).map_err(json)?;
        let shape: Vec<String> = spec.shape().iter().map(u64::to_string).collect();
        out.extend_from_slice(
            format!(
                r#":{{"dtype":"{}","shape":[{}],"data_offsets":[{at},{end}]}}"#,
                spec.dtype().name(),
                shape.join(","),
            )
            .as_bytes(),
        );
        at = end;
    }
    out.push(b'}');
    out.resize(out.len().next_multiple_of(8), b' ');
    let len = (out.len() as u64).saturating_sub(8);
    if let Some(start) = out.first_chunk_mut() {
        *start = len.to_le_bytes();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SafeTensorsSource;
    use crate::testing::{file_bytes, t, u8s};
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    #[test]
    fn types_are_in_the_order_of_the_crate() {
        for &a in Dtype::ALL {
            for &b in Dtype::ALL {
                let theirs = |d| crate::dtype_to_safetensors(d).unwrap();
                assert_eq!(rank(a).cmp(&rank(b)), theirs(a).cmp(&theirs(b)), "{a} {b}");
            }
        }
    }

    /// Returns tensors of several types, and the `safetensors` crate's file of them.
    fn example(metadata: &BTreeMap<String, String>) -> (Vec<u8>, Vec<u8>) {
        let any = file_bytes(&[
            u8s("z", b"xyz"),
            t("a \"quoted\"\u{7}\u{e9}", Dtype::F32, &[], [7; 4]),
            u8s("empty", b""),
            t("fours", Dtype::F4, &[2, 3], [1, 2, 3]),
            t("half", Dtype::Bf16, &[2], [1, 2, 3, 4]),
        ]);
        let theirs = SafeTensors::deserialize(&any).unwrap();
        let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
        let written = safetensors::serialize(theirs.iter(), metadata).unwrap();
        (any, written)
    }

    #[test]
    fn the_file_is_the_one_that_the_crate_writes() {
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let (any, expected) = example(&metadata);
        let tensors = SafeTensorsSource::new(&SafeTensors::deserialize(&any).unwrap()).unwrap();
        let file = TensorFile::with_metadata(&tensors, &metadata).unwrap();
        assert_eq!(file.byte_len(), expected.len() as u64);
        let mut whole = vec![0; expected.len()];
        file.read_exact_at(0, &mut whole).unwrap();
        assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&expected));
        for index in 0..tensors.tensors().len() {
            let (place, spec) = (file.location(index).unwrap(), &tensors.tensors()[index].spec);
            let bytes = tensors.bytes(index).unwrap();
            let len = spec.byte_len() as usize;
            assert_eq!(*file.bytes_at(place.offset, len).unwrap(), *bytes);
            assert_eq!(ByteSource::slice(&file, place.offset, len), Some(&*bytes));
            assert_eq!(file.find_in_file(0, place.name), Some(index));
        }
        assert!(file.read_exact_at(expected.len() as u64, &mut [0]).is_err());
        assert!(file.file_source(1).is_err() && file.location(99).is_none());
        assert_eq!(*file.file_head(0).unwrap(), expected[..file.head.len()]);
    }

    /// A source whose tensors cannot be read.
    struct Gone([TensorEntry; 1]);

    impl TensorSource for Gone {
        fn tensors(&self) -> &[TensorEntry] {
            &self.0
        }

        fn read_range_into(&self, _: usize, _: u64, _: &mut [u8]) -> Result<()> {
            Err(Error::io("the store is gone", std::io::ErrorKind::NotFound.into()))
        }
    }

    #[test]
    fn errors_of_the_source_say_where() {
        let spec = TensorSpec::new(Dtype::U8, [1]).unwrap();
        let gone = Gone([TensorEntry { name: "w".to_owned(), spec }]);
        let file = TensorFile::new(&gone).unwrap();
        assert_eq!(Checkpoint::name(&file), "");
        let (read, end) = (TensorSource::read_range_into(&file, 0, 0, &mut [0]), file.byte_len());
        for e in [read.unwrap_err(), file.read_exact_at(end - 1, &mut [0]).unwrap_err()] {
            assert_eq!((e.file(), e.tensor()), (Some("model.safetensors"), Some("w")));
        }
        let file = file.named("step-7");
        assert_eq!(Checkpoint::name(&file), "step-7");
        let e = TensorSource::read_many(&file, &mut [TensorRead::new(0, 0, &mut [0])]).unwrap_err();
        assert_eq!(e.file(), Some("step-7"));
    }

    #[test]
    fn the_name_of_metadata_is_no_tensor() {
        let spec = TensorSpec::new(Dtype::U8, [1]).unwrap();
        let e = head_of([("__metadata__", &spec)], &BTreeMap::new()).unwrap_err();
        assert_eq!(e.tensor(), Some("__metadata__"));
    }

    proptest! {
        #[test]
        fn any_range_is_that_of_the_file(from in 0usize..700, len in 0usize..700) {
            let (any, expected) = example(&BTreeMap::new());
            let tensors = SafeTensorsSource::new(&SafeTensors::deserialize(&any).unwrap()).unwrap();
            let file = TensorFile::new(&tensors).unwrap();
            let (from, mut out) = (from.min(expected.len()), vec![0; len]);
            match expected.get(from..from + len) {
                Some(wanted) => {
                    file.read_exact_at(from as u64, &mut out).unwrap();
                    prop_assert_eq!(&out, wanted);
                    if let Some(slice) = ByteSource::slice(&file, from as u64, len) {
                        prop_assert_eq!(slice, wanted);
                    }
                }
                None => prop_assert!(file.read_exact_at(from as u64, &mut out).is_err()),
            }
        }
    }
}
