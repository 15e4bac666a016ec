//! Memory for what untrusted files declare.

use crate::{Error, ErrorKind, Result};

/// Allocates an empty vector with room for `len` elements.
///
/// For lengths that a file declares: a budget bounds them, but a machine may have less.
///
/// # Errors
/// `LimitExceeded` when the memory cannot be had.
pub fn with_room<T>(len: usize) -> Result<Vec<T>> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| {
        let bytes = len.saturating_mul(size_of::<T>());
        let message = format!("{bytes} bytes do not fit in memory");
        Error::new(ErrorKind::LimitExceeded, message)
    })?;
    Ok(out)
}

/// Allocates `len` zeros, as [`with_room`] does.
///
/// # Errors
/// `LimitExceeded` when the memory cannot be had.
pub fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>> {
    let mut out = with_room(len)?;
    out.resize(len, T::default());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert_eq!(zeros::<u16>(3).unwrap(), [0; 3]);
        for len in [usize::MAX / 2, usize::MAX] {
            assert_eq!(zeros::<u32>(len).unwrap_err().kind(), ErrorKind::LimitExceeded);
        }
    }
}
