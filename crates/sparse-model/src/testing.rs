//! What the tests of several modules share: a tiny safetensors writer.

use sparse_core::{Dtype, Error, Result, TensorEntry, TensorSource, TensorSpec, check_range};
use std::path::Path;

/// Tensor to write.
#[derive(Clone, Debug)]
pub(crate) struct T {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

/// Creates a tensor with these bytes.
pub(crate) fn t(name: &str, dtype: Dtype, shape: &[u64], bytes: impl Into<Vec<u8>>) -> T {
    T { name: name.into(), dtype, shape: shape.into(), bytes: bytes.into() }
}

/// Creates a U8 vector.
pub(crate) fn u8s(name: &str, bytes: &[u8]) -> T {
    t(name, Dtype::U8, &[bytes.len() as u64], bytes)
}

/// Returns the bytes of a safetensors file with these tensors, in this order.
pub(crate) fn file_bytes(tensors: &[T]) -> Vec<u8> {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut data = Vec::new();
    for t in tensors {
        let end = data.len() + t.bytes.len();
        json += &format!(
            r#",{}:{{"dtype":"{}","shape":{:?},"data_offsets":[{},{end}]}}"#,
            serde_json::to_string(&t.name).unwrap(),
            t.dtype,
            t.shape,
            data.len()
        );
        data.extend(&t.bytes);
    }
    json += "}";
    with_header(json.as_bytes(), &data)
}

/// Returns a file of this header, right or wrong, and this data.
pub(crate) fn with_header(json: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json);
    out.extend(data);
    out
}

/// Writes a file below `root`, and the folders it needs.
pub(crate) fn put(root: &Path, relative: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(relative);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Tensor source in memory that counts what is read.
pub(crate) struct Memory {
    entries: Vec<TensorEntry>,
    bytes: Vec<Vec<u8>>,
    pub(crate) read: std::sync::atomic::AtomicU64,
}

/// Creates a source of these tensors.
pub(crate) fn memory(mut tensors: Vec<T>) -> Memory {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let entry = |t: &T| TensorEntry {
        name: t.name.clone(),
        spec: TensorSpec::new(t.dtype, t.shape.clone()).unwrap(),
    };
    let entries: Vec<_> = tensors.iter().map(entry).collect();
    assert!(entries.iter().zip(&tensors).all(|(e, t)| e.spec.byte_len() == t.bytes.len() as u64));
    Memory { entries, bytes: tensors.into_iter().map(|t| t.bytes).collect(), read: 0.into() }
}

impl TensorSource for Memory {
    fn tensors(&self) -> &[TensorEntry] {
        &self.entries
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(&self.entries, index, offset, out.len())?;
        self.read.fetch_add(out.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let bytes = self.bytes[index].get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| Error::truncated("no more"))?);
        Ok(())
    }
}
