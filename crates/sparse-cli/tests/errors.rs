//! What can go wrong: exit codes, and one clear sentence each.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use support::{Pair, Run, fails, run, safetensors, sparse};

#[test]
fn usage() {
    for args in [
        &["compress"][..],
        &["compress", "a", "b"],
        &["nonsense"],
        &["info", "d", "--threads", "0"],
        &["info", "d", "--threads", "100000"],
        &["info", "d", "-q", "-v"],
        &["estimate", "a", "b", "--share", "2"],
        &["compress", "a", "b", "-o", "c", "--effort", "huge"],
    ] {
        let text = run(args);
        assert_eq!((text.code, text.stdout.as_str()), (Some(2), ""), "{text:?}");
        let json = Run::of(sparse().args(args).arg("--json"));
        assert_eq!(
            (json.code, json.json()["error"]["kind"].as_str()),
            (Some(2), Some("usage")),
            "{json:?}"
        );
    }
    assert!(fails(&["compress", "a", "-o", "d"], 2, "usage").contains("--no-base"));
    assert!(fails(&["compress", "a", "b", "c", "-o", "d"], 2, "usage").contains("3 inputs"));
    fails(&["compress", "--no-base", "a", "b", "-o", "d"], 2, "usage");
    fails(&["reconstruct", "--no-base", "a", "b", "-o", "d"], 2, "usage");
    fails(&["verify", "a", "b", "c"], 2, "usage");
    let none = Run::of(&mut sparse());
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("Usage"));
}

#[test]
fn missing_inputs() {
    let pair = Pair::small();
    let (base, none, out) = (pair.arg("base"), pair.arg("no/such"), pair.arg("out"));
    let delta = pair.delta();
    for args in [
        &["compress", &none, &base, "-o", &out][..],
        &["compress", &base, &none, "-o", &out],
        &["reconstruct", &none, &delta, "-o", &out],
        &["reconstruct", &base, &none, "-o", &out],
        &["verify", &base, &none],
        &["info", &none],
        &["estimate", &base, &none],
    ] {
        let sentence = fails(args, 1, "not_found");
        assert!(sentence.contains("no/such"), "{sentence}");
    }
    let sentence = fails(&["info", "org/name"], 1, "not_found");
    assert!(sentence.contains("org/name"), "{sentence}");
    assert!(fails(&["estimate", &base, "org/name"], 1, "not_found").contains("Hugging Face cache"));
    let sentence = fails(
        &["compress", &base, &pair.arg("finetuned"), "-o", &pair.arg("no/d")],
        1,
        "not_found",
    );
    assert!(sentence.contains("no"), "{sentence}");
}

#[test]
fn outputs_are_not_replaced_unasked() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    let before = fs::read(&delta).unwrap();
    let args = ["compress", &base, &tuned, "-o", &delta];
    let sentence = fails(&args, 6, "already_exists");
    assert!(sentence.contains("d.sparse") && sentence.contains("--force"), "{sentence}");
    assert_eq!(fs::read(&delta).unwrap(), before);
    fs::write(&delta, "old").unwrap();
    run(args.into_iter().chain(["--force"])).succeeded();
    assert!(fs::read(&delta).unwrap().len() > 1000);

    fs::create_dir(pair.path("out")).unwrap();
    fs::write(pair.path("out/old"), "old").unwrap();
    let out = pair.arg("out");
    let args = ["reconstruct", &base, &delta, "-o", &out];
    assert!(fails(&args, 6, "already_exists").contains("--force"));
    assert_eq!(fs::read(pair.path("out/old")).unwrap(), b"old");
    run(args.into_iter().chain(["-f"])).succeeded();
    support::assert_same(&pair.path("finetuned"), &pair.path("out"));

    let sentence = fails(&["compress", &base, &tuned, "-o", &out, "--force"], 6, "already_exists");
    assert!(!sentence.contains("--force"), "{sentence}");
}

