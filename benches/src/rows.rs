//! `sparse-bench synth-dataset`: a seeded pair of tables of any size, grown from the text of real
//! rows.
//!
//! Every row is a function of the seed and its number, so that nothing is held in memory, however
//! many there are.

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sparse_core::{Error, ErrorKind, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a block: the derivative has blocks in another order, rows within them in the base's.
pub const BLOCK: u64 = 1000;

/// Rows written at once.
const BATCH: usize = 4096;

/// Settings of the command.
#[derive(Clone, Debug)]
pub struct Rows {
    /// A Parquet file whose text columns the rows are grown from.
    pub from: PathBuf,
    /// Folder for `base.parquet` and `derivative.parquet`.
    pub out: PathBuf,
    /// Rows of the base.
    pub rows: u64,
    /// Seed.
    pub seed: u64,
}

/// Numbers of rows that were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Rows of base and derivative.
    pub rows: [u64; 2],
    /// Bytes of their text.
    pub text: [u64; 2],
    /// Bytes of their cells: text, and 8 for each number.
    pub cells: [u64; 2],
    /// Rows of the derivative that were edited.
    pub edited: u64,
    /// Rows of the base that were left out.
    pub removed: u64,
    /// Rows of the derivative that the base has not.
    pub added: u64,
}

/// A number of 64 bits from two (the finaliser of MurmurHash3).
fn hash(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// Sentences and words of real rows.
struct Pool {
    sentences: Vec<String>,
    words: Vec<String>,
}

impl Pool {
    fn of(texts: impl Iterator<Item = String>) -> Pool {
        let (mut sentences, mut words) = (Vec::new(), Vec::new());
        for text in texts {
            for s in
                text.split_inclusive(['.', '?', '!', '\n']).map(str::trim).filter(|s| s.len() > 8)
            {
                sentences.push(s.to_owned());
                words.extend(s.split(' ').filter(|w| w.len() > 3).take(2).map(str::to_owned));
            }
        }
        Pool { sentences, words }
    }

    fn read(path: &Path) -> Result<Pool> {
        let bad = |what: &'static str| {
            Error::new(ErrorKind::InvalidInput, what).in_file(path.display().to_string())
        };
        let file = File::open(path)
            .map_err(|e| Error::io("cannot read", e).in_file(path.display().to_string()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build());
        let mut texts = Vec::new();
        for batch in reader.map_err(|_| bad("not a Parquet file"))? {
            let batch = batch.map_err(|_| bad("a damaged Parquet file"))?;
            for column in batch.columns() {
                if let Some(c) = column.as_any().downcast_ref::<StringArray>() {
                    texts.extend(c.iter().flatten().map(str::to_owned));
                }
            }
        }
        let pool = Pool::of(texts.into_iter());
        if pool.sentences.len() < 100 {
            Err(bad("fewer than 100 sentences of text"))
        } else {
            Ok(pool)
        }
    }

    fn pick(list: &[String], n: u64) -> &str {
        list.get((n % list.len().max(1) as u64) as usize).map_or("", |s| s)
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    id: i64,
    text: String,
    topic: &'static str,
    score: f64,
    time: i64,
}

const TOPICS: [&str; 12] = [
    "algebra",
    "arithmetic",
    "biology",
    "chemistry",
    "code",
    "cooking",
    "geography",
    "history",
    "law",
    "medicine",
    "music",
    "travel",
];

/// Makes row `n` of the base, or a new row if the base has no row `n`.
fn row(pool: &Pool, seed: u64, n: u64) -> Row {
    let r = |k: u64| hash(hash(seed, n), k);
    let mut text = String::new();
    for k in 0..2 + r(0) % 2 {
        if k > 0 {
            text.push(' ');
        }
        text.push_str(Pool::pick(&pool.sentences, r(10 + k)));
    }
    Row {
        id: n as i64,
        text,
        topic: TOPICS[(r(1) % 144).isqrt() as usize % TOPICS.len()],
        score: (r(2) % 10_000) as f64 / 100.0,
        time: 1_600_000_000 + 37 * n as i64 + (r(3) % 37) as i64,
    }
}

/// Replace one word.
fn edit(pool: &Pool, row: &mut Row, random: u64) {
    let words: Vec<&str> = row.text.split(' ').collect();
    let at = (random % words.len().max(1) as u64) as usize;
    let new = Pool::pick(&pool.words, hash(random, 1));
    row.text = words
        .iter()
        .enumerate()
        .map(|(i, w)| if i == at { new } else { w })
        .collect::<Vec<_>>()
        .join(" ");
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
        Field::new("topic", DataType::Utf8, true),
        Field::new("score", DataType::Float64, true),
        Field::new("time", DataType::Int64, true),
    ]))
}

/// Writer of a Parquet file.
struct Out {
    writer: ArrowWriter<File>,
    path: PathBuf,
    rows: Vec<Row>,
    count: u64,
    text: u64,
}

