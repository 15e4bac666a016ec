//! Requests of `object_store`, sent by ureq.
//!
//! ureq blocks, so that each request runs on one of the runtime's threads. Answers are collected:
//! they are ranges that somebody asked for, or pages of a list.

use super::error::PLAIN_HTTP;
use super::kind::StoreKind;
use crate::http::agent;
use http_body_util::BodyExt;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use ureq::http::request::Parts;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

/// Longest wait for a connection, and for the next bytes in either direction.
const STALL: Duration = Duration::from_secs(30);
/// Longest wait for the head of an answer: to complete a large upload takes a store a while.
const ANSWER: Duration = Duration::from_secs(120);
/// Longest wait for the service of a cloud's machines that gives them credentials.
const METADATA: Duration = Duration::from_secs(1);
/// Longest answer that is no range: a page of a list has up to 5,000 objects.
const MOST: u64 = 64 << 20;

/// Makes the clients of a store.
#[derive(Clone)]
pub(super) struct Connector {
    agent: Agent,
    /// Store whose uploads must not replace an object when they are completed.
    create_only: Option<StoreKind>,
}

impl Connector {
    /// Creates a connector.
    ///
    /// # Errors
    /// What reading the certificates reports that the environment names.
    pub(super) fn new() -> sparse_core::Result<Connector> {
        let agent = agent(STALL, ANSWER)?;
        Ok(Connector { agent, create_only: None })
    }

    /// Returns the connector for uploads that must not replace an object.
    pub(super) fn create_only(&self, kind: StoreKind) -> Connector {
        Connector { create_only: Some(kind), ..self.clone() }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("create_only", &self.create_only).finish_non_exhaustive()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        Ok(HttpClient::new(Transport {
            connector: self.clone(),
            allow_http: allow_http.as_deref() == Some("true"),
        }))
    }
}

/// Sends requests.
#[derive(Clone, Debug)]
struct Transport {
    connector: Connector,
    /// Whether requests may go in plain text over a network.
    allow_http: bool,
}

impl HttpService for Transport {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            if self.connector.create_only.is_some_and(|kind| completes(kind, &parts)) {
                parts.headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            let payload = body.collect().await?.to_bytes();
            let transport = self.clone();
            let exchange = move || transport.exchange(parts, &payload);
            match tokio::task::spawn_blocking(exchange).await {
                Ok(answer) => answer,
                Err(e) => Err(HttpError::new(HttpErrorKind::Unknown, e)),
            }
        })
    }
}

impl Transport {
    /// Sends one request and reads the answer.
    fn exchange(&self, parts: Parts, payload: &[u8]) -> Result<HttpResponse, HttpError> {
        let place = Place::of(&parts.uri);
        if parts.uri.scheme_str() != Some("https") && place == Place::Network && !self.allow_http {
            return Err(failure(HttpErrorKind::Unknown, PLAIN_HTTP));
        }
        let most = match (&parts.method, range_len(&parts.headers)) {
            (&Method::HEAD, _) => 0,
            (_, Some(len)) => len,
            _ => MOST,
        };
        let ranged = parts.headers.contains_key(header::RANGE);
        let answer = if matches!(parts.method, Method::PUT | Method::POST) {
            self.run(Request::from_parts(parts, payload), place)
        } else {
            self.run(Request::from_parts(parts, ()), place)
        };
        let (mut parts, mut body) = answer.map_err(|e| unsent(e, place))?.into_parts();
        // A whole object may be of any length; that it is no range, `object_store` reports.
        let whole = ranged && parts.status == StatusCode::OK;
        let bytes = if most == 0 || whole {
            Vec::new()
        } else {
            let most = if parts.status.is_success() { most } else { MOST };
            let read = body.with_config().limit(most.saturating_add(1)).read_to_vec();
            read.map_err(|e| unsent(e, place))?
        };
        parts.extensions.clear();
        Ok(Response::from_parts(parts, HttpResponseBody::from(bytes)))
    }

