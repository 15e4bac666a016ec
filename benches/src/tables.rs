//! Reports as markdown and as JSON.

use crate::compare::{Figures, Report, Row};
use crate::measure::Machine;
use crate::ours::{DEFAULT, PREFIX};
use std::fmt::Write as _;

/// The coder that others are measured against.
const BITX: &str = "BitX";

/// A number with thousands separated by commas.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// A markdown table: the first column is text, the others are numbers.
#[derive(Clone, Debug)]
pub struct Table {
    text: String,
}

impl Table {
    /// Begin with the names of the columns.
    pub fn new<S: AsRef<str>>(columns: &[S]) -> Table {
        let mut table = Table { text: String::new() };
        table.row(columns);
        let rule: Vec<&str> =
            (0..columns.len()).map(|i| if i == 0 { "---" } else { "---:" }).collect();
        table.text.push('|');
        table.text += &rule.join("|");
        table.text += "|\n";
        table
    }

    /// Add a row; a bar in a cell becomes a slash.
    pub fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        self.text.push('|');
        for cell in cells {
            // Writing to a string cannot fail.
            let _ = write!(self.text, " {} |", cell.as_ref().replace('|', "/"));
        }
        self.text.push('\n');
    }

    /// The table.
    pub fn finish(self) -> String {
        self.text
    }
}

/// `part` as percent of `whole`.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / (whole as f64).max(1.0))
}

fn dash() -> String {
    "–".into()
}

impl Row {
    fn figures(&self) -> Option<&Figures> {
        self.outcome.as_ref().ok()
    }

    fn is_ours(&self) -> bool {
        self.coder.starts_with(PREFIX)
    }
}

impl Report {
    fn bitx(&self) -> Option<&Figures> {
        self.rows.iter().find(|r| r.coder.starts_with(BITX))?.figures()
    }

    /// The smallest of the others, with its name.
    fn best_other(&self) -> Option<(&str, &Figures)> {
        let others = self.rows.iter().filter(|r| !r.is_ours());
        others.filter_map(|r| Some((r.coder.as_str(), r.figures()?))).min_by_key(|r| r.1.bytes)
    }

    /// As a markdown table under a heading.
    pub fn markdown(&self) -> String {
        let mut table = Table::new(&[
            "coder",
            "bytes",
            "ratio",
            "of BitX",
            "of the best other",
            "floor",
            "over the floor",
            "encode MB/s",
            "decode MB/s",
            "verified",
        ]);
        for row in &self.rows {
            let f = match &row.outcome {
                Ok(f) => f,
                Err(why) => {
                    let mut cells = vec![row.coder.clone()];
                    cells.resize_with(9, dash);
                    cells.push(format!("no: {why}"));
                    table.row(&cells);
                    continue;
                }
            };
            let of = |other: Option<&Figures>| {
                other.filter(|_| row.is_ours()).map_or_else(dash, |o| percent(f.bytes, o.bytes))
            };
            let over = |floor: u64| {
                let bytes = f.bytes.saturating_sub(floor);
                format!("{} ({})", thousands(bytes), percent(bytes, floor))
            };
            table.row(&[
                row.coder.clone(),
                thousands(f.bytes),
                format!("{:.2}", f.ratio),
                of(self.bitx()),
                of(self.best_other().map(|b| b.1)),
                f.floor.map_or_else(dash, thousands),
                f.floor.map_or_else(dash, over),
                format!("{:.0}", f.encode),
                format!("{:.0}", f.decode),
                "yes".into(),
            ]);
        }
        format!("### {} ({} bytes)\n\n{}", self.pair, thousands(self.raw), table.finish())
    }
}

/// Compressed bytes of all coders on all pairs.
pub fn bytes(reports: &[Report]) -> String {
    by_coder("Bytes", reports, |f| thousands(f.bytes))
}

/// Speeds of all coders on all pairs.
pub fn speeds(reports: &[Report]) -> String {
    by_coder("Encode / decode, MB/s", reports, |f| format!("{:.0} / {:.0}", f.encode, f.decode))
}

fn by_coder(title: &str, reports: &[Report], cell: impl Fn(&Figures) -> String) -> String {
    let mut columns = vec!["pair", "raw"];
    columns.extend(reports.iter().take(1).flat_map(|r| &r.rows).map(|row| row.coder.as_str()));
    let mut table = Table::new(&columns);
    for r in reports {
        let mut cells = vec![r.pair.clone(), thousands(r.raw)];
        cells.extend(r.rows.iter().map(|row| row.figures().map_or_else(dash, &cell)));
        table.row(&cells);
    }
    format!("### {title}\n\n{}", table.finish())
}

