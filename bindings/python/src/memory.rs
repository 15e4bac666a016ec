//! Memory that Python owns and that is filled here.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::{ptr, slice};

/// Bytes that a thread clears at once: the first touch of a page costs more than clearing it.
const PART: usize = 1 << 20;

/// Creates a `bytearray` of `len` bytes that `fill` writes.
///
/// pyo3's own constructor clears the bytes on one thread, with the interpreter's lock held; a whole
/// model takes 1.1 times as long to read then.
///
/// # Errors
/// `MemoryError`; what `fill` reports.
#[allow(unsafe_code)]
pub(crate) fn filled<'py>(
    py: Python<'py>,
    pool: &ThreadPool,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> PyResult<()>,
) -> PyResult<Bound<'py, PyByteArray>> {
    let size = isize::try_from(len)?;
    // SAFETY: The lock is held. Without a source the bytes are allocated and left as they are.
    let array = unsafe {
        let array = ffi::PyByteArray_FromStringAndSize(ptr::null(), size);
        Bound::from_owned_ptr_or_err(py, array)?.cast_into::<PyByteArray>()?
    };
    // SAFETY: The pointer is to `len` bytes, which stay where they are as long as nobody resizes
    // the array, and no other code knows of the array before this function returns.
    let bytes: &mut [MaybeUninit<u8>] =
        unsafe { slice::from_raw_parts_mut(ffi::PyByteArray_AsString(array.as_ptr()).cast(), len) };
    py.detach(|| {
        let clear = |part: &mut [MaybeUninit<u8>]| part.fill(MaybeUninit::new(0));
        if len <= PART {
            clear(bytes);
        } else {
            pool.install(|| bytes.par_chunks_mut(PART).for_each(clear));
        }
    });
    // SAFETY: All of them were written.
    let bytes = unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<u8>(), len) };
    fill(bytes)?;
    Ok(array)
}
