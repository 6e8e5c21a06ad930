//! G: many calls at once, and measurements.

use std::time::Duration;

use futures::future::{join, join_all};
use streamspace_proto::controller::v1::{
    DeleteSessionRequest, GetSessionMetricsRequest, GetSessionRequest, SessionMetricsResponse,
};
use tonic::Code;

use crate::check::{Stop, checks};
use crate::context::Context;
use crate::fixture::Ability;

checks! {
    "G46-hundred-parallel-calls" "a hundred calls at once on different sessions are all answered, each with its own answer" [] Alone = hundred_parallel_calls;
    "G46-serial-per-session" "creates and deletes of one session at once all succeed, and leave one session or none" [] Shared = serial_per_session;
    "G47-metrics-are-measured" "metrics carry the time of their sample and counters that grow" [Metrics] Shared = metrics_are_measured;
}

async fn hundred_parallel_calls(cx: Context) -> Result<(), Stop> {
    let sessions = [cx.running().await?, cx.running().await?, cx.running().await?, cx.running().await?];
    let known = (0..48).map(|number| {
        let session = &sessions[number % sessions.len()];
        let cx = &cx;
        async move {
            let request = GetSessionRequest { session_id: session.id(), ..Default::default() };
            let got = cx.controller.get(request).await;
            match &got {
                Ok(answer)
                    if answer.status.as_ref().is_some_and(|status| status.session_id == session.id()) =>
                {
                    Ok(())
                }
                _ => Err(Stop::expected_of(format!("session {}", session.id()), &got)),
            }
        }
    });
    let unknown = (0..26).map(|_| {
        let cx = &cx;
        async move {
            let request = GetSessionRequest { session_id: cx.new_id(), ..Default::default() };
            let got = cx.controller.get(request).await;
            match &got {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                _ => Err(Stop::expected_of("NOT_FOUND", &got)),
            }
        }
    });
    let deletes = (0..26).map(|_| {
        let cx = &cx;
        async move {
            let request = DeleteSessionRequest { session_id: cx.new_id(), ..Default::default() };
            let deleted = cx.delete_with(request).await;
            match &deleted {
                Ok(answer) if answer.success => Ok(()),
                _ => Err(Stop::expected_of("the delete of an unknown session to succeed", &deleted)),
            }
        }
    });
    let (known, (unknown, deletes)) = join(join_all(known), join(join_all(unknown), join_all(deletes))).await;
    known.into_iter().chain(unknown).chain(deletes).collect()
}

async fn serial_per_session(cx: Context) -> Result<(), Stop> {
    let session = cx.session();
    let creates = join_all((0..4).map(|_| cx.create(&session)));
    let deletes = join_all((0..4).map(|_| cx.delete(&session)));
    let (created, deleted) = join(creates, deletes).await;
    for answer in &created {
        if answer.is_err() {
            return Err(Stop::expected_of("every create to succeed", answer));
        }
    }
    for answer in &deleted {
        if !matches!(answer, Ok(answer) if answer.success) {
            return Err(Stop::expected_of("every delete to succeed", answer));
        }
    }
    let entries = cx.entries_of(&session).await?;
    if entries.len() > 1 {
        return Err(Stop::expected("one session at most", format!("{entries:?}")));
    }
    if let Ok(fixture) = cx.fixture(Ability::Inventory) {
        let objects = fixture.main_objects_of(&session.id()).await?;
        if objects.len() != entries.len() {
            let what = format!("as many objects on the backend as in the listing: {}", entries.len());
            return Err(Stop::expected(what, format!("{objects:?}")));
        }
    }
    cx.delete_whole(&session).await
}

async fn metrics_are_measured(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let first = sample(&cx, &session.id()).await?;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let second = sample(&cx, &session.id()).await?;
    let time = |sample: &SessionMetricsResponse| {
        sample.sampled_at.and_then(|time| std::time::SystemTime::try_from(time).ok())
    };
    let (Some(before), Some(after)) = (time(&first), time(&second)) else {
        return Err(Stop::expected("the time of the sample", format!("{first:?}, {second:?}")));
    };
    if after <= before || after.elapsed().is_ok_and(|age| age > Duration::from_secs(120)) {
        return Err(Stop::expected("samples taken for these calls", format!("{before:?}, then {after:?}")));
    }
    let counters = |sample: &SessionMetricsResponse| {
        let counters = sample.counters.unwrap_or_default();
        [
            counters.cpu_ns,
            counters.network_rx_bytes,
            counters.network_tx_bytes,
            counters.disk_read_bytes,
            counters.disk_write_bytes,
        ]
    };
    for (before, after) in counters(&first).into_iter().zip(counters(&second)) {
        if let (Some(before), Some(after)) = (before, after)
            && after < before
        {
            return Err(Stop::expected("counters that only grow", format!("{first:?}, then {second:?}")));
        }
    }
    let usage = second.usage.clone().unwrap_or_default();
    let memory = usage.memory.trim_end_matches(|c: char| !c.is_ascii_digit());
    let measured = counters(&second).into_iter().flatten().any(|count| count > 0)
        || memory.parse::<f64>().is_ok_and(|memory| memory > 0.0);
    if measured {
        return Ok(());
    }
    Err(Stop::expected("something that was measured, and no zeros for what was not", format!("{second:?}")))
}

async fn sample(cx: &Context, session: &str) -> Result<SessionMetricsResponse, Stop> {
    let request = GetSessionMetricsRequest { session_id: session.to_owned(), ..Default::default() };
    let answer = cx.controller.metrics(request).await;
    match answer {
        Ok(answer) if answer.session_id == session => Ok(answer),
        other => Err(Stop::expected_of("the metrics of the session", &other)),
    }
}
