//! Row groups: the unit in which a split is coded. Each is decoded alone.

mod columns;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod example;
mod gather;
#[cfg(test)]
mod hostile;
mod patch;
mod rows;

pub(crate) use gather::Gathered;
pub(crate) use rows::Rows;

use crate::base_rows::BaseRows;
use crate::cells::CellCoder;
use crate::cm::{Decoder, Encoder, Predictions, Streams};
use crate::limits::{MAX_GROUP_ROWS, check_count};
use crate::plan::Plan;
use crate::rows::{Op, code_ops};
use crate::table::{Block, Kind};
use crate::wire::{Input, put_bytes};
use columns::Columns;
use sparse_core::{Error, ErrorKind, Result};

/// Most bytes of a row group's long values, which a decompressor may produce.
const MAX_BULK: usize = 256 << 20;

/// Most bytes of the base that models learn from.
const MAX_PRIME: usize = 64 << 20;

/// Rows of the base that are read at once for learning.
const PRIME_ROWS: u64 = 256;

/// Most cells of zero width in a row group, which its length does not bound.
const MAX_EMPTY_CELLS: usize = 1 << 24;

/// Most bytes of the base that are the prefix of long values.
const MAX_PREFIX: usize = 1 << 20;

/// Layout of a row group that is modelled, without a Zstandard frame.
const MODELLED: u8 = 0;
/// Layout with a Zstandard frame first: long values, or all streams if the plan models nothing.
const WITH_FRAME: u8 = 1;
/// Layout with all streams in a Zstandard frame, although the plan has models.
const IN_STREAMS: u8 = 2;

/// Layout that is one patch of rows of the base.
const PATCHED: u8 = 3;

/// A row group that streams code in less than this share of its bytes is small enough.
const SMALL_SHARE: usize = 100;

/// How many times smaller than streams a patch must be for models to be left out.
const FAR: usize = 4;

/// Longest streams that are compressed at a high level to compete with models, in bytes.
const TRY_HARD: usize = 4 << 20;
const HARD_LEVEL: i32 = 19;

/// Rows of the base that models and the fast compressor learn from.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    prime: Block,
    prefix: Vec<u8>,
}

impl Learned {
    /// Collects the rows that a plan asks for.
    ///
    /// # Errors
    /// `Corrupt` when the base has no such rows; `Io`.
    pub(crate) fn new(plan: &Plan, base: &dyn BaseRows) -> Result<Learned> {
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
                    format!(
                        "the plan lets models learn from more than {MAX_PRIME} bytes of the \
                        base"
                    ),
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
    /// Predictions, with which it is decoded fast, if they were kept.
    pub(crate) predictions: Option<Predictions>,
}

/// Codes the row groups of a split.
#[derive(Clone, Copy)]
pub(crate) struct GroupCoder<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) base: &'a dyn BaseRows,
    pub(crate) learned: &'a Learned,
    /// What an encoder tries besides streams.
    pub(crate) tries: Tries,
}

/// Layouts of a row group that were coded before, by the same plan.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// In streams, and the level of that.
    pub(crate) streams: Option<(Vec<u8>, i32)>,
    /// By models.
    pub(crate) modelled: Option<Encoded>,
}

/// Layouts that an encoder tries besides streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tries {
    /// A patch of the base's rows.
    pub(crate) patches: bool,
    /// Models.
    pub(crate) models: bool,
}

impl Tries {
    pub(crate) const ALL: Tries = Tries { patches: true, models: true };
}

/// Returns true for a row group that is a patch: readers before layout 4 do not know it.
pub(crate) fn is_patch(encoded: &[u8]) -> bool {
    encoded.first() == Some(&PATCHED)
}

