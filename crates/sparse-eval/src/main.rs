//! The program `sparse-eval`: evaluates models for other programs.
//!
//! It reads one request from standard input and writes lines of JSON to standard output:
//! `docs/eval-protocol.md`.

mod worker;

fn main() -> std::process::ExitCode {
    worker::run()
}
