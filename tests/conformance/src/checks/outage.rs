//! Checks of several groups with one thing in common: the backend is away, hangs, or fails at one call.

use std::time::{Duration, Instant};

use streamspace_proto::controller::v1::{GetSessionRequest, HealthCheckRequest, ListSessionsRequest};
use tonic::{Code, Status};

use crate::check::{Stop, checks, show};
use crate::context::{Context, Session, is_retryable};
use crate::fixture::{Ability, Weather};

checks! {
    "B12-full-backend" "a create without room is RESOURCE_EXHAUSTED, leaves nothing and disturbs nobody; with room it succeeds" [Fixture(NoRoom)] Alone = full_backend;
    "B13-refused-backend-call" "a create that loses its backend at any one call leaves nothing, or what the next try goes on with" [Fixture(CallByCall), Fixture(Inventory)] Alone = refused_backend_call;
    "B14-lost-backend-answer" "a create that loses the answer of any one backend call is gone on with by the next try, as one object" [Fixture(CallByCall), Fixture(Inventory)] Alone = lost_backend_answer;
    "C18-unreachable-is-unavailable" "while the backend is away, nothing is NOT_FOUND and no listing is empty" [Fixture(Weather)] Alone = unreachable_is_unavailable;
    "D29-running-outlives-restart" "a running session outlives a restart of its backend, and goes on as the same object" [Fixture(Restart)] Alone = running_outlives_restart;
    "D29-wake-after-restart" "a hibernated session outlives a restart of its backend, and wakes with its home" [Hibernation, PersistentStorage, Fixture(Restart), Fixture(Files)] Alone = wake_after_restart;
    "E36-delete-through-failing-calls" "a delete that loses its backend at any one call is repeated with success and leaves nothing" [Fixture(CallByCall), Fixture(Inventory)] Alone = delete_through_failing_calls;
    "E38-delete-while-down" "a delete claims no success while the backend is away" [Fixture(Weather)] Alone = delete_while_down;
    "G44-deadline-kept" "calls on a backend that hangs end when their time is up" [Fixture(Weather)] Alone = deadline_kept;
    "G48-health-tells-outage-and-recovery" "HealthCheck says within 15 s that the backend is away, and within 15 s that it is back" [Fixture(Weather)] Alone = health_tells;
}

/// More backend calls than any plugin makes for one step.
const MOST_CALLS: usize = 40;

async fn full_backend(cx: Context) -> Result<(), Stop> {
    let before = cx.running().await?;
    let session = cx.session();
    let fixture = cx.fixture(Ability::NoRoom)?;
    fixture.weather(Weather::Full).await?;
    // Not driven to its end: it may be tried again, and would be until the end of all patience.
    let refused = cx.controller.create(session.create_request()).await;
    let left = cx.expect_gone(&session).await;
    let again = cx.controller.create(before.create_request()).await;
    let health = cx.controller.health(HealthCheckRequest {}).await;
    fixture.weather(Weather::Fair).await?;
    if !matches!(&refused, Err(status) if status.code() == Code::ResourceExhausted) {
        return Err(Stop::expected_of("RESOURCE_EXHAUSTED from a backend that is full", &refused));
    }
    left?;
    if again.is_err() {
        return Err(Stop::expected_of("what is there already to need no room", &again));
    }
    if !matches!(&health, Ok(answer) if answer.status == "healthy") {
        return Err(Stop::expected_of("a full backend to be healthy", &health));
    }
    cx.wait_for_phase(&before, "Running").await?;
    cx.run(&session).await?;
    cx.expect_one(&session).await
}

async fn refused_backend_call(cx: Context) -> Result<(), Stop> {
    create_through(&cx, Weather::RefuseCall).await
}

async fn lost_backend_answer(cx: Context) -> Result<(), Stop> {
    create_through(&cx, Weather::LoseAnswer).await
}

