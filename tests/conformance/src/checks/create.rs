//! B: making a session.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use streamspace_proto::controller::v1::access_point::Target;
use streamspace_proto::controller::v1::{
    AccessPoint, GetSessionAccessRequest, GetSessionRequest, VolumeMount,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::check::{Stop, checks, show};
use crate::context::{Context, Session};
use crate::fixture::Ability;

use super::hostile::fields;

checks! {
    "B06-create-runs" "a created session reaches phase Running, and GetSession, GetSessionStatus and ListSessions agree on it" [] Shared = create_runs;
    "B06-access-answers" "a running session has a way in, and something answers there" [Access] Shared = access_answers;
    "B06-unknown-service-not-found" "a service that a session does not have is NOT_FOUND" [Access] Shared = unknown_service_not_found;
    "B07-same-spec-twice" "the same id and spec a second time is the same object" [] Shared = same_spec_twice;
    "B08-other-spec-conflict" "the same id with another spec is ALREADY_EXISTS and changes nothing" [] Shared = other_spec_conflict;
    "B09-two-concurrent-creates" "two identical creates at once make one object" [] Shared = two_concurrent_creates;
    "B09-ten-concurrent-creates" "ten identical creates at once make one object" [] Shared = ten_concurrent_creates;
    "B12-sizes-enforced-or-told" "a size of storage that is asked for is enforced, refused by its name, or told in a condition" [PersistentStorage, Fixture(Inspect)] Shared = sizes_enforced_or_told;
    "B14-lost-answer-then-retry" "a create whose answer was lost is found by the next one" [] Shared = lost_answer_then_retry;
    "B14-cancelled-create-then-retry" "a create whose caller went away is found by the next one" [] Shared = cancelled_create_then_retry;
    "B15-cancelled-create-then-delete" "a create whose caller went away does not outlive the delete that follows" [] Shared = cancelled_create_then_delete;
    "B16-resources-applied" "memory, processor and environment stand on the backend's object" [Fixture(Inspect)] Shared = resources_applied;
}

async fn create_runs(cx: Context) -> Result<(), Stop> {
    let session = cx.session();
    let status = cx.run(&session).await?;
    let request = GetSessionRequest { session_id: session.id(), ..Default::default() };
    let got = cx.controller.get(request).await;
    match &got {
        Ok(answer)
            if answer.user_id == session.user()
                && answer.status.as_ref().is_some_and(|got| {
                    (&got.session_id, &got.phase, &got.node_id)
                        == (&status.session_id, &status.phase, &status.node_id)
                }) => {}
        _ => {
            let what = format!("GetSession to agree with {status:?} of user {}", session.user());
            return Err(Stop::expected_of(what, &got));
        }
    }
    cx.expect_one(&session).await?;
    let entries = cx.entries_of(&session).await?;
    let listed = entries.first().and_then(|entry| entry.status.as_ref()).map(|listed| listed.phase.as_str());
    if listed != Some("Running") {
        return Err(Stop::expected("phase Running in the listing", format!("{entries:?}")));
    }
    Ok(())
}

async fn access_answers(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    reach(&cx, &session).await
}

/// That a session can be reached, in one of the ways it names.
pub(super) async fn reach(cx: &Context, session: &Session) -> Result<(), Stop> {
    let deadline = tokio::time::Instant::now() + cx.patience();
    loop {
        let request = GetSessionAccessRequest { session_id: session.id(), ..Default::default() };
        let answer = cx.controller.access(request).await;
        let mut tried = String::new();
        if let Ok(access) = &answer {
            for point in &access.points {
                match knock(point).await {
                    Ok(()) => return Ok(()),
                    Err(error) => tried = format!("{}: {error}", point.service),
                }
            }
        }
        if tokio::time::Instant::now() > deadline {
            let seen = format!("{} ({tried})", show(&answer));
            return Err(Stop::expected("a way into the session that answers", seen));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Connects, and where it is HTTP waits for the first bytes of an answer.
async fn knock(point: &AccessPoint) -> Result<(), String> {
    let (address, http) = match &point.target {
        Some(Target::Tcp(tcp)) => (format!("{}:{}", tcp.host, tcp.port), false),
        Some(Target::Http(http)) => {
            let rest = http.base_url.split_once("://").map_or(http.base_url.as_str(), |(_, rest)| rest);
            (rest.split('/').next().unwrap_or_default().to_owned(), http.base_url.starts_with("http://"))
        }
        other => return Err(format!("nothing that this suite can open: {other:?}")),
    };
    let answer = async {
        let mut stream = TcpStream::connect(&address).await?;
        if http || point.service == "web" {
            let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut start = [0u8; 5];
            stream.read_exact(&mut start).await?;
            if &start != b"HTTP/" {
                return Err(std::io::Error::other("what answers is no web server"));
            }
        }
        Ok(())
    };
    match tokio::time::timeout(Duration::from_secs(10), answer).await {
        Ok(answered) => answered.map_err(|error: std::io::Error| format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer within 10 s")),
    }
}

async fn unknown_service_not_found(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let request = GetSessionAccessRequest {
        session_id: session.id(),
        service: "no-such-service".to_owned(),
        ..Default::default()
    };
    let answer = cx.controller.access(request).await;
    if matches!(&answer, Err(status) if status.code() == Code::NotFound) {
        return Ok(());
    }
    Err(Stop::expected_of("NOT_FOUND for a service that the session does not have", &answer))
}

async fn same_spec_twice(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let before = cx.status(&session).await;
    let again = cx.create(&session).await;
    match (&before, &again) {
        (Ok(before), Ok(again)) if before.node_id == again.node_id => {}
        _ => {
            let seen = format!("{}, then {}", show(&before), show(&again));
            return Err(Stop::expected("the second create to find the same object", seen));
        }
    }
    cx.expect_one(&session).await
}

async fn other_spec_conflict(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let before = (cx.status(&session).await, cx.objects(&session).await?);
    let mut other = session.clone();
    other.spec().env.push(streamspace_proto::controller::v1::EnvVar {
        name: "OTHER".to_owned(),
        value: "spec".to_owned(),
        secret: false,
    });
    let refused = cx.create(&other).await;
    if !matches!(&refused, Err(status) if status.code() == Code::AlreadyExists) {
        return Err(Stop::expected_of("ALREADY_EXISTS for the same id with another spec", &refused));
    }
    let after = (cx.status(&session).await, cx.objects(&session).await?);
    let same = match (&before.0, &after.0) {
        (Ok(before), Ok(after)) => (&before.node_id, &before.phase) == (&after.node_id, &after.phase),
        _ => false,
    };
    if !same || before.1 != after.1 {
        return Err(Stop::expected(
            format!("nothing to change: {} {:?}", show(&before.0), before.1),
            format!("{} {:?}", show(&after.0), after.1),
        ));
    }
    let again = cx.create(&session).await;
    if again.is_err() {
        return Err(Stop::expected_of("the first spec to be still the session's", &again));
    }
    Ok(())
}

async fn two_concurrent_creates(cx: Context) -> Result<(), Stop> {
    concurrent_creates(&cx, 2).await
}

async fn ten_concurrent_creates(cx: Context) -> Result<(), Stop> {
    concurrent_creates(&cx, 10).await
}

async fn concurrent_creates(cx: &Context, count: usize) -> Result<(), Stop> {
    let session = cx.session();
    let answers = join_all((0..count).map(|_| cx.create(&session))).await;
    let mut nodes = BTreeMap::<&str, usize>::new();
    for answer in &answers {
        match answer {
            Ok(answer) => *nodes.entry(&answer.node_id).or_default() += 1,
            Err(_) => return Err(Stop::expected_of("each of the creates to succeed", answer)),
        }
    }
    if nodes.len() != 1 {
        return Err(Stop::expected("one object for all creates", format!("{nodes:?}")));
    }
    cx.wait_for_phase(&session, "Running").await?;
    cx.expect_one(&session).await
}

async fn lost_answer_then_retry(cx: Context) -> Result<(), Stop> {
    let session = cx.session();
    cx.controller.lose_the_next_answer();
    let lost = cx.controller.create(session.create_request()).await;
    if lost.is_ok() {
        return Err(Stop::Failed("the suite's transport did not lose the answer".to_owned()));
    }
    cx.run(&session).await?;
    cx.expect_one(&session).await
}

/// A create that is given up after a while: another while in each round.
async fn give_up(cx: &Context, session: &Session) {
    let patience = Duration::from_millis(1 + cx.dice(60));
    // Whether it was over by then is not the question.
    drop(tokio::time::timeout(patience, cx.controller.create(session.create_request())).await);
}

async fn cancelled_create_then_retry(cx: Context) -> Result<(), Stop> {
    for _ in 0..3 {
        let session = cx.session();
        give_up(&cx, &session).await;
        cx.run(&session).await?;
        cx.expect_one(&session).await?;
        cx.delete_whole(&session).await?;
    }
    Ok(())
}

async fn cancelled_create_then_delete(cx: Context) -> Result<(), Stop> {
    for _ in 0..3 {
        let session = cx.session();
        give_up(&cx, &session).await;
        cx.delete_whole(&session).await?;
        // A request that was on its way to the backend would arrive by now.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        cx.expect_gone(&session).await?;
    }
    Ok(())
}

async fn resources_applied(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    let spec = session.spec();
    let resources = spec.resources.get_or_insert_default();
    resources.memory = "96Mi".to_owned();
    resources.cpu = "250m".to_owned();
    spec.env.push(streamspace_proto::controller::v1::EnvVar {
        name: "APPLIED".to_owned(),
        value: "to the letter: =$'\"".to_owned(),
        secret: false,
    });
    cx.run(&session).await?;
    let applied = cx.fixture(Ability::Inspect)?.inspect(&session.id()).await?.unwrap_or_default();
    let variable = applied.env.iter().find(|(name, _)| name == "APPLIED").map(|(_, value)| value.as_str());
    if (applied.memory_bytes, applied.cpu_millis, variable)
        == (Some(96 << 20), Some(250), Some("to the letter: =$'\""))
    {
        return Ok(());
    }
    Err(Stop::expected("96 MiB, 250 thousandths of a core and the variable APPLIED", format!("{applied:?}")))
}

async fn sizes_enforced_or_told(cx: Context) -> Result<(), Stop> {
    type Ask = fn(&mut Session);
    let asked: &[(&str, Ask)] = &[
        ("spec.resources.storage", |session| {
            session.spec().resources.get_or_insert_default().storage = "1Gi".to_owned();
        }),
        ("spec.home_size", |session| {
            session.spec().persistent_home = true;
            session.spec().home_size = "1Gi".to_owned();
        }),
        ("spec.volume_mounts.size", |session| {
            session.spec().volume_mounts.push(VolumeMount {
                name: "sized".to_owned(),
                mount_path: "/sized".to_owned(),
                size: "1Gi".to_owned(),
                ..Default::default()
            });
        }),
    ];
    for (field, ask) in asked {
        let mut session = cx.session();
        ask(&mut session);
        cx.remember(&session);
        let created = cx.create(&session).await;
        match &created {
            Ok(_) => {}
            Err(status)
                if matches!(
                    status.code(),
                    Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented
                ) && (status.message().contains(field)
                    || fields(status).iter().any(|named| without_index(named) == *field)) =>
            {
                continue;
            }
            Err(_) => {
                return Err(Stop::expected_of(
                    format!("a session, or a refusal that names {field}"),
                    &created,
                ));
            }
        }
        let status = cx.wait_for_phase(&session, "Running").await?;
        let told = status
            .conditions
            .iter()
            .any(|condition| condition.status == "False" && condition.message.contains(field));
        let applied = cx.fixture(Ability::Inspect)?.inspect(&session.id()).await?.unwrap_or_default();
        if !told && !applied.sizes.contains(field) {
            let what = format!("{field} to be enforced, or a condition that says that it is not");
            return Err(Stop::expected(what, format!("{:?} and {applied:?}", status.conditions)));
        }
        cx.delete_whole(&session).await?;
    }
    Ok(())
}

/// `spec.volume_mounts[0].size` → `spec.volume_mounts.size`.
fn without_index(field: &str) -> String {
    let parts = field.split('[').enumerate();
    parts
        .map(
            |(number, part)| {
                if number == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) }
            },
        )
        .collect()
}
