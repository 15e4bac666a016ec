//! To a store of objects: the delta alone, for there are no cards.

use super::opened::Opened;
use super::report::Body;
use crate::args::{OldCard, Push};
use crate::failure::Failure;
use crate::session::Session;
use sparse::Error;
use sparse_remote::ObjectName;
use std::path::Path;

/// Publishes a delta as an object, which appears whole or not at all.
pub(super) fn push(session: &Session, args: &Push, name: &ObjectName) -> Result<(), Failure> {
    let of_hub = [
        ("--private", args.private),
        ("--license", args.license.is_some()),
        ("--message", args.message.is_some()),
        ("--revision", args.revision.is_some()),
        ("--card", args.card != OldCard::Keep),
    ];
    if let Some((option, _)) = of_hub.iter().find(|(_, given)| *given) {
        let e = format!("{option} is for the Hub alone: a store has no cards and no branches");
        return Err(Failure::Usage(e));
    }
    // First, so that a build without stores, or an object that is there, is told before the work.
    let output = match args.dry_run {
        true => {
            session.check_object(name)?;
            None
        }
        false => Some(session.output(Path::new(&args.destination), args.force)?),
    };
    let opened = Opened::open(session, &args.delta)?;
    let mut body = Body::new(&opened, name.to_string(), args);
    body.notes.push("a store has no cards: only the delta is published there".to_owned());
    if let Some(output) = output {
        let place = |e: Error| e.in_file(output.path().display().to_string());
        let made = std::fs::File::create_new(output.path());
        let mut file = made.map_err(|e| place(Error::io("cannot write", e)))?;
        let phase = ("copying", &session.cancel_token());
        sparse_remote::copy(&*opened.source, &mut file, phase, &*session.progress)
            .map_err(place)?;
        drop(file);
        output.finish(session)?;
        body.changed = true;
    }
    body.tell(session)
}