#[test]
fn inputs_are_not_written_to() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    fails(
        &["compress", &base, &tuned, "-f", "-o", &pair.arg("base/config.json")],
        2,
        "invalid_argument",
    );
    fails(&["reconstruct", &base, &delta, "-f", "-o", &base], 2, "invalid_argument");
    fails(
        &["reconstruct", &base, &delta, "-f", "-o", &pair.arg("base/new")],
        2,
        "invalid_argument",
    );
    fails(&["reconstruct", &base, &delta, "-f", "-o", &delta], 2, "invalid_argument");
}

/// A device or a pipe is not replaced by a file, whatever was asked for.
#[cfg(unix)]
#[test]
fn special_files_stay() {
    use std::os::unix::fs::FileTypeExt;
    let pair = Pair::small();
    let pipe = pair.arg("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    for args in [
        &["compress", &base, &tuned, "--force", "-o", &pipe][..],
        &["reconstruct", &base, &delta, "--force", "-o", &pipe],
    ] {
        fails(args, 2, "invalid_argument");
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn wrong_base() {
    let pair = Pair::small();
    let delta = pair.delta();
    // One bit of one weight.
    let shard = pair.path("base/model-00001-of-00002.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.iter_mut().rev().nth(5000).unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let (base, out) = (pair.arg("base"), pair.arg("out"));
    for args in [&["reconstruct", &base, &delta, "-o", &out][..], &["verify", &base, &delta]] {
        let sentence = fails(args, 3, "base_mismatch");
        assert!(sentence.contains("layers.0.weight"), "{sentence}");
        let json = Run::of(sparse().args(args).arg("--json")).json();
        assert_eq!(json["error"]["tensor"], "layers.0.weight");
    }
    // Another model altogether.
    let other = Pair::new(1, 8, 32);
    fails(&["reconstruct", &other.arg("base"), &delta, "-o", &out], 3, "base_mismatch");
    let sentence = fails(&["reconstruct", &delta, "-o", &out], 2, "invalid_argument");
    assert!(sentence.contains("base"), "{sentence}");
    assert_eq!(pair.names(), ["base", "d.sparse", "finetuned"]);
}

#[test]
fn malformed_models() {
    let pair = Pair::small();
    let (base, out) = (pair.arg("base"), pair.arg("out"));
    let good = fs::read(pair.path("finetuned/model-00001-of-00002.safetensors")).unwrap();
    let bad = pair.path("bad.safetensors");
    for (bytes, kind) in [
        (&good[..good.len() - 1], "truncated"),
        (&good[..20], "truncated"),
        (&good[..5], "truncated"),
        (&b"\x10\0\0\0\0\0\0\0not json at all!"[..], "invalid_input"),
        (&b"\xff\xff\xff\xff\xff\xff\xff\xffxxxxxxxx"[..], "invalid_input"),
    ] {
        fs::write(&bad, bytes).unwrap();
        for args in [
            &["compress", &base, bad.to_str().unwrap(), "-o", &out][..],
            &["estimate", &base, bad.to_str().unwrap()],
        ] {
            let run = Run::of(sparse().args(args).arg("--json"));
            assert_eq!(run.code, Some(4), "{kind}: {run:?}");
            let sentence = fails(args, 4, run.json()["error"]["kind"].as_str().unwrap());
            assert!(sentence.contains("bad.safetensors"), "{sentence}");
        }
    }
    // Cut short within a folder.
    fs::write(pair.path("finetuned/model-00001-of-00002.safetensors"), &good[..good.len() / 2])
        .unwrap();
    let sentence = fails(&["compress", &base, &pair.arg("finetuned"), "-o", &out], 4, "truncated");
    assert!(sentence.contains("model-00001-of-00002.safetensors"), "{sentence}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn damaged_deltas() {
    let pair = Pair::small();
    let good = fs::read(pair.delta()).unwrap();
    let (base, out, bad) = (pair.arg("base"), pair.arg("out"), pair.arg("bad.sparse"));
    let all =
        [&["reconstruct", &base, &bad, "-o", &out][..], &["verify", &base, &bad], &["info", &bad]];
    for (bytes, code, kind) in [
        (good[..good.len() - 1].to_vec(), 4, "truncated"),
        (good[..good.len() / 2].to_vec(), 4, "truncated"),
        (good[..10].to_vec(), 4, "truncated"),
        (vec![], 4, "not_this_format"),
        (b"anything else, of any length at all".to_vec(), 4, "not_this_format"),
        (safetensors(&[]), 4, "not_this_format"),
        (
            {
                let mut b = good.clone();
                b[8] = 200;
                b
            },
            5,
            "unsupported_version",
        ),
        (
            {
                let mut b = good.clone();
                let n = b.len();
                b[n - 60] ^= 1;
                b
            },
            4,
            "corrupt",
        ),
    ] {
        fs::write(&bad, &bytes).unwrap();
        for args in all {
            let sentence = fails(args, code, kind);
            assert!(sentence.contains("bad.sparse"), "{sentence}");
        }
    }
    // Damage to the payload shows only when it is read.
    let mut bytes = good.clone();
    bytes[good.len() / 3] ^= 1;
    fs::write(&bad, &bytes).unwrap();
    for args in &all[..2] {
        let sentence = fails(args, 4, "corrupt");
        assert!(sentence.contains("bad.sparse"), "{sentence}");
    }
    run(["info", &bad]).succeeded();
    // A folder instead of a delta.
    fails(&["info", &base], 4, "not_this_format");
    assert_eq!(pair.names(), ["bad.sparse", "base", "d.sparse", "finetuned"]);
}

#[cfg(unix)]
#[test]
fn no_permission() {
    use std::os::unix::fs::PermissionsExt;
    let pair = Pair::small();
    let locked = pair.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Root writes everywhere.
    if fs::write(locked.join("probe"), "").is_ok() {
        return;
    }
    let (base, tuned, delta) =
        (pair.arg("base"), pair.arg("finetuned"), pair.arg("locked/d.sparse"));
    let args = ["compress", &base, &tuned, "-o", &delta];
    // The sentence names the temporary file, so it differs from run to run.
    let text = run(args);
    assert!(text.code == Some(1) && text.stderr.contains("locked"), "{text:?}");
    assert!(
        text.stderr.contains("ermission denied") && text.stderr.contains("check its permissions"),
        "{text:?}"
    );
    let json = Run::of(sparse().args(args).arg("--json"));
    assert_eq!(
        (json.code, json.json()["error"]["kind"].as_str()),
        (Some(1), Some("io")),
        "{json:?}"
    );
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The disk is full, or nearly: files may not grow beyond a limit.
#[cfg(unix)]
#[test]
fn full_disk() {
    let pair = Pair::new(2, 256, 1024);
    let delta = pair.delta();
    fs::create_dir(pair.path("full")).unwrap();
    let limited = |args: &str| {
        // In blocks of 512 or 1024 bytes, as shells please; with the signal ignored, writing fails
        // as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -f 64; exec \"$@\" {args}");
        let mut sh = std::process::Command::new("sh");
        Run::of(sh.arg("-c").arg(script).arg("sh").arg(env!("CARGO_BIN_EXE_sparse")))
    };
    let (base, tuned) = (pair.arg("base"), pair.arg("finetuned"));
    for args in [
        format!("compress {base} {tuned} -o {}", pair.arg("full/d.sparse")),
        format!("reconstruct {base} {delta} -o {}", pair.arg("full/out")),
    ] {
        let run = limited(&args);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("full/") || run.stderr.contains("model-0000"), "{run:?}");
        assert_eq!(limited(&format!("{args} --json")).json()["error"]["kind"], "io");
        assert_eq!(fs::read_dir(pair.path("full")).unwrap().count(), 0, "nothing is left behind");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_is_full_or_closed() {
    let pair = Pair::small();
    let delta = pair.delta();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let run = sparse().args(["info", &delta]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(
        String::from_utf8(run.stderr)
            .unwrap()
            .starts_with("error: cannot write to standard output")
    );

    // A reader that leaves before anything is written.
    for args in [&["info", &delta][..], &["info", &delta, "--json"], &["--help"], &["no", "--json"]]
    {
        let mut child =
            sparse().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let run = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(matches!(run.status.code(), Some(0 | 2)), "{:?}", run.status);
    }
}
