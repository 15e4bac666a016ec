//! The numbers of attributes in an index, and what they hold. `docs/FORMAT.md` has them all.

/// The [attribute](sparse_container::Index::attributes) of the index that says what the target was.
pub(crate) const TARGET_KIND: u16 = 1;

/// Value of [`TARGET_KIND`]: a single safetensors file that was named directly.
pub(crate) const SINGLE_FILE: &[u8] = b"file";

/// The attribute that deltas of datasets have, which the crate `sparse-dataset` reads.
pub(crate) const DATASET: u16 = 16;

/// The [attribute](sparse_container::Index::attributes) of the index that says that the target is
/// an adapter, and of which kind.
pub(crate) const ADAPTER: u16 = 3;

/// Value of [`ADAPTER`]: a LoRA in PEFT's layout.
#[cfg(feature = "encode")]
pub(crate) const LORA: &[u8] = b"lora";

/// The [attribute](sparse_container::Entry::attributes) of a tensor, and of the whole, that holds a
/// [`Certificate`](crate::Certificate).
pub(crate) const CERTIFICATE: u16 = 2;

/// The attribute of a certified tensor that names what its change is relative to, where that is not
/// what its pieces are coded against: see `Recorded`.
pub(crate) const REFERENCE: u16 = 6;

/// The attribute of a certified tensor, and of the whole, that counts the original weights that are
/// NaN or infinite; left out where there are none.
pub(crate) const NOT_FINITE: u16 = 7;

/// The [attribute](sparse_container::Index::attributes) of the whole that holds the
/// [`ContentHash`](crate::ContentHash) of what is restored.
pub(crate) const CONTENT: u16 = 5;
