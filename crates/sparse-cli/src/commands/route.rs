//! `sparse route` of one request, and `sparse route review`.

use crate::args::{Route, RouteAction, RouteRequest, RouteReview};
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right, plain};
use crate::session::Session;
use crate::text_file;
use serde::Serialize;
use sparse::{Error, ErrorKind};
use sparse_open::shown;
use sparse_route::{
    Candidate, Catalogue, Decision, Drift, Features, Judgement, LEAST_REQUESTS, LengthFeatures,
    LoggedDecision, Regret, Requirements, Router, Shift, Tokens, decide,
};
use std::path::{Path, PathBuf};

#[cfg(feature = "dataset")]
use super::labels;
use super::route_log;
use super::router_file::{MAX_FILE, read_router};

pub(crate) fn route(session: &Session, args: Route) -> Result<(), Failure> {
    match args.action {
        None => request(session, args.request),
        #[cfg(feature = "dataset")]
        Some(RouteAction::Train(args)) => labels::train(session, &args),
        #[cfg(feature = "dataset")]
        Some(RouteAction::Eval(args)) => labels::eval(session, &args),
        Some(RouteAction::Review(args)) => review(session, &args),
    }
}

#[derive(Serialize)]
struct RequestBody<'a> {
    catalogue: String,
    router: Option<String>,
    is_guess: bool,
    #[serde(flatten)]
    decision: &'a Decision,
    log: Option<String>,
    id: Option<String>,
}

fn request(session: &Session, args: RouteRequest) -> Result<(), Failure> {
    let missing = || Failure::Usage("give a model and a prompt".to_owned());
    let (model, prompt) = args.model.zip(args.prompt).ok_or_else(missing)?;
    let named = || std::env::var_os("SPARSE_CATALOGUE").filter(|path| !path.is_empty());
    let path = args.catalogue.or_else(|| named().map(PathBuf::from)).ok_or_else(|| {
        let what = "no catalogue: prices are yours, so give a file of models (--catalogue FILE, or \
                    SPARSE_CATALOGUE); examples/catalogue.json shows one";
        Failure::Usage(what.to_owned())
    })?;
    if let Some(log) = &args.log {
        let inputs: Vec<&Path> =
            [Some(&*path), args.router.as_deref()].into_iter().flatten().collect();
        route_log::refuse_inputs(log, &inputs)?;
    }
    let text = text_file::read(&path, MAX_FILE)?;
    let in_catalogue = |e: Error| e.in_file(shown(&path));
    let catalogue = Catalogue::from_json(&text).map_err(in_catalogue)?;
    let router = args.router.as_deref().map(read_router).transpose()?;
    let features = match &router {
        Some(router) => features_of(router, &prompt, &args.feature)?,
        None => Vec::new(),
    };
    let judgement = match &router {
        Some(router) => router.judge(&features)?,
        None => Judgement::guess(&prompt),
    };
    let requirements = Requirements::new(args.quality_threshold)?
        .with_latency(args.max_latency_ms, args.max_latency_p99_ms)?;
    let input = args.input_tokens.unwrap_or_else(|| Tokens::estimate_input(&prompt));
    let tokens = Tokens { input, output: args.output_tokens };
    if (tokens.input, tokens.output) == (0, 0) {
        let what = "a request without tokens has no price: give --input-tokens or --output-tokens \
                    above 0";
        return Err(Failure::Usage(what.to_owned()));
    }
    let decision =
        decide(&catalogue, &model, &judgement, tokens, &requirements).map_err(in_catalogue)?;
    let taken = decision.chosen.and_then(|i| decision.candidates.get(i));
    // Where nothing fits there is no decision to log.
    if let (Some(log), Some(id), Some(taken)) = (&args.log, &args.id, taken) {
        let logged = LoggedDecision::new(id, &taken.model, taken.quality, taken.cost);
        route_log::append(log, &logged.with_features(features))?;
    }
    let body = RequestBody {
        catalogue: shown(&path),
        router: args.router.as_deref().map(shown),
        is_guess: judgement.is_guess(),
        decision: &decision,
        log: args.log.as_deref().map(shown),
        id: args.id,
    };
    session.answer(&body, || {
        let mut out = headline(&decision, taken);
        for reason in &decision.reasoning {
            out.push_str(&format!("- {}\n", plain(reason)));
        }
        if args.input_tokens.is_none() {
            out.push_str(&format!(
                "- reckoned with {} tokens in, a quarter of the characters, and {} out\n",
                tokens.input, tokens.output
            ));
        }
        if session.verbose() {
            out.push_str(&format!("\n{}", table(&decision.candidates)));
        }
        out
    })
}

