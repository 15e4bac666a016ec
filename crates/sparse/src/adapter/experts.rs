//! Fused experts: three-dimensional parameters that PEFT adapts by themselves.
//!
//! Of a parameter of shape `[experts, …, …]` the factors of all experts lie in one pair: `A` is
//! `[experts * rank, in]`, with the expert as the slower index, and `B` is `[out, rank * experts]`,
//! with the expert as the faster one. Whether the parameter itself is `[experts, in, out]` or
//! `[experts, out, in]` PEFT took from the version of its own (before 0.19 always the former) and
//! from the layer's class; the shapes tell, unless the matrices are square.

use super::values::invalid;
use sparse_core::{Result, TensorSpec};
use sparse_model::{Adapter, AdapterFactors, AdapterModule, Checkpoint};
use std::collections::BTreeMap;

/// The factors of the experts of one parameter.
#[derive(Clone)]
pub(super) struct Stack {
    pub(super) module: AdapterModule,
    pub(super) experts: usize,
    /// Rank of each expert.
    pub(super) rank: usize,
    pub(super) scale: f64,
    /// Whether each matrix is stored as `[in, out]`.
    pub(super) in_out: bool,
}

impl Stack {
    /// Takes the factors of one expert out of those of all.
    pub(super) fn factors(&self, a: &[f32], b: &[f32], expert: usize) -> AdapterFactors {
        let (rank, experts) = (self.rank, self.experts);
        let inner = a.len() / (rank * experts).max(1);
        let right = a.get(expert * rank * inner..(expert + 1) * rank * inner).unwrap_or_default();
        let left = b.chunks_exact((rank * experts).max(1));
        let left: Vec<f32> =
            left.flat_map(|row| row.iter().skip(expert).step_by(experts.max(1)).copied()).collect();
        let mut factors = AdapterFactors::default();
        (factors.rank, factors.scale) = (rank, self.scale);
        (factors.left, factors.right) = if self.in_out {
            (transposed(right, inner), transposed(&left, rank))
        } else {
            (left, right.to_vec())
        };
        factors
    }
}

/// Transposes a matrix of `columns` columns.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| matrix.iter().skip(j).step_by(columns.max(1)).copied()).collect()
}

/// Finds the parameters that the modules adapt which adapt no weight of a layer.
///
/// # Errors
/// `InvalidInput` where one has no parameter, or may have several.
pub(super) fn find_stacks(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    modules: &[&AdapterModule],
) -> Result<Vec<(usize, Stack)>> {
    let mut by_path: BTreeMap<&str, Vec<&AdapterModule>> = BTreeMap::new();
    for module in modules {
        by_path.entry(&module.path).or_default().push(module);
    }
    let mut stacks = Vec::new();
    for (path, mut modules) in by_path {
        // The first parameter that was adapted lies innermost.
        modules.sort_by_key(|m| std::cmp::Reverse(m.wraps));
        let targets = &adapter.config().target_parameters;
        let is_target = |name: &str| {
            targets.iter().any(|t| {
                name.strip_suffix(&**t).is_some_and(|head| head.is_empty() || head.ends_with('.'))
            })
        };
        let is_here = |name: &str| {
            name.rsplit_once('.').is_some_and(|(of, _)| {
                of == path
                    || path.strip_suffix(of).is_some_and(|head| head.ends_with('.'))
                    || of.strip_suffix(path).is_some_and(|head| head.ends_with('.'))
            })
        };
        let mut parameters: Vec<usize> = Vec::new();
        for (tensor, entry) in base.tensors().iter().enumerate() {
            if is_target(&entry.name) && is_here(&entry.name) && entry.spec.shape().len() == 3 {
                parameters.push(tensor);
            }
        }
        let missing = || {
            let [m, ..] = modules[..] else { return invalid("there is no module") };
            let message =
                format!("the base has no weight {path}.weight of {} x {}", m.rows, m.columns);
            invalid(message).in_tensor(path)
        };
        if parameters.len() != modules.len() {
            return Err(missing());
        }
        let order =
            order_of(base, &parameters, &modules).ok_or_else(missing)?.ok_or_else(|| {
                let message = "which of the parameters each pair of factors is for cannot be told \
                    from their shapes: merge it with PEFT";
                invalid(message).in_tensor(path)
            })?;
        for (module, tensor) in modules.into_iter().zip(order) {
            stacks.push((tensor, stack(base, adapter, module, tensor)?));
        }
    }
    Ok(stacks)
}

/// Assigns parameters to modules, the innermost first.
///
/// `None` if none fits, `Some(None)` if several do.
fn order_of(
    base: &dyn Checkpoint,
    parameters: &[usize],
    modules: &[&AdapterModule],
) -> Option<Option<Vec<usize>>> {
    let fits = |order: &[usize]| {
        order.iter().zip(modules).all(|(&t, m)| !ways(&base.tensors()[t].spec, m).is_empty())
    };
    let orders: Vec<Vec<usize>> = match *parameters {
        [one] => vec![vec![one]],
        [one, other] => vec![vec![one, other], vec![other, one]],
        _ => return Some(None),
    };
    let mut fitting: Vec<Vec<usize>> = orders.into_iter().filter(|o| fits(o)).collect();
    if fitting.len() > 1 {
        // PEFT adapts parameters in the order in which the layer defines them: in transformers, of
        // all experts of these names, this one.
        let name = |t: usize| base.tensors()[t].name.rsplit('.').next().unwrap_or_default();
        fitting.retain(|order| {
            matches!(order[..], [a, b] if name(a) == "gate_up_proj" && name(b) == "down_proj")
        });
        return Some(fitting.pop());
    }
    fitting.pop().map(Some)
}

/// Lists whether a parameter may be `[in, out]`, by its shape.
fn ways(spec: &TensorSpec, module: &AdapterModule) -> Vec<bool> {
    let &[experts, rows, columns] = spec.shape() else { return Vec::new() };
    // What the configuration says of orientation does not concern parameters.
    let (out, inner) = match module.transposed {
        true => (module.columns, module.rows),
        false => (module.rows, module.columns),
    };
    if experts == 0 || !module.rank.is_multiple_of(experts) {
        return Vec::new();
    }
    let ways = [(false, (out, inner)), (true, (inner, out))];
    ways.into_iter().filter(|(_, shape)| *shape == (rows, columns)).map(|(way, _)| way).collect()
}

fn stack(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    module: &AdapterModule,
    tensor: usize,
) -> Result<Stack> {
    let entry = &base.tensors()[tensor];
    let in_out = match ways(&entry.spec, module)[..] {
        [one] => one,
        // Up to 0.18 PEFT knew no other way.
        _ if is_before_0_19(&adapter.config().version) => true,
        _ => {
            let message = "the experts' matrices are square, and PEFT since 0.19 stores the \
                factors of some models the other way round: merge it with PEFT";
            return Err(invalid(message).in_tensor(&*entry.name));
        }
    };
    let experts = entry.spec.shape().first().copied().unwrap_or(1).max(1);
    let rank = module.rank / experts;
    Ok(Stack {
        module: module.clone(),
        experts: experts as usize,
        rank: rank as usize,
        scale: adapter.config().scale(&entry.name, rank)?,
        in_out,
    })
}

fn is_before_0_19(version: &str) -> bool {
    let mut numbers = version.split('.').map(|n| n.parse::<u64>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(0)), Some(Some(minor))) if minor < 19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert!(is_before_0_19("0.18.0") && is_before_0_19("0.17.2.dev0"));
        assert!(!is_before_0_19("0.19.1") && !is_before_0_19("1.0.0") && !is_before_0_19(""));
    }
}
