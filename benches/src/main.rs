//! The `sparse-bench` program.

use sparse_bench::args::Args;
use sparse_bench::compare::{chosen_pairs, find_pairs, report};
use sparse_bench::measure::{Machine, command};
use sparse_bench::pair::Pair;
use sparse_bench::roundtrip::{RoundTrip, round_trip};
use sparse_bench::{
    ablate, adapters, alone, cut, decompose, disk, estimates, first_tensor, ladder, ours, peers,
    proof, sweep, synth, tables, tensors,
};
use sparse_core::{Dtype, Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
sparse-bench: Sparse beside its peers; every figure comes from a verified round trip

sparse-bench pairs BASE FINETUNED [BASE FINETUNED ...]   every coder on each pair
sparse-bench pairs --all FOLDER                          ... on each FOLDER/*/{base,finetuned}
    --runs N        times each coder runs, the median counts (3)
    --only A,B      coders whose name contains A or B
    --json FILE     write the figures there too
    --adapter DIR   Sparse once more, told that this LoRA was merged
sparse-bench ablate BASE FINETUNED ... | --all FOLDER    what each part of the lossless codec's
                                                         model buys
sparse-bench estimate BASE FINETUNED ... | --all FOLDER  estimated and real size; fails if
                                                         one is off by more than 5 % and 512 bytes
    --share 0.01  --effort fast|default|max  --threads N
    --by size|codec what is estimated: deltas (size), or what each codec makes of the weights
sparse-bench ladder BASE FINETUNED ... | --all FOLDER    codecs that lose something, and others'
                                                         formats
    --runs N        times each of our coders runs, the median counts (3)
    --only A,B      coders whose name contains A or B, and no others' formats
    --sweep         instead: bounds, codecs by themselves, and sizes; those of fixtures if no pair
                    is named; fails if one is out of line
    --svg FILE      draws the sweep
sparse-bench adapter BASE FINETUNED ADAPTER              what exporting finds of a merged adapter,
                                                         and a layered delta
sparse-bench roundtrip BASE FINETUNED                    compress, reconstruct, verify: times and
                                                         peak memory
    --threads N  --effort fast|default|max  --mmap on|off
    --work DIR      where delta.sparse and restored/ go, and stay (a temporary folder)
sparse-bench alone MODEL ... | --all FOLDER              models without a base; --all: each
                                                         FOLDER/*/finetuned
    --effort fast|default|max  --runs 3
sparse-bench proof BASE FINETUNED ... | --all FOLDER     making deltas with and without proof, by
                                                         turns
    --threads N  --effort fast|default|max  --runs 5
sparse-bench disk BASE FINETUNED                         restoring to files beside a copy of them;
                                                         one thread and more
    --threads N  --effort fast|default|max  --runs 5
    --work DIR      where files are written (a temporary folder)
sparse-bench tensors BASE DELTA [--runs N]               all tensors, one after another
sparse-bench first-tensor BASE DELTA [BASE DELTA ...]    how long a reader takes until it has its
                                                         first weights
    --runs N        times it starts, the median counts (7)
sparse-bench remote BASE DELTA                           how much of a delta on a server is
                                                         fetched for what (feature `remote`)
sparse-bench svd --matrix ROWSxCOLUMNS --rank N          how long singular vectors take (4096x11008,
                                                         rank 64)
sparse-bench synth --out DIR                             a seeded synthetic pair
    --gb 4  --seed 1  --dtype bf16|f16|f32  --update 1e-4  --threads N
    --lora RANK  --merge sum|product                     a merged adapter (and the adapter)
    --matrix ROWSxCOLUMNS                                a model of one projection
sparse-bench memory -- COMMAND ...                       wall time and peak memory of a command
sparse-bench cut BASE FINETUNED OUT --tensors A,B* [--rows N] [--dims 384=96,1536=128]
                                                         a small pair out of a large one
sparse-bench datasets PAIR ... | --all FOLDER            deltas of datasets (feature `dataset`)
sparse-bench synth-dataset --from PARQUET --out DIR      a seeded pair of tables grown from real
                                                         text (feature `dataset`)
    --rows 1000000  --seed 1
sparse-bench faults [--quick]                            every fault many times, and what became of
                                                         it (feature `dataset`)
    --out FILE      a document that gets the table between its markers
    --only A,B      rows whose name contains A or B
    --trial 'WORDS' one trial of the row --only, as the list of failures calls it
    --seed 1        --sparse PATH  --work DIR  --jobs N (trials at once; as many as cores)
sparse-bench machine                                     what is measured on";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let result = match args.next().as_deref() {
        Some("pairs") => pairs(args),
        Some("ablate") => ablation(args),
        Some("estimate") => estimate(args),
        Some("ladder") => make_ladder(args),
        Some("adapter") => adapter(args),
        Some("roundtrip") => roundtrip(args),
        Some("alone") => without_base(args),
        Some("proof") => proof_cost(args),
        Some("disk") => on_disk(args),
        Some("first-tensor") => first_weights(args),
        Some("tensors") => all_tensors(args),
        #[cfg(feature = "remote")]
        Some("remote") => fetched(args),
        Some("svd") => svd(args),
        Some("synth") => make_synth(args),
        Some("memory") => memory(args),
        Some("cut") => make_cut(args),
        #[cfg(feature = "dataset")]
        Some("datasets") => datasets(args),
        #[cfg(feature = "dataset")]
        Some("synth-dataset") => make_rows(args),
        #[cfg(feature = "dataset")]
        Some("faults") => sparse_bench::faults::main(args),
        Some("machine") => {
            println!("{}", Machine::describe());
            Ok(ExitCode::SUCCESS)
        }
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    };
    result.unwrap_or_else(|e| {
        eprintln!("sparse-bench: {e}");
        ExitCode::FAILURE
    })
}

