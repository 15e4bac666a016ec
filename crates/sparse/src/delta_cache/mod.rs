//! Restored models kept on disk, for all programs of a user.
//!
//! A `DeltaCache` (`cache`) finds what a delta restores under a `Key` made of digests, or has it
//! restored (`build`). Its folder (`layout`) has a folder for each key, and in it one for each
//! *generation*: a complete `model`, a `Record` of its files, and two files that are touched (when
//! it was last used) and locked (by whoever uses it). A generation appears by one rename, complete
//! and on the disk, and is never changed: where one is found damaged (`generation`), the next one
//! takes its place, and the damaged one goes when nobody uses it.
//!
//! Two kinds of `Lock`: that of a key is held by whoever adds or removes generations of it; that of
//! a generation is shared by all who use it, and taken alone to remove it. Both go when a process
//! dies. What is being built, and what is being removed, lies in folders of its own, from which the
//! next build removes what dead processes left.
//!
//! `upkeep` lists, removes and checks; `report` has what it returns. `Prefetch` restores several
//! deltas in the background.

mod build;
mod cache;
mod generation;
mod key;
mod layout;
mod lock;
mod model;
mod prefetch;
mod record;
mod report;
mod times;
mod upkeep;

pub use cache::DeltaCache;
pub use model::CachedModel;
pub use prefetch::{Prefetch, PrefetchJob, PrefetchProgress, PrefetchState};
pub use record::CachedKind;
pub use report::{CacheCheck, CacheCleanup, CacheEntry, DamagedEntry};
