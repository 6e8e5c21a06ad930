//! Listeners to events: each goes on at another server with the place that it had at the last one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::database::Database;
use super::server::Member;

/// A server that says nothing for so long stands still, or there is nothing to say: another one knows.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it may take until all have heard everything, and until what was taken over is heard of.
const LIMIT: Duration = Duration::from_secs(60);
/// What is no event.
const NOTICES: [&str; 2] = ["ready", "bookmark"];

/// Where events are told, and the token to hear them; none = the server is dead.
type Places = Vec<Option<(String, String)>>;

/// All listeners, one for each server at first.
pub(super) struct Listeners {
    places: watch::Sender<Places>,
    heard: Vec<Arc<Mutex<Heard>>>,
    /// What has to be heard of by all, since when.
    expected: Vec<(String, Instant)>,
}

/// What one has heard.
#[derive(Default)]
struct Heard {
    /// The place of the last event.
    cursor: Option<i64>,
    /// Events that were not compared yet.
    events: Vec<i64>,
    /// When each session was heard of last.
    of_session: HashMap<String, Instant>,
    amiss: Vec<String>,
    count: u64,
    moves: u64,
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listeners {
    pub(super) fn start(members: &[Member]) -> Self {
        let (places, _) = watch::channel(members.iter().map(Member::events).collect());
        let heard: Vec<Arc<Mutex<Heard>>> = members.iter().map(|_| Arc::default()).collect();
        for (number, heard) in heard.iter().enumerate() {
            let (heard, places) = (Arc::clone(heard), places.subscribe());
            tokio::spawn(listen(number, heard, places));
        }
        Self { places, heard, expected: Vec::new() }
    }

    /// Says where the servers are now.
    pub(super) fn serve(&self, members: &[Member]) {
        self.places.send_replace(members.iter().map(Member::events).collect());
    }

    /// A session was taken over: everybody has to hear of it.
    pub(super) fn expect(&mut self, session: String, since: Instant) {
        self.expected.push((session, since));
    }

    /// Events heard, and moves from one server to another.
    pub(super) fn heard(&self) -> (u64, u64) {
        self.heard
            .iter()
            .map(|heard| lock(heard))
            .fold((0, 0), |sum, heard| (sum.0 + heard.count, sum.1 + heard.moves))
    }

    /// Whether everybody has heard every event once and in order, and of everything that was taken over.
    pub(super) async fn judge(&mut self, database: &mut Database) -> Result<Vec<String>> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut amiss = Vec::new();
            for (number, heard) in self.heard.iter().enumerate() {
                let mut heard = lock(heard).take();
                amiss.append(&mut heard.amiss);
                let Some(first) = heard.events.first().copied() else {
                    amiss.push(format!("listener {number} has heard nothing"));
                    continue;
                };
                let all = database.events_after(first - 1).await?;
                if heard.events != all {
                    let missing = all.iter().filter(|id| !heard.events.contains(id)).count();
                    amiss.push(format!(
                        "listener {number} has heard {} of {} events behind {first}; {missing} are missing",
                        heard.events.len(),
                        all.len()
                    ));
                }
                for (session, since) in &self.expected {
                    if heard.of_session.get(session).is_none_or(|at| at < since) {
                        amiss.push(format!(
                            "listener {number} has not heard of {session}, which was taken over"
                        ));
                    }
                }
            }
            if amiss.is_empty() {
                self.expected.clear();
                for heard in &self.heard {
                    let mut heard = lock(heard);
                    // The last one stays: the next comparison begins with it.
                    let done = heard.events.len().saturating_sub(1);
                    heard.events.drain(..done);
                }
                return Ok(amiss);
            }
            if Instant::now() > deadline {
                return Ok(amiss);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Heard {
    /// A copy to compare.
    fn take(&self) -> Self {
        Self {
            events: self.events.clone(),
            of_session: self.of_session.clone(),
            amiss: self.amiss.clone(),
            ..Self::default()
        }
    }

    fn hear(&mut self, message: &Value) {
        let kind = message["type"].as_str().unwrap_or_default();
        let cursor = message["cursor"].as_str().and_then(|cursor| cursor.parse().ok());
        let Some(cursor) = cursor else {
            return self.amiss.push(format!("without a cursor: {message}"));
        };
        if NOTICES.contains(&kind) {
            // Where nothing happened one may go on from there as well.
            self.cursor = self.cursor.max(Some(cursor));
            return;
        }
        if kind == "resync" {
            return self.amiss.push(format!("events were lost: {message}"));
        }
        if self.events.last().is_some_and(|last| cursor <= *last) {
            self.amiss.push(format!("heard again, or too late: {message}"));
        }
        self.cursor = Some(cursor);
        self.events.push(cursor);
        self.count += 1;
        if let Some(session) = message["session_id"].as_str() {
            self.of_session.insert(session.to_owned(), Instant::now());
        }
    }
}

/// Listens to one server after the other.
async fn listen(number: usize, heard: Arc<Mutex<Heard>>, places: watch::Receiver<Places>) {
    let mut turn = number;
    loop {
        let place = {
            let places = places.borrow();
            places.get(turn % places.len().max(1)).cloned().flatten()
        };
        if let Some((url, token)) = place {
            // Whatever ends it, another server goes on.
            let _ = listen_to(&url, &token, &heard).await;
            lock(&heard).moves += 1;
        }
        turn += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_to(url: &str, token: &str, heard: &Mutex<Heard>) -> Result<()> {
    let cursor = lock(heard).cursor;
    let url = match cursor {
        Some(cursor) => format!("{url}?after={cursor}"),
        None => url.to_owned(),
    };
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    request.headers_mut().insert("sec-websocket-protocol", "streamspace.v1".parse()?);
    let connecting = tokio::time::timeout(SILENCE, tokio_tungstenite::connect_async(request));
    let (mut socket, _) = connecting.await.context("no answer")??;
    while let Some(message) = tokio::time::timeout(SILENCE, socket.next()).await? {
        match message? {
            Message::Text(text) => lock(heard).hear(&serde_json::from_str(&text)?),
            Message::Close(_) => bail!("closed"),
            _ => {}
        }
    }
    Ok(())
}
