//! Patterns of names.

/// Returns true if `name` matches `pattern`.
///
/// In the pattern, `*` stands for any text and `?` for one character.
pub fn matches(pattern: &str, name: &str) -> bool {
    // The usual search, which goes back to the last `*` only, so that no pattern takes more than
    // (pattern x name) steps.
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, n));
                p += 1;
            }
            Some(&want) if want == '?' || want == c => {
                p += 1;
                n += 1;
            }
            _ => match &mut back {
                Some((after, from)) => {
                    *from += 1;
                    (p, n) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|&c| c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*.bias", "layer.0.bias", true),
            ("*.bias", "layer.0.bias2", false),
            ("layer.?.w", "layer.1.w", true),
            ("layer.?.w", "layer.11.w", false),
            ("*a*b", "xaab", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
