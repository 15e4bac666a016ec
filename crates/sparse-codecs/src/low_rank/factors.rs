//! Integer factors of the change of each matrix: their serial form, and the predictions that they
//! make.

use super::float::Predicted;
use crate::entropy::bits::BitReader;
use crate::entropy::rans;
use crate::entropy::token::TokenScheme;
use crate::entropy::{bytes, tables, varint};
use crate::simd::{self, Kernel, Simd};
use sparse_core::{Error, Limits, Result, Segment, UnitSpec, with_room, zeros};

/// Largest rank of a matrix.
pub(super) const MAX_RANK: usize = 256;

/// Added to a matrix's scale if its product is rounded.
const PRODUCT_FLAG: u64 = 1024;

/// Largest shift of a component.
const MAX_SHIFT: u64 = 24;

/// Entries are this many tokens at most.
pub(super) const TOKENS: TokenScheme = TokenScheme::Signed { msb: 2 };

/// Frequency tables for entries.
pub(super) const MAX_TABLES: usize = 16;

/// Interleaved states of the entries' tokens.
#[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
const LANES: usize = 4;

/// Most entries that a reader makes from a byte.
const ENTRIES_PER_BYTE: u64 = 64;

/// Returns true if a segment is a matrix that can have factors.
pub(super) fn is_matrix(segment: &Segment) -> bool {
    segment.rows >= 2 && segment.row_len >= 32
}

/// The factors of one segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Factors<R: Predicted> {
    /// Number of components; zero for a segment without factors.
    pub(super) rank: usize,
    /// The scale of sums, a power of two.
    pub(super) exponent: i32,
    /// Whether the merge rounded the product before it was added.
    pub(super) product: bool,
    /// By component, the power of two that left entries are multiplied with.
    pub(super) shifts: Vec<u32>,
    /// Row by row, `rank` entries each, shifts applied.
    pub(super) left: Vec<R::Factor>,
    /// Component by component, an entry for each column.
    pub(super) right: Vec<R::Factor>,
}

impl<R: Predicted> Factors<R> {
    /// Creates empty factors: the prediction is the base.
    pub(super) fn none() -> Self {
        Factors {
            rank: 0,
            exponent: 0,
            product: false,
            shifts: Vec::new(),
            left: Vec::new(),
            right: Vec::new(),
        }
    }

    /// Computes the sums of row `row` from column `column` on.
    #[inline(always)]
    fn sums(&self, row: usize, column: usize, columns: usize, sums: &mut [R::Sum]) {
        sums.fill(R::Sum::default());
        let left = self.left.get(row * self.rank..(row + 1) * self.rank).unwrap_or_default();
        let len = sums.len();
        let piece = |k: usize| {
            let start = k * columns + column;
            self.right.get(start..start + len).unwrap_or_default()
        };
        let (fours, rest) = left.as_chunks::<4>();
        for (i, four) in fours.iter().enumerate() {
            R::accumulate4(four, std::array::from_fn(|k| piece(4 * i + k)), sums);
        }
        for (i, &l) in rest.iter().enumerate() {
            R::accumulate(l, piece(4 * fours.len() + i), sums);
        }
    }

    /// Predicts a piece of a row: words and fractions.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn predict(
        &self,
        simd: Simd,
        row: usize,
        column: usize,
        columns: usize,
        base: &[u8],
        words: &mut [u32],
        fractions: &mut [u8],
    ) {
        if self.product {
            simd::run(
                simd,
                Predict::<R, true> { factors: self, row, column, columns, base, words, fractions },
            );
        } else {
            simd::run(
                simd,
                Predict::<R, false> { factors: self, row, column, columns, base, words, fractions },
            );
        }
    }
}

/// The prediction of a piece of a row.
struct Predict<'a, R: Predicted, const PRODUCT: bool> {
    factors: &'a Factors<R>,
    row: usize,
    column: usize,
    columns: usize,
    base: &'a [u8],
    words: &'a mut [u32],
    fractions: &'a mut [u8],
}

impl<R: Predicted, const PRODUCT: bool> Kernel for Predict<'_, R, PRODUCT> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Predict { factors, row, column, columns, base, words, fractions } = self;
        let scale = R::scale(factors.exponent);
        let mut sums = [R::Sum::default(); TILE];
        let tiles = base
            .chunks(TILE * R::BYTES)
            .zip(words.chunks_mut(TILE))
            .zip(fractions.chunks_mut(TILE));
        for (i, ((base, words), fractions)) in tiles.enumerate() {
            let sums = &mut sums[..words.len()];
            factors.sums(row, column + i * TILE, columns, sums);
            let places = words.iter_mut().zip(fractions).zip(base.chunks_exact(R::BYTES)).zip(sums);
            for (((word, fraction), base), &mut sum) in places {
                (*word, *fraction) = R::predict::<PRODUCT>(R::load(base), sum, scale);
            }
        }
    }
}

