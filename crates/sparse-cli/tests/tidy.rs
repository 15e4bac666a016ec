//! Private and tidy: permissions, odd inputs and outputs, names, one JSON object, and no base
//! opened unasked.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use support::{Pair, Run, fails, run, sparse};

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Run with a umask.
    fn masked(umask: &str, args: &[&str]) -> Run {
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let mut sh = Command::new("sh");
        Run::of(sh.args(["-c", &script, env!("CARGO_BIN_EXE_sparse")]).args(args))
    }

    #[test]
    fn new_outputs_follow_the_umask_and_replaced_ones_keep_their_mode() {
        let pair = Pair::small();
        let (base, tuned) = (pair.arg("base"), pair.arg("finetuned"));
        let (delta, out) = (pair.arg("d.sparse"), pair.arg("out"));
        let compress = ["compress", &base, &tuned, "-o", &delta, "-q"];
        for (umask, want) in [("022", 0o644), ("077", 0o600), ("027", 0o640)] {
            let _ = fs::remove_file(&delta);
            masked(umask, &compress).succeeded();
            assert_eq!(mode(Path::new(&delta)), want);
        }
        for want in [0o600, 0o640, 0o444] {
            set_mode(Path::new(&delta), want);
            masked("022", &[&compress[..], &["-f"]].concat()).succeeded();
            assert_eq!(mode(Path::new(&delta)), want);
        }
        let reconstruct = ["reconstruct", &base, &delta, "-o", &out, "-q"];
        for (umask, folder, file) in [("022", 0o755, 0o644), ("077", 0o700, 0o600)] {
            let _ = fs::remove_dir_all(&out);
            masked(umask, &reconstruct).succeeded();
            assert_eq!(mode(Path::new(&out)), folder);
            assert_eq!(mode(&pair.path("out/extra")), folder);
            assert_eq!(mode(&pair.path("out/extra/deep/notes ü.md")), file);
        }
        // Some of what is replaced is secret, some is not.
        set_mode(&pair.path("out"), 0o750);
        set_mode(&pair.path("out/extra"), 0o711);
        set_mode(&pair.path("out/config.json"), 0o640);
        fs::remove_file(pair.path("out/tokenizer.txt")).unwrap();
        masked("022", &[&reconstruct[..], &["-f"]].concat()).succeeded();
        for (path, want) in [
            ("out", 0o750),
            ("out/extra", 0o711),
            ("out/config.json", 0o640),
            ("out/empty", 0o600),
            ("out/tokenizer.txt", 0o644),
        ] {
            assert_eq!(mode(&pair.path(path)), want, "{path}");
        }
        // An empty folder counts as absent, but somebody chose its mode.
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
        set_mode(Path::new(&out), 0o700);
        masked("022", &reconstruct).succeeded();
        assert_eq!(mode(Path::new(&out)), 0o700);
    }

    /// Ends within a few seconds, whatever it waits for.
    fn promptly(args: &[&str], code: i32, kind: &str) -> String {
        let start = Instant::now();
        let mut child =
            sparse().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(20) {
                let _ = child.kill();
                panic!("{args:?} waits");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        fails(args, code, kind)
    }

    #[test]
    fn pipes_and_devices_are_no_inputs() {
        let pair = Pair::small();
        let (base, delta, out) = (pair.arg("base"), pair.delta(), pair.arg("out"));
        let pipe = pair.arg("pipe.jsonl");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(pair.path("socket")).unwrap();
        let socket = pair.arg("socket");
        for odd in [pipe.as_str(), "/dev/null", &socket] {
            for args in [
                &["info", odd][..],
                &["verify", &base, odd],
                &["verify", odd],
                &["reconstruct", &base, odd, "-o", &out],
                &["verify", odd, &delta],
                &["compress", &base, odd, "-o", &out],
                &["compress", "--no-base", odd, "-o", &out],
                &["estimate", &base, odd],
                &["quality", &base, &base, odd],
                &["export-adapter", &base, odd, "-o", &out],
                &["compress-adapter", &base, odd, "-o", &out],
                &["compress", &base, &base, "--adapter", odd, "-o", &out],
            ] {
                promptly(args, 4, "invalid_input");
            }
            #[cfg(feature = "dataset")]
            for args in [
                &["dataset-reconstruct", odd, "-o", &out][..],
                &["dataset-compress", odd, odd, "-o", &out],
                &["dataset-estimate", odd, odd],
                &["dataset-diff", odd, odd],
            ] {
                promptly(args, 4, "invalid_input");
            }
        }
        assert!(
            promptly(&["info", &pipe], 4, "invalid_input").contains("it is a pipe, not a file")
        );
        fails(&["info", &base], 4, "not_this_format");
        #[cfg(feature = "dataset")]
        fails(&["dataset-reconstruct", &base, "-o", &out], 4, "invalid_input");
        assert!(!pair.path("out").exists());
    }

    #[cfg(feature = "dataset")]
    #[test]
    fn temporary_files_of_datasets_are_private_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir(path("tmp")).unwrap();
        let rows = |odd: u32| -> String {
            (0..2000)
                .map(|i| {
                    format!(
                        "{{\"id\":{i},\"text\":\"{}\"}}\n",
                        "word ".repeat(20 + (i % 7 * odd) as usize)
                    )
                })
                .collect()
        };
        fs::write(path("b.jsonl"), rows(0)).unwrap();
        fs::write(path("d.jsonl"), rows(1)).unwrap();
        // What a process that was killed left: of it, and of somebody else.
        let dead = dir.path().join("tmp/.sparse-dataset.999999999.0.partial");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("rows"), "secret").unwrap();
        fs::create_dir(path("tmp/other")).unwrap();
        let (tmp, base, new) = (path("tmp"), path("b.jsonl"), path("d.jsonl"));
        let temporary = ["--temporary", &tmp, "--memory", "16M"];
        let (delta, out) = (path("x.sparse"), path("out.jsonl"));
        let compress =
            [&["dataset-compress", &base, &new, "-o", &delta, "--exact"][..], &temporary];
        run(compress.concat()).succeeded();
        let left = || -> Vec<_> {
            fs::read_dir(path("tmp")).unwrap().map(|e| e.unwrap().file_name()).collect()
        };
        assert_eq!(left(), ["other"]);
        run([&["dataset-reconstruct", &delta, "-o", &out][..], &temporary].concat()).succeeded();
        assert_eq!(left(), ["other"]);
        assert_eq!(fs::read(&out).unwrap(), fs::read(&new).unwrap());
    }

    #[test]
    fn links_as_outputs() {
        let pair = Pair::small();
        let (base, tuned) = (pair.arg("base"), pair.arg("finetuned"));
        let link = pair.arg("link");
        let compress = ["compress", &base, &tuned, "-o", &link];
        symlink("nowhere", &link).unwrap();
        fails(&compress, 1, "not_found");
        fs::remove_file(&link).unwrap();
        symlink(pair.path("base/config.json"), &link).unwrap();
        fails(&[&compress[..], &["-f"]].concat(), 2, "invalid_argument");
        fs::remove_file(&link).unwrap();
        fs::write(pair.path("real"), "old").unwrap();
        symlink("real", &link).unwrap();
        fails(&compress, 6, "already_exists");
        run([&compress[..], &["-f"]].concat()).succeeded();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read(pair.path("real")).unwrap().len() > 100);
        assert_eq!(pair.names(), ["base", "finetuned", "link", "real"]);
    }

    /// On Linux a program may have any bytes as arguments.
    #[cfg(target_os = "linux")]
    #[test]
    fn arguments_that_are_no_text() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let bad = OsStr::from_bytes(b"d\xff\x1b[2J.sparse");
        for args in
            [&[OsStr::new("info"), bad][..], &[bad], &[OsStr::new("info"), OsStr::new("a"), bad]]
        {
            let text = Run::of(sparse().args(args));
            assert!(matches!(text.code, Some(1 | 2)) && !text.stderr.contains('\x1b'), "{text:?}");
            let json = Run::of(sparse().args(args).arg("--json"));
            assert_eq!((json.code, &*json.stderr), (text.code, ""));
            assert!(json.json()["error"].is_object());
        }
    }

    #[test]
    fn names_that_no_delta_holds() {
        for (name, shown) in [
            ("aux.json", "aux.json"),
            ("data/COM1", "COM1"),
            ("a.txt.", "a.txt."),
            ("b ", "b "),
            ("line\nend", "line\\nend"),
            ("red\x1b[31m", "red\\u{1b}[31m"),
            ("gpj\u{202e}.exe", "\\u{202e}"),
            ("zero\u{200b}width", "\\u{200b}"),
        ] {
            let pair = Pair::small();
            let file = pair.path("finetuned").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "x").unwrap();
            let (base, tuned, out) = (pair.arg("base"), pair.arg("finetuned"), pair.arg("out"));
            let compress = ["compress", &base, &tuned, "-o", &out];
            let sentence = fails(&compress, 4, "invalid_input");
            assert!(sentence.contains(shown) && sentence.ends_with("rename it"), "{sentence}");
            assert_eq!(pair.names(), ["base", "finetuned"]);
            // In the base it hurts nobody.
            run(["compress", &tuned, &base, "-o", &out]).succeeded();
        }
        let pair = Pair::small();
        fs::write(pair.path("finetuned/a:b.json"), "x").unwrap();
        let (base, delta, out) = (pair.arg("base"), pair.delta(), pair.arg("out"));
        run(["reconstruct", &base, &delta, "-o", &out]).succeeded();
        support::assert_same(&pair.path("finetuned"), &pair.path("out"));
    }
}

