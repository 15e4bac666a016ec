//! The server: it listens, and has a thread for each connection.

use super::faults::{Fault, Faults};
use super::log::{Log, Request};
use super::routes;
use super::site::Site;
use super::wire::Incoming;
use sparse_core::{Error, Result};
use std::fmt;
use std::io::{self, BufReader, BufWriter};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Server on loopback, which stops when it is dropped.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::{Content, Fault, Faults, Site, TestServer};
///
/// let server = TestServer::start(Site::new().with_file("a.bin", Content::new(vec![1, 2, 3])))?;
/// let url = format!("{}/files/a.bin", server.endpoint());
/// server.set_faults(Faults::script([Some(Fault::Status(503))]));
/// server.update(|site| site.set_file("a.bin", Content::new(vec![4, 5, 6])));
/// # let _ = url;
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct TestServer {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("address", &self.shared.address).finish()
    }
}

struct Shared {
    address: SocketAddr,
    site: Mutex<Site>,
    faults: Mutex<Faults>,
    log: Mutex<Log>,
    stopped: AtomicBool,
    /// Connections, to be closed at the end.
    open: Mutex<Vec<TcpStream>>,
}

impl TestServer {
    /// Starts to serve `site` at a free port of 127.0.0.1.
    ///
    /// # Errors
    /// `Io` when no port can be had.
    pub fn start(site: Site) -> Result<TestServer> {
        let failed = |e| Error::io("cannot listen on 127.0.0.1", e);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let shared = Arc::new(Shared {
            address: listener.local_addr().map_err(failed)?,
            site: Mutex::new(site),
            faults: Mutex::new(Faults::none()),
            log: Mutex::default(),
            stopped: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let inside = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || inside.accept(&listener));
        Ok(TestServer { shared, acceptor: Some(acceptor) })
    }

    /// Returns the address of the Hub that it plays, such as `http://127.0.0.1:40000`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// Returns what was asked so far.
    pub fn log(&self) -> Log {
        lock(&self.shared.log).clone()
    }

    /// Forgets what was asked so far.
    pub fn clear_log(&self) {
        *lock(&self.shared.log) = Log::default();
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// Changes what is served from now on.
    pub fn update(&self, change: impl FnOnce(&mut Site)) {
        change(&mut lock(&self.shared.site));
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.shared.address));
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Locks; what a thread left that panicked is still good.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            lock(&self.log).connected();
            let Ok(other) = stream.try_clone() else { continue };
            lock(&self.open).push(other);
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                // A client that goes away is no fault of the server.
                let _ = shared.converse(&stream);
                let _ = stream.shutdown(Shutdown::Both);
                let me = stream.peer_addr().ok();
                lock(&shared.open).retain(|s| me.is_some() && s.peer_addr().ok() != me);
            });
        }
    }

    /// Answers the requests of one connection.
    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = BufReader::new(stream);
        while let Some(request) = Incoming::read(&mut input)? {
            if self.stopped.load(Ordering::Relaxed) || !self.answer(&request, stream)? {
                break;
            }
        }
        Ok(())
    }

    /// Answers one request; returns whether there may be another.
    fn answer(&self, request: &Incoming, stream: &TcpStream) -> io::Result<bool> {
        let (fault, stall) = {
            let mut faults = lock(&self.faults);
            (faults.next(&request.target), faults.stall_time())
        };
        if matches!(fault, Some(Fault::Close | Fault::Stall)) {
            self.record(request, 0, 0);
            if fault == Some(Fault::Stall) {
                self.wait(stall);
            }
            return Ok(false);
        }
        let answer = routes::answer(&mut lock(&self.site), request, self.address.port());
        let answer = answer.spoiled(fault, request);
        // Recorded before it is sent, so that a client that has it finds it in the log.
        let planned = answer.planned(request, fault);
        let number = self.record(request, answer.status, planned);
        let mut sent = 0;
        let done = answer.send(&mut BufWriter::new(stream), request, fault, &mut sent);
        if sent != planned {
            lock(&self.log).correct(number, sent);
        }
        done?;
        if fault == Some(Fault::StallBody) && planned > 0 {
            self.wait(stall);
        }
        Ok(!answer.is_last(request, fault))
    }

    /// Adds a request to the log; returns its number.
    fn record(&self, request: &Incoming, status: u16, sent: u64) -> usize {
        let header = |name| request.header(name).map(str::to_owned);
        lock(&self.log).add(Request {
            method: request.method.clone(),
            path: request.target.clone(),
            host: request.host().to_owned(),
            range: header("range"),
            authorization: header("authorization"),
            status,
            sent,
        })
    }

    /// Waits, at most until the server stops.
    fn wait(&self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time && !self.stopped.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
