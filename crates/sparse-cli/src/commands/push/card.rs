//! The card of a delta: README.md, for people and for the Hub.

use super::licence::Licence;
use super::opened::Facts;
use crate::human;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sparse_remote::{HubName, RepoKind};
use std::fmt::Write;

/// What became of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// There is none where the delta went.
    None,
    /// It is new.
    Created,
    /// It replaced another.
    Replaced,
    /// Another stayed.
    Kept,
    /// The same was there.
    Unchanged,
}

impl Fate {
    /// Says it to a person.
    pub(super) fn sentence(self) -> Option<&'static str> {
        match self {
            Fate::None => None,
            Fate::Created => Some("README.md is new"),
            Fate::Replaced => Some("README.md was replaced"),
            Fate::Kept => Some("README.md was kept, for it is another: --card replace replaces it"),
            Fate::Unchanged => Some("README.md was there already"),
        }
    }
}

/// Everything that a card tells.
pub(super) struct Card<'a> {
    pub(super) facts: &'a Facts,
    pub(super) licence: &'a Licence,
    /// Repository and file.
    pub(super) name: &'a HubName,
    pub(super) file: &'a str,
}

impl Card<'_> {
    /// Writes the card in Markdown.
    pub(super) fn text(&self) -> String {
        let mut out = self.front_matter();
        let facts = self.facts;
        let title = self.name.id.rsplit('/').next().unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(out, "\n# {title}\n\n{}\n", self.introduction());
        if let Some(certificate) = &facts.certificate {
            let _ = write!(
                out,
                "\nSomething is lost, within what the delta certifies: {certificate}. ULP are \
                 units in the last place of a weight.\n"
            );
        }
        let whole = match (facts.is_dataset, facts.is_adapter) {
            (true, _) => "the dataset, decoded",
            (false, true) => "the adapter",
            (false, false) => "the full model",
        };
        let size = |bytes: u64| format!("{} ({bytes} bytes)", human::bytes(bytes));
        let ratio = human::ratio_text(human::ratio(facts.target_bytes, facts.delta_bytes));
        let _ = write!(
            out,
            "\n| | size |\n|---|---|\n| this delta | {} |\n| {whole} | {} |\n| ratio | {ratio} |\n",
            size(facts.delta_bytes),
            size(facts.target_bytes),
        );
        let _ = write!(
            out,
            "\n## Restore\n\n```sh\n{}\n```\n\nEvery checksum is compared on the way{}.\n",
            self.lines().join("\n"),
            if facts.needs_base { ", and a wrong base is refused" } else { "" },
        );
        let _ = write!(
            out,
            "\n## Digests\n\n| SHA-256 of | |\n|---|---|\n| `{}` | `{}` |\n",
            code(self.file),
            facts.sha256
        );
        if let Some(content) = &facts.content {
            let _ = writeln!(out, "| what is restored (`--expect-sha256`) | `{content}` |");
        }
        sealed(out, self.file)
    }

    fn front_matter(&self) -> String {
        let mut out = "---\n".to_owned();
        let facts = self.facts;
        let mut field = |name: &str, value: &str| {
            let _ = writeln!(out, "{name}: {}", scalar(value));
        };
        match (&facts.base, facts.is_dataset) {
            (Some(base), false) => {
                field("base_model", &base.id);
                let relation = if facts.is_adapter { "adapter" } else { "finetune" };
                field("base_model_relation", relation);
            }
            (Some(base), true) => field("source_datasets", &base.id),
            (None, _) => {}
        }
        if !facts.is_dataset {
            field("library_name", "sparse");
        }
        match self.licence.ids.as_slice() {
            [] => {}
            [only] => field("license", only),
            several => {
                let _ = writeln!(out, "license:");
                for id in several {
                    let _ = writeln!(out, "- {}", scalar(id));
                }
            }
        }
        for (name, value) in
            [("license_name", &self.licence.name), ("license_link", &self.licence.link)]
        {
            if let Some(value) = value {
                let _ = writeln!(out, "{name}: {}", scalar(value));
            }
        }
        out + "tags:\n- sparse\n- delta\n---\n"
    }

    fn introduction(&self) -> String {
        let facts = self.facts;
        let file = code(self.file);
        if facts.is_adapter {
            let base = self.base().map(|base| format!(" of {base}")).unwrap_or_default();
            let how = self.how_well();
            return format!("`{file}` holds an adapter{base}. `sparse` restores it{how}.");
        }
        let what = if facts.is_dataset { "dataset" } else { "fine-tuned model" };
        let Some(base) = self.base() else {
            return match facts.needs_base {
                true => format!(
                    "`{file}` is a delta: it holds a {what} as its difference from a base, which \
                     is not on the Hub and is needed to restore it. `sparse` restores it{}.",
                    self.how_well()
                ),
                false => format!(
                    "`{file}` holds a {what}, compressed without a base. `sparse` restores it{}.",
                    self.how_well()
                ),
            };
        };
        format!(
            "`{file}` is a delta: it holds a {what} as its difference from {base}. With that base, \
             `sparse` restores it{}.",
            self.how_well()
        )
    }

    /// Writes the base as a link, with its commit.
    fn base(&self) -> Option<String> {
        let base = self.facts.base.as_ref()?;
        // From the root, so that it holds on a mirror as it does on the Hub.
        let folder = match base.kind {
            RepoKind::Model => "",
            RepoKind::Dataset => "/datasets",
        };
        let commit = base.revision.as_deref();
        let commit = commit.map(|commit| format!(" at commit `{}`", code(commit)));
        Some(format!("[{0}]({folder}/{0}){1}", base.id, commit.unwrap_or_default()))
    }

    fn how_well(&self) -> &'static str {
        match (self.facts.certificate.is_some(), self.facts.is_exact) {
            (true, _) => " as nearly as the delta certifies",
            (false, true) => " bit for bit",
            (false, false) => " with the same values in every row",
        }
    }

    /// Returns the lines that restore it.
    fn lines(&self) -> Vec<String> {
        let facts = self.facts;
        // With its file: the repository may get other deltas.
        let mut name = self.name.clone();
        name.revision = name.revision.filter(|branch| branch != "main");
        name.file = Some(self.file.to_owned());
        let delta = word(&name.to_string());
        let base = match (&facts.base, facts.needs_base || facts.is_adapter) {
            // At its commit, so that the line holds for as long as that is there.
            (Some(base), _) => Some(word(&short(base))),
            (None, true) => Some("./base".to_owned()),
            (None, false) => None,
        };
        let mut lines = Vec::new();
        if facts.is_adapter {
            lines.push(format!("sparse reconstruct {delta} -o ./adapter"));
            lines.push("# or merged into its base:".to_owned());
        }
        match (facts.is_dataset, &base) {
            (true, Some(base)) => {
                lines.push(format!("sparse dataset-reconstruct {delta} --base {base} -o ./data"));
            }
            (false, Some(base)) => {
                lines.push(format!("sparse reconstruct {base} {delta} -o ./model"));
            }
            (_, None) => {}
        }
        let recorded = facts.base.is_some() && !facts.is_adapter;
        if recorded && base.is_some() {
            lines.push("# or with the base that the delta records:".to_owned());
        }
        match facts.is_dataset {
            true if recorded => lines.push(format!("sparse dataset-reconstruct {delta} -o ./data")),
            false if recorded || base.is_none() => {
                lines.push(format!("sparse reconstruct {delta} -o ./model"));
            }
            _ => {}
        }
        lines
    }
}

