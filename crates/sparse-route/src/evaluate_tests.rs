//! Tests of evaluation.

use super::*;
use crate::router::tests::labels;

fn few() -> EvaluationOptions {
    EvaluationOptions::default().with_resamples(100)
}

#[test]
fn subjects_stay_together_and_parts_are_even() {
    let labels = labels(1000, 11, 3);
    for seed in 0..20 {
        let parts = parts(&labels, &few().with_seed(seed)).unwrap();
        assert_eq!(parts.len(), 5);
        let mut all: Vec<usize> = parts.iter().flatten().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        for subject in parts.iter().flatten() {
            let name = &labels.rows()[subject[0]].subject;
            assert!(subject.iter().all(|&i| labels.rows()[i].subject == *name));
        }
        let sizes: Vec<usize> = parts.iter().map(|p| p.iter().map(Vec::len).sum()).collect();
        assert!(sizes.iter().all(|n| (180..=280).contains(n)), "{sizes:?}");
    }
}

#[test]
fn what_is_there_to_learn_is_found() {
    let found = evaluate(&labels(3000, 12, 1), &few()).unwrap();
    let apgr = found.router.apgr.unwrap();
    assert!(apgr.low > 0.6 && apgr.low < apgr.value && apgr.value < apgr.high, "{apgr:?}");
    // The default feature is length, so that both route the same.
    let over = found.apgr_over_length.unwrap();
    assert!(over.value.abs() < 1e-9 && over.low.abs() < 1e-9, "{over:?}");
    let random = found.random.apgr.unwrap();
    assert!((random.value - 0.5).abs() < 1e-9 && (random.high - 0.5).abs() < 1e-9);
    let pooled = found.router.pooled_apgr.unwrap();
    assert!(pooled.low < pooled.value && pooled.value < pooled.high, "{pooled:?}");
    assert!((pooled.value - apgr.value).abs() < 0.05, "{pooled:?} {apgr:?}");
    assert!(found.oracle_apgr.unwrap() >= apgr.value);
    assert!(found.held_out && found.splits.len() == 5 && found.notes.is_empty());
    assert!(found.calibration.expected_calibration_error < 0.05, "{:?}", found.calibration);
    assert!(found.calibration.brier < found.calibration.brier_of_rate);
    let share = found.router.strong_share_at_95.unwrap();
    assert!(share.value < found.random.strong_share_at_95.unwrap().value);
    assert!(found.router.cpt_50.unwrap() < found.router.cpt_80.unwrap());
}

#[test]
fn nothing_to_learn_is_chance() {
    let mut labels = Labels::with_names(["noise"]).unwrap();
    let mut random = Random::new(5);
    for i in 0..4000 {
        let right = (random.below(10) > 3, random.below(10) > 1);
        labels.push_features((i % 20).to_string(), vec![random.below(1000) as f64], right).unwrap();
    }
    let found = evaluate(&labels, &EvaluationOptions::default().with_resamples(200)).unwrap();
    let apgr = found.router.apgr.unwrap();
    // A little below: noise that is learnt from some subjects is wrong about the others.
    assert!((0.4..0.55).contains(&apgr.value), "{apgr:?}");
    assert_eq!((found.length, found.apgr_over_length), (None, None));
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let labels = labels(600, 7, 2);
    let a = evaluate(&labels, &few()).unwrap();
    assert_eq!(a, evaluate(&labels, &few()).unwrap());
    assert_ne!(a, evaluate(&labels, &few().with_seed(2)).unwrap());
}

// More labels make the interval narrower; fewer subjects make it no narrower than their rows do.
#[test]
fn intervals_shrink_with_data() {
    let width = |rows| {
        let found = evaluate(&labels(rows, 10, 4), &few().with_resamples(200)).unwrap();
        let apgr = found.router.apgr.unwrap();
        apgr.high - apgr.low
    };
    assert!(width(500) > 1.5 * width(5000), "{} {}", width(500), width(5000));
}

