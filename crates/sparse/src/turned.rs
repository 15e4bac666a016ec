//! Matrices of a base with rows and columns exchanged.
//!
//! Some libraries store linear weights as `[in, out]`, others as `[out, in]`; a delta can refer to
//! either as the other. Of a tensor with more than two dimensions, the last two are exchanged.

use sparse_core::{Error, ErrorKind, Result, TensorSource, TensorSpec};
use std::sync::{Arc, Mutex, PoisonError};

/// Largest matrix that is turned: it is held in memory.
const MOST_BYTES: u64 = 1 << 30;
/// Bytes of turned matrices that are kept; two are in any case.
const KEPT_BYTES: usize = 128 << 20;
/// Rows and columns that are turned at a time, so that both sides stay in the cache.
const TILE: usize = 32;

/// Returns the type and shape with the last two dimensions exchanged.
///
/// `None` where there are no two, where elements are not whole bytes, or for a matrix that is too
/// large.
pub(crate) fn turned(spec: &TensorSpec) -> Option<TensorSpec> {
    let mut shape = spec.shape().to_vec();
    let [.., rows, columns] = shape.as_mut_slice() else { return None };
    let width = spec.dtype().storage_bytes() as u64;
    let bytes = rows.checked_mul(*columns)?.checked_mul(width)?;
    let whole = spec.dtype().bits() as u64 == 8 * width;
    std::mem::swap(rows, columns);
    let fits = whole && bytes > 0 && bytes <= MOST_BYTES;
    fits.then(|| TensorSpec::new(spec.dtype(), shape).ok()).flatten()
}

/// Matrix that was turned: its tensor, its number in it, and its bytes.
type Held = (usize, u64, Arc<Vec<u8>>);

/// Reader of turned matrices, which keeps the last ones.
pub(crate) struct Turner {
    held: Mutex<Vec<Held>>,
    /// Taken while a matrix is turned, so that it is turned once.
    turning: Option<Mutex<()>>,
}

impl std::fmt::Debug for Turner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turner").finish_non_exhaustive()
    }
}

impl Turner {
    /// Creates a reader of tensors in files.
    pub(crate) fn of_files() -> Turner {
        Turner { held: Mutex::default(), turning: Some(Mutex::default()) }
    }

    /// Creates a reader of any tensors.
    ///
    /// Reading them may wait for other work, so that nobody waits for who reads: at worst, several
    /// threads turn the same matrix.
    pub(crate) fn of_any() -> Turner {
        Turner { held: Mutex::default(), turning: None }
    }

    /// Reads from byte `offset` on of what `model`'s tensor is with its last dimensions exchanged.
    ///
    /// # Errors
    /// `InvalidArgument` for a range or a tensor that there is not; what reading reports.
    pub(crate) fn read(
        &self,
        model: &dyn TensorSource,
        tensor: usize,
        mut offset: u64,
        mut out: &mut [u8],
    ) -> Result<()> {
        let none = || Error::invalid_argument("there are no such bytes of a turned matrix");
        let spec = &model.tensors().get(tensor).ok_or_else(none)?.spec;
        turned(spec).ok_or_else(none)?;
        let [.., rows, columns] = *spec.shape() else { return Err(none()) };
        let width = spec.dtype().storage_bytes();
        let each = rows * columns * width as u64;
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > spec.byte_len()) {
            return Err(none());
        }
        while !out.is_empty() {
            let (number, at) = (offset / each, offset % each);
            let matrix = self.matrix(model, tensor, number, (rows, columns, width))?;
            let len = (each - at).min(out.len() as u64);
            let (now, rest) = std::mem::take(&mut out).split_at_mut(len as usize);
            let bytes = matrix.get(at as usize..(at + len) as usize).ok_or_else(none)?;
            now.copy_from_slice(bytes);
            (out, offset) = (rest, offset + len);
        }
        Ok(())
    }

    /// Finds a matrix that was turned before, and keeps it longer.
    fn find(&self, tensor: usize, number: u64) -> Option<Arc<Vec<u8>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().position(|h| (h.0, h.1) == (tensor, number))?;
        let found = held.remove(at);
        held.push(found);
        held.last().map(|h| h.2.clone())
    }

    fn matrix(
        &self,
        model: &dyn TensorSource,
        tensor: usize,
        number: u64,
        (rows, columns, width): (u64, u64, usize),
    ) -> Result<Arc<Vec<u8>>> {
        if let Some(found) = self.find(tensor, number) {
            return Ok(found);
        }
        let turning = self.turning.as_ref().map(Mutex::lock);
        let _turning = turning.map(|lock| lock.unwrap_or_else(PoisonError::into_inner));
        if let Some(found) = self.find(tensor, number) {
            return Ok(found);
        }
        let each = rows * columns * width as u64;
        let too_large = || Error::new(ErrorKind::LimitExceeded, "a matrix is too large to turn");
        let each_bytes = usize::try_from(each).map_err(|_| too_large())?;
        let mut bytes = sparse_core::zeros(each_bytes)?;
        model.read_range_into(tensor, number * each, &mut bytes)?;
        let mut out = sparse_core::zeros(each_bytes)?;
        let shape = (rows as usize, columns as usize);
        match width {
            1 => turn::<1>(&bytes, &mut out, shape),
            2 => turn::<2>(&bytes, &mut out, shape),
            4 => turn::<4>(&bytes, &mut out, shape),
            _ => turn::<8>(&bytes, &mut out, shape),
        }
        drop(bytes);
        let out = Arc::new(out);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push((tensor, number, out.clone()));
        let kept = |held: &[Held]| held.iter().map(|h| h.2.len()).sum::<usize>();
        while held.len() > 2 && kept(&held) > KEPT_BYTES {
            held.remove(0);
        }
        Ok(out)
    }
}

