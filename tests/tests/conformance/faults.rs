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
    objects_that_are_doubled: DoublesObjects => [
        "B07-same-spec-twice",
        "B09-ten-concurrent-creates",
        "B09-two-concurrent-creates",
        "B13-refused-backend-call",
        "B14-cancelled-create-then-retry",
        "B14-lost-answer-then-retry",
        "B14-lost-backend-answer",
        "F39-fresh-shell-sees-all"
    ];
    // Whatever looks after a delete.
    deletes_claimed_early: ClaimsDeleteEarly => [
        "A04-secrets-stay-secret",
        "B10-any-user-id",
        "B13-refused-backend-call",
        "B14-cancelled-create-then-retry",
        "B14-lost-backend-answer",
        "B15-cancelled-create-then-delete",
        "C19-lists-all-and-only-owned",
        "C19-pages-stable-under-churn",
        "D30-delete-during-wake",
        "E32-delete-at-once",
        "E32-delete-failed",
        "E32-delete-hibernated",
        "E32-delete-mid-create",
        "E32-delete-mid-hibernate",
        "E32-delete-paused",
        "E32-delete-running",
        "E34-concurrent-deletes",
        "E34-lost-answer",
        "E35-success-means-gone",
        "E36-delete-through-failing-calls",
        "E36-nothing-left",
        "E37-home-kept",
        "E37-home-purged",
        "E38-delete-while-down",
        "F39-fresh-shell-sees-all",
        "F39-state-wiped-between-calls",
        "F40-strange-handles-harmless",
        "G44-deadline-kept",
        "G46-serial-per-session"
    ];
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
    parts_that_a_full_backend_keeps: LeavesPartsWhenFull => ["B12-full-backend"];
    lost_events_that_are_hidden: HidesLostEvents => ["C25-lost-events-told"];
    handles_of_any_length: TakesAnyHandle => ["F40-strange-handles-harmless"];
    fields_that_are_not_named: NamesNoField => ["B10-hostile-ids-refused", "B10-invalid-fields-named"];
}
