//! G: logs, as streams.

use std::time::Duration;

use futures::StreamExt as _;
use streamspace_proto::controller::v1::{GetSessionLogsRequest, LogEntry};
use tonic::Status;

use crate::check::{Stop, checks, show};
use crate::context::{Context, Session};

checks! {
    "G47-logs-tail-and-resume" "logs come in order, `tail_lines` bounds them, and a cursor goes on behind its entry" [Logs, TalkingRecipe] Shared = logs_tail_and_resume;
    "G47-logs-follow" "a follower gets lines that are written after it came" [Logs, TalkingRecipe] Shared = logs_follow;
    "G47-cancelled-followers-leave-nothing" "a thousand followers that went away hold no file and no place" [Logs, TalkingRecipe] Alone = cancelled_followers_leave_nothing;
}

/// Streams that are opened and given up.
const FOLLOWERS: usize = 1000;
/// Files that others in the process may have opened meanwhile.
const UNRELATED: usize = 64;

fn request(session: &Session) -> GetSessionLogsRequest {
    GetSessionLogsRequest { session_id: session.id(), ..Default::default() }
}

async fn read(cx: &Context, request: GetSessionLogsRequest) -> Result<Vec<LogEntry>, Stop> {
    let all = async {
        let mut stream = cx.controller.logs(request).await?;
        let mut entries = Vec::new();
        while let Some(entry) = stream.next().await {
            entries.push(entry?);
        }
        Ok::<_, Status>(entries)
    };
    match tokio::time::timeout(cx.patience(), all).await {
        Ok(Ok(entries)) => Ok(entries),
        Ok(Err(status)) => Err(Stop::expected("the logs", show::<()>(&Err(status)))),
        Err(_) => Err(Stop::expected("logs that are not followed to end", "they go on")),
    }
}

/// A session that has written some lines.
async fn talking(cx: &Context, lines: usize) -> Result<Session, Stop> {
    let session = cx.running().await?;
    let deadline = tokio::time::Instant::now() + cx.patience();
    loop {
        let entries = read(cx, request(&session)).await?;
        if entries.len() >= lines {
            return Ok(session);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Stop::expected(format!("{lines} lines in the log"), format!("{entries:?}")));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn logs_tail_and_resume(cx: Context) -> Result<(), Stop> {
    let session = talking(&cx, 4).await?;
    let all = read(&cx, request(&session)).await?;
    let time = |entry: &LogEntry| entry.timestamp.map(|time| (time.seconds, time.nanos));
    let in_order = all.windows(2).all(|pair| match (time(&pair[0]), time(&pair[1])) {
        (Some(one), Some(two)) => one <= two,
        _ => true,
    });
    if !in_order || all.iter().any(|entry| entry.cursor.is_empty()) {
        return Err(Stop::expected(
            "entries in the order of their times, each with a cursor",
            format!("{all:?}"),
        ));
    }
    let tail = read(&cx, GetSessionLogsRequest { tail_lines: 2, ..request(&session) }).await?;
    if tail.len() != 2 {
        return Err(Stop::expected("two entries for tail_lines = 2", format!("{tail:?}")));
    }
    let cursor = all[1].cursor.clone();
    let rest = read(&cx, GetSessionLogsRequest { cursor, ..request(&session) }).await?;
    match rest.first() {
        Some(first) if (time(first), &first.message) == (time(&all[2]), &all[2].message) => Ok(()),
        _ => {
            let seen = format!("{rest:?}");
            Err(Stop::expected(format!("the entry behind the cursor: {:?}", all[2]), seen))
        }
    }
}

async fn logs_follow(cx: Context) -> Result<(), Stop> {
    let session = talking(&cx, 1).await?;
    let before = read(&cx, request(&session)).await?.len();
    let mut stream = cx
        .controller
        .logs(GetSessionLogsRequest { follow: true, ..request(&session) })
        .await
        .map_err(|status| Stop::expected("the logs", show::<()>(&Err(status))))?;
    let more = async {
        for _ in 0..before + 2 {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return Err(Stop::expected("the next line", show::<()>(&Err(status)))),
                None => return Err(Stop::expected("a follower to go on", "the stream ended")),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(cx.patience(), more).await {
        Ok(result) => result,
        Err(_) => Err(Stop::expected(format!("more than the {before} lines that were there"), "no more")),
    }
}

async fn cancelled_followers_leave_nothing(cx: Context) -> Result<(), Stop> {
    let session = talking(&cx, 1).await?;
    let open_files = || cx.process().ok().and_then(|process| process.open_files());
    let one_follower = async || {
        let request = GetSessionLogsRequest { follow: true, tail_lines: 1, ..request(&session) };
        let first = async {
            let mut stream = cx.controller.logs(request).await?;
            stream.next().await.transpose().map(|_| stream)
        };
        match tokio::time::timeout(cx.patience(), first).await {
            Ok(Ok(mut stream)) => {
                // In the middle of its wait for the next line, some of the time.
                drop(tokio::time::timeout(Duration::from_millis(cx.dice(3)), stream.next()).await);
                Ok(())
            }
            Ok(Err(status)) => Err(Stop::expected("a follower to be served", show::<()>(&Err(status)))),
            Err(_) => Err(Stop::expected("a follower to be served", "nothing")),
        }
    };
    // What is opened once and kept is no leak.
    one_follower().await?;
    let before = open_files();
    for _ in 0..FOLLOWERS {
        one_follower().await?;
    }
    // The last ones may still be on their way out.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while let (Some(before), Some(after)) = (before, open_files()) {
        if after <= before + UNRELATED {
            break;
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Stop::expected(format!("about {before} open files, as before"), after));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    one_follower().await?;
    cx.wait_for_phase(&session, "Running").await.map(drop)
}
