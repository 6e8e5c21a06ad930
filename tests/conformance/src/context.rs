//! What a check works with: sessions of its own, calls that are driven to their end, and words for what was seen.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use streamspace_proto::controller::v1::{
    CapabilitiesResponse, CreateSessionRequest, CreateSessionResponse, DeleteSessionRequest,
    DeleteSessionResponse, EnvVar, GetSessionRequest, GetSessionResponse, GetSessionStatusRequest,
    HibernateSessionRequest, HibernateSessionResponse, ListSessionsRequest, SessionEntry, SessionSpec,
    SessionStatusResponse, WakeSessionRequest, WakeSessionResponse,
};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::check::{Stop, show};
use crate::controller::{Controller, Leaks};
use crate::fixture::{Ability, Fixture, FixtureError};
use crate::process::Process;
use crate::target::{Recipe, Target, Variation};

/// Between two looks at something that changes by itself.
const LOOK: Duration = Duration::from_millis(200);

/// Name of the variable in which every session gets the secret of the run.
const SECRET_VARIABLE: &str = "CONFORMANCE_SECRET";

/// A session of a check.
#[derive(Clone, Debug)]
pub struct Session {
    /// What it is created with.
    pub request: CreateSessionRequest,
}

impl Session {
    /// Its id.
    pub fn id(&self) -> String {
        self.request.session_id.clone()
    }

    /// Whose it is.
    pub fn user(&self) -> String {
        self.request.user_id.clone()
    }

    /// Its spec, to be changed before it is created.
    pub fn spec(&mut self) -> &mut SessionSpec {
        self.request.spec.get_or_insert_default()
    }

    /// The request to create it; the hash is that of its spec.
    pub fn create_request(&self) -> CreateSessionRequest {
        let mut request = self.request.clone();
        let spec = request.spec.clone().unwrap_or_default().encode_to_vec();
        let hash = Sha256::new().chain_update(spec).chain_update(&request.controller_config).finalize();
        request.spec_hash = hex::encode(hash);
        request
    }

    /// The request to remove it.
    pub fn delete_request(&self) -> DeleteSessionRequest {
        DeleteSessionRequest { session_id: self.id(), user_id: self.user(), ..Default::default() }
    }
}

/// What a controller says it can do, and what it does without a flag.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) capabilities: CapabilitiesResponse,
    pub(crate) access: bool,
    pub(crate) listing: bool,
}

/// What the check made, to be removed after it.
#[derive(Debug, Default)]
struct Made {
    sessions: Vec<Session>,
    foreign: Vec<String>,
    numbers: u64,
}

/// The surroundings of one check. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub(crate) controller: Controller,
    pub(crate) offer: Arc<Offer>,
    pub(crate) leaks: Arc<Leaks>,
    target: Target,
    check: &'static str,
    run: Arc<str>,
    seed: u64,
    patience: Duration,
    made: Arc<Mutex<Made>>,
}

/// One step of a mutation, whichever it is.
pub(crate) trait Step {
    fn next_step(&self) -> Option<(Vec<u8>, Duration)>;
}

macro_rules! steps {
    ($($answer:ty),*) => {$(
        impl Step for $answer {
            fn next_step(&self) -> Option<(Vec<u8>, Duration)> {
                self.in_progress.then(|| {
                    let after = self.poll_after.and_then(|after| Duration::try_from(after).ok());
                    (self.handle.clone(), after.unwrap_or(LOOK))
                })
            }
        }
    )*};
}
steps!(CreateSessionResponse, DeleteSessionResponse, HibernateSessionResponse, WakeSessionResponse);

impl Context {
    pub(crate) fn new(
        target: Target,
        check: &'static str,
        (run, seed): (Arc<str>, u64),
        offer: Arc<Offer>,
        leaks: Arc<Leaks>,
        patience: Duration,
    ) -> Self {
        let controller = Controller::new(target.transport.clone(), Arc::clone(&leaks), patience);
        Self { controller, offer, leaks, target, check, run, seed, patience, made: Arc::default() }
    }

