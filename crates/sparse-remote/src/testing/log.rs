//! What a server was asked.

/// One request, and what was sent in return.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::{Site, TestServer};
///
/// let server = TestServer::start(Site::new())?;
/// for request in server.log().requests() {
///     println!("{} {}: {} bytes", request.method, request.path, request.sent);
/// }
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Method, such as `GET`.
    pub method: String,
    /// Path with the query, as it was sent.
    pub path: String,
    /// Name of the host that was asked, without the port.
    pub host: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// Status of the answer; 0 when the connection was closed instead.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub sent: u64,
}

/// All requests to a server so far, in the order of their answers.
///
/// # Examples
///
/// ```
/// use sparse_remote::testing::{Site, TestServer};
///
/// let server = TestServer::start(Site::new())?;
/// assert_eq!(server.log().count("GET", "/"), 0);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Log {
    requests: Vec<Request>,
    connections: u64,
}

impl Log {
    /// Returns the requests.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Returns how many connections were opened.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Counts the requests with this method and with `part` in their path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.requests.iter().filter(|r| r.method == method && r.path.contains(part)).count()
    }

    /// Returns the number of bytes of bodies sent.
    pub fn sent(&self) -> u64 {
        self.requests.iter().map(|r| r.sent).sum()
    }

    /// Returns the headers `Range` of all requests that had one.
    pub fn ranges(&self) -> Vec<&str> {
        self.requests.iter().filter_map(|r| r.range.as_deref()).collect()
    }

    /// Returns the headers `Authorization` that arrived at the host of this name.
    pub fn authorizations(&self, host: &str) -> Vec<&str> {
        let at_host = self.requests.iter().filter(|r| r.host == host);
        at_host.filter_map(|r| r.authorization.as_deref()).collect()
    }

    /// Adds a request; returns its number.
    pub(super) fn add(&mut self, request: Request) -> usize {
        self.requests.push(request);
        self.requests.len() - 1
    }

    /// Sets how much was sent in answer to a request that broke off.
    pub(super) fn correct(&mut self, number: usize, sent: u64) {
        if let Some(request) = self.requests.get_mut(number) {
            request.sent = sent;
        }
    }

    /// Counts a connection.
    pub(super) fn connected(&mut self) {
        self.connections += 1;
    }
}