impl Out {
    fn new(path: PathBuf) -> Result<Out> {
        let place = path.display().to_string();
        let file =
            File::create(&path).map_err(|e| Error::io("cannot write", e).in_file(place.clone()))?;
        let failed = |_| Error::new(ErrorKind::Io, "cannot write").in_file(place.clone());
        let level = ZstdLevel::try_new(3).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(1 << 17))
            .build();
        let writer = ArrowWriter::try_new(file, schema(), Some(properties)).map_err(failed)?;
        Ok(Out { writer, path, rows: Vec::new(), count: 0, text: 0 })
    }

    fn push(&mut self, row: Row) -> Result<()> {
        self.count += 1;
        self.text += (row.text.len() + row.topic.len()) as u64;
        self.rows.push(row);
        if self.rows.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| r.id).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| Some(&r.text)).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| Some(r.topic)).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| r.score).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|r| r.time).collect::<Int64Array>()),
        ];
        let place = self.path.display().to_string();
        let failed = |_| Error::new(ErrorKind::Io, "cannot write").in_file(place.clone());
        let batch = RecordBatch::try_new(schema(), columns)
            .map_err(|_| Error::invalid_argument("columns of a batch"))?;
        self.writer.write(&batch).map_err(failed)
    }

    fn finish(mut self) -> Result<(u64, u64)> {
        self.flush()?;
        let place = self.path.display().to_string();
        self.writer
            .close()
            .map_err(|_| Error::new(ErrorKind::Io, "cannot write").in_file(place))?;
        Ok((self.count, self.text))
    }
}

/// The blocks of the base in the derivative's order.
fn order(blocks: u64, seed: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..blocks).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, (hash(seed ^ 0x6f72_6465, i as u64) % (i as u64 + 1)) as usize);
    }
    order
}

/// The rows of the derivative: blocks of the base in another order, 1 % of rows with a word
/// replaced, 2 % left out, 3 % new.
fn derive(
    pool: &Pool,
    options: &Rows,
    made: &mut Made,
    mut each: impl FnMut(Row) -> Result<()>,
) -> Result<()> {
    for block in order(options.rows.div_ceil(BLOCK), options.seed) {
        for n in block * BLOCK..options.rows.min((block + 1) * BLOCK) {
            let chance = hash(options.seed ^ 0x6368_616e, n);
            let mut kept = row(pool, options.seed, n);
            match chance % 100 {
                0 => {
                    edit(pool, &mut kept, chance >> 8);
                    made.edited += 1;
                    each(kept)?;
                }
                1 | 2 => made.removed += 1,
                _ => each(kept)?,
            }
            if (chance >> 32) % 100 < 3 {
                made.added += 1;
                each(row(pool, options.seed, options.rows + n))?;
            }
        }
    }
    Ok(())
}

/// Make the pair.
///
/// # Errors
/// `InvalidInput` when `from` is not a Parquet file with text; `Io`.
pub fn make(options: &Rows) -> Result<Made> {
    let pool = Pool::read(&options.from)?;
    std::fs::create_dir_all(&options.out).map_err(|e| Error::io("cannot create the folder", e))?;
    let mut made = Made::default();
    let mut out = Out::new(options.out.join("base.parquet"))?;
    (0..options.rows).try_for_each(|n| out.push(row(&pool, options.seed, n)))?;
    (made.rows[0], made.text[0]) = out.finish()?;
    let mut out = Out::new(options.out.join("derivative.parquet"))?;
    derive(&pool, options, &mut made, |row| out.push(row))?;
    (made.rows[1], made.text[1]) = out.finish()?;
    for i in 0..2 {
        made.cells[i] = made.text[i] + 24 * made.rows[i];
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_from_seed_and_number() {
        let texts =
            (0..200).map(|i| format!("Sentence number {i} is about something. It has {i} words."));
        let pool = Pool::of(texts);
        assert_eq!(row(&pool, 1, 5), row(&pool, 1, 5));
        assert_ne!(row(&pool, 1, 5).text, row(&pool, 2, 5).text);
        let options = Rows { from: PathBuf::new(), out: PathBuf::new(), rows: 20_500, seed: 3 };
        let mut made = Made::default();
        let mut rows = Vec::new();
        derive(&pool, &options, &mut made, |r| {
            rows.push(r);
            Ok(())
        })
        .unwrap();
        assert_eq!(rows.len() as u64, options.rows - made.removed + made.added);
        let share = |n: u64| n as f64 / options.rows as f64;
        assert!((0.007..0.013).contains(&share(made.edited)), "{made:?}");
        assert!((0.016..0.024).contains(&share(made.removed)), "{made:?}");
        assert!((0.025..0.035).contains(&share(made.added)), "{made:?}");
        let same = rows.iter().filter(|r| **r == row(&pool, 3, r.id as u64)).count() as u64;
        // A word may be replaced by itself.
        assert!(rows.len() as u64 - same <= made.edited && same < rows.len() as u64);
        let blocks = order(21, 3);
        assert_ne!(blocks, (0..21).collect::<Vec<u64>>());
    }
}
