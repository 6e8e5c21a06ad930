//! The API server put together.

use std::sync::{Arc, OnceLock};

use streamspace_call_auth::SigningKey;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::changes::Changes;
use crate::data_dir::DataDir;
use crate::domain::{Actor, ControllerId, Epoch, MAX_ID_BYTES, Registration, Rule, ServerKey, SessionId};
use crate::events::{Feed, News};
use crate::fleet::{ControllerTransport, Fleet, ProbeLimits};
use crate::gateway::Activity;
use crate::grpc::Contract;
use crate::metrics::Metrics;
use crate::observe::{Asked, Observer};
use crate::plugins::PluginDirectory;
use crate::presence::Presence;
use crate::reconcile::Reconciler;
use crate::remote::Remotes;
use crate::store::{self, EventScope, Migrated, Store};
use crate::{ControlConfig, ControlError, admin_token, gateway, policies, rest};

/// How often expired rows are removed.
const SWEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(600);

/// Holds the key that calls to remote controllers are signed with, in the data folder.
const KEY_FILE: &str = "call-signing.key";

/// After a failure of the database.
const NEWS_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// How long open connections may take to end.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(5);

/// Brings the schema of the database up to date without serving. Refuses data that another process uses, and a schema
/// of a later version.
pub async fn migrate(config: &ControlConfig) -> Result<Migrated, ControlError> {
    let _data_dir = DataDir::claim(config)?;
    Ok(store::migrate(&config.database, config.database_wait).await?)
}

/// What the parts of the server share.
pub(crate) struct Shared {
    pub(crate) config: Arc<ControlConfig>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) presence: Arc<Presence>,
    /// Controllers that run elsewhere.
    pub(crate) remotes: Arc<Remotes>,
    /// Wakes the reconciler.
    pub(crate) wake: Arc<Notify>,
    /// Controllers to be observed at once.
    pub(crate) asked: Arc<Asked>,
    /// Requests that wait end when this is cancelled.
    pub(crate) stopping: CancellationToken,
    pub(crate) feed: Arc<Feed>,
    pub(crate) metrics: Metrics,
    /// What requests keep between each other.
    pub(crate) kept: rest::Kept,
    /// The messages and services of gRPC clients.
    pub(crate) contract: Contract,
    /// Who uses sessions.
    pub(crate) activity: Activity,
    /// Connections that outlive their request.
    pub(crate) connections: TaskTracker,
    /// Where the plugins of controllers in this process come from; nothing without any.
    pub(crate) plugins: OnceLock<Arc<dyn PluginDirectory>>,
}

impl Shared {
    /// Wakes whoever waits for what other servers have stored. Never ends.
    async fn hear_others(&self) {
        let mut news = self.feed.subscribe(EventScope::default(), None);
        loop {
            match news.next().await {
                Ok(News::Events(events)) => {
                    if events.iter().any(|event| event.controller_id.is_some()) {
                        self.remotes.look_soon();
                    }
                    for id in events.iter().filter_map(|event| event.session_id.as_deref()) {
                        if let Ok(id) = SessionId::parse(id) {
                            self.changes.changed(&id);
                        }
                    }
                    self.wake.notify_one();
                }
                Ok(News::Lost) => {
                    self.remotes.look_soon();
                    self.wake.notify_one();
                }
                Err(error) => {
                    tracing::debug!(%error, "what other servers have stored is not known");
                    tokio::time::sleep(NEWS_RETRY).await;
                }
            }
        }
    }
}

/// The API server. Dropping it stops the probes; [`Control::close`] also waits for everything to be written.
pub struct Control {
    shared: Arc<Shared>,
    health: Mutex<mpsc::UnboundedReceiver<ControllerId>>,
    _stop_probes: DropGuard,
    /// Holds on to this server's place for as long as it lives.
    keeping: AbortOnDropHandle<()>,
    _data_dir: DataDir,
}