/// Returns the numbers that the router judges the request by.
fn features_of(
    router: &Router,
    prompt: &str,
    given: &[(String, f64)],
) -> Result<Vec<f64>, Failure> {
    if given.is_empty() && LengthFeatures::are_named(router.features()) {
        return Ok(LengthFeatures::new().measure(prompt));
    }
    let names = router.features();
    if let Some((name, _)) = given.iter().find(|(name, _)| !names.contains(name)) {
        let what = format!("the router has no feature {name:?}; it has {}", names.join(", "));
        return Err(Failure::Usage(what));
    }
    let value = |name: &String| {
        let mut found = given.iter().filter(|(n, _)| n == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(*value),
            (None, _) => Err(format!("the router judges by {name}: give --feature {name}=NUMBER")),
            (Some(_), Some(_)) => Err(format!("--feature {name} was given twice")),
        }
    };
    names.iter().map(value).collect::<Result<_, _>>().map_err(Failure::Usage)
}

fn headline(decision: &Decision, taken: Option<&Candidate>) -> String {
    let Some(taken) = taken else { return "no model meets the requirements\n".to_owned() };
    let price = format!(
        "{} {} per million tokens",
        human::amount(taken.cost_per_million_tokens),
        plain(&decision.currency)
    );
    let change = match decision.savings {
        _ if taken.model == decision.requested_model => "as requested".to_owned(),
        Some(s) if s >= 0.0 => {
            format!("{:.0} % less than {}", 100.0 * s, plain(&decision.requested_model))
        }
        Some(s) => format!("{:.0} % more than {}", -100.0 * s, plain(&decision.requested_model)),
        None => format!("instead of {}", plain(&decision.requested_model)),
    };
    format!("{}: {price}, {change}\n", plain(&taken.name()))
}

fn table(candidates: &[Candidate]) -> String {
    let known = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.0} ms"));
    let rows: Vec<[String; 6]> = candidates
        .iter()
        .map(|c| {
            [
                plain(&c.name()).into_owned(),
                format!("{:.2}", c.quality),
                human::amount(c.cost_per_million_tokens),
                known(c.latency_p50_ms),
                known(c.latency_p99_ms),
                if c.fits() { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    let head = [
        ("model", Left),
        ("quality", Right),
        ("per million", Right),
        ("p50", Right),
        ("p99", Right),
        ("fits", Left),
    ];
    human::table(head, &rows)
}

#[derive(Serialize)]
struct ReviewBody<'a> {
    log: String,
    router: Option<String>,
    #[serde(flatten)]
    regret: &'a Regret,
    drift: Option<&'a [Drift]>,
    notes: &'a [String],
}

fn review(session: &Session, args: &RouteReview) -> Result<(), Failure> {
    let (journal, notes) = route_log::read(&args.log)?;
    let in_log = |e: Error| e.in_file(shown(&args.log));
    if journal.decisions().is_empty() {
        return Err(in_log(Error::new(ErrorKind::InvalidInput, "it has no decisions")).into());
    }
    let router = args.router.as_deref().map(read_router).transpose()?;
    let drift = router.map(|router| router.drift(&journal.features()));
    let drift = drift.transpose().map_err(in_log)?;
    let regret = journal.regret();
    let body = ReviewBody {
        log: shown(&args.log),
        router: args.router.as_deref().map(shown),
        regret: &regret,
        drift: drift.as_deref(),
        notes: &notes,
    };
    session.answer(&body, || {
        regret_text(&regret) + &drift_text(drift.as_deref()) + &human::notes(&notes)
    })
}

fn regret_text(regret: &Regret) -> String {
    let mut out = format!(
        "{}, {} with an outcome\n",
        human::count(regret.decisions, "decision"),
        regret.outcomes
    );
    if let (Some(expected), Some(realised), Some(chance)) =
        (regret.expected_good, regret.realised_good, regret.chance)
    {
        let verdict = match regret.overconfident {
            true => "more is lost than chance explains: train anew",
            false => "within chance",
        };
        out.push_str(&format!(
            "good answers: {:.1} % expected, {:.1} % came ({verdict}; chance is ± {:.1} %)\n",
            100.0 * expected,
            100.0 * realised,
            100.0 * chance
        ));
    }
    if let (Some(expected), Some(realised)) = (regret.expected_cost, regret.realised_cost) {
        out.push_str(&format!(
            "price of {}: {} expected, {} paid\n",
            human::count(regret.priced, "outcome"),
            human::amount(expected),
            human::amount(realised)
        ));
    }
    if let Some(above) = regret.cost_regret {
        out.push_str(&format!(
            "paid above the best choice, in {}: {}\n",
            human::count(regret.compared, "outcome"),
            human::amount(above)
        ));
    }
    out
}

fn drift_text(drift: Option<&[Drift]>) -> String {
    let Some(drift) = drift else { return String::new() };
    let mut out = String::new();
    for one in drift {
        let shift = match one.shift {
            Shift::TooFew => format!("fewer than {LEAST_REQUESTS} requests: nothing is told"),
            Shift::None => "no drift".to_owned(),
            Shift::Moderate => "moderate drift".to_owned(),
            _ => "large drift: train anew".to_owned(),
        };
        out.push_str(&format!(
            "{}: stability index {:.3} (chance below {:.3}), {shift}\n",
            plain(&one.name),
            one.index,
            one.chance
        ));
    }
    out
}
