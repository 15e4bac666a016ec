//! What can be wrong with an adapter.

use sparse_core::{Dtype, Error, ErrorKind};

/// Why an adapter is not understood: `InvalidInput`, all of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("an adapter of type {0}, which is not merged here: merge it with PEFT")]
    Kind(String),
    #[error("the adapter has {0}, with which it is not merged here: merge it with PEFT")]
    Variant(&'static str),
    #[error(
        "the adapter's initialisation {0:?} changes the base as well, which is not done here: \
        convert it to an ordinary LoRA with PEFT (path_initial_model_for_weight_conversion)"
    )]
    Init(String),
    #[error(
        "keys as of kohya or diffusers, which do not say which weights of the base they belong to"
    )]
    OtherKeys,
    #[error("not the configuration of a LoRA: r or lora_alpha is missing")]
    NoRank,
    #[error("alpha {alpha} and rank {rank} make no scale")]
    Scale { alpha: f64, rank: u64 },
    #[error("the pattern {0:?} is not a regular expression: {1}")]
    Pattern(String, regex_lite::Error),
    #[error("adapter_model.bin is a Python pickle: save the adapter with safetensors")]
    Pickle,
    #[error("adapter_model.safetensors is not a safetensors file")]
    NotSafetensors,
    #[error("{0} and {1} are the same part of one module")]
    SamePart(String, String),
    #[error("the module has no factor {0}")]
    NoFactor(char),
    #[error("the factors are not matrices")]
    NoMatrices,
    #[error("the configuration does not say which rows these are")]
    Rows,
    #[error("there is nothing in it that could be merged")]
    Empty,
    #[error("factors of shapes {0:?} and {1:?} have no rank in common")]
    Ranks(Vec<u64>, Vec<u64>),
    #[error("factors of type {0} are not understood")]
    Factors(Dtype),
    #[error("{0} is not understood here")]
    Type(Dtype),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::new(ErrorKind::InvalidInput, fault.to_string())
    }
}
