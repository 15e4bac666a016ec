//! The words that every layer of Sparse shares.
//!
//! This crate has no dependencies and does no work of its own. It holds the vocabulary (element
//! types, tensor specs, units), the traits that layers meet through (codecs, byte and tensor
//! sources, observers), and the one error type. A codec from outside needs nothing else.
//!
//! Feature `conformance` adds a test suite that any codec passes in one line, see the module
//! `conformance`.

#![forbid(unsafe_code)]

mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod dtype;
mod encoded;
mod error;
mod executor;
mod limits;
mod memory;
mod open;
mod part;
mod path;
mod product;
mod registry;
mod simple;
mod size;
mod source;
mod stamp;
mod tensor;
mod unit;
pub mod varint;

pub use codec::{
    BaseUse, ChunkDecoder, ChunkEncoder, CodecId, CodecInfo, DeltaDecoder, DeltaEncoder, Effort,
    EstimatedBits, Fidelity, UnitAnalysis, check_chunk,
};
pub use context::{CodecContext, Workers};
pub use dtype::{Dtype, DtypeClass};
pub use encoded::{EncodedUnit, decode_unit, encode_unit};
pub use error::{Error, ErrorKind, Result};
pub use executor::{Executor, Inline, Threads};
pub use limits::{CancelToken, Limits, Observer, Unobserved};
pub use memory::{with_room, zeros};
pub use open::open_file;
pub use path::{check_output_path, check_path, check_target_path, is_deceptive};
pub use product::Product;
pub use registry::Registry;
pub use simple::{Chunk, Simple, SimpleCodec};
pub use size::parse_size;
pub use source::{ByteSource, FileSource, TensorEntry, TensorRead, TensorSource, check_range};
pub use stamp::FileStamp;
pub use tensor::{Digest, TensorSpec, TensorView};
pub use unit::{DEFAULT_CHUNK_LEN, RowRun, RowRuns, Segment, UnitSpec};
