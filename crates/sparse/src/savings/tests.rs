//! Tests of what deltas save.

use super::*;
use proptest::prelude::*;

fn tuned(id: &str, base: &str, bytes: u64, delta: DeltaSize) -> CollectionModel {
    CollectionModel::new(id, bytes, 10.0).tuned_from(base, delta)
}

fn found(models: &[CollectionModel]) -> Savings {
    Savings::of(models, &SavingsTerms::new(1.0)).unwrap()
}

#[test]
fn unknown_deltas_have_the_ratio_of_their_family_else_of_all() {
    let models = [
        CollectionModel::new("x", 1000, 0.0),
        tuned("x1", "x", 1000, DeltaSize::Measured(100)),
        tuned("x2", "x", 3000, DeltaSize::Sampled(900)),
        tuned("x3", "x", 2000, DeltaSize::Unknown),
        tuned("y1", "y", 1000, DeltaSize::Measured(900)),
        tuned("z1", "z", 1000, DeltaSize::Unknown),
    ];
    let found = found(&models);
    // Of x 1000 of 4000, of all 1900 of 5000.
    let with = 1000.0 + 100.0 + 900.0 + 500.0 + 900.0 + 380.0;
    assert!((found.storage.with - with).abs() < 1e-9, "{found:?}");
    assert_eq!(found.storage.without, 9000.0);
    assert_eq!((found.known, found.from_family, found.from_others), (3, 1, 1));
    let notes = found.notes.join("\n");
    assert!(
        notes.contains("1 family without a measured delta: 1 model with")
            && notes.contains("\"z\"")
    );
    assert!(notes.contains("1 delta estimated") && notes.contains("2 bases not in the list"));
}

#[test]
fn families_can_be_named() {
    let models = [
        tuned("a", "x", 100, DeltaSize::Measured(10)).in_family("f"),
        tuned("b", "y", 100, DeltaSize::Measured(90)),
        tuned("c", "y", 100, DeltaSize::Unknown).in_family("f"),
    ];
    assert!((found(&models).storage.with - 110.0).abs() < 1e-9);
}

#[test]
fn transfer_counts_the_base_where_it_is_not_at_hand() {
    let models =
        [CollectionModel::new("x", 600, 1.0), tuned("a", "x", 1000, DeltaSize::Measured(100))];
    let with = |at_hand| {
        let found = Savings::of(&models, &SavingsTerms::new(at_hand)).unwrap();
        assert_eq!(found.transfer.without, 600.0 + 10.0 * 1000.0);
        found.transfer.with - 600.0
    };
    assert!((with(1.0) - 1000.0).abs() < 1e-9);
    assert!((with(0.0) - 7000.0).abs() < 1e-9);
    assert!((with(0.5) - 4000.0).abs() < 1e-9);
}

#[test]
fn a_delta_that_is_no_smaller_is_not_kept() {
    let found = found(&[tuned("a", "x", 1000, DeltaSize::Measured(1100))]);
    assert_eq!((found.storage.with, found.storage.share), (1000.0, 0.0));
}

#[test]
fn prices_are_of_a_year() {
    let models = [tuned("a", "x", 2_000_000_000, DeltaSize::Measured(500_000_000))];
    let terms = SavingsTerms::new(1.0).with_prices(Some(0.02), Some(0.05));
    let found = Savings::of(&models, &terms).unwrap();
    let close = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
    assert!(close(found.storage.price_without, 0.48) && close(found.storage.price_with, 0.12));
    assert!(close(found.transfer.price_without, 1.0) && close(found.transfer.price_with, 0.25));
    let without = Savings::of(&models, &SavingsTerms::new(1.0)).unwrap();
    assert_eq!((without.storage.price_with, without.transfer.price_with), (None, None));
}

#[test]
fn intervals_hold_the_share_and_shrink_with_agreement() {
    let delta = |i: u64, spread: u64| DeltaSize::Measured(100 + spread * (i % 7));
    let of = |spread| {
        let models: Vec<_> =
            (0..30).map(|i| tuned(&i.to_string(), "x", 1000, delta(i, spread))).collect();
        let s = found(&models).storage;
        assert!(s.share_low <= s.share && s.share <= s.share_high, "{s:?}");
        s.share_high - s.share_low
    };
    assert!(of(0) < 1e-9);
    assert!(of(100) > 2.0 * of(20));
}

