//! The `ladder` command: lossy codecs compared with the lossless one and with others' formats.
//!
//! All tensors of a fine-tune with a counterpart of the same type and shape in the base are coded
//! as one unit per type, on one thread. Restored weights are measured against the fine-tune, one by
//! one. Others' formats are rebuilt from their documentation, and counted by the bytes that they
//! define.

use crate::measure::{cpu_timed, mb_per_s};
use crate::pair::Pair;
use crate::tables::{Table, thousands};
use sparse::{Certificate, Effort};
use sparse_codecs::certificate::Tally;
use sparse_codecs::int8::Int8;
use sparse_codecs::lossless::Lossless;
use sparse_codecs::sign::Sign;
use sparse_codecs::sparse::Sparse;
use sparse_codecs::sparse_int8::SparseInt8;
use sparse_codecs::svd::{Rank, Svd};
use sparse_codecs::ulp_bounded::UlpBounded;
use sparse_core::{
    CodecContext, DEFAULT_CHUNK_LEN, DeltaEncoder, Dtype, EncodedUnit, Error, Result, Segment,
    UnitSpec, decode_unit, encode_unit,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The tensors of one type, end to end.
struct Group {
    dtype: Dtype,
    unit: UnitSpec,
    target: Vec<u8>,
    base: Vec<u8>,
}

/// Result of one coder on a pair.
#[derive(Clone, Debug)]
pub struct Rung {
    /// The coder.
    pub name: String,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Its error.
    pub found: Certificate,
    /// Processor time to encode and to decode; `None` for others' formats, for which only size and
    /// error are measured.
    pub times: Option<(Duration, Duration)>,
}

/// A format of others, and our results at its size and at its error.
#[derive(Clone, Debug)]
pub struct Duel {
    /// The format.
    pub peer: Rung,
    /// Our smallest error in as many bytes.
    pub at_its_bytes: Rung,
    /// Our fewest bytes at no larger an error.
    pub at_its_error: Rung,
}

/// All coders on one pair.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// The pair.
    pub pair: String,
    /// Weights that were coded.
    pub weights: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Our codecs.
    pub rungs: Vec<Rung>,
    /// Others' formats.
    pub duels: Vec<Duel>,
}

fn codecs() -> Vec<(&'static str, Box<dyn DeltaEncoder>)> {
    vec![
        ("lossless", Box::new(Lossless)),
        ("ulp-bounded=1", Box::new(UlpBounded::new(1))),
        ("ulp-bounded=8", Box::new(UlpBounded::new(8))),
        ("int8", Box::new(Int8::new())),
        ("sparse-int8=0.02", Box::new(SparseInt8::within(0.02))),
        ("sparse-int8=0.05", Box::new(SparseInt8::within(0.05))),
        ("sparse-int8=0.2", Box::new(SparseInt8::within(0.2))),
        ("sparse-int8=0.5", Box::new(SparseInt8::within(0.5))),
        ("sparse=0.2", Box::new(Sparse::new(0.2))),
        ("sign", Box::new(Sign::new())),
        ("svd=8", Box::new(Svd::new(Rank::Fixed(8)))),
        ("svd=64", Box::new(Svd::new(Rank::Fixed(64)))),
    ]
}

fn groups(pair: &Pair) -> Result<Vec<Group>> {
    #[derive(Default)]
    struct Parts(Vec<Segment>, Vec<u8>, Vec<u8>);
    let mut by_type: BTreeMap<Dtype, Parts> = BTreeMap::new();
    for tensor in pair.target.tensors() {
        if !matches!(tensor.spec.dtype(), Dtype::Bf16 | Dtype::F16 | Dtype::F32) {
            continue;
        }
        let Some(base) = pair.base.counterpart(&tensor.name, &tensor.spec) else { continue };
        let group = by_type.entry(tensor.spec.dtype()).or_default();
        group.0.push(Segment::of(&tensor.spec));
        group.1.extend_from_slice(pair.target.bytes(tensor));
        group.2.extend_from_slice(base);
    }
    by_type
        .into_iter()
        .map(|(dtype, Parts(segments, target, base))| {
            let unit = UnitSpec::new(dtype, Some(dtype), DEFAULT_CHUNK_LEN, segments)?;
            Ok(Group { dtype, unit, target, base })
        })
        .collect()
}

