//! What a selector refuses: codecs that break their word, and choices that nothing is left for.

#![allow(clippy::unwrap_used)]

use sparse_core::{
    BaseUse, Chunk, CodecContext, CodecId, CodecInfo, DeltaDecoder, DeltaEncoder, Dtype, Error,
    ErrorKind, Fidelity, Result, Segment, Simple, SimpleCodec,
};
use sparse_select::{
    Goal, InMemory, LosslessSchemes, Policy, Scheme, Selector, SimpleScheme, Subject,
};
use std::sync::Arc;

/// Keeps the first byte of each chunk, and says of itself what it is given.
struct FirstByte(Fidelity);

impl SimpleCodec for FirstByte {
    fn info(&self) -> CodecInfo {
        CodecInfo::new(CodecId(0x8000), "first-byte", self.0, BaseUse::Ignored)
    }

    fn encode(&self, _: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.extend(target.first());
        Ok(())
    }

    fn decode(&self, _: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
        out.fill(*encoded.first().ok_or_else(|| Error::truncated("it is empty"))?);
        Ok(())
    }
}

/// A scheme for where something may be lost.
struct Lossy(Arc<dyn DeltaEncoder>);

impl Scheme for Lossy {
    fn name(&self) -> &str {
        "first-byte"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        self.0.clone()
    }

    fn encoder(&self, _: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        Ok(self.0.clone())
    }

    fn offers(&self, goal: Goal, _: &Subject) -> Vec<Option<f64>> {
        if goal == Goal::Lossless { Vec::new() } else { vec![None] }
    }
}

const VECTOR: Segment = Segment { rows: 1, row_len: 256 };

#[test]
fn a_codec_that_does_not_bring_back_what_it_says_is_no_candidate() {
    let codec = Arc::new(Simple::new(FirstByte(Fidelity::Lossless)));
    let schemes: [Arc<dyn Scheme>; 1] = [Arc::new(SimpleScheme::new(codec))];
    let selector = Selector::new(&schemes, &Policy::Lossless).unwrap();
    let select = |bytes: &[u8]| {
        let weights = InMemory::new(Dtype::U8, VECTOR, bytes, None)?;
        selector.select("w", &weights, &mut CodecContext::new())
    };
    assert_eq!(select(&[7; 256]).unwrap().len(), 1);
    let e = select(&(0..=255).collect::<Vec<u8>>()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Internal);
    assert!(e.message().starts_with("the codec first-byte says that it loses nothing"), "{e}");
}

#[test]
fn nothing_is_chosen_where_nothing_is_allowed() {
    let codec = Arc::new(Simple::new(FirstByte(Fidelity::Lossy)));
    let schemes: [Arc<dyn Scheme>; 1] = [Arc::new(Lossy(codec))];
    let policy = "max-error=0.1".parse().unwrap();
    let selector = Selector::new(&schemes, &policy).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    let weights = InMemory::new(Dtype::U8, VECTOR, &bytes, None).unwrap();
    let none = LosslessSchemes { default: 1, others: Vec::new() };
    let trials = selector.trials("w", &[&weights], &none, &mut CodecContext::new()).unwrap();
    assert_eq!((trials.len(), trials[0].allowed), (1, false));
    for list in [&trials[..], &[]] {
        for budget in [None, Some(0), Some(u64::MAX)] {
            let e = Selector::choose(&[list], &[], budget).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(e.message().contains("none of the trials"), "{e}");
        }
    }
    assert_eq!(Selector::choose(&[], &[], Some(0)).unwrap(), [0; 0]);
}
