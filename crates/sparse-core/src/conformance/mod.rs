//! A test suite that any codec passes in one line.
