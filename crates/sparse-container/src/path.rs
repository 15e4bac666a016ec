//! Paths that a delta may name.

use sparse_core::{Error, Result};

/// Checks that no two of `paths` are the same and none is the folder of another.
///
/// # Errors
/// `Corrupt`, naming the paths.
pub fn check_distinct(mut paths: Vec<&str>) -> Result<()> {
    // In this order a folder comes right before what it contains, so that looking at neighbours is
    // enough.
    paths.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
    for pair in paths.windows(2) {
        let [a, b] = pair else { continue };
        if let Some(rest) = b.strip_prefix(a) {
            if rest.is_empty() {
                return Err(Error::corrupt(format!("path {a:?} is listed twice")));
            }
            if rest.starts_with('/') {
                return Err(Error::corrupt(format!("path {a:?} is also the folder of {b:?}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts() {
        check_distinct(vec!["a-b", "a/b", "a/c", "ab", "A/b"]).unwrap();
        assert!(check_distinct(vec!["a", "b", "a"]).is_err());
        assert!(check_distinct(vec!["a", "a-b", "a/b"]).is_err());
        assert!(check_distinct(vec!["x/a/b/c", "x/a-b", "x/a"]).is_err());
    }
}
