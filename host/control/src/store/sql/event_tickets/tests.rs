use std::time::Duration;

use super::super::tests::open;
use crate::store::Store as _;

const LIFE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_ticket_is_good_once_and_not_for_long() {
    let Some((_fixture, store)) = open().await else { return };
    for (ticket, life) in [("first", LIFE), ("second", LIFE), ("late", Duration::ZERO)] {
        assert!(store.issue_event_ticket(ticket, "token", life, 10).await.unwrap());
    }
    assert_eq!(store.redeem_event_ticket("first").await.unwrap().as_deref(), Some("token"));
    for bad in ["first", "late", "never"] {
        assert_eq!(store.redeem_event_ticket(bad).await.unwrap(), None, "{bad}");
    }
    assert_eq!(store.redeem_event_ticket("second").await.unwrap().as_deref(), Some("token"));
}

#[tokio::test]
async fn there_are_only_so_many_and_those_that_ran_out_take_no_place() {
    let Some((_fixture, store)) = open().await else { return };
    assert!(store.issue_event_ticket("late", "token", Duration::ZERO, 1).await.unwrap());
    assert!(store.issue_event_ticket("first", "token", LIFE, 1).await.unwrap());
    assert!(!store.issue_event_ticket("second", "token", LIFE, 1).await.unwrap());
    store.redeem_event_ticket("first").await.unwrap();
    assert!(store.issue_event_ticket("third", "token", LIFE, 1).await.unwrap());
}
