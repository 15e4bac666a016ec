//! docs/choose-your-layer.md shows the examples as they are.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

/// After `<!-- program: PATH -->`, a block with the file at PATH, but for its test. To update the
/// page, run this with `UPDATE_DOCS=1`.
#[test]
fn programs_are_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("docs/choose-your-layer.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (mut want, mut programs, mut lines) = (String::new(), 0, page.lines().peekable());
    while let Some(line) = lines.next() {
        want += &format!("{line}\n");
        let Some(program) =
            line.strip_prefix("<!-- program: ").and_then(|l| l.strip_suffix(" -->"))
        else {
            continue;
        };
        programs += 1;
        let code = std::fs::read_to_string(root.join(program)).unwrap();
        let shown = code.split("\n#[test]").next().unwrap().trim_end();
        want += &format!("```rust\n{shown}\n```\n");
        if lines.next_if(|l| l.starts_with("```")).is_some() {
            while lines.next().is_some_and(|l| l != "```") {}
        }
    }
    assert_eq!(programs, 5);
    if page != want && std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(&path, want).unwrap();
    }
    assert!(page == want, "docs/choose-your-layer.md shows other programs than the examples are");
}
