use super::*;
use flate2::read::DeflateDecoder;
use std::io::{Read, Write};

fn packed(text: &[u8], level: u8, maker: Maker, piece: usize) -> Vec<u8> {
    let mut out = Deflater::new(Vec::new(), level, maker);
    text.chunks(piece).for_each(|part| out.write_all(part).unwrap());
    out.finish(level == 6).unwrap()
}

fn texts() -> Vec<Vec<u8>> {
    let mut seed = 7u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    let words = ["alpha", "beta", "gamma ", "delta\n", "0.25,", "{\"a\": ", "}"];
    let prose = (0..60_000).flat_map(|_| words[next() as usize % 7].bytes()).collect();
    let mut noise = move |n: usize| (0..n).map(|_| next() as u8).collect::<Vec<u8>>();
    let mixed = [noise(70_000), vec![b'x'; 70_000], noise(5)].concat();
    vec![Vec::new(), b"a".to_vec(), b"abc".to_vec(), vec![0; 100_000], prose, mixed, noise(140_000)]
}

#[test]
fn text_comes_back() {
    for (i, text) in texts().iter().enumerate() {
        for maker in [Maker::Zlib, Maker::GnuGzip] {
            for level in 1..=9 {
                let bytes = packed(text, level, maker, 50_000);
                let mut back = Vec::new();
                DeflateDecoder::new(&bytes[..]).read_to_end(&mut back).unwrap();
                assert!(back == *text, "text {i}, level {level}, {maker:?}");
                assert!(bytes == packed(text, level, maker, 777));
            }
        }
    }
}
