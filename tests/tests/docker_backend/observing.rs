//! Logs, usage and events.

use bollard::container::LogOutput;
use bollard::query_parameters::{LogsOptions, RemoveContainerOptions, StopContainerOptions};
use futures::StreamExt as _;
use streamspace_proto::controller::v1::{GetSessionLogsRequest, LogEntry, SessionEvent};
use streamspace_tests::{PATIENCE, holds, until};
use tonic::{Code, Streaming};

use crate::stage::{SHORT, Stage, condition, name, next, refused, rest};

fn follow(id: &str, cursor: &str) -> GetSessionLogsRequest {
    GetSessionLogsRequest { session_id: id.into(), follow: true, cursor: cursor.into(), ..Default::default() }
}

fn texts(entries: &[LogEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.message.as_str()).collect()
}

/// What the engine itself has of the output.
async fn engine_log(stage: &Stage, id: &str) -> Vec<String> {
    let options = LogsOptions { stdout: true, stderr: true, tail: "all".into(), ..Default::default() };
    let output: Vec<_> = stage.engine.0.logs(&name(id), Some(options)).collect().await;
    let text: String = output
        .into_iter()
        .map(|part| String::from_utf8_lossy(&part.map(LogOutput::into_bytes).unwrap()).into_owned())
        .collect();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_log_is_followed_over_sleep_without_a_line_lost_or_doubled() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.request();
    let id = request.session_id.as_str();
    stage.create(&request).await;
    let mut seen: Vec<LogEntry> = Vec::new();
    let mut first = stage.logs(follow(id, "")).await.unwrap();
    while seen.iter().filter(|entry| entry.message.starts_with("tick")).count() < 3 {
        seen.push(next(&mut first).await);
    }
    stage.hibernate(id).await.unwrap();
    seen.extend(rest(&mut first).await);
    assert_eq!(seen.last().unwrap().message, "stopping", "the last words are heard, and then it ends");
    assert_eq!(texts(&seen), engine_log(&stage, id).await);

    // Nothing more while it sleeps; after it woke, the log goes on behind the last line.
    let cursor = seen.last().unwrap().cursor.clone();
    assert!(rest(&mut stage.logs(follow(id, &cursor)).await.unwrap()).await.is_empty());
    stage.wake(id).await.unwrap();
    let mut second = stage.logs(follow(id, &cursor)).await.unwrap();
    let more = [next(&mut second).await, next(&mut second).await];
    assert_eq!(texts(&more), ["tick 1", "tick 2"]);
    seen.extend(more);
    // Somebody who goes away in the middle comes back later, behind what he saw.
    drop(second);
    stage.hibernate(id).await.unwrap();
    let cursor = seen.last().unwrap().cursor.clone();
    seen.extend(rest(&mut stage.logs(follow(id, &cursor)).await.unwrap()).await);
    assert_eq!(texts(&seen), engine_log(&stage, id).await);

    // One who follows a session that is deleted sees its end, not an error.
    stage.wake(id).await.unwrap();
    let mut third = stage.logs(follow(id, &seen.last().unwrap().cursor)).await.unwrap();
    next(&mut third).await;
    stage.delete(id, None).await.unwrap();
    rest(&mut third).await;
    refused(stage.logs(follow(id, "")).await, Code::NotFound);
    stage.end().await;
}

