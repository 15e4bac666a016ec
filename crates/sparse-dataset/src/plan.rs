//! How the columns of a split are coded: where each comes from.

use crate::cells::Rule;
use crate::cm::{MAX_BITS, MIN_BITS};
use crate::table::Kind;
use crate::template::Templates;
use crate::wire::{Input, put_uint};
use sparse_core::{Error, Result};
use std::sync::Arc;

/// Source of the prediction of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nothing.
    None,
    /// A column of the row's counterpart in the base.
    Base(usize),
    /// A column of the same row, coded before.
    Sibling(usize),
}

/// Plan of a column of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnPlan {
    pub(crate) source: Source,
    pub(crate) rule: Rule,
    /// Columns of the same row, coded before, that predict this one best.
    pub(crate) parents: [Option<usize>; 2],
    /// A column of the same row whose text this one's resembles.
    pub(crate) hint: Option<usize>,
    /// Whether long new values go to the bulk.
    pub(crate) bulk: bool,
    /// Whether models learn from the base's column before they code.
    pub(crate) primed: bool,
}

impl ColumnPlan {
    pub(crate) fn new(source: Source) -> ColumnPlan {
        ColumnPlan {
            source,
            rule: Rule::Same,
            parents: [None; 2],
            hint: None,
            bulk: false,
            primed: false,
        }
    }
}

/// Plan of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) kinds: Vec<Kind>,
    /// Kinds of the base's columns, and of those that templates make of them.
    pub(crate) base_kinds: Arc<[Kind]>,
    pub(crate) templates: Templates,
    pub(crate) columns: Vec<ColumnPlan>,
    /// Columns in the order of coding.
    pub(crate) order: Vec<usize>,
    /// Size of the models' tables, as a power of two; [`PLAIN`] if nothing is modelled.
    pub(crate) bits: u8,
    /// Rows of the base that models learn from: every `prime_stride`th, this many.
    pub(crate) prime_rows: u64,
    pub(crate) prime_stride: u64,
}

/// Size that stands for no models: with this much to code, the fast compressor codes all of it.
pub(crate) const PLAIN: u8 = 0;

impl Plan {
    /// Returns the plan by which models learn from a share of the rows, above 0.
    pub(crate) fn learning(&self, share: f64, base_rows: u64) -> Plan {
        let mut plan = self.clone();
        plan.prime_rows = (plan.prime_rows as f64 * share).ceil() as u64;
        if plan.prime_stride > 1 {
            plan.prime_stride = base_rows.div_ceil(plan.prime_rows.max(1)).max(1);
            plan.prime_rows = base_rows.div_ceil(plan.prime_stride);
        }
        plan
    }

    /// Returns true if everything goes to the fast compressor.
    pub(crate) fn is_plain(&self) -> bool {
        self.bits == PLAIN
    }

    /// Returns the base's column of which column `c` is an exact copy.
    pub(crate) fn exact(&self, c: usize) -> Option<usize> {
        let plan = self.columns.get(c)?;
        match (plan.source, plan.rule) {
            (Source::Base(b), Rule::Same) if self.base_kinds.get(b) == self.kinds.get(c) => Some(b),
            _ => None,
        }
    }

    /// Removes templates that no column uses.
    pub(crate) fn prune(&mut self) {
        let columns = self.base_kinds.len() - self.templates.derived.len();
        let uses = |b: usize| self.columns.iter().any(|c| c.source == Source::Base(b));
        let used: Vec<bool> = (columns..self.base_kinds.len()).map(uses).collect();
        // Columns behind one that goes move forward.
        for column in &mut self.columns {
            if let Source::Base(b) = &mut column.source
                && let Some(made) = b.checked_sub(columns)
            {
                *b -= used.iter().take(made).filter(|&&used| !used).count();
            }
        }
        self.templates.retain(&used);
        let made = self.templates.kinds();
        self.base_kinds = self.base_kinds.iter().take(columns).copied().chain(made).collect();
    }