/// What the last line of a card begins and ends with; pages do not show it.
const SEAL: (&str, &str) = ("<!-- sparse push of ", " -->\n");

/// Adds a line by which a later push of `file` sees that nobody changed the card.
fn sealed(text: String, file: &str) -> String {
    let digest: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let seal = format!("{}{}: {digest}{}", SEAL.0, code(file).replace("--", "__"), SEAL.1);
    text + &seal
}

/// Returns true for a card that [`Card::text`] wrote for `file`, and that nobody changed.
pub(super) fn is_untouched(card: &str, file: &str) -> bool {
    let text = card.rfind(SEAL.0).and_then(|at| card.get(..at));
    text.is_some_and(|text| sealed(text.to_owned(), file) == card)
}

/// Writes a value of front matter.
fn scalar(text: &str) -> String {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"-._/+".contains(&b);
    let odd = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_plain = text.bytes().all(word)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !odd.contains(&&*text.to_ascii_lowercase());
    // JSON is YAML.
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// Makes a name fit for text between backquotes, in a line of a table.
fn code(text: &str) -> String {
    human::plain(text).replace(['`', '|'], "?")
}

/// Writes a name as people type it.
fn short(name: &HubName) -> String {
    let full = name.to_string();
    let full = full.strip_prefix("hf://").unwrap_or(&full);
    full.strip_prefix("datasets/").unwrap_or(full).to_owned()
}

/// Makes a name one word of a shell.
fn word(text: &str) -> String {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._/:@%+=,".contains(&b);
    if text.bytes().all(good) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            is_dataset: false,
            is_adapter: false,
            needs_base: true,
            base: HubName::parse("org/base@0123", RepoKind::Model),
            delta_bytes: 1_000,
            target_bytes: 8_000,
            sha256: "ab".repeat(32),
            content: None,
            certificate: None,
            is_exact: true,
        }
    }

    fn card(facts: &Facts) -> String {
        let licence = Licence { ids: vec!["mit".to_owned()], ..Licence::default() };
        let kind = if facts.is_dataset { RepoKind::Dataset } else { RepoKind::Model };
        let name = HubName::parse("me/mine", kind).unwrap();
        let file = "my.sparse";
        Card { facts, licence: &licence, name: &name, file }.text()
    }

    #[test]
    fn a_model() {
        let text = card(&facts());
        for part in [
            "---\nbase_model: org/base\nbase_model_relation: finetune\nlibrary_name: sparse\n\
             license: mit\ntags:\n- sparse\n- delta\n---\n",
            "[org/base](/org/base) at commit `0123`",
            "bit for bit",
            "| this delta | 1.00 kB (1000 bytes) |",
            "| ratio | 8.00x |",
            "sparse reconstruct org/base@0123 hf://me/mine/my.sparse -o ./model\n",
            "\nsparse reconstruct hf://me/mine/my.sparse -o ./model\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let lossy = Facts { certificate: Some("error 1 %".to_owned()), ..facts() };
        let text = card(&lossy);
        assert!(text.contains("error 1 %") && !text.contains("bit for bit"), "{text}");
        assert!(is_untouched(&text, "my.sparse") && !is_untouched(&text, "other.sparse"));
        assert!(!is_untouched(&text.replace("1 %", "0 %"), "my.sparse"));
        assert!(!is_untouched("# mine\n", "my.sparse"));
    }

    #[test]
    fn datasets_adapters_and_bases_elsewhere() {
        let base = HubName::parse("squad", RepoKind::Dataset);
        let text = card(&Facts { is_dataset: true, base, ..facts() });
        assert!(text.contains("source_datasets: squad\n") && !text.contains("library_name"));
        assert!(
            text.contains("dataset-reconstruct hf://datasets/me/mine/my.sparse --base squad"),
            "{text}"
        );
        assert!(
            text.contains("dataset-reconstruct hf://datasets/me/mine/my.sparse -o ./data"),
            "{text}"
        );
        let text = card(&Facts { is_adapter: true, needs_base: false, ..facts() });
        for part in [
            "base_model_relation: adapter",
            "`my.sparse` holds an adapter of [org/base](/org/base) at commit",
            "| the adapter | 8.00 kB",
            "\nsparse reconstruct hf://me/mine/my.sparse -o ./adapter\n# or merged into its base:\n\
             sparse reconstruct org/base@0123 hf://me/mine/my.sparse -o ./model\n```\n\n\
             Every checksum is compared on the way.\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = card(&Facts { base: None, ..facts() });
        assert!(
            !text.contains("base_model")
                && text.contains("reconstruct ./base hf://me/mine/my.sparse")
        );
        let text = card(&Facts { base: None, needs_base: false, ..facts() });
        assert!(
            text.contains("```sh\nsparse reconstruct hf://me/mine/my.sparse -o ./model\n```"),
            "{text}"
        );
    }

    #[test]
    fn values_of_front_matter() {
        for plain in ["mit", "org/name", "apache-2.0"] {
            assert_eq!(scalar(plain), plain);
        }
        for (odd, quoted) in [("no", "\"no\""), ("1e5", "\"1e5\""), ("a: b", "\"a: b\"")] {
            assert_eq!(scalar(odd), quoted);
        }
        assert_eq!(scalar("a\n---\nb"), r#""a\n---\nb""#);
        assert_eq!(word("hf://a/b c'd"), "'hf://a/b c'\\''d'");
    }
}
