//! `sparse push`: a delta is published, on the Hub with a card.
//!
//! * `opened`: the delta, checked, and the facts that its card tells.
//! * `licence`: what it may be used for, by the card of its base.
//! * `card`: the text of the card.
//! * `hub`, `store`: where it goes.
//! * `report`: what is said of it.

mod card;
mod hub;
mod licence;
mod opened;
mod report;
mod store;

use crate::args::Push;
use crate::failure::Failure;
use crate::session::Session;
use opened::Opened;
use sparse::Error;
use sparse_remote::{Location, RepoKind};

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
