//! What was written, read back and compared with the change.

use super::changes::{Sum, changes};
use super::layout::peft::Whole;
use super::pairs::{Kept, Linear, Pair};
use super::report::ExportedModule;
use crate::context::Contexts;
use crate::settings::Settings;
use sparse_codecs::low_rank::residual;
use sparse_core::{Error, ErrorKind, Result, TensorSource};
use sparse_model::Adapter;
use std::path::Path;

/// By how much two sums of squares of the same numbers may differ.
const SLACK: f64 = 1e-6;

/// Opens the adapter in `folder` and finds its change in the base, as merging does.
///
/// Each module's `energy_kept` must be what its factors bring, and what is brought whole must be
/// that of the fine-tuned model.
///
/// # Errors
/// `Internal`, with the tensor, where it is not so; what reading reports; `Cancelled`.
pub(super) fn check(
    folder: &Path,
    pair: &Pair<'_>,
    linears: &[Linear],
    modules: &[ExportedModule],
    (kept, whole): (&[Kept], &[Whole]),
    settings: &Settings,
) -> Result<()> {
    let wrong = |what: &str, tensor: &str| {
        let e = format!("the adapter that was written {what}: this is an error of the program");
        Error::new(ErrorKind::Internal, e).in_tensor(tensor)
    };
    let adapter = Adapter::open(folder)?;
    let changes = changes(pair.base, &adapter)?;
    let contexts = Contexts::new(settings);
    for module in modules.iter().filter(|m| m.rank > 0) {
        settings.cancel.check()?;
        let lacks = || wrong("lacks a module", &module.path);
        let linear = linears.iter().find(|l| l.path == module.path).ok_or_else(lacks)?;
        let Some(Sum::Product(found)) = changes.get(&linear.base).and_then(|c| c.sum.as_ref())
        else {
            return Err(lacks());
        };
        let mut factors = adapter.factors(found)?;
        factors.left.iter_mut().for_each(|x| *x *= factors.scale as f32);
        let dtype = pair.target.tensors()[linear.target].spec.dtype();
        let (target, base) = (pair.target.bytes(linear.target)?, pair.of_base(linear.base, dtype)?);
        let shape = (linear.rows, linear.columns);
        let factors = (&factors.left[..], &factors.right[..]);
        let (change, missed) =
            contexts.with(|cx| residual(dtype, shape, &target, &base, factors, cx))?;
        let brings = if change > 0.0 { (1.0 - missed / change).max(0.0) } else { 1.0 };
        if (brings - module.energy_kept).abs() > SLACK {
            let what = format!("brings {brings} of a change, and not {}", module.energy_kept);
            return Err(wrong(&what, &module.path));
        }
    }
    let model = adapter.model();
    for (kept, whole) in kept.iter().zip(whole) {
        let number = model.find(&whole.name).ok_or_else(|| wrong("lacks a tensor", &kept.name))?;
        if *model.bytes(number)? != *pair.target.bytes(kept.target)? {
            return Err(wrong("has other values", &kept.name));
        }
    }
    Ok(())
}
