//! What a backend has to do, in 48 numbers. The ids of checks carry them; what no check can judge is judged elsewhere,
//! and says where.

use std::fmt::Write as _;

use crate::check::Check;

/// A number, what it stands for, and what else judges it than checks: tests as `path::function`, or why nothing does.
type Row = (u8, &'static str, &'static str);

const ROWS: &[Row] = &[
    (
        1,
        "says who it is, in a version that the host knows",
        "`tests/tests/sandbox/load.rs::an_export_that_is_missing_is_found_at_load`; there is one version of the contract so far, and no other to agree on",
    ),
    (2, "capabilities are true", ""),
    (
        3,
        "wrong settings are refused with their path",
        "`tests/tests/sandbox/load.rs::a_configuration_that_does_not_fit_the_schema_is_refused`",
    ),
    (4, "secrets stay secret", "`host/control/tests/rest.rs::secrets_reach_the_backend_and_nobody_else`"),
    (
        5,
        "imports are a subset of what is granted",
        "`tests/tests/sandbox/load.rs::an_import_that_the_manifest_does_not_ask_for_is_refused`, `tests/tests/sandbox/load.rs::a_plugin_that_asks_for_more_than_it_is_granted_is_not_bound`",
    ),
    (6, "a session runs and can be reached", ""),
    (7, "the same again is the same object", ""),
    (8, "another spec is a conflict", ""),
    (9, "creates at once make one object", ""),
    (10, "any input is taken or refused by name", ""),
    (11, "what cannot be made leaves nothing", ""),
    (
        12,
        "a backend without room says so; a limit is kept or denied aloud",
        "a full Docker Engine does not exist: how many sessions a controller takes is counted by the API server, `host/control/tests/lifecycle.rs::full_waits_for_room`",
    ),
    (13, "a failure at any call leaves nothing or what the next try finds", ""),
    (
        14,
        "a host that dies at any call is made up for",
        "`tests/tests/kills.rs`, `host/control/tests/lifecycle.rs::a_killed_server_loses_and_doubles_nothing`",
    ),
    (15, "a cancelled create converges", ""),
    (
        16,
        "resources, environment, ports and volumes are applied",
        "ports: `B06-access-answers`; volumes: `E36-nothing-left`; home: `D27-home-survives`",
    ),
    (17, "unknown is not found", ""),
    (
        18,
        "unreachable is neither gone nor stopped",
        "`tests/tests/engine_away.rs::stopped_and_started_again`",
    ),
    (19, "listings are whole and only of our own", ""),
    (
        20,
        "look-alikes are left alone",
        "copies of a session's container: `tests/tests/docker_backend/renamed.rs::a_copy_of_a_session_is_nobodys`",
    ),
    (
        21,
        "what is seen never goes back",
        "a status bears no revision in this contract: the API server acts on what it asked for last, `host/control/tests/drift.rs::an_event_leads_to_a_question_and_the_answer_decides`",
    ),
    (22, "a listing of ten thousand within its time", "measured: `tests/bench/src/listing.rs`"),
    (
        23,
        "why a session failed",
        "want of memory: `tests/tests/docker_backend/observing.rs::a_session_that_ends_by_itself_again_and_again_has_failed`",
    ),
    (
        24,
        "what is done by hand is seen, and harms nothing",
        "what follows from it: `host/control/tests/drift.rs`, `tests/tests/engine_away.rs`",
    ),
    (25, "events are not lost in silence", ""),
    (26, "hibernation frees what it should", ""),
    (27, "the home is the same after a wake", ""),
    (28, "hibernating and waking twice are no-ops", ""),
    (
        29,
        "a restart of the backend loses nothing",
        "Docker: `tests/tests/conformance/docker.rs::sessions_outlive_a_restart_of_their_engine`, killed: `tests/tests/engine_away.rs::killed_and_started_again`",
    ),
    (30, "changes of mind converge", ""),
    (
        31,
        "the way in before a wake is none after it",
        "a session's URL is the gateway's, which asks for the way in at each connection: `host/control/tests/gateway.rs::a_session_that_was_started_again_is_found_on_its_new_port`",
    ),
    (32, "delete in every phase", ""),
    (33, "deleting the unknown succeeds", ""),
    (34, "deletes at once all succeed", ""),
    (35, "success means gone", ""),
    (36, "all side objects go too", ""),
    (37, "homes are kept, or purged", ""),
    (
        38,
        "no success while the backend is away",
        "`host/control/tests/lifecycle.rs::a_deletion_never_gives_up`",
    ),
    (39, "nothing has to be remembered", ""),
    (
        40,
        "handles across versions of the plugin, and back",
        "what this version writes is pinned in `plugins/docker/src/handles.rs::handles_of_this_version_are_written_and_read_as_they_were`",
    ),
    (
        41,
        "orphans are found again",
        "an object whose create was lost: `B14-lost-answer-then-retry`, `host/control/tests/lifecycle.rs::a_lost_reply_makes_nothing_twice`. Objects of ids that the API server does not know are left alone and not adopted",
    ),
    (
        42,
        "only what is ours and meant to be gone is collected, and not by who was replaced",
        "`host/control/tests/drift.rs::a_deleted_session_that_comes_back_is_removed_and_an_unknown_one_is_not`, `tests/tests/sandbox/calls.rs::a_caller_that_was_replaced_is_refused_for_every_session`",
    ),
    (
        43,
        "nothing destructive before the first whole listing",
        "`host/control/tests/drift.rs::nothing_is_removed_or_made_before_the_first_whole_listing`, `host/control/tests/drift.rs::a_listing_that_fails_or_breaks_off_changes_nothing`",
    ),
    (
        44,
        "deadlines are kept",
        "`tests/tests/sandbox/calls.rs::a_call_ends_at_its_deadline_whatever_it_waits_for`",
    ),
    (
        45,
        "a trap, a loop or a storm ends its call and nothing else",
        "`tests/tests/sandbox/calls.rs::every_trap_ends_its_call_and_says_why`, `tests/tests/sandbox/calls.rs::an_endless_loop_ends_with_the_budget_of_processor_time`, `tests/tests/sandbox/calls.rs::memory_has_a_limit_and_none_is_kept`, `tests/tests/sandbox/neighbours.rs`",
    ),
    (46, "many calls at once, one after the other for each session", ""),
    (47, "logs and metrics stream, and leave nothing behind", ""),
    (48, "health tells an outage and its end", ""),
];

