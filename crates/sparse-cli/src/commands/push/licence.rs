//! The licence of a delta: that of its base, unless another is given.

use super::opened::Facts;
use crate::args::{Push, is_licence};
use crate::failure::Failure;
use crate::session::Session;
use sparse::{Error, ErrorKind};
use sparse_core::{ByteSource, FileSource, open_file};
use sparse_open::Downloads;
use sparse_remote::{HubName, RepoKind, Selection, Url};

/// Longest card that is read, in bytes.
const MOST_CARD: u64 = 1 << 20;
/// Most abbreviations, and longest name or address, in bytes, that are taken from a card.
const MOST_IDS: usize = 8;
const MOST_TEXT: usize = 300;

/// Licence as the front matter of a card has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Licence {
    /// Abbreviations: one as a rule, none where it is not known.
    pub(super) ids: Vec<String>,
    /// Name and address, of a licence that has no abbreviation.
    pub(super) name: Option<String>,
    pub(super) link: Option<String>,
}

/// Finds the licence, and says why there is none.
///
/// # Errors
/// `Unavailable` when the base's card cannot be read now; `Cancelled`.
pub(super) fn find(
    session: &Session,
    args: &Push,
    facts: &Facts,
    notes: &mut Vec<String>,
) -> Result<Licence, Failure> {
    if let Some(id) = &args.license {
        return Ok(Licence { ids: vec![id.clone()], ..Licence::default() });
    }
    let mut without = |why: String| {
        notes.push(format!("the card states no licence, for {why}: give --license"));
        Ok(Licence::default())
    };
    let Some(base) = &facts.base else {
        return without("the delta names no base on the Hub".to_owned());
    };
    match card_of(session, base) {
        Ok(card) => match of_card(&card) {
            Some(mut licence) => {
                let endpoint = &session.opener().hub()?.settings().endpoint;
                licence.link = licence.link.and_then(|link| absolute(&link, base, endpoint));
                Ok(licence)
            }
            None => without(format!("the card of {} states none", base.id)),
        },
        // The licence is not lost because a server fails for a while.
        Err(Failure::Sparse(e)) if e.kind() == ErrorKind::Unavailable => {
            let text = format!("{}; or give the licence with --license", e.message());
            let place = e.file().unwrap_or(&base.id).to_owned();
            Err(Error::new(e.kind(), text).in_file(place).into())
        }
        Err(Failure::Sparse(e)) if e.kind() != ErrorKind::Cancelled => {
            without(format!("the card of {} cannot be read ({e})", base.id))
        }
        Err(failure) => Err(failure),
    }
}

/// Makes the address of a licence one for other repositories than the base's; nothing of what is
/// no address.
fn absolute(link: &str, base: &HubName, endpoint: &Url) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return Some(link.to_owned());
    }
    let file = link.trim_start_matches("./");
    if file.contains(':') || sparse_core::check_path(file).is_err() {
        return None;
    }
    let revision = base.revision.as_deref().unwrap_or("main");
    let parts = match base.kind {
        RepoKind::Model => &[&*base.id, "blob", revision, file][..],
        RepoKind::Dataset => &["datasets", &*base.id, "blob", revision, file],
    };
    Some(endpoint.with_path(parts.iter().copied()).to_string())
}

/// Reads the card of a repository.
fn card_of(session: &Session, name: &HubName) -> Result<String, Failure> {
    let mut whole = name.clone();
    whole.file = None;
    let card = Selection::Files(vec!["README.md".to_owned()]);
    let fetched =
        session.opener().hub()?.named(&whole).fetch(&card, &Downloads(&*session.progress));
    sparse::Observer::end(&*session.progress);
    let file = FileSource::new(open_file(fetched?.folder().join("README.md"))?)?;
    Ok(text_of(&file)?)
}

/// Reads a card as text, the begin of one that is very long.
pub(super) fn text_of(card: &dyn ByteSource) -> Result<String, Error> {
    let len = usize::try_from(card.byte_len().min(MOST_CARD)).unwrap_or(0);
    Ok(String::from_utf8_lossy(&card.bytes_at(0, len)?).into_owned())
}

