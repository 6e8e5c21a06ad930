//! What happens to containers, noted between calls.
//!
//! The engine remembers few events, and forgets them when it is restarted. So the host keeps one subscription open for
//! as long as somebody asks, and a ring of the last events. A cursor names the subscription and the number of an event
//! in it; whoever comes with another subscription's, or too late, is told to list.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures::StreamExt as _;
use streamspace_bindings::imports::docker::{Event, EventPage};
use streamspace_bindings::types::Error;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::DockerEndpoint;
use super::failure::translate;
use super::{labels, policy};

/// Events that are kept.
const KEPT: usize = 1024;

/// Bytes that they may take.
const KEPT_BYTES: usize = 4 << 20;

/// Events of a page.
const PAGE: usize = 256;

/// Bytes of events after which a page is full.
const PAGE_BYTES: usize = 1 << 20;

/// How long a subscription lives that nobody asks.
const UNUSED: Duration = Duration::from_secs(300);

/// Longest wait for an event.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Seconds before its start from which a subscription is told of what happened: it becomes live some time after it
/// was asked for. An event too many does no harm.
const OVERLAP: Duration = Duration::from_secs(1);

/// What says something about a session. Health checks run programs in containers, which nobody wants to hear of.
const ACTIONS: &[&str] = &[
    "create",
    "destroy",
    "die",
    "health_status",
    "kill",
    "oom",
    "pause",
    "rename",
    "restart",
    "start",
    "stop",
    "unpause",
    "update",
];

/// The subscription of an endpoint, if there is one.
#[derive(Default)]
pub(super) struct Events {
    current: tokio::sync::Mutex<Option<Subscription>>,
}

/// A subscription; ends with this value.
struct Subscription {
    feed: Arc<Feed>,
    _reader: AbortOnDropHandle<()>,
}

/// What a subscription's reader and its readers share.
struct Feed {
    /// Tells this subscription from all others, also from those of another run of the host.
    epoch: u64,
    ring: Mutex<Ring>,
    changed: Notify,
}

struct Ring {
    events: VecDeque<Event>,
    /// What they take, in bytes.
    bytes: usize,
    /// Number of the first event that is kept.
    first: u64,
    /// Whether the connection is lost.
    ended: bool,
    /// When somebody asked last.
    used: Instant,
}

/// What there is behind a cursor.
#[derive(Debug, PartialEq)]
enum Found {
    Events(Vec<Event>, u64),
    /// Not known any more, or never; here is where it goes on.
    Lost(u64),
    Nothing,
    Ended,
}

impl Ring {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn push(&mut self, event: Event) {
        self.bytes += size(&event);
        self.events.push_back(event);
        while self.events.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(size(&oldest));
            self.first += 1;
        }
    }

    fn after(&self, number: Option<u64>) -> Found {
        let next = self.next();
        match number.filter(|number| (self.first..=next).contains(number)) {
            Some(number) if number < next => {
                let skipped = (number - self.first) as usize;
                let mut bytes = 0;
                let fitting = self.events.iter().skip(skipped).take(PAGE).take_while(|event| {
                    let is_first = bytes == 0;
                    bytes += size(event);
                    is_first || bytes <= PAGE_BYTES
                });
                let events: Vec<Event> = fitting.cloned().collect();
                let behind = number + events.len() as u64;
                Found::Events(events, behind)
            }
            // What came before the connection was lost is still told.
            _ if self.ended => Found::Ended,
            Some(_) => Found::Nothing,
            None => Found::Lost(next),
        }
    }
}

impl Feed {
    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        // Two in the same tick of a coarse clock are still two.
        let before = LAST.fetch_max(now, Ordering::Relaxed);
        let epoch = if before < now { now } else { LAST.fetch_add(1, Ordering::Relaxed) + 1 };
        let ring = Ring { events: VecDeque::new(), bytes: 0, first: 0, ended: false, used: Instant::now() };
        Self { epoch, ring: Mutex::new(ring), changed: Notify::new() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cursor(&self, number: u64) -> String {
        format!("{:x}.{number}", self.epoch)
    }

    /// The number in a cursor of this subscription.
    fn number(&self, cursor: &str) -> Option<u64> {
        let (epoch, number) = cursor.split_once('.')?;
        let ours = u64::from_str_radix(epoch, 16).ok()? == self.epoch;
        number.parse().ok().filter(|_| ours)
    }

    /// Waits for something to tell. None when the subscription has ended.
    async fn page(&self, cursor: Option<&str>, deadline: Instant) -> Option<EventPage> {
        let number = cursor.and_then(|cursor| self.number(cursor));
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed, although nobody waits yet.
            changed.as_mut().enable();
            let found = {
                let mut ring = self.ring();
                ring.used = Instant::now();
                ring.after(number)
            };
            match found {
                Found::Events(events, behind) => {
                    return Some(EventPage { events, cursor: self.cursor(behind), resync: false });
                }
                Found::Lost(next) => {
                    return Some(EventPage { events: Vec::new(), cursor: self.cursor(next), resync: true });
                }
                Found::Ended => return None,
                Found::Nothing => {}
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                let cursor = self.cursor(number.unwrap_or_default());
                return Some(EventPage { events: Vec::new(), cursor, resync: false });
            }
        }
    }

