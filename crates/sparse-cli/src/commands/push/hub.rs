//! To a repository of the Hub.

use super::card::{Card, Fate, is_untouched};
use super::licence;
use super::opened::Opened;
use super::report::Body;
use crate::args::{OldCard, Push};
use crate::failure::Failure;
use crate::session::Session;
use sparse::{Error, ErrorKind, Observer, Overwrite};
use sparse_open::OpenObserver;
use sparse_remote::{FetchProgress, HubFile, HubName, HubRepo, PushFile, RepoKind};

/// Path of the card.
const CARD: &str = "README.md";

/// Publishes a delta and its card in one commit.
pub(super) fn push(
    session: &Session,
    args: &Push,
    mut name: HubName,
    opened: &Opened,
) -> Result<(), Failure> {
    let file = path_in(name.file.take(), &opened.name)?;
    name.revision = Some(branch(name.revision.take(), args)?);
    let whole = {
        let mut whole = name.clone();
        whole.revision = whole.revision.filter(|branch| branch != "main");
        whole.file = Some(file.clone());
        whole
    };
    let mut body = Body::new(opened, whole.to_string(), args);
    let licence = licence::find(session, args, &opened.facts, &mut body.notes)?;
    let hub = session.opener().hub()?;
    let endpoint = &hub.settings().endpoint;
    body.license = licence.ids.clone();
    body.url = Some(match name.kind {
        RepoKind::Model => endpoint.with_path([&*name.id]).to_string(),
        RepoKind::Dataset => endpoint.with_path(["datasets", &*name.id]).to_string(),
    });
    body.file = Some(file.clone());
    let repo = hub.named(&name);
    let there = match args.dry_run {
        true => Vec::new(),
        false => {
            let is_main = name.revision.as_deref() == Some("main");
            files_of((&repo, is_main), args.private, &mut body)?
        }
    };
    let is_other = |old: &HubFile| old.path().ends_with(".sparse") && old.path() != file;
    let is_only = !there.iter().any(is_other);
    let (facts, licence) = (&opened.facts, &licence);
    let card = Card { facts, licence, name: &name, file: &file }.text();
    if args.dry_run {
        body.card_text = Some(card);
        return body.tell(session);
    }
    let before = if body.created { None } else { repo.commit().ok() };
    body.card = fate(&repo, &there, (&card, &file), args.card)?;
    if !is_only && body.card == Fate::Kept {
        let e = format!("the repository has other deltas: this one is {whole}");
        body.notes.push(e);
    }
    let card = card.into_bytes();
    let mut files = vec![PushFile::new(&*file, &*opened.source)];
    match body.card {
        Fate::Created => files.push(PushFile::new(CARD, &card)),
        Fate::Replaced => files.push(PushFile::new(CARD, &card).replacing()),
        Fate::None | Fate::Kept | Fate::Unchanged => {}
    }
    let message = args.message.clone().unwrap_or_else(|| format!("Add {file} with sparse"));
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let pushed = repo.push(&files, &message, overwrite, &Sending(&*session.progress));
    session.progress.end();
    let commit = pushed?;
    body.changed = before.as_ref() != Some(&commit);
    body.commit = Some(commit);
    body.tell(session)
}

/// Returns where the delta goes: the file that was named, or the folder.
fn path_in(given: Option<String>, name: &str) -> Result<String, Failure> {
    let path = match given {
        Some(file) if file.ends_with(".sparse") => file,
        Some(folder) => format!("{folder}/{name}"),
        None => name.to_owned(),
    };
    sparse_core::check_output_path(&path)?;
    Ok(path)
}

/// Returns the branch, which may be named in two places.
fn branch(named: Option<String>, args: &Push) -> Result<String, Failure> {
    match (named, &args.revision) {
        (Some(named), Some(given)) if named != *given => {
            let e = format!("two branches are named, {named} and {given}: name one");
            Err(Failure::Usage(e))
        }
        (Some(named), _) => Ok(named),
        (None, Some(given)) => Ok(given.clone()),
        (None, None) => Ok("main".to_owned()),
    }
}

/// Lists what the branch has; creates the repository where it is missing.
fn files_of(
    (repo, is_main): (&HubRepo, bool),
    private: bool,
    body: &mut Body,
) -> Result<Vec<HubFile>, Failure> {
    match repo.files() {
        Ok(files) => {
            if private {
                let e = "the repository was there before: --private changes nothing";
                body.notes.push(e.to_owned());
            }
            return Ok(files);
        }
        // Only the main branch comes with a new repository.
        Err(e) if e.kind() == ErrorKind::NotFound && is_main => (),
        Err(e) => return Err(e.into()),
    }
    body.created = repo.create(private)?;
    // Without a commit yet, or with the first one of a new repository.
    Ok(Vec::new())
}

/// Decides about the card.
fn fate(
    repo: &HubRepo,
    there: &[HubFile],
    (card, file): (&str, &str),
    old: OldCard,
) -> Result<Fate, Error> {
    if !there.iter().any(|file| file.path() == CARD) {
        return Ok(Fate::Created);
    }
    let has = super::licence::text_of(&repo.open(CARD)?)?;
    Ok(match old {
        _ if has == card => Fate::Unchanged,
        // Ours, of what this file was before.
        _ if is_untouched(&has, file) => Fate::Replaced,
        OldCard::Keep => Fate::Kept,
        OldCard::Replace => Fate::Replaced,
    })
}

/// Progress of what is sent.
struct Sending<'a>(&'a dyn OpenObserver);

impl FetchProgress for Sending<'_> {
    fn plan(&self, files: usize, bytes: u64) {
        if files > 0 {
            self.0.begin("uploading", bytes);
        }
    }

    fn advance(&self, _file: &str, bytes: u64) {
        self.0.advance(bytes);
    }

    fn note(&self, text: &str) {
        self.0.note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let path = |given: Option<&str>| path_in(given.map(str::to_owned), "my.sparse").unwrap();
        assert_eq!(path(None), "my.sparse");
        assert_eq!(path(Some("a/b.sparse")), "a/b.sparse");
        assert_eq!(path(Some("a/b")), "a/b/my.sparse");
        for bad in ["..", "a\nb", "a\u{202e}b", "nul"] {
            assert!(path_in(Some(bad.to_owned()), "my.sparse").is_err(), "{bad:?}");
        }
    }
}