/// Exchanges rows and columns of a matrix of `rows` times `columns` words.
fn turn<const N: usize>(bytes: &[u8], out: &mut [u8], (rows, columns): (usize, usize)) {
    let (words, out) = (bytes.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
    for first_row in (0..rows).step_by(TILE) {
        for first in (0..columns).step_by(TILE) {
            for row in first_row..(first_row + TILE).min(rows) {
                for column in first..(first + TILE).min(columns) {
                    let from = words.get(row * columns + column);
                    if let (Some(to), Some(from)) = (out.get_mut(column * rows + row), from) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sparse_core::{Dtype, TensorEntry};

    struct One(Vec<TensorEntry>, Vec<u8>);

    impl TensorSource for One {
        fn tensors(&self) -> &[TensorEntry] {
            &self.0
        }

        fn read_range_into(&self, _: usize, offset: u64, out: &mut [u8]) -> Result<()> {
            out.copy_from_slice(&self.1[offset as usize..][..out.len()]);
            Ok(())
        }
    }

    #[test]
    fn every_range_of_a_stack() {
        let (stack, rows, columns) = (3, 37, 41);
        let words: Vec<u16> = (0..stack * rows * columns).map(|i| i as u16 * 7).collect();
        let spec = TensorSpec::new(Dtype::Bf16, [stack as u64, rows as u64, columns as u64]);
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let model = One(vec![TensorEntry { name: "w".into(), spec: spec.unwrap() }], bytes);
        assert_eq!(turned(&model.0[0].spec).unwrap().shape(), [3, 41, 37]);
        let mut want = Vec::new();
        for m in 0..stack {
            for c in 0..columns {
                for r in 0..rows {
                    want.extend(words[(m * rows + r) * columns + c].to_le_bytes());
                }
            }
        }
        for turner in [Turner::of_files(), Turner::of_any()] {
            let ranges = [(0, want.len()), (1, 5), (rows * columns * 2 - 3, 900), (want.len(), 0)];
            for (at, len) in ranges {
                let mut out = vec![0; len];
                turner.read(&model, 0, at as u64, &mut out).unwrap();
                assert_eq!(out, want[at..at + len], "{at} {len}");
            }
            assert!(turner.read(&model, 0, want.len() as u64, &mut [0]).is_err());
            assert!(turner.read(&model, 1, 0, &mut [0]).is_err());
        }
    }

    #[test]
    fn what_has_no_two_dimensions_is_not_turned() {
        let of = |shape: &[u64]| turned(&TensorSpec::new(Dtype::F32, shape).unwrap());
        assert_eq!((of(&[]), of(&[5]), of(&[0, 5])), (None, None, None));
        assert_eq!(of(&[1 << 20, 1 << 20]), None);
        assert_eq!(of(&[2, 5]).unwrap().shape(), [5, 2]);
        assert_eq!(turned(&TensorSpec::new(Dtype::F4, [2, 4]).unwrap()), None);
    }
}
