//! Answers that a server of tests with manners does not give.

use super::*;
use crate::Url;
use sparse_core::{ByteSource, ErrorKind};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

/// Serves each of `answers` to a connection of its own, then ends. Returns the address.
fn serve(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut request = Vec::new();
            let mut block = [0; 4096];
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                let Ok(n @ 1..) = stream.read(&mut block) else { break };
                request.extend(&block[..n]);
                // The first byte of a client that speaks TLS.
                if request[0] == 0x16 {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let line = |name: &str| {
                let line = text.lines().find(|l| l.to_ascii_lowercase().starts_with(name));
                line.unwrap_or_default().to_owned()
            };
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let answer = answer.replace("AUTH", &line("authorization"));
            let _ = stream.write_all(answer.replace("LINE", &line("get")).as_bytes());
        }
    });
    format!("http://{address}")
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn client() -> Client {
    let mut options = ClientOptions::default();
    options.retry.first = Duration::from_millis(1);
    options.stall = Duration::from_secs(5);
    Client::new(options).unwrap()
}

#[test]
fn secrets_that_a_server_repeats_are_not_shown() {
    let text = "403 No\r\nContent-Type: text/plain";
    let said = [answer(text, "you sent AUTH to LINE"), answer(text, "the reason")];
    let header = answer("403 No\r\nX-Error-Message: you sent AUTH", "");
    let server = serve([said.to_vec(), vec![header]].concat());
    let url = Url::parse(&format!("{server}/a?signature=s3cret-of-tests")).unwrap();
    let client = client().with_token(&url, &Token::new("hf_secret_of_tests"));
    let error = || client.send(&Call::new(Method::Get, &url)).unwrap().into_error().to_string();
    let (first, second, third) = (error(), error(), error());
    for text in [&first, &third] {
        assert!(!text.contains("s3cret") && !text.contains("hf_secret"), "{text}");
    }
    assert!(second.contains("the reason"), "{second}");
}

/// The Hub gives the reason why it refuses a commit in the body alone.
#[cfg(feature = "hub")]
#[test]
fn reasons_in_json() {
    let json = "400 No\r\nContent-Type: application/json; charset=utf-8";
    let secret = answer(json, r#"{"error": "AUTH is wrong"}"#);
    let server = serve(vec![
        answer(json, "{\"error\": \"Invalid metadata.\\n- \\\"license\\\" is unknown\"}"),
        secret,
        answer(json, "[1"),
    ]);
    let url = Url::parse(&server).unwrap();
    let client = client().with_token(&url, &Token::new("hf_secret_of_tests"));
    let said = || client.send(&Call::new(Method::Get, &url)).unwrap().said_anywhere();
    assert_eq!(said().as_deref(), Some("Invalid metadata. - \"license\" is unknown"));
    assert_eq!((said(), said()), (None, None));
}

#[test]
fn an_answer_that_is_cut_is_asked_for_again() {
    let cut = answer("200 OK\r\nContent-Length: 100", "half");
    let server = serve(vec![cut.clone(), cut, answer("200 OK\r\nContent-Length: 5", "whole")]);
    let url = Url::parse(&server).unwrap();
    let whole = client().send_whole(&Call::new(Method::Get, &url), 100).unwrap();
    assert_eq!(whole.into_bytes(100).unwrap(), b"whole");
    let server = serve(vec![answer("200 OK\r\nContent-Length: 5", "whole")]);
    let url = Url::parse(&server).unwrap();
    let e = client().send_whole(&Call::new(Method::Get, &url), 4).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_range_may_come_in_pieces() {
    let range = |r: &str, body: &str| {
        let head = "206 Partial\r\nETag: \"a\"\r\nContent-Length: ";
        answer(&format!("{head}{}\r\nContent-Range: bytes {r}", body.len()), body)
    };
    let first = "x".repeat(16 << 10);
    let rest = |from: usize, len: usize| {
        let range_of = format!("{from}-{}/20000", from + len - 1);
        range(&range_of, &"y".repeat(len))
    };
    let start = first.len();
    let answers = vec![
        range(&format!("0-{}/20000", start - 1), &first),
        // Less than was asked for, twice; then more.
        rest(start, 100),
        rest(start + 100, 1),
        rest(start + 101, 20_000 - start - 101),
    ];
    let url = Url::parse(&serve(answers)).unwrap();
    let file = HttpSource::open(&client(), &url).unwrap();
    assert_eq!(file.byte_len(), 20_000);
    let end = file.bytes_at(start as u64, 20_000 - start).unwrap();
    assert!(end.iter().all(|b| *b == b'y'));
}

#[test]
fn a_file_without_ranges_and_length_is_read_whole() {
    let chunked = "200 OK\r\nTransfer-Encoding: chunked";
    let url = Url::parse(&serve(vec![answer(chunked, "5\r\nwhole\r\n0\r\n\r\n")])).unwrap();
    let file = HttpSource::open(&client(), &url).unwrap();
    assert_eq!(&*file.bytes_at(0, 5).unwrap(), b"whole");
}

#[test]
fn only_web_servers_are_redirected_to() {
    for target in ["file:///etc/passwd", "ftp://example.com/x"] {
        let url = Url::parse(&serve(vec![answer(&format!("302 Found\r\nLocation: {target}"), "")]));
        let e = client().send(&Call::new(Method::Get, &url.unwrap())).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.message().contains("redirects"), "{e}");
    }
}

/// A server that speaks no TLS is not tried again, and the error says what could be wrong.
#[test]
fn a_connection_that_is_not_safe_is_no_network_fault() {
    let server = serve(vec![answer("400 Bad", "plain"), answer("200 OK", "")]);
    let url = Url::parse(&server.replace("http://", "https://")).unwrap();
    let e = client().send(&Call::new(Method::Get, &url)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io, "{e}");
    assert!(e.message().contains("SSL_CERT_FILE"), "{e}");
}

#[test]
fn waits_are_told_of() {
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = told.clone();
    let mut options = ClientOptions::default();
    options.retry.longest = Duration::from_secs(8);
    options.notice = Notice::new(move |text| notes.lock().unwrap().push(text.to_owned()));
    let busy = answer("429 Busy\r\nRetry-After: 6", "");
    let url = Url::parse(&serve(vec![busy, answer("200 OK", "")])).unwrap();
    assert!(Client::new(options).unwrap().send(&Call::new(Method::Get, &url)).is_ok());
    let told = told.lock().unwrap();
    assert!(told.len() == 1 && told[0].contains("attempt 2 of 7 follows in 6 s"), "{told:?}");
}
