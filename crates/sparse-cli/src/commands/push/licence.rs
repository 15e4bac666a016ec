//! The licence of a delta: that of its base, unless another is given.

use super::opened::Facts;
use crate::args::{Push, is_licence};
use crate::failure::Failure;
use crate::session::Session;
use sparse::{Error, ErrorKind};
use sparse_core::{ByteSource, FileSource, open_file};
use sparse_remote::{HubName, Selection};

/// Longest card that is read, in bytes.
const MOST_CARD: u64 = 1 << 20;

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
/// `Cancelled`.
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
            Some(licence) => Ok(licence),
            None => without(format!("the card of {} states none", base.id)),
        },
        Err(Failure::Sparse(e)) if e.kind() != ErrorKind::Cancelled => {
            without(format!("the card of {} cannot be read ({e})", base.id))
        }
        Err(failure) => Err(failure),
    }
}

/// Reads the card of a repository.
fn card_of(session: &Session, name: &HubName) -> Result<String, Failure> {
    let mut whole = name.clone();
    whole.file = None;
    let card = Selection::Files(vec!["README.md".to_owned()]);
    let fetched = session.hub()?.named(&whole).fetch(&card, &session.progress);
    sparse::Observer::end(&session.progress);
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
    let text = |name: &str| field(name).map(|(value, _)| value).filter(|value| !value.is_empty());
    let (value, at) = field("license")?;
    let ids: Vec<String> = match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        Some(list) => list.split(',').map(scalar).collect(),
        None if value.is_empty() => {
            let items = front.get(at + 1..)?.iter().map(|line| line.trim_start());
            items.map_while(|line| line.strip_prefix("- ")).map(scalar).collect()
        }
        None => vec![value],
    };
    let ids: Vec<String> = ids.into_iter().filter(|id| is_licence(id)).collect();
    let (name, link) = (text("license_name"), text("license_link"));
    (!ids.is_empty()).then_some(Licence { ids, name, link })
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
            "---\nx:\n  license: mit\n---",
        ] {
            assert_eq!(of_card(none), None, "{none}");
        }
        let other = "---\nlicense: other\nlicense_name: llama2\nlicense_link: https://a/b#c\n---";
        let licence = of_card(other).unwrap();
        assert_eq!(licence.name.as_deref(), Some("llama2"));
        assert_eq!(licence.link.as_deref(), Some("https://a/b#c"));
    }
}