/// Reads the licence from the front matter of a card.
fn of_card(card: &str) -> Option<Licence> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let front: Vec<&str> = lines.take_while(|line| line.trim_end() != "---").collect();
    let field = |name: &str| {
        let at = front.iter().position(|line| line.split(':').next() == Some(name))?;
        let value = front.get(at)?.split_once(':')?.1;
        Some((scalar(value), at))
    };
    let is_good = |c: char| !c.is_control() && !sparse_core::is_deceptive(c);
    let text = |name: &str| {
        let value = field(name)?.0;
        let is_text = !value.is_empty() && value.len() <= MOST_TEXT && value.chars().all(is_good);
        is_text.then_some(value)
    };
    let (value, at) = field("license")?;
    let ids: Vec<String> = match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        Some(list) => list.split(',').map(scalar).collect(),
        None if value.is_empty() => {
            let items = front.get(at + 1..)?.iter().map(|line| line.trim_start());
            items.map_while(|line| line.strip_prefix("- ")).map(scalar).collect()
        }
        None => vec![value],
    };
    let mut known = Vec::new();
    for id in ids.into_iter().take(MOST_IDS).map(|id| id.to_ascii_lowercase()) {
        if is_licence(&id) && id != "null" && !known.contains(&id) {
            known.push(id);
        }
    }
    let (name, link) = (text("license_name"), text("license_link"));
    (!known.is_empty()).then_some(Licence { ids: known, name, link })
}

/// Reads a value of one line, without quotation marks and comment.
fn scalar(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some((inner, _)) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.to_owned();
        }
    }
    text.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_remote::Location;

    #[test]
    fn licences_of_cards() {
        let ids = |card: &str| of_card(card).map(|licence| licence.ids.join(" "));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(ids("---\nlicense: mit\n---\n# x"), some("mit"));
        assert_eq!(
            ids("---\r\ntags:\r\n- a\r\nlicense: 'cc-by-4.0' # c\r\n---\r\n"),
            some("cc-by-4.0")
        );
        assert_eq!(ids("---\nlicense:\n- mit\n- apache-2.0\nx: y\n---"), some("mit apache-2.0"));
        assert_eq!(ids("---\nlicense: [mit, \"odc-by\"]\n---"), some("mit odc-by"));
        for none in [
            "",
            "license: mit",
            "---\ntags: []\n---\nlicense: mit",
            "---\nlicense:\n---",
            "---\nlicense: a b\n---",
            "---\nlicense: null\n---",
            "---\nx:\n  license: mit\n---",
        ] {
            assert_eq!(of_card(none), None, "{none}");
        }
        let many = format!("---\nlicense:\n{}- gpl\n---", "- MIT\n".repeat(5000));
        assert_eq!(ids(&many), some("mit"));
        let other = "---\nlicense: other\nlicense_name: llama2\nlicense_link: https://a/b#c\n---";
        let licence = of_card(other).unwrap();
        assert_eq!(licence.name.as_deref(), Some("llama2"));
        assert_eq!(licence.link.as_deref(), Some("https://a/b#c"));
        for odd in ["n".repeat(301), "a\u{202e}b".to_owned()] {
            let card = format!("---\nlicense: other\nlicense_name: {odd}\n---");
            assert_eq!(of_card(&card).unwrap().name, None);
        }
    }

    #[test]
    fn addresses_hold_in_other_repositories() {
        let endpoint = Url::parse("https://hub.example").unwrap();
        let link = |link: &str, base: &str| {
            let Ok(Location::Hub(base)) = Location::parse(base, RepoKind::Model) else { panic!() };
            absolute(link, &base, &endpoint)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(link("https://a/b", "org/base"), some("https://a/b"));
        for file in ["LICENSE", "./LICENSE"] {
            let whole = "https://hub.example/org/base/blob/0123/LICENSE";
            assert_eq!(link(file, "org/base@0123"), some(whole));
        }
        let dataset = "https://hub.example/datasets/org/d/blob/main/a/LICENSE";
        assert_eq!(link("a/LICENSE", "hf://datasets/org/d"), some(dataset));
        for bad in ["javascript:alert(1)", "../x", "/etc", "//host/x"] {
            assert_eq!(link(bad, "org/base"), None, "{bad}");
        }
    }
}
