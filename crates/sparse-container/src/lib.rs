//! The Sparse delta file: header, index, chunk table, checksums, streaming writer, random-access reader. Knows no codec.
