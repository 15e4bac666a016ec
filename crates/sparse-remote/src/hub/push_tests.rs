//! Pushing, to the server of tests.

use super::*;
use crate::testing::{Fault, Faults, Repo, Site, TestServer};
use crate::{Call, Client, ClientOptions, Method, RepoKind, Token, Url};
use sparse_core::{ErrorKind, Unobserved};
use sparse_output::Overwrite;
use std::fs;
use std::path::Path;
use std::time::Duration;

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed) ^ (i >> 8) as u8).collect()
}

fn hub(server: &TestServer, cache: &Path, token: &str) -> Hub {
    let mut settings = HubSettings::new(Url::parse(&server.endpoint()).unwrap(), cache);
    settings.token = (!token.is_empty()).then(|| Token::new(token));
    settings.client.retry.first = Duration::from_millis(1);
    settings.client.retry.longest = Duration::from_millis(20);
    settings.client.stall = Duration::from_millis(400);
    Hub::new(settings).unwrap()
}

fn site() -> Site {
    Site::new()
        .with_repo(Repo::model("org/delta").with_file(".gitattributes", "*"))
        .with_token("hf_full")
        .with_guest_token("hf_guest")
}

/// Pushes a card and a delta.
fn push(repo: &HubRepo, seed: u8, overwrite: Overwrite) -> sparse_core::Result<String> {
    let (card, delta) = (bytes(seed, 3000), bytes(seed, 250_000));
    let files = [PushFile::new("README.md", &card), PushFile::new("my.sparse", &delta)];
    repo.push(&files, "A delta", overwrite, &Unobserved)
}

/// Returns the seed of what the repository has; nothing when it has neither file.
fn seed_of(server: &TestServer) -> Option<u8> {
    let dir = tempfile::tempdir().unwrap();
    let repo = hub(server, dir.path(), "").repo(RepoKind::Model, "org/delta");
    let fetched = match repo.fetch(&Selection::Delta, &Unobserved) {
        Ok(fetched) => fetched,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
            assert_eq!(repo.files().unwrap().len(), 1, "all files or none");
            return None;
        }
    };
    let read = |name: &str| fs::read(fetched.folder().join(name)).unwrap();
    let seed = read("README.md")[0];
    assert!(read("README.md") == bytes(seed, 3000) && read("my.sparse") == bytes(seed, 250_000));
    Some(seed)
}

#[test]
fn what_is_pushed_is_fetched() {
    for part in [0, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let server = TestServer::start(site().with_part(part)).unwrap();
        let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "org/delta");
        let before = repo.commit().unwrap();
        let commit = push(&repo, 1, Overwrite::Refuse).unwrap();
        assert_ne!(commit, before);
        assert_eq!(seed_of(&server), Some(1));
        let puts = server.log().count("PUT", "/uploads/");
        assert_eq!(puts, if part == 0 { 1 } else { 3 });
        assert_eq!(server.log().authorizations("localhost"), [""; 0]);

        // Once more: nothing is sent.
        assert_eq!(push(&repo, 1, Overwrite::Refuse).unwrap(), commit);
        assert_eq!(server.log().count("POST", "/commit/"), 1);
        let e = push(&repo, 2, Overwrite::Refuse).unwrap_err();
        assert_eq!((e.kind(), e.file()), (ErrorKind::AlreadyExists, Some("README.md")));
        assert_eq!(seed_of(&server), Some(1));
        push(&repo, 2, Overwrite::Replace).unwrap();
        assert_eq!(seed_of(&server), Some(2));
        // A content that the Hub has already is not sent again.
        let puts = server.log().count("PUT", "/uploads/");
        push(&repo, 1, Overwrite::Replace).unwrap();
        assert_eq!(server.log().count("PUT", "/uploads/"), puts);
    }
}

#[test]
fn a_new_repository() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(site()).unwrap();
    let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Dataset, "org/new");
    let e = push(&repo, 1, Overwrite::Refuse).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(repo.create(false).unwrap() && !repo.create(false).unwrap());
    let nobodys = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "new");
    let e = nobodys.create(false).unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("you/new"), "{e}");
    push(&repo, 1, Overwrite::Refuse).unwrap();
    // Beside what every repository begins with.
    assert_eq!(repo.files().unwrap().len(), 3);
}

#[test]
fn who_may_not_push_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(site()).unwrap();
    for (token, word) in [("", "HF_TOKEN"), ("hf_guest", "rights"), ("hf_x", "know this token")] {
        let repo = hub(&server, dir.path(), token).repo(RepoKind::Model, "org/delta");
        let e = push(&repo, 1, Overwrite::Refuse).unwrap_err();
        assert!(e.kind() == ErrorKind::AccessDenied && e.to_string().contains(word), "{e}");
        assert!(!e.to_string().contains("hf_"), "{e}");
    }
    assert_eq!(seed_of(&server), None);
}

