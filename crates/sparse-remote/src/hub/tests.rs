//! The Hub, played by the server of tests.

use super::*;
use crate::testing::{Access, Content, Fault, Faults, Quirks, Repo, Site, TestServer};
use crate::{RepoKind, Token, Url};
use sparse_core::{ByteSource, Error, ErrorKind, Threads, Unobserved};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MODEL: &str = "org/name";

/// Bytes that look like nothing else.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn index() -> String {
    r#"{"metadata":{},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#.into()
}

fn model() -> Repo {
    Repo::model(MODEL)
        .with_file("config.json", "{}")
        .with_file("tokenizer/merges.txt", "a b")
        .with_file("model.safetensors.index.json", index())
        .with_large_file("model-1.safetensors", noise(1, 300_000))
        .with_large_file("model-2.safetensors", noise(2, 200_000))
        .with_large_file("pytorch_model.bin", noise(3, 100_000))
}

/// Settings that do not wait for long.
fn settings(server: &TestServer, cache: &Path) -> HubSettings {
    let mut settings = HubSettings::new(Url::parse(&server.endpoint()).unwrap(), cache);
    settings.client.retry.first = Duration::from_millis(1);
    settings.client.retry.longest = Duration::from_millis(20);
    settings.client.stall = Duration::from_millis(400);
    settings.executor = Arc::new(Threads::new(3));
    settings
}

fn hub(server: &TestServer, cache: &Path) -> Hub {
    Hub::new(settings(server, cache)).unwrap()
}

fn start(site: Site) -> (TestServer, tempfile::TempDir) {
    (TestServer::start(site).unwrap(), tempfile::tempdir().unwrap())
}

fn fetch_model(hub: &Hub) -> Result<Fetched, Error> {
    hub.repo(RepoKind::Model, MODEL).fetch(&Selection::Model, &Unobserved)
}

/// Checks that what was fetched is all that is needed, byte for byte.
fn check(fetched: &Fetched) {
    let want: [(&str, Vec<u8>); 5] = [
        ("config.json", b"{}".to_vec()),
        ("tokenizer/merges.txt", b"a b".to_vec()),
        ("model.safetensors.index.json", index().into_bytes()),
        ("model-1.safetensors", noise(1, 300_000)),
        ("model-2.safetensors", noise(2, 200_000)),
    ];
    assert_eq!(fetched.files(), want.clone().map(|w| w.0));
    for (name, bytes) in want {
        assert!(fs::read(fetched.folder().join(name)).unwrap() == bytes, "{name}");
    }
}

/// Checks that every content in the cache is the one that its name says.
fn check_blobs(cache: &Path) {
    use sha2::Digest as _;
    for entry in fs::read_dir(cache.join("models--org--name/blobs")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".incomplete") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let mut git = crate::git_hash::Sha1::of_git_blob(bytes.len() as u64);
        git.update(&bytes);
        let sha256 = sha2::Sha256::digest(&bytes);
        let sha256: String = sha256.iter().map(|b| format!("{b:02x}")).collect();
        assert!(name == git.hex() || name == sha256, "{name}");
    }
}

/// Keeps notes.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl FetchProgress for Notes {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn only_what_is_needed_comes_and_only_once() {
    let (server, dir) = start(Site::new().with_repo(model()).with_page(2));
    let hub = hub(&server, dir.path());
    let fetched = fetch_model(&hub).unwrap();
    check(&fetched);
    check_blobs(dir.path());
    let log = server.log();
    assert_eq!((log.count("GET", "pytorch"), log.count("GET", "/blobs/")), (0, 2));
    assert!(log.count("GET", "/tree/") == 4, "pages of two: 6 files and a folder");

    let repo = dir.path().join("models--org--name");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), fetched.commit());
    assert_eq!(fetched.folder(), repo.join("snapshots").join(fetched.commit()));
    let link = fs::read_link(fetched.folder().join("tokenizer/merges.txt")).unwrap();
    assert!(link.starts_with("../../../blobs"), "{link:?}");
    let locks = fs::read_dir(dir.path().join(".locks/models--org--name")).unwrap().count();
    assert_eq!(locks, 5);
    let tag = fs::read_to_string(dir.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
    // Nothing is left of the work.
    for entry in fs::read_dir(repo.join("blobs")).unwrap() {
        assert!(!entry.unwrap().file_name().to_str().unwrap().contains('.'));
    }

    server.clear_log();
    assert_eq!(fetch_model(&hub).unwrap(), fetched);
    let log = server.log();
    assert_eq!(log.count("GET", "/resolve/") + log.count("GET", "/blobs/"), 0);

    // What the look-up without a network finds is the same.
    let cache = sparse_model::HubCache::At(dir.path().into());
    let folder = cache.folder().unwrap().join("models--org--name");
    assert_eq!(sparse_model::HubCache::snapshot(&folder, "main").unwrap(), fetched.folder());
}

