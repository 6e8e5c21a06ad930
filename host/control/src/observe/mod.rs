//! Looks at what the backends really have, and lets the reconciler see to what is amiss.

mod collect;
mod drift;
mod health;
mod listing;
mod strays;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream;
use prometheus_client::metrics::histogram::Histogram;
use streamspace_proto::controller::v1 as proto;
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tonic::Code;

use crate::changes::Changes;
use crate::domain::{Controller, ControllerId, ControllerStatus, DriftAlarm, Session, shortened};
use crate::fleet::{CallError, ControllerClient, Fleet, Observation};
use crate::store::{ActivitySign, Glance, SessionRecord, Store, StoreError};
use collect::most_at_once;
use drift::is_expected;
pub(crate) use drift::{Sight, change};
use health::Noted;
use listing::{Answers, Listing, Pages, Seen, Turn};
use strays::Pass;

/// Calls at once for single sessions of one controller.
const SINGLE_CALLS: usize = 8;
/// Changes written in one transaction.
const CHUNK: usize = 256;
/// More are asked for by name only when so many complete passes in a row agree.
const PASSES_BEFORE_LOSS: u32 = 3;
/// A backend's word on when a session was last used is written again only after that.
const ACTIVITY_GRAIN: chrono::Duration = chrono::Duration::seconds(10);

/// Observes controllers.
pub(crate) struct Observer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) call_timeout: Duration,
    /// How long one controller may take to show all its sessions.
    pub(crate) limit: Duration,
    /// How long a session that drifts again waits before it is set right.
    pub(crate) repair_pause: Duration,
    /// How long an object of an unknown session is left alone; `None` = for ever.
    pub(crate) drift_grace: Option<Duration>,
    /// How long the id of a deleted session is remembered once nothing is seen of it any more.
    pub(crate) keep_tombstones: Duration,
    /// Controllers to be looked at before the interval is over.
    pub(crate) asked: Arc<Asked>,
    /// What sessions were told about their controllers.
    pub(crate) noted: Noted,
    /// What is strange about controllers.
    pub(crate) oddities: Mutex<HashMap<ControllerId, Oddities>>,
    /// How long complete passes took.
    pub(crate) seconds: Histogram,
}

/// Asks for observations out of turn.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    controllers: Mutex<HashSet<ControllerId>>,
    notify: Notify,
}

impl Asked {
    pub(crate) fn put(&self, id: ControllerId) {
        self.controllers.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.notify.notify_one();
    }

