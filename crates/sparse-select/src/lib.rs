#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod allocate;
mod estimate;
mod glob;
mod policy;
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
pub use sample::Sampler;
pub use scheme::{Goal, Look, ParamsCost, Product, Rows, Scheme, Subject};
pub use selector::{Bar, LosslessSchemes, Selector, least_bytes};
pub use simple::SimpleScheme;
pub use trial::{CLEAR, Layout, Probe, Trial};
pub use weights::{InMemory, Measured, Sample, Weights};