impl Control {
    /// Opens the store, brings its schema up to date, and makes sure that the administrator's token is in
    /// `<data_dir>/admin.token`. Refuses data that another process uses.
    pub async fn open(config: ControlConfig) -> Result<Self, ControlError> {
        let data_dir = DataDir::claim(&config)?;
        let (store, writer_metrics) =
            store::open(&config.database, config.database_wait, data_dir.instance(), &config).await?;
        let (metrics, call_metrics) = Metrics::new(&writer_metrics);
        admin_token::ensure(store.as_ref(), &config.data_dir, data_dir.instance()).await?;

        let key = Arc::new(SigningKey::load_or_create(&config.data_dir.join(KEY_FILE))?);
        let stop = CancellationToken::new();
        let (events, health) = mpsc::unbounded_channel();
        let limits = ProbeLimits {
            interval: config.health_interval,
            timeout: config.probe_timeout,
            offline_after: config.offline_after.max(1),
        };
        let wake = Arc::new(Notify::new());
        let fleet = Fleet::new(limits, stop.clone(), events, Arc::clone(&wake), call_metrics);
        let fleet = Arc::new(fleet);
        let presence = Presence::enter(
            Arc::clone(&store),
            Arc::clone(&fleet),
            Arc::clone(&wake),
            data_dir.instance(),
            ServerKey { kid: key.kid().to_owned(), public_key: key.public().to_string() },
            (config.server_lease, config.server_renewal),
        );
        let presence = Arc::new(presence.await?);
        let (drivers, insecure) = (Arc::clone(&presence), config.allow_insecure_endpoints);
        let remotes = Arc::new(Remotes::new(Arc::clone(&store), Arc::clone(&fleet), drivers, key, insecure));
        remotes.look().await?;
        let connections = TaskTracker::new();
        let shared = Arc::new(Shared {
            fleet,
            presence,
            remotes,
            feed: Arc::new(Feed::new(Arc::clone(&store), config.event_backlog)),
            metrics,
            kept: rest::Kept::new(&config),
            contract: Contract::read()?,
            activity: Activity::new(Arc::clone(&store), connections.clone(), config.activity_interval),
            connections,
            config: Arc::new(config),
            store,
            changes: Arc::new(Changes::new()),
            wake,
            asked: Arc::default(),
            stopping: CancellationToken::new(),
            plugins: OnceLock::new(),
        });
        let (feed, stopped) = (Arc::clone(&shared.feed), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(feed.run()).await });
        let (remotes, stopped) = (Arc::clone(&shared.remotes), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(remotes.run()).await });
        let presence = Arc::clone(&shared.presence);
        let keeping = tokio::spawn(async move { presence.keep().await });
        if shared.store.is_shared() {
            let (others, stopped) = (Arc::clone(&shared), stop.clone());
            tokio::spawn(async move { stopped.run_until_cancelled(others.hear_others()).await });
        }
        Ok(Self {
            shared,
            health: Mutex::new(health),
            _stop_probes: stop.drop_guard(),
            keeping: AbortOnDropHandle::new(keeping),
            _data_dir: data_dir,
        })
    }

    /// Shows a directory of plugins to operators. To be called once.
    pub fn show_plugins(&self, plugins: Arc<dyn PluginDirectory>) {
        if self.shared.plugins.set(plugins).is_err() {
            tracing::error!("there is a directory of plugins already; the second is not shown");
        }
    }

    /// Registers a controller. The same type and name always get the same id.
    pub async fn register_controller(
        &self,
        registration: Registration,
    ) -> Result<ControllerId, ControlError> {
        for (what, text) in [("type", &registration.controller_type), ("name", &registration.name)] {
            if text.is_empty() || text.len() > MAX_ID_BYTES {
                let message = format!("the {what} must have 1 to {MAX_ID_BYTES} bytes");
                return Err(ControlError::Registration(message));
            }
        }
        Ok(self.shared.store.register_controller(Actor::System(Rule::Configuration), registration).await?)
    }

    /// Whether a controller was ever registered under this type and name.
    pub async fn knows_controller(&self, controller_type: &str, name: &str) -> Result<bool, ControlError> {
        let known = self.shared.store.controllers().await?;
        Ok(known.iter().any(|known| known.controller_type == controller_type && known.name == name))
    }

    /// Whether calls under an epoch may still change anything at a controller's backend. To be asked before each change:
    /// a server that was stopped, or that has lost its database, may have been replaced meanwhile.
    pub fn fence(&self, id: &ControllerId) -> impl Fn(u64) -> bool + Send + Sync + 'static {
        let standing = self.shared.fleet.standing(id);
        move |epoch| standing.holds(Epoch::from_wire(epoch))
    }

    /// Makes a registered controller callable, and begins to probe it: at once, and then at intervals. Attaching
    /// it again replaces the way it is called. Of several servers that have it one drives it.
    pub async fn attach_controller(
        &self,
        id: &ControllerId,
        transport: ControllerTransport,
    ) -> Result<(), ControlError> {
        let controller = self.shared.store.controller(id).await?;
        let controller = controller.ok_or_else(|| ControlError::UnknownController(id.clone()))?;
        let Shared { store, fleet, presence, remotes, .. } = self.shared.as_ref();
        remotes.let_go(id).await;
        if let Some(term) = presence.term()
            && let Some(epoch) = store.take_over_controller(term.owner(), id).await?
        {
            fleet.take_charge(id, epoch, term);
        }
        fleet.attach(id.clone(), controller.controller_type, transport, Arc::clone(store));
        Ok(())
    }

    /// Grants a controller so many calls at once instead of [`ControlConfig::calls_per_controller`].
    pub fn limit_calls(&self, id: &ControllerId, calls: u32) {
        self.shared.fleet.limit_calls(id.clone(), calls);
    }

    /// Probes an attached controller at once instead of at its next time: for those who know that something has
    /// changed behind it.
    pub fn probe_controller(&self, id: &ControllerId) {
        self.shared.fleet.probe_now(id);
    }

    /// The REST API, the same for gRPC clients, and the gateway to sessions. It works without [`Control::run`], but then nothing is ever done about
    /// what it stores.
    pub fn router(&self) -> axum::Router {
        rest::router(Arc::clone(&self.shared), gateway::router(Arc::clone(&self.shared)))
    }

    /// Drives sessions, observes backends and acts on the health of controllers, until it is cancelled. Returns
    /// once the calls under way have ended and are recorded, or when the drain limit has passed. To be run once.
    pub async fn run(&self, stop: CancellationToken) {
        let shared = &self.shared;
        let reconciler = Arc::new(Reconciler {
            store: Arc::clone(&shared.store),
            fleet: Arc::clone(&shared.fleet),
            changes: Arc::clone(&shared.changes),
            wake: Arc::clone(&shared.wake),
            config: Arc::clone(&shared.config),
            presence: Arc::clone(&shared.presence),
        });
        let observer = Arc::new(Observer {
            store: Arc::clone(&shared.store),
            fleet: Arc::clone(&shared.fleet),
            changes: Arc::clone(&shared.changes),
            wake: Arc::clone(&shared.wake),
            call_timeout: shared.config.call_timeout,
            limit: shared.config.observe_limit,
            repair_pause: shared.config.repair_pause,
            drift_grace: shared.config.drift_grace,
            keep_tombstones: shared.config.keep_tombstones,
            asked: Arc::clone(&shared.asked),
            noted: Default::default(),
            oddities: Default::default(),
            seconds: shared.metrics.observation_seconds.clone(),
        });
        let requests = async {
            stop.cancelled().await;
            shared.stopping.cancel();
        };
        let watching = stop.run_until_cancelled(self.watch(observer));
        tokio::join!(reconciler.run(stop.clone()), watching, requests);
    }

    /// Everything that goes by the clock or by the health of controllers. Never ends.
    async fn watch(&self, observer: Arc<Observer>) {
        let health = async {
            let mut events = self.health.lock().await;
            while let Some(id) = events.recv().await {
                observer.health_changed(id).await;
            }
        };
        let sweep = async {
            loop {
                if let Err(error) = self.shared.store.sweep().await {
                    tracing::warn!(%error, "expired rows were not removed");
                }
                let config = &self.shared.config;
                let swept = self.shared.store.sweep_events(config.keep_events, config.events_per_session);
                if let Err(error) = swept.await {
                    tracing::warn!(%error, "old events were not removed");
                }
                if let Err(error) = self.shared.store.sweep_audit(config.keep_audit).await {
                    tracing::warn!(%error, "old entries of the audit log were not removed");
                }
                tokio::time::sleep(SWEEP_INTERVAL).await;
            }
        };
        let observed = Arc::clone(&observer).run(self.shared.config.observe_interval);
        tokio::join!(health, observed, sweep, policies::run(&self.shared));
    }

    /// Stops the probes, finishes what is being written, closes the store and releases the lock on the data. To
    /// be called after [`Control::run`] has returned; routers handed out before answer with errors from then on.
    pub async fn close(self) {
        self.shared.stopping.cancel();
        self.shared.connections.close();
        if tokio::time::timeout(GOODBYE, self.shared.connections.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        self.shared.fleet.close().await;
        // Who holds on to the place would take another one.
        self.keeping.abort();
        if let Err(error) = self.keeping.await
            && !error.is_cancelled()
        {
            tracing::error!(%error, "nobody held on to this server's place");
        }
        self.shared.presence.leave().await;
        self.shared.store.close().await;
    }
}
