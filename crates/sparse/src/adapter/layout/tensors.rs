//! Tensors of an adapter, and a file of them.

use sparse_codecs::certificate::count_not_finite;
use sparse_core::{Dtype, Error, Result, TensorSpec};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A tensor's values, and its shape.
pub(in crate::adapter) type Values = (Vec<f32>, Vec<u64>);

/// A module's factors, ready to be stored, with the shapes that PEFT gives them.
pub(in crate::adapter) struct Stored {
    pub(in crate::adapter) path: String,
    pub(in crate::adapter) a: Values,
    pub(in crate::adapter) b: Values,
}

impl Stored {
    /// Returns the rank, zeros that fill it up included.
    pub(super) fn rank(&self) -> u64 {
        self.a.1.first().copied().unwrap_or(0)
    }
}

/// What a tensor holds.
pub(super) enum Content<'a> {
    /// Numbers to be rounded to its type.
    Values(&'a [f32]),
    /// Its bytes.
    Bytes(&'a [u8]),
}

/// Tensor to be written.
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) spec: TensorSpec,
    pub(super) content: Content<'a>,
}

impl Tensor<'_> {
    /// Returns the bytes in the file.
    ///
    /// # Errors
    /// `InvalidArgument`, with the tensor, when a value is no finite number in its type.
    pub(super) fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let values = match self.content {
            Content::Values(values) => values,
            Content::Bytes(bytes) => return Ok(Cow::Borrowed(bytes)),
        };
        let dtype = self.spec.dtype();
        let out = words(dtype, values);
        if count_not_finite(dtype, &out) > 0 {
            let message = format!(
                "a factor exceeds the range of {dtype}: choose another type for the factors"
            );
            return Err(Error::invalid_argument(message).in_tensor(&*self.name));
        }
        Ok(Cow::Owned(out))
    }
}

fn words(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * dtype.storage_bytes());
    for &x in values {
        sparse_codecs::values::put(dtype, f64::from(x), &mut out);
    }
    out
}

/// Returns the bytes of a file of tensors.
///
/// # Errors
/// As [`Tensor::bytes`].
pub(super) fn safetensors(
    mut tensors: Vec<Tensor<'_>>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let entries = tensors.iter().map(|t| (&*t.name, &t.spec));
    let mut out = sparse_model::head_of(entries, metadata)?;
    for tensor in &tensors {
        out.extend_from_slice(&tensor.bytes()?);
    }
    Ok(out)
}

/// Returns a matrix of `columns` columns with rows and columns exchanged.
pub(in crate::adapter) fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| values.iter().skip(j).step_by(columns).copied()).collect()
}

/// Quotes a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quoted("a.b"), "\"a.b\"");
        assert_eq!(quoted("a\"\\\n"), "\"a\\\"\\\\\\u000a\"");
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