#[test]
fn odd_outputs() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    let before = pair.names();
    fs::write(pair.path("file"), "old").unwrap();
    fs::create_dir(pair.path("folder")).unwrap();
    fs::write(pair.path("folder/old"), "old").unwrap();
    let slash = format!("{}/", pair.arg("new"));
    for (output, code, kind) in [
        (pair.arg("base"), 2, "invalid_argument"),
        (pair.arg("base/config.json"), 2, "invalid_argument"),
        (pair.arg("finetuned/new"), 2, "invalid_argument"),
        (pair.arg("base/../finetuned/new"), 2, "invalid_argument"),
        (pair.arg("missing/new"), 1, "not_found"),
        (pair.arg("file/new"), 1, "io"),
        (pair.arg("file"), 6, "already_exists"),
        (pair.arg("folder"), 6, "already_exists"),
        (slash, 2, "invalid_argument"),
        ("/".to_owned(), 2, "invalid_argument"),
    ] {
        fails(&["compress", &base, &tuned, "-o", &output], code, kind);
    }
    for (output, code, kind) in [
        (pair.arg("base"), 2, "invalid_argument"),
        (pair.arg("base/new"), 2, "invalid_argument"),
        (pair.arg("d.sparse"), 2, "invalid_argument"),
        (pair.arg("missing/new"), 1, "not_found"),
        (pair.arg("file"), 6, "already_exists"),
        (pair.arg("folder"), 6, "already_exists"),
        ("/".to_owned(), 2, "invalid_argument"),
    ] {
        fails(&["reconstruct", &base, &delta, "-o", &output], code, kind);
    }
    if cfg!(target_os = "linux") {
        for force in [&[][..], &["-f"]] {
            let to_device = ["compress", &base, &tuned, "-o", "/dev/full"];
            fails(&[&to_device[..], force].concat(), 2, "invalid_argument");
        }
    }
    assert_eq!(fs::read(pair.path("file")).unwrap(), b"old");
    assert_eq!(fs::read(pair.path("folder/old")).unwrap(), b"old");
    fs::remove_file(pair.path("file")).unwrap();
    fs::remove_dir_all(pair.path("folder")).unwrap();
    assert_eq!(pair.names(), before, "nothing is left behind");
}