#[test]
fn offline_opens_no_socket() {
    let (server, dir) = start(Site::new().with_repo(model()));
    let mut settings = settings(&server, dir.path());
    settings.offline = true;
    let offline = Hub::new(settings).unwrap();
    let e = fetch_model(&offline).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("HF_HUB_OFFLINE"), "{e}");
    let repo = offline.repo(RepoKind::Model, MODEL);
    assert!(repo.files().is_err() && repo.open("config.json").is_err());
    assert_eq!(server.log().connections(), 0);

    let fetched = fetch_model(&hub(&server, dir.path())).unwrap();
    server.clear_log();
    assert_eq!(fetch_model(&offline).unwrap(), fetched);
    // A snapshot that lacks a shard is not taken for the model.
    fs::remove_file(fetched.folder().join("model-2.safetensors")).unwrap();
    let e = fetch_model(&offline).unwrap_err();
    assert!(e.to_string().contains("model-2.safetensors"), "{e}");
    assert_eq!(server.log().connections(), 0);
}

#[test]
fn the_cache_stands_in_for_a_hub_that_fails() {
    let (server, dir) = start(Site::new().with_repo(model()).with_token("hf_good"));
    let hub = hub(&server, dir.path());
    let fetched = fetch_model(&hub).unwrap();
    server.set_faults(Faults::script([Some(Fault::Status(503))]));
    let notes = Notes::default();
    let repo = hub.repo(RepoKind::Model, MODEL);
    assert_eq!(repo.fetch(&Selection::Model, &notes).unwrap(), fetched);
    let notes = notes.0.into_inner().unwrap();
    assert!(notes[0].contains("as the cache has it") && notes[0].contains("503"), "{notes:?}");

    // A revision that is gone is an error nevertheless, and so is a repository without weights.
    let other = hub.repo(RepoKind::Model, MODEL).revision("none");
    let e = other.fetch(&Selection::Model, &Unobserved).unwrap_err();
    assert!(e.to_string().contains("no revision none"), "{e}");
    drop(server);
    assert_eq!(fetch_model(&hub).unwrap(), fetched);
}

#[test]
fn a_new_commit_is_noticed() {
    let (server, dir) = start(Site::new().with_repo(model()));
    let hub = hub(&server, dir.path());
    let before = fetch_model(&hub).unwrap();
    server.update(|site| {
        let content = Content::new(b"{ }".to_vec());
        site.repo(MODEL).unwrap().put("config.json", content, false);
    });
    server.clear_log();
    let after = fetch_model(&hub).unwrap();
    assert_ne!(before.commit(), after.commit());
    assert_eq!(fs::read(after.folder().join("config.json")).unwrap(), b"{ }");
    assert_eq!(server.log().count("GET", "/blobs/"), 0, "weights are the same");
    check(&before);
    let old = hub.repo(RepoKind::Model, MODEL).revision(before.commit());
    assert_eq!(old.fetch(&Selection::Model, &Unobserved).unwrap(), before);
}