    fn take(&self) -> HashSet<ControllerId> {
        std::mem::take(&mut *self.controllers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes under way, each a task of its own: one that panics ends no other.
#[derive(Default)]
struct Passes {
    tasks: JoinSet<()>,
    controllers: HashMap<Id, ControllerId>,
}

impl Passes {
    fn is_busy(&self, id: &ControllerId) -> bool {
        self.controllers.values().any(|busy| busy == id)
    }

    fn start(&mut self, observer: &Arc<Observer>, id: ControllerId, in_turn: bool) {
        let task = self.tasks.spawn(Arc::clone(observer).observe(id.clone(), in_turn));
        self.controllers.insert(task.id(), id);
    }

    /// Returns the controller of a pass that has ended; never, if there is none.
    async fn ended(&mut self) -> ControllerId {
        loop {
            let ended = match self.tasks.join_next_with_id().await {
                Some(Ok((task, ()))) => task,
                Some(Err(error)) => {
                    tracing::error!(%error, "a controller was not observed");
                    error.id()
                }
                None => std::future::pending().await,
            };
            if let Some(id) = self.controllers.remove(&ended) {
                return id;
            }
        }
    }
}

/// What one pass over a controller leaves to be remembered for the next.
#[derive(Debug, Default)]
pub(crate) struct Oddities {
    /// Passes in a row that missed far too many sessions.
    losses: u32,
    /// Sessions that were placed there at the last pass.
    placed: usize,
    /// Those that were believed to be gone one by one since the last pass began.
    gone_since: usize,
    /// The last pass missed so many that none is believed to be gone.
    in_doubt: bool,
    /// Objects that no session explains, and those of them that were removed unasked since the last pass began.
    strays: usize,
    removed_since: usize,
    /// What was last told of a listing that is not believed; `None` = nothing was told yet.
    alarm: Option<Option<DriftAlarm>>,
}

/// Why an observation came to nothing. Then nothing is changed.
#[derive(Debug, thiserror::Error)]
enum Unobserved {
    #[error("{}: {}", shortened(&.0.reason), shortened(&.0.message))]
    Call(CallError),
    #[error("the listing was not complete in time")]
    TimeUp,
    #[error("the listing does not end")]
    Endless,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Observer {
    async fn controllers(&self) -> Vec<Controller> {
        match self.store.controllers().await {
            Ok(controllers) => controllers,
            Err(error) => {
                tracing::error!(%error, "controllers cannot be read");
                Vec::new()
            }
        }
    }

    /// Looks at all controllers at intervals, at one whenever it is asked for, and listens to those that tell of
    /// changes by themselves. One that is still being looked at is left out and holds up nobody.
    pub(crate) async fn run(self: Arc<Self>, interval: Duration) {
        let mut watchers = watch::Watchers::default();
        let mut under_way = Passes::default();
        // Asked for while they were being looked at: what the look saw first may be old.
        let mut again = HashSet::new();
        let mut next = Instant::now();
        let mut early = true;
        loop {
            let everybody = Instant::now() >= next;
            if everybody {
                next = Instant::now() + interval;
            }
            let asked = self.asked.take();
            let mut healthy = self.controllers().await;
            if everybody {
                self.note_all(&healthy, early).await;
                early = false;
            }
            // Only they are worth a look.
            healthy.retain(|one| one.status == ControllerStatus::Healthy);
            watchers.keep(&self, &healthy);
            for id in healthy.into_iter().map(|controller| controller.id) {
                let asked = asked.contains(&id);
                if !everybody && !asked {
                    continue;
                }
                if !under_way.is_busy(&id) {
                    under_way.start(&self, id, everybody);
                } else if asked {
                    again.insert(id);
                }
            }
            loop {
                tokio::select! {
                    id = under_way.ended() => {
                        if again.remove(&id) {
                            self.asked.put(id);
                        }
                    }
                    () = tokio::time::sleep_until(next) => break,
                    () = self.asked.notify.notified() => break,
                }
            }
        }
    }

    /// Looks at one controller.
    #[tracing::instrument(name = "observe", skip_all, fields(controller = %id))]
    async fn observe(self: Arc<Self>, id: ControllerId, in_turn: bool) {
        // One server is enough, and only one may remove what belongs to nobody.
        let Some(client) = self.fleet.driven(&id) else { return };
        let began = Instant::now();
        match self.observe_inner(&id, &client, in_turn).await {
            Ok(changed) => {
                self.seconds.observe(began.elapsed().as_secs_f64());
                if changed > 0 {
                    tracing::info!(changed, "sessions were not as they were known");
                }
            }
            Err(error) => tracing::warn!(%error, "not observed; nothing is changed"),
        }
    }

    async fn observe_inner(
        &self,
        id: &ControllerId,
        client: &ControllerClient,
        in_turn: bool,
    ) -> Result<usize, Unobserved> {
        // What settled after this moment may be missing from the listing.
        let begun = self.store.present().await?;
        let gone_before = self.oddities().get(id).map_or(0, |oddities| oddities.gone_since);
        // Both at once: whatever was settled before they began and is settled still has not been touched meanwhile.
        let listing = tokio::time::timeout(self.limit, self.list(client));
        let (glances, listed) = tokio::join!(self.store.settled_sessions(id, begun), listing);
        let glances = glances?;
        let (mut seen, known) = match listed.unwrap_or(Err(Unobserved::TimeUp)) {
            Ok(listed) => {
                let seen = Seen::listed(listed);
                let news =
                    glances.iter().filter(|glance| !is_as_known(glance, seen.of_id(glance.id.as_str())));
                let news: Vec<_> = news.map(|glance| glance.id.clone()).collect();
                let known = self.store.still_settled(&news, begun).await?;
                (seen, known)
            }
            Err(Unobserved::Call(error)) if error.code == Code::Unimplemented => {
                let all: Vec<_> = glances.iter().map(|glance| glance.id.clone()).collect();
                let known = self.store.still_settled(&all, begun).await?;
                (Seen::answered(self.ask_each(client, &known).await), known)
            }
            Err(error) => return Err(error),
        };
        let placed = usize::try_from(self.store.placed_sessions(id).await?).unwrap_or(usize::MAX);
        let (doubtful, lost) = self.doubt(id, client, &known, &mut seen, placed, in_turn).await;
        {
            let mut oddities = self.oddities();
            let oddities = oddities.entry(id.clone()).or_default();
            oddities.in_doubt = doubtful;
            // The listing says nothing of those that went while it was made.
            oddities.gone_since = oddities.gone_since.saturating_sub(gone_before);
        }
        let sights = known.iter().map(|record| match seen.of(&record.session) {
            Sight::Missing if doubtful => (record, Sight::Doubtful),
            sight => (record, sight),
        });
        let changed = self.apply(sights.collect(), begun).await?;
        self.strays(id, client, &seen, &glances, Pass { begun, placed, lost }).await?;
        Ok(changed)
    }

    /// Asks by name for every session that should be there and is not: a listing alone makes nothing gone. Whether
    /// too many are missing even to ask, and how many the listing misses. A backend that lost all it had looks like one
    /// that was started on the wrong disk: nothing is made again until several passes agree as well.
    async fn doubt(
        &self,
        id: &ControllerId,
        client: &ControllerClient,
        known: &[SessionRecord],
        seen: &mut Seen,
        placed: usize,
        in_turn: bool,
    ) -> (bool, usize) {
        let is_lost = |session: &Session| {
            is_expected(session.wish, session.phase) && seen.of(session) == Sight::Missing
        };
        let lost: Vec<_> = known.iter().filter(|record| is_lost(&record.session)).cloned().collect();
        let missing = lost.len();
        let too_many = missing > most_at_once(placed);
        let passes = {
            let mut oddities = self.oddities();
            let oddities = oddities.entry(id.clone()).or_default();
            oddities.placed = placed;
            oddities.losses = match too_many {
                // Passes out of turn may follow one another within moments: a backend has had no time to come back.
                true => oddities.losses.saturating_add(u32::from(in_turn)),
                false => 0,
            };
            oddities.losses
        };
        if too_many {
            tracing::error!(missing, placed, passes, "unexpectedly many sessions are missing");
            if passes < PASSES_BEFORE_LOSS {
                return (true, missing);
            }
        }
        let lost: Vec<_> = lost.into_iter().filter(|record| !seen.is_answer(&record.session)).collect();
        let answers = self.ask_each(client, &lost).await;
        seen.confirm(lost.iter().map(|record| &record.session), answers);
        (false, missing)
    }

    /// Stores what the sights of settled sessions amount to, and how many really changed.
    async fn apply(
        &self,
        sights: Vec<(&SessionRecord, Sight<'_>)>,
        at: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        let signs: Vec<_> =
            sights.iter().filter_map(|(record, sight)| activity(&record.session, *sight)).collect();
        let changes: Vec<_> = sights
            .into_iter()
            .filter_map(|(record, sight)| change(record, sight, self.repair_pause, at))
            .collect();
        if !signs.is_empty() {
            self.store.record_activity(signs).await?;
        }
        let mut changed = 0;
        for chunk in changes.chunks(CHUNK) {
            for id in self.store.record_observed(chunk.to_vec()).await? {
                self.changes.changed(&id);
                changed += 1;
            }
        }
        if changed > 0 {
            self.wake.notify_one();
        }
        Ok(changed)
    }

    /// Everything the controller has, all pages or nothing.
    async fn list(&self, client: &ControllerClient) -> Result<Listing, Unobserved> {
        let mut pages = Pages::default();
        loop {
            let page = client.list(pages.request(), self.call_timeout).await.map_err(Unobserved::Call)?;
            match pages.take(page)? {
                Turn::More(more) => pages = more,
                Turn::Whole(listing) => return Ok(listing),
            }
        }
    }

    /// Asks for sessions one by one. One whose answer is an error, or does not come in time, is left out.
    async fn ask_each(&self, client: &ControllerClient, known: &[SessionRecord]) -> Answers {
        // Owned questions: a stream of borrowing futures cannot move between threads.
        let questions: Vec<_> = known
            .iter()
            .map(|record| ask(client.clone(), record.session.clone(), self.call_timeout))
            .collect();
        let answers: Vec<_> = stream::iter(questions)
            .buffer_unordered(SINGLE_CALLS)
            .take_until(tokio::time::sleep(self.limit))
            .collect()
            .await;
        answers.into_iter().flatten().collect()
    }

    /// Whether one more session may be believed to be gone before everything is listed again.
    fn may_be_gone(&self, id: &ControllerId) -> bool {
        let mut oddities = self.oddities();
        let Oddities { placed, gone_since, in_doubt, .. } = oddities.entry(id.clone()).or_default();
        let may = !*in_doubt && *gone_since < most_at_once(*placed);
        *gone_since += usize::from(may);
        may
    }

    fn oddities(&self) -> MutexGuard<'_, HashMap<ControllerId, Oddities>> {
        self.oddities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the backend knows of the session's use, if it is news.
fn activity(session: &Session, sight: Sight<'_>) -> Option<ActivitySign> {
    let at = newer_activity(session.last_activity, sight)?;
    Some(ActivitySign { session_id: session.id.clone(), at })
}

fn newer_activity(known: Option<DateTime<Utc>>, sight: Sight<'_>) -> Option<DateTime<Utc>> {
    let Sight::There(Observation { last_activity: Some(at), .. }) = sight else { return None };
    known.is_none_or(|known| *at - known >= ACTIVITY_GRAIN).then_some(*at)
}

/// Whether a sight of a settled session certainly says nothing new.
fn is_as_known(glance: &Glance, sight: Sight<'_>) -> bool {
    newer_activity(glance.last_activity, sight).is_none() && drift::changes_nothing(glance, sight)
}

/// Asks for one session.
async fn ask(
    client: ControllerClient,
    session: Session,
    timeout: Duration,
) -> Option<(String, Option<Observation>)> {
    let id = session.id.to_string();
    let request = proto::GetSessionStatusRequest {
        session_id: id.clone(),
        node_id: session.node_id.clone(),
        handle: Vec::new(),
    };
    match client.status(request, timeout).await.and_then(Observation::read) {
        Ok(observation) => Some((id, Some(observation))),
        Err(error) if error.code == Code::NotFound && error.from_controller => Some((id, None)),
        Err(error) => {
            let (reason, message) = (session.spec.scrub(&error.reason), session.spec.scrub(&error.message));
            tracing::warn!(session = id, reason, message, "status not known");
            None
        }
    }
}
