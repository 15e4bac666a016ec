//! `sparse cache`, and two processes that want the same entries and are killed at random moments.

#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Pair, Run, assert_same};

/// The program, with a cache in the pair's folder.
fn sparse(pair: &Pair) -> Command {
    let mut command = support::sparse();
    command.env("SPARSE_CACHE", pair.path("cache")).env_remove("SPARSE_CACHE_LIMIT");
    command
}

fn run(pair: &Pair, args: &[&str]) -> Run {
    Run::of(sparse(pair).args(args))
}

/// The path that is printed.
#[track_caller]
fn path(pair: &Pair, args: &[&str]) -> PathBuf {
    let run = run(pair, &[&["cache", "path"], args].concat()).succeeded();
    PathBuf::from(run.stdout.strip_suffix('\n').unwrap())
}

#[test]
fn a_model_is_restored_once() {
    let pair = Pair::small();
    let (base, delta) = (pair.arg("base"), pair.delta());
    let first = run(&pair, &["cache", "path", &base, &delta, "--json"]).succeeded().json();
    assert_eq!((&first["command"], &first["was_cached"]), (&"cache path".into(), &false.into()));
    assert_eq!(first["kind"], "model");
    let there = Path::new(first["path"].as_str().unwrap());
    assert_same(there, &pair.path("finetuned"));
    assert_eq!(path(&pair, &[&base, &delta, "-q"]), there, "even with --quiet");
    // Without its base, or with one that is not there: it is not needed.
    assert_eq!(path(&pair, &[&delta]), there);
    assert_eq!(path(&pair, &[&pair.arg("nothing"), &delta]), there);

    let list = run(&pair, &["cache", "list"]).succeeded().stdout;
    assert!(list.contains("finetuned") && list.contains("1 model, ") && list.contains("no limit"));
    let list = run(&pair, &["cache", "list", "--json"]).succeeded().json();
    let entry = &list["entries"][0];
    assert_eq!((&entry["path"], &entry["in_use"]), (&first["path"], &false.into()));
    assert_eq!((&entry["target"], &entry["base"]), (&"finetuned".into(), &"base".into()));
    assert!(entry["used"].as_u64().unwrap() >= entry["built"].as_u64().unwrap());
    let verify = run(&pair, &["cache", "verify", "--json"]).succeeded().json();
    assert_eq!((&verify["entries"], &verify["damaged"]), (&1.into(), &serde_json::json!([])));

    let kept = run(&pair, &["cache", "prune", "--limit", "1G", "--json"]).succeeded().json();
    assert_eq!((&kept["removed"], &kept["kept"]), (&0.into(), &1.into()));
    let text = run(&pair, &["cache", "clear"]).succeeded().stdout;
    assert!(text.starts_with("removed 1 model ("), "{text}");
    assert!(!there.exists());
    let again = run(&pair, &["cache", "path", &delta]);
    assert_eq!(again.code, Some(2), "it needs its base again: {again:?}");
}

#[test]
fn what_is_damaged_is_told() {
    let pair = Pair::small();
    let (base, delta) = (pair.arg("base"), pair.delta());
    let there = path(&pair, &[&base, &delta]);
    let file = there.join("tokenizer.txt");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "not the same\n").unwrap();
    let list = run(&pair, &["cache", "list"]).succeeded().stdout;
    assert!(list.contains("damaged"), "{list}");
    let verify = run(&pair, &["cache", "verify"]);
    assert_eq!(verify.code, Some(4), "{verify:?}");
    assert!(verify.stdout.contains("tokenizer.txt has 13 bytes instead of 1700"), "{verify:?}");
    assert!(verify.stderr.contains("damaged: 1 of 1 model;"), "{verify:?}");
    assert_same(&path(&pair, &[&base, &delta]), &pair.path("finetuned"));
    fs::remove_file(there.join("tokenizer.txt")).unwrap();
    let verify = run(&pair, &["cache", "verify", "--json"]);
    assert_eq!(verify.code, Some(4));
    let json = verify.json();
    assert_eq!(json["error"]["kind"], "invalid_input");
    assert_eq!(json["damaged"][0]["removed"], true);
    run(&pair, &["cache", "verify"]).succeeded();
}

