//! Requests, redirects, and who is told the token.

use super::agent::agent;
use super::answer::Answer;
use super::credential::{Credential, Token};
use super::notice::Notice;
use super::paced::Paced;
use super::retry::{Attempt, Retry};
use crate::Url;
use sparse_core::{ByteSource, CancelToken, Error, ErrorKind, Result};
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Request, Response, header};
use ureq::{Agent, Body, SendBody};

/// Redirects that one request follows.
const MOST_REDIRECTS: u32 = 10;

/// Settings of a [`Client`].
///
/// # Examples
///
/// ```
/// use sparse_remote::{Client, ClientOptions};
/// use std::time::Duration;
///
/// let mut options = ClientOptions::default();
/// options.stall = Duration::from_secs(10);
/// let client = Client::new(options)?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// When requests are made again.
    pub retry: Retry,
    /// How long a server may say nothing before it counts as stalled. 30 s by default.
    pub stall: Duration,
    /// Stops requests and waits.
    pub cancel: CancelToken,
    /// Is told of waits that a person would notice. Nobody by default.
    pub notice: Notice,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            retry: Retry::default(),
            stall: Duration::from_secs(30),
            cancel: CancelToken::new(),
            notice: Notice::default(),
        }
    }
}

/// Verb of a request.
///
/// # Examples
///
/// ```
/// use sparse_remote::{Call, Method, Url};
///
/// let url = Url::parse("https://example.com/api")?;
/// let call = Call::new(Method::Head, &url).header("accept", "application/json");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// Headers alone.
    Head,
    /// Headers and body.
    Get,
    /// Sends something to be processed.
    Post,
    /// Sends a file.
    Put,
}

/// What a request sends.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// Bytes from an offset on, and how many.
    Part(&'a dyn ByteSource, u64, u64),
}

/// Request of a [`Client`].
///
/// # Examples
///
/// ```
/// use sparse_remote::{Answer, Call, Client, Method, Url};
///
/// /// Puts a file on a server, unless it has one there.
/// fn put(client: &Client, url: &Url, bytes: &[u8]) -> sparse_core::Result<Answer> {
///     let call = Call::new(Method::Put, url).header("if-none-match", "*");
///     client.send(&call.bytes(bytes))?.succeed()
/// }
/// ```
#[derive(Clone)]
pub struct Call<'a> {
    method: Method,
    url: &'a Url,
    headers: Vec<(&'a str, String)>,
    payload: Payload<'a>,
    same_origin: bool,
}