/// Columns that are predicted at a time: few enough for the sums to stay in the first-level cache.
const TILE: usize = 512;

/// Calls `entry` for each run of entries, in the order in which they are coded.
///
/// That is, for each segment, left by component, then right by component. `entry` gets the class
/// (component and side) of each run.
fn classes(ranks: impl Iterator<Item = (usize, Segment)>, mut run: impl FnMut(usize, u64)) {
    let mut class = 0;
    for (rank, segment) in ranks {
        for _ in 0..rank {
            run(class, segment.rows);
            run(class + 1, segment.row_len);
            class += 2;
        }
    }
}

#[cfg(feature = "low-rank-encode")]
pub(super) mod write {
    use super::*;
    use crate::entropy::bits::BitWriter;
    use crate::entropy::cluster::{Cost, Sparse, cluster};
    use crate::entropy::freq::{self, FreqTable};

    /// Estimates the bits that the entries of one matrix's factors take.
    pub(in super::super) fn bits<R: Predicted>(segment: &Segment, f: &Factors<R>) -> f64 {
        let symbols = TOKENS.token_count(33);
        let mut total = 0.0;
        let mut cost = |values: &mut dyn Iterator<Item = i64>| {
            let mut counts = vec![0u64; symbols];
            for v in values {
                let t = TOKENS.split(varint::zigzag(v));
                counts[t.token as usize] += 1;
                total += f64::from(t.raw_bits);
            }
            total += freq::entropy_bits(&counts);
        };
        for k in 0..f.rank {
            let columns = segment.row_len as usize;
            cost(&mut f.left.iter().skip(k).step_by(f.rank).map(|&l| l.into() >> f.shifts[k]));
            cost(&mut f.right[k * columns..(k + 1) * columns].iter().map(|&r| r.into()));
        }
        total
    }

    /// Appends the factors of all matrices of a unit.
    ///
    /// # Errors
    /// None in the usual course.
    pub(in super::super) fn write<R: Predicted>(
        unit: &UnitSpec,
        factors: &[Factors<R>],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let matrices = || unit.segments().iter().zip(factors).filter(|(s, _)| is_matrix(s));
        for (_, f) in matrices() {
            varint::put(out, f.rank as u64);
            if f.rank > 0 {
                let flag = if f.product { PRODUCT_FLAG } else { 0 };
                varint::put(out, varint::zigzag(f.exponent.into()) + flag);
                f.shifts.iter().for_each(|&s| varint::put(out, s.into()));
            }
        }
        let count: usize = matrices().map(|(_, f)| 2 * f.rank).sum();
        if count == 0 {
            return Ok(());
        }
        let mut values: Vec<u64> = Vec::new();
        for (segment, f) in matrices() {
            for k in 0..f.rank {
                let left = f.left.iter().skip(k).step_by(f.rank).map(|&l| l.into() >> f.shifts[k]);
                values.extend(left.map(varint::zigzag));
                let columns = segment.row_len as usize;
                values.extend(
                    f.right[k * columns..(k + 1) * columns]
                        .iter()
                        .map(|&r| varint::zigzag(r.into())),
                );
            }
        }
        let tokens: Vec<_> = values.iter().map(|&v| TOKENS.split(v)).collect();
        let symbols = TOKENS.token_count(33);
        let mut histograms = vec![vec![0u64; symbols]; count];
        let mut at = 0;
        classes(matrices().map(|(s, f)| (f.rank, *s)), |class, len| {
            for t in &tokens[at..at + len as usize] {
                histograms[class][t.token as usize] += 1;
            }
            at += len as usize;
        });
        let items: Vec<_> = histograms.iter().map(|h| Sparse::from_dense(h)).collect();
        let table_of = cluster(&items, symbols, MAX_TABLES, Cost::of_table(symbols));
        let mut sums = vec![vec![0u64; symbols]; table_of.iter().max().map_or(1, |m| m + 1)];
        for (h, &t) in histograms.iter().zip(&table_of) {
            sums[t].iter_mut().zip(h).for_each(|(s, n)| *s += n);
        }
        let tables: Vec<_> = sums.iter().map(|s| FreqTable::from_counts(s)).collect();
        varint::put(out, tables.len() as u64);
        bytes::pack(&table_of.iter().map(|&t| t as u8).collect::<Vec<_>>(), out);
        tables::write(&tables, out);
        let mut contexts = Vec::with_capacity(values.len());
        classes(matrices().map(|(s, f)| (f.rank, *s)), |class, len| {
            contexts.extend(std::iter::repeat_n(table_of[class] as u8, len as usize));
        });
        let symbols: Vec<u8> = tokens.iter().map(|t| t.token as u8).collect();
        let mut coded = Vec::new();
        let encode_tables = rans::EncodeTables::new(&tables);
        let words = rans::encode(
            &symbols,
            &contexts,
            &encode_tables,
            LANES,
            &mut Default::default(),
            &mut coded,
        )?;
        varint::put(out, words as u64);
        out.extend_from_slice(&coded);
        let mut raw = BitWriter::new();
        tokens.iter().for_each(|t| raw.put(t.raw, t.raw_bits));
        raw.finish_into(out);
        Ok(())
    }
}

