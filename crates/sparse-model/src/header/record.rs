//! What the JSON of a header says, before its rules are checked.

use super::faults::{LEN_BYTES, clip, invalid};
use crate::fields::{Array, Fault, Nullable, Object, Record, Text, Whole};
use crate::fields::{once, read, required, skip};
use serde_core::de::{self, MapAccess};
use sparse_core::{Error, Result};
use std::borrow::Cow;

/// Name of the member that is no tensor.
const METADATA: &str = "__metadata__";

/// Most dimensions that a tensor is read with. PyTorch has at most 64.
const MAX_DIMENSIONS: usize = 1024;

/// Whether a header may break rules that do not matter for reading its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    Strict,
    Lenient,
}

/// Description of a tensor in a header.
pub(super) struct RawTensor<'a> {
    pub(super) dtype: Cow<'a, str>,
    pub(super) shape: Vec<u64>,
    pub(super) data_offsets: (u64, u64),
}

/// Reads the tensors of the header `json`, in its order.
///
/// Names that occur twice are included.
pub(super) fn read_tensors(
    json: &[u8],
    rules: Rules,
) -> Result<Vec<(Cow<'_, str>, RawTensor<'_>)>> {
    let mut wrong = None;
    let head = Head { tensors: Vec::new(), metadata: None, wrong: &mut wrong, rules };
    read(json, Object(head)).map_err(|fault| {
        let e = error(fault);
        wrong.into_iter().fold(e, |e, name| e.in_tensor(name))
    })
}

fn error(fault: Fault) -> Error {
    let what = if fault.is_json {
        "the header is not a safetensors header"
    } else {
        "the header is not JSON of the expected form"
    };
    invalid(what).at_offset(LEN_BYTES + fault.offset as u64).with_source(fault)
}

/// Header as a whole.
struct Head<'a, 'w> {
    tensors: Vec<(Cow<'a, str>, RawTensor<'a>)>,
    metadata: Option<()>,
    /// The name of the tensor that cannot be read.
    wrong: &'w mut Option<String>,
    rules: Rules,
}

impl<'de> Record<'de> for Head<'de, '_> {
    type Value = Vec<(Cow<'de, str>, RawTensor<'de>)>;

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> std::result::Result<(), A::Error> {
        if name == METADATA {
            once(&mut self.metadata, METADATA, ())?;
            if self.rules == Rules::Lenient {
                return skip(map);
            }
            return map.next_value_seed(Nullable(Object(Metadata))).map(drop);
        }
        let tensor = map
            .next_value_seed(Object(Tensor::default()))
            .inspect_err(|_| *self.wrong = Some(clip(&name).to_owned()))?;
        self.tensors.push((name, tensor));
        Ok(())
    }

    fn finish<E: de::Error>(self) -> std::result::Result<Self::Value, E> {
        Ok(self.tensors)
    }
}

/// Object of strings, checked and dropped: the head is kept verbatim anyway.
struct Metadata;

impl<'de> Record<'de> for Metadata {
    type Value = ();

    fn member<A: MapAccess<'de>>(
        &mut self,
        _: Cow<'de, str>,
        map: &mut A,
    ) -> std::result::Result<(), A::Error> {
        map.next_value::<Text<'_>>().map(drop)
    }

    fn finish<E: de::Error>(self) -> std::result::Result<(), E> {
        Ok(())
    }
}

/// Object that describes a tensor; members that are not known are skipped.
#[derive(Default)]
struct Tensor<'a> {
    dtype: Option<Cow<'a, str>>,
    shape: Option<Vec<u64>>,
    data_offsets: Option<(u64, u64)>,
}

impl<'de> Record<'de> for Tensor<'de> {
    type Value = RawTensor<'de>;

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> std::result::Result<(), A::Error> {
        match &*name {
            "dtype" => once(&mut self.dtype, &name, map.next_value::<Text<'_>>()?.0),
            "shape" => {
                let shape = map.next_value_seed(Array::<Whole>::up_to(
                    MAX_DIMENSIONS,
                    "a shape of up to 1024 dimensions",
                ))?;
                once(&mut self.shape, &name, shape.into_iter().map(|n| n.0).collect())
            }
            "data_offsets" => {
                match *map.next_value_seed(Array::<Whole>::up_to(2, "two numbers"))? {
                    [Whole(from), Whole(to)] => once(&mut self.data_offsets, &name, (from, to)),
                    _ => Err(de::Error::custom("data_offsets must be two numbers")),
                }
            }
            _ => skip(map),
        }
    }

    fn finish<E: de::Error>(self) -> std::result::Result<RawTensor<'de>, E> {
        Ok(RawTensor {
            dtype: required(self.dtype, "dtype")?,
            shape: required(self.shape, "shape")?,
            data_offsets: required(self.data_offsets, "data_offsets")?,
        })
    }
}
