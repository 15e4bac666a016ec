//! What is kept of decoding, within a budget of memory.

use sparse_core::{ChunkDecoder, Result};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Least recently used cache of what models decode.
///
/// It holds the tables and factors of units, and decoded chunks of which only a part was wanted.
///
/// Clones are handles to one cache. A [`DeltaModel`](crate::DeltaModel) has one of its own unless
/// it is [given one](crate::DeltaModel::with_cache): a server of many models gives all of them the
/// same, and so bounds their memory together.
///
/// # Examples
///
/// ```
/// let cache = sparse::DecodeCache::new(256 << 20);
/// assert_eq!((cache.budget(), cache.memory_bytes()), (256 << 20, 0));
/// ```
#[derive(Clone)]
pub struct DecodeCache(Arc<Shared>);

struct Shared {
    budget: u64,
    /// What a unit counts as; its memory if that is not given.
    unit_weight: Option<u64>,
    kept: Mutex<Kept>,
}

/// The budget of a model that is given none: 64 MiB.
///
/// Tables of a unit take up to half a megabyte, a chunk as much as its weights.
const DEFAULT_BUDGET: u64 = 64 << 20;

impl Default for DecodeCache {
    /// Creates a cache of 64 MiB.
    fn default() -> Self {
        DecodeCache::new(DEFAULT_BUDGET)
    }
}

impl DecodeCache {
    /// Creates an empty cache that holds up to `budget` bytes.
    ///
    /// What was put in last stays even if it alone is larger; what is in use is freed when its
    /// last user is done.
    pub fn new(budget: u64) -> DecodeCache {
        DecodeCache(Arc::new(Shared { budget, unit_weight: None, kept: Mutex::default() }))
    }

    /// Creates a cache for work that passes over all units once: it has room for `count` of them,
    /// whatever their size, beside chunks of up to the default budget.
    pub(crate) fn of_units(count: usize) -> DecodeCache {
        let weight = DEFAULT_BUDGET / count.max(1) as u64;
        DecodeCache(Arc::new(Shared {
            budget: 2 * DEFAULT_BUDGET,
            unit_weight: Some(weight),
            kept: Mutex::default(),
        }))
    }

    /// Returns how many bytes the cache may hold.
    pub fn budget(&self) -> u64 {
        self.0.budget
    }

    /// Returns how many bytes it holds.
    pub fn memory_bytes(&self) -> u64 {
        self.kept().bytes
    }

    /// Drops all that it holds, of all models.
    pub fn clear(&self) {
        // What was kept is freed after the lock is.
        let kept = std::mem::take(&mut *self.kept());
        drop(kept);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for DecodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeCache")
            .field("budget", &self.budget())
            .field("memory_bytes", &self.memory_bytes())
            .finish()
    }
}

/// Something that is kept.
#[derive(Clone)]
enum Item {
    Unit(Arc<dyn ChunkDecoder>),
    Chunk(Arc<Vec<u8>>),
}

/// A unit, or a chunk of it, of one owner.
type Key = (u64, u32, Option<u64>);

struct Slot {
    item: Item,
    bytes: u64,
    /// When it was used last.
    used: u64,
}

#[derive(Default)]
struct Kept {
    slots: HashMap<Key, Slot>,
    /// Keys by when they were used last.
    order: BTreeMap<u64, Key>,
    bytes: u64,
    clock: u64,
}

impl Kept {
    fn get(&mut self, key: Key) -> Option<Item> {
        let slot = self.slots.get_mut(&key)?;
        self.order.remove(&slot.used);
        self.clock += 1;
        slot.used = self.clock;
        self.order.insert(slot.used, key);
        Some(slot.item.clone())
    }

    /// Adds or replaces an item; returns what had to go, to be freed without the lock.
    fn put(&mut self, key: Key, item: Item, bytes: u64, budget: u64) -> Vec<Slot> {
        let mut gone: Vec<Slot> = self.remove(key).into_iter().collect();
        while self.bytes.saturating_add(bytes) > budget
            && let Some((_, &oldest)) = self.order.first_key_value()
        {
            gone.extend(self.remove(oldest));
        }
        self.clock += 1;
        self.order.insert(self.clock, key);
        self.slots.insert(key, Slot { item, bytes, used: self.clock });
        self.bytes += bytes;
        gone
    }

    fn remove(&mut self, key: Key) -> Option<Slot> {
        let slot = self.slots.remove(&key)?;
        self.order.remove(&slot.used);
        self.bytes -= slot.bytes;
        Some(slot)
    }
}

/// The part of a [`DecodeCache`] that belongs to one reader, and goes with it.
pub(crate) struct OwnCache {
    cache: DecodeCache,
    owner: u64,
}

