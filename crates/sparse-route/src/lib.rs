#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod calibration;
mod catalogue;
mod class;
mod curve;
mod decide;
mod drift;
mod evaluate;
mod evaluation;
mod features;
mod interval;
mod journal;
#[cfg(feature = "serde")]
mod json;
mod judgement;
mod labels;
mod logistic;
mod random;
mod router;

pub use calibration::{Calibration, ReliabilityBin};
pub use catalogue::{Catalogue, CatalogueModel, Latency, Offer, Price, Quality};
pub use class::Class;
pub use curve::RoutingCurve;
pub use decide::{
    Candidate, DEFAULT_QUALITY_THRESHOLD, Decision, MOST_TOKENS, Miss, Requirements, Tokens, decide,
};
pub use drift::{Drift, LARGE_SHIFT, LEAST_REQUESTS, MODERATE_SHIFT, Profile, Shift};
pub use evaluate::{RESAMPLES, SPLITS, evaluate, evaluate_router};
pub use evaluation::{
    AtThreshold, Evaluation, EvaluationOptions, QUALITY_SHARE, RoutingScore, SplitScore,
};
pub use features::{Features, FnFeatures, LengthFeatures, MAX_FEATURES, character_count};
pub use interval::Interval;
pub use journal::{Journal, LoggedDecision, Outcome, Regret};
pub use judgement::{Basis, Judgement};
pub use labels::{Label, Labels};
pub use logistic::Logistic;
pub use router::{DEFAULT_RIDGE, Router, Training};
