//! The tensors of a file that `torch.save` wrote: a zip archive of a pickle and its storages.
//!
//! The pickle's records of storages and of views into them are read, and nothing else of it.

use super::pickle::{Kind, MAX_PICKLE_BYTES, Pickle, Value};
use super::zip::Zip;
use crate::header::HeaderTensor;
use sparse_core::{ByteSource, Dtype, TensorSpec};
use std::collections::{BTreeMap, HashSet};

/// Longest name that is made of the keys on the way to a tensor, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// Most bytes of such names that are held at once.
const MAX_NAMES_BYTES: usize = 64 << 20;

/// Most dimensions of a view.
const MAX_DIMENSIONS: usize = 64;

/// A storage is taken as its views if at most one in so many of its bytes is in none.
const MAX_UNUSED: u64 = 16;

/// View into a storage, as the pickle has it.
struct View {
    name: String,
    /// First element, and elements, if they lie together.
    range: Option<(u64, u64)>,
    /// Shape in the order in which the elements lie.
    shape: Vec<u64>,
    dtype: Dtype,
}

/// Reads the tensors of `file`, in the order of the pickle; `None` if it is no such file.
pub(super) fn tensors(file: &dyn ByteSource) -> Option<Vec<HeaderTensor>> {
    let zip = Zip::open(file)?;
    let prefix = zip.names().filter_map(|n| n.strip_suffix("/data.pkl")).min_by_key(|n| n.len())?;
    let member = |name: &str| zip.range(&format!("{prefix}/{name}"));
    if let Some(order) = member("byteorder")
        && file.bytes_at(order.start, 6).ok().as_deref() != Some(b"little")
    {
        return None;
    }
    let range = member("data.pkl").filter(|r| r.end - r.start <= MAX_PICKLE_BYTES)?;
    let bytes = file.bytes_at(range.start, usize::try_from(range.end - range.start).ok()?).ok()?;
    let pickle = Pickle::parse(&bytes)?;
    let mut found = Vec::new();
    for (key, views) in storages(&pickle)? {
        let Some(range) = member(&format!("data/{key}")) else { continue };
        let len = range.end - range.start;
        found.extend(split(views, len).into_iter().map(|mut tensor| {
            tensor.offset += range.start;
            tensor
        }));
    }
    Some(found)
}

/// Collects the views of each storage, by the storage's key.
fn storages(pickle: &Pickle<'_>) -> Option<BTreeMap<String, Vec<View>>> {
    let mut storages: BTreeMap<String, Vec<View>> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut open = vec![(pickle.root, String::new())];
    let mut held = 0;
    while let Some((value, name)) = open.pop() {
        held -= name.len();
        if let Some((key, view)) = tensor(pickle, value, &name) {
            storages.entry(key).or_default().push(view);
            continue;
        }
        let (Value::Node(number), Some(node)) = (value, pickle.node(value)) else { continue };
        if !seen.insert(number) {
            continue;
        }
        let mut children: Vec<(Value, String)> = Vec::new();
        if let Kind::Call { callee, args, state } = node.kind {
            // A parameter's first argument is its tensor.
            let of_torch = pickle.global(callee).filter(|g| g.0 == "torch._utils");
            let args = match of_torch.filter(|g| g.1.starts_with("_rebuild_parameter")) {
                Some(_) => pickle.item(args, 0)?,
                None => args,
            };
            children.extend([(args, name.clone()), (state, name.clone())]);
        }
        for &(key, item) in &node.items {
            if !matches!(item, Value::Node(_)) {
                continue;
            }
            let key = match key {
                Value::Int(number) => number.to_string(),
                key => pickle.text(key).unwrap_or_default().to_owned(),
            };
            let name = match (name.is_empty(), key.is_empty()) {
                (true, _) => key,
                (_, true) => name.clone(),
                _ => format!("{name}.{key}"),
            };
            if name.len() <= MAX_NAME_BYTES {
                children.push((item, name));
            }
        }
        held += children.iter().map(|c| c.1.len()).sum::<usize>();
        if held > MAX_NAMES_BYTES {
            return None;
        }
        open.extend(children.into_iter().rev());
    }
    Some(storages)
}