    /// Notes events until the connection is lost or nobody asks any more.
    async fn read(&self, client: Docker, controller: String) {
        let mut events = std::pin::pin!(client.events(Some(options(&controller))));
        loop {
            let unused = self.ring().used + UNUSED;
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(message)) => {
                        if let Some(event) = event_of(message) {
                            self.ring().push(event);
                            self.changed.notify_waiters();
                        }
                    }
                    Some(Err(failure)) => {
                        tracing::info!(controller, error = translate(failure).message, "the engine's events ended");
                        break;
                    }
                    None => {
                        tracing::info!(controller, "the engine's events ended");
                        break;
                    }
                },
                () = tokio::time::sleep_until(unused) => {
                    if self.ring().used + UNUSED <= Instant::now() {
                        tracing::debug!(controller, "nobody asks for the engine's events any more");
                        break;
                    }
                }
            }
        }
        self.ring().ended = true;
        self.changed.notify_waiters();
    }
}

impl DockerEndpoint {
    pub(super) async fn watch_events(&self, cursor: Option<&str>, wait_ms: u32) -> Result<EventPage, Error> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms.into()).min(LONGEST_WAIT);
        loop {
            let feed = self.feed().await?;
            if let Some(page) = feed.page(cursor, deadline).await {
                return Ok(page);
            }
            // It ended: the next one knows nothing of the cursor and says so, or the engine is away.
        }
    }

    /// The subscription, made anew if there is none that lives.
    async fn feed(&self) -> Result<Arc<Feed>, Error> {
        let mut current = self.events.current.lock().await;
        if let Some(subscription) = &*current
            && !subscription.feed.ring().ended
        {
            return Ok(Arc::clone(&subscription.feed));
        }
        let client = self.client().await?;
        // The stream itself says nothing until something happens.
        client.ping().await.map_err(translate)?;
        let feed = Arc::new(Feed::new());
        let reader = tokio::spawn({
            let (feed, controller) = (Arc::clone(&feed), self.controller.clone());
            async move { feed.read(client, controller).await }
        });
        tracing::debug!(controller = self.controller, "subscribed to the engine's events");
        *current = Some(Subscription { feed: Arc::clone(&feed), _reader: AbortOnDropHandle::new(reader) });
        Ok(feed)
    }
}

fn options(controller: &str) -> EventsOptions {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(OVERLAP);
    EventsOptions {
        since: Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos())),
        until: None,
        filters: Some(HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![format!("{}={controller}", policy::CONTROLLER_LABEL)]),
            ("event".to_owned(), ACTIONS.iter().map(|action| (*action).to_owned()).collect()),
        ])),
    }
}

/// About what an event takes, in bytes.
fn size(event: &Event) -> usize {
    const OVERHEAD: usize = 128;
    let labels = event.labels.iter().map(|(key, value)| key.len() + value.len() + OVERHEAD);
    OVERHEAD + event.action.len() + event.name.len() + event.id.len() + labels.sum::<usize>()
}

