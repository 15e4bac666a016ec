//! The entropy coder alone: bytes with uneven frequencies become fewer bytes and come back.

use sparse_codecs::entropy;

fn main() -> sparse_core::Result<()> {
    // Codes of a quantiser: zero is frequent, others are the rarer the larger they are.
    let code = |i: u32| i.wrapping_mul(0x9e37_79b9).leading_zeros() as u8;
    let codes: Vec<u8> = (0..1_000_000).map(code).collect();

    let packed = entropy::compress(&codes);
    assert!(entropy::decompress(&packed, codes.len())? == codes);
    println!("{} bytes, {} packed", codes.len(), packed.len());
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
