//! `sparse route train` and `sparse route eval`.

use super::router_file::read_router;
use crate::args::{LabelColumns, RouteEval, RouteTrain};
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right, plain};
use crate::session::Session;
use crate::text_file;
use serde::Serialize;
use sparse::{Error, ErrorKind};
use sparse_dataset::Scalar;
use sparse_open::shown;
use sparse_route::{
    Evaluation, EvaluationOptions, Interval, Labels, LengthFeatures, Router, RoutingScore,
    Training, character_count, evaluate, evaluate_router,
};
use std::path::Path;

/// Reads labels from a dataset.
fn read(session: &Session, path: &Path, columns: &LabelColumns) -> Result<Labels, Failure> {
    let dataset = session.opener().dataset("labels", path)?;
    let cancel = session.cancel_token();
    let length = LengthFeatures::new();
    let by_length = columns.features.is_empty();
    let mut labels = if by_length {
        Labels::new(&length)?
    } else {
        Labels::with_names(columns.features.iter().cloned())?
    };
    let LabelColumns { subject, prompt, weak_right, strong_right, features } = columns;
    let mut names = vec![subject.as_str(), weak_right, strong_right];
    names.extend(features.iter().map(String::as_str));
    // Beside other features the prompt is there for its length, if it is there at all.
    if by_length || dataset.column_names().any(|name| name == prompt) {
        names.push(prompt);
    }
    if let Some(twice) =
        names.iter().enumerate().find(|(i, n)| names.iter().skip(i + 1).any(|m| m == *n))
    {
        let what = format!(
            "column {:?} was asked for twice: --subject, --prompt, --weak-right, --strong-right \
             and --features have to name different columns",
            twice.1
        );
        return Err(Failure::Usage(what));
    }
    dataset.for_each_row(&names, |row, values| {
        cancel.check()?;
        let cell = |i: usize| (names.get(i).copied().unwrap_or(""), values.get(i));
        let right = (boolean(row, cell(1))?, boolean(row, cell(2))?);
        let subject = text(row, cell(0))?;
        let place = 3 + features.len();
        if by_length {
            return labels.push_prompt(&length, subject, text(row, cell(place))?, right);
        }
        let numbers = (3..place).map(|i| number(row, cell(i)));
        let numbers = numbers.collect::<sparse::Result<_>>()?;
        match names.len() > place {
            true => {
                let characters = character_count(text(row, cell(place))?);
                labels.push_measured(subject, numbers, characters, right)
            }
            false => labels.push_features(subject, numbers, right),
        }
    })?;
    Ok(labels)
}

/// A column's name, and the value of a row in it.
type Cell<'a, 'b> = (&'a str, Option<&'b Scalar<'b>>);

fn wrong(row: u64, (name, value): Cell<'_, '_>, want: &str) -> Error {
    let found = match value {
        None | Some(Scalar::Null) => "nothing".to_owned(),
        Some(Scalar::Bool(b)) => b.to_string(),
        Some(Scalar::Integer(n)) => n.to_string(),
        Some(Scalar::Float(x)) => x.to_string(),
        Some(Scalar::Text(text)) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Some(_) => "a value of another type".to_owned(),
    };
    let what = format!("row {row}: column {name:?} has {found} instead of {want}");
    Error::new(ErrorKind::InvalidInput, what)
}

fn boolean(row: u64, cell: Cell<'_, '_>) -> sparse::Result<bool> {
    let value = cell.1.and_then(Scalar::as_bool);
    value.ok_or_else(|| wrong(row, cell, "true or false"))
}

fn number(row: u64, cell: Cell<'_, '_>) -> sparse::Result<f64> {
    let value = cell.1.and_then(Scalar::as_f64).filter(|x| x.is_finite());
    value.ok_or_else(|| wrong(row, cell, "a finite number"))
}

fn text<'b>(row: u64, cell: Cell<'_, 'b>) -> sparse::Result<&'b str> {
    cell.1.and_then(Scalar::as_str).ok_or_else(|| wrong(row, cell, "text"))
}

#[derive(Serialize)]
struct TrainBody<'a> {
    labels: String,
    output: String,
    features: &'a [String],
    weights: &'a [f64],
    #[serde(flatten)]
    training: &'a Training,
    notes: Vec<String>,
}