#[test]
fn datasets() {
    let site = Site::new()
        .with_repo(
            Repo::dataset("org/csv")
                .with_file("README.md", "#")
                .with_file("train.csv", "a\n1\n")
                .on_branch("refs/convert/parquet")
                .with_large_file("default/train/0000.parquet", noise(1, 1000))
                .with_large_file("default/test/0000.parquet", noise(2, 1000)),
        )
        .with_repo(Repo::dataset("org/lines").with_file("train.jsonl", "{}\n"))
        .with_repo(Repo::dataset("org/none").with_file("README.md", "#"))
        .with_repo(
            Repo::dataset("squad")
                .with_file("data.jsonl", "{}")
                .with_large_file("plain/train-00000-of-00001.parquet", noise(3, 1000)),
        );
    let (server, dir) = start(site);
    let hub = hub(&server, dir.path());
    let all = Selection::Dataset { config: None, split: None };
    let repo = |id: &str| hub.repo(RepoKind::Dataset, id);
    let fetch = |id: &str, selection: &Selection| repo(id).fetch(selection, &Unobserved);
    let converted = fetch("org/csv", &all).unwrap();
    assert_eq!(converted.files(), ["default/test/0000.parquet", "default/train/0000.parquet"]);
    let refs = dir.path().join("datasets--org--csv/refs/refs/convert/parquet");
    assert_eq!(fs::read_to_string(refs).unwrap(), converted.commit());
    let split = |name: &str| Selection::Dataset { config: None, split: Some(name.to_owned()) };
    assert_eq!(fetch("org/csv", &split("test")).unwrap().files().len(), 1);
    let e = fetch("org/csv", &split("dev")).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("split dev"), "{e}");
    assert_eq!(fetch("org/lines", &all).unwrap().files(), ["train.jsonl"]);
    assert_eq!(fetch("squad", &all).unwrap().files(), ["plain/train-00000-of-00001.parquet"]);
    let e = fetch("org/none", &all).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("no tables"), "{e}");
    assert_eq!(server.log().count("GET", "org/lines/revision/main"), 1, "asked for once");
    // At a revision that somebody chose, its own files are meant.
    let main = repo("org/csv").revision(repo("org/csv").commit().unwrap());
    assert_eq!(main.fetch(&all, &Unobserved).unwrap().files(), ["README.md", "train.csv"]);
    assert_eq!(repo("org/csv").cached(&all).unwrap(), converted);
}

#[test]
fn a_dataset_that_was_converted_in_part_is_told_of() {
    let repo = Repo::dataset("org/long")
        .with_file("train.csv", "a")
        .on_branch("refs/convert/parquet")
        .with_large_file("default/partial-train/0000.parquet", noise(1, 1000));
    let (server, dir) = start(Site::new().with_repo(repo));
    let notes = Notes::default();
    let all = Selection::Dataset { config: None, split: None };
    let repo = hub(&server, dir.path()).repo(RepoKind::Dataset, "org/long");
    assert_eq!(repo.fetch(&all, &notes).unwrap().files().len(), 1);
    assert!(notes.0.into_inner().unwrap()[0].contains("org/long is not whole"));
}

