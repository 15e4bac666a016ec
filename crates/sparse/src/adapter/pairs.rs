//! Which weights an adapter can bring, and what it leaves out.

use super::kind::Profile;
use super::report::LeftOut;
use super::values::{invalid, is_float};
use crate::settings::Settings;
use sparse_codecs::certificate::{Tally, count_not_finite};
use sparse_codecs::values::{put, value};
use sparse_core::{Dtype, Result, TensorSource};
use sparse_model::{Architecture, Checkpoint, Counterpart, match_tensors};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Reason why a tensor with such weights is left out.
pub(super) const NOT_FINITE: &str =
    "it has NaN or infinities, in the fine-tuned model or in the base";

/// Linear weight or convolution, as a matrix of its first dimension and all others.
pub(super) struct Linear {
    /// Path of the module in the base.
    pub(super) path: String,
    pub(super) base: usize,
    pub(super) target: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Dimensions of a convolution after the first; none of a linear layer.
    pub(super) kernel: Vec<u64>,
    /// Whether the weight is stored as `[in, out]`.
    pub(super) in_out: bool,
    pub(super) changed: bool,
}

impl Linear {
    /// Returns the highest rank that its matrix has.
    pub(super) fn most(&self) -> usize {
        self.rows.min(self.columns)
    }

    /// Returns the shapes of `A` and `B`.
    pub(super) fn shapes(&self, rank: usize) -> [Vec<u64>; 2] {
        let [rank, rows, columns] = [rank, self.rows, self.columns].map(|n| n as u64);
        if self.in_out {
            return [vec![rank, rows], vec![columns, rank]];
        }
        if self.kernel.is_empty() {
            return [vec![rank, columns], vec![rows, rank]];
        }
        let ones = self.kernel.iter().skip(1).map(|_| 1);
        let a = std::iter::once(rank).chain(self.kernel.iter().copied()).collect();
        [a, [rows, rank].into_iter().chain(ones).collect()]
    }
}

/// Changed tensor that the adapter brings whole.
pub(super) struct Kept {
    /// Its name in the base.
    pub(super) name: String,
    pub(super) target: usize,
    pub(super) energy: f64,
}

impl Kept {
    /// Returns the path of its module, if it is a weight.
    pub(super) fn module(&self) -> Option<&str> {
        self.name.strip_suffix(".weight")
    }
}

/// Base and fine-tuned model, and what is asked of the adapter.
pub(super) struct Pair<'a> {
    pub(super) base: &'a dyn Checkpoint,
    pub(super) target: &'a dyn TensorSource,
    pub(super) architecture: Architecture,
    pub(super) profile: Profile,
    /// What the caller says of orientation.
    pub(super) fan_in_fan_out: bool,
    pub(super) include: &'a [String],
    pub(super) exclude: &'a [String],
    /// Names of tensors without factors to bring whole.
    pub(super) keep: &'a [String],
}