/// None for a container that bears our mark and cannot have been made by us.
fn event_of(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let mut attributes = actor.attributes?;
    let name = attributes.remove("name").filter(|name| policy::check_name(name).is_ok())?;
    Some(Event {
        action: message.action?,
        name,
        id: actor.id.unwrap_or_default(),
        // The engine mixes the labels with facts of the event, which have no dot in their names.
        labels: labels::told(attributes),
        time_ns: message.time_nano.and_then(|time| u64::try_from(time).ok()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn event(action: &str) -> Event {
        Event { action: action.into(), name: "ss-a".into(), id: "x".into(), labels: vec![], time_ns: 1 }
    }

    async fn look(feed: &Feed, cursor: Option<&str>) -> EventPage {
        feed.page(cursor, Instant::now()).await.unwrap()
    }

    fn actions(page: &EventPage) -> Vec<&str> {
        page.events.iter().map(|event| event.action.as_str()).collect()
    }

    #[tokio::test]
    async fn events_come_once_and_in_order() {
        let feed = Feed::new();
        let start = look(&feed, None).await;
        assert!(start.resync && start.events.is_empty(), "whoever begins has to list");
        feed.ring().push(event("start"));
        feed.ring().push(event("die"));
        let page = look(&feed, Some(&start.cursor)).await;
        assert_eq!((actions(&page), page.resync), (vec!["start", "die"], false));
        let rest = look(&feed, Some(&page.cursor)).await;
        assert_eq!((rest.events.len(), rest.cursor, rest.resync), (0, page.cursor, false));
    }

    #[tokio::test]
    async fn what_is_lost_is_told_with_a_cursor_that_works() {
        let feed = Feed::new();
        let start = look(&feed, None).await;
        for _ in 0..=KEPT {
            feed.ring().push(event("start"));
        }
        let overflow = look(&feed, Some(&start.cursor)).await;
        assert!(overflow.resync && overflow.events.is_empty());
        feed.ring().push(event("die"));
        assert_eq!(actions(&look(&feed, Some(&overflow.cursor)).await), ["die"]);
        for unknown in ["", "x", "1.0", &format!("{:x}.999999", feed.epoch), &Feed::new().cursor(0)] {
            assert!(look(&feed, Some(unknown)).await.resync, "{unknown}");
        }
    }

    #[tokio::test]
    async fn many_events_come_in_pages() {
        let feed = Feed::new();
        let mut cursor = look(&feed, None).await.cursor;
        (0..PAGE + 1).for_each(|_| feed.ring().push(event("start")));
        let mut sizes = Vec::new();
        for _ in 0..2 {
            let page = look(&feed, Some(&cursor)).await;
            sizes.push(page.events.len());
            cursor = page.cursor;
        }
        assert_eq!(sizes, [PAGE, 1]);
    }

    #[tokio::test]
    async fn large_events_are_fewer_and_come_in_smaller_pages() {
        let feed = Feed::new();
        let mut cursor = look(&feed, None).await.cursor;
        let first = cursor.clone();
        let large = || Event {
            labels: vec![("streamspace.services".into(), "x".repeat(16 << 10))],
            ..event("start")
        };
        let together = PAGE_BYTES / size(&large());
        (0..together + 1).for_each(|_| feed.ring().push(large()));
        let mut sizes = Vec::new();
        for _ in 0..2 {
            let page = look(&feed, Some(&cursor)).await;
            sizes.push(page.events.len());
            cursor = page.cursor;
        }
        assert_eq!(sizes, [together, 1]);

        (0..KEPT).for_each(|_| feed.ring().push(large()));
        let (kept, bytes) = {
            let ring = feed.ring();
            (ring.events.len(), ring.bytes)
        };
        assert_eq!((kept, bytes), (KEPT_BYTES / size(&large()), kept * size(&large())));
        assert!(look(&feed, Some(&first)).await.resync, "and what went is told");
        // However large, one event is a page.
        feed.ring().push(Event { name: "x".repeat(PAGE_BYTES * 2), ..event("die") });
        let behind = feed.cursor(feed.ring().next() - 1);
        assert_eq!(look(&feed, Some(&behind)).await.events.len(), 1);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_an_event_and_by_the_end() {
        let feed = Arc::new(Feed::new());
        let cursor = look(&feed, None).await.cursor;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut waiting = Box::pin(feed.page(Some(&cursor), deadline));
        assert!(waiting.as_mut().now_or_never().is_none());
        feed.ring().push(event("stop"));
        feed.changed.notify_waiters();
        let page = waiting.await.unwrap();
        assert_eq!(actions(&page), ["stop"]);

        let mut waiting = Box::pin(feed.page(Some(&page.cursor), deadline));
        assert!(waiting.as_mut().now_or_never().is_none());
        feed.ring().push(event("destroy"));
        feed.ring().ended = true;
        feed.changed.notify_waiters();
        let last = waiting.await.unwrap();
        assert_eq!(actions(&last), ["destroy"], "what came before the end is told");
        assert_eq!(feed.page(Some(&last.cursor), deadline).await, None);
    }

    #[test]
    fn events_of_what_is_not_ours_are_left_out() {
        let message = |name: &str| EventMessage {
            action: Some("die".into()),
            actor: Some(bollard::models::EventActor {
                id: Some("x".into()),
                attributes: Some(HashMap::from([
                    ("name".to_owned(), name.to_owned()),
                    ("exitCode".to_owned(), "1".to_owned()),
                    ("streamspace.session_id".to_owned(), "a".to_owned()),
                    ("org.opencontainers.image.title".to_owned(), "x".repeat(4 << 20)),
                ])),
            }),
            ..Default::default()
        };
        let event = event_of(message("ss-a")).unwrap();
        assert_eq!(event.labels, [("streamspace.session_id".to_owned(), "a".to_owned())]);
        assert_eq!(event_of(message("somebody")), None);
    }
}