async fn create_through(cx: &Context, weather: fn(usize) -> Weather) -> Result<(), Stop> {
    let fixture = cx.fixture(Ability::CallByCall)?;
    for number in 0..MOST_CALLS {
        let session = cx.session();
        fixture.weather(weather(number)).await?;
        let first = cx.controller.create(session.create_request()).await;
        let calls = fixture.calls().await?;
        fixture.weather(Weather::Fair).await?;
        if let Err(status) = &first
            && !is_retryable(status)
        {
            let what = format!("an error that may be retried when call {number} of the backend fails");
            return Err(Stop::expected_of(what, &first));
        }
        cx.run(&session).await?;
        cx.expect_one(&session).await?;
        cx.delete_whole(&session).await?;
        if calls <= number {
            return Ok(());
        }
    }
    Err(Stop::expected(format!("at most {MOST_CALLS} calls of the backend for one create"), "more"))
}

async fn delete_through_failing_calls(cx: Context) -> Result<(), Stop> {
    let fixture = cx.fixture(Ability::CallByCall)?;
    for number in 0..2 * MOST_CALLS {
        let session = cx.running().await?;
        let (weather, which): (fn(usize) -> Weather, _) = match number % 2 {
            0 => (Weather::RefuseCall, number / 2),
            _ => (Weather::LoseAnswer, number / 2),
        };
        fixture.weather(weather(which)).await?;
        let first = cx.controller.delete(session.delete_request()).await;
        let calls = fixture.calls().await?;
        fixture.weather(Weather::Fair).await?;
        match &first {
            Err(status) if !is_retryable(status) => {
                let what = format!("an error that may be retried when call {which} of the backend fails");
                return Err(Stop::expected_of(what, &first));
            }
            Ok(answer) if answer.success => cx.expect_gone(&session).await?,
            _ => {}
        }
        cx.delete_whole(&session).await?;
        if calls <= which && number % 2 == 1 {
            return Ok(());
        }
    }
    Err(Stop::expected(format!("at most {MOST_CALLS} calls of the backend for one delete"), "more"))
}

async fn unreachable_is_unavailable(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let fixture = cx.fixture(Ability::Weather)?;
    fixture.weather(Weather::Down).await?;
    let controller = cx.controller.within(Duration::from_secs(10));
    let get = |session_id| GetSessionRequest { session_id, ..Default::default() };
    let mut answers: Vec<(&str, Result<(), Status>)> = vec![
        ("GetSession of a session that is there", controller.get(get(session.id())).await.map(drop)),
        ("GetSession of an unknown session", controller.get(get(cx.new_id())).await.map(drop)),
        ("CreateSession of what is there", controller.create(session.create_request()).await.map(drop)),
    ];
    if cx.offer.listing {
        let listed = controller.list(ListSessionsRequest::default()).await;
        answers.push(("ListSessions", listed.map(drop)));
    }
    fixture.weather(Weather::Fair).await?;
    for (call, answer) in answers {
        let honest = [Code::Unavailable, Code::DeadlineExceeded];
        if !matches!(&answer, Err(status) if honest.contains(&status.code())) {
            let what = format!("UNAVAILABLE from {call} while the backend is away");
            return Err(Stop::expected_of(what, &answer));
        }
    }
    cx.wait_for_phase(&session, "Running").await?;
    cx.expect_one(&session).await
}

async fn running_outlives_restart(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let before = cx.status(&session).await;
    cx.fixture(Ability::Restart)?.restart().await?;
    seen_again(&cx, &session).await?;
    // Some backends start it again by themselves; the same create leads to that anywhere.
    cx.run(&session).await?;
    let after = cx.status(&session).await;
    match (&before, &after) {
        (Ok(before), Ok(after)) if before.node_id == after.node_id => {}
        _ => {
            let what = format!("the same object as before the restart: {}", show(&before));
            return Err(Stop::expected_of(what, &after));
        }
    }
    cx.expect_one(&session).await?;
    cx.delete_whole(&session).await
}

