//! An open delta file.