#[test]
fn a_router_that_saw_the_subjects_is_noted() {
    let trained = labels(500, 4, 1);
    let router = Router::train(&trained, 1.0).unwrap();
    let found = evaluate_router(&router, &trained, &few()).unwrap();
    assert!(found.notes[0].contains("4 of the 4 subjects"), "{:?}", found.notes);
    assert!(!found.held_out && found.splits.len() == 1);
    let mut other = Labels::new(&crate::LengthFeatures::new()).unwrap();
    for label in labels(200, 2, 8).rows() {
        let right = (label.weak_right, label.strong_right);
        other
            .push_features(format!("new {}", label.subject), label.features.clone(), right)
            .unwrap();
    }
    assert_eq!(evaluate_router(&router, &other, &few()).unwrap().notes, [""; 0]);
}

#[test]
fn splits_without_a_gap_are_noted() {
    let mut labels = Labels::with_names(["x"]).unwrap();
    for i in 0..60 {
        // In subject "b" the stronger model is never better.
        let right = if i % 2 == 0 { (i % 4 == 0, true) } else { (i % 3 == 0, i % 3 == 0) };
        labels.push_features(["a", "b"][i % 2], vec![i as f64], right).unwrap();
    }
    // Trained on "b" alone there is nothing to learn.
    let e = evaluate(&labels, &few()).unwrap_err();
    assert!(e.message().contains("nothing to learn"), "{e}");
    labels.push_features("b", vec![1.0], (false, true)).unwrap();
    labels.push_features("b", vec![1.0], (true, false)).unwrap();
    let found = evaluate(&labels, &few()).unwrap();
    assert!(found.notes.iter().any(|n| n.contains("1 of 2 splits")), "{:?}", found.notes);
    assert!(found.notes.iter().any(|n| n == "2 subjects make 2 splits"), "{:?}", found.notes);
    assert!(found.router.apgr.is_some());
}

#[test]
fn counts_at_the_threshold() {
    let mut labels = Labels::with_names(["x"]).unwrap();
    for right in [(true, true), (false, true), (false, true), (true, false)] {
        labels.push_features("s", vec![0.0], right).unwrap();
    }
    let found = at_threshold(&labels, &[0.9, 0.85, 0.2, 0.1], 0.85);
    assert_eq!((found.strong_share, found.quality), (0.5, 0.5));
    assert_eq!(found.weak_sufficed, Some(0.5));
    assert_eq!(at_threshold(&labels, &[0.0; 4], 0.85).weak_sufficed, None);
}

#[test]
fn options_are_checked() {
    let labels = labels(100, 3, 1);
    let message = |o: EvaluationOptions| evaluate(&labels, &o).unwrap_err().message().to_owned();
    for n in [1, 100_001] {
        assert!(
            message(few().with_splits(n)).contains("splits were asked for; ask for 2 to 100000")
        );
    }
    for n in [0, 1, 99, 100_001] {
        let message = message(few().with_resamples(n));
        assert!(message.contains("samples were asked for; ask for 100 to 100000"), "{message}");
    }
    assert!(message(few().with_threshold(1.5)).contains("threshold is 1.5"));
    assert!(message(few().with_ridge(-1.0)).contains("ridge is -1"));
    let mut one = Labels::with_names(["x"]).unwrap();
    one.push_features("s", vec![0.0], (true, true)).unwrap();
    let e = evaluate(&one, &few()).unwrap_err();
    assert!(e.message().contains("have 1 subject"), "{e}");
}

// Of two splits, one has a gap of 0.5, recovered at once, and one a gap of 0.1, recovered at the
// end.
#[test]
fn pooling_weighs_splits_by_their_gaps() {
    let first = RoutingCurve::oracle(&[(false, true), (true, true)]);
    let rows: Vec<_> = (0..10).map(|i| (i > 0, true)).collect();
    let need: Vec<f64> = (0..10).map(f64::from).collect();
    let second = RoutingCurve::new(&need, &rows);
    let (a, b) = (first.apgr().unwrap(), second.apgr().unwrap());
    let found = figures(&[first, second]);
    assert!((found[0].unwrap() - (a + b) / 2.0).abs() < 1e-12);
    assert!((found[POOLED].unwrap() - (0.5 * a + 0.1 * b) / 0.6).abs() < 1e-12);
}
