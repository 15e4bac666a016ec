//! Inputs of a compression: read, and analysed.

use crate::analysis::{Analysis, Table, Tuning, analyse};
use crate::dataset::Dataset;
use crate::group::{Rows, Tried, Tries};
use crate::io::FoundSplit;
use crate::load::{BASE_BLOCK, Loaded, load, row_group};
use crate::plan::Plan;
use crate::rows::Origins;
use crate::settings::Settings;
use crate::table::Block;
use sparse_core::{Effort, Observer, Result, Workers};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Base and derivative as they were read.
pub(crate) struct Read<'a> {
    pub(crate) base: Cow<'a, Dataset>,
    pub(crate) derivative: Cow<'a, Dataset>,
    /// The rows of the base.
    pub(crate) loaded: Loaded,
    /// The rows of the derivative's first split.
    pub(crate) first: Option<Loaded>,
}

/// Loads the base, and at the same time the derivative's first split. For an exact delta, files
/// that cannot be read as rows have none.
pub(crate) fn load_both<'a>(
    base: &'a Dataset,
    derivative: &'a Dataset,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<Read<'a>> {
    observer.begin("read both", 0);
    let either = |dataset: &'a Dataset| match settings.exact {
        true => dataset.leniently(),
        false => dataset.refuse_unread().map(|()| Cow::Borrowed(dataset)),
    };
    let (mut base, mut derivative) = (either(base)?, either(derivative)?);
    if settings.exact && derivative.found().is_empty() {
        base = Cow::Owned(base.without_rows("not needed")?);
    }
    if settings.exact {
        // Later splits are read when the delta has begun.
        if derivative.found().len() > 1
            && let Some(fewer) = derivative.without_bad_files(settings)?
        {
            derivative = Cow::Owned(fewer);
        }
    }
    let read = |base: Cow<'a, Dataset>, derivative: Cow<'a, Dataset>| {
        settings.executor().both(
            || {
                Dataset::without_unreadable(base, settings, |base| {
                    load(base.found(), BASE_BLOCK, settings.spill(4), true, settings, observer)
                })
            },
            || {
                Dataset::without_unreadable(derivative, settings, |derivative| {
                    let first = derivative.found().first();
                    first.map(|s| load_split(s, settings, observer)).transpose()
                })
            },
        )
    };
    let (base, derivative) = read(base, derivative);
    observer.end();
    let ((base, loaded), (derivative, first)) = (base?, derivative?);
    Ok(Read { base, derivative, loaded, first })
}

fn load_split(split: &FoundSplit, settings: &Settings, observer: &dyn Observer) -> Result<Loaded> {
    let size = row_group(settings, &split.schema)?;
    load(std::slice::from_ref(split), size, settings.spill(4), true, settings, observer)
}

/// A split that was read and analysed.
pub(crate) struct Analysed {
    pub(crate) loaded: Loaded,
    pub(crate) plan: Plan,
    pub(crate) origins: Origins,
    /// What is tried for its row groups.
    pub(crate) tries: Tries,
    /// What was coded of a row group to see what is worth its time.
    pub(crate) tried: Mutex<Option<(usize, Tried)>>,
}

impl Analysed {
    /// Returns a row group with the rows of the base that it follows from.
    ///
    /// # Errors
    /// `Cancelled`; `Io`.
    pub(crate) fn group(&self, g: usize, base: &Loaded, settings: &Settings) -> Result<Rows> {
        settings.cancel.check()?;
        let store = &self.loaded.store;
        let origins = self.origins.range(store.start(g), store.start(g + 1))?;
        Rows::gather(store.block(g)?, origins, &self.plan, &base.store)
    }

    /// Returns some of the rows, as [`group`](Self::group) does all of a row group.
    ///
    /// # Errors
    /// `Cancelled`; `Io`.
    pub(crate) fn some(
        &self,
        ranges: &[Range<u64>],
        base: &Loaded,
        settings: &Settings,
    ) -> Result<Rows> {
        settings.cancel.check()?;
        let mut block = Block::new(self.loaded.store.kinds().iter().copied());
        let mut origins = Vec::new();
        for range in ranges {
            self.loaded.store.copy(range.start, range.end, &mut block)?;
            origins.extend(self.origins.range(range.start, range.end)?);
        }
        Rows::gather(Arc::new(block), origins, &self.plan, &base.store)
    }
}

/// Reads a split unless it was read already, and finds how it follows from the base. Returns also
/// the plan by which models learn next to nothing from the base.
pub(crate) fn analyse_split(
    base: &Loaded,
    split: &FoundSplit,
    loaded: Option<Loaded>,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<(Analysed, Plan)> {
    let loaded = match loaded {
        Some(loaded) => loaded,
        None => {
            observer.begin("read the derivative", 0);
            let loaded = load_split(split, settings, observer)?;
            observer.end();
            loaded
        }
    };
    observer.begin("match rows", 0);
    let tables =
        [base, &loaded].map(|l| Table { names: &l.names, store: &l.store, shapes: &l.shapes });
    let executor = settings.executor();
    let workers = Workers { cancel: &settings.cancel, executor: &*executor };
    let found = analyse(tables[0], tables[1], &tuning(settings), workers)?;
    observer.end();
    let Analysis { plan, light, origins } = found;
    Ok((Analysed { loaded, plan, origins, tries: Tries::ALL, tried: Mutex::default() }, light))
}

/// Returns the limits of the analysis for an effort.
fn tuning(settings: &Settings) -> Tuning {
    let (modelled_bytes, modelled_share, prime_bytes) = match settings.effort {
        Effort::Fast => (1 << 20, 1024, 0),
        Effort::Max => (64 << 20, 8, 4 << 20),
        _ => (8 << 20, 256, 1 << 20),
    };
    Tuning {
        modelled_bytes,
        modelled_share,
        prime_bytes,
        lookup_bytes: settings.memory / 4,
        key: settings.key.clone(),
        spill: settings.spill(16),
    }
}

/// Returns the level of the fast compressor for an effort.
pub(crate) fn level(settings: &Settings) -> i32 {
    match settings.effort {
        Effort::Fast => 3,
        Effort::Max => 19,
        _ => 12,
    }
}
