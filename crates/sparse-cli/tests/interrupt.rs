//! Killed or interrupted at any moment: the final name holds what was there before, or the complete
//! new file.

#![cfg(unix)]
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Once, atomic::AtomicBool};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::{Pair, assert_same, tree};

/// The program, with no signal ignored, however the tests were started: `nohup` ignores SIGHUP, and
/// shells ignore SIGINT of what they run in the background, and both would be inherited. A signal
/// that this process handles has its usual effect again in what it starts. (A Ctrl-C still ends the
/// tests.)
fn sparse() -> Command {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let number = signal.as_raw();
            let always = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, always).unwrap();
        }
    });
    support::sparse()
}

/// The program, with SIGINT and SIGHUP ignored.
fn under_nohup() -> Command {
    let mut command = Command::new("sh");
    let own = sparse();
    command
        .args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""])
        .arg(own.get_program())
        .stdin(Stdio::null());
    command
}

/// A pair that takes long enough to be interrupted: 2 x 32 MB.
fn pair() -> Pair {
    Pair::new(16, 1024, 1024)
}

/// Send `signal`; fails when the program has ended already, which is one of the cases.
fn kill(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Run with `args` and send `signal` after `delay`.
fn signalled(args: &[String], signal: Signal, delay: Duration) -> ExitStatus {
    let mut child =
        sparse().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(delay);
    kill(&child, signal);
    child.wait().unwrap()
}

/// Run with `args`, again and again, until `signal` arrives while the temporary of its output `new`
/// is there.
fn signalled_while_writing(pair: &Pair, args: &[String], signal: Signal) -> Output {
    signalled_by(&mut sparse, pair, args, &[signal])
}

/// The same with a program that `program` makes, and several signals.
fn signalled_by(
    program: &mut dyn FnMut() -> Command,
    pair: &Pair,
    args: &[String],
    signals: &[Signal],
) -> Output {
    for _ in 0..100 {
        // One thread: whoever watches needs a processor, too.
        let mut child = program()
            .args(args)
            .args(["--threads", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while temporaries(pair) == 0 && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(100));
        }
        signals.iter().for_each(|&signal| kill(&child, signal));
        let output = child.wait_with_output().unwrap();
        let died_after = output.status.signal().is_some() && pair.path("new").exists();
        if !output.status.success() && !died_after {
            return output;
        }
        // It was quicker, perhaps by so little that the signal met it on its way out.
        remove(&pair.path("new"));
    }
    panic!("never quick enough");
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
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

/// The temporaries of the output `new`.
fn temporaries(pair: &Pair) -> usize {
    pair.names().iter().filter(|n| n.starts_with(".new.")).count()
}

/// Delays from before the first write to beyond the end.
fn delays(whole: Duration) -> impl Iterator<Item = Duration> {
    (0..=7).map(move |part| whole * part / 6)
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

    let mut killed = 0;
    for delay in delays(whole) {
        // Where nothing was.
        fs::remove_file(&delta).unwrap();
        let status = signalled(&compress, Signal::KILL, delay);
        killed += usize::from(status.signal().is_some());
        if Path::new(&delta).exists() {
            assert!(fs::read(&delta).unwrap() == complete);
        } else {
            assert!(!status.success());
        }
        // Where something was.
        fs::write(&delta, "old").unwrap();
        signalled(&compress_over, Signal::KILL, delay);
        let now = fs::read(&delta).unwrap();
        assert!(now == b"old" || now == complete, "{} bytes", now.len());
    }
    assert!(killed > 0);

    let new = args(["compress", &base, &tuned, "-o", &pair.arg("new")]);
    assert_eq!(signalled_while_writing(&pair, &new, Signal::KILL).status.signal(), Some(9));
    assert_eq!(temporaries(&pair), 1);
    timed(&new);
    timed(&compress_over);
    assert_eq!(pair.names(), ["base", "d.sparse", "finetuned", "new"], "the next run cleans up");
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

    let mut killed = 0;
    for delay in delays(whole) {
        fs::remove_dir_all(&out).unwrap();
        let status = signalled(&reconstruct, Signal::KILL, delay);
        killed += usize::from(status.signal().is_some());
        if Path::new(&out).exists() {
            assert_same(&pair.path("finetuned"), Path::new(&out));
        } else {
            assert!(!status.success());
        }
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        fs::write(pair.path("out/old"), "old").unwrap();
        signalled(&reconstruct_over, Signal::KILL, delay);
        let now = tree(Path::new(&out));
        if now.len() == 1 {
            assert_eq!(now[Path::new("old")].as_deref(), Some(&b"old"[..]));
        } else {
            assert_same(&pair.path("finetuned"), Path::new(&out));
        }
    }
    assert!(killed > 0);

    let new = args(["reconstruct", &base, &delta, "-o", &pair.arg("new")]);
    assert_eq!(signalled_while_writing(&pair, &new, Signal::KILL).status.signal(), Some(9));
    assert_eq!(temporaries(&pair), 1);
    timed(&new);
    timed(&reconstruct_over);
    assert_eq!(
        pair.names(),
        ["base", "d.sparse", "finetuned", "new", "out"],
        "the next run cleans up"
    );
    assert_same(&pair.path("finetuned"), Path::new(&out));
}

#[test]
fn interrupted() {
    let pair = pair();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    let before = ["base", "d.sparse", "finetuned"];
    let verify = args(["verify", &base, &delta]);
    let whole = timed(&verify);
    let status = signalled(&verify, Signal::INT, whole / 2);
    // The last: so early that nobody was watching yet.
    assert!(matches!(status.code(), Some(0 | 130)) || status.signal() == Some(2), "{status:?}");

    let new = pair.arg("new");
    for command in [
        args(["compress", &base, &tuned, "-o", &new, "--json"]),
        args(["reconstruct", &base, &delta, "-o", &new, "--json"]),
    ] {
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let output = signalled_while_writing(&pair, &command, signal);
            if cfg!(not(target_os = "linux")) && signal == Signal::HUP {
                remove(&pair.path("new"));
                timed(&command);
                remove(&pair.path("new"));
                continue;
            }
            assert_eq!(
                (output.status.code(), &*output.stderr),
                (Some(code), &b""[..]),
                "{output:?}"
            );
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(json["error"]["kind"], "cancelled");
            assert_eq!(pair.names(), before, "nothing is left behind");
        }
    }
    // As GNU timeout sends it: to the process, and to its group.
    let twice = [Signal::TERM, Signal::TERM];
    let command = args(["compress", &base, &tuned, "-o", &new, "--json"]);
    let output = signalled_by(&mut sparse, &pair, &command, &twice);
    assert_eq!((output.status.code(), pair.names()), (Some(143), before.map(str::to_owned).into()));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["error"]["kind"], "cancelled");
    let text =
        signalled_while_writing(&pair, &args(["compress", &base, &tuned, "-o", &new]), Signal::INT);
    assert_eq!(text.stderr, b"error: interrupted; no output is left behind\n");
}