/// Codes all groups, and measures the restored weights.
fn rung(name: &str, codec: &dyn DeltaEncoder, groups: &[Group], runs: usize) -> Result<Rung> {
    let mut cx = CodecContext::new();
    let (mut bytes, mut tally) = (0, Tally::default());
    let (mut encoding, mut decoding) = (Duration::ZERO, Duration::ZERO);
    for g in groups {
        let (time, encoded): (_, EncodedUnit) = cpu_timed(runs, || {
            encode_unit(codec, &g.unit, &g.target, Some(&g.base), Effort::Default, &mut cx)
        })?;
        encoding += time;
        let mut out = vec![0; g.target.len()];
        let (time, ()) = cpu_timed(runs, || {
            decode_unit(codec, &g.unit, &encoded, Some(&g.base), &mut out, &mut cx)
        })?;
        decoding += time;
        bytes += encoded.byte_len();
        tally.observe(g.dtype, &g.target, &out, Some((g.dtype, &g.base)))?;
    }
    Ok(Rung {
        name: name.to_owned(),
        bytes,
        found: tally.certificate(),
        times: Some((encoding, decoding)),
    })
}

fn values(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => {
            bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
    }
}

fn put(dtype: Dtype, x: f32, out: &mut Vec<u8>) {
    match dtype {
        Dtype::F32 => out.extend(x.to_le_bytes()),
        Dtype::F16 => out.extend(half::f16::from_f32(x).to_le_bytes()),
        _ => out.extend(half::bf16::from_f32(x).to_le_bytes()),
    }
}

/// A format: maps the changes of a tensor to the restored changes, and the size in bytes.
type Format = fn(&[f32]) -> (Vec<f32>, u64);

/// One step per tensor, a 127th of the largest change; a byte per weight.
fn plain_int8(changes: &[f32]) -> (Vec<f32>, u64) {
    let largest = changes.iter().map(|c| c.abs()).fold(0.0, f32::max);
    let step = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    let back = changes.iter().map(|c| (c / step).round_ties_even() * step).collect();
    (back, changes.len() as u64 + 4)
}

/// deltatensors 0.2 int4: 16 levels between the least and the largest change of the tensor, after
/// the largest hundredth of the changes was set apart with indices of 64 bits and values of
/// binary16.
fn deltatensors_int4(changes: &[f32]) -> (Vec<f32>, u64) {
    let apart = changes.len() / 100;
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_by(|&a, &b| changes[b].abs().total_cmp(&changes[a].abs()));
    let outliers = &order[..apart];
    let rest = &order[apart..];
    let low = rest.iter().map(|&i| changes[i]).fold(f32::INFINITY, f32::min);
    let high = rest.iter().map(|&i| changes[i]).fold(f32::NEG_INFINITY, f32::max);
    let step = if high > low { (high - low) / 15.0 } else { 1.0 };
    let mut back: Vec<f32> = changes
        .iter()
        .map(|c| ((c - low) / step).round_ties_even().clamp(0.0, 15.0) * step + low)
        .collect();
    for &i in outliers {
        back[i] = half::f16::from_f32(changes[i]).to_f32();
    }
    (back, changes.len().div_ceil(2) as u64 + 10 * apart as u64 + 8)
}

/// deltatensors 0.2 sparse: the largest tenth of the changes, indices of 64 bits and values of
/// binary32.
fn deltatensors_sparse(changes: &[f32]) -> (Vec<f32>, u64) {
    let kept = changes.len() / 10;
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_by(|&a, &b| changes[b].abs().total_cmp(&changes[a].abs()));
    let mut back = vec![0.0; changes.len()];
    for &i in &order[..kept] {
        back[i] = changes[i];
    }
    (back, 12 * kept as u64)
}

