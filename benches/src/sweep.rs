//! The `ladder --sweep` command: bounds and sizes from end to end, beside each codec by itself.
//!
//! Deltas of a pair are made by the facade for a range of bounds, for each codec at several
//! settings, and then to the size of each of the latter. Sizes are those of files, errors those
//! that the deltas certify.

use crate::ours::open_weights;
use crate::tables::{Table, thousands};
use sparse::{Compressor, Model, Policy, Result};
use std::fmt::Write;
use std::path::Path;

/// Relative errors that deltas are bounded by.
const BOUNDS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99];

/// Codecs by themselves.
const ALONE: [&str; 29] = [
    "svd=1",
    "svd=2",
    "svd=3",
    "svd=4",
    "svd=6",
    "svd=8",
    "svd=12",
    "svd=16",
    "svd=32",
    "svd=64",
    "svd=0.5",
    "svd=0.9",
    "sparse-int8=0.001",
    "sparse-int8=0.01",
    "sparse-int8=0.02",
    "sparse-int8=0.05",
    "sparse-int8=0.1",
    "sparse-int8=0.2",
    "sparse-int8=0.3",
    "sparse-int8=0.5",
    "sparse-int8=0.8",
    "sparse=0.05",
    "sparse=0.2",
    "sparse=0.5",
    "sparse=0.8",
    "int8",
    "sign",
    "ulp-bounded=1",
    "ulp-bounded=8",
];

/// What of the bytes of a tighter bound a looser one may exceed: a part, and bytes.
const SLACK: (f64, f64) = (1.01, 64.0);

/// Size and error of a delta.
#[derive(Clone, Debug)]
pub struct Point {
    /// The policy that it was made by.
    pub policy: String,
    /// The bound, or the size in bytes, that was asked for; 0 for a codec by itself.
    pub asked: f64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Error of all weights, relative to their change.
    pub error: f64,
}

/// Deltas of one pair.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The pair.
    pub pair: String,
    /// Bytes of the lossless delta.
    pub lossless: u64,
    /// By bound, the tightest first.
    pub bounds: Vec<Point>,
    /// By size, the smallest first.
    pub sizes: Vec<Point>,
    /// By codec.
    pub alone: Vec<Point>,
}

fn point(base: &Model, target: &Model, policy: &str, asked: f64) -> Result<Point> {
    let parsed: Policy = policy.parse()?;
    let compressor = Compressor::new(target).base(base).policy(parsed);
    let (delta, report) = compressor.write_to(Vec::new())?;
    let error = report.certificate.map_or(0.0, |c| c.relative_error());
    Ok(Point { policy: policy.to_owned(), asked, bytes: delta.len() as u64, error })
}

/// Makes all deltas of a pair.
///
/// # Errors
/// What compressing reports.
pub fn sweep(name: &str, base: &Path, target: &Path) -> Result<Sweep> {
    let (base, target) = (open_weights(base)?, open_weights(target)?);
    let make = |policy: &str, asked: f64| point(&base, &target, policy, asked);
    let lossless = make("lossless", 0.0)?.bytes;
    let bounds = BOUNDS
        .iter()
        .map(|e| make(&format!("max-error={e}"), *e))
        .collect::<Result<Vec<Point>>>()?;
    let alone = ALONE.iter().map(|c| make(c, 0.0)).collect::<Result<Vec<Point>>>()?;
    let mut asked: Vec<u64> = alone.iter().map(|p| p.bytes).collect();
    asked.sort_unstable();
    asked.dedup();
    let sizes = asked
        .iter()
        .map(|&size| make(&format!("target-size={size}"), size as f64))
        .collect::<Result<Vec<Point>>>()?;
    Ok(Sweep { pair: name.to_owned(), lossless, bounds, sizes, alone })
}

impl Sweep {
    /// Returns what does not hold: a looser bound that takes more, a size that is exceeded, not
    /// spent, or spent worse than by a codec by itself.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(format!("{}: {text}", self.pair));
        let mut least = f64::INFINITY;
        for p in &self.bounds {
            if p.error > p.asked {
                fault(format!("{} has an error of {}", p.policy, p.error));
            }
            if p.bytes as f64 > least * SLACK.0 + SLACK.1 {
                fault(format!("{} takes {} bytes, a tighter bound {least}", p.policy, p.bytes));
            }
            least = least.min(p.bytes as f64);
        }
        let mut best = f64::INFINITY;
        for p in &self.sizes {
            if p.bytes as f64 > p.asked {
                fault(format!("{} takes {} bytes", p.policy, p.bytes));
            }
            if p.error > 0.0 && (p.bytes as f64) < 0.99 * p.asked {
                fault(format!("{} takes only {} bytes", p.policy, p.bytes));
            }
            if p.error > best * SLACK.0 {
                fault(format!("{} loses {}, a smaller size {best}", p.policy, p.error));
            }
            best = best.min(p.error);
        }
        for a in &self.alone {
            let ours = self.sizes.iter().find(|p| p.asked == a.bytes as f64);
            if let Some(p) = ours.filter(|p| p.error > a.error) {
                fault(format!("{} loses {}, {} only {}", p.policy, p.error, a.policy, a.error));
            }
        }
        faults
    }
}

