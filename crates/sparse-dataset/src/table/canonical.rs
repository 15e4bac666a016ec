//! Hashes of cells and blocks, over a canonical encoding.

use super::{Block, Column};
use sparse_container::Digester;
use sparse_core::Digest;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hash of a null.
const NULL_HASH: u64 = 0x6e75_6c6c_6365_6c6c;

/// Returns the hash of a cell: equal cells of columns of one kind have equal hashes. Cells of equal
/// hashes are compared before they count as equal.
#[inline]
pub(crate) fn cell_hash(cell: Option<&[u8]>) -> u64 {
    cell.map_or(NULL_HASH, |c| xxh3_64_with_seed(c, 0))
}

/// The canonical encoding of a block, to be hashed and counted: for each column `u8` 1 if it has
/// nulls, then a byte (1 for null) for each row if so; for columns without fixed width the end of
/// each cell in the column's bytes as `u32`; the bytes.
#[derive(Debug)]
pub(crate) struct Digesting {
    digester: Digester,
    len: u64,
}

impl Digesting {
    /// Computes digest and length of the canonical encoding of `block`.
    pub(crate) fn of(block: &Block) -> (Digest, u64) {
        let mut d = Digesting { digester: Digester::new(), len: 0 };
        block.columns.iter().for_each(|c| d.column(c));
        (d.digester.finish(), d.len)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.digester.update(bytes);
        self.len += bytes.len() as u64;
    }

    fn column(&mut self, column: &Column) {
        let has_nulls = column.nulls.contains(&true);
        self.update(&[u8::from(has_nulls)]);
        let mut buffer = Vec::with_capacity(4096);
        if has_nulls {
            for part in column.nulls.chunks(4096) {
                buffer.clear();
                buffer.extend(part.iter().map(|&n| u8::from(n)));
                self.update(&buffer);
            }
        }
        for part in column.ends.chunks(1024) {
            buffer.clear();
            buffer.extend(part.iter().flat_map(|e| e.to_le_bytes()));
            self.update(&buffer);
        }
        self.update(&column.data);
    }
}