/// Reads a value that is a tensor: its storage's key, and the view.
fn tensor(pickle: &Pickle<'_>, value: Value, name: &str) -> Option<(String, View)> {
    let Kind::Call { mut callee, mut args, .. } = pickle.node(value)?.kind else { return None };
    // A subclass of the tensor: what makes the tensor, and its arguments.
    if let ("torch._tensor", "_rebuild_from_type_v2") = pickle.global(callee)? {
        (callee, args) = (pickle.item(args, 0)?, pickle.item(args, 2)?);
    }
    let ("torch._utils", function) = pickle.global(callee)? else { return None };
    let with_dtype = match function {
        "_rebuild_tensor" | "_rebuild_tensor_v2" => false,
        "_rebuild_tensor_v3" => true,
        // Its first argument is the tensor, which is found on the way down.
        _ => return None,
    };
    let Kind::Persistent(storage) = pickle.node(pickle.item(args, 0)?)?.kind else { return None };
    if pickle.text(pickle.item(storage, 0)?)? != "storage" {
        return None;
    }
    let key = match pickle.item(storage, 2)? {
        Value::Int(number) => number.to_string(),
        key => pickle.text(key)?.to_owned(),
    };
    let dtype = if with_dtype {
        dtype_of(pickle.global(pickle.item(args, 6)?)?)?
    } else {
        storage_dtype(pickle.global(pickle.item(storage, 1)?)?)?
    };
    let offset = natural(pickle.item(args, 1)?)?;
    let (shape, strides) =
        (numbers(pickle, pickle.item(args, 2)?)?, { numbers(pickle, pickle.item(args, 3)?)? });
    if shape.len() != strides.len() {
        return None;
    }
    let mut dimensions: Vec<(u64, u64)> = strides.into_iter().zip(shape).collect();
    let count = dimensions.iter().try_fold(1u64, |n, d| n.checked_mul(d.1))?;
    if !is_dense(&dimensions) {
        // The order in which the elements lie, if they lie together at all.
        dimensions.sort_by_key(|d| std::cmp::Reverse(d.0));
    }
    let range = (is_dense(&dimensions) && count > 0).then_some((offset, count));
    let shape = dimensions.into_iter().map(|d| d.1).collect();
    Some((key, View { name: name.to_owned(), range, shape, dtype }))
}

/// Returns true if elements of these strides and lengths lie together, the last dimension's next to
/// each other.
fn is_dense(dimensions: &[(u64, u64)]) -> bool {
    let mut step = 1u64;
    dimensions.iter().rev().all(|&(stride, len)| {
        let fits = len == 1 || stride == step;
        step = step.saturating_mul(len);
        fits
    })
}

/// Cuts a storage of `len` bytes into its views, or takes it as one tensor; places are relative to
/// its first byte.
fn split(mut views: Vec<View>, len: u64) -> Vec<HeaderTensor> {
    let Some(first) = views.first() else { return Vec::new() };
    let (name, dtype) = (first.name.clone(), first.dtype);
    let width = u64::from(dtype.bits() / 8).max(1);
    let one_type = views.iter().all(|v| v.dtype == dtype);
    views.retain(|v| v.range.is_some());
    // The longer of two that begin at the same place; of equal ones the first.
    views.sort_by_key(|v| v.range.map(|(from, count)| (from, std::cmp::Reverse(count))));
    let (mut tensors, mut end, mut used) = (Vec::new(), 0, 0);
    for view in views.into_iter().filter(|_| one_type) {
        let Some((from, count)) = view.range else { continue };
        let (Some(offset), Some(bytes)) = (from.checked_mul(width), count.checked_mul(width))
        else {
            continue;
        };
        let Some(to) = offset.checked_add(bytes).filter(|&to| offset >= end && to <= len) else {
            continue;
        };
        let Ok(spec) = TensorSpec::new(dtype, view.shape) else { continue };
        (end, used) = (to, used + bytes);
        tensors.push(HeaderTensor { name: view.name, spec, offset });
    }
    if len - used <= len / MAX_UNUSED {
        return tensors;
    }
    let spec = if len.is_multiple_of(width) {
        TensorSpec::new(dtype, [len / width])
    } else {
        TensorSpec::new(Dtype::U8, [len])
    };
    spec.into_iter().map(|spec| HeaderTensor { name: name.clone(), spec, offset: 0 }).collect()
}

fn natural(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// Reads a tuple of numbers, or a `torch.Size` of one.
fn numbers(pickle: &Pickle<'_>, value: Value) -> Option<Vec<u64>> {
    let node = pickle.node(value)?;
    let items = match node.kind {
        Kind::Collection => &node.items,
        Kind::Call { args, .. } => &pickle.node(pickle.item(args, 0)?)?.items,
        _ => return None,
    };
    if items.len() > MAX_DIMENSIONS {
        return None;
    }
    items.iter().map(|item| natural(item.1)).collect()
}

/// Returns the element type of a class of storages.
fn storage_dtype((module, class): (&str, &str)) -> Option<Dtype> {
    if !matches!(module, "torch" | "torch.storage" | "torch.cuda") {
        return None;
    }
    Some(match class {
        "BoolStorage" => Dtype::Bool,
        "ByteStorage" | "UntypedStorage" | "QUInt8Storage" => Dtype::U8,
        "CharStorage" | "QInt8Storage" => Dtype::I8,
        "ShortStorage" => Dtype::I16,
        "IntStorage" | "QInt32Storage" => Dtype::I32,
        "LongStorage" => Dtype::I64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "ComplexFloatStorage" => Dtype::C64,
        _ => return None,
    })
}

/// Returns the element type that torch gives a name.
fn dtype_of((module, name): (&str, &str)) -> Option<Dtype> {
    if module != "torch" {
        return None;
    }
    Some(match name {
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        _ => return None,
    })
}