/// Labels below which a router's probabilities are little more than the mean.
const FEW_LABELS: u64 = 100;

pub(super) fn train(session: &Session, args: &RouteTrain) -> Result<(), Failure> {
    let output = session.output(&args.output, args.force)?;
    let labels = read(session, &args.labels, &args.columns)?;
    if args.labels.exists() {
        sparse_output::refuse_inside(output.path(), &[&args.labels])?;
    }
    let router = Router::train(&labels, args.ridge).map_err(|e| e.in_file(shown(&args.labels)))?;
    text_file::write(&output, &router.to_json()?)?;
    output.finish(session)?;
    let training = router.training();
    let few = (training.rows < FEW_LABELS).then(|| {
        let labels = human::count(training.rows, "label");
        format!("{labels}: too few to learn from; what it says is little more than the mean")
    });
    let body = TrainBody {
        labels: shown(&args.labels),
        output: shown(&args.output),
        features: router.features(),
        weights: router.model().weights(),
        training,
        notes: few.into_iter().collect(),
    };
    session.report(&body, || {
        let text = format!(
            "{}: a router by {}, from {} of {}\n{}\nwhat it is worth: `sparse route eval`\n",
            plain(&body.output),
            plain(&router.features().join(", ")),
            human::count(training.rows, "label"),
            human::count(training.subjects.len() as u64, "subject"),
            rates(training.weak_right, training.strong_right, training.weak_suffices),
        );
        text + &human::notes(&body.notes)
    })
}

fn rates(weak: f64, strong: f64, suffices: f64) -> String {
    format!(
        "the cheap model is right on {:.1} %, the strong one on {:.1} %; the cheap one suffices on \
         {:.1} %",
        100.0 * weak,
        100.0 * strong,
        100.0 * suffices
    )
}

#[derive(Serialize)]
struct EvalBody<'a> {
    labels: String,
    router_file: Option<String>,
    features: &'a [String],
    seed: u64,
    resamples: usize,
    #[serde(flatten)]
    found: &'a Evaluation,
    price_share: Option<f64>,
    cost_at_95: Option<Interval>,
}

pub(super) fn eval(session: &Session, args: &RouteEval) -> Result<(), Failure> {
    let labels = read(session, &args.labels, &args.columns)?;
    let options = EvaluationOptions::default()
        .with_splits(args.splits)
        .with_resamples(args.resamples)
        .with_seed(args.seed)
        .with_ridge(args.ridge)
        .with_threshold(args.quality_threshold);
    let found = match args.router.as_deref() {
        Some(path) => evaluate_router(&read_router(path)?, &labels, &options),
        None => evaluate(&labels, &options),
    };
    let found = found.map_err(|e| e.in_file(shown(&args.labels)))?;
    let share = found.router.strong_share_at_95;
    let body = EvalBody {
        labels: shown(&args.labels),
        router_file: args.router.as_deref().map(shown),
        features: labels.names(),
        seed: args.seed,
        resamples: args.resamples,
        found: &found,
        price_share: args.price_share,
        // What goes to the stronger model costs 1, the rest the share of that.
        cost_at_95: args.price_share.zip(share).map(|(p, s)| s.map(|s| s + (1.0 - s) * p)),
    };
    session.answer(&body, || eval_text(&body, session.verbose()))
}