/// Returns the runs of an encoded row group; `None` where they are in a frame that needs the base.
///
/// # Errors
/// `Corrupt`, `Truncated` or `LimitExceeded`.
pub(crate) fn group_ops(
    plan: &Plan,
    base_rows: u64,
    encoded: &[u8],
    rows: u64,
    len: usize,
) -> Result<Option<Vec<Op>>> {
    let mut input = Input(encoded);
    let layout = input.byte()?;
    let in_streams = plan.is_plain() || layout == IN_STREAMS;
    let mut cells = match layout {
        PATCHED => return Ok(None),
        MODELLED => CellCoder::new(plan.bits, Vec::new(), len),
        WITH_FRAME | IN_STREAMS => {
            let bulk = usize::try_from(input.uint()?).unwrap_or(usize::MAX);
            let packed = input.blob()?;
            match (in_streams, plan.columns.iter().any(|c| c.bulk)) {
                (true, true) => return Ok(None),
                (true, false) => {
                    check_count("bytes of streams", bulk, MAX_BULK)?;
                    let bytes = crate::pack::decompress(packed, &[], bulk)?;
                    CellCoder::plain(Streams::read(bytes, plan.columns.len())?, len)
                }
                (false, _) => CellCoder::new(plan.bits, Vec::new(), len),
            }
        }
        other => return Err(Error::corrupt(format!("unknown layout {other} of a row group"))),
    };
    let mut coder = Decoder::new(input.0);
    let ops = code_ops(&mut cells.model, &mut coder, rows, base_rows, &[])?;
    coder.check()?;
    Ok(Some(ops))
}

/// Returns about where in the base the rows of a row group come from, from 0 to 1.
fn place(ops: &[Op], base: &dyn BaseRows) -> f64 {
    let mut starts: Vec<u64> = ops.iter().filter_map(|op| op.start()).collect();
    starts.sort_unstable();
    let middle = starts.get(starts.len() / 2);
    middle.map_or(0.5, |&row| row as f64 / base.rows().max(1) as f64)
}

