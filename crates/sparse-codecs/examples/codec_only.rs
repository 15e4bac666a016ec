//! The codec alone: weights in memory become bytes in memory and come back.

use sparse_codecs::lossless::Lossless;
use sparse_core::{
    CodecContext, Dtype, Effort, Result, TensorSpec, UnitSpec, decode_unit, encode_unit,
};

fn main() -> Result<()> {
    // A matrix of bf16 weights around 0.02, and the same after training: every third weight has
    // moved a little.
    let weights = |moved: u16| -> Vec<u8> {
        let word = |i: u16| 0x3ca3 + i % 61 + if i.is_multiple_of(3) { moved } else { 0 };
        (0..256 * 64).flat_map(|i| word(i).to_le_bytes()).collect()
    };
    let (base, tuned) = (weights(0), weights(1));

    let spec = TensorSpec::new(Dtype::Bf16, [256, 64])?;
    let unit = UnitSpec::of(&spec, Some(Dtype::Bf16))?;
    let cx = &mut CodecContext::new();
    let encoded = encode_unit(&Lossless, &unit, &tuned, Some(&base), Effort::Default, cx)?;

    let mut restored = vec![0; tuned.len()];
    decode_unit(&Lossless, &unit, &encoded, Some(&base), &mut restored, cx)?;
    assert!(restored == tuned);
    println!("{} bytes of weights, {} encoded", tuned.len(), encoded.byte_len());
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
