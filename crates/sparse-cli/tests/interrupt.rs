//! Killed or interrupted at any moment: the final name holds what was there before, or the complete new file.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::{Pair, assert_same, sparse, tree};

/// A pair that takes long enough to be interrupted: 2 x 12 MB.
fn pair() -> Pair {
    Pair::new(6, 1024, 1024)
}

/// Run with `args` and send `signal` after `delay`.
fn signalled(args: &[String], signal: &str, delay: Duration) -> ExitStatus {
    let mut child = sparse().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(delay);
    let pid = child.id().to_string();
    // Fails when the program has ended already: that is one of the cases.
    Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status().unwrap();
    child.wait().unwrap()
}

/// How long a run takes.
fn timed(args: &[String]) -> Duration {
    let start = Instant::now();
    assert!(sparse().args(args).stdout(Stdio::null()).status().unwrap().success());
    start.elapsed()
}

fn args<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).to_vec()
}

/// Names of `pair` that begin with a dot: temporaries.
fn hidden(pair: &Pair) -> Vec<String> {
    pair.names().into_iter().filter(|n| n.starts_with('.')).collect()
}

/// Delays from before the first write to beyond the end.
fn delays(whole: Duration) -> impl Iterator<Item = Duration> {
    (0..=10).map(move |tenths| whole * tenths / 9)
}

#[test]
fn killed_while_compressing() {
    let pair = pair();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"));
    let compress = args(["compress", &base, &tuned, "-o", &delta]);
    let whole = timed(&compress);
    let complete = fs::read(&delta).unwrap();
    let mut compress_over = compress.clone();
    compress_over.push("--force".to_owned());

    let (mut killed, mut left) = (0, 0);
    for delay in delays(whole) {
        // Where nothing was.
        fs::remove_file(&delta).unwrap();
        let status = signalled(&compress, "-KILL", delay);
        killed += usize::from(status.signal().is_some());
        left += hidden(&pair).len();
        if Path::new(&delta).exists() {
            assert!(fs::read(&delta).unwrap() == complete);
        } else {
            assert!(!status.success());
        }
        // Where something was.
        fs::write(&delta, "old").unwrap();
        signalled(&compress_over, "-KILL", delay);
        let now = fs::read(&delta).unwrap();
        assert!(now == b"old" || now == complete, "{} bytes", now.len());
    }
    assert!(killed > 3 && left > 0, "killed {killed} times, {left} temporaries left");

    timed(&compress_over);
    assert_eq!(pair.names(), ["base", "d.sparse", "finetuned"], "the next run cleans up");
    assert!(fs::read(&delta).unwrap() == complete);
}

#[test]
fn killed_while_reconstructing() {
    let pair = pair();
    let (base, delta, out) = (pair.arg("base"), pair.delta(), pair.arg("out"));
    let reconstruct = args(["reconstruct", &base, &delta, "-o", &out]);
    let whole = timed(&reconstruct);
    let mut reconstruct_over = reconstruct.clone();
    reconstruct_over.push("--force".to_owned());

    let (mut killed, mut left) = (0, 0);
    for delay in delays(whole) {
        fs::remove_dir_all(&out).unwrap();
        let status = signalled(&reconstruct, "-KILL", delay);
        killed += usize::from(status.signal().is_some());
        left += hidden(&pair).len();
        if Path::new(&out).exists() {
            assert_same(&pair.path("finetuned"), Path::new(&out));
        } else {
            assert!(!status.success());
        }
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        fs::write(pair.path("out/old"), "old").unwrap();
        signalled(&reconstruct_over, "-KILL", delay);
        let now = tree(Path::new(&out));
        if now.len() == 1 {
            assert_eq!(now[Path::new("old")].as_deref(), Some(&b"old"[..]));
        } else {
            assert_same(&pair.path("finetuned"), Path::new(&out));
        }
    }
    assert!(killed > 3 && left > 0, "killed {killed} times, {left} temporaries left");

    timed(&reconstruct_over);
    assert_eq!(pair.names(), ["base", "d.sparse", "finetuned", "out"], "the next run cleans up");
    assert_same(&pair.path("finetuned"), Path::new(&out));
}

#[test]
fn interrupted() {
    let pair = pair();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    for command in [
        args(["compress", &base, &tuned, "-o", &pair.arg("new"), "--json"]),
        args(["reconstruct", &base, &delta, "-o", &pair.arg("new")]),
        args(["verify", &base, &delta]),
        args(["compress", &base, &tuned, "-o", &pair.arg("new"), "--effort", "max"]),
    ] {
        let whole = if command[0] == "verify" { timed(&command) } else { Duration::from_millis(150) };
        for (signal, part) in [("-INT", 3), ("-TERM", 2)] {
            // Not before the handler is there: the first milliseconds are the system's.
            let status = signalled(&command, signal, (whole / part).max(Duration::from_millis(30)));
            match status.code() {
                Some(130) => assert!(!pair.path("new").exists()),
                // It was quicker.
                Some(0) => {
                    let _ = fs::remove_file(pair.path("new"));
                    let _ = fs::remove_dir_all(pair.path("new"));
                }
                other => panic!("{command:?}: {other:?} {status:?}"),
            }
            assert_eq!(pair.names(), ["base", "d.sparse", "finetuned"], "nothing is left behind");
        }
    }
    // This one cannot be quicker: the interrupt comes when its temporary file is there.
    let command = args(["compress", &base, &tuned, "-o", &pair.arg("new"), "--effort", "max", "--json"]);
    let child = sparse().args(&command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while hidden(&pair).is_empty() {
        sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["error"]["kind"], "cancelled");
    assert_eq!(pair.names(), ["base", "d.sparse", "finetuned"]);
}
