//! Number of threads.
//!
//! candle takes it from the environment, once and for all, and a program that forbids unsafe code
//! cannot change its environment. So the program starts itself anew, with the environment changed
//! and the request passed on in it; standard input stays as it is.

use sparse_core::{Error, Result};
use std::env;

/// Where candle and rayon look for the number of threads.
const THREADS: &str = "RAYON_NUM_THREADS";
/// Where the request is passed on.
const REQUEST: &str = "SPARSE_EVAL_REQUEST";
/// Most threads.
const MOST: usize = 1024;

/// Returns the request that an earlier process of this program read.
pub(super) fn passed_on() -> Option<String> {
    env::var(REQUEST).ok()
}

/// Makes sure that the work runs on `threads` threads, if a number is given. Where it must, it
/// starts the program anew, and then does not return.
///
/// # Errors
/// `InvalidArgument` when the number is impossible; `Io` when the program cannot be started anew.
pub(super) fn ensure(threads: Option<usize>, request: &str) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if threads == 0 || threads > MOST {
        let message = format!("\"threads\" must be from 1 to {MOST}, and is {threads}");
        return Err(Error::invalid_argument(message));
    }
    if number() == threads {
        return Ok(());
    }
    if passed_on().is_some() {
        let message = format!("the number of threads stays {}, and {threads} is wanted", number());
        return Err(Error::invalid_argument(message));
    }
    restart(threads, request)
}

#[cfg(unix)]
fn restart(threads: usize, request: &str) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let program = env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
    let error = std::process::Command::new(program)
        .env(THREADS, threads.to_string())
        .env("CANDLE_NUM_THREADS", threads.to_string())
        .env(REQUEST, request)
        .exec();
    let doing = format!("cannot start anew with {threads} threads: set {THREADS} before the start");
    Err(Error::io(doing, error))
}

#[cfg(not(unix))]
fn restart(threads: usize, _: &str) -> Result<()> {
    Err(Error::invalid_argument(format!(
        "the number of threads is {}: for {threads}, set {THREADS} before the program starts",
        number()
    )))
}

/// Returns the number of threads that candle uses.
pub(super) fn number() -> usize {
    candle_core::utils::get_num_threads()
}

/// Returns a pool of as many threads as candle uses.
pub(super) fn pool() -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(number()).build();
    pool.map_err(|e| Error::io("cannot start threads", std::io::Error::other(e)))
}
