//! The delta file alone, with a codec of one's own: the container moves bytes and knows no codec.

use sparse_container::*;
use sparse_core::{CodecId, Dtype, Limits, Result, TensorSpec, UnitSpec};

/// Ids from here on are free for codecs from outside the project.
const XOR: CodecId = CodecId::FIRST_FOREIGN;

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

fn main() -> Result<()> {
    let (base, target) = (vec![7; 4096], vec![9; 4096]);
    let spec = TensorSpec::new(Dtype::U8, [64, 64])?;
    let unit = UnitSpec::of(&spec, Some(Dtype::U8))?;

    // Written as a stream: payload first, then the index that says what it is.
    let mut writer = Writer::new(Vec::new())?;
    let params = writer.append(b"")?;
    let (offset, chunk) = writer.append_chunk(&xor(&target, &base))?;
    let mut index = Index::default();
    index.provenance = Provenance::new("container_only", "base", "target");
    index.bases.push(BaseEntry::tensor("w", "model.safetensors", spec.clone(), digest(&base)));
    let start = BaseStart { base: 0, offset: 0 };
    index.units.push(UnitRecord::new(XOR, &unit, &[start], params, offset, vec![chunk])?);
    let source = PieceSource::Unit { unit: 0, segment: 0, offset: 0 };
    let pieces = vec![Piece { len: unit.len(), source }];
    index.entries.push(Entry::tensor("w", spec, digest(&target), pieces));
    let file = writer.finish(&index)?;

    // Read by position: a file, a buffer, or anything else that is a `ByteSource`. Checksums are
    // verified.
    let reader = Reader::open(file, &Limits::default())?;
    let restored = xor(&reader.read_chunk(0, 0)?, &base);
    assert_eq!(digest(&restored), reader.index().entries[0].digest);
    println!("{} bytes, {:?}", reader.byte_len(), reader.index().provenance);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