fn list(text: Option<&str>) -> Vec<String> {
    text.into_iter()
        .flat_map(|t| t.split(','))
        .filter(|t| !t.is_empty())
        .map(String::from)
        .collect()
}

fn pairs(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["all", "runs", "only", "json", "adapter"])?;
    let runs: usize = args.parsed("runs", 3)?;
    let only = list(args.get("only"));
    let paths = chosen_pairs(&args.positional, args.get("all"))?;
    let mut peers = peers::all()?;
    peers.extend(ours::peers()?);
    if let Some(folder) = args.get("adapter") {
        peers.push(ours::told(Path::new(folder))?);
    }
    let machine = Machine::describe();
    println!("{machine}; one thread, median of {runs}; MB = 10^6 raw bytes of the fine-tune\n");
    let mut reports = Vec::new();
    for path in &paths {
        let report = report(&mut peers, path, &only, runs)?;
        println!("{}", report.markdown());
        reports.push(report);
    }
    if reports.len() > 1 {
        println!("{}\n{}", tables::bytes(&reports), tables::speeds(&reports));
    }
    println!("{}", tables::summary(&reports));
    if let Some(file) = args.get("json") {
        let text = format!("{:#}\n", tables::json(&machine, runs, &reports));
        std::fs::write(file, text).map_err(|e| Error::io("cannot write", e).in_file(file))?;
    }
    let verified = reports.iter().all(|r| r.rows.iter().all(|row| row.outcome.is_ok()));
    Ok(if verified { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ablation(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["all"])?;
    let mut columns = Vec::new();
    for path in chosen_pairs(&args.positional, args.get("all"))? {
        columns.push(ablate::ablate(&path)?);
    }
    println!("{}", ablate::markdown(&columns));
    Ok(ExitCode::SUCCESS)
}

fn estimate(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["all", "share", "effort", "threads", "by"])?;
    let share: f64 = args.parsed("share", 0.01)?;
    let effort = ours::effort(args.get("effort").unwrap_or("default"))?;
    let pool = ours::pool(args.parsed("threads", 1)?)?;
    let paths = chosen_pairs(&args.positional, args.get("all"))?;
    let (text, near) = match args.get("by").unwrap_or("size") {
        "size" => {
            let rows =
                paths.iter().map(|path| pool.install(|| estimates::compare(path, share, effort)));
            let rows = rows.collect::<Result<Vec<_>>>()?;
            (estimates::markdown(&rows), rows.iter().all(estimates::Comparison::is_near))
        }
        "codec" => {
            let columns = paths.iter().map(|path| {
                Ok((path.name.clone(), pool.install(|| estimates::by_codec(path, effort))?))
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let near = columns.iter().flat_map(|c| &c.1).all(estimates::Expectation::is_near);
            (estimates::markdown_by_codec(&columns), near)
        }
        _ => return Err(Error::invalid_argument("--by is size or codec")),
    };
    println!("{text}");
    Ok(if near { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Pairs that are swept where none is named.
const SWEPT: &str = "fixtures";

fn make_sweep(args: &Args) -> Result<ExitCode> {
    let all = args.get("all").or(args.positional.is_empty().then_some(SWEPT));
    let machine = Machine::describe();
    println!("{machine}; bytes of deltas, and errors that they certify\n");
    let mut sweeps = Vec::new();
    for path in chosen_pairs(&args.positional, all)? {
        eprintln!("{}", path.name);
        sweeps.push(sweep::sweep(&path.name, &path.base, &path.target)?);
    }
    println!("{}", sweep::markdown(&sweeps));
    if let Some(file) = args.get("svg") {
        std::fs::write(file, sweep::svg(&sweeps))
            .map_err(|e| Error::io("cannot write", e).in_file(file))?;
    }
    let holds = sweeps.iter().all(|s| s.faults().is_empty());
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn make_ladder(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let (flags, args): (Vec<String>, Vec<String>) = args.partition(|a| a == "--sweep");
    let args = Args::parse(args, &["all", "runs", "only", "svg"])?;
    if !flags.is_empty() {
        return make_sweep(&args);
    }
    let runs: usize = args.parsed("runs", 3)?;
    let only = list(args.get("only"));
    let machine = Machine::describe();
    println!(
        "{machine}; processor's time, median of {runs}; MB = 10^6 raw bytes of the fine-tune\n"
    );
    let mut ladders = Vec::new();
    for path in chosen_pairs(&args.positional, args.get("all"))? {
        let pair = Pair::load(&path.base, &path.target)?;
        eprintln!("{}", path.name);
        ladders.push(ladder::ladder(&path.name, &pair, runs, &only)?);
    }
    println!("{}", ladder::markdown(&ladders));
    Ok(ExitCode::SUCCESS)
}

fn adapter(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &[])?;
    let [base, target, adapter] = args.positional.as_slice() else {
        return Err(Error::invalid_argument("wanted: BASE FINETUNED ADAPTER"));
    };
    println!("{}", adapters::report(Path::new(base), Path::new(target), Path::new(adapter))?);
    Ok(ExitCode::SUCCESS)
}

fn roundtrip(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["threads", "effort", "mmap", "work"])?;
    let [base, target] = args.positional.as_slice() else {
        return Err(Error::invalid_argument("wanted: BASE FINETUNED"));
    };
    let temporary =
        tempfile::tempdir().map_err(|e| Error::io("cannot create a temporary folder", e))?;
    let what = RoundTrip {
        base: base.into(),
        target: target.into(),
        work: args.get("work").map_or_else(|| temporary.path().to_owned(), Into::into),
        effort: ours::effort(args.get("effort").unwrap_or("default"))?,
        mmap: match args.get("mmap").unwrap_or("on") {
            "on" => true,
            "off" => false,
            _ => return Err(Error::invalid_argument("--mmap is on or off")),
        },
    };
    let pool = ours::pool(args.parsed("threads", Machine::describe().cores)?)?;
    let outcome = pool.install(|| round_trip(&what))?;
    print!("{}", outcome.text());
    Ok(ExitCode::SUCCESS)
}

fn without_base(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["all", "effort", "runs"])?;
    let effort = ours::effort(args.get("effort").unwrap_or("default"))?;
    let runs: usize = args.parsed("runs", 3)?;
    let mut models: Vec<(String, PathBuf)> =
        args.positional.iter().map(|path| (path.clone(), path.into())).collect();
    if let Some(folder) = args.get("all") {
        models.extend(
            find_pairs(Path::new(folder))?.into_iter().map(|pair| (pair.name, pair.target)),
        );
    }
    println!(
        "{}; processor's time, one thread, median of {runs}; MB = 10^6 bytes\n",
        Machine::describe()
    );
    let rows = models.iter().map(|(name, path)| alone::alone(name, path, effort, runs));
    println!("{}", alone::markdown(&rows.collect::<Result<Vec<_>>>()?));
    Ok(ExitCode::SUCCESS)
}

fn proof_cost(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["all", "threads", "effort", "runs"])?;
    let effort = ours::effort(args.get("effort").unwrap_or("default"))?;
    let machine = Machine::describe();
    let (threads, runs) = (args.parsed("threads", machine.cores)?, args.parsed("runs", 5)?);
    println!(
        "{machine}; {threads} threads, median of {runs}; MB = 10^6 raw bytes of the fine-tune\n"
    );
    let pairs = chosen_pairs(&args.positional, args.get("all"))?;
    let rows =
        pairs.iter().map(|p| proof::proof(&p.name, (&p.base, &p.target), effort, threads, runs));
    println!("{}", proof::markdown(&rows.collect::<Result<Vec<_>>>()?));
    Ok(ExitCode::SUCCESS)
}

fn on_disk(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["threads", "effort", "runs", "work"])?;
    let [base, target] = args.positional.as_slice() else {
        return Err(Error::invalid_argument("wanted: BASE FINETUNED"));
    };
    let work = args.get("work").map_or_else(std::env::temp_dir, Into::into);
    let effort = ours::effort(args.get("effort").unwrap_or("default"))?;
    let machine = Machine::describe();
    let (threads, runs) = (args.parsed("threads", machine.cores)?, args.parsed("runs", 5)?);
    let measured = disk::disk(Path::new(base), Path::new(target), &work, effort, threads, runs)?;
    println!("{machine}; wall time, median of {runs}; MB = 10^6 bytes\n\n{}", measured.markdown());
    Ok(ExitCode::SUCCESS)
}

fn all_tensors(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["runs"])?;
    let [base, delta] = args.positional.as_slice() else {
        return Err(Error::invalid_argument("wanted: BASE DELTA"));
    };
    let runs = args.parsed("runs", 5)?;
    let (bytes, mut times) = tensors::tensors(base.as_ref(), delta.as_ref(), runs)?;
    times.sort_unstable();
    let median = times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64());
    println!("{}; {bytes} bytes in {median:.3} s, median of {runs}", Machine::describe());
    Ok(ExitCode::SUCCESS)
}