#[test]
fn lists_that_contradict_themselves_are_errors() {
    let message = |models: &[CollectionModel], terms: SavingsTerms| {
        Savings::of(models, &terms).unwrap_err().message().to_owned()
    };
    let plain = SavingsTerms::new(1.0);
    let good = tuned("a", "x", 10, DeltaSize::Measured(1));
    assert!(message(&[], plain).contains("no models"));
    assert!(message(&[good.clone(), good.clone()], plain).contains("\"a\": the id occurs twice"));
    assert!(message(&[CollectionModel::new("b", 0, 1.0)], plain).contains("0 bytes"));
    assert!(message(&[CollectionModel::new("b", 1, -1.0)], plain).contains("-1 downloads"));
    assert!(message(&[tuned("a", "a", 1, DeltaSize::Unknown)], plain).contains("its own base"));
    assert!(message(&[tuned("a", "x", 1, DeltaSize::Unknown)], plain).contains("no fine-tune"));
    assert!(
        message(std::slice::from_ref(&good), plain.with_prices(Some(-1.0), None))
            .contains("price is -1")
    );
    assert!(message(&[good], SavingsTerms::new(1.5)).contains("1.5; give 0 to 1"));
}

#[test]
fn circles_of_bases_are_errors() {
    let model = |id: &str, base: &str| tuned(id, base, 10, DeltaSize::Measured(1));
    let of = |models: &[CollectionModel]| Savings::of(models, &SavingsTerms::new(1.0));
    let message = |models: &[CollectionModel]| of(models).unwrap_err().message().to_owned();
    let two = message(&[model("a", "b"), model("b", "a")]);
    assert!(two.contains("model \"a\": its bases lead back to itself (\"a\", \"b\")"), "{two}");
    // A model that leads into a circle is not of it.
    let long = [model("a", "c"), model("b", "d"), model("c", "b"), model("d", "c")];
    let long = message(&long);
    assert!(long.contains("model \"c\"") && long.contains("(\"c\", \"b\", \"d\")"), "{long}");
    // Chains and common bases are none.
    assert!(of(&[model("a", "b"), model("b", "x"), model("c", "b"), model("d", "a")]).is_ok());
    let chain: Vec<_> = (0..50_000).map(|i| model(&i.to_string(), &(i + 1).to_string())).collect();
    assert!(of(&chain[..2000]).is_ok());
    let bases: BTreeMap<_, _> =
        chain.iter().map(|m| (&*m.id, m.base.as_deref().unwrap())).collect();
    assert!(check_circles(&bases).is_ok());
}

/// Models that are all kept whole save nothing, and need no ratio.
#[test]
fn whole_models_save_nothing() {
    let found = found(&[CollectionModel::new("a", 10, 3.0)]);
    assert_eq!((found.storage.share, found.transfer.share, found.fine_tunes), (0.0, 0.0, 0));
}

proptest! {
    #[test]
    fn sums_are_those_of_a_simple_loop(
        models in prop::collection::vec((1u64..100, 0u64..120, 0u8..50), 1..12),
        at_hand in 0.0f64..=1.0,
    ) {
        let list: Vec<_> = models.iter().enumerate().map(|(i, &(bytes, delta, downloads))| {
            CollectionModel::new(i.to_string(), bytes, f64::from(downloads))
                .tuned_from("base", DeltaSize::Measured(delta))
        }).collect();
        let found = Savings::of(&list, &SavingsTerms::new(at_hand)).unwrap();
        let (mut storage, mut transfer) = (0.0, 0.0);
        for &(bytes, delta, downloads) in &models {
            let delta = delta.min(bytes) as f64;
            storage += delta;
            // The base is as large as the model, so that who lacks it fetches the model.
            transfer += f64::from(downloads)
                * (at_hand * delta + (1.0 - at_hand) * bytes as f64);
        }
        prop_assert!((found.storage.with - storage).abs() < 1e-6);
        prop_assert!((found.transfer.with - transfer).abs() < 1e-6);
        prop_assert!(found.storage.with <= found.storage.without + 1e-9);
    }
}