    /// Appends the encoded plan; kinds follow from the schemas, templates stand before it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.bits);
        put_uint(out, self.prime_rows);
        put_uint(out, self.prime_stride);
        for &c in &self.order {
            put_uint(out, c as u64);
        }
        let optional = |c: Option<usize>| c.map_or(0, |c| c as u64 + 1);
        for c in &self.columns {
            let (tag, column) = match c.source {
                Source::None => (0, None),
                Source::Base(b) => (1, Some(b)),
                Source::Sibling(s) => (2, Some(s)),
            };
            out.push(tag | u8::from(c.bulk) << 2 | u8::from(c.primed) << 3);
            for v in [column, c.parents[0], c.parents[1], c.hint] {
                put_uint(out, optional(v));
            }
            out.extend(c.rule.code());
        }
    }

    /// Inverts [`write`](Self::write), and checks the plan against a base of `base_rows` rows.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated`.
    pub(crate) fn read(
        input: &mut Input<'_>,
        kinds: Vec<Kind>,
        (base_kinds, base_rows): (&Arc<[Kind]>, u64),
        templates: Templates,
    ) -> Result<Plan> {
        let bad = |what: &str| Error::corrupt(format!("plan of a split: {what}"));
        // So that made cells take no more memory than those of the split.
        if templates.kinds().any(|kind| !kinds.contains(&kind)) {
            return Err(bad("a template makes cells that no column has"));
        }
        let base_kinds: Arc<[Kind]> = match templates.is_empty() {
            true => base_kinds.clone(),
            false => base_kinds.iter().copied().chain(templates.kinds()).collect(),
        };
        let n = kinds.len();
        let bits = input.byte()?;
        let (prime_rows, prime_stride) = (input.uint()?, input.uint()?);
        if !(bits == PLAIN || (MIN_BITS..=MAX_BITS).contains(&bits)) {
            return Err(bad("the size of its models is not supported"));
        }
        let last = prime_rows.checked_sub(1).map(|n| n.checked_mul(prime_stride));
        let inside =
            last.is_none_or(|last| last.is_some_and(|row| prime_stride > 0 && row < base_rows));
        if !inside {
            return Err(Error::corrupt(format!(
                "plan of a split: models learn from {prime_rows} rows, every {prime_stride}th, \
                    but the base has {base_rows}"
            )));
        }
        let mut order = Vec::new();
        let mut place = vec![None; n];
        for i in 0..n {
            let c = input.uint()? as usize;
            match place.get_mut(c) {
                Some(p @ None) => *p = Some(i),
                _ => return Err(bad("its columns are not in a possible order")),
            }
            order.push(c);
        }
        let mut columns = Vec::new();
        for i in 0..n {
            let before = |c: Option<usize>| match c {
                Some(c) if place.get(c).copied().flatten() < place[i] => Ok(Some(c)),
                None => Ok(None),
                _ => Err(bad("a column depends on one that is not coded before it")),
            };
            let tag = input.byte()?;
            let mut values = [None; 4];
            for v in &mut values {
                *v = (input.uint()? as usize).checked_sub(1);
            }
            let [column, p0, p1, hint] = values;
            let source = match (tag & 3, column) {
                (0, None) => Source::None,
                (1, Some(b)) if b < base_kinds.len() => Source::Base(b),
                (2, Some(s)) => {
                    before(Some(s))?;
                    Source::Sibling(s)
                }
                _ => return Err(bad("the source of a column is not possible")),
            };
            let rule = Rule::from_code(input.array()?)?;
            columns.push(ColumnPlan {
                source,
                rule,
                parents: [before(p0)?, before(p1)?],
                hint: before(hint)?,
                bulk: tag & 4 != 0,
                primed: tag & 8 != 0,
            });
        }
        Ok(Plan { kinds, base_kinds, templates, columns, order, bits, prime_rows, prime_stride })
    }
}
