//! Which tensors of a base an adapter changes, and how.

use super::experts::{Stack, find_stacks};
use super::values::{cast, invalid, is_float};
use sparse_core::{Result, TensorSource, TensorSpec};
use sparse_model::{Adapter, AdapterKind, AdapterModule, Architecture, Checkpoint};
use std::collections::BTreeMap;

/// What becomes of a tensor of the base: the steps in their order.
#[derive(Default)]
pub(super) struct Change {
    /// The adapter's tensor that takes its place.
    pub(super) start: Option<usize>,
    /// The adapter's tensor with new rows, and which they are.
    pub(super) rows: Option<(usize, Vec<u64>)>,
    /// What is added.
    pub(super) sum: Option<Sum>,
}

/// What is added to a tensor.
pub(super) enum Sum {
    /// The product of a module's factors, perhaps as a DoRA.
    Product(AdapterModule),
    /// The products of fused experts.
    Experts(Stack),
    /// A multiple of one of the adapter's tensors.
    Scaled(usize, f64),
}

impl Change {
    /// Returns true if nothing but another tensor takes the place of the base's.
    pub(super) fn is_replacement(&self) -> bool {
        self.sum.is_none() && self.rows.is_none()
    }
}

/// Finds the place of every part of the adapter.
///
/// # Errors
/// As [`Merger::check`](super::Merger::check).
pub(super) fn changes(base: &dyn Checkpoint, adapter: &Adapter) -> Result<BTreeMap<usize, Change>> {
    adapter.check()?;
    let architecture = Architecture::of(base)?;
    let mut changes: BTreeMap<usize, Change> = BTreeMap::new();
    let mut used = vec![false; adapter.modules().len()];
    for (tensor, entry) in base.tensors().iter().enumerate() {
        let name = base.location(tensor).map_or(&*entry.name, |l| l.name);
        let Some(module) = adapter.find(name, &entry.spec) else { continue };
        if let Some(used) =
            adapter.modules().iter().position(|m| m == module).and_then(|m| used.get_mut(m))
        {
            *used = true;
        }
        let module = module.placed_in(&entry.spec, architecture.is_in_out(name));
        add_module(base, adapter, name, module, tensor, &mut changes)?;
    }
    let rest: Vec<&AdapterModule> =
        adapter.modules().iter().zip(&used).filter(|(_, used)| !**used).map(|(m, _)| m).collect();
    for (tensor, stack) in find_stacks(base, adapter, &rest)? {
        changes.entry(tensor).or_default().sum = Some(Sum::Experts(stack));
    }
    for rows in adapter.rows() {
        let path = format!("{}.weight", rows.path);
        let tensor = find(base, &path).ok_or_else(|| invalid(NO_TENSOR).in_tensor(&*path))?;
        let (of_base, of_rows) =
            (&base.tensors()[tensor].spec, &adapter.model().tensors()[rows.tensor].spec);
        let height = of_base.shape().first().copied().unwrap_or(0);
        if of_base.shape().get(1..) != of_rows.shape().get(1..)
            || rows.rows.iter().any(|&row| row >= height)
        {
            let message = "the base has no such rows: was its vocabulary resized before training?";
            return Err(invalid(message).in_tensor(path));
        }
        changes.entry(tensor).or_default().rows = Some((rows.tensor, rows.rows.clone()));
    }
    let orphans = add_replacements(base, adapter, &architecture, &mut changes)?;
    if architecture.is_tied() {
        settle_ties(base, adapter, &orphans, &mut changes)?;
    } else if let Some((name, _)) = orphans.first() {
        return Err(invalid(NO_TENSOR).in_tensor(&**name));
    }
    Ok(changes)
}

const NO_TENSOR: &str = "the base has no tensor of this name and shape";

/// Adds a linear layer, a convolution or an embedding.
fn add_module(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    name: &str,
    module: AdapterModule,
    tensor: usize,
    changes: &mut BTreeMap<usize, Change>,
) -> Result<()> {
    if let Some(magnitude) = module.magnitude {
        let len = if module.transposed { module.columns } else { module.rows };
        let found = adapter.model().tensors()[magnitude].spec.storage_len();
        if found != len {
            let message = format!("the magnitudes are {found}, and not {len}");
            return Err(invalid(message).in_tensor(&*module.path));
        }
    } else if adapter.config().dora {
        return Err(invalid("a DoRA without magnitudes").in_tensor(&*module.path));
    }
    if let Some(bias) = module.bias {
        let path = name.strip_suffix(".weight").unwrap_or(name);
        let place = base.find(&format!("{path}.bias")).filter(|&t| {
            base.tensors()[t].spec.shape() == adapter.model().tensors()[bias].spec.shape()
        });
        let place = place.ok_or_else(|| {
            invalid(format!("the adapter has a bias for {path}, but the base has none"))
                .in_tensor(&*module.path)
        })?;
        changes.entry(place).or_default().sum = Some(Sum::Scaled(bias, module.scale));
    }
    changes.entry(tensor).or_default().sum = Some(Sum::Product(module));
    Ok(())
}

