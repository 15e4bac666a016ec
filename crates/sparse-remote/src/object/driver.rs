//! The runtime that requests run on, and how a thread waits for one.

use sparse_core::{CancelToken, Error, ErrorKind, Result};
use std::fmt;
use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// How often a thread that waits looks at its cancel token.
const TICK: Duration = Duration::from_millis(50);

/// Current-thread runtime, driven by a thread of its own.
///
/// Any thread may wait for work on it, threads of another runtime included, and work goes on while
/// none waits. The thread ends with the driver.
pub(super) struct Driver {
    handle: Handle,
    /// Ends the thread when it is dropped.
    _stop: oneshot::Sender<()>,
}

impl Driver {
    /// Starts the thread. Up to `requests` requests are sent at a time, each on a thread.
    pub(super) fn start(requests: usize) -> Result<Driver> {
        let no_thread = |e| Error::io("cannot start a thread for requests", e);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(requests)
            .thread_name("sparse-request")
            .build()
            .map_err(no_thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let drive = move || {
            let _ = runtime.block_on(stopped);
            // Requests that nobody waits for must not hold up whoever drops the driver.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("sparse-objects".to_owned()).spawn(drive).map_err(no_thread)?;
        Ok(Driver { handle, _stop: stop })
    }

    /// Begins `work`.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Pending<T> {
        let (tell, result) = sync_channel(1);
        let task = self.handle.spawn(async move {
            let _ = tell.send(work.await);
        });
        Pending { result, task: task.abort_handle() }
    }

    /// Does `work` while the calling thread waits.
    ///
    /// # Errors
    /// That of `work`; `Cancelled` as soon as the token is.
    pub(super) fn run<T: Send + 'static>(
        &self,
        cancel: &CancelToken,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        cancel.check()?;
        self.spawn(work).wait(cancel)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// Work that goes on; dropped, it is given up.
pub(super) struct Pending<T> {
    result: Receiver<Result<T>>,
    task: AbortHandle,
}

impl<T> Pending<T> {
    /// Waits for the end.
    ///
    /// # Errors
    /// That of the work; `Cancelled` as soon as the token is.
    pub(super) fn wait(self, cancel: &CancelToken) -> Result<T> {
        loop {
            match self.result.recv_timeout(TICK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    let e = "a request ended without a result: please report this";
                    return Err(Error::new(ErrorKind::Internal, e));
                }
            }
        }
    }

    /// Waits until `deadline` at most, and returns the result if there is one by then.
    pub(super) fn wait_until(self, deadline: Instant) -> Option<Result<T>> {
        self.result.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_runtime_may_wait() {
        let driver = Driver::start(2).unwrap();
        let outer = Builder::new_current_thread().build().unwrap();
        let got = outer.block_on(async { driver.run(&CancelToken::new(), async { Ok(7) }) });
        assert_eq!(got.unwrap(), 7);
    }

    #[test]
    fn cancelling_ends_the_wait() {
        let driver = Driver::start(1).unwrap();
        let cancel = CancelToken::new();
        let begun = Instant::now();
        let e = thread::scope(|s| {
            let waits = s.spawn(|| {
                driver.run(&cancel, async {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Ok(())
                })
            });
            cancel.cancel();
            waits.join().unwrap().unwrap_err()
        });
        assert_eq!(e.kind(), ErrorKind::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn work_that_panics_is_an_error() {
        let driver = Driver::start(1).unwrap();
        let e = driver.run::<()>(&CancelToken::new(), async { panic!("on purpose") });
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Internal);
    }
}