/// Every command, with every kind of bad input: one object on standard output, nothing on standard
/// error.
#[test]
fn one_object_always() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    fs::write(pair.path("bad"), "anything at all").unwrap();
    fs::write(pair.path("bad.jsonl"), "{\"a\": [1, \"two\"]\nnone").unwrap();
    fs::write(pair.path("bad.parquet"), "PAR1 this is none PAR1").unwrap();
    fs::write(pair.path("cut"), &fs::read(&delta).unwrap()[..500]).unwrap();
    let (bad, jsonl, parquet) = (pair.arg("bad"), pair.arg("bad.jsonl"), pair.arg("bad.parquet"));
    let (cut, none, out) = (pair.arg("cut"), pair.arg("none"), pair.arg("out"));
    let inputs = [&base, &delta, &bad, &jsonl, &parquet, &cut, &none].map(String::as_str);
    let mut runs: Vec<Vec<&str>> = vec![
        vec![],
        vec!["nonsense"],
        vec!["--help"],
        vec!["-V"],
        vec!["help", "compress"],
        vec!["info", "-h"],
        vec!["--threads", "0", "info", &delta],
        vec!["info", &delta, "--threads"],
        vec!["info", &delta, "-o", "x"],
        vec!["info", &delta, "-v"],
        vec!["verify", &base, &delta, "-v"],
        vec!["svd-reconstruct", &base, &bad, "-o", &out],
        vec!["compress", &base, &tuned, "-v", "-o", &out, "--policy", "nonsense"],
        vec!["compress", &base, &tuned, "-o", &out, "--target-size", "1"],
        vec!["quality", &base, &tuned, &delta],
    ];
    let outputs = ["compress", "reconstruct", "export-adapter", "compress-adapter"];
    let mut commands = vec!["verify", "quality", "info", "estimate"];
    commands.extend(outputs);
    if cfg!(feature = "dataset") {
        commands.extend([
            "dataset-compress",
            "dataset-reconstruct",
            "dataset-estimate",
            "dataset-diff",
        ]);
    }
    for command in commands {
        for input in inputs {
            let mut args = vec![command, &base, input];
            if command == "quality" {
                args.push(input);
            } else if command == "info" || command == "dataset-reconstruct" {
                args.remove(1);
            }
            let prints =
                ["verify", "quality", "info", "estimate", "dataset-estimate", "dataset-diff"];
            if !prints.contains(&command) {
                args.extend(["-o", &out]);
            }
            runs.push(args);
        }
    }
    for args in runs {
        let run = Run::of(sparse().args(&args).arg("--json"));
        assert_eq!(run.stderr, "", "{args:?}");
        let value = run.json();
        assert!(value.is_object() && value.get("command").is_some(), "{args:?}: {value}");
        assert_eq!(run.code == Some(0), value.get("error").is_none(), "{args:?}: {run:?}");
        let _ = fs::remove_file(&out).or_else(|_| fs::remove_dir_all(&out));
    }
    let help = Run::of(sparse().args(["--json", "--help"])).succeeded().json();
    assert!(help["help"].as_str().unwrap().contains("Usage"));
}

