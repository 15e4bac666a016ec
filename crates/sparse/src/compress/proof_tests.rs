//! An encoder that lies: the proof notices, and nothing is published.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::compress::job::Plan;
use crate::*;
use sparse_core::{
    ChunkEncoder, CodecContext, CodecInfo, DeltaDecoder, DeltaEncoder, EstimatedBits, UnitAnalysis,
    UnitSpec,
};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

/// What the encoders of this thread's next delta get wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Lie {
    #[default]
    None,
    /// A bit of the second chunk.
    Bit,
    /// The second chunk's last byte is missing.
    Short,
}

thread_local! {
    static LIE: Cell<Lie> = const { Cell::new(Lie::None) };
}

/// Replaces the encoders of a plan as the test says that runs.
pub(in crate::compress) fn tamper(plan: &mut Plan) {
    let lie = LIE.get();
    if lie != Lie::None {
        for unit in &mut plan.units {
            unit.encoder = Arc::new(Liar(unit.encoder.clone(), lie));
        }
    }
}

struct Liar<T>(T, Lie);

impl DeltaDecoder for Liar<Arc<dyn DeltaEncoder>> {
    fn info(&self) -> &CodecInfo {
        self.0.info()
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn sparse_core::ChunkDecoder>> {
        self.0.bind(unit, params, limits)
    }
}

impl DeltaEncoder for Liar<Arc<dyn DeltaEncoder>> {
    fn analyze(&self, unit: &UnitSpec, effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        Ok(Box::new(Liar(self.0.analyze(unit, effort)?, self.1)))
    }
}

impl UnitAnalysis for Liar<Box<dyn UnitAnalysis>> {
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        self.0.observe(chunk, target, base, cx)
    }

    fn end_pass(&mut self, cx: &mut CodecContext) -> Result<bool> {
        self.0.end_pass(cx)
    }

    fn estimated_bits(&self) -> EstimatedBits {
        self.0.estimated_bits()
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        Ok(Box::new(Liar(self.0.finish()?, self.1)))
    }
}

impl ChunkEncoder for Liar<Box<dyn ChunkEncoder>> {
    fn params(&self) -> &[u8] {
        self.0.params()
    }

    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        if chunk != 1 || self.1 == Lie::Short {
            self.0.encode_chunk(chunk, target, base, out, cx)?;
            if chunk == 1 {
                out.pop();
            }
            return Ok(());
        }
        // Another weight that occurs here, so that the tables know it.
        let mut other = target.to_vec();
        let (a, b) = (0, 2 * other.windows(2).step_by(2).position(|w| w != &other[..2]).unwrap());
        (0..2).for_each(|i| other.swap(a + i, b + i));
        self.0.encode_chunk(chunk, &other, base, out, cx)
    }
}

const COUNT: usize = 5000;

fn model(path: &Path, step: f32) -> Model {
    let json = format!(
        r#"{{"m.weight":{{"dtype":"BF16","shape":[{COUNT}],"data_offsets":[0,{}]}}}}"#,
        2 * COUNT
    );
    let weight =
        |i: usize| ((i as f32 * 1.7).sin() * 0.03 + (i as f32 * 0.61).sin() * step).to_bits() >> 16;
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.extend((0..COUNT).flat_map(|i| (weight(i) as u16).to_le_bytes()));
    std::fs::write(path, file).unwrap();
    Model::open(path).unwrap()
}

#[test]
fn a_lying_encoder_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let base = model(&dir.path().join("base.safetensors"), 0.0);
    let target = model(&dir.path().join("target.safetensors"), 1e-3);
    let out = dir.path().join("out");
    for lie in [Lie::Bit, Lie::Short] {
        for base in [Some(&base), None] {
            LIE.set(lie);
            let job = || Compressor::new(&target).base(base).chunk_len(1024);
            for e in [job().write(&out).unwrap_err(), job().write_to(Vec::new()).unwrap_err()] {
                assert_eq!(e.kind(), ErrorKind::Internal, "{lie:?}: {e}");
                assert!(e.to_string().contains("please report"), "{e}");
            }
            assert!(!out.exists());

            job().proof(false).write_to(Vec::new()).unwrap();
            job().proof(false).write(&out).unwrap();
            LIE.set(Lie::None);
            let delta = Delta::open(&out).unwrap();
            let e = Verifier::new(&delta).base(base).verify().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt, "or the test shows nothing: {e}");
            std::fs::remove_file(&out).unwrap();

            job().write(&out).unwrap();
            std::fs::remove_file(&out).unwrap();
        }
    }
}