#[tokio::test]
async fn many_lines_long_lines_and_unfinished_lines_are_whole() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.script(
        "i=0; while [ $i -lt 1200 ]; do echo line $i; i=$((i+1)); done; echo trouble >&2; \
         head -c 100000 /dev/zero | tr '\\0' x; echo; echo done; printf 'no end'; sleep 1000",
    );
    let id = request.session_id.as_str();
    stage.create(&request).await;
    until("the last whole line", async || {
        stage.output(id, 1).await.iter().any(|entry| entry.message == "done").then_some(())
    })
    .await;
    stage.hibernate(id).await.unwrap();
    let all = stage.output(id, 0).await;
    let (errors, output): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|entry| entry.stream == "stderr");
    assert_eq!(texts(&errors), ["trouble"]);
    let numbered: Vec<_> = (0..1200).map(|i| format!("line {i}")).collect();
    assert_eq!(texts(&output[..1200]), numbered);
    assert_eq!(output[1200..].iter().map(|entry| entry.message.len()).sum::<usize>(), 100_000 + 4 + 6);
    let end: Vec<_> = texts(&output[1200..]);
    assert_eq!(end.last(), Some(&"no end"));
    assert!(
        end.len() <= 6 && end.iter().all(|text| text.len() <= 64 << 10),
        "a long line comes in a few parts"
    );
    assert!(all.iter().all(|entry| entry.timestamp.is_some() && !entry.cursor.is_empty()));

    // From any line on, the rest is the same; and the last lines are the last.
    for at in [0, 499, 500, 700, all.len() - 1] {
        let request = GetSessionLogsRequest { follow: false, ..follow(id, &all[at].cursor) };
        let behind = rest(&mut stage.logs(request).await.unwrap()).await;
        assert_eq!(texts(&behind), texts(&all[at + 1..]), "behind line {at}");
    }
    let tail = stage.output(id, 700).await;
    assert_eq!(texts(&tail), texts(&all[all.len() - 700..]));
    let garbage = GetSessionLogsRequest { follow: false, ..follow(id, "garbage") };
    refused(stage.logs(garbage).await, Code::InvalidArgument);
    stage.end().await;
}

#[tokio::test]
async fn usage_is_measured_and_moves() {
    let Some(stage) = Stage::new().await else { return };
    let request = stage.script("while :; do :; done");
    let id = request.session_id.as_str();
    stage.create(&request).await;
    // The engine may look before its program has begun.
    let first = until("a measure of the memory", async || {
        let first = stage.metrics(id).await.unwrap();
        (first.usage.as_ref()?.memory.parse::<u64>().unwrap() > 0).then_some(first)
    })
    .await;
    let usage = first.usage.unwrap();
    assert!(usage.memory_percent > 0.0 && usage.memory_percent <= 100.0, "of its limit");
    let before = first.counters.unwrap();
    until("more processor time", async || {
        let later = stage.metrics(id).await.unwrap();
        let counters = later.counters.unwrap();
        assert!(later.sampled_at.unwrap().seconds >= first.sampled_at.unwrap().seconds);
        assert!(counters.network_rx_bytes.is_some() && counters.network_tx_bytes.is_some());
        (counters.cpu_ns > before.cpu_ns).then_some(())
    })
    .await;
    stage.end().await;
}

/// The next event of this kind of this session; others may come before.
async fn until_event(events: &mut Streaming<SessionEvent>, id: &str, gone: bool) -> SessionEvent {
    loop {
        let event = next(events).await;
        assert!(!event.resync, "nothing was lost");
        if event.gone == gone && event.status.as_ref().is_some_and(|status| status.session_id == id) {
            return event;
        }
    }
}

