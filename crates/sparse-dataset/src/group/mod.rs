//! Row groups: the unit in which a split is coded; each is decoded on its own.

mod columns;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod example;
mod gather;
#[cfg(test)]
mod hostile;

pub(crate) use gather::Gathered;

use crate::cells::CellCoder;
use crate::cm::{Decoder, Encoder, Predictions, Streams};
use crate::limits::{MAX_GROUP_ROWS, check_count};
use crate::plan::Plan;
use crate::rows::{Op, Origin, code_ops, ops_of};
use crate::store::Store;
use crate::table::{Block, Kind};
use crate::wire::{Input, put_bytes};
use columns::Columns;
use sparse_core::{Error, ErrorKind, Result};

/// Most bytes that the text of a row group's long values has: what a decompressor is allowed.
const MAX_BULK: usize = 256 << 20;

/// Most bytes of the base that models learn from.
const MAX_PRIME: usize = 64 << 20;

/// Rows of the base that are taken at once for that.
const PRIME_ROWS: u64 = 256;

/// Cells of no width that a row group may have: its length does not bound them.
const MAX_EMPTY_CELLS: usize = 1 << 24;

/// Bytes of the base that long values are compressed after.
const MAX_PREFIX: usize = 1 << 20;

/// Layouts of a row group: modelled; what Zstandard takes in a frame before it, long values or, if
/// the plan models nothing, all streams; all streams in that frame although the plan has models.
const MODELLED: u8 = 0;
const WITH_FRAME: u8 = 1;
const IN_STREAMS: u8 = 2;

/// Streams beside models are compressed hard up to this length.
const TRY_HARD: usize = 4 << 20;
const HARD_LEVEL: i32 = 19;

/// What models and the fast compressor learn from: rows of the base.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    prime: Block,
    prefix: Vec<u8>,
}

impl Learned {
    /// Collects what a plan asks for.
    ///
    /// # Errors
    /// `Corrupt` when the base has no such rows; `Io`.
    pub(crate) fn new(plan: &Plan, base: &Store) -> Result<Learned> {
        let mut prime = Block::new(base.kinds().iter().copied());
        let at_once = if plan.prime_stride == 1 { PRIME_ROWS } else { 1 };
        let mut taken = 0;
        while taken < plan.prime_rows {
            let n = at_once.min(plan.prime_rows - taken);
            let row = taken.saturating_mul(plan.prime_stride);
            base.copy(row, row.saturating_add(n), &mut prime)?;
            if prime.bytes() > MAX_PRIME {
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("models are to learn from more than {MAX_PRIME} bytes of the base"),
                ));
            }
            taken += n;
        }
        let mut prefix = Vec::new();
        for c in plan.columns.iter().filter(|c| c.bulk) {
            if let crate::plan::Source::Base(b) = c.source {
                let data = prime.columns.get(b).map_or(&[][..], |c| &c.data);
                let room = MAX_PREFIX.saturating_sub(prefix.len());
                prefix.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
            }
        }
        Ok(Learned { prime, prefix })
    }
}

/// A coded row group.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// By which it is decoded quickly, if they were kept.
    pub(crate) predictions: Option<Predictions>,
}

/// Codes the row groups of a split.
#[derive(Clone, Copy)]
pub(crate) struct GroupCoder<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) base: &'a Store,
    pub(crate) learned: &'a Learned,
}

