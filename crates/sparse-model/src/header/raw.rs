//! What the JSON of a header says, before its rules are checked.

use super::{LEN_BYTES, clip, invalid};
use crate::json::{Fault, Json};
use sparse_core::{Error, Result};
use std::borrow::Cow;

/// The member that is no tensor.
const METADATA: &str = "__metadata__";

/// What a header says of a tensor.
pub(super) struct RawTensor<'a> {
    pub(super) dtype: Cow<'a, str>,
    pub(super) shape: Vec<u64>,
    pub(super) data_offsets: (u64, u64),
}

/// The tensors of the header `text`, in its order, names that occur twice included.
pub(super) fn read_tensors(text: &str) -> Result<Vec<(Cow<'_, str>, RawTensor<'_>)>> {
    let (mut tensors, mut metadata) = (Vec::new(), false);
    // The tensor being read, for the error.
    let mut current = None;
    let mut json = Json::new(text);
    let read = json.object(|json, name| {
        if name != METADATA {
            let tensor = RawTensor::read(json).inspect_err(|_| current = Some(name.clone()))?;
            tensors.push((name, tensor));
            return Ok(());
        }
        if std::mem::replace(&mut metadata, true) {
            return Err(Json::unexpected(json.offset(), format!("a second {METADATA}")));
        }
        // Checked and dropped: the head is kept verbatim anyway.
        if json.null()? { Ok(()) } else { json.object(|json, _| json.string().map(drop)) }
    });
    match read.and_then(|()| json.end()) {
        Ok(()) => Ok(tensors),
        Err(fault) => {
            let e = error(fault);
            Err(current.into_iter().fold(e, |e, name| e.in_tensor(clip(&name))))
        }
    }
}

fn error(fault: Fault) -> Error {
    let what = if fault.is_json {
        "the header is not a safetensors header"
    } else {
        "the header is not JSON of the expected form"
    };
    invalid(what).at_offset(LEN_BYTES + fault.offset as u64).with_source(fault)
}

impl<'a> RawTensor<'a> {
    /// Read the object that describes a tensor; members that are not known are skipped.
    fn read(json: &mut Json<'a>) -> Result<Self, Fault> {
        let start = json.offset();
        let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
        json.object(|json, name| {
            let at = json.offset();
            let again = match &*name {
                "dtype" => dtype.replace(json.string()?).is_some(),
                "shape" => shape.replace(numbers(json)?).is_some(),
                "data_offsets" => match *numbers(json)? {
                    [from, to] => data_offsets.replace((from, to)).is_some(),
                    _ => return Err(Json::unexpected(at, "data_offsets must be two numbers")),
                },
                _ => {
                    json.skip()?;
                    false
                }
            };
            if again { Err(Json::unexpected(at, format!("{name} is there twice"))) } else { Ok(()) }
        })?;
        let missing = |what| Json::unexpected(start, format!("{what} is missing"));
        Ok(RawTensor {
            dtype: dtype.ok_or_else(|| missing("dtype"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
            data_offsets: data_offsets.ok_or_else(|| missing("data_offsets"))?,
        })
    }
}

fn numbers(json: &mut Json<'_>) -> Result<Vec<u64>, Fault> {
    let mut numbers = Vec::new();
    json.array(|json| {
        numbers.push(json.u64()?);
        Ok(())
    })?;
    Ok(numbers)
}
