//! Patches of texts and of files: made and applied, and applied to what they are not for.
//!
//! An input is a tag, the text that is patched behind its length, and the patch: for tags that are
//! 0 modulo 4 coded by models, 1 in streams (behind their length), 2 of a file (behind its place).
//! With the tag 3, the rest is a text for which patches are made.

use crate::Seed;
use crate::input::Input;
use sparse_dataset::fuzzing::{Place, apply_patch, code_text, decode_text, patch};

/// Most bytes of a patched text.
const MOST: usize = 1 << 16;

/// Apply the patch, or make some and apply them.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let tag = input.byte() % 4;
    let len = usize::from(input.u16());
    let base = input.take(len);
    match tag {
        0 => check(decode_text(base, input.0, None, MOST)),
        1 => {
            let len = usize::from(input.u16());
            let streams = input.take(len);
            check(decode_text(base, input.0, Some(streams), MOST));
        }
        2 => {
            let place = place(&mut input);
            let len = usize::from(input.u16());
            if let Ok(bytes) = apply_patch(base, place, input.0, len) {
                assert_eq!(bytes.len(), len);
            }
        }
        _ => round_trips(base, input.0),
    }
}

fn check(text: sparse_core::Result<Vec<u8>>) {
    assert!(!text.is_ok_and(|t| t.len() > MOST), "more than it may");
}

/// Windows as manifests allow them; offsets that lie in the file, as pieces do.
fn place(input: &mut Input<'_>) -> Place {
    let file_len = u64::from(input.u16());
    let offset = u64::from(input.u16()).min(file_len);
    Place { offset, file_len, window: 10 + input.byte() % 17 }
}

fn round_trips(base: &[u8], text: &[u8]) {
    for streams in [false, true] {
        let (coded, beside) = code_text(base, text, streams).expect("every text can be coded");
        let beside = streams.then_some(&beside[..]);
        let back = decode_text(base, &coded, beside, MOST.max(2 * text.len()));
        assert!(back.expect("what was coded decodes") == text, "the text comes back");
    }
    let place = Place { offset: text.len() as u64 / 2, file_len: text.len() as u64, window: 10 };
    let made = patch(base, place, text).expect("every text can be packed");
    let back = apply_patch(base, place, &made, text.len()).expect("what was packed unpacks");
    assert!(back == text, "the bytes come back");
}

/// Edits of a sentence, of each sort.
pub fn seeds() -> Vec<Seed> {
    let base = b"Natalia sold 48/2 = <<48/2=24>>24 clips in May, and then some more of them.";
    let texts: [(&str, &[u8]); 3] = [
        ("edited", b"Natalia sold 48/2 = 24 clips in June, and then some more of them."),
        ("same", base),
        ("other", b"nothing of this is in the text before"),
    ];
    let with = |tag: u8, rest: &[u8]| {
        let len = (base.len() as u16).to_le_bytes();
        [&[tag], &len[..], base, rest].concat()
    };
    let mut out = Vec::new();
    for (name, text) in texts {
        let (coded, _) = code_text(base, text, false).expect("it can be coded");
        out.push((format!("{name}-modelled"), with(0, &coded)));
        let (coded, streams) = code_text(base, text, true).expect("it can be coded");
        let len = (streams.len() as u16).to_le_bytes();
        out.push((format!("{name}-streams"), with(1, &[&len[..], &streams, &coded].concat())));
        let (len, half) = (text.len() as u16, text.len() as u16 / 2);
        let place = Place { offset: half.into(), file_len: len.into(), window: 12 };
        let made = patch(base, place, text).expect("it can be packed");
        let (len, half) = (len.to_le_bytes(), half.to_le_bytes());
        out.push((format!("{name}-file"), with(2, &[&len[..], &half, &[2], &len, &made].concat())));
        out.push((format!("{name}-made"), with(3, text)));
    }
    out
}
