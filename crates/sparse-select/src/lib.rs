#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod allocate;
mod estimate;
mod glob;
mod policy;
mod probe;
mod sample;
mod scheme;
mod selector;
mod simple;
mod trial;
mod weights;

pub use allocate::{RatePoint, allocate_budget};
pub use estimate::estimate;
pub use glob::matches;
pub use policy::{Bound, Policy, Rule, Setting};
pub use probe::Probe;
pub use sample::Sampler;
pub use scheme::{Goal, Look, ParamsCost, Scheme, Subject};
pub use selector::{Bar, LosslessSchemes, Selector, least_bytes};
pub use simple::SimpleScheme;
pub use trial::{CLEAR, Layout, Trial};
pub use weights::{InMemory, Measured, Rows, Sample, Weights};