#[test]
fn answers_that_are_lost_do_not_make_two_commits() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(site()).unwrap();
    let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "org/delta");
    server.set_faults(Faults::script([Some(Fault::CutBody)]).only("/commit/"));
    let commit = push(&repo, 1, Overwrite::Refuse).unwrap();
    assert_eq!(server.log().count("POST", "/commit/"), 1);
    assert_eq!(repo.commit().unwrap(), commit);
    assert_eq!(seed_of(&server), Some(1));
}

#[test]
fn answers_that_are_cut_are_asked_for_again() {
    for only in ["/preupload/", "/objects/batch"] {
        let dir = tempfile::tempdir().unwrap();
        let server = TestServer::start(site()).unwrap();
        let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "org/delta");
        server.set_faults(Faults::script([Some(Fault::CutBody)]).only(only));
        push(&repo, 1, Overwrite::Refuse).unwrap();
        assert_eq!(server.log().count("POST", only), 2);
    }
}

#[test]
fn refusals_speak_of_what_was_sent() {
    for (only, status, kind) in [
        ("/preupload/", 412, ErrorKind::Io),
        ("/objects/batch", 409, ErrorKind::Io),
        ("/commit/", 400, ErrorKind::Io),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = TestServer::start(site()).unwrap();
        let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "org/delta");
        server.set_faults(Faults::script([Some(Fault::Status(status)); 9]).only(only));
        let e = push(&repo, 1, Overwrite::Refuse).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains("refuses") || status == 413, "{e}");
        assert!(!e.to_string().contains("replaced") && e.file().unwrap().contains("http"), "{e}");
    }
    // The host of large files, which sees no signature.
    let server = TestServer::start(site()).unwrap();
    let url = Url::parse(&server.endpoint()).unwrap().with_path(["uploads", "0123"]);
    let client = Client::new(ClientOptions::default()).unwrap();
    let answer = client.send(&Call::new(Method::Put, &url).bytes(b"x")).unwrap();
    let e = super::refusal::refused_content(answer);
    assert!(e.kind() == ErrorKind::AccessDenied && e.to_string().contains("status 403"), "{e}");
    assert!(e.to_string().contains("host of large files"), "{e}");
}

#[test]
fn a_repository_that_was_renamed_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::model("org/new").with_former_name("org/old").with_file(".gitattributes", "*");
    let server = TestServer::start(site().with_repo(repo)).unwrap();
    let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "org/old");
    let e = push(&repo, 1, Overwrite::Refuse).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    assert!(e.to_string().contains("another name now, org/new"), "{e}");
}

#[test]
fn what_a_store_no_longer_takes_goes_by_a_new_plan() {
    for (part, only) in [(0, "/uploads/"), (100_000, "/complete"), (100_000, "/2?")] {
        let dir = tempfile::tempdir().unwrap();
        let server = TestServer::start(site().with_part(part)).unwrap();
        let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "org/delta");
        // An address that expired; then one that took the content, and its answer got lost.
        for (seed, status) in [(1, 403), (2, 500)] {
            server.set_faults(Faults::script([Some(Fault::Status(status))]).only(only));
            push(&repo, seed, Overwrite::Replace).unwrap();
            assert_eq!(seed_of(&server), Some(seed), "{only} {status}");
        }
    }
}

#[test]
fn a_tenth_of_all_requests_may_fail() {
    for seed in 0..30u8 {
        let dir = tempfile::tempdir().unwrap();
        let part = if seed % 2 == 0 { 0 } else { 60_000 };
        let server = TestServer::start(site().with_part(part)).unwrap();
        let repo = hub(&server, dir.path(), "hf_full").repo(RepoKind::Model, "org/delta");
        let faults = Faults::random(seed.into(), 0.1).stall(Duration::from_millis(500));
        server.set_faults(faults);
        let pushed = push(&repo, seed, Overwrite::Refuse);
        server.set_faults(Faults::none());
        match pushed {
            Ok(_) => assert_eq!(seed_of(&server), Some(seed)),
            Err(e) => {
                assert!(e.to_string().contains("http://"), "{e}");
                assert!(seed_of(&server).is_none_or(|s| s == seed));
                push(&repo, seed, Overwrite::Refuse).unwrap();
            }
        }
        assert_eq!(server.log().authorizations("localhost"), [""; 0]);
    }
}