    /// How long anything may take before the check gives up on it.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn recipe(&self) -> &Recipe {
        &self.target.recipe
    }

    pub(crate) fn fixture(&self, ability: Ability) -> Result<&dyn Fixture, FixtureError> {
        match self.target.fixture.as_deref() {
            Some(fixture) if fixture.offers().contains(&ability) => Ok(fixture),
            _ => Err(FixtureError::NotOffered(ability)),
        }
    }

    pub(crate) fn process(&self) -> Result<&dyn Process, Stop> {
        self.target
            .process
            .as_deref()
            .ok_or_else(|| Stop::NotApplicable("the controller does not run in this process".to_owned()))
    }

    /// The same check on another controller over the same backend.
    pub(crate) fn through(&self, transport: streamspace_shell::Transport) -> Self {
        let controller = Controller::new(transport, Arc::clone(&self.leaks), self.patience);
        Self { controller, ..self.clone() }
    }

    /// A number below a bound: another one each time, and the same ones in every run with this seed.
    pub(crate) fn dice(&self, bound: u64) -> u64 {
        let number = self.next_number();
        let digest = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(self.check)
            .chain_update(number.to_le_bytes())
            .finalize();
        digest.iter().take(8).fold(0u64, |value, byte| value << 8 | u64::from(*byte)) % bound.max(1)
    }

    fn next_number(&self) -> u64 {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.numbers += 1;
        made.numbers
    }

    /// An id that no other session has, of this run or another, and that is no part of another's.
    pub(crate) fn new_id(&self) -> String {
        let group = self.check.split('-').next().unwrap_or_default().to_lowercase();
        let digest = Sha256::new().chain_update(self.check).finalize();
        format!("{}-{group}{}-{:05}", self.run, hex::encode(&digest[..2]), self.next_number())
    }

    /// A new session as the recipe has it; it is removed after the check.
    pub(crate) fn session(&self) -> Session {
        self.session_of(&self.target.recipe.running)
    }

    /// A new session of another kind.
    pub(crate) fn session_of(&self, variation: &Variation) -> Session {
        let id = self.new_id();
        let mut spec = variation.spec.clone();
        spec.env.push(EnvVar {
            name: SECRET_VARIABLE.to_owned(),
            value: self.leaks.secret().to_owned(),
            secret: true,
        });
        let session = Session {
            request: CreateSessionRequest {
                user_id: format!("user-of-{id}"),
                session_id: id,
                spec: Some(spec),
                controller_config: variation.controller_config.clone(),
                generation: 1,
                operation_id: format!("create-{}", self.next_number()),
                ..Default::default()
            },
        };
        self.remember(&session);
        session
    }

    /// Removes it after the check, also as it was changed since [`session`](Self::session).
    pub(crate) fn remember(&self, session: &Session) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).sessions.push(session.clone());
    }

    /// Removes what a fixture made for this id after the check.
    pub(crate) fn remember_foreign(&self, session: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).foreign.push(session.to_owned());
    }

    /// Creates a session and drives that to its end.
    pub(crate) async fn create(&self, session: &Session) -> Result<CreateSessionResponse, Status> {
        self.drive(|handle| {
            self.controller.create(CreateSessionRequest { handle, ..session.create_request() })
        })
        .await
    }

    /// Removes a session and drives that to its end.
    pub(crate) async fn delete(&self, session: &Session) -> Result<DeleteSessionResponse, Status> {
        self.delete_with(session.delete_request()).await
    }

    pub(crate) async fn delete_with(
        &self,
        request: DeleteSessionRequest,
    ) -> Result<DeleteSessionResponse, Status> {
        self.drive(|handle| self.controller.delete(DeleteSessionRequest { handle, ..request.clone() })).await
    }

    /// Hibernates a session and drives that to its end.
    pub(crate) async fn hibernate(&self, session: &Session) -> Result<HibernateSessionResponse, Status> {
        self.drive(|handle| {
            let session_id = session.id();
            self.controller.hibernate(HibernateSessionRequest {
                session_id,
                handle,
                generation: 2,
                ..Default::default()
            })
        })
        .await
    }

    /// Wakes a session and drives that to its end.
    pub(crate) async fn wake(&self, session: &Session) -> Result<WakeSessionResponse, Status> {
        self.drive(|handle| {
            let session_id = session.id();
            self.controller.wake(WakeSessionRequest {
                session_id,
                handle,
                generation: 3,
                ..Default::default()
            })
        })
        .await
    }

    /// Makes a call again and again: with the handle while it is in progress, and after errors that a retry may help.
    async fn drive<A: Step, F: Future<Output = Result<A, Status>>>(
        &self,
        step: impl Fn(Vec<u8>) -> F,
    ) -> Result<A, Status> {
        let deadline = Instant::now() + self.patience;
        let mut handle = Vec::new();
        loop {
            let answer = step(handle.clone()).await;
            let wait = match &answer {
                Ok(done) => match done.next_step() {
                    None => return answer,
                    Some((next, after)) => {
                        handle = next;
                        after
                    }
                },
                Err(status) if is_retryable(status) => LOOK,
                Err(_) => return answer,
            };
            // Of calls that wait equally long, the same one would be first every time: a create before a delete of the
            // same session, for instance, which then never ends.
            let wait = wait + Duration::from_millis(self.dice(wait.as_millis() as u64 / 2));
            if Instant::now() + wait > deadline {
                let seconds = self.patience.as_secs();
                let unfinished = Status::deadline_exceeded(format!("still in progress after {seconds} s"));
                return answer.and(Err(unfinished));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// A new session that runs.
    pub(crate) async fn running(&self) -> Result<Session, Stop> {
        let session = self.session();
        self.run(&session).await?;
        Ok(session)
    }

    /// Creates a session and waits until it runs.
    pub(crate) async fn run(&self, session: &Session) -> Result<SessionStatusResponse, Stop> {
        let created = self.create(session).await;
        match &created {
            Ok(answer) if answer.session_id == session.id() => {}
            _ => return Err(Stop::expected_of("CreateSession to succeed", &created)),
        }
        self.wait_for_phase(session, "Running").await
    }

    /// A new session that is hibernated.
    pub(crate) async fn hibernated(&self) -> Result<Session, Stop> {
        let session = self.running().await?;
        self.put_to_sleep(&session).await?;
        Ok(session)
    }

    /// Hibernates a session and waits until it is.
    pub(crate) async fn put_to_sleep(&self, session: &Session) -> Result<(), Stop> {
        let hibernated = self.hibernate(session).await;
        if hibernated.is_err() {
            return Err(Stop::expected_of("HibernateSession to succeed", &hibernated));
        }
        self.wait_for_phase(session, "Hibernated").await.map(drop)
    }

    /// Wakes a session and waits until it runs.
    pub(crate) async fn wake_up(&self, session: &Session) -> Result<(), Stop> {
        let woken = self.wake(session).await;
        if woken.is_err() {
            return Err(Stop::expected_of("WakeSession to succeed", &woken));
        }
        self.wait_for_phase(session, "Running").await.map(drop)
    }

    /// What the controller says of a session.
    pub(crate) async fn status(&self, session: &Session) -> Result<SessionStatusResponse, Status> {
        let request = GetSessionStatusRequest { session_id: session.id(), ..Default::default() };
        self.controller.status(request).await
    }

    /// Waits until a session is in this phase.
    pub(crate) async fn wait_for_phase(
        &self,
        session: &Session,
        phase: &str,
    ) -> Result<SessionStatusResponse, Stop> {
        self.wait_for(&format!("phase {phase}"), session, |status| status.phase == phase).await
    }

    /// Waits until a session's status is as it should be.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        session: &Session,
        is_so: impl Fn(&SessionStatusResponse) -> bool,
    ) -> Result<SessionStatusResponse, Stop> {
        let deadline = Instant::now() + self.patience;
        loop {
            let status = self.status(session).await;
            match status {
                Ok(status) if is_so(&status) => return Ok(status),
                ref seen if Instant::now() > deadline => {
                    let what = format!("{what} of session {} within {:?}", session.id(), self.patience);
                    return Err(Stop::expected_of(what, seen));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Waits until GetSession says NOT_FOUND.
    pub(crate) async fn wait_until_gone(&self, session: &Session) -> Result<(), Stop> {
        let deadline = Instant::now() + self.patience;
        loop {
            let seen = self.status(session).await;
            match &seen {
                Err(status) if status.code() == Code::NotFound => return Ok(()),
                _ if Instant::now() > deadline => {
                    return Err(Stop::expected_of(format!("NOT_FOUND for session {}", session.id()), &seen));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Removes a session and looks whether it is gone at once, in every way there is.
    pub(crate) async fn delete_whole(&self, session: &Session) -> Result<(), Stop> {
        let deleted = self.delete(session).await;
        match &deleted {
            Ok(answer) if answer.success => {}
            _ => return Err(Stop::expected_of("DeleteSession to succeed", &deleted)),
        }
        self.expect_gone(session).await
    }

    /// That there is nothing of a session.
    pub(crate) async fn expect_gone(&self, session: &Session) -> Result<(), Stop> {
        let request = GetSessionRequest { session_id: session.id(), ..Default::default() };
        let seen = self.controller.get(request).await;
        match &seen {
            Err(status) if status.code() == Code::NotFound => {}
            _ => return Err(Stop::expected_of("NOT_FOUND from GetSession", &seen)),
        }
        self.expect_no_objects(session).await
    }

    /// That the backend has nothing of a session, where somebody can look.
    pub(crate) async fn expect_no_objects(&self, session: &Session) -> Result<(), Stop> {
        let objects = self.objects(session).await?.unwrap_or_default();
        if objects.is_empty() {
            return Ok(());
        }
        Err(Stop::expected("nothing left on the backend", objects.join(", ")))
    }

    /// The session's objects on the backend, where somebody can look.
    pub(crate) async fn objects(&self, session: &Session) -> Result<Option<Vec<String>>, Stop> {
        match self.fixture(Ability::Inventory) {
            Ok(fixture) => Ok(Some(fixture.objects_of(&session.id()).await?)),
            Err(_) => Ok(None),
        }
    }

    /// That a session stands for exactly one entry of the listing and, where somebody can look, one set of objects.
    pub(crate) async fn expect_one(&self, session: &Session) -> Result<(), Stop> {
        let entries = self.entries_of(session).await?;
        if entries.len() != 1 {
            let seen = format!("{} of them: {entries:?}", entries.len());
            return Err(Stop::expected("one entry of the session in the listing", seen));
        }
        let Ok(fixture) = self.fixture(Ability::Inventory) else { return Ok(()) };
        let objects = fixture.main_objects_of(&session.id()).await?;
        if objects.len() == 1 {
            return Ok(());
        }
        Err(Stop::expected("one main object on the backend", format!("{objects:?}")))
    }

    /// The entries of a session in the listing. A controller without one is asked for the session by its name.
    pub(crate) async fn entries_of(&self, session: &Session) -> Result<Vec<SessionEntry>, Stop> {
        if !self.offer.listing {
            let request = GetSessionRequest { session_id: session.id(), ..Default::default() };
            let answer = self.controller.get(request).await;
            return match answer {
                Ok(GetSessionResponse { status, spec, user_id, ownership }) => {
                    Ok(vec![SessionEntry { status, spec, user_id, ownership, ..Default::default() }])
                }
                Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
                _ => Err(Stop::expected_of("GetSession to succeed, or NOT_FOUND", &answer)),
            };
        }
        let all = self
            .list_all(0)
            .await
            .map_err(|status| Stop::expected("ListSessions to succeed", show::<()>(&Err(status))))?;
        let is_it = |entry: &SessionEntry| {
            entry.status.as_ref().is_some_and(|status| status.session_id == session.id())
        };
        Ok(all.into_iter().filter(is_it).collect())
    }

    /// The whole listing, in pages of so many.
    pub(crate) async fn list_all(&self, limit: i32) -> Result<Vec<SessionEntry>, Status> {
        let mut entries = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.controller.list(ListSessionsRequest { cursor: cursor.clone(), limit }).await?;
            entries.extend(page.entries);
            if page.next_cursor.is_empty() {
                return Ok(entries);
            }
            if page.next_cursor == cursor {
                return Err(Status::internal("the cursor of the next page is that of this page"));
            }
            cursor = page.next_cursor;
        }
    }

    /// Removes everything that the check made. Says what could not be removed.
    pub(crate) async fn clean_up(&self) -> Vec<String> {
        let (sessions, foreign) = {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut made.sessions), std::mem::take(&mut made.foreign))
        };
        let mut left = Vec::new();
        // First, or they would stand in the way of our own removals.
        if let Ok(fixture) = self.fixture(Ability::Foreigners) {
            for session in foreign {
                if let Err(error) = fixture.remove_foreign(&session).await {
                    left.push(format!("the foreign object of {session}: {error}"));
                }
            }
        }
        let removals = sessions.iter().map(|session| async move {
            let purge_home = session.request.spec.as_ref().is_some_and(|spec| spec.persistent_home);
            let request = DeleteSessionRequest { purge_home, ..session.delete_request() };
            match self.delete_with(request).await {
                // A name that is refused stands for nothing.
                Ok(_) => None,
                Err(status) if status.code() == Code::InvalidArgument => None,
                Err(status) => Some(format!("{}: {:?}: {}", session.id(), status.code(), status.message())),
            }
        });
        left.extend(join_all(removals).await.into_iter().flatten());
        left
    }
}

/// Whether the contract says that a retry may help.
pub(crate) fn is_retryable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
}