impl GroupCoder<'_> {
    /// Compares rows that were found equal by their hashes.
    ///
    /// Those that differ after all have changes. Returns the rows of the base.
    ///
    /// # Errors
    /// `Corrupt` when origins leave the base; `Io`.
    pub(crate) fn check_copies(&self, block: &Block, origins: &mut [Origin]) -> Result<Gathered> {
        let gathered = Gathered::new(self.base, self.plan, &ops_of(origins))?;
        let pairs: Vec<_> = (0..self.plan.columns.len())
            .filter_map(|c| {
                self.plan
                    .exact(c)
                    .and_then(|b| Some((block.columns.get(c)?, gathered.block.columns.get(b)?)))
            })
            .collect();
        for (i, o) in origins.iter_mut().enumerate() {
            if let Origin::Copy(row) = *o {
                let at = gathered.place(row, 1)?;
                if pairs.iter().any(|(x, y)| x.get(i) != y.get(at)) {
                    *o = Origin::Edit(row);
                }
            }
        }
        drop(pairs);
        Ok(gathered)
    }

    /// Codes the rows of `block`, which come from where `ops` say, given the rows of the base that
    /// they refer to. With `keep`, predictions come along, for a proof.
    ///
    /// # Errors
    /// `InvalidArgument` when the two do not fit; `Io`.
    pub(crate) fn encode(
        &self,
        block: &Block,
        ops: &[Op],
        gathered: &Gathered,
        level: i32,
        keep: bool,
    ) -> Result<Encoded> {
        let layouts = self.layouts(block, ops, gathered, level, keep)?;
        Ok(layouts.into_iter().min_by_key(|e| e.bytes.len()).unwrap_or_default())
    }

    /// Returns the row group in each layout that the plan allows, the modelled one first.
    fn layouts(
        &self,
        block: &Block,
        ops: &[Op],
        gathered: &Gathered,
        level: i32,
        keep: bool,
    ) -> Result<Vec<Encoded>> {
        let plain = self.plan.is_plain();
        let mut cells = CellCoder::plain(Streams::default(), 0);
        let tail = self.code(&mut cells, block, ops, gathered)?;
        let streams = cells.model.streams.as_ref().map(Streams::write).unwrap_or_default();
        // Models see what Zstandard does not, and the other way round: long repetitions.
        let hard = !plain && streams.len() <= TRY_HARD;
        let level = if hard { level.max(HARD_LEVEL.min(2 * level)) } else { level };
        let mut all = Vec::new();
        if !plain {
            let mut cells = CellCoder::new(self.plan.bits, Vec::new(), 0);
            if keep {
                cells.model.keep_predictions();
            }
            let tail = self.code(&mut cells, block, ops, gathered)?;
            let mut out = vec![if cells.bulk.is_empty() { MODELLED } else { WITH_FRAME }];
            if !cells.bulk.is_empty() {
                self.pack(&cells.bulk, level, &mut out)?;
            }
            out.extend(tail);
            all.push(Encoded { bytes: out, predictions: cells.model.take_predictions() });
        }
        let mut out = vec![if plain { WITH_FRAME } else { IN_STREAMS }];
        self.pack(&streams, level, &mut out)?;
        out.extend(tail);
        all.push(Encoded { bytes: out, predictions: None });
        Ok(all)
    }

    /// Codes everything with `cells`; returns what the arithmetic coder made.
    fn code(
        &self,
        cells: &mut CellCoder,
        block: &Block,
        ops: &[Op],
        gathered: &Gathered,
    ) -> Result<Vec<u8>> {
        let mut coder = Encoder::new();
        code_ops(&mut cells.model, &mut coder, block.rows as u64, self.base.rows(), ops)?;
        let columns = Columns { plan: self.plan, ops, gathered, prime: &self.learned.prime };
        columns.code(cells, &mut coder, block.rows, Some(block))?;
        Ok(coder.finish())
    }

    /// Appends bytes that Zstandard takes.
    fn pack(&self, bytes: &[u8], level: i32, out: &mut Vec<u8>) -> Result<()> {
        crate::wire::put_uint(out, bytes.len() as u64);
        put_bytes(out, &crate::pack::compress(bytes, &self.learned.prefix, level)?);
        Ok(())
    }

    /// Decodes a row group of `rows` rows, whose cells take at most `len` bytes.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`, `LimitExceeded`; `Io` from the base.
    pub(crate) fn decode(&self, encoded: &[u8], rows: u64, len: usize) -> Result<Block> {
        self.decode_by(encoded, None, rows, len)
    }

    /// Decodes by the predictions that the encoder made, if they were kept.
    ///
    /// Else as [`decode`](Self::decode); see [`cm`](crate::cm).
    ///
    /// # Errors
    /// As [`decode`](Self::decode); `Corrupt` when they were made for something else.
    pub(crate) fn decode_by(
        &self,
        encoded: &[u8],
        predictions: Option<Predictions>,
        rows: u64,
        len: usize,
    ) -> Result<Block> {
        let (rows, allowance) = self.check_size(rows, len)?;
        let mut input = Input(encoded);
        let layout = input.byte()?;
        let bulk = match layout {
            MODELLED => Vec::new(),
            WITH_FRAME | IN_STREAMS => {
                let bulk = usize::try_from(input.uint()?).unwrap_or(usize::MAX);
                if bulk > MAX_BULK.min(allowance) {
                    return Err(Error::corrupt(format!(
                        "long values of {bulk} bytes in a row group"
                    )));
                }
                crate::pack::decompress(input.blob()?, &self.learned.prefix, bulk)?
            }
            other => return Err(Error::corrupt(format!("unknown layout {other} of a row group"))),
        };
        let mut cells = match self.plan.is_plain() || layout == IN_STREAMS {
            true => CellCoder::plain(Streams::read(bulk, self.plan.columns.len())?, allowance),
            false => match predictions {
                Some(kept) => CellCoder::recalling(kept, bulk, allowance),
                None => CellCoder::new(self.plan.bits, bulk, allowance),
            },
        };
        cells.room = len;
        let mut coder = Decoder::new(input.0);
        let ops = code_ops(&mut cells.model, &mut coder, rows as u64, self.base.rows(), &[])?;
        coder.check()?;
        cells.model.streams.as_ref().map_or(Ok(()), Streams::check)?;
        let gathered = Gathered::new(self.base, self.plan, &ops)?;
        let columns =
            Columns { plan: self.plan, ops: &ops, gathered: &gathered, prime: &self.learned.prime };
        let block = columns.code(&mut cells, &mut coder, rows, None)?;
        coder.check()?;
        cells.model.streams.as_ref().map_or(Ok(()), Streams::check_end)?;
        cells.model.check_recalled()?;
        if !cells.bulk_is_used() {
            return Err(Error::corrupt("a row group has long values left over"));
        }
        Ok(block)
    }

    /// Refuses more rows than a row group has, or than its cells can be. Returns their number, and
    /// the bytes that the group may take in the making: numbers are coded as text, and every cell
    /// has flags.
    fn check_size(&self, rows: u64, len: usize) -> Result<(usize, usize)> {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        check_count("rows of a row group", rows, MAX_GROUP_ROWS)?;
        let (mut least, mut most) = (0usize, 0usize);
        for kind in &self.plan.kinds {
            least = least.saturating_add(kind.width().unwrap_or(4));
            most = most.saturating_add(match kind {
                // Twice what the longest number of this width takes as text, and more.
                Kind::Bool | Kind::Int { .. } | Kind::Float { .. } => {
                    32 + 6 * kind.width().unwrap_or(0)
                }
                _ => 16,
            });
        }
        let cells = rows.saturating_mul(self.plan.kinds.len());
        if rows.saturating_mul(least) > len
            || cells > len.saturating_mul(8).saturating_add(MAX_EMPTY_CELLS)
        {
            let columns = self.plan.kinds.len();
            let text = format!("{rows} rows of {columns} columns in a row group of {len} bytes");
            return Err(Error::corrupt(text));
        }
        let overhead = rows.saturating_mul(most).saturating_add(1 << 12);
        Ok((rows, len.saturating_mul(2).saturating_add(overhead)))
    }
}