#[test]
fn refusals_say_what_to_do() {
    let file = |repo: Repo| repo.with_large_file("model.safetensors", noise(1, 100));
    let site = Site::new()
        .with_repo(file(Repo::model("org/gated")).with_access(Access::Gated))
        .with_repo(file(Repo::model("org/private")).with_access(Access::Private))
        .with_token("hf_full")
        .with_guest_token("hf_guest");
    let (server, dir) = start(site);
    let fetch = |id: &str, token: &str| {
        let mut settings = settings(&server, dir.path());
        settings.token = (!token.is_empty()).then(|| Token::new(token));
        let repo = Hub::new(settings).unwrap().repo(RepoKind::Model, id);
        repo.fetch(&Selection::Model, &Unobserved).map(drop).map_err(|e| {
            let text = e.to_string();
            assert!(text.contains(&server.endpoint()) && !text.contains("hf_"), "{text}");
            (e.kind(), text)
        })
    };
    let denied = |of: Result<(), (ErrorKind, String)>, kind: ErrorKind, words: &[&str]| {
        let (found, text) = of.unwrap_err();
        assert_eq!(found, kind, "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{text}"));
    };
    let gated = &format!("{}/org/gated", server.endpoint());
    let access = ErrorKind::AccessDenied;
    denied(fetch("org/gated", ""), access, &["is gated", gated, "HF_TOKEN"]);
    denied(fetch("org/gated", "hf_guest"), access, &["is gated", gated, "this token"]);
    denied(fetch("org/gated", "hf_wrong"), access, &["does not know this token"]);
    denied(fetch("org/private", ""), ErrorKind::NotFound, &["or it is private", "HF_TOKEN"]);
    denied(fetch("org/private", "hf_guest"), ErrorKind::NotFound, &["this token may not see"]);
    denied(fetch("org/none", "hf_full"), ErrorKind::NotFound, &["no model org/none"]);
    fetch("org/gated", "hf_full").unwrap();
    fetch("org/private", "hf_full").unwrap();
    assert_eq!(server.log().authorizations("localhost"), [""; 0]);
    assert!(server.log().authorizations("127.0.0.1").contains(&"Bearer hf_full"));

    let missing = Selection::Files(vec!["none.txt".to_owned()]);
    let hub = hub(&server, dir.path());
    let e = hub.repo(RepoKind::Model, "org/gated").fetch(&missing, &Unobserved).unwrap_err();
    assert!(e.to_string().contains("there is no file none.txt"), "{e}");
    for bad in ["../x", "a/b/c", ""] {
        let e = hub.repo(RepoKind::Model, bad).fetch(&missing, &Unobserved).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn what_is_cut_goes_on_where_it_ended() {
    let (server, dir) = start(Site::new().with_repo(model()));
    let hub = hub(&server, dir.path());
    let cut = || Faults::script([Some(Fault::CutBody), Some(Fault::StallBody)]).only("/blobs/");
    server.set_faults(cut().stall(Duration::from_secs(60)));
    let begin = Instant::now();
    check(&fetch_model(&hub).unwrap());
    assert!(begin.elapsed() < Duration::from_secs(50), "a stall is not waited for");
    // Each is asked of the Hub, and then of the host of large files.
    assert_eq!(server.log().ranges().len(), 4);

    // In another run, after a failure.
    let dir = tempfile::tempdir().unwrap();
    let mut once = settings(&server, dir.path());
    once.client.retry.attempts = 1;
    server.set_faults(Faults::script([Some(Fault::CutBody)]).only("/blobs/"));
    let one = Selection::Files(vec!["model-1.safetensors".to_owned()]);
    let repo = Hub::new(once).unwrap().repo(RepoKind::Model, MODEL);
    let e = repo.fetch(&one, &Unobserved).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert!(!e.to_string().contains("X-Signature"), "{e}");
    assert!(!dir.path().join("models--org--name/refs/main").exists());
    server.set_faults(Faults::none());
    server.clear_log();
    let fetched = repo.fetch(&one, &Unobserved).unwrap();
    assert_eq!(server.log().ranges(), ["bytes=150000-"; 2]);
    assert!(fs::read(fetched.folder().join("model-1.safetensors")).unwrap() == noise(1, 300_000));
    check_blobs(dir.path());
}

#[test]
fn wrong_bytes_do_not_get_in() {
    let (server, dir) = start(Site::new().with_repo(model()));
    server.set_faults(Faults::script([Fault::FlipByte, Fault::Replaced].map(Some)).only("/blobs/"));
    check(&fetch_model(&hub(&server, dir.path())).unwrap());
    check_blobs(dir.path());

    // Half a file of other bytes from before, and a byte too many.
    let dir = tempfile::tempdir().unwrap();
    let fetched = fetch_model(&hub(&server, dir.path())).unwrap();
    let place = fetched.folder().join("model-1.safetensors");
    let blob = fs::canonicalize(&place).unwrap();
    let partial = blob.with_extension("incomplete");
    for wrong in [noise(9, 150_000), noise(9, 300_000), noise(9, 300_001)] {
        fs::remove_file(&blob).unwrap();
        fs::write(&partial, wrong).unwrap();
        check(&fetch_model(&hub(&server, dir.path())).unwrap());
        assert!(!partial.exists());
    }
    // A content of another length is not what its name says.
    fs::write(&blob, "short").unwrap();
    check(&fetch_model(&hub(&server, dir.path())).unwrap());
}

#[test]
fn wrong_digests_and_odd_servers() {
    let quirk = |quirks: Quirks| {
        let mut repo = Repo::model(MODEL);
        let content = Content::new(noise(1, 100_000)).with_quirks(quirks);
        repo.put("model.safetensors", content, true);
        let (server, dir) = start(Site::new().with_repo(repo));
        server.set_faults(Faults::script([Some(Fault::CutBody)]).only("/blobs/"));
        let fetched = fetch_model(&hub(&server, dir.path()));
        check_blobs(dir.path());
        let incomplete = fs::read_dir(dir.path().join("models--org--name/blobs")).unwrap();
        let incomplete = incomplete
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".incomplete"));
        assert_eq!(incomplete.count(), 0);
        fetched.map(|f| fs::read(f.folder().join("model.safetensors")).unwrap())
    };
    let good = Quirks::default();
    for quirks in [
        good,
        Quirks { ignores_range: true, ..good },
        Quirks { no_etag: true, ..good },
        Quirks { no_length: true, ..good },
    ] {
        assert_eq!(quirk(quirks).unwrap(), noise(1, 100_000), "{quirks:?}");
    }
    let e = quirk(Quirks { wrong_etag: true, ..good }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
}

