//! The `adapter` command: the adapter that exporting recovers after a merge, compared with the
//! original, and the layered delta of the same pair.

use crate::pair::resolve;
use crate::tables::{Table, thousands};
use sparse::{
    Adapter, AdapterExporter, AdapterRank, Certificate, Codecs, Compressor, Delta, Dtype, Effort,
    Error, Limits, Model, Policy, Restorer, Result, TensorSource,
};
use sparse_codecs::certificate::Tally;
use std::path::Path;

/// The product of a module's factors, scaled.
fn product(adapter: &Adapter, module: usize) -> Result<Vec<f64>> {
    let module =
        adapter.modules().get(module).ok_or_else(|| Error::invalid_argument("no such module"))?;
    let factors = adapter.factors(module)?;
    let columns = factors.right.len() / factors.rank.max(1);
    let mut out = Vec::with_capacity(factors.left.len() / factors.rank.max(1) * columns);
    for left in factors.left.chunks_exact(factors.rank.max(1)) {
        let mut row = vec![0.0; columns];
        for (&l, right) in left.iter().zip(factors.right.chunks_exact(columns.max(1))) {
            row.iter_mut()
                .zip(right)
                .for_each(|(x, &r)| *x += f64::from(l) * f64::from(r) * factors.scale);
        }
        out.extend(row);
    }
    Ok(out)
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// Returns for each module of `wanted` the error of the product in `found`, relative to its own
/// norm (Frobenius).
fn errors(wanted: &Adapter, found: &Adapter) -> Result<Vec<(String, f64)>> {
    let error = |(i, module): (usize, &sparse_model::AdapterModule)| {
        let product_of = |adapter: &Adapter, i| product(adapter, i);
        let other = found.modules().iter().position(|m| m.path == module.path);
        let a = product_of(wanted, i)?;
        let b = match other {
            Some(other) => product_of(found, other)?,
            None => vec![0.0; a.len()],
        };
        let wrong = norm(a.iter().zip(&b).map(|(a, b)| a - b));
        Ok((module.path.clone(), wrong / norm(a.iter().copied())))
    };
    wanted.modules().iter().enumerate().map(error).collect()
}

/// Measures the weights of `found` against those of `target`, given the base.
fn nearness(base: &Model, target: &Model, found: &Model) -> Result<Certificate> {
    let mut tally = Tally::default();
    for (i, entry) in target.tensors().iter().enumerate() {
        let other = found.find(&entry.name);
        let (Some(other), Some(of_base)) = (other, base.find(&entry.name)) else { continue };
        let dtype = entry.spec.dtype();
        if base.tensors()[of_base].spec == entry.spec
            && matches!(dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32)
        {
            let (t, f, b) = (target.bytes(i)?, found.bytes(other)?, base.bytes(of_base)?);
            tally.observe(dtype, &t, &f, Some((dtype, &b)))?;
        }
    }
    Ok(tally.certificate())
}

/// Export adapters of the same rank as the one that was merged at each effort, and make a layered
/// delta; as two tables.
///
/// # Errors
/// What opening, exporting and compressing report; `Corrupt` if the layered delta does not bring
/// back every bit.
pub fn report(base: &Path, target: &Path, adapter: &Path) -> Result<String> {
    let open = |path: &Path| Model::open(resolve(path)?);
    let (base, target) = (open(base)?, open(target)?);
    let original = Adapter::open(adapter)?;
    let rank = original.modules().iter().map(|m| m.rank).max().unwrap_or(1);
    let size = |path: &Path| {
        let file = path.join("adapter_model.safetensors");
        file.metadata().map(|m| m.len()).map_err(|e| Error::io("cannot examine the adapter", e))
    };
    let room = tempfile::tempdir().map_err(|e| Error::io("cannot create a temporary folder", e))?;
    let mut exports =
        Table::new(&["effort", "factors", "modules", "worst product", "bytes", "of the original"]);
    for (name, effort) in
        [("fast", Effort::Fast), ("default", Effort::Default), ("max", Effort::Max)]
    {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let out = room.path().join(format!("{name}-{dtype}"));
            let rank = AdapterRank::Fixed(rank as u32);
            let job = AdapterExporter::new(&base, &target).rank(rank).dtype(dtype);
            job.effort(effort).write(&out)?;
            let found = errors(&original, &Adapter::open(&out)?)?;
            let worst = found.iter().map(|e| e.1).fold(0.0, f64::max);
            let (bytes, whole) = (size(&out)?, size(adapter)?);
            exports.row(&[
                name.to_owned(),
                dtype.to_string(),
                found.len().to_string(),
                format!("{:.2} %", 100.0 * worst),
                thousands(bytes),
                format!("{:.1} %", 100.0 * bytes as f64 / whole as f64),
            ]);
        }
    }
    let mut layers = Table::new(&[
        "codec",
        "delta",
        "first layer: relative error",
        "exact",
        "both layers: exact",
    ]);
    for codec in ["lossless".to_owned(), format!("layered={rank}")] {
        let (bytes, report) = Compressor::new(&target)
            .base(&base)
            .policy(Policy::Fixed(codec.parse()?))
            .write_to(Vec::new())?;
        let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default())?;
        let restored = |layers: u32| {
            let out = room.path().join(format!("{codec}-{}", layers));
            Restorer::new(&delta).base(&base).layers(layers).write(&out)?;
            nearness(&base, &target, &Model::open(&out)?)
        };
        let (first, whole) = (restored(1)?, restored(2)?);
        if whole.exact != whole.weights {
            return Err(Error::corrupt("the layered delta lost something"));
        }
        layers.row(&[
            codec.clone(),
            thousands(report.delta_bytes),
            format!("{:.2} %", 100.0 * first.relative_error()),
            format!("{:.2} %", 100.0 * first.exact_rate()),
            format!("{:.2} %", 100.0 * whole.exact_rate()),
        ]);
    }
    Ok(format!("{}\n{}", exports.finish(), layers.finish()))
}
