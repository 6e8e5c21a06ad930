//! One of the servers: it runs, is dead, or stands still.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use streamspace_tests::api::Api;
use streamspace_tests::server::{Installation, Server};

use super::database::Claim;

/// A server and what it is started with.
pub(super) struct Member {
    // Before its data.
    state: State,
    /// What it logged before it was killed.
    earlier: String,
    plight: Option<Plight>,
    installation: Installation,
}

enum State {
    Well(Server),
    /// It goes on then.
    Still(Server, Instant),
    /// It is started again then.
    Dead(Instant),
}

/// What a server was doing when it was struck.
pub(super) struct Plight {
    /// Its place, if it drove the controller and nobody else does yet.
    pub(super) drives: Option<String>,
    /// What it had claimed, or would have next.
    pub(super) claims: Vec<Claim>,
    pub(super) struck: Instant,
}

fn start(installation: &Installation) -> Result<Server> {
    match installation.try_start(None) {
        Ok(server) => Ok(server),
        Err(ended) => bail!("a server did not start ({}):\n{}", ended.status, ended.log),
    }
}

impl Member {
    pub(super) fn start(installation: Installation) -> Result<Self> {
        let state = State::Well(start(&installation)?);
        Ok(Self { state, earlier: String::new(), plight: None, installation })
    }

    pub(super) fn is_well(&self) -> bool {
        matches!(self.state, State::Well(_))
    }

    fn server(&self) -> Option<&Server> {
        match &self.state {
            State::Well(server) | State::Still(server, _) => Some(server),
            State::Dead(_) => None,
        }
    }

    /// Its API, if it listens at all.
    pub(super) fn api(&self) -> Option<Api> {
        self.server().map(Server::api)
    }

    /// Where events are told, with the token to hear them.
    pub(super) fn events(&self) -> Option<(String, String)> {
        let server = self.server()?;
        let token = std::fs::read_to_string(server.data().join("admin.token")).ok()?;
        Some((server.url().replacen("http", "ws", 1) + "/api/v1/ws", token.trim().to_owned()))
    }

    /// Its place, as it said last.
    pub(super) fn place(&self) -> Option<String> {
        let log = self.server()?.log();
        let said = log.lines().rev().find(|line| line.contains("has its place"))?;
        let line: Value = serde_json::from_str(said).ok()?;
        line["fields"]["place"].as_str().map(str::to_owned)
    }

    pub(super) fn log(&self) -> String {
        let now = self.server().map(Server::log).unwrap_or_default();
        format!("{}{now}", self.earlier)
    }

    /// Kills it, until so much later.
    pub(super) fn kill(&mut self, away: Duration) {
        self.earlier = self.log() + "--- killed\n";
        let dead = State::Dead(Instant::now() + away);
        if let State::Well(server) | State::Still(server, _) = std::mem::replace(&mut self.state, dead) {
            server.kill();
        }
    }

    /// Makes it stand still, until so much later.
    pub(super) fn stop(&mut self, away: Duration) {
        let until = Instant::now() + away;
        self.state = match std::mem::replace(&mut self.state, State::Dead(until)) {
            State::Well(server) => {
                server.signal("STOP");
                State::Still(server, until)
            }
            other => other,
        };
    }

    /// Notes what it was doing.
    pub(super) fn lost(&mut self, plight: Plight) {
        self.plight = Some(plight);
    }

    /// What it was doing, if nobody has taken that over yet.
    pub(super) fn plight(&self) -> Option<&Plight> {
        self.plight.as_ref()
    }

    /// Somebody else drives the controller.
    pub(super) fn replaced(&mut self) {
        if let Some(plight) = &mut self.plight {
            plight.drives = None;
        }
    }

    pub(super) fn forget_plight(&mut self) {
        self.plight = None;
    }

    /// Lets it go on if it is time, or at once; whether it does.
    pub(super) fn come_back(&mut self, at_once: bool) -> Result<bool> {
        let due = |at: Instant| at_once || Instant::now() >= at;
        match &self.state {
            State::Still(_, at) | State::Dead(at) if due(*at) => {}
            _ => return Ok(false),
        }
        // What it does itself now is no takeover.
        self.plight = None;
        self.state = match std::mem::replace(&mut self.state, State::Dead(Instant::now())) {
            State::Still(server, _) => {
                server.signal("CONT");
                State::Well(server)
            }
            _ => State::Well(start(&self.installation)?),
        };
        Ok(true)
    }

    /// It ends only when it is killed.
    pub(super) fn check(&mut self) -> Result<()> {
        if let State::Well(server) | State::Still(server, _) = &mut self.state
            && let Some(ended) = server.ended()
        {
            bail!("a server ended by itself ({}):\n{}", ended.status, ended.log);
        }
        Ok(())
    }
}