#[tokio::test]
async fn what_is_done_by_hand_is_seen() {
    let (Some(stage), Some(other)) = (Stage::new().await, Stage::new().await) else { return };
    let mut events = stage.watch("").await.unwrap();
    let start = next(&mut events).await;
    assert!(start.resync && !start.cursor.is_empty(), "whoever begins has to list");

    let theirs = other.request();
    other.create(&theirs).await;
    let request = stage.request();
    let id = request.session_id.as_str();
    stage.create(&request).await;
    let touched = until_event(&mut events, id, false).await;
    assert_eq!(touched.status.unwrap().phase, "", "a look tells what");

    stage
        .engine
        .0
        .stop_container(&name(id), Some(StopContainerOptions { t: Some(5), signal: None }))
        .await
        .unwrap();
    until_event(&mut events, id, false).await;
    stage.phase(id, "Hibernated").await;

    // What happens while nobody listens is told to him who comes back.
    let mut cursor = String::new();
    while let Ok(Ok(Some(event))) = tokio::time::timeout(SHORT, events.message()).await {
        if !event.cursor.is_empty() {
            cursor = event.cursor;
        }
    }
    let cursor = if cursor.is_empty() { start.cursor } else { cursor };
    drop(events);
    let force = RemoveContainerOptions { force: true, ..Default::default() };
    stage.engine.0.remove_container(&name(id), Some(force)).await.unwrap();
    let mut events = stage.watch(&cursor).await.unwrap();
    until_event(&mut events, id, true).await;
    refused(stage.status(id).await, Code::NotFound);
    let foreign = tokio::time::timeout(SHORT, events.message()).await;
    assert!(foreign.is_err(), "the other controller's session is none of ours: {foreign:?}");

    let mut lost = stage.watch("not-a-cursor").await.unwrap();
    let resync = next(&mut lost).await;
    assert!(resync.resync && !resync.cursor.is_empty());
    stage.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_lost_connection_is_a_resync_and_a_lost_engine_is_unavailable() {
    let Some(socket) = streamspace_tests::provided("STREAMSPACE_TEST_DOCKER") else { return };
    let way = crate::trouble::Way::to(&socket);
    let path = way.path();
    let Some(stage) = Stage::with(|config| {
        config.endpoints.insert("engine".into(), crate::stage::endpoint(&path));
    })
    .await
    else {
        return;
    };
    let mut events = stage.watch("").await.unwrap();
    assert!(next(&mut events).await.resync);
    let request = stage.request();
    stage.create(&request).await;
    until_event(&mut events, &request.session_id, false).await;

    way.cut();
    let again = tokio::time::timeout(PATIENCE, async {
        loop {
            let event = next(&mut events).await;
            if event.resync {
                return event;
            }
        }
    });
    assert!(!again.await.unwrap().cursor.is_empty());
    stage.hibernate(&request.session_id).await.unwrap();
    until_event(&mut events, &request.session_id, false).await;

    // Away for good: the stream says so, and nobody takes it for a session that is gone.
    way.close();
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(status) = events.message().await {
                return status;
            }
        }
    });
    assert_eq!(ended.await.unwrap().code(), Code::Unavailable);
    let id = &request.session_id;
    refused(stage.status(id).await, Code::Unavailable);
    refused(stage.hibernate(id).await, Code::Unavailable);
    refused(stage.wake(id).await, Code::Unavailable);
    refused(stage.delete(id, None).await, Code::Unavailable);
    refused(stage.metrics(id).await, Code::Unavailable);
    refused(stage.logs(follow(id, "")).await, Code::Unavailable);
    refused(stage.watch("").await, Code::Unavailable);
    stage.end().await;
}

#[tokio::test]
async fn a_session_that_ends_by_itself_again_and_again_has_failed() {
    let Some(stage) = Stage::new().await else { return };
    let crashing = stage.script("echo no; exit 3");
    let mut greedy = stage.script("tail /dev/zero");
    greedy.spec.as_mut().unwrap().resources.as_mut().unwrap().memory = "16Mi".into();
    stage.create(&crashing).await;
    stage.create(&greedy).await;
    let failed = stage.phase(&crashing.session_id, "Failed").await;
    let ready = condition(&failed.conditions, "Ready");
    assert_eq!((ready.reason.as_str(), ready.message.contains("code 3")), ("CrashLoop", true), "{ready:?}");
    // The engine forgets why it ended as soon as it starts it again: seen between two starts it is told.
    until("the want of memory is told", async || {
        let failed = stage.phase(&greedy.session_id, "Failed").await;
        (condition(&failed.conditions, "Ready").reason == "OOMKilled").then_some(())
    })
    .await;
    // And it goes on being told, however often the engine starts it again.
    let restarts = async || stage.container(&greedy.session_id).await.restart_count.unwrap_or_default();
    let before = restarts().await;
    // The engine waits twice as long before each.
    holds("two more starts", PATIENCE * 5, async || {
        let failed = stage.status(&greedy.session_id).await.unwrap();
        if failed.phase == "Failed" {
            let ready = condition(&failed.conditions, "Ready");
            assert_eq!(ready.reason, "OOMKilled", "{ready:?}");
        }
        if restarts().await >= before + 2 { Ok(()) } else { Err(format!("{before} starts before")) }
    })
    .await;
    // A listing says the same.
    until("the same in a listing", async || {
        stage.listed().await.iter().all(|status| status.phase == "Failed").then_some(())
    })
    .await;
    // It can be stopped like any other.
    assert_eq!(stage.hibernate(&crashing.session_id).await.unwrap().phase, "Hibernated");
    stage.end().await;
}
