//! Bytes from elsewhere, as [`ByteSource`](sparse_core::ByteSource).

#![forbid(unsafe_code)]