fn first_weights(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["runs"])?;
    let runs = args.parsed("runs", 7)?;
    let mut rows = Vec::new();
    for pair in args.positional.chunks(2) {
        let [base, delta] = pair else {
            return Err(Error::invalid_argument("wanted: BASE DELTA"));
        };
        rows.push(first_tensor::first_tensor(base.as_ref(), delta.as_ref(), runs)?);
    }
    println!("{}\n\n{}", Machine::describe(), first_tensor::markdown(&rows));
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "remote")]
fn fetched(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &[])?;
    let [base, delta] = args.positional.as_slice() else {
        return Err(Error::invalid_argument("wanted: BASE DELTA"));
    };
    let (len, rows) = sparse_bench::remote::remote(base.as_ref(), delta.as_ref())?;
    let machine = Machine::describe();
    println!("{machine}; a delta of {len} bytes\n\n{}", sparse_bench::remote::markdown(len, &rows));
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "dataset")]
fn datasets(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["all"])?;
    let mut folders: Vec<std::path::PathBuf> = args.positional.iter().map(Into::into).collect();
    if let Some(all) = args.get("all") {
        let error = |e| Error::io("cannot list", e).in_file(all);
        for entry in std::fs::read_dir(all).map_err(error)? {
            folders.push(entry.map_err(error)?.path());
        }
    }
    folders.sort();
    let rows = folders
        .iter()
        .map(|f| sparse_bench::datasets::measure(f).map_err(|e| e.in_file(f.display().to_string())))
        .collect::<Result<Vec<_>>>()?;
    println!("{}\n\n{}", Machine::describe(), sparse_bench::datasets::markdown(&rows));
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "dataset")]
fn make_rows(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["from", "out", "rows", "seed"])?;
    let options = sparse_bench::rows::Rows {
        from: args.required("from")?.into(),
        out: args.required("out")?.into(),
        rows: args.parsed("rows", 1_000_000)?,
        seed: args.parsed("seed", 1)?,
    };
    let made = sparse_bench::rows::make(&options)?;
    println!(
        "base {} rows, {} bytes of text, {} of cells; derivative {} rows, {} bytes of text, \
         {} of cells; {} edited, {} removed, {} added",
        made.rows[0],
        made.text[0],
        made.cells[0],
        made.rows[1],
        made.text[1],
        made.cells[1],
        made.edited,
        made.removed,
        made.added
    );
    Ok(ExitCode::SUCCESS)
}

