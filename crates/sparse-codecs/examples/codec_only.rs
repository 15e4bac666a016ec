//! The codec alone: weights in memory become bytes in memory and come back.

use half::bf16;
use sparse_codecs::lossless;

fn main() -> sparse_core::Result<()> {
    // Weights around 0.02, and the same after training: every third has moved a little.
    let base: Vec<bf16> = (0..16_384u16).map(|i| bf16::from_bits(0x3ca3 + i % 61)).collect();
    let moved = |(i, x): (usize, &bf16)| bf16::from_bits(x.to_bits() + u16::from(i % 3 == 0));
    let tuned: Vec<bf16> = base.iter().enumerate().map(moved).collect();

    let packed = lossless::compress(&tuned, Some(&base))?;
    assert!(lossless::decompress(&packed, Some(&base))? == tuned);
    println!("{} bytes of weights, {} packed", 2 * tuned.len(), packed.len());
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