fn eval_text(body: &EvalBody<'_>, verbose: bool) -> String {
    let found = body.found;
    let mut out = format!(
        "{} of {}; {}\n{}\n\n{}",
        human::count(found.rows, "label"),
        human::count(found.subjects, "subject"),
        rates(found.weak_quality, found.strong_quality, found.weak_suffices),
        match found.held_out {
            true => format!("{} splits by subject, each held out once", found.splits.len()),
            false => "a given router, on all labels".to_owned(),
        },
        scores(found)
    );
    if let Some(over) = found.apgr_over_length {
        let verdict = match over {
            // Rounding aside, the same order.
            o if o.low.abs().max(o.high.abs()) < 1e-9 => "the same as length alone",
            o if o.low > 0.0 => "better than length alone",
            o if o.high < 0.0 => "worse than length alone",
            _ => "no better than length alone",
        };
        out.push_str(&format!("\nrouter minus length alone: {}, {verdict}\n", interval(over)));
    }
    if let Some(cost) = body.cost_at_95 {
        out.push_str(&format!(
            "cost at 95 % of the strong model's quality: {} of its price\n",
            percent(cost)
        ));
    }
    let at = found.at_threshold;
    let sufficed = at.weak_sufficed.map_or(String::new(), |share| {
        format!("; of the others the cheap one sufficed on {:.1} %", 100.0 * share)
    });
    out.push_str(&format!(
        "at threshold {}: {:.1} % go to the strong model, {:.1} % are answered rightly{sufficed}\n",
        at.threshold,
        100.0 * at.strong_share,
        100.0 * at.quality
    ));
    let c = &found.calibration;
    out.push_str(&format!(
        "calibration: Brier {:.4} (the mean alone {:.4}), log loss {:.4} ({:.4}), expected error \
         {:.3}\n",
        c.brier, c.brier_of_rate, c.log_loss, c.log_loss_of_rate, c.expected_calibration_error
    ));
    out.push_str(&human::notes(&found.notes));
    if verbose {
        out.push_str(&format!("\n{}\n{}", splits(found), reliability(found)));
    }
    out
}

fn interval(i: Interval) -> String {
    format!("{:.3} ({:.3} to {:.3})", i.value, i.low, i.high)
}

fn percent(i: Interval) -> String {
    format!("{:.1} % ({:.1} to {:.1})", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
}

fn scores(found: &Evaluation) -> String {
    let dash = || "-".to_owned();
    let share = |x: Option<f64>| x.map_or_else(dash, |x| format!("{:.1} %", 100.0 * x));
    let row = |name: &str, score: &RoutingScore| {
        [
            name.to_owned(),
            score.apgr.map_or_else(dash, interval),
            score.pooled_apgr.map_or_else(dash, interval),
            score.strong_share_at_95.map_or_else(dash, percent),
            share(score.cpt_50),
            share(score.cpt_80),
        ]
    };
    let mut rows = vec![row("random", &found.random)];
    rows.extend(found.length.as_ref().map(|score| row("length alone", score)));
    rows.push(row("router", &found.router));
    let oracle = found.oracle_apgr.map_or_else(dash, |x| format!("{x:.3}"));
    let mut last: [String; 6] = Default::default();
    last[0] = "knows the answers".to_owned();
    last[1] = oracle;
    rows.push(last);
    let head = [
        ("", Left),
        ("APGR, mean", Left),
        ("pooled", Left),
        ("strong, for 95 %", Left),
        ("CPT 50 %", Right),
        ("CPT 80 %", Right),
    ];
    human::table(head, &rows)
}

fn splits(found: &Evaluation) -> String {
    let figure = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
    let rows: Vec<[String; 5]> = found
        .splits
        .iter()
        .enumerate()
        .map(|(i, split)| {
            [
                (i + 1).to_string(),
                split.subjects.to_string(),
                split.rows.to_string(),
                figure(split.apgr),
                figure(split.length_apgr),
            ]
        })
        .collect();
    let head = [
        ("split", Right),
        ("subjects", Right),
        ("labels", Right),
        ("APGR", Right),
        ("length alone", Right),
    ];
    human::table(head, &rows)
}

fn reliability(found: &Evaluation) -> String {
    let rows: Vec<[String; 3]> = found
        .calibration
        .bins
        .iter()
        .map(|b| [b.rows.to_string(), format!("{:.3}", b.expected), format!("{:.3}", b.observed)])
        .collect();
    human::table([("labels", Right), ("expected", Right), ("observed", Right)], &rows)
}