#[test]
fn limits_and_folders() {
    let pair = Pair::small();
    let failed = run(&pair, &["cache", "prune"]);
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.stderr.contains("SPARSE_CACHE_LIMIT"), "{failed:?}");
    let with =
        |name: &str, value: &str, args: &[&str]| Run::of(sparse(&pair).env(name, value).args(args));
    let odd = with("SPARSE_CACHE_LIMIT", "lots", &["cache", "list"]);
    assert_eq!(odd.code, Some(2), "{odd:?}");
    assert!(odd.stderr.contains("SPARSE_CACHE_LIMIT: \"lots\" is not a size"), "{odd:?}");
    let limited = with("SPARSE_CACHE_LIMIT", "20G", &["cache", "list", "--json"]).succeeded();
    assert_eq!(limited.json()["limit"], 20_000_000_000u64);
    with("SPARSE_CACHE_LIMIT", "20G", &["cache", "prune"]).succeeded();

    // Without a folder that is named, the platform's.
    if cfg!(target_os = "linux") {
        let listed = Run::of(
            support::sparse()
                .env_remove("SPARSE_CACHE")
                .env("XDG_CACHE_HOME", pair.path("caches"))
                .args(["cache", "list", "--json"]),
        );
        assert_eq!(listed.json()["root"], pair.arg("caches/sparse"));
        let relative = Run::of(
            support::sparse()
                .env("SPARSE_CACHE", "")
                .env("XDG_CACHE_HOME", "relative")
                .env("HOME", pair.path("home"))
                .args(["cache", "list", "--json"]),
        );
        assert_eq!(relative.json()["root"], pair.arg("home/.cache/sparse"));
    }
    assert!(!pair.path("cache").exists(), "looking makes nothing");
}

