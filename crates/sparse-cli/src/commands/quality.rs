//! `sparse quality`.

use crate::args;
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use crate::sources::shown;
use serde::Serialize;
use sparse::{Certificate, Error, ErrorKind};
use std::path::PathBuf;

/// Describes a certificate in words.
pub(super) fn sentence(c: &Certificate) -> String {
    let odd = match c.not_finite {
        0 => String::new(),
        n => format!("; {n} weights are NaN or infinite"),
    };
    format!(
        "error {:.3} % of the change, cosine {:.6}, norm ratio {:.4}, {:.2} % bit for bit, \
         99 % within {} ULP, all within {} ULP and {:.3e}{odd}",
        100.0 * c.relative_error(),
        c.cosine(),
        c.norm_ratio(),
        100.0 * c.exact_rate(),
        c.p99_ulps,
        c.max_ulps,
        c.max_error,
    )
}

#[derive(Serialize)]
struct Body<'a> {
    delta: String,
    agrees: bool,
    #[serde(flatten)]
    found: &'a sparse::Quality,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Notes tensors whose certificates are relative to something else than their change.
fn other_change(found: &sparse::Quality) -> Vec<String> {
    let certified = || found.tensors.iter().filter(|t| t.recorded.is_some() && !t.same_change);
    let note = |first: &sparse::TensorQuality| {
        format!(
            "this delta was made by an earlier version: its certificate of {} ({} in all) is \
                relative to the tensor itself and not to its change, so only errors were compared",
            first.name,
            human::count(certified().count() as u64, "tensor"),
        )
    };
    certified().next().map(note).into_iter().collect()
}

pub(crate) fn quality(session: &Session, args: args::Quality) -> Result<(), Failure> {
    let paths: [PathBuf; 3] = match (<[PathBuf; 3]>::try_from(args.inputs), args.no_base) {
        (Ok(three), false) => three,
        (Err(two), true) if two.len() == 2 => {
            let mut two = two.into_iter();
            [PathBuf::new(), two.next().unwrap_or_default(), two.next().unwrap_or_default()]
        }
        _ => {
            let what = "give three inputs: the base, the fine-tuned model and the delta (with \
                --no-base, only the last two)";
            return Err(Failure::Usage(what.to_owned()));
        }
    };
    let [base_path, finetuned_path, delta_path] = paths;
    let delta = session.open_delta(&delta_path)?;
    let base = if args.no_base { None } else { Some(session.open("base", &base_path)?) };
    let finetuned = session.open("fine-tuned", &finetuned_path)?;
    let found = session.verifier(&delta).base(base.as_ref()).quality(&finetuned)?;
    let body = Body {
        delta: shown(&delta_path),
        agrees: found.agrees(),
        found: &found,
        notes: other_change(&found),
    };
    let text = || {
        let rows: Vec<_> = found
            .tensors
            .iter()
            .filter(|t| t.found.exact < t.found.weights)
            .map(|t| {
                [
                    human::plain(&t.name).into_owned(),
                    format!("{:.3} %", 100.0 * t.found.relative_error()),
                    format!("{:.5}", t.found.cosine()),
                    format!("{:.4}", t.found.norm_ratio()),
                    format!("{:.2} %", 100.0 * t.found.exact_rate()),
                    t.found.p99_ulps.to_string(),
                    t.found.max_ulps.to_string(),
                    format!("{:.2e}", t.found.max_error),
                ]
            })
            .collect();
        let head = [
            ("tensor", Left),
            ("error", Right),
            ("cosine", Right),
            ("norm", Right),
            ("exact", Right),
            ("p99 ULP", Right),
            ("max ULP", Right),
            ("max", Right),
        ];
        let table = if rows.is_empty() { String::new() } else { human::table(head, &rows) };
        format!("{table}{}\n{}", sentence(&found.total), human::notes(&body.notes))
    };
    if found.agrees() {
        return session.answer(&body, text);
    }
    let e = Error::new(ErrorKind::Corrupt, "the measured errors are not those that it certifies");
    session.answer_and_fail(&body, text, e.in_file(shown(&delta_path)).into())
}