fn peer(name: &str, format: Format, groups: &[Group]) -> Result<Rung> {
    let (mut bytes, mut tally) = (0, Tally::default());
    for g in groups {
        let (target, base) = (values(g.dtype, &g.target), values(g.dtype, &g.base));
        let changes: Vec<f32> = target.iter().zip(&base).map(|(t, b)| t - b).collect();
        let mut restored = Vec::with_capacity(g.target.len());
        let mut at = 0;
        for segment in g.unit.segments() {
            let range = at..at + segment.len() as usize;
            at = range.end;
            let (back, size) = format(&changes[range.clone()]);
            bytes += size;
            for (b, c) in base[range].iter().zip(back) {
                put(g.dtype, b + c, &mut restored);
            }
        }
        tally.observe(g.dtype, &g.target, &restored, Some((g.dtype, &g.base)))?;
    }
    Ok(Rung { name: name.to_owned(), bytes, found: tally.certificate(), times: None })
}

/// Our answer to a format: as few bytes at its error, as little error in its bytes.
fn duel(peer: Rung, lossless: &Rung, groups: &[Group]) -> Result<Duel> {
    let ours = |error: f64| {
        let rung = rung(&format!("sparse-int8={error:.4}"), &SparseInt8::within(error), groups, 1)?;
        Ok::<Rung, Error>(if rung.bytes < lossless.bytes { rung } else { lossless.clone() })
    };
    let at_its_error = ours(peer.found.relative_error().min(1.0))?;
    let at_its_bytes = if lossless.bytes <= peer.bytes {
        lossless.clone()
    } else {
        // By halving, in logarithms: the largest error is that of nothing.
        let (mut low, mut high, mut best) = (-7.0f64, 0.0f64, ours(1.0)?);
        for _ in 0..6 {
            let middle = (low + high) / 2.0;
            let rung = ours(middle.exp())?;
            if rung.bytes <= peer.bytes {
                high = middle;
                best = rung;
            } else {
                low = middle;
            }
        }
        best
    };
    Ok(Duel { peer, at_its_bytes, at_its_error })
}

/// Others' formats, and our answers to them.
fn duels(rungs: &[Rung], groups: &[Group]) -> Result<Vec<Duel>> {
    let formats: [(&str, Format); 3] = [
        ("int8 per tensor", plain_int8),
        ("deltatensors int4", deltatensors_int4),
        ("deltatensors sparse", deltatensors_sparse),
    ];
    let lossless = rungs.first().cloned().ok_or_else(|| Error::invalid_argument("no codecs"))?;
    if lossless.found.exact != lossless.found.weights {
        return Err(Error::corrupt("the lossless codec lost something"));
    }
    formats
        .iter()
        .map(|(name, format)| duel(peer(name, *format, groups)?, &lossless, groups))
        .collect()
}

/// Measure a pair; each of our coders `runs` times. With `only`, just the coders whose name
/// contains one of these, and no formats of others.
///
/// # Errors
/// `InvalidArgument` when the models have nothing in common; what a codec reports.
pub fn ladder(name: &str, pair: &Pair, runs: usize, only: &[String]) -> Result<Ladder> {
    let groups = groups(pair)?;
    let weights: u64 = groups.iter().map(|g| g.unit.len()).sum();
    if weights == 0 {
        return Err(Error::invalid_argument("the models have no tensors in common"));
    }
    let chosen = |name: &str| only.is_empty() || only.iter().any(|o| name.contains(o.as_str()));
    let rungs = codecs()
        .iter()
        .filter(|(name, _)| chosen(name))
        .map(|(name, codec)| rung(name, &**codec, &groups, runs))
        .collect::<Result<Vec<Rung>>>()?;
    let duels = if only.is_empty() { duels(&rungs, &groups)? } else { Vec::new() };
    let bytes = groups.iter().map(|g| g.unit.byte_len()).sum();
    Ok(Ladder { pair: name.to_owned(), weights, bytes, rungs, duels })
}

impl Ladder {
    fn bits(&self, rung: &Rung) -> String {
        format!("{:.3}", 8.0 * rung.bytes as f64 / self.weights as f64)
    }