#[cfg(feature = "dataset")]
#[test]
fn no_base_is_opened_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("deltas")).unwrap();
    fs::write(path("base.csv"), "a,b\n1,2\n3,4\n").unwrap();
    fs::write(path("new.csv"), "a,b\n1,2\n5,6\n").unwrap();
    let (base, out) = (path("base.csv"), path("out.csv"));
    let inside = |args: &[&str]| Run::of(sparse().args(args).current_dir(dir.path()));
    // By another path, and by a relative one that leads outside of the delta's folder.
    for given in [&*base, "base.csv", "deltas/../base.csv"] {
        let made = inside(&["dataset-compress", given, "new.csv", "-o", "deltas/d.sparse", "-f"]);
        made.succeeded();
        // Where it lies on this machine is told to nobody.
        let told = inside(&["info", "deltas/d.sparse", "--json"]).succeeded().json();
        assert_eq!(told["base_id"], "base.csv", "{told}");
        for args in [
            &["dataset-reconstruct", "deltas/d.sparse", "-o", "out.csv"][..],
            &["verify", "deltas/d.sparse"],
        ] {
            let run = inside(args);
            assert!(matches!(run.code, Some(1 | 2)), "{run:?}");
            assert!(run.stderr.contains("\"base.csv\""), "{run:?}");
            assert!(run.stderr.contains("BASE>"), "what to type: {run:?}");
        }
        inside(&[
            "dataset-reconstruct",
            "deltas/d.sparse",
            "--base",
            "base.csv",
            "-o",
            "out.csv",
            "-f",
        ])
        .succeeded();
        inside(&["verify", "base.csv", "deltas/d.sparse"]).succeeded();
    }
    // Where both lie in one folder, the name is enough, from anywhere.
    inside(&["dataset-compress", "base.csv", "new.csv", "-o", "d.sparse"]).succeeded();
    inside(&["verify", "d.sparse"]).succeeded();
    run(["dataset-reconstruct", &path("d.sparse"), "-o", &out, "-f"]).succeeded();
    assert_eq!(fs::read(&out).unwrap(), fs::read(path("new.csv")).unwrap());
}
