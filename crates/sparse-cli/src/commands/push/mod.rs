//! `sparse push`: a delta is published, on the Hub with a card.
//!
//! * `opened`: the delta, checked, and the facts that its card tells.
//! * `licence`: what it may be used for, by the card of its base.
//! * `card`: the text of the card.
//! * `hub`, `store`: where it goes.

mod card;
mod hub;
mod licence;
mod opened;
mod store;

use crate::args::Push;
use crate::failure::Failure;
use crate::human;
use crate::session::Session;
use opened::Opened;
use serde::Serialize;
use sparse::Error;
use sparse_remote::{Location, RepoKind};
use std::fmt::Write;

/// What is said of a delta that was published.
#[derive(Serialize)]
struct Body {
    delta: String,
    destination: String,
    /// Page of the repository.
    url: Option<String>,
    /// Path inside the repository.
    file: Option<String>,
    commit: Option<String>,
    /// Whether the repository is new.
    created: bool,
    /// Whether anything was sent that was not there as it is.
    changed: bool,
    dry_run: bool,
    delta_bytes: u64,
    target_bytes: u64,
    ratio: Option<f64>,
    sha256: String,
    base_model: Option<String>,
    license: Vec<String>,
    card: card::Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_text: Option<String>,
    notes: Vec<String>,
    seconds: f64,
}

impl Body {
    /// Creates what is known before anything is sent.
    fn new(opened: &Opened, destination: String, args: &Push) -> Body {
        let facts = &opened.facts;
        Body {
            delta: crate::sources::shown(&args.delta),
            destination,
            url: None,
            file: None,
            commit: None,
            created: false,
            changed: false,
            dry_run: args.dry_run,
            delta_bytes: facts.delta_bytes,
            target_bytes: facts.target_bytes,
            ratio: human::ratio(facts.target_bytes, facts.delta_bytes),
            sha256: facts.sha256.clone(),
            base_model: facts.base.as_ref().map(|base| base.id.clone()),
            license: Vec::new(),
            card: card::Fate::None,
            card_text: None,
            notes: Vec::new(),
            seconds: 0.0,
        }
    }

    /// Prints it.
    fn tell(mut self, session: &Session) -> Result<(), Failure> {
        self.seconds = session.start().elapsed().as_secs_f64();
        let text = || {
            let mut out = String::new();
            if let Some(card) = &self.card_text {
                let _ = writeln!(out, "{}", human::plain_lines(card));
            }
            let what = match (self.dry_run, self.changed) {
                (true, _) => "would be sent to",
                (false, true) => "published at",
                (false, false) => "is there already, at",
            };
            let commit = self.commit.as_ref().map(|c| format!(", commit {c}")).unwrap_or_default();
            let _ = writeln!(
                out,
                "{}: {} {what} {}{}",
                human::plain(&self.delta),
                human::bytes(self.delta_bytes),
                human::plain(&self.destination),
                human::plain(&commit),
            );
            let _ = writeln!(out, "SHA-256: {}", self.sha256);
            if let Some(card) = self.card.sentence() {
                let _ = writeln!(out, "{card}");
            }
            if let Some(url) = &self.url {
                let _ = writeln!(out, "{}", human::plain(url));
            }
            out + &human::notes(&self.notes)
        };
        if self.dry_run { session.answer(&self, text) } else { session.report(&self, text) }
    }
}

pub(crate) fn push(session: &Session, args: &Push) -> Result<(), Failure> {
    // Before the delta is read: that may take a while.
    let is_full = args.destination.contains("://");
    if let Location::Object(name) = parsed(args, RepoKind::Model)? {
        return store::push(session, args, &name);
    }
    let opened = Opened::open(session, &args.delta)?;
    let kind = if opened.facts.is_dataset { RepoKind::Dataset } else { RepoKind::Model };
    match parsed(args, kind)? {
        Location::Hub(name) => hub::push(session, args, name, &opened),
        other => {
            let e = "publish at org/name of the Hub, or s3://bucket/key";
            let e = Error::invalid_argument(e);
            Err(if is_full { e.in_file(other.to_string()) } else { e }.into())
        }
    }
}

/// Says what the destination is: never a path.
fn parsed(args: &Push, kind: RepoKind) -> Result<Location, Failure> {
    let text = &args.destination;
    if text.contains("://") {
        return Ok(Location::parse(text, kind)?);
    }
    Ok(Location::parse(&format!("hf://{text}"), kind)?)
}