async fn wake_after_restart(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    session.spec().persistent_home = true;
    cx.remember(&session);
    cx.run(&session).await?;
    let fixture = cx.fixture(Ability::Files)?;
    let (path, content) = ("/config/restart", format!("written before {}", cx.dice(1 << 30)));
    fixture.write_file(&session.id(), path, &content).await?;
    cx.put_to_sleep(&session).await?;
    cx.fixture(Ability::Restart)?.restart().await?;
    seen_again(&cx, &session).await?;
    cx.wait_for_phase(&session, "Hibernated").await?;
    cx.wake_up(&session).await?;
    cx.expect_one(&session).await?;
    let found = fixture.read_file(&session.id(), path).await?;
    if found.as_deref() == Some(content.as_str()) {
        return Ok(());
    }
    Err(Stop::expected(format!("the file in the home: {content}"), format!("{found:?}")))
}

/// Waits for a session after its backend was away. Meanwhile it may be out of reach, and is never gone.
async fn seen_again(cx: &Context, session: &Session) -> Result<(), Stop> {
    let deadline = tokio::time::Instant::now() + cx.patience();
    loop {
        let seen = cx.status(session).await;
        match &seen {
            Ok(_) => return Ok(()),
            Err(status) if is_retryable(status) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(_) => return Err(Stop::expected_of("the session after the restart of its backend", &seen)),
        }
    }
}

async fn delete_while_down(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let fixture = cx.fixture(Ability::Weather)?;
    fixture.weather(Weather::Down).await?;
    let deleted = cx.controller.within(Duration::from_secs(10)).delete(session.delete_request()).await;
    fixture.weather(Weather::Fair).await?;
    match &deleted {
        Err(status) if is_retryable(status) => {}
        Ok(answer) if !answer.success => {}
        _ => return Err(Stop::expected_of("no success while the backend is away", &deleted)),
    }
    cx.delete_whole(&session).await
}

async fn deadline_kept(cx: Context) -> Result<(), Stop> {
    const LIMIT: Duration = Duration::from_secs(2);
    let session = cx.running().await?;
    let fixture = cx.fixture(Ability::Weather)?;
    fixture.weather(Weather::Hung).await?;
    let controller = cx.controller.within(LIMIT);
    let mut answers = Vec::new();
    let started = Instant::now();
    let get = GetSessionRequest { session_id: session.id(), ..Default::default() };
    answers.push(("GetSession", controller.get(get).await.map(drop), started.elapsed()));
    if cx.offer.listing {
        let started = Instant::now();
        let listed = controller.list(ListSessionsRequest::default()).await;
        answers.push(("ListSessions", listed.map(drop), started.elapsed()));
    }
    let started = Instant::now();
    let create = cx.session().create_request();
    answers.push(("CreateSession", controller.create(create).await.map(drop), started.elapsed()));
    fixture.weather(Weather::Fair).await?;
    for (rpc, answer, took) in answers {
        let honest = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
        if !matches!(&answer, Err(status) if honest.contains(&status.code())) || took > LIMIT * 3 {
            let seen = format!("{} after {:.1} s", show(&answer), took.as_secs_f64());
            return Err(Stop::expected(format!("{rpc} to end with DEADLINE_EXCEEDED after 2 s"), seen));
        }
    }
    // The next call is as good as new.
    cx.delete_whole(&session).await
}

async fn health_tells(cx: Context) -> Result<(), Stop> {
    const WITHIN: Duration = Duration::from_secs(15);
    let fixture = cx.fixture(Ability::Weather)?;
    fixture.weather(Weather::Down).await?;
    let away = wait_for_health(&cx, "unhealthy", WITHIN).await;
    fixture.weather(Weather::Fair).await?;
    let message = away?;
    if message.is_empty() {
        return Err(Stop::expected("a message that says why it is unhealthy", "none"));
    }
    wait_for_health(&cx, "healthy", WITHIN).await.map(drop)
}

async fn wait_for_health(cx: &Context, wanted: &str, within: Duration) -> Result<String, Stop> {
    let started = Instant::now();
    loop {
        let answer = cx.controller.within(within).health(HealthCheckRequest {}).await;
        match answer {
            Ok(answer) if answer.status == wanted => return Ok(answer.message),
            ref seen if started.elapsed() > within => {
                return Err(Stop::expected_of(format!("`{wanted}` within {} s", within.as_secs()), seen));
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
