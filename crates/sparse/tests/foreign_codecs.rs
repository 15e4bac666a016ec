//! Codecs from outside: which are accepted, and what happens to those that break their word.

#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used)]

use safetensors::{Dtype, serialize, tensor::TensorView};
use sparse::{
    CodecId, Codecs, Compressor, Delta, Error, ErrorKind, Limits, Model, Result, Scheme,
    SimpleScheme, Verifier,
};
use sparse_core::{BaseUse, Chunk, CodecInfo, Fidelity, Simple, SimpleCodec};
use std::sync::Arc;

/// Stores chunks as they are, but for a weight in chunks that are `LONG`, if it is to break its
/// word.
struct Stored {
    id: u16,
    name: &'static str,
    breaks: bool,
}

const LONG: usize = 1 << 18;

impl SimpleCodec for Stored {
    fn info(&self) -> CodecInfo {
        CodecInfo::new(CodecId(self.id), self.name, Fidelity::Lossless, BaseUse::Ignored)
    }

    fn encode(&self, _: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(target);
        if self.breaks && target.len() == LONG {
            out.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        }
        Ok(())
    }

    fn decode(&self, _: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
        if encoded.len() != out.len() {
            return Err(Error::corrupt("a chunk of another length"));
        }
        out.copy_from_slice(encoded);
        Ok(())
    }
}

fn scheme(id: u16, name: &'static str, breaks: bool) -> Arc<dyn Scheme> {
    Arc::new(SimpleScheme::new(Arc::new(Simple::new(Stored { id, name, breaks }))))
}

/// A model of one vector of bytes, of two chunks; the selector tries codecs on a part of it.
fn model() -> Model {
    let bytes: Vec<u8> =
        (0..2 * LONG as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let view = TensorView::new(Dtype::U8, vec![bytes.len()], &bytes).unwrap();
    Model::from_source("m", Box::new(serialize([("w", view)], None).unwrap())).unwrap()
}

#[test]
fn a_codec_has_a_number_and_a_name_of_its_own() {
    let refused = |id, name| Codecs::none().with(scheme(id, name, false)).err().map(|e| e.kind());
    for id in [0, 1, 2, 9, 10, 0x7fff] {
        assert_eq!(refused(id, "mine"), Some(ErrorKind::InvalidArgument), "{id}");
    }
    for name in ["", "a=b", "a:b", "a;b"] {
        assert_eq!(refused(0x8000, name), Some(ErrorKind::InvalidArgument), "{name}");
    }
    assert_eq!(refused(0x8000, "mine"), None);
    // Codecs of this project may be added one by one.
    for scheme in Codecs::default().schemes() {
        Codecs::none().with(scheme.clone()).unwrap();
    }
    for decoder in Codecs::default().decoders() {
        Codecs::none().with_decoder(decoder.clone()).unwrap();
    }
}

#[test]
fn a_codec_that_loses_what_it_says_it_keeps_makes_no_delta() {
    let model = model();
    let codecs = |breaks| Codecs::none().with(scheme(0x8000, "mine", breaks)).unwrap();
    for policy in ["lossless", "mine", "max-error=0.5"] {
        let compress = |breaks| {
            let policy = policy.parse().unwrap();
            Compressor::new(&model).codecs(codecs(breaks)).policy(policy).write_to(Vec::new())
        };
        compress(false).unwrap();
        let e = compress(true).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Internal, "{policy}: {e}");
        assert!(e.to_string().contains("tensor w: "), "{policy}: {e}");
    }
}

#[test]
fn an_error_says_why_there_is_no_decoder() {
    let (model, mine) = (model(), Codecs::none().with(scheme(0x8000, "mine", false)).unwrap());
    let (bytes, _) = Compressor::new(&model).codecs(mine.clone()).write_to(Vec::new()).unwrap();
    let verify = |codecs| {
        let delta = Delta::from_source(Box::new(bytes.clone()), codecs, &Limits::default())?;
        Verifier::new(&delta).verify()
    };
    verify(mine.clone()).unwrap();
    let removed = verify(mine.without("mine")).unwrap_err();
    assert_eq!(removed.kind(), ErrorKind::CodecDisabled);
    assert!(removed.message().ends_with("(mine) is disabled in this program"), "{removed}");
    let unknown = verify(Codecs::default()).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownCodec);
    assert!(unknown.message().contains("from outside the project"), "{unknown}");
}
