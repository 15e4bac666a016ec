//! What the target's tensors are called.

use sparse_container::{EntryKind, FileRecord, Index};
use sparse_core::{Error, Result};
use std::collections::HashMap;

/// Returns the target's tensors by unique names, sorted.
///
/// With the indices of their entries.
pub(super) fn names(index: &Index) -> Result<Vec<(String, u32)>> {
    // Plain name, file, entry. What several files share is the tensor of one of them: the others
    // are copies of that file, under names that no file of tensors has.
    let mut tensors = Vec::new();
    let mut in_files = vec![false; index.entries.len()];
    let of_tensors = |file: &&FileRecord| file.path.ends_with(".safetensors");
    let others = index.files.iter().filter(|file| !of_tensors(file));
    for file in index.files.iter().filter(of_tensors).chain(others) {
        for &id in &file.parts {
            let entry = index.entries.get(id as usize).filter(|e| e.kind == EntryKind::Tensor);
            if let (Some(entry), Some(seen)) = (entry, in_files.get_mut(id as usize))
                && !std::mem::replace(seen, true)
            {
                tensors.push((entry.name.clone(), Some(&*file.path), id));
            }
        }
    }
    for ((id, entry), _) in (0u32..).zip(&index.entries).zip(&in_files).filter(|(_, seen)| !**seen)
    {
        if entry.kind == EntryKind::Tensor {
            tensors.push((entry.name.clone(), None, id));
        }
    }
    // A qualified name may, in theory, be the plain name of another tensor, which is then qualified
    // too.
    loop {
        let mut count: HashMap<&str, usize> = HashMap::with_capacity(tensors.len());
        for (name, ..) in &tensors {
            *count.entry(name).or_default() += 1;
        }
        let twice: Vec<bool> = tensors
            .iter()
            .map(|(name, ..)| count.get(name.as_str()).is_some_and(|&n| n > 1))
            .collect();
        if !twice.contains(&true) {
            break;
        }
        let mut changed = false;
        for ((name, file, _), _) in tensors.iter_mut().zip(&twice).filter(|(_, twice)| **twice) {
            if let Some(file) = file.take() {
                *name = format!("{file}:{name}");
                changed = true;
            }
        }
        if !changed {
            return Err(Error::corrupt("two tensors have the same name and file"));
        }
    }
    let mut names: Vec<(String, u32)> =
        tensors.into_iter().map(|(name, _, id)| (name, id)).collect();
    names.sort();
    Ok(names)
}
