//! The command `sparse`.
fn main() {}