impl<'a> Call<'a> {
    /// Prepares a request.
    pub fn new(method: Method, url: &'a Url) -> Call<'a> {
        let payload = Payload::Nothing;
        Call { method, url, headers: Vec::new(), payload, same_origin: false }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends these bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &'a [u8]) -> Self {
        self.payload = Payload::Bytes(bytes);
        self
    }

    /// Sends `len` bytes of `source`, from byte `start` on.
    ///
    /// They are read as they are sent, and not held in memory.
    #[must_use]
    pub fn part(mut self, source: &'a dyn ByteSource, start: u64, len: u64) -> Self {
        self.payload = Payload::Part(source, start, len);
        self
    }

    /// Follows redirects within the origin alone: one that leads to another is the answer.
    ///
    /// The Hub says in such an answer what the file is.
    #[must_use]
    pub fn stay_at_origin(mut self) -> Self {
        self.same_origin = true;
        self
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold secrets.
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Client of HTTP and HTTPS; cheap to clone, and shared by threads.
///
/// Connections are kept and used again. Proxies are taken from the environment (`HTTPS_PROXY`,
/// `NO_PROXY`), and so are certificates (`SSL_CERT_FILE`).
///
/// # Examples
///
/// ```no_run
/// use sparse_remote::{Call, Client, Method, Url};
///
/// let client = Client::new(Default::default())?;
/// let url = Url::parse("https://example.com/config.json")?;
/// let bytes = client.send(&Call::new(Method::Get, &url))?.succeed()?.into_bytes(1 << 20)?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    options: Arc<ClientOptions>,
    credentials: Arc<Vec<Credential>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    /// What reading the certificates reports that the environment names.
    pub fn new(options: ClientOptions) -> Result<Client> {
        let agent = agent(options.stall, options.stall)?;
        Ok(Client { agent, options: Arc::new(options), credentials: Arc::default() })
    }

    /// Returns the client with `token` for requests to the origin of `url`.
    #[must_use]
    pub fn with_token(&self, url: &Url, token: &Token) -> Client {
        let mut credentials = (*self.credentials).clone();
        credentials.push(Credential::bearer(url, token));
        Client { credentials: Arc::new(credentials), ..self.clone() }
    }

    /// Returns the token that stops requests.
    pub fn cancel(&self) -> &CancelToken {
        &self.options.cancel
    }

    /// Sends a request, again where that may help, and returns the answer.
    ///
    /// An answer is one whatever its status; see [`Answer::succeed`].
    ///
    /// Redirects are followed for [`Get`](Method::Get) and [`Head`](Method::Head) only, and from
    /// HTTPS to HTTP never.
    ///
    /// # Errors
    /// With the URL: `Unavailable` when the server cannot be reached, stalls, or fails each time;
    /// `Io` for what is not HTTP; `Cancelled`.
    pub fn send(&self, call: &Call<'_>) -> Result<Answer> {
        self.retry(|| self.try_send(call))
    }

    /// Sends a request and reads its answer whole, again where that may help.
    ///
    /// # Errors
    /// As [`send`](Self::send); `LimitExceeded` when the body is longer than `most` bytes.
    pub fn send_whole(&self, call: &Call<'_>, most: u64) -> Result<Answer> {
        self.retry(|| self.try_send(call)?.read_whole(most))
    }

    /// Does `attempt` as often as this client tries a request.
    pub(crate) fn retry<T>(&self, attempt: impl FnMut() -> Result<T, Attempt>) -> Result<T> {
        self.options.retry.run(&self.options.cancel, &self.options.notice, attempt)
    }

    /// Sends a request once.
    pub(crate) fn try_send(&self, call: &Call<'_>) -> Result<Answer, Attempt> {
        let mut url = call.url.clone();
        let mut secrets = Vec::new();
        for _ in 0..=MOST_REDIRECTS {
            url.secrets(&mut secrets);
            let mut answer = self.exchange(call, &url, &mut secrets)?;
            answer.secrets.clone_from(&secrets);
            let target = match answer.status() {
                301 | 302 | 303 | 307 | 308 => answer.header("location"),
                _ => None,
            };
            let Some(target) = target else { return answer.check_transient() };
            let next = url.join(target).map_err(|_| {
                let e = "the server redirects to something that is no web server";
                Error::new(ErrorKind::Io, e).in_file(url.to_string())
            })?;
            let reads = matches!(call.method, Method::Get | Method::Head);
            if !reads || (call.same_origin && next.origin() != url.origin()) {
                return Ok(answer);
            }
            if url.is_encrypted() && !next.is_encrypted() {
                let e = format!("the server leads from HTTPS to HTTP, to {next}: not followed");
                return Err(Error::new(ErrorKind::Io, e).in_file(url.to_string()).into());
            }
            url = next;
        }
        let e = format!("the server redirects more than {MOST_REDIRECTS} times");
        Err(Error::new(ErrorKind::Io, e).in_file(call.url.to_string()).into())
    }

    /// Sends a request to `url` and waits for the head of the answer.
    ///
    /// What must not be repeated of it is added to `secrets`.
    fn exchange(
        &self,
        call: &Call<'_>,
        url: &Url,
        secrets: &mut Vec<String>,
    ) -> Result<Answer, Attempt> {
        let mut request = Request::builder().uri(url.request_text()).method(match call.method {
            Method::Head => "HEAD",
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
        });
        // No transformation on the way: ranges and digests are of the file's own bytes.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(credential) = Credential::header_for(&self.credentials, url) {
            secrets.extend(credential.split(' ').skip(1).map(str::to_owned));
            request = request.header(header::AUTHORIZATION, credential);
        }
        let place = |e: Error| e.in_file(url.to_string());
        let fault =
            |e| place(Error::new(ErrorKind::InvalidArgument, "not a request").with_source(e));
        let answer = match call.payload {
            Payload::Nothing => {
                let request = request.body(()).map_err(fault)?;
                self.agent.run(request)
            }
            Payload::Bytes(bytes) => {
                let request = request.body(bytes).map_err(fault)?;
                self.agent.run(request)
            }
            Payload::Part(source, next, left) => {
                let request = request.header(header::CONTENT_LENGTH, left);
                let mut reader = Part { source, next, left };
                let request = request.body(SendBody::from_reader(&mut reader)).map_err(fault)?;
                self.agent.run(request)
            }
        };
        answer.map(|a| answered(a, url, self.options.stall)).map_err(|e| unreachable(e, url))
    }
}

fn answered(answer: Response<Body>, url: &Url, stall: Duration) -> Answer {
    let (parts, body) = answer.into_parts();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        url: url.clone(),
        body: Box::new(Paced::new(body.into_reader(), stall)),
        secrets: Vec::new(),
    }
}

/// Returns the failure of a request that was not answered.
fn unreachable(e: ureq::Error, url: &Url) -> Attempt {
    let host = url.host();
    let (message, again) = match &e {
        ureq::Error::HostNotFound => {
            (format!("there is no host {host}: check the name, and the network"), true)
        }
        ureq::Error::Timeout(_) => (format!("{host} does not answer: try again later"), true),
        // That is how rustls refuses a certificate, or what is not TLS.
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => (no_tls(host), false),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => (no_tls(host), false),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => {
            (format!("cannot reach {host}: check the network"), true)
        }
        ureq::Error::Protocol(_) => (format!("{host} does not speak HTTP as it should"), true),
        _ => (format!("cannot talk to {host}"), false),
    };
    // The text of other errors may hold the URL whole.
    let cause = match e {
        ureq::Error::Io(e) => Some(e),
        ureq::Error::Rustls(e) => Some(std::io::Error::other(e)),
        ureq::Error::Tls(e) => Some(std::io::Error::other(e)),
        ureq::Error::Protocol(e) => Some(std::io::Error::other(e)),
        _ => None,
    };
    let kind = if again { ErrorKind::Unavailable } else { ErrorKind::Io };
    let error = Error::new(kind, message).in_file(url.to_string());
    let error = match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    };
    if again { Attempt::Again(error, None) } else { Attempt::Fail(error) }
}

fn no_tls(host: &str) -> String {
    format!(
        "no safe connection to {host}: if its certificate is your own, name it in SSL_CERT_FILE"
    )
}

/// Part of a source as a stream.
struct Part<'a> {
    source: &'a dyn ByteSource,
    next: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let Some(out) = out.get_mut(..len) else { return Ok(0) };
        self.source.read_exact_at(self.next, out).map_err(std::io::Error::other)?;
        self.next += len as u64;
        self.left -= len as u64;
        Ok(len)
    }
}
