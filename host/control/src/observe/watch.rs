//! Listens to controllers that tell of changes by themselves.
//!
//! An event is a hint and never decides: unless it says what is known already, it leads to a question about that one
//! session, and the answer is treated like an entry of a listing. However many events come, a session is asked for once in
//! a while and so many at a time.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use streamspace_proto::controller::v1 as proto;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use super::drift::{Sight, is_expected};
use super::{Observer, SINGLE_CALLS, ask, is_as_known};
use crate::domain::{Controller, ControllerId, Epoch, SessionId, shortened};
use crate::fleet::{CallError, ControllerClient, Observation};
use crate::store::{Glance, SessionRecord, StoreError};

/// Events about one session that come together lead to one question.
const COALESCE: Duration = Duration::from_millis(100);
/// With more sessions than that, a listing is cheaper.
const MOST_TOUCHED: usize = 1000;
/// Lost events are made up for by a listing, but not more often than that.
const RESYNC_PAUSE: Duration = Duration::from_secs(1);
/// The first pause before a stream is opened again; it doubles …
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A stream that held so long was a good one.
const GOOD_STREAM: Duration = Duration::from_secs(10);

/// One watcher for every healthy controller that offers it.
#[derive(Default)]
pub(super) struct Watchers {
    running: HashMap<ControllerId, (Epoch, AbortOnDropHandle<()>)>,
}

impl Watchers {
    /// Starts what is missing and stops what is not wanted any more.
    pub(super) fn keep(&mut self, observer: &Arc<Observer>, healthy: &[Controller]) {
        self.running.retain(|id, (epoch, task)| {
            let attached = observer.fleet.client(id).is_some_and(|client| client.epoch() == *epoch);
            // One that has ended was told that there is nothing to watch: not to be asked again.
            attached && (task.is_finished() || healthy.iter().any(|controller| controller.id == *id))
        });
        for Controller { id, capabilities, .. } in healthy {
            let offered = capabilities.as_ref().is_some_and(|can| can.supports_watch);
            let Some(client) = observer.fleet.client(id).filter(|_| offered) else { continue };
            self.running.entry(id.clone()).or_insert_with(|| {
                let epoch = client.epoch();
                let watch = Watch {
                    observer: Arc::clone(observer),
                    controller: id.clone(),
                    client,
                    touched: Touched::default(),
                };
                (epoch, AbortOnDropHandle::new(tokio::spawn(watch.run())))
            });
        }
    }
}

/// What events told of and nobody has looked at yet.
#[derive(Default)]
struct Touched {
    what: Mutex<What>,
    notify: Notify,
}

#[derive(Default)]
struct What {
    /// With what the last event said about it; none if it said nothing, or that it is gone.
    sessions: HashMap<SessionId, Option<Observation>>,
    /// Too much, or nobody knows what.
    all: bool,
}

impl Touched {
    fn session(&self, id: SessionId, said: Option<Observation>) {
        let mut what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        if what.sessions.len() < MOST_TOUCHED {
            what.sessions.insert(id, said);
        } else {
            what.all = true;
        }
        self.notify.notify_one();
    }

    fn all(&self) {
        self.what.lock().unwrap_or_else(PoisonError::into_inner).all = true;
        self.notify.notify_one();
    }

