//! Files that hold tensors in another form than safetensors.
//!
//! A form has a file of its own, which finds tensors, their types, shapes and places; what lies
//! between them is kept as bytes. What is odd in any way is no such file: it is then stored as
//! plain bytes, so that nothing here reports an error, and nothing here needs to be right for a
//! file to come back.

mod gguf;
mod numpy;
mod pickle;
mod torch;
#[cfg(test)]
mod torch_tests;
mod zip;

use crate::header::HeaderTensor;
use sparse_core::ByteSource;
use std::collections::HashSet;
use std::fmt;

/// Form in which a file holds its tensors, other than safetensors.
///
/// # Examples
///
/// ```
/// use sparse_model::ContainerFormat;
///
/// assert_eq!(ContainerFormat::of_name("unet/pytorch_model.bin"), Some(ContainerFormat::Torch));
/// assert_eq!(ContainerFormat::of_name("config.json"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerFormat {
    /// What `torch.save` writes since PyTorch 1.6: a zip archive of storages and a pickle.
    Torch,
    /// GGUF, of llama.cpp.
    Gguf,
    /// One array of NumPy, `.npy`.
    Npy,
    /// An archive of arrays of NumPy that are not compressed, `.npz`.
    Npz,
}

impl fmt::Display for ContainerFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContainerFormat::Torch => "PyTorch",
            ContainerFormat::Gguf => "GGUF",
            ContainerFormat::Npy | ContainerFormat::Npz => "NumPy",
        })
    }
}

/// Shortest tensor that is taken out of its file, in bytes: a shorter one costs more as a tensor of
/// its own than among the bytes around it.
const MIN_TENSOR_BYTES: u64 = 256;

impl ContainerFormat {
    /// Returns the form that a file of this name may have.
    pub fn of_name(path: &str) -> Option<ContainerFormat> {
        let (_, ending) = path.rsplit_once('.')?;
        match &*ending.to_ascii_lowercase() {
            "bin" | "pt" | "pth" | "ckpt" => Some(ContainerFormat::Torch),
            "gguf" => Some(ContainerFormat::Gguf),
            "npy" => Some(ContainerFormat::Npy),
            "npz" => Some(ContainerFormat::Npz),
            _ => None,
        }
    }

    /// Finds the tensors of `file`, in the order in which they lie in it.
    ///
    /// They do not overlap, their names differ, and none is shorter than 256 bytes. Empty if the
    /// file has another form, or is odd: it is then to be taken as plain bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use sparse_model::ContainerFormat;
    ///
    /// let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (300,), }\n";
    /// let len = (header.len() as u16).to_le_bytes();
    /// let file = [&b"\x93NUMPY\x01\0"[..], &len, header.as_bytes(), &[7; 300]].concat();
    /// assert_eq!(ContainerFormat::Npy.tensors(&file)[0].spec.shape(), [300]);
    /// assert!(ContainerFormat::Torch.tensors(&file).is_empty());
    /// ```
    pub fn tensors(self, file: &dyn ByteSource) -> Vec<HeaderTensor> {
        let found = match self {
            ContainerFormat::Torch => torch::tensors(file),
            ContainerFormat::Gguf => gguf::tensors(file),
            ContainerFormat::Npy => numpy::array(file),
            ContainerFormat::Npz => numpy::archive(file),
        };
        apart(found.unwrap_or_default(), file.byte_len())
    }
}

/// Sorts tensors by their places; leaves out what is short, overlaps an earlier one, lies outside
/// of the file, or has an earlier one's name.
fn apart(mut tensors: Vec<HeaderTensor>, file_len: u64) -> Vec<HeaderTensor> {
    // Stable: of two at the same place, the first that was found stays.
    tensors.sort_by_key(|t| t.offset);
    let (mut end, mut names) = (0, HashSet::new());
    tensors.retain(|tensor| {
        let len = tensor.spec.byte_len();
        let to = tensor.offset.checked_add(len).filter(|&to| to <= file_len);
        let Some(to) = to.filter(|_| len >= MIN_TENSOR_BYTES && tensor.offset >= end) else {
            return false;
        };
        if tensor.name.is_empty() || !names.insert(tensor.name.clone()) {
            return false;
        }
        end = to;
        true
    });
    tensors
}