/// Returns the tables of all sweeps, and what does not hold.
pub fn markdown(sweeps: &[Sweep]) -> String {
    let mut text = String::new();
    for s in sweeps {
        let _ = writeln!(text, "{}: lossless {} bytes\n", s.pair, thousands(s.lossless));
        let mut table = Table::new(&["by itself", "bytes", "error", "to its size", "its error"]);
        for a in &s.alone {
            let ours = s.sizes.iter().find(|p| p.asked == a.bytes as f64);
            table.row(&[
                a.policy.clone(),
                thousands(a.bytes),
                format!("{:.5}", a.error),
                ours.map_or_else(String::new, |p| thousands(p.bytes)),
                ours.map_or_else(String::new, |p| format!("{:.5}", p.error)),
            ]);
        }
        let mut bounds = Table::new(&["bound", "bytes", "error"]);
        for p in &s.bounds {
            bounds.row(&[p.asked.to_string(), thousands(p.bytes), format!("{:.5}", p.error)]);
        }
        let _ = writeln!(text, "{}\n{}", table.finish(), bounds.finish());
    }
    let faults: Vec<String> = sweeps.iter().flat_map(Sweep::faults).collect();
    faults.iter().for_each(|f| {
        let _ = writeln!(text, "- {f}");
    });
    let _ = writeln!(text, "{} faults", faults.len());
    text
}

/// Width and height of a panel of the plot, and the room around its axes.
const PANEL: (f64, f64) = (330.0, 230.0);
const ROOM: (f64, f64) = (46.0, 30.0);

/// Draws all sweeps: a panel for each, bytes and errors in logarithms.
pub fn svg(sweeps: &[Sweep]) -> String {
    let columns = sweeps.len().clamp(1, 3);
    let rows = sweeps.len().div_ceil(columns).max(1);
    let (width, height) = (PANEL.0 * columns as f64, PANEL.1 * rows as f64 + 24.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
            font-family=\"sans-serif\" font-size=\"10\">\n\
            <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (i, sweep) in sweeps.iter().enumerate() {
        let corner = (PANEL.0 * (i % columns) as f64, PANEL.1 * (i / columns) as f64);
        panel(sweep, corner, &mut out);
    }
    let _ = writeln!(
        out,
        "<text x=\"46\" y=\"{:.0}\">blue: --target-size; green: --max-error; dots: codecs by \
            themselves. Across: bytes; up: error of the change.</text>\n</svg>",
        height - 8.0
    );
    out
}

fn panel(sweep: &Sweep, corner: (f64, f64), out: &mut String) {
    let all = || sweep.alone.iter().chain(&sweep.bounds).chain(&sweep.sizes);
    let shown = |p: &&Point| p.error > 0.0 && p.bytes > 0;
    let logs: Vec<(f64, f64)> =
        all().filter(shown).map(|p| ((p.bytes as f64).log10(), p.error.log10())).collect();
    let range = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let low = logs.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = logs.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        if low < high { (low, high) } else { (low - 0.5, low + 0.5) }
    };
    let (x, y) = (range(&|l| l.0), range(&|l| l.1));
    let (width, height) = (PANEL.0 - ROOM.0 - 10.0, PANEL.1 - 2.0 * ROOM.1);
    let place = |p: &Point| {
        let across = ((p.bytes as f64).log10() - x.0) / (x.1 - x.0);
        let up = (p.error.log10() - y.0) / (y.1 - y.0);
        (corner.0 + ROOM.0 + across * width, corner.1 + ROOM.1 + (1.0 - up) * height)
    };
    let (left, top) = (corner.0 + ROOM.0, corner.1 + ROOM.1);
    let _ = writeln!(
        out,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
            fill=\"none\" stroke=\"#999\"/>\n\
            <text x=\"{left:.1}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        top - 6.0,
        sweep.pair
    );
    for (log, anchor, at) in [(x.0, "start", left), (x.1, "end", left + width)] {
        let bytes = thousands(10f64.powf(log).round() as u64);
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{bytes}</text>",
            top + height + 12.0
        );
    }
    for (log, at) in [(y.0, top + height), (y.1, top + 8.0)] {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\">{:.2} %</text>",
            left - 3.0,
            100.0 * 10f64.powf(log)
        );
    }
    for p in sweep.alone.iter().filter(shown) {
        let (x, y) = place(p);
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"#c60\"><title>{}</title></circle>",
            p.policy
        );
    }
    for (points, colour) in [(&sweep.bounds, "#080"), (&sweep.sizes, "#06c")] {
        let places: Vec<String> = points
            .iter()
            .filter(shown)
            .map(|p| {
                let (x, y) = place(p);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>",
            places.join(" ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(policy: &str, asked: f64, bytes: u64, error: f64) -> Point {
        Point { policy: policy.to_owned(), asked, bytes, error }
    }

    #[test]
    fn faults_are_found() {
        let mut sweep = Sweep {
            pair: "p".to_owned(),
            lossless: 9000,
            bounds: vec![at("max-error=0.1", 0.1, 5000, 0.1), at("max-error=0.5", 0.5, 2000, 0.4)],
            sizes: vec![at("target-size=3000", 3000.0, 2990, 0.2)],
            alone: vec![at("svd=1", 0.0, 3000, 0.2)],
        };
        assert!(sweep.faults().is_empty());
        sweep.bounds[1].bytes = 6000;
        sweep.sizes[0] = at("target-size=3000", 3000.0, 2900, 0.3);
        assert_eq!(sweep.faults().len(), 3, "{:?}", sweep.faults());
        assert!(svg(&[sweep]).ends_with("</svg>\n"));
    }
}