    fn take(&self) -> What {
        std::mem::take(&mut *self.what.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Watch {
    observer: Arc<Observer>,
    controller: ControllerId,
    client: ControllerClient,
    touched: Touched,
}

impl Watch {
    /// Ends only when the controller says that it offers no watching.
    #[tracing::instrument(name = "watch", skip_all, fields(controller = %self.controller))]
    async fn run(self) {
        tokio::select! {
            () = self.listen() => tracing::info!("the controller offers no watching after all"),
            () = self.look() => {}
        }
    }

    async fn listen(&self) {
        let mut cursor = String::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let opened = Instant::now();
            match self.follow(&mut cursor).await {
                Err(error) if error.code == Code::Unimplemented => return,
                Err(error) => {
                    // Whether the cursor is still good nobody knows.
                    cursor.clear();
                    let (reason, message) = (shortened(&error.reason), shortened(&error.message));
                    tracing::debug!(reason, message, "the stream of events broke");
                }
                Ok(()) => tracing::debug!("the stream of events ended"),
            }
            if opened.elapsed() >= GOOD_STREAM {
                pause = FIRST_PAUSE;
            }
            // Anything from half of it, so that many watchers do not come back at once.
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one stream to its end.
    async fn follow(&self, cursor: &mut String) -> Result<(), CallError> {
        let request = proto::WatchSessionsRequest { cursor: cursor.clone() };
        let events = self.client.watch(request, self.observer.call_timeout).await?;
        // First listen, then list: nothing can happen unseen in between.
        if cursor.is_empty() {
            self.touched.all();
        }
        // The gRPC library panics on some malformed answers.
        let mut events = AssertUnwindSafe(events).catch_unwind();
        while let Some(event) = events.next().await {
            let broken = |_| CallError::unusable_reply("an event is no valid gRPC".to_owned());
            let event = event.map_err(broken)?.map_err(CallError::from)?;
            if !event.cursor.is_empty() {
                *cursor = event.cursor;
            }
            if event.resync {
                self.touched.all();
            }
            let Some(status) = event.status else { continue };
            // What is no session's id is no session of ours.
            if let Ok(id) = SessionId::parse(&status.session_id) {
                let says = !event.gone && !status.phase.is_empty();
                self.touched.session(id, says.then(|| Observation::read(status).ok()).flatten());
            }
        }
        Ok(())
    }

    /// Asks for what was touched, for ever.
    async fn look(&self) {
        loop {
            self.touched.notify.notified().await;
            tokio::time::sleep(COALESCE).await;
            let What { sessions, all } = self.touched.take();
            if all {
                self.observer.asked.put(self.controller.clone());
                tokio::time::sleep(RESYNC_PAUSE).await;
                continue;
            }
            let questions: Vec<_> = sessions
                .into_iter()
                .map(|(id, said)| {
                    let (observer, client) = (Arc::clone(&self.observer), self.client.clone());
                    look_at(observer, self.controller.clone(), client, id, said)
                })
                .collect();
            stream::iter(questions).buffer_unordered(SINGLE_CALLS).collect::<()>().await;
        }
    }
}

async fn look_at(
    observer: Arc<Observer>,
    controller: ControllerId,
    client: ControllerClient,
    id: SessionId,
    said: Option<Observation>,
) {
    if let Err(error) = observer.look_at(&controller, client, &id, said).await {
        tracing::error!(session = %id, %error, "an event came to nothing");
    }
}

impl Observer {
    /// Asks for one session that an event told of, unless it said what is known.
    async fn look_at(
        &self,
        controller: &ControllerId,
        client: ControllerClient,
        id: &SessionId,
        said: Option<Observation>,
    ) -> Result<(), StoreError> {
        let begun = self.store.present().await?;
        let Some(record) = self.store.session(id).await? else {
            return self.exhume(controller, &client, id).await;
        };
        let SessionRecord { session, operation } = &record;
        if session.controller_id() != Some(controller) {
            return Ok(());
        }
        if !operation.is_settled() {
            // The reconciler sees to it. If it only waits for the controller to get there, it need not any longer.
            if operation.waits_for_a_look() && self.store.hasten_look(id).await? {
                self.wake.notify_one();
            }
            return Ok(());
        }
        // Most events tell of what was just done here.
        if said.is_some_and(|said| is_as_known(&Glance::at(session), Sight::There(&said))) {
            return Ok(());
        }
        let Some((_, seen)) = ask(client, session.clone(), self.call_timeout).await else { return Ok(()) };
        if seen.is_none() && is_expected(session.wish, session.phase) && !self.may_be_gone(controller) {
            // Many one by one are as many as many at once.
            self.asked.put(controller.clone());
            return Ok(());
        }
        let sight = seen.as_ref().map_or(Sight::Missing, Sight::There);
        self.apply(vec![(&record, sight)], begun).await?;
        Ok(())
    }
}
