//! The server, asked by a client of twenty lines.

use super::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sends one request; returns the status, the head and the body.
fn ask(
    server: &TestServer,
    method: &str,
    target: &str,
    headers: &[&str],
) -> (u16, String, Vec<u8>) {
    let address = server.endpoint().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|h| h.starts_with("Host:")) {
        text += &format!("Host: {address}\r\n");
    }
    for header in headers {
        text += &format!("{header}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, head, answer.get(end + 4..).unwrap_or_default().to_vec())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

#[test]
fn plain_files() {
    let bytes: Vec<u8> = (0..200u8).collect();
    let content = Content::new(bytes.clone());
    let etag = format!("\"{}\"", content.etag());
    let server = TestServer::start(Site::new().with_file("a b", content)).unwrap();
    let get = |headers: &[&str]| ask(&server, "GET", "/files/a%20b", headers);

    let (status, head, body) = get(&[]);
    assert_eq!((status, header(&head, "ETag"), body), (200, Some(&*etag), bytes.clone()));
    let (status, head, body) = get(&["Range: bytes=10-19", &format!("If-Match: {etag}")]);
    assert_eq!((status, &body[..]), (206, &bytes[10..20]));
    assert_eq!(header(&head, "Content-Range"), Some("bytes 10-19/200"));
    assert_eq!(get(&["If-Match: \"other\""]).0, 412);
    assert_eq!(get(&["Range: bytes=10-19", "If-Range: \"other\""]).0, 200);
    assert_eq!(get(&["Range: bytes=200-"]).0, 416);
    assert!(ask(&server, "HEAD", "/files/a%20b", &[]).2.is_empty());
    assert_eq!(ask(&server, "GET", "/files/none", &[]).0, 404);
    let log = server.log();
    assert_eq!((log.count("GET", "/files/"), log.count("HEAD", ""), log.sent()), (6, 1, 410));
    assert_eq!(log.ranges().len(), 3);

    let odd = Quirks { ignores_range: true, no_etag: true, no_length: true, ..Quirks::default() };
    server.update(|site| site.set_file("a b", Content::new(bytes.clone()).with_quirks(odd)));
    let (status, head, body) = get(&["Range: bytes=10-19", "If-Match: \"x\""]);
    assert_eq!((status, header(&head, "ETag"), body), (200, None, bytes.clone()));
    assert_eq!(header(&head, "Content-Length"), None);
}

#[test]
fn faults() {
    let bytes = vec![7u8; 100];
    let site = Site::new().with_file("a", Content::new(bytes.clone()));
    let server = TestServer::start(site).unwrap();
    let all = [
        Fault::TooMany(3),
        Fault::Status(502),
        Fault::Close,
        Fault::CutBody,
        Fault::StallBody,
        Fault::FlipByte,
        Fault::Replaced,
    ];
    server.set_faults(Faults::script(all.map(Some)).stall(Duration::from_millis(100)));
    let get = || ask(&server, "GET", "/files/a", &[]);
    let (status, head, _) = get();
    assert_eq!((status, header(&head, "Retry-After")), (429, Some("3")));
    assert_eq!(get().0, 502);
    assert_eq!(get().0, 0);
    assert_eq!(get().2.len(), 50);
    let begin = Instant::now();
    assert_eq!(get().2.len(), 50);
    assert!(begin.elapsed() >= Duration::from_millis(100));
    let flipped = get().2;
    assert_eq!(flipped.iter().filter(|b| **b != 7).count(), 1);
    let (_, head, body) = get();
    assert_eq!((header(&head, "ETag"), body), (Some("\"replaced\""), vec![!7; 100]));
    assert_eq!(get().2, bytes);
}

#[test]
fn hub_routes() {
    let repo = Repo::model("org/name")
        .with_file("config.json", "{}")
        .with_large_file("model.safetensors", vec![1; 1000])
        .with_file("a/b/c.txt", "text")
        .with_former_name("name");
    let hash = repo.commit("main").unwrap().to_owned();
    let server = TestServer::start(Site::new().with_repo(repo).with_page(2)).unwrap();
    let get = |target: &str| ask(&server, "GET", target, &[]);

    let (status, _, body) = get("/api/models/org/name/revision/main");
    assert!(status == 200 && String::from_utf8(body).unwrap().contains(&hash));
    let (status, head, _) = get("/api/models/name");
    assert_eq!((status, header(&head, "Location")), (307, Some("/api/models/org/name")));

    let mut target = format!("/api/models/org/name/tree/{hash}?recursive=True&expand=False");
    let mut paths = Vec::new();
    loop {
        let (_, head, body) = get(&target);
        let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
        paths.extend(
            page.as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap().to_owned()),
        );
        let Some(link) = header(&head, "Link") else { break };
        let url = link.split(['<', '>']).nth(1).unwrap();
        target = url.replace(&server.endpoint(), "");
    }
    assert_eq!(paths, ["a/b/c.txt", "config.json", "model.safetensors", "a", "a/b"]);

    let (status, head, _) = get("/org/name/resolve/main/config.json");
    assert_eq!((status, header(&head, "X-Repo-Commit")), (307, Some(&*hash)));
    let (status, _, body) = get(header(&head, "Location").unwrap());
    assert_eq!((status, &body[..]), (200, &b"{}"[..]));

    let (status, head, _) = ask(&server, "HEAD", "/org/name/resolve/main/model.safetensors", &[]);
    assert_eq!((status, header(&head, "X-Linked-Size")), (302, Some("1000")));
    let at = header(&head, "Location").unwrap();
    assert!(at.starts_with("http://localhost:"), "{at}");
    let target = &at[at.find("/blobs").unwrap()..];
    let port = server.endpoint().rsplit(':').next().unwrap().to_owned();
    let host = format!("Host: localhost:{port}");
    assert_eq!(ask(&server, "GET", target, &[&host]).2, vec![1; 1000]);
    assert_eq!(ask(&server, "GET", target, &[&host, "Authorization: Bearer x"]).0, 400);
    assert_eq!(server.log().authorizations("localhost"), ["Bearer x"]);
    assert_eq!(ask(&server, "GET", target.split('?').next().unwrap(), &[&host]).0, 403);
}

#[test]
fn branches() {
    let repo = || Repo::dataset("org/d");
    let site = Site::new()
        .with_repo(repo().with_file("a", "a"))
        .with_repo(repo().on_branch("refs/convert/parquet").with_file("b", "b"));
    let server = TestServer::start(site).unwrap();
    for (branch, file) in [("main", "a"), ("refs%2Fconvert%2Fparquet", "b")] {
        let at = format!("/datasets/org/d/resolve/{branch}/{file}");
        let (status, head, _) = ask(&server, "GET", &at, &[]);
        assert_eq!(status, 307);
        assert_eq!(ask(&server, "GET", header(&head, "Location").unwrap(), &[]).2, file.as_bytes());
    }
}

#[test]
fn refusals() {
    let site = Site::new()
        .with_repo(Repo::model("org/gated").with_file("a", "a").with_access(Access::Gated))
        .with_repo(Repo::dataset("org/private").with_file("a", "a").with_access(Access::Private))
        .with_token("full")
        .with_guest_token("guest");
    let server = TestServer::start(site).unwrap();
    let code = |target: &str, token: &str| {
        let header_line = format!("Authorization: Bearer {token}");
        let headers: &[&str] = if token.is_empty() { &[] } else { &[&header_line] };
        let (status, head, _) = ask(&server, "GET", target, headers);
        (status, header(&head, "X-Error-Code").unwrap_or_default().to_owned())
    };
    let is = |status: u16, text: &str| (status, text.to_owned());
    let gated = "/org/gated/resolve/main/a";
    assert_eq!(code(gated, ""), is(401, "GatedRepo"));
    assert_eq!(code(gated, "guest"), is(403, "GatedRepo"));
    assert_eq!(code(gated, "full"), is(307, ""));
    assert_eq!(code(gated, "unknown"), is(401, ""));
    let private = "/datasets/org/private/resolve/main/a";
    assert_eq!(code(private, ""), is(401, "RepoNotFound"));
    assert_eq!(code(private, "guest"), is(404, "RepoNotFound"));
    assert_eq!(code(private, "full"), is(307, ""));
    assert_eq!(code("/org/gated/resolve/main/b", "full"), is(404, "EntryNotFound"));
    assert_eq!(code("/org/gated/resolve/none/a", "full"), is(404, "RevisionNotFound"));
}