impl GroupCoder<'_> {
    /// Codes rows. With `keep`, predictions are kept for a proof. What was tried is taken.
    ///
    /// # Errors
    /// `InvalidArgument` when the two do not fit; `Io`.
    pub(crate) fn encode(
        &self,
        rows: &Rows,
        level: i32,
        keep: bool,
        tried: Tried,
    ) -> Result<Encoded> {
        let layouts = self.layouts(rows, level, keep, tried)?;
        Ok(layouts.into_iter().min_by_key(|e| e.bytes.len()).unwrap_or_default())
    }

    /// Codes the row group in each layout that the plan allows and that may be the smallest.
    fn layouts(&self, rows: &Rows, level: i32, keep: bool, tried: Tried) -> Result<Vec<Encoded>> {
        let (streams, level) = match tried.streams {
            Some(streams) => streams,
            None => self.streams(rows, level)?,
        };
        let patched = match self.tries.patches {
            true => self.patched(rows, level, streams.len())?,
            false => None,
        };
        let far = patched.as_ref().is_some_and(|patched| patched.len() * FAR < streams.len());
        let plain = |bytes| Encoded { bytes, predictions: None };
        let mut all: Vec<_> = patched.map(plain).into_iter().collect();
        all.push(plain(streams));
        if !self.plan.is_plain() && self.tries.models && !far {
            all.push(match tried.modelled {
                Some(modelled) => modelled,
                None => self.modelled(rows, level, keep)?.0,
            });
        }
        Ok(all)
    }

    /// Returns true if a patch of the base's rows is smaller than streams, which may have been
    /// tried.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn prefers_patch(
        &self,
        rows: &Rows,
        level: i32,
        streams: Option<(Vec<u8>, i32)>,
    ) -> Result<bool> {
        let (streams, level) = streams.map_or_else(|| self.streams(rows, level), Ok)?;
        let patched = self.patched(rows, level, streams.len())?;
        Ok(patched.is_some_and(|patched| patched.len() < streams.len()))
    }

    /// Codes the row group in streams that Zstandard packs; returns its level, too.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn streams(&self, rows: &Rows, level: i32) -> Result<(Vec<u8>, i32)> {
        let plain = self.plan.is_plain();
        let mut cells = CellCoder::plain(Streams::default(), 0);
        let tail = self.code(&mut cells, rows)?;
        let streams = cells.model.streams.as_ref().map(Streams::write).unwrap_or_default();
        // Models find what Zstandard does not; Zstandard finds long repetitions.
        let hard = !plain && streams.len() <= TRY_HARD;
        let level = if hard { level.max(HARD_LEVEL.min(2 * level)) } else { level };
        let mut out = vec![if plain { WITH_FRAME } else { IN_STREAMS }];
        self.pack(&streams, level, &mut out)?;
        out.extend(tail);
        Ok((out, level))
    }

    /// Codes the row group as a patch of the base's rows, where that may be smaller than `best`
    /// bytes and these are not few.
    fn patched(&self, rows: &Rows, level: i32, best: usize) -> Result<Option<Vec<u8>>> {
        if best <= rows.block.bytes() / SMALL_SHARE {
            return Ok(None);
        }
        let place = place(&rows.ops, self.base);
        let patch = patch::encode(&rows.block, self.base, place, level, best)?;
        Ok(patch.map(|patch| [&[PATCHED], &*patch].concat()))
    }

    /// Codes the row group by models; long values are packed by Zstandard. Returns also the number
    /// of decisions that the models took.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn modelled(&self, rows: &Rows, level: i32, keep: bool) -> Result<(Encoded, u64)> {
        let mut cells = CellCoder::new(self.plan.bits, Vec::new(), 0);
        if keep {
            cells.model.keep_predictions();
        }
        let tail = self.code(&mut cells, rows)?;
        let mut bytes = vec![if cells.bulk.is_empty() { MODELLED } else { WITH_FRAME }];
        if !cells.bulk.is_empty() {
            self.pack(&cells.bulk, level, &mut bytes)?;
        }
        bytes.extend(tail);
        let decisions = cells.model.decisions;
        Ok((Encoded { bytes, predictions: cells.model.take_predictions() }, decisions))
    }

    /// Codes everything with `cells`; returns the bytes of the arithmetic coder.
    fn code(&self, cells: &mut CellCoder, rows: &Rows) -> Result<Vec<u8>> {
        let Rows { block, ops, gathered, .. } = rows;
        let mut coder = Encoder::new();
        code_ops(&mut cells.model, &mut coder, block.rows as u64, self.base.rows(), ops)?;
        let columns = Columns { plan: self.plan, ops, gathered, prime: &self.learned.prime };
        columns.code(cells, &mut coder, block.rows, Some(block))?;
        Ok(coder.finish())
    }

    /// Appends bytes compressed by Zstandard.
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

    /// Decodes with the encoder's predictions, if they were kept.
    ///
    /// Else as [`decode`](Self::decode); see [`cm`](crate::cm).
    ///
    /// # Errors
    /// As [`decode`](Self::decode); `Corrupt` when the predictions belong to another row group.
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
                        "a row group has {bulk} bytes of long values, more than it may take"
                    )));
                }
                crate::pack::decompress(input.blob()?, &self.learned.prefix, bulk)?
            }
            PATCHED => return patch::decode(input.0, self.base, &self.plan.kinds, rows, len),
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
            return Err(Error::corrupt("a row group has long values that no cell uses"));
        }
        Ok(block)
    }

    /// Refuses more rows than a row group may have, or than its bytes can encode. Returns the
    /// number of rows, and the bytes that decoding may produce: numbers are coded as text, and
    /// every cell has flags.
    fn check_size(&self, rows: u64, len: usize) -> Result<(usize, usize)> {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        check_count("rows of a row group", rows, MAX_GROUP_ROWS)?;
        let (mut least, mut most) = (0usize, 0usize);
        for kind in &self.plan.kinds {
            least = least.saturating_add(kind.width().unwrap_or(4));
            most = most.saturating_add(match kind {
                // More than twice the longest text of a number of this width.
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
            let text = format!(
                "{rows} rows of {columns} columns do not fit into a row group of \
                {len} bytes"
            );
            return Err(Error::corrupt(text));
        }
        let overhead = rows.saturating_mul(most).saturating_add(1 << 12);
        Ok((rows, len.saturating_mul(2).saturating_add(overhead)))
    }
}