impl OwnCache {
    pub(crate) fn new(cache: DecodeCache) -> OwnCache {
        static OWNERS: AtomicU64 = AtomicU64::new(0);
        OwnCache { cache, owner: OWNERS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Returns the cache that this is a part of.
    pub(crate) fn cache(&self) -> &DecodeCache {
        &self.cache
    }

    /// Returns how many bytes are kept for this reader.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let kept = self.cache.kept();
        kept.slots.iter().filter(|(key, _)| key.0 == self.owner).map(|(_, slot)| slot.bytes).sum()
    }

    /// Drops what is kept for this reader.
    pub(crate) fn clear(&self) {
        let mut kept = self.cache.kept();
        let mine: Vec<Key> = kept.slots.keys().filter(|k| k.0 == self.owner).copied().collect();
        let gone: Vec<Slot> = mine.into_iter().filter_map(|key| kept.remove(key)).collect();
        drop(kept);
        drop(gone);
    }

    /// Returns a unit's decoder, from the cache or made.
    ///
    /// Nothing is locked while something is made: making it may wait for other work, and that must
    /// not wait for this. Two threads that want the same new thing at the same time may both make
    /// it.
    pub(crate) fn unit<E>(
        &self,
        unit: u32,
        make: impl FnOnce() -> Result<Box<dyn ChunkDecoder>, E>,
    ) -> Result<Arc<dyn ChunkDecoder>, E> {
        let key = (self.owner, unit, None);
        if let Some(Item::Unit(found)) = self.get(key) {
            return Ok(found);
        }
        let made: Arc<dyn ChunkDecoder> = Arc::from(make()?);
        let bytes = self.cache.0.unit_weight.unwrap_or(made.memory_bytes() as u64);
        self.put(key, Item::Unit(made.clone()), bytes);
        Ok(made)
    }

    /// Returns a decoded chunk, from the cache or made, as [`unit`](Self::unit) does.
    pub(crate) fn chunk<E>(
        &self,
        unit: u32,
        chunk: u64,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Vec<u8>>, E> {
        let key = (self.owner, unit, Some(chunk));
        if let Some(Item::Chunk(found)) = self.get(key) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        self.put(key, Item::Chunk(made.clone()), made.capacity() as u64);
        Ok(made)
    }

    fn get(&self, key: Key) -> Option<Item> {
        self.cache.kept().get(key)
    }

    fn put(&self, key: Key, item: Item, bytes: u64) {
        let gone = self.cache.kept().put(key, item, bytes, self.cache.0.budget);
        drop(gone);
    }
}

impl Drop for OwnCache {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn chunk(own: &OwnCache, chunk: u64, len: usize) -> bool {
        let mut made = false;
        let make = || -> Result<_, Infallible> {
            made = true;
            Ok(vec![0; len])
        };
        let Ok(_) = own.chunk(0, chunk, make);
        made
    }

    #[test]
    fn the_oldest_goes_first() {
        let own = OwnCache::new(DecodeCache::new(100));
        assert!(chunk(&own, 0, 40) && chunk(&own, 1, 40));
        assert!(!chunk(&own, 0, 40));
        // There is no room for three: 1 was used before 0.
        assert!(chunk(&own, 2, 40));
        assert!(!chunk(&own, 0, 40) && chunk(&own, 1, 40));
        assert_eq!(own.memory_bytes(), 80);
    }

    #[test]
    fn the_newest_stays_even_if_it_is_too_large() {
        let own = OwnCache::new(DecodeCache::new(100));
        assert!(chunk(&own, 0, 40) && chunk(&own, 1, 400));
        assert!(!chunk(&own, 1, 400));
        assert_eq!(own.memory_bytes(), 400);
        assert!(chunk(&own, 2, 1));
        assert_eq!(own.memory_bytes(), 1);
    }

    #[test]
    fn owners_share_a_budget_and_leave_nothing() {
        let cache = DecodeCache::new(100);
        let (one, two) = (OwnCache::new(cache.clone()), OwnCache::new(cache.clone()));
        assert!(chunk(&one, 0, 40) && chunk(&two, 0, 50));
        assert_eq!((one.memory_bytes(), two.memory_bytes(), cache.memory_bytes()), (40, 50, 90));
        assert!(chunk(&two, 1, 30));
        assert_eq!((one.memory_bytes(), two.memory_bytes()), (0, 80));
        drop(two);
        assert_eq!(cache.memory_bytes(), 0);
        assert!(chunk(&one, 0, 40));
        cache.clear();
        assert!(cache.memory_bytes() == 0 && chunk(&one, 0, 40));
    }
}
