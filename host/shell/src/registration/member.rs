//! A controller that is known to an API server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use streamspace_call_auth::{KeyRequests, Missed};
use streamspace_runtime::BindError;
use streamspace_runtime::contract::plugin::Report;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::api::{ApiError, ApiServer};
use super::join_token::{JoinToken, JoinTokenError};
use super::messages::{
    API_VERSION, Heartbeat, HeartbeatAnswer, InstanceStatus, Registered, Registration, Role, WantedState,
};
use super::place::Place;
use crate::tenure::Moment;

/// The first pause after a failure. Every further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Least time between two signs of life, whoever asks for keys …
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// … and between two that are given because of an unknown key. Anybody who reaches the port can name one, again and again.
const KEY_PAUSE: Duration = Duration::from_secs(5);
/// How often a process gets itself another token; in any case long before the old one expires …
const RENEWAL: Duration = Duration::from_secs(24 * 3600);
/// … and how soon again if it gets none.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// How long the last sign of life may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a process does not become a controller's.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// There is nothing to register with.
    #[error(transparent)]
    Token(#[from] JoinTokenError),
    /// The server will not have it.
    #[error("the API server refuses this controller: {0}")]
    Refused(#[from] ApiError),
    /// Its plugin does not take its configuration.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl MemberError {
    /// The join token is of no use.
    pub fn is_of_the_token(&self) -> bool {
        match self {
            Self::Token(_) => true,
            Self::Refused(error) => error.is_of_the_token(),
            Self::Bind(_) => false,
        }
    }
}

/// One process of a controller, from its registration to its end.
pub struct Member {
    /// Where it registers.
    pub api: ApiServer,
    /// What lets it in.
    pub join_token: JoinToken,
    /// The controller's name.
    pub name: String,
    /// Where it is called; empty = nowhere.
    pub endpoint: String,
    /// Who vouches for its certificate, in PEM.
    pub ca: Option<String>,
    /// What placement may choose by.
    pub labels: BTreeMap<String, String>,
    /// What it serves with.
    pub place: Place,
    /// How the backend was seen last.
    pub seen: watch::Receiver<Option<Report>>,
    /// Calls that wait for newer keys.
    pub requests: KeyRequests,
}

/// What is known since the last answer.
struct Standing {
    id: String,
    /// None = it is not taken any more.
    token: Option<Token>,
    interval: Duration,
    role: Role,
    state: WantedState,
}

struct Token {
    text: String,
    /// When another one is due.
    renew_at: Instant,
    /// The one before it, until this one was taken for the first time.
    before: Option<String>,
}

impl Member {
    /// Registers, and gives signs of life until it is told to stop. Then nothing new is begun, what is under way gets this time
    /// to end, and a last sign of life says that another process may take over. What the server says ends it only before the
    /// first registration: later it may always be one that knows better.
    pub async fn run(self, stop: CancellationToken, drain: Duration) -> Result<(), MemberError> {
        let instance = Uuid::new_v4().simple().to_string();
        self.place.serves_as(&instance);
        let mut process = Process { instance, member: self, asked: None };
        let Some(joined) = stop.run_until_cancelled(process.join()).await else { return Ok(()) };
        let mut standing = joined?;
        match stop.run_until_cancelled(process.keep(&mut standing)).await {
            Some(Err(error)) => Err(error.into()),
            Some(Ok(never)) => match never {},
            None => {
                let wound_up = process.wind_up(&mut standing, drain).await;
                process.leave(&standing).await;
                Ok(wound_up?)
            }
        }
    }
}

struct Process {
    /// Another one for every process: whether it is the one before, nobody can tell.
    instance: String,
    member: Member,
    /// When keys were last asked for.
    asked: Option<Instant>,
}

impl Process {
    /// Registers for the first time.
    async fn join(&mut self) -> Result<Standing, MemberError> {
        let mut pauses = Pauses::default();
        loop {
            let token = self.member.join_token.read().await?;
            let sent = Moment::now();
            match self.register(&token).await {
                Ok(answer) => return Ok(self.settle(answer, sent, None).await?),
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) => {
                    let pause = pauses.next();
                    tracing::warn!(%error, "not registered yet; once more in {} s", pause.as_secs());
                    sleep(pause).await;
                }
            }
        }
    }

    /// Gives signs of life. Ends only if the plugin cannot be bound to another id.
    async fn keep(&mut self, standing: &mut Standing) -> Result<Infallible, BindError> {
        let mut pauses = Pauses::default();
        let mut pause = standing.interval;
        let mut last = Instant::now();
        loop {
            let mut missed = self.pause(pause, last).await;
            self.member.requests.gather(&mut missed);
            last = Instant::now();
            let went = self.exchange(standing).await;
            // The calls that wait go on, whatever came of it.
            drop(missed);
            pause = match went {
                Ok(()) => {
                    pauses = Pauses::default();
                    standing.interval
                }
                Err(MemberError::Bind(error)) => return Err(error),
                Err(error) => {
                    let pause = pauses.next().min(standing.interval);
                    tracing::warn!(%error, "no sign of life came through; once more in {} ms", pause.as_millis());
                    pause
                }
            };
        }
    }

    /// Waits for the next sign of life, or until a call needs newer keys.
    async fn pause(&mut self, pause: Duration, last: Instant) -> Missed {
        // Many controllers that were started together need not stay together.
        let pause = pause.mul_f64(0.9 + rand::random::<f64>() / 10.0);
        let due = Instant::now() + pause;
        tokio::select! {
            () = sleep_until(due) => Missed::none(),
            missed = self.member.requests.next() => {
                let again = self.asked.map_or(last, |asked| asked + KEY_PAUSE);
                sleep_until(due.min(again.max(last + LEAST_PAUSE))).await;
                self.asked = Some(Instant::now());
                missed
            }
        }
    }

    /// A sign of life; or another registration, where that is due.
    async fn exchange(&mut self, standing: &mut Standing) -> Result<(), MemberError> {
        if let Some(token) = standing.token.as_mut().filter(|token| token.renew_at <= Instant::now()) {
            let sent = Moment::now();
            match self.register(&token.text).await {
                Ok(answer) => {
                    let before = Some(token.text.clone());
                    *standing = self.settle(answer, sent, before).await?;
                    return Ok(());
                }
                Err(error) if error.is_of_the_token() => return self.refused(standing, &error).await,
                Err(error) => {
                    tracing::warn!(%error, "there is no new token yet; the one that there is stays in use");
                    token.renew_at = Instant::now() + RENEW_AGAIN;
                }
            }
        }
        let sent = Moment::now();
        let Standing { id, token: Some(token), interval, .. } = standing else {
            return self.register_anew(standing).await;
        };
        let heartbeat = Heartbeat::of(&self.instance, self.member.seen.borrow().as_ref());
        match self.member.api.heartbeat(id, &token.text, &heartbeat, *interval).await {
            Ok(answer) => {
                token.before = None;
                self.heed(standing, &answer, sent);
                Ok(())
            }
            Err(error) if error.is_of_the_token() => self.refused(standing, &error).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Registers again: the token is not taken.
    async fn refused(&mut self, standing: &mut Standing, refusal: &ApiError) -> Result<(), MemberError> {
        if let Some(before) = standing.token.as_ref().and_then(|token| token.before.clone()) {
            tracing::warn!(error = %refusal, "the new token is not taken; registering again with the one before it");
            let sent = Moment::now();
            match self.register(&before).await {
                Ok(answer) => {
                    *standing = self.settle(answer, sent, Some(before)).await?;
                    return Ok(());
                }
                Err(error) if !error.is_of_the_token() => return Err(error.into()),
                Err(_) => {}
            }
        }
        tracing::warn!(error = %refusal, "the controller's token is not taken any more; registering again");
        standing.token = None;
        // At once: until then nobody hears of this process.
        self.register_anew(standing).await
    }

    /// Registers as if for the first time.
    async fn register_anew(&mut self, standing: &mut Standing) -> Result<(), MemberError> {
        let token = self.member.join_token.read().await?;
        let sent = Moment::now();
        let answer = self.register(&token).await?;
        *standing = self.settle(answer, sent, None).await?;
        Ok(())
    }

    async fn register(&self, token: &str) -> Result<Registered, ApiError> {
        let Member { api, name, endpoint, ca, labels, place, seen, .. } = &self.member;
        let body = Registration {
            controller_type: place.plugin().backend_type().to_owned(),
            name: name.clone(),
            endpoint: endpoint.clone(),
            capabilities: seen.borrow().as_ref().map(Into::into).unwrap_or_default(),
            labels: labels.clone(),
            instance: self.instance.clone(),
            ca: ca.clone(),
        };
        api.register(token, &body).await
    }

    /// Serves as the answer says, to what was sent then with this token of the controller.
    async fn settle(
        &mut self,
        answer: Registered,
        sent: Moment,
        before: Option<String>,
    ) -> Result<Standing, BindError> {
        if answer.api_version != API_VERSION {
            tracing::warn!(
                version = answer.api_version,
                "the API server speaks of another version than {API_VERSION}"
            );
        }
        self.member.place.assume(answer.role, sent, answer.lease());
        self.member.place.serve(&answer.controller_id, answer.epoch, &answer.keys).await?;
        tracing::info!(
            controller = answer.controller_id,
            name = self.member.name,
            endpoint = self.member.endpoint,
            instance = self.instance,
            role = ?answer.role,
            epoch = answer.epoch,
            "registered as {}",
            answer.controller_id
        );
        let renew_at = Instant::now() + answer.token_life().map_or(RENEWAL, |life| RENEWAL.min(life / 2));
        Ok(Standing {
            interval: answer.interval(),
            role: answer.role,
            state: WantedState::Serve,
            id: answer.controller_id,
            token: Some(Token { text: answer.auth_token, renew_at, before }),
        })
    }

    fn heed(&self, standing: &mut Standing, answer: &HeartbeatAnswer, sent: Moment) {
        // First the epoch: whoever is active from now on is so under this one.
        self.member.place.trust(answer.epoch, &answer.keys);
        self.member.place.assume(answer.role, sent, answer.lease());
        if standing.role != answer.role {
            tracing::info!(role = ?answer.role, epoch = answer.epoch, "this process has another role");
            standing.role = answer.role;
        }
        if standing.state != answer.state {
            tracing::info!(state = ?answer.state, "something else is wanted of this controller");
            standing.state = answer.state;
        }
        standing.interval = answer.interval();
    }

    /// Lets what is under way end, and holds the lease meanwhile. The API server is told only then that this process ends: from
    /// that moment on another one may be called, and nothing may come from this one any more.
    async fn wind_up(&mut self, standing: &mut Standing, drain: Duration) -> Result<(), BindError> {
        let idle = timeout(drain, self.member.place.wind_up());
        let wound_up = tokio::select! {
            idle = idle => {
                if idle.is_err() {
                    tracing::warn!("mutations under way are given up");
                }
                Ok(())
            }
            never = self.keep(standing) => match never {
                Err(error) => Err(error),
                Ok(never) => match never {},
            },
        };
        self.member.place.abandon();
        wound_up
    }

    /// Says that it goes, so that nobody has to wait for what it would have said next.
    async fn leave(&self, standing: &Standing) {
        let Some(token) = &standing.token else { return };
        let seen = self.member.seen.borrow().clone();
        let heartbeat =
            Heartbeat { status: InstanceStatus::Draining, ..Heartbeat::of(&self.instance, seen.as_ref()) };
        let farewell = self.member.api.heartbeat(&standing.id, &token.text, &heartbeat, standing.interval);
        match timeout(FAREWELL, farewell).await {
            Ok(Ok(_)) => tracing::info!("the API server knows that this process ends"),
            Ok(Err(error)) => tracing::warn!(%error, "the API server does not know that this process ends"),
            Err(_) => {
                tracing::warn!("the API server does not know that this process ends: no answer in time")
            }
        }
    }
}

/// Longer and longer pauses.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut pauses = Pauses::default();
        let taken: Vec<u64> = (0..7).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(taken, [1, 2, 4, 8, 16, 30, 30]);
    }
}
