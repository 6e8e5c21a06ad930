//! The suite finds what is wrong, and nothing else.

use std::time::Duration;

use streamspace_conformance::{Format, Options, Runner, Verdict};

use crate::model::{Fault, Model};

/// Checks that fail on a controller with this fault.
async fn failures(fault: Fault) -> Vec<&'static str> {
    let options =
        Options { patience: Duration::from_secs(5), limit: Duration::from_secs(120), ..Options::default() };
    let report = Runner::new(Model::target(fault).await, options).run().await.unwrap();
    println!("{fault:?}\n{}", report.render(Format::Text).unwrap());
    if fault == Fault::None {
        let not_applicable: Vec<_> = report
            .rows
            .iter()
            .filter(|row| matches!(row.verdict, Verdict::NotApplicable(_)))
            .map(|row| row.id)
            .collect();
        assert_eq!(not_applicable, ["A02-unadvertised-verbs-refused"]);
    }
    report.failed().map(|row| row.id).collect()
}

macro_rules! faults {
    ($($name:ident: $fault:ident => [$($check:literal),*];)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let expected: &[&str] = &[$($check),*];
            assert_eq!(failures(Fault::$fault).await, expected);
        }
    )*};
}

faults! {
    a_right_controller_passes: None => [];
    objects_that_are_doubled: DoublesObjects => [];
    deletes_claimed_early: ClaimsDeleteEarly => [];
    not_found_instead_of_unreachable: NotFoundWhenUnreachable => ["C18-unreachable-is-unavailable"];
    metrics_that_are_zeros: ZeroMetrics => ["G47-metrics-are-measured"];
    another_spec_that_is_accepted: AcceptsOtherSpec => ["B08-other-spec-conflict"];
    a_secret_in_an_error: LeaksSecret => ["A04-secrets-stay-secret"];
    foreign_objects_that_are_taken: TakesForeign => ["C20-foreign-controller-untouched", "C20-foreign-unmarked-untouched"];
    a_home_that_is_forgotten: ForgetsHome => ["D27-home-survives"];
    epochs_that_are_ignored: IgnoresEpoch => ["F42-stale-epoch-refused"];
    a_verb_that_is_advertised_in_vain: AdvertisesTooMuch => ["A02-advertised-verbs-work", "C17-unknown-is-not-found", "G47-metrics-are-measured"];
    a_verb_that_is_not_advertised: AdvertisesTooLittle => ["A02-unadvertised-verbs-refused"];
    deadlines_that_are_ignored: IgnoresDeadlines => ["G44-deadline-kept"];
    pages_by_count: CountsPages => ["C19-pages-stable-under-churn"];
    followers_that_end: EndsFollowers => ["G47-logs-follow"];
    fields_that_are_not_named: NamesNoField => ["B10-hostile-ids-refused", "B10-invalid-fields-named"];
}