#[cfg(unix)]
mod killed {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};
    use support::Random;

    /// What can be restored: base (or none), delta, and the model that comes back.
    type Case = (Option<String>, String, &'static str);

    fn cases(pair: &Pair) -> Vec<Case> {
        let cases = [
            (Some("base"), "finetuned", "there.sparse"),
            (Some("finetuned"), "base", "back.sparse"),
            (None, "finetuned", "alone.sparse"),
        ];
        let made = cases.into_iter().map(|(base, target, delta)| {
            let (base, delta) = (base.map(|b| pair.arg(b)), pair.arg(delta));
            let from = base.clone().unwrap_or("--no-base".to_owned());
            support::run(["compress", &from, &pair.arg(target), "-o", &delta, "--effort", "fast"])
                .succeeded();
            (base, delta, target)
        });
        made.collect()
    }

    fn start(pair: &Pair, args: &[&str]) -> Child {
        let mut command = sparse(pair);
        command.args(args).args(["--threads", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Lets two processes get the same entry, kills them at random moments, and sometimes a third
    /// that removes entries; as often as it takes for so many to be killed. After each time every
    /// entry is whole, by digest, and none is missing.
    fn kill(kills: u32, seed: u64) {
        // Long enough to be hit in the middle: 2 x 4 MB.
        let pair = Pair::new(4, 512, 1024);
        let cases = cases(&pair);
        let mut random = Random(seed);
        let begun = Instant::now();
        fn get((base, delta, _): &Case) -> Vec<&str> {
            ["cache", "path"].into_iter().chain(base.as_deref()).chain([&**delta]).collect()
        }
        let start_of_one = Instant::now();
        assert!(start(&pair, &get(&cases[0])).wait().unwrap().success());
        let whole = start_of_one.elapsed();
        let (mut killed, mut rounds, mut built) = (0, 0, 0);
        // Entries that were there, and that nobody asked to remove.
        let mut known = BTreeSet::from([0]);
        while killed < kills {
            rounds += 1;
            assert!(rounds < 20 * kills, "never hit");
            let number = random.next() as usize % cases.len();
            let clears = random.next().is_multiple_of(4);
            if !clears && known.contains(&number) && !random.next().is_multiple_of(3) {
                run(&pair, &["cache", "clear"]).succeeded();
                known.clear();
            }
            let mut children =
                vec![start(&pair, &get(&cases[number])), start(&pair, &get(&cases[number]))];
            if clears {
                known.clear();
                children.push(start(&pair, &["cache", "clear"]));
            }
            // Some live: what the dead held must not stop them.
            let doomed: Vec<bool> =
                children.iter().map(|_| random.next().is_multiple_of(3)).collect();
            let doomed = if doomed.contains(&true) { doomed } else { vec![true; children.len()] };
            let mut at = Duration::ZERO;
            for (child, _) in children.iter_mut().zip(&doomed).filter(|(_, doomed)| **doomed) {
                let next = whole.mul_f64((random.next() % 1300) as f64 / 1000.0);
                sleep(next.saturating_sub(at));
                at = at.max(next);
                let _ = child.kill();
            }
            let mut done = false;
            for (place, (child, doomed)) in children.iter_mut().zip(doomed).enumerate() {
                let status = child.wait().unwrap();
                killed += u32::from(status.signal() == Some(9));
                let is_expected = status.success() || (doomed && status.signal() == Some(9));
                assert!(
                    is_expected,
                    "{status:?}: {}",
                    io::read_to_string(child.stderr.take().unwrap()).unwrap()
                );
                done |= place < 2 && status.success();
            }
            if done && !clears {
                known.insert(number);
                built += 1;
            }
            // Nothing is broken.
            let verify = run(&pair, &["cache", "verify", "--json"]).succeeded().json();
            assert_eq!(verify["damaged"], serde_json::json!([]));
            // Nothing is missing: what was there is found without its base.
            for &number in &known {
                let (_, delta, target) = &cases[number];
                assert_same(&path(&pair, &[delta]), &pair.path(target));
            }
        }
        // All can be had, nothing is left over, and nothing is locked.
        for case in &cases {
            let there = path(&pair, &get(case)[2..]);
            assert_same(&there, &pair.path(case.2));
        }
        run(&pair, &["cache", "clear"]).succeeded();
        assert!(!path(&pair, &get(&cases[0])[2..]).as_os_str().is_empty());
        for (folder, left) in [("models", 1), ("building", 0), ("trash", 0), ("locks", 0)] {
            let found = fs::read_dir(pair.path("cache/v1").join(folder)).unwrap().count();
            assert_eq!(found, left, "{folder}");
        }
        println!(
            "{killed} kills in {rounds} rounds, {built} of which built; one takes {whole:?}: {:?}",
            begun.elapsed()
        );
    }

    #[test]
    fn at_random_moments() {
        kill(20, 0x1234_5678_9abc_def1);
    }

    /// `./check cache` runs it.
    #[test]
    #[ignore = "takes minutes"]
    fn at_many_random_moments() {
        kill(200, 0x0fed_cba9_8765_4321);
    }

    /// Other signals are told, and what was begun is removed at once.
    #[test]
    fn stopped_by_a_signal() {
        use rustix::process::{Pid, Signal, kill_process};
        let pair = Pair::new(8, 1024, 1024);
        let (base, delta) = (pair.arg("base"), pair.delta());
        let building = pair.path("cache/v1/building");
        for _ in 0..100 {
            let mut child = start(&pair, &["cache", "path", &base, &delta]);
            let begun = || fs::read_dir(&building).is_ok_and(|mut found| found.next().is_some());
            while !begun() && child.try_wait().unwrap().is_none() {
                sleep(Duration::from_micros(200));
            }
            let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
            let _ = kill_process(pid, Signal::TERM);
            if !child.wait().unwrap().success() {
                assert_eq!(child.wait().unwrap().code(), Some(143));
                assert!(!begun(), "nothing is left");
                return;
            }
            run(&pair, &["cache", "clear"]).succeeded();
        }
        panic!("never quick enough");
    }
}