fn svd(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["matrix", "rank"])?;
    let (rows, columns) = shape(args.get("matrix").unwrap_or("4096x11008"))?;
    println!("{}", decompose::decompose(rows, columns, args.parsed("rank", 64)?)?);
    Ok(ExitCode::SUCCESS)
}

/// A shape as `4096x4096`.
fn shape(text: &str) -> Result<(u64, u64)> {
    let parsed = text.split_once('x').and_then(|(r, c)| Some((r.parse().ok()?, c.parse().ok()?)));
    parsed
        .filter(|&(r, c): &(u64, u64)| (1..1 << 24).contains(&r) && (1..1 << 24).contains(&c))
        .ok_or_else(|| Error::invalid_argument("--matrix is as 4096x4096"))
}

fn make_synth(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(
        args,
        &["out", "gb", "seed", "dtype", "update", "threads", "lora", "merge", "matrix"],
    )?;
    let dtype = args.get("dtype").unwrap_or("bf16").to_uppercase();
    let gb: f64 = args.parsed("gb", 4.0)?;
    let update: f32 = args.parsed("update", 1e-4)?;
    if !(gb > 0.0 && gb <= 1e6 && update >= 0.0 && update.is_finite()) {
        return Err(Error::invalid_argument("--gb or --update is out of range"));
    }
    let rank: usize = args.parsed("lora", 0)?;
    let product = match args.get("merge").unwrap_or("sum") {
        "sum" => false,
        "product" => true,
        _ => return Err(Error::invalid_argument("--merge is sum or product")),
    };
    let options = synth::Synth {
        lora: (rank > 0).then_some(synth::Lora { rank, product }),
        matrix: args.get("matrix").map(shape).transpose()?,
        out: args.required("out")?.into(),
        bytes: (gb * 1e9) as u64,
        seed: args.parsed("seed", 1)?,
        dtype: Dtype::from_name(&dtype)
            .ok_or_else(|| Error::invalid_argument("unknown --dtype"))?,
        update,
        threads: args.parsed("threads", Machine::describe().cores)?,
        shard_bytes: synth::SHARD_BYTES,
    };
    let start = Instant::now();
    let made = synth::synth(&options)?;
    let s = start.elapsed().as_secs_f64();
    println!(
        "{} bytes per model in {} files, {} weights, {s:.1} s ({:.0} MB/s of both models)",
        made.bytes,
        made.shards,
        made.weights,
        made.bytes as f64 * 2.0 / 1e6 / s
    );
    Ok(ExitCode::SUCCESS)
}

