//! How many threads work: as many as `--threads` says, and no more.
//!
//! Counted are the threads of the process by their ids, and the processor time of each, as Linux
//! tells them while the program runs. One test, so that little else runs meanwhile.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use support::{Random, Tensor, safetensors, sparse};

/// Threads that only wait: the first one for those that work, another one for signals.
const WAITING: usize = 2;

/// Time on a processor, in hundredths of a second, that threads which only wait may take: loading
/// the program, reading its arguments, telling its result.
const WAITING_TIME: u64 = 10;

/// The processor time of each thread that was ever seen, in hundredths of a second.
fn watch(args: &[&str], threads: usize) -> BTreeMap<String, u64> {
    let mut command = sparse();
    command.args(args).args(["--threads", &threads.to_string()]).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let mut seen = BTreeMap::new();
    loop {
        for task in fs::read_dir(&tasks).into_iter().flatten().flatten() {
            // One that has ended meanwhile has no file.
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
            let fields = stat.rsplit(") ").next().unwrap().split(' ');
            // After the name: the state, ten numbers, user and system time.
            let time = fields.skip(11).take(2).map(|t| t.parse::<u64>().unwrap()).sum();
            seen.insert(task.file_name().into_string().unwrap(), time);
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{args:?}");
            return seen;
        }
        sleep(Duration::from_micros(500));
    }
}

/// Runs the program on one thread and on two.
#[track_caller]
fn check(args: &[&str]) {
    let seen = watch(args, 1);
    assert!(seen.len() <= 1 + WAITING, "{args:?}: {seen:?}");
    let (most, all) = (seen.values().max().unwrap(), seen.values().sum::<u64>());
    assert!(all - most <= WAITING_TIME, "{args:?}: {seen:?}");
    let seen = watch(args, 2);
    assert!(seen.len() <= 2 + WAITING, "{args:?}: {seen:?}");
}

/// A model of one file: matrices of bf16, and the same with a product of rank 4 added to each.
fn put_models(dir: &Path) {
    const SIDE: usize = 256;
    const RANK: usize = 4;
    let mut random = Random(0x1234_5678_9abc_def1);
    let bf16 = |x: f32| ((x.to_bits() + 0x8000) >> 16) as u16;
    let (mut base, mut tuned): (Vec<Tensor>, Vec<Tensor>) = (Vec::new(), Vec::new());
    for layer in 0..3 {
        let mut numbers =
            |n: usize, size: f32| -> Vec<f32> { (0..n).map(|_| size * random.normal()).collect() };
        let weights = numbers(SIDE * SIDE, 0.02);
        let (left, right) = (numbers(SIDE * RANK, 0.01), numbers(RANK * SIDE, 0.05));
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (i, &w) in weights.iter().enumerate() {
            let w = f32::from_bits(u32::from(bf16(w)) << 16);
            let (row, column) = (i / SIDE, i % SIDE);
            let change: f32 =
                (0..RANK).map(|k| left[row * RANK + k] * right[k * SIDE + column]).sum();
            before.extend(bf16(w).to_le_bytes());
            after.extend(bf16(w + change).to_le_bytes());
        }
        let name = format!("layers.{layer}.weight");
        base.push((name.clone(), "BF16", vec![SIDE, SIDE], before));
        tuned.push((name, "BF16", vec![SIDE, SIDE], after));
    }
    for (name, tensors) in [("base", base), ("finetuned", tuned)] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("model.safetensors"), safetensors(&tensors)).unwrap();
    }
}

/// Two tables of text; in the second, rows are removed, moved, edited and new.
fn put_tables(dir: &Path) {
    let words = ["river", "stone", "lamp", "seven", "walks", "green", "under", "the", "a", "quick"];
    let line = |i: u64| {
        let mut random = Random(i + 1);
        let text: Vec<_> = (0..12).map(|_| words[(random.next() >> 40) as usize % 10]).collect();
        let text = if i.is_multiple_of(9) { text.join("  ") } else { text.join(" ") };
        format!("{{\"id\":{i},\"kind\":{},\"text\":\"{text}\"}}\n", i % 7)
    };
    let base: String = (0..1500).map(line).collect();
    let derivative = (700..1600).chain(0..700).filter(|i| i % 11 != 0);
    let edited =
        |i: u64| line(i).replace("river", if i.is_multiple_of(5) { "lake" } else { "river" });
    fs::write(dir.join("base.jsonl"), base).unwrap();
    fs::write(dir.join("new.jsonl"), derivative.map(edited).collect::<String>()).unwrap();
}

#[test]
fn no_more_threads_work_than_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    put_models(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (base, tuned, delta, out) =
        (path("base"), path("finetuned"), path("d.sparse"), path("out"));
    let common = ["-o", delta.as_str(), "--force"];
    for codec in ["svd=4", "layered=4"] {
        check(&[&["compress", &base, &tuned, "--codec", codec][..], &common].concat());
        check(&["verify", &base, &delta]);
    }
    // Without loss, a product of low rank is found and taken for the prediction.
    check(&[&["compress", &base, &tuned][..], &common].concat());
    check(&["reconstruct", &base, &delta, "-o", &out, "--force"]);
    if cfg!(feature = "dataset") {
        put_tables(dir.path());
        let (base, new, out) = (path("base.jsonl"), path("new.jsonl"), path("out.parquet"));
        for exact in [&["--exact"][..], &[]] {
            check(&[&["dataset-compress", &base, &new][..], &common, exact].concat());
            check(&["verify", &base, &delta]);
        }
        check(&["dataset-reconstruct", &delta, "-o", &out, "--format", "parquet", "--force"]);
    }
}
