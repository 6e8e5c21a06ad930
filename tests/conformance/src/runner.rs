//! Works through the checks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use streamspace_proto::controller::v1::{
    GetCapabilitiesRequest, GetSessionAccessRequest, ListSessionsRequest,
};
use tonic::Code;

use crate::check::{Check, Isolation, Need, Stop};
use crate::checks;
use crate::context::{Context, Offer};
use crate::controller::{Controller, Leaks};
use crate::report::{Report, Row, Verdict};
use crate::target::Target;

/// How the suite is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only checks with this in their id; empty = all.
    pub filter: String,
    /// Everything that is left to chance derives from it.
    pub seed: u64,
    /// Checks at once, of those that can run beside others.
    pub concurrency: usize,
    /// How long anything may take before a check gives up on it.
    pub patience: Duration,
    /// How long one check may take.
    pub limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: String::new(),
            seed: 1,
            concurrency: 4,
            patience: Duration::from_secs(60),
            limit: Duration::from_secs(300),
        }
    }
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The controller does not even say what it can do.
    #[error("the controller does not answer GetCapabilities: {:?}: {}", .0.code(), .0.message())]
    NoCapabilities(tonic::Status),
    /// No check has this in its id.
    #[error("no check has `{0}` in its id")]
    NoSuchCheck(String),
}

/// Runs checks on a target.
pub struct Runner {
    target: Target,
    options: Options,
}

impl Runner {
    /// A run on this target.
    pub fn new(target: Target, options: Options) -> Self {
        Self { target, options }
    }

    /// Runs all checks that the filter lets through.
    ///
    /// # Errors
    ///
    /// When there is nothing to run, or nothing to run it on.
    pub async fn run(&self) -> Result<Report, RunError> {
        let started = Instant::now();
        let chosen: Vec<&'static Check> =
            checks::all().filter(|check| check.id.contains(&self.options.filter)).collect();
        if chosen.is_empty() {
            return Err(RunError::NoSuchCheck(self.options.filter.clone()));
        }
        let offer = Arc::new(self.ask_offer().await?);
        let secret = hex::encode(
            Sha256::new().chain_update("secret").chain_update(self.options.seed.to_le_bytes()).finalize(),
        );
        let leaks = Arc::new(Leaks::of(secret));
        // Two runs with one seed differ in nothing but their ids.
        let run: Arc<str> = format!("cf{:06x}", run_number()).into();

        let mut rows = Vec::new();
        for (isolation, at_once) in [
            (Isolation::Shared, self.options.concurrency.max(1)),
            (Isolation::Alone, 1),
            (Isolation::Last, 1),
        ] {
            let phase = chosen.iter().filter(|check| check.isolation == isolation);
            let done = stream::iter(phase)
                .map(|check| self.judge(check, &run, &offer, &leaks))
                .buffer_unordered(at_once)
                .collect::<Vec<_>>()
                .await;
            rows.extend(done);
        }
        rows.sort_by_key(|row| row.id);
        let mut notes = Vec::new();
        if let Some(fixture) = &self.target.fixture
            && let Err(error) = fixture.clean_up().await
        {
            notes.push(format!("the fixture could not clean up: {error}"));
        }
        Ok(Report {
            controller_type: offer.capabilities.controller_type.clone(),
            backend_version: offer.capabilities.version.clone(),
            seed: self.options.seed,
            took: started.elapsed(),
            rows,
            notes,
        })
    }

    async fn ask_offer(&self) -> Result<Offer, RunError> {
        // Nothing is secret yet.
        let leaks = Arc::new(Leaks::of(" ".repeat(64)));
        let controller = Controller::new(self.target.transport.clone(), leaks, self.options.patience);
        let capabilities =
            controller.capabilities(GetCapabilitiesRequest {}).await.map_err(RunError::NoCapabilities)?;
        let nobody = GetSessionAccessRequest { session_id: "cf-nobody".to_owned(), ..Default::default() };
        let access =
            !matches!(controller.access(nobody).await, Err(status) if status.code() == Code::Unimplemented);
        let page = ListSessionsRequest { limit: 1, ..Default::default() };
        let listing =
            !matches!(controller.list(page).await, Err(status) if status.code() == Code::Unimplemented);
        Ok(Offer { capabilities, access, listing })
    }

