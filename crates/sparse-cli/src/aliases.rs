//! Command names of an earlier program, each of which is a command with options today.

use std::ffi::OsString;

/// Old names, and the arguments that replace each.
const ALIASES: [(&str, &[&str]); 4] = [
    ("svd-compress", &["compress", "--codec", "svd"]),
    ("svd-reconstruct", &["reconstruct"]),
    ("compress-lossy", &["compress", "--codec", "sparse-int8"]),
    ("reconstruct-lossy", &["reconstruct"]),
];

/// Replaces an old command name by its arguments of today, and returns a line that says so.
///
/// The rank of `svd-compress` becomes the setting of the codec. If the user chose a policy, it
/// replaces the one of the alias.
pub(crate) fn expand(args: Vec<OsString>) -> (Vec<OsString>, Option<String>) {
    let place = args
        .iter()
        .enumerate()
        .skip(1)
        .find(|(_, a)| !a.to_string_lossy().starts_with('-'))
        .map(|a| a.0);
    if let Some((args, note)) = place.and_then(|at| grouped(&args, at)) {
        return (args, Some(note));
    }
    let known =
        place.and_then(|at| Some((at, ALIASES.iter().find(|(name, _)| args[at] == **name)?)));
    let Some((at, (name, meaning))) = known else { return (args, None) };
    let mut rest: Vec<OsString> = args[at + 1..].to_vec();
    let mut meaning: Vec<String> = meaning.iter().map(|m| (*m).to_owned()).collect();
    let of_policy =
        ["--codec", "--policy", "--max-error", "--max-abs-error", "--max-ulps", "--target-size"];
    let chosen = rest.iter().any(|a| {
        let a = a.to_string_lossy();
        of_policy.iter().any(|p| a == *p || a.strip_prefix(p).is_some_and(|v| v.starts_with('=')))
    });
    if chosen {
        meaning.truncate(1);
    } else if *name == "svd-compress"
        && let Some(rank) = take_option(&mut rest, "--rank")
        && let Some(codec) = meaning.last_mut()
    {
        *codec = format!("{codec}={rank}");
    }
    let note = format!("note: `sparse {name}` is now `sparse {}`\n", meaning.join(" "));
    let mut out = args[..at].to_vec();
    out.extend(meaning.into_iter().map(OsString::from));
    out.extend(rest);
    (out, Some(note))
}

/// Replaces `delta compress` by `compress`, and `delta-dataset compress` by `dataset-compress`.
fn grouped(args: &[OsString], at: usize) -> Option<(Vec<OsString>, String)> {
    let (group, name) = (args.get(at)?.to_str()?, args.get(at + 1)?.to_str()?);
    let now = match (group, name) {
        ("delta", "compress" | "reconstruct" | "verify" | "info" | "estimate")
        | ("delta", "compress-adapter" | "export-adapter") => name.to_owned(),
        ("delta-dataset", "compress" | "reconstruct" | "estimate") => format!("dataset-{name}"),
        _ => return None,
    };
    let note = format!("note: `sparse {group} {name}` is now `sparse {now}`\n");
    let mut out = args.get(..at)?.to_vec();
    out.push(now.into());
    out.extend_from_slice(args.get(at + 2..)?);
    Some((out, note))
}

/// Removes `--name value` or `--name=value` from the arguments and returns the value.
fn take_option(args: &mut Vec<OsString>, name: &str) -> Option<String> {
    let joined = format!("{name}=");
    let at = args.iter().position(|a| a == name || a.to_string_lossy().starts_with(&joined))?;
    let first = args.remove(at).to_string_lossy().into_owned();
    match first.strip_prefix(&joined) {
        Some(value) => Some(value.to_owned()),
        None if at < args.len() => Some(args.remove(at).to_string_lossy().into_owned()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_old() {
        let expanded = |text: &str| {
            let (args, note) = expand(text.split(' ').map(OsString::from).collect());
            let args: Vec<String> = args.into_iter().map(|a| a.into_string().unwrap()).collect();
            (args.join(" "), note.is_some())
        };
        for (typed, meant) in [
            ("sparse svd-compress a b -o c", "sparse compress --codec svd a b -o c"),
            ("sparse svd-compress a b --rank 8 -o c", "sparse compress --codec svd=8 a b -o c"),
            (
                "sparse -q svd-compress a b --rank=64 -o c",
                "sparse -q compress --codec svd=64 a b -o c",
            ),
            (
                "sparse compress-lossy a b --max-error 0.1 -o c",
                "sparse compress a b --max-error 0.1 -o c",
            ),
            ("sparse reconstruct-lossy a b -o c", "sparse reconstruct a b -o c"),
            ("sparse delta compress a b --output c", "sparse compress a b --output c"),
            ("sparse -q delta estimate a b", "sparse -q estimate a b"),
            ("sparse delta-dataset compress a b -o c", "sparse dataset-compress a b -o c"),
        ] {
            assert_eq!(expanded(typed), (meant.to_owned(), true));
        }
        assert_eq!(
            expanded("sparse compress svd-compress b -o c"),
            ("sparse compress svd-compress b -o c".to_owned(), false)
        );
        assert!(!expanded("sparse delta b").1 && !expanded("sparse compress delta compress").1);
    }
}