/// What `nohup` has ignored stays ignored, and being told to terminate still ends the program
/// cleanly.
#[cfg(target_os = "linux")]
#[test]
fn terminated_under_nohup() {
    let pair = pair();
    let (base, tuned, new) = (pair.arg("base"), pair.arg("finetuned"), pair.arg("new"));
    let compress = args(["compress", &base, &tuned, "-o", &new]);
    let ignored = [Signal::INT, Signal::HUP, Signal::TERM];
    let output = signalled_by(&mut under_nohup, &pair, &compress, &ignored);
    assert_eq!(output.status.code(), Some(143), "only the last stops it: {output:?}");
    assert_eq!(output.stderr, b"error: interrupted; no output is left behind\n");
    assert_eq!(pair.names(), ["base", "finetuned"]);

    let mut child = under_nohup().args(&compress).stdout(Stdio::null()).spawn().unwrap();
    while temporaries(&pair) == 0 && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_micros(100));
    }
    kill(&child, Signal::INT);
    kill(&child, Signal::HUP);
    assert!(child.wait().unwrap().success());
    assert_eq!(pair.names(), ["base", "finetuned", "new"]);
}

/// One call of a compressor takes longer than anybody waits: the program ends all the same, and
/// cleans up.
#[cfg(feature = "dataset")]
#[test]
fn work_that_does_not_notice_is_given_up() {
    let pair = Pair::small();
    let mut random = support::Random(7);
    let text: String = (0..60_000u64)
        .map(|i| {
            format!(
                "{{\"a\": {i}, \"b\":\"{:x}{:x}{:x}\"}}\n",
                random.next(),
                random.next(),
                i * i % 977
            )
        })
        .collect();
    fs::write(pair.path("b.jsonl"), &text).unwrap();
    fs::write(pair.path("d.jsonl"), text.replace("\"b\":", "\"b\" :  ")).unwrap();
    let (base, new, out) = (pair.arg("b.jsonl"), pair.arg("d.jsonl"), pair.arg("new"));
    let temporary = pair.arg("tmp");
    fs::create_dir(&temporary).unwrap();
    let compress = args([
        "dataset-compress",
        &base,
        &new,
        "-o",
        &out,
        "--exact",
        "--effort",
        "max",
        "--json",
        "--temporary",
    ]);
    let before = pair.names();
    for delay in [300, 1500, 4000] {
        let mut child = sparse()
            .args(&compress)
            .arg(&temporary)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while temporaries(&pair) == 0 && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(delay));
        let start = Instant::now();
        kill(&child, Signal::TERM);
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            remove(Path::new(&out));
            continue;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} after {delay} ms", start.elapsed());
        assert_eq!((output.status.code(), &*output.stderr), (Some(143), &b""[..]), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["error"]["kind"], "cancelled");
        assert_eq!(pair.names(), before, "nothing is left behind");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    }
}