    async fn judge(
        &self,
        check: &'static Check,
        run: &Arc<str>,
        offer: &Arc<Offer>,
        leaks: &Arc<Leaks>,
    ) -> Row {
        let started = Instant::now();
        let verdict = match self.missing(check, offer) {
            Some(reason) => Verdict::NotApplicable(reason),
            None => {
                let context = Context::new(
                    self.target.clone(),
                    check.id,
                    (Arc::clone(run), self.options.seed),
                    Arc::clone(offer),
                    Arc::clone(leaks),
                    self.options.patience,
                );
                self.attempt(check, context).await
            }
        };
        tracing::info!(check = check.id, verdict = verdict.word(), "checked");
        Row { id: check.id, title: check.title, verdict, took: started.elapsed() }
    }

    async fn attempt(&self, check: &'static Check, context: Context) -> Verdict {
        let work = AssertUnwindSafe((check.run)(context.clone())).catch_unwind();
        let outcome = match tokio::time::timeout(self.options.limit, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                let words = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                Err(Stop::Failed(format!("the check itself is broken: it panicked: {words}")))
            }
            Err(_) => Err(Stop::Failed(format!("not done within {} s", self.options.limit.as_secs()))),
        };
        if check.isolation == Isolation::Alone
            && let Some(fixture) = &self.target.fixture
            && fixture.offers().contains(&crate::Ability::Weather)
            && let Err(error) = fixture.weather(crate::Weather::Fair).await
        {
            return Verdict::Failed(format!("the fixture does not make fair weather again: {error}"));
        }
        let left = context.clean_up().await;
        let left = (!left.is_empty()).then(|| format!("left behind: {}", left.join("; ")));
        match (outcome, left) {
            (Ok(()), None) => Verdict::Passed,
            (Ok(()), Some(left)) => Verdict::Failed(left),
            (Err(Stop::NotApplicable(reason)), None) => Verdict::NotApplicable(reason),
            (Err(Stop::NotApplicable(_)), Some(left)) => Verdict::Failed(left),
            (Err(Stop::Failed(message)), None) => Verdict::Failed(message),
            (Err(Stop::Failed(message)), Some(left)) => Verdict::Failed(format!("{message} ({left})")),
        }
    }

    /// Why a check has no meaning on this target.
    fn missing(&self, check: &Check, offer: &Offer) -> Option<String> {
        check.needs.iter().find_map(|need| {
            let (there, why) = self.has(*need, offer);
            (!there).then_some(why)
        })
    }

    fn has(&self, need: Need, offer: &Offer) -> (bool, String) {
        let (capabilities, recipe) = (&offer.capabilities, &self.target.recipe);
        let offered = |there, what: &str| (there, format!("the controller does not offer {what}"));
        let known = |there, what: &str| (there, format!("the recipe names no {what}"));
        match need {
            Need::Hibernation => offered(capabilities.supports_hibernation, "hibernation"),
            Need::PersistentStorage => {
                offered(capabilities.supports_persistent_storage, "persistent storage")
            }
            Need::Metrics => offered(capabilities.supports_metrics, "metrics"),
            Need::Logs => offered(capabilities.supports_logs, "logs"),
            Need::Watch => offered(capabilities.supports_watch, "watch"),
            Need::Access => offered(offer.access, "access"),
            Need::Listing => offered(offer.listing, "ListSessions"),
            Need::Fixture(ability) => match &self.target.fixture {
                None => (false, "there is no fixture for this backend".to_owned()),
                Some(fixture) => {
                    (fixture.offers().contains(&ability), format!("the fixture cannot do this: {ability}"))
                }
            },
            Need::Process => {
                (self.target.process.is_some(), "the controller does not run in this process".to_owned())
            }
            Need::FailingRecipe => known(recipe.failing.is_some(), "session that fails"),
            Need::MissingImage => known(recipe.missing_image.is_some(), "image that is missing"),
            Need::MalformedImage => known(recipe.malformed_image.is_some(), "image that is malformed"),
            Need::RecordedHandles => known(!recipe.handles.is_empty(), "handles of other versions"),
            Need::TalkingRecipe => (recipe.talks, "the recipe's sessions write no logs".to_owned()),
        }
    }
}

/// Tells this run from others on the same backend.
fn run_number() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = now.as_nanos() ^ u128::from(std::process::id());
    let digest = Sha256::digest(seed.to_le_bytes());
    u32::from_le_bytes([digest[0], digest[1], digest[2], 0])
}