#[test]
fn a_tenth_of_all_requests_may_fail() {
    let (server, _) = start(Site::new().with_repo(model()).with_page(2));
    let (mut right, mut wrong) = (0, BTreeMap::new());
    for seed in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(&server, dir.path());
        settings.client.stall = Duration::from_millis(100);
        // Few attempts, so that some fail.
        settings.client.retry.attempts = if seed % 2 == 0 { 6 } else { 2 };
        let hub = Hub::new(settings).unwrap();
        server.set_faults(Faults::random(seed, 0.1).stall(Duration::from_millis(300)));
        match fetch_model(&hub) {
            Ok(fetched) => {
                check(&fetched);
                right += 1;
            }
            Err(e) => {
                assert!(e.to_string().contains("http://"), "{e}");
                *wrong.entry(format!("{:?}", e.kind())).or_insert(0) += 1;
                assert!(hub.repo(RepoKind::Model, MODEL).cached(&Selection::Model).is_err());
                server.set_faults(Faults::none());
                check(&fetch_model(&hub).unwrap());
            }
        }
        check_blobs(dir.path());
    }
    assert!(right >= 10, "{right} of 40 at once; {wrong:?}");
}

#[test]
fn many_at_once_fetch_each_file_once() {
    let (server, dir) = start(Site::new().with_repo(model()));
    let hubs: Vec<_> = (0..4).map(|_| hub(&server, dir.path())).collect();
    std::thread::scope(|scope| {
        for hub in &hubs {
            scope.spawn(|| check(&fetch_model(hub).unwrap()));
        }
    });
    assert_eq!(server.log().count("GET", "/blobs/"), 2);
    check_blobs(dir.path());
}

#[test]
fn cancelling_ends_a_fetch_that_stalls_or_waits_for_a_lock() {
    let (server, dir) = start(Site::new().with_repo(model()));
    let mut patient = settings(&server, dir.path());
    patient.client.stall = Duration::from_secs(2);
    let cancel = patient.client.cancel.clone();
    let lock_folder = dir.path().join(".locks/models--org--name");
    fs::create_dir_all(&lock_folder).unwrap();
    let hub = Hub::new(patient).unwrap();
    let files = hub.repo(RepoKind::Model, MODEL).files().unwrap();
    let locks: Vec<_> = files
        .iter()
        .map(|file| {
            let path = lock_folder.join(format!("{}.lock", file.digest.text()));
            let lock = fs::File::create(path).unwrap();
            lock.lock().unwrap();
            lock
        })
        .collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch_model(&hub));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!fetching.is_finished(), "it waits for the locks");
        cancel.cancel();
        assert_eq!(fetching.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    });
    assert!(begin.elapsed() < Duration::from_secs(20));
    drop(locks);
}

#[test]
fn progress_tells_of_every_byte() {
    #[derive(Default)]
    struct Told {
        plan: Mutex<(usize, u64)>,
        /// Bytes by file, and whether it ended.
        files: Mutex<BTreeMap<String, (u64, bool)>>,
    }
    impl FetchProgress for Told {
        fn plan(&self, files: usize, bytes: u64) {
            *self.plan.lock().unwrap() = (files, bytes);
        }
        fn begin(&self, file: &str, _total: u64, done: u64) {
            self.files.lock().unwrap().insert(file.to_owned(), (done, false));
        }
        fn advance(&self, file: &str, bytes: u64) {
            self.files.lock().unwrap().get_mut(file).unwrap().0 += bytes;
        }
        fn end(&self, file: &str) {
            self.files.lock().unwrap().get_mut(file).unwrap().1 = true;
        }
    }
    let (server, dir) = start(Site::new().with_repo(model()));
    server.set_faults(Faults::script([Fault::CutBody, Fault::FlipByte].map(Some)).only("/blobs/"));
    let told = Told::default();
    let repo = hub(&server, dir.path()).repo(RepoKind::Model, MODEL);
    repo.fetch(&Selection::Model, &told).unwrap();
    // The index has come before, for the plan.
    assert_eq!(*told.plan.lock().unwrap(), (4, 500_005));
    let files = told.files.into_inner().unwrap();
    assert_eq!(files["model-1.safetensors"], (300_000, true));
    assert_eq!(files["model-2.safetensors"], (200_000, true));
    assert!(files.len() == 5 && files.values().all(|file| file.1));
}

