//! Memory of this process.

/// Returns the most memory that this process has had at once, in bytes; `None` where the system
/// does not say, which only Linux does.
///
/// # Examples
///
/// ```
/// if let Some(bytes) = sparse_eval::peak_memory_bytes() {
///     assert!(bytes > 1 << 20);
/// }
/// ```
pub fn peak_memory_bytes() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Parses the line `VmHWM:   1234 kB`.
fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_in_kibibytes() {
        assert_eq!(peak_in("VmPeak:\t 9 kB\nVmHWM:\t  12 kB\n"), Some(12 << 10));
        assert_eq!(peak_in("VmHWM: x kB"), None);
        assert_eq!(peak_in(""), None);
    }
}