    fn run<S: ureq::AsSendBody>(
        &self,
        request: Request<S>,
        place: Place,
    ) -> Result<Response<Body>, ureq::Error> {
        let agent = &self.connector.agent;
        let request = match place {
            Place::Network => request,
            Place::Loopback => agent.configure_request(request).proxy(None).build(),
            Place::Metadata => agent
                .configure_request(request)
                .proxy(None)
                .timeout_connect(Some(METADATA))
                .timeout_recv_response(Some(5 * METADATA))
                .build(),
        };
        agent.run(request)
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Network,
    /// This machine.
    Loopback,
    /// The service of a cloud's machines: no name of it leads out of the machine's own host.
    Metadata,
}

impl Place {
    fn of(uri: &Uri) -> Place {
        let host = uri.host().unwrap_or_default();
        if host == "localhost" || host == "[::1]" || host.starts_with("127.") {
            Place::Loopback
        } else if host.starts_with("169.254.") || host.starts_with("metadata") {
            Place::Metadata
        } else {
            Place::Network
        }
    }
}

/// Returns whether this request makes an upload appear under its name.
fn completes(kind: StoreKind, request: &Parts) -> bool {
    let query = request.uri.query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match kind {
        StoreKind::S3 => request.method == Method::POST && has("uploadId"),
        // A signature by the account's key covers this header, and is made already.
        StoreKind::Azure => {
            let authorization = request.headers.get(header::AUTHORIZATION);
            let by_key = authorization.is_some_and(|a| a.as_bytes().starts_with(b"SharedKey"));
            query.split('&').any(|pair| pair == "comp=blocklist") && !by_key
        }
        // Its uploads of several parts take no condition.
        StoreKind::Google => false,
    }
}

/// Returns the number of bytes that a request asks for by its range.
fn range_len(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    last.checked_sub(start)?.checked_add(1)
}

/// Returns what `object_store` tells apart: whether a failure may go away.
fn unsent(e: ureq::Error, place: Place) -> HttpError {
    let kind = match &e {
        // No such service is the rule outside of clouds.
        _ if place == Place::Metadata => HttpErrorKind::Unknown,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            HttpErrorKind::Connect
        }
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            HttpErrorKind::Connect
        }
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::Io(_) | ureq::Error::Protocol(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    // Texts of other errors may hold the URL whole.
    let text = match e {
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::ConnectionFailed => "cannot connect".to_owned(),
        ureq::Error::Timeout(_) => "the server does not answer".to_owned(),
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::Rustls(e) => e.to_string(),
        ureq::Error::Tls(e) => e.to_owned(),
        ureq::Error::BodyExceedsLimit(n) => format!("the answer is longer than {} bytes", n - 1),
        ureq::Error::Protocol(_) => "the server does not speak HTTP as it should".to_owned(),
        _ => "the request failed".to_owned(),
    };
    failure(kind, &text)
}

fn failure(kind: HttpErrorKind, text: &str) -> HttpError {
    HttpError::new_boxed(kind, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str) -> Parts {
        Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn completions_are_known() {
        let s3 = |method, uri| completes(StoreKind::S3, &request(method, uri));
        assert!(s3("POST", "https://s3.example/box/key?uploadId=7"));
        assert!(!s3("POST", "https://s3.example/box/key?uploads="));
        assert!(!s3("PUT", "https://s3.example/box/key?partNumber=1&uploadId=7"));
        let mut azure = request("PUT", "https://a.example/box/key?comp=blocklist");
        assert!(completes(StoreKind::Azure, &azure));
        let signed = HeaderValue::from_static("SharedKey account:signature");
        azure.headers.insert(header::AUTHORIZATION, signed);
        assert!(!completes(StoreKind::Azure, &azure));
        let google = request("POST", "https://g.example/box/key?uploadId=7");
        assert!(!completes(StoreKind::Google, &google));
    }

    #[test]
    fn places_are_told_apart() {
        let place = |uri: &str| Place::of(&uri.parse().unwrap());
        assert_eq!(place("http://127.0.0.1:5000/x"), Place::Loopback);
        assert_eq!(place("http://169.254.169.254/latest"), Place::Metadata);
        assert_eq!(place("http://metadata.google.internal/x"), Place::Metadata);
        assert_eq!(place("https://s3.eu-west-1.amazonaws.com/x"), Place::Network);
    }

    #[test]
    fn lengths_of_ranges() {
        let len = |range: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            range_len(&headers)
        };
        assert_eq!(len("bytes=5-9"), Some(5));
        assert_eq!((len("bytes=9-5"), len("bytes=5-"), len("bytes=-5")), (None, None, None));
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let transport = Transport { connector: Connector::new().unwrap(), allow_http: false };
        let e = transport.exchange(request("GET", "http://s3.example/box/key"), &[]).unwrap_err();
        assert!(e.to_string().contains("plain HTTP"), "{e}");
    }
}
