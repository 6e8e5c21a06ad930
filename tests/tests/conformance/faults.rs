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
    ($($name:ident: $fault:ident => [$($check:literal),*];)*) => {
        /// The checks that each fault makes fail.
        const FOUND: &[&[&str]] = &[$(&[$($check),*]),*];
        $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let expected: &[&str] = &[$($check),*];
            assert_eq!(failures(Fault::$fault).await, expected);
        }
    )*};
}

/// Checks that no fault here makes fail. Each is judged by its own words only.
const NEVER_SEEN_TO_FAIL: &[&str] = &[
    "A01-describes-itself",
    "B11-oversized-resources",
    "D30-hibernate-during-create",
    "D30-lost-answers",
    "E33-delete-unknown",
    "G46-hundred-parallel-calls",
    "G47-cancelled-followers-leave-nothing",
];

#[test]
fn a_check_that_cannot_fail_is_known() {
    let found: Vec<_> = FOUND.concat();
    let never: Vec<_> = streamspace_conformance::checks::all()
        .map(|check| check.id)
        .filter(|id| !found.contains(id))
        .collect();
    assert_eq!(never, NEVER_SEEN_TO_FAIL);
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
        "C24-rename-by-hand-harmless",
        "D29-running-outlives-restart",
        "F39-fresh-shell-sees-all",
        "F40-recorded-handles-go-on"
    ];
    // Whatever looks after a delete.
    deletes_claimed_early: ClaimsDeleteEarly => [
        "A04-secrets-stay-secret",
        "B10-any-user-id",
        "B12-sizes-enforced-or-told",
        "B13-refused-backend-call",
        "B14-cancelled-create-then-retry",
        "B14-lost-backend-answer",
        "B15-cancelled-create-then-delete",
        "C19-lists-all-and-only-owned",
        "C19-pages-stable-under-churn",
        "C24-rename-by-hand-harmless",
        "D29-running-outlives-restart",
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
        "F40-altered-handles-harmless",
        "F40-recorded-handles-go-on",
        "F40-strange-handles-harmless",
        "G44-deadline-kept",
        "G46-serial-per-session"
    ];
    not_found_instead_of_unreachable: NotFoundWhenUnreachable => ["C18-unreachable-is-unavailable"];
    metrics_that_are_zeros: ZeroMetrics => ["G47-metrics-are-measured"];
    another_spec_that_is_accepted: AcceptsOtherSpec => ["B08-other-spec-conflict"];
    a_secret_in_an_error: LeaksSecret => ["A04-secrets-stay-secret"];
    foreign_objects_that_are_taken: TakesForeign => ["C20-foreign-controller-untouched", "C20-foreign-unmarked-untouched"];
    a_home_that_is_forgotten: ForgetsHome => ["D27-home-survives", "D29-wake-after-restart"];
    epochs_that_are_ignored: IgnoresEpoch => ["F42-stale-epoch-refused"];
    a_verb_that_is_advertised_in_vain: AdvertisesTooMuch => ["A02-advertised-verbs-work", "C17-unknown-is-not-found", "G47-metrics-are-measured"];
    a_verb_that_is_not_advertised: AdvertisesTooLittle => ["A02-unadvertised-verbs-refused"];
    deadlines_that_are_ignored: IgnoresDeadlines => ["G44-deadline-kept"];
    pages_by_count: CountsPages => ["C19-pages-stable-under-churn"];
    followers_that_end: EndsFollowers => ["G47-logs-follow"];
    parts_that_a_full_backend_keeps: LeavesPartsWhenFull => ["B12-full-backend"];
    lost_events_that_are_hidden: HidesLostEvents => ["C25-lost-events-told"];
    handles_of_any_length: TakesAnyHandle => ["F40-strange-handles-harmless"];
    handles_that_are_refused: RefusesHandles => [
        "F40-altered-handles-harmless",
        "F40-recorded-handles-go-on",
        "F40-strange-handles-harmless"
    ];
    renamed_objects_that_are_lost: LosesRenamed => ["C24-rename-by-hand-harmless"];
    a_watch_that_tells_nothing: TellsNothing => [
        "C25-lost-events-told",
        "C25-watch-goes-on-without-gap",
        "C25-watch-resumes-or-says-so",
        "C25-watch-sees-changes"
    ];
    gaps_that_are_skipped: SkipsGaps => ["C25-watch-goes-on-without-gap", "C25-watch-resumes-or-says-so"];
    sizes_that_are_forgotten: IgnoresSizes => ["B12-sizes-enforced-or-told"];
    services_that_are_not_told_apart: AnyService => ["B06-unknown-service-not-found"];
    hands_that_are_missed: MissesHands => [
        "C24-pause-by-hand-seen",
        "C24-removal-by-hand-seen",
        "C24-stop-by-hand-seen",
        "C25-watch-goes-on-without-gap",
        "C25-watch-sees-changes"
    ];
    resources_that_are_forgotten: AppliesNothing => ["B10-any-text-in-env-and-labels", "B16-resources-applied"];
    a_failure_without_words: FailsSilently => ["C23-failure-explained", "C24-pause-by-hand-seen"];
    sleep_that_is_none: SleepsAwake => ["D26-hibernated-uses-nothing"];
    objects_that_change: ChangesNodes => ["D28-hibernate-twice", "D28-wake-twice"];
    a_door_that_is_left_open: LeavesTheDoorOpen => ["D31-no-access-while-hibernated"];
    health_that_is_always_good: AlwaysHealthy => ["G48-health-tells-outage-and-recovery"];
    tails_that_are_ignored: IgnoresTails => ["G47-logs-tail-and-resume"];
    images_that_are_all_the_same: TakesAnyImage => [
        "B11-malformed-image",
        "B11-missing-image",
        "F40-altered-handles-harmless"
    ];
    users_that_are_forgotten: ForgetsUsers => ["B06-create-runs", "B10-any-user-id"];
    settings_that_are_not_looked_at: TakesAnySetting => ["A03-invalid-config-refused"];
    imports_that_are_not_declared: ImportsMore => ["A05-imports-are-declared"];
    a_way_that_leads_nowhere: LeadsNowhere => ["B06-access-answers", "D31-access-after-wake"];
    sleepers_that_a_restart_loses: ForgetsSleepers => ["D29-wake-after-restart"];
    fields_that_are_not_named: NamesNoField => ["B10-hostile-ids-refused", "B10-invalid-fields-named"];
}