#[test]
fn a_file_or_folder_of_a_repository() {
    let repo = Repo::model("org/many")
        .with_file("README.md", "#")
        .with_file("small/config.json", "{}")
        .with_large_file("small/model.safetensors", noise(1, 1000))
        .with_large_file("large/model.safetensors", noise(2, 1000));
    let (server, dir) = start(Site::new().with_repo(repo));
    let hub = hub(&server, dir.path());
    let fetch = |text: &str| {
        let crate::Location::Hub(name) = crate::Location::parse(text, RepoKind::Model)? else {
            panic!("{text}")
        };
        hub.named(&name).fetch(&Selection::Model, &Unobserved)
    };
    let small = fetch("hf://org/many/small").unwrap();
    assert_eq!(small.files(), ["small/config.json", "small/model.safetensors"]);
    assert_eq!(small.path(), small.folder().join("small"));
    assert_eq!(small.others().unwrap(), [""; 0]);
    let one = fetch("hf://org/many/large/model.safetensors").unwrap();
    assert_eq!(fs::read(one.path()).unwrap(), noise(2, 1000));
    let e = fetch("hf://org/many/none").unwrap_err();
    assert!(e.to_string().contains("no file or folder none"), "{e}");
    assert_eq!(fetch("hf://org/many@main/small").unwrap(), small);
    // What somebody else puts into the snapshot is told apart.
    fs::write(small.path().join("optimizer.bin"), "x").unwrap();
    assert_eq!(small.others().unwrap(), ["optimizer.bin"]);
}

#[test]
fn too_many_requests() {
    let (server, dir) = start(Site::new().with_repo(model()));
    let hub = hub(&server, dir.path());
    server.set_faults(Faults::script([Some(Fault::TooMany(0)); 3]));
    check(&fetch_model(&hub).unwrap());
    // Who asks for an hour is not waited for.
    server.set_faults(Faults::script([Some(Fault::TooMany(3600))]));
    let other = hub.repo(RepoKind::Model, "org/other");
    let e = other.fetch(&Selection::Model, &Unobserved).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    assert!(e.to_string().contains("too many requests"), "{e}");
    assert!(e.to_string().contains(&server.endpoint()), "{e}");
}

#[test]
fn ranges_and_other_names() {
    let repo = model().with_former_name("name").on_branch("refs/pr/1").with_file("a b.txt", "pr");
    let (server, dir) = start(Site::new().with_repo(repo).with_token("hf_good"));
    let mut settings = settings(&server, dir.path());
    settings.token = Some(Token::new("hf_good"));
    let hub = Hub::new(settings).unwrap();
    let repo = hub.repo(RepoKind::Model, MODEL);
    let file = repo.open("model-1.safetensors").unwrap();
    assert_eq!(file.byte_len(), 300_000);
    assert_eq!(&*file.bytes_at(200_000, 5).unwrap(), &noise(1, 300_000)[200_000..200_005]);
    assert!(server.log().sent() < 100_000);
    assert_eq!(server.log().authorizations("localhost"), [""; 0]);

    // Branches with slashes, and an id that the repository had.
    let pr = hub.repo(RepoKind::Model, "name").revision("refs/pr/1");
    let one = Selection::Files(vec!["a b.txt".to_owned()]);
    let fetched = pr.fetch(&one, &Unobserved).unwrap();
    assert_eq!(fs::read(fetched.folder().join("a b.txt")).unwrap(), b"pr");
    let noted = dir.path().join("models--name/refs/refs/pr/1");
    assert_eq!(fs::read_to_string(noted).unwrap(), fetched.commit());
    let name = crate::HubName::parse("org/name@refs/pr/1", RepoKind::Model).unwrap();
    assert_eq!(hub.named(&name).commit().unwrap(), fetched.commit());
}