/// Sparse beside BitX, the best other, and its own floor. Empty if Sparse was not measured.
pub fn summary(reports: &[Report]) -> String {
    let mut table = Table::new(&[
        "pair",
        "raw",
        "BitX",
        "best other",
        "sparse",
        "ratio",
        "of BitX",
        "of the best other",
        "over its floor",
    ]);
    let mut any = false;
    for r in reports {
        let Some(row) = r.rows.iter().find(|row| row.coder == DEFAULT) else { continue };
        any = true;
        let Some(f) = row.figures() else {
            table.row(&[&r.pair, "failed"]);
            continue;
        };
        let of = |other: Option<&Figures>| other.map_or_else(dash, |o| percent(f.bytes, o.bytes));
        table.row(&[
            r.pair.clone(),
            thousands(r.raw),
            r.bitx().map_or_else(dash, |b| thousands(b.bytes)),
            r.best_other().map_or_else(dash, |(name, b)| {
                format!("{} ({})", thousands(b.bytes), name.split(',').next().unwrap_or(name))
            }),
            thousands(f.bytes),
            format!("{:.2}", f.ratio),
            of(r.bitx()),
            of(r.best_other().map(|b| b.1)),
            f.floor.map_or_else(dash, |floor| {
                let over = f.bytes.saturating_sub(floor);
                format!("{}, {} bytes", percent(over, floor), thousands(over))
            }),
        ]);
    }
    if any { format!("### {DEFAULT}\n\n{}", table.finish()) } else { String::new() }
}

/// The reports as JSON.
pub fn json(machine: &Machine, runs: usize, reports: &[Report]) -> serde_json::Value {
    let row = |row: &Row| match &row.outcome {
        Ok(f) => serde_json::json!({
            "coder": row.coder, "bytes": f.bytes, "ratio": f.ratio, "encode_mb_per_s": f.encode,
            "decode_mb_per_s": f.decode, "floor_bytes": f.floor, "verified": true,
        }),
        Err(why) => serde_json::json!({ "coder": row.coder, "verified": false, "error": why }),
    };
    let pair = |r: &Report| {
        let coders: Vec<_> = r.rows.iter().map(row).collect();
        serde_json::json!({ "pair": r.pair, "raw_bytes": r.raw, "coders": coders })
    };
    serde_json::json!({
        "machine": {
            "cpu": machine.cpu, "cores": machine.cores, "simd": machine.simd, "date": machine.date,
        },
        "threads": 1,
        "runs": runs,
        "pairs": reports.iter().map(pair).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_written() {
        let ok = Figures { bytes: 1_234_567, ratio: 2.0, encode: 10.4, decode: 20.6, floor: None };
        let ours = Figures { bytes: 617_283, ratio: 4.0, floor: Some(600_000), ..ok };
        let rows = vec![
            Row { coder: "BitX (x)".into(), outcome: Ok(ok) },
            Row { coder: "best, really".into(), outcome: Ok(Figures { bytes: 1_000_000, ..ok }) },
            Row { coder: DEFAULT.into(), outcome: Ok(ours) },
            Row { coder: "b".into(), outcome: Err("x|y".into()) },
        ];
        let r = Report { pair: "p".into(), raw: 2_469_134, rows };
        let text = r.markdown();
        for row in [
            "| BitX (x) | 1,234,567 | 2.00 | – | – | – | – | 10 | 21 | yes |\n",
            "| 617,283 | 4.00 | 50.0 % | 61.7 % | 600,000 | 17,283 (2.9 %) | 10 | 21 | yes |\n",
            "| b | – | – | – | – | – | – | – | – | no: x/y |\n",
        ] {
            assert!(text.contains(row), "{text}");
        }
        let reports = [r];
        assert!(
            bytes(&reports).contains("| p | 2,469,134 | 1,234,567 | 1,000,000 | 617,283 | – |")
        );
        let text = summary(&reports);
        let row = "| 1,234,567 | 1,000,000 (best) | 617,283 | 4.00 | 50.0 % | 61.7 % | \
            2.9 %, 17,283 bytes |";
        assert!(text.contains(row), "{text}");
        assert!(speeds(&reports).contains("10 / 21"));
        let json = json(&Machine::describe(), 1, &reports);
        assert_eq!(json["pairs"][0]["coders"][3]["verified"], false);
        assert_eq!(json["pairs"][0]["coders"][2]["floor_bytes"], 600_000);
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1000), "1,000");
    }
}
