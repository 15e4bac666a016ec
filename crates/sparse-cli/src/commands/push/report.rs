//! What is said of a delta that was published.

use super::card::Fate;
use super::opened::Opened;
use crate::args::Push;
use crate::failure::Failure;
use crate::human;
use crate::session::Session;
use serde::Serialize;
use std::fmt::Write;

/// What is said of a delta that was published.
#[derive(Serialize)]
pub(super) struct Body {
    pub(super) delta: String,
    pub(super) destination: String,
    /// Page of the repository.
    pub(super) url: Option<String>,
    /// Path inside the repository.
    pub(super) file: Option<String>,
    pub(super) commit: Option<String>,
    /// Whether the repository is new.
    pub(super) created: bool,
    /// Whether anything was sent that was not there as it is.
    pub(super) changed: bool,
    pub(super) dry_run: bool,
    pub(super) delta_bytes: u64,
    pub(super) target_bytes: u64,
    pub(super) ratio: Option<f64>,
    pub(super) sha256: String,
    pub(super) base_model: Option<String>,
    pub(super) license: Vec<String>,
    pub(super) card: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) card_text: Option<String>,
    pub(super) notes: Vec<String>,
    seconds: f64,
}

impl Body {
    /// Creates what is known before anything is sent.
    pub(super) fn new(opened: &Opened, destination: String, args: &Push) -> Body {
        let facts = &opened.facts;
        Body {
            delta: sparse_open::shown(&args.delta),
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
            card: Fate::None,
            card_text: None,
            notes: Vec::new(),
            seconds: 0.0,
        }
    }

    /// Prints it.
    pub(super) fn tell(mut self, session: &Session) -> Result<(), Failure> {
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