/// Adds the tensors that take the place of the base's; returns those for which it has none.
fn add_replacements(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    architecture: &Architecture,
    changes: &mut BTreeMap<usize, Change>,
) -> Result<Vec<(String, usize)>> {
    let mut orphans = Vec::new();
    for &tensor in adapter.rest() {
        let Some(name) = adapter.name_in_base(tensor) else { continue };
        let spec = &adapter.model().tensors()[tensor].spec;
        let Some(place) = find(base, &name) else {
            let path = name.strip_suffix(".weight").unwrap_or(&name);
            if !(architecture.is_tied() && Architecture::is_head(path)) {
                return Err(invalid(NO_TENSOR).in_tensor(name));
            }
            orphans.push((name, tensor));
            continue;
        };
        let of_base = &base.tensors()[place].spec;
        if is_taller(spec, of_base) {
            let message = format!(
                "it has {} rows where the base has {}: the vocabulary was resized, which is \
                 not merged here: resize the base first, or merge with PEFT",
                spec.shape().first().copied().unwrap_or(0),
                of_base.shape().first().copied().unwrap_or(0)
            );
            return Err(invalid(message).in_tensor(name));
        }
        if spec.shape() != of_base.shape() || !is_float(spec.dtype()) || !is_float(of_base.dtype())
        {
            return Err(invalid(NO_TENSOR).in_tensor(name));
        }
        let change = changes.entry(place).or_default();
        if let Some(other) = change.start.replace(tensor)
            && adapter.values(other)? != adapter.values(tensor)?
        {
            let message = "the adapter has two tensors for it, which differ";
            return Err(invalid(message).in_tensor(name));
        }
    }
    Ok(orphans)
}

/// Returns true if two tensors differ in their number of rows alone.
fn is_taller(a: &TensorSpec, b: &TensorSpec) -> bool {
    a.shape().len() == b.shape().len()
        && a.shape().len() > 1
        && a.shape().get(1..) == b.shape().get(1..)
        && a.shape().first() != b.shape().first()
}

/// Finds the base's tensor of this name, or the only one whose name ends in it or is its end.
fn find(base: &dyn Checkpoint, name: &str) -> Option<usize> {
    if let Some(tensor) = base.find(name) {
        return Some(tensor);
    }
    let tail =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|head| head.ends_with('.'));
    // What is left of a longer name has to say more than "weight".
    let mut similar = base.tensors().iter().enumerate().filter(|(_, t)| {
        tail(&t.name, name) || (t.name.matches('.').count() > 1 && tail(name, &t.name))
    });
    let (tensor, _) = similar.next()?;
    similar.next().is_none().then_some(tensor)
}

/// Makes the two tied tensors change together.
///
/// # Errors
/// `InvalidInput` where one of them changes and the other does not, or changes otherwise.
fn settle_ties(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    orphans: &[(String, usize)],
    changes: &mut BTreeMap<usize, Change>,
) -> Result<()> {
    let of_kind = |is: fn(&str) -> bool| -> Option<usize> {
        base.tensors().iter().position(|t| t.name.strip_suffix(".weight").is_some_and(is))
    };
    let is_tied_embedding = |path: &str| {
        Architecture::is_embedding(path) && !path.contains("posit") && !path.ends_with("wpe")
    };
    let (Some(input), output) = (of_kind(is_tied_embedding), of_kind(Architecture::is_head)) else {
        return match orphans.first() {
            Some((name, _)) => Err(invalid(NO_TENSOR).in_tensor(&**name)),
            None => Ok(()),
        };
    };
    let name = &base.tensors()[input].name;
    let one_sided = || {
        let message = "the input embedding and the output layer of this base are one tensor \
            (they are tied), and the adapter changes one of them: merge it with PEFT, into a \
            model whose layers are not tied";
        Err(invalid(message).in_tensor(&**name))
    };
    // Copies of what the base has change nothing.
    let both = [Some(input), output];
    for tensor in both.into_iter().flatten() {
        if let Some(change) = changes.get(&tensor)
            && change.is_replacement()
            && is_copy(base, adapter, tensor, change)?
        {
            changes.remove(&tensor);
        }
    }
    let adds = |c: &Change| match &c.sum {
        Some(Sum::Product(m)) => m.kind == AdapterKind::Embedding || Architecture::is_head(&m.path),
        _ => false,
    };
    if changes.values().any(adds) {
        return one_sided();
    }
    let changed = |tensor: Option<usize>| tensor.and_then(|t| changes.get(&t));
    let start = |tensor: Option<usize>| -> Result<Option<Vec<f32>>> {
        changed(tensor).and_then(|c| c.start).map(|t| adapter.values(t)).transpose()
    };
    let (of_input, of_output) = (start(Some(input))?, start(output)?);
    let orphan = orphans.first().map(|(_, tensor)| adapter.values(*tensor)).transpose()?;
    let agree = match (&of_input, &of_output, &orphan) {
        (a, b, None) if output.is_some() => a == b,
        (_, None, None) => true,
        (a, None, b) => a == b,
        _ => false,
    };
    // With one tensor in the file, a module that was trained whole is no longer tied in PEFT.
    let lone = output.is_none() && of_input.is_some() && orphan.is_none();
    if !agree || lone {
        return one_sided();
    }
    let rows = |tensor: Option<usize>| changed(tensor).and_then(|c| c.rows.clone());
    if let (Some(output), rows @ Some(_)) = (output, rows(Some(input))) {
        changes.entry(output).or_default().rows = rows;
    }
    Ok(())
}

/// Returns true if a change puts in place what is there already.
fn is_copy(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    tensor: usize,
    change: &Change,
) -> Result<bool> {
    let Some(start) = change.start else { return Ok(false) };
    let dtype = base.tensors()[tensor].spec.dtype();
    Ok(cast(adapter, start, dtype)? == *base.bytes(tensor)?)
}