fn memory(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let mut words: Vec<String> = args.collect();
    if words.first().is_some_and(|w| w == "--") {
        words.remove(0);
    }
    let m = command(&words)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    // To standard error: standard output belongs to the command.
    eprintln!(
        "{:.3} s wall, peak {:.1} MiB anonymous (RssAnon, polled), {:.1} MiB resident (VmHWM), \
         exit code {}",
        m.time.as_secs_f64(),
        mib(m.peak.anonymous),
        mib(m.peak.resident),
        m.code.map_or_else(|| "none (signal)".into(), |c| c.to_string())
    );
    Ok(u8::try_from(m.code.unwrap_or(1)).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn make_cut(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = Args::parse(args, &["tensors", "rows", "dims"])?;
    let [base, target, out] = args.positional.as_slice() else {
        return Err(Error::invalid_argument("wanted: BASE FINETUNED OUT"));
    };
    let dim = |text: &String| {
        let (from, to) = text.split_once('=')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    let dims = list(args.get("dims")).iter().map(dim).collect::<Option<Vec<_>>>();
    cut::cut(&cut::Cut {
        base: base.into(),
        target: target.into(),
        out: out.into(),
        tensors: list(Some(args.required("tensors")?)),
        rows: args.parsed("rows", u64::MAX)?,
        dims: dims.ok_or_else(|| Error::invalid_argument("wanted: --dims FROM=TO,FROM=TO"))?,
    })?;
    Ok(ExitCode::SUCCESS)
}