/// What changed.
pub(super) struct Sorted {
    /// Weights that can have factors, those of the same name as one that changed included.
    pub(super) linears: Vec<Linear>,
    pub(super) kept: Vec<Kept>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Pair<'_> {
    /// Separates the weights that an adapter brings from what else changed.
    ///
    /// # Errors
    /// `InvalidInput` when it cannot be told which way round a weight is stored; what reading
    /// reports; `Cancelled`.
    pub(super) fn sort(&self, settings: &Settings) -> Result<Sorted> {
        let (mut linears, mut left_out, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let matches = match_tensors(self.base, self.target, &settings.cancel)?;
        let mut taken = BTreeSet::new();
        for (number, (entry, found)) in self.target.tensors().iter().zip(&matches).enumerate() {
            settings.cancel.check()?;
            let of_base = match found.counterpart {
                Counterpart::Same { base } | Counterpart::Renamed { base, .. } => Some(base),
                _ => None,
            };
            let Some(of_base) = of_base.filter(|&base| taken.insert(base)) else {
                let reason = match found.counterpart {
                    Counterpart::None => "the base has no such tensor of its shape and kind",
                    Counterpart::Rows { .. } => "its shape is not that in the base",
                    _ => "the base's tensor belongs to another one",
                };
                let (tensor, share) = (entry.name.clone(), 0.0);
                let energy = self.norm(number, None)?;
                let of_base = found.counterpart.base();
                let name = of_base.map_or(&entry.name, |b| &self.base.tensors()[b].name);
                // A vocabulary that grew.
                if self.is_kept(number, name) && of_base.is_none_or(|b| taken.insert(b)) {
                    kept.push(Kept { name: name.clone(), target: number, energy });
                } else {
                    left_out.push(LeftOut { tensor, reason, energy, share });
                }
                continue;
            };
            let (changed, finite) = self.is_changed(number, of_base)?;
            let leave = |reason| -> Result<LeftOut> {
                let energy = self.norm(number, Some(of_base))?;
                Ok(LeftOut { tensor: entry.name.clone(), reason, energy, share: 0.0 })
            };
            if changed && !finite {
                // Its factors would be NaN. A portable adapter still has zeros for it.
                left_out.push(leave(NOT_FINITE)?);
            }
            match self.linear(number, of_base) {
                Ok(linear) => linears.push(Linear { changed: changed && finite, ..linear }),
                Err(_) if changed && finite && self.is_kept(number, self.name(of_base)) => {
                    let energy = self.norm(number, Some(of_base))?;
                    let name = self.name(of_base).to_owned();
                    kept.push(Kept { name, target: number, energy });
                }
                Err(reason) if changed && finite => left_out.push(leave(reason)?),
                Err(_) => {}
            }
        }
        // A portable adapter names modules by their last part, and has factors for all of such a
        // name.
        let names: BTreeSet<&str> =
            linears.iter().filter(|l| l.changed).map(|l| last(&l.path)).collect();
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        linears.retain(|l| names.contains(last(&l.path)));
        for l in &mut linears {
            l.in_out = l.kernel.is_empty() && self.orientation(l)?;
        }
        Ok(Sorted { linears, kept, left_out })
    }

    fn name(&self, base: usize) -> &str {
        &self.base.tensors()[base].name
    }

    /// Returns true if a tensor without factors is to be brought whole, and can be.
    fn is_kept(&self, target: usize, name: &str) -> bool {
        let is_part = name.ends_with(".weight") || name.ends_with(".bias");
        is_part
            && self.profile.has_whole_tensors()
            && is_float(self.target.tensors()[target].spec.dtype())
            && self.keep.iter().any(|p| is_match(p, name))
    }

    /// Describes a weight that can have factors, or says why it cannot.
    fn linear(&self, target: usize, base: usize) -> std::result::Result<Linear, &'static str> {
        let entry = &self.base.tensors()[base];
        let name = &entry.name;
        let shape = entry.spec.shape();
        let matches = |patterns: &[String]| patterns.iter().any(|p| is_match(p, name));
        if matches(self.exclude) || !(self.include.is_empty() || matches(self.include)) {
            return Err("it was excluded");
        }
        if !is_float(self.target.tensors()[target].spec.dtype()) || !is_float(entry.spec.dtype()) {
            return Err("its type is none of bf16, f16 and f32");
        }
        let path = match (name.strip_suffix(".weight"), shape.len()) {
            (_, 0 | 1) => return Err("a vector (bias or norm)"),
            (None, 3) => return Err("three-dimensional (fused experts)"),
            (None, _) => return Err("not the weight of a layer"),
            (Some(path), _) => path,
        };
        if Architecture::is_head(path) {
            return Err("an output layer over the vocabulary");
        }
        if Architecture::is_embedding(path) || path.contains("embed") {
            return Err("an embedding");
        }
        let kernel = match (self.profile.has_convolutions(), shape) {
            (_, [_, _]) => Vec::new(),
            (true, [_, kernel @ ..]) if shape.len() <= 5 => kernel.to_vec(),
            (false, _) => {
                return Err("a convolution, which the profiles peft and kohya bring");
            }
            _ => return Err("not the weight of a linear layer or a convolution"),
        };
        let rows = shape.first().copied().unwrap_or(1) as usize;
        let columns = shape.iter().skip(1).product::<u64>() as usize;
        let path = path.to_owned();
        Ok(Linear { path, base, target, rows, columns, kernel, in_out: false, changed: false })
    }

    fn orientation(&self, l: &Linear) -> Result<bool> {
        let weight = &self.base.tensors()[l.base].name;
        match self.architecture.is_in_out(weight) {
            _ if self.fan_in_fan_out => Ok(true),
            Some(in_out) => Ok(in_out),
            None => Err(invalid(
                "whether this weight is stored as [in, out], as GPT-2 does, or as [out, in] cannot \
                 be told: the base has no config.json with a model_type; add it, or give \
                 --fan-in-fan-out if it is [in, out]",
            )
            .in_tensor(&**weight)),
        }
    }

    /// Returns whether a weight changed, and whether all of it is finite.
    fn is_changed(&self, target: usize, base: usize) -> Result<(bool, bool)> {
        let dtype = self.target.tensors()[target].spec.dtype();
        let (new, old) = (self.target.bytes(target)?, self.of_base(base, dtype)?);
        if *new == *old {
            return Ok((false, true));
        }
        let finite = [&new, &old].iter().all(|b| count_not_finite(dtype, b) == 0);
        Ok((true, finite))
    }

    /// Reads a tensor of the base, cast to the type of the fine-tuned one.
    pub(super) fn of_base(&self, base: usize, dtype: Dtype) -> Result<Cow<'_, [u8]>> {
        let of_base = self.base.tensors()[base].spec.dtype();
        let bytes = self.base.bytes(base)?;
        if of_base == dtype || !is_float(of_base) || !is_float(dtype) {
            return Ok(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len());
        for word in bytes.chunks_exact(of_base.storage_bytes()) {
            put(dtype, value(of_base, word), &mut out);
        }
        Ok(Cow::Owned(out))
    }

    /// Computes the squared Frobenius norm of a tensor, or of its change.
    pub(super) fn norm(&self, target: usize, base: Option<usize>) -> Result<f64> {
        let dtype = self.target.tensors()[target].spec.dtype();
        let bytes = self.target.bytes(target)?;
        let of_base = base.map(|number| self.of_base(number, dtype)).transpose()?;
        let mut tally = Tally::default();
        tally.observe(dtype, &bytes, &bytes, of_base.as_deref().map(|b| (dtype, b)))?;
        Ok(tally.certificate().change.powi(2))
    }
}

/// Returns the last part of a module's path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Returns true if a name matches a pattern, in which `*` is any text.
///
/// A pattern without one matches wherever it occurs.
fn is_match(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return name.contains(pattern);
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let name = "model.layers.11.mlp.up_proj.weight";
        for pattern in ["mlp", "*up_proj.weight", "model.*.mlp.*", "*", "model*.11.*weight"] {
            assert!(is_match(pattern, name), "{pattern}");
        }
        for pattern in ["attn", "*up_proj", "layers*", "model.*.12.*", "*weight*weight"] {
            assert!(!is_match(pattern, name), "{pattern}");
        }
    }
}