/// Reads the factors of all matrices of a unit: all the rest of `input`.
///
/// # Errors
/// `Corrupt`, `Truncated`, `LimitExceeded`.
pub(super) fn read<R: Predicted>(
    unit: &UnitSpec,
    mut input: &[u8],
    limits: &Limits,
) -> Result<Vec<Factors<R>>> {
    let mut all = Vec::new();
    let mut entries = 0u64;
    for segment in unit.segments() {
        let mut f = Factors::none();
        if is_matrix(segment) {
            f.rank = varint::take_max(&mut input, MAX_RANK as u64, "rank")? as usize;
        }
        if f.rank > 0 {
            let scale = varint::take_max(&mut input, 2 * PRODUCT_FLAG - 1, "scale")?;
            f.product = scale >= PRODUCT_FLAG;
            f.exponent = i32::try_from(varint::unzigzag(scale % PRODUCT_FLAG))
                .ok()
                .filter(|e| e.abs() <= R::MAX_SCALE)
                .ok_or_else(|| Error::corrupt("the scale of the factors is out of range"))?;
            for _ in 0..f.rank {
                f.shifts
                    .push(varint::take_max(&mut input, MAX_SHIFT, "shift of a component")? as u32);
            }
            let more = segment.rows.saturating_add(segment.row_len).saturating_mul(f.rank as u64);
            entries = entries.saturating_add(more);
        }
        all.push(f);
    }
    // Bounded by the input, so that a few bytes cannot ask for much memory.
    if entries > ENTRIES_PER_BYTE.saturating_mul(input.len() as u64) {
        return Err(Error::truncated(format!(
            "{entries} entries of factors do not fit into {} bytes",
            input.len()
        )));
    }
    Limits::check("factors", entries.saturating_mul(8), limits.max_params_bytes)?;
    if entries == 0 {
        return if input.is_empty() {
            Ok(all)
        } else {
            Err(Error::corrupt("bytes follow the parameters"))
        };
    }
    let class_count: usize = all.iter().map(|f| 2 * f.rank).sum();
    let tables =
        varint::take_max(&mut input, MAX_TABLES as u64, "number of tables of factors")? as usize;
    let table_of = bytes::unpack(&mut input, class_count)?;
    if tables == 0 || table_of.iter().any(|&t| t as usize >= tables) {
        return Err(Error::corrupt("factors refer to a table that does not exist"));
    }
    let tables = tables::read(&mut input, tables, TOKENS.token_count(33))?;
    let matrices = || all.iter().zip(unit.segments()).map(|(f, s)| (f.rank, *s));
    let mut contexts = with_room(entries as usize)?;
    classes(matrices(), |class, len| {
        contexts.extend(std::iter::repeat_n(table_of[class], len as usize));
    });
    let most = input.len() as u64 / 2;
    let words = varint::take_max(&mut input, most, "number of words")? as usize;
    let states = varint::take_bytes(&mut input, 4 * LANES, "coder states")?;
    let words = varint::take_bytes(&mut input, 2 * words, "coder words")?;
    let mut tokens = zeros(contexts.len())?;
    rans::decode(states, words, &contexts, &rans::DecodeTables::new(&tables), &mut tokens)?;
    let expansions: Vec<_> = (0..TOKENS.token_count(33) as u32).map(|t| TOKENS.expand(t)).collect();
    let mut raw = BitReader::new(input);
    let mut entry = |token: u8, shift: u32| {
        let (bits, value) = expansions.get(token as usize).copied().unwrap_or_default();
        let value = varint::unzigzag(value.wrapping_add(raw.take(bits) << TOKENS.raw_shift()));
        R::Factor::try_from(value << shift)
            .map_err(|_| Error::corrupt("an entry of a factor is out of range"))
    };
    let mut tokens = tokens.iter();
    for (f, segment) in all.iter_mut().zip(unit.segments()).filter(|(f, _)| f.rank > 0) {
        let (rows, columns) = (segment.rows as usize, segment.row_len as usize);
        f.left = zeros(rows * f.rank)?;
        f.right = with_room(columns * f.rank)?;
        for k in 0..f.rank {
            for (row, &token) in f.left.chunks_exact_mut(f.rank).zip(tokens.by_ref().take(rows)) {
                row[k] = entry(token, f.shifts[k])?;
            }
            for &token in tokens.by_ref().take(columns) {
                f.right.push(entry(token, 0)?);
            }
        }
    }
    if !raw.is_exact() {
        return Err(Error::corrupt("raw bits of factors do not end where they should"));
    }
    Ok(all)
}