    /// Encode and decode, in MB/s.
    fn speed(&self, rung: &Rung) -> String {
        let speed = |t| format!("{:.0}", mb_per_s(self.bytes, t));
        rung.times.map_or("-".to_owned(), |t| format!("{} / {}", speed(t.0), speed(t.1)))
    }
}

fn percent(x: f64) -> String {
    format!("{:.2} %", 100.0 * x)
}

/// Three tables: what codecs come to, how fast they are, and others' formats.
pub fn markdown(ladders: &[Ladder]) -> String {
    let mut columns = vec!["codec"];
    columns.extend(ladders.iter().map(|l| l.pair.as_str()));
    let (mut table, mut speeds) = (Table::new(&columns), Table::new(&columns));
    for i in 0..ladders.iter().map(|l| l.rungs.len()).max().unwrap_or(0) {
        let rungs: Vec<(&Ladder, &Rung)> =
            ladders.iter().filter_map(|l| Some((l, l.rungs.get(i)?))).collect();
        let row = |cell: &dyn Fn(&Ladder, &Rung) -> String| -> Vec<String> {
            let name = rungs.first().map(|r| r.1.name.clone());
            name.into_iter().chain(rungs.iter().map(|(l, r)| cell(l, r))).collect()
        };
        table.row(&row(&|ladder, rung| {
            let Certificate { p99_ulps, .. } = &rung.found;
            let (error, exact) =
                (percent(rung.found.relative_error()), percent(rung.found.exact_rate()));
            format!("{}, {error}, {p99_ulps}, {exact}", ladder.bits(rung))
        }));
        speeds.row(&row(&|ladder, rung| ladder.speed(rung)));
    }
    let mut duels = Table::new(&[
        "pair",
        "format",
        "bits/weight",
        "relative error",
        "our error in its bytes",
        "our bits/weight at its error",
        "wins",
    ]);
    for (ladder, d) in ladders.iter().flat_map(|l| l.duels.iter().map(move |d| (l, d))) {
        let less_error = d.at_its_bytes.found.relative_error() < d.peer.found.relative_error();
        let fewer_bytes = d.at_its_error.bytes < d.peer.bytes;
        let wins = match (less_error, fewer_bytes) {
            (true, true) => "both",
            (true, false) => "error",
            (false, true) => "bytes",
            (false, false) => "neither",
        };
        duels.row(&[
            ladder.pair.clone(),
            d.peer.name.clone(),
            ladder.bits(&d.peer),
            percent(d.peer.found.relative_error()),
            percent(d.at_its_bytes.found.relative_error()),
            ladder.bits(&d.at_its_error),
            wins.to_owned(),
        ]);
    }
    let mut sizes = Table::new(&["pair", "weights", "bytes"]);
    for l in ladders {
        sizes.row(&[l.pair.clone(), thousands(l.weights), thousands(l.bytes)]);
    }
    let [sizes, table, speeds, duels] = [sizes, table, speeds, duels].map(Table::finish);
    let text = format!(
        "{sizes}\nBits per weight, relative error, p99 ULP, exact:\n\n{table}\nEncode / decode, \
            MB per second of the processor's time:\n\n{speeds}"
    );
    if ladders.iter().all(|l| l.duels.is_empty()) { text } else { format!("{text}\n{duels}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_as_documented() {
        let changes: Vec<f32> =
            (0..1000).map(|i| ((i * 37) % 1000) as f32 / 1000.0 - 0.5).collect();
        for (format, size, error) in [
            (plain_int8 as Format, 1004, 0.01),
            (deltatensors_int4, 500 + 100 + 8, 0.1),
            (deltatensors_sparse, 1200, 1.0),
        ] {
            let (back, bytes) = format(&changes);
            assert_eq!(bytes, size);
            let norm =
                |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            let wrong = norm(&mut changes.iter().zip(&back).map(|(a, b)| a - b));
            assert!(wrong < error * norm(&mut changes.iter().copied()), "{wrong}");
        }
    }
}