/// The number in an id.
fn number(check: &Check) -> Option<u8> {
    check.id.get(1..3)?.parse().ok()
}

/// The numbers as a table of the documentation.
pub fn numbers() -> String {
    let mut text = "| number | a backend … | checks | judged elsewhere |\n|---|---|---|---|\n".to_owned();
    for (row, what, elsewhere) in ROWS {
        let ids: Vec<_> = super::all()
            .filter(|check| number(check) == Some(*row))
            .map(|check| format!("`{}`", check.id))
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {row} | {what} | {} | {elsewhere} |", ids.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_number_is_judged_somewhere_and_every_check_has_a_number() {
        assert_eq!(ROWS.iter().map(|(row, ..)| *row).collect::<Vec<_>>(), (1..=48).collect::<Vec<_>>());
        let table = numbers();
        for check in super::super::all() {
            assert!(table.contains(&format!("`{}`", check.id)), "{} has no number", check.id);
        }
        for (row, _, elsewhere) in ROWS {
            let checked = super::super::all().any(|check| number(check) == Some(*row));
            assert!(checked || !elsewhere.is_empty(), "{row}");
        }
    }

    #[test]
    fn what_is_judged_elsewhere_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (row, _, elsewhere) in ROWS {
            for span in elsewhere.split('`').skip(1).step_by(2) {
                if !span.contains('/') {
                    assert!(super::super::all().any(|check| check.id == span), "{row}: {span}");
                    continue;
                }
                let (path, function) = span.split_once("::").unwrap_or((span, ""));
                let source = std::fs::read_to_string(root.join(path));
                let source = source.unwrap_or_else(|error| panic!("{row}: {path}: {error}"));
                assert!(source.contains(&format!("fn {function}")), "{row}: {span}");
            }
        }
    }
}
