//! The operators: they do at the same desks what users do not, and look whether what they did before is still so.
//!
//! Each does whole chores: when everybody holds still, none is half done. What an operator reads otherwise than it was
//! told is a complaint like a user's.

mod accounts;
mod controllers;
mod limits;
mod members;
mod strangers;
mod templates;
mod vault;
mod visits;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use reqwest::Method;
use serde_json::{Value, json};
use streamspace_tests::api::Answer;
use streamspace_tests::simulated::Simulated;
use tokio::sync::{Mutex, watch};

pub(crate) use vault::Vault;

use crate::desk::{Desk, Told};
use crate::driver::{Driver, Wished};
use crate::points::chance_of;
use crate::stage::FLOOR;

/// The longest pause between two chores, in milliseconds.
const THINKS_MS: u64 = 40;
/// Between two looks at something that has to become so.
const LOOK: Duration = Duration::from_millis(30);
/// Servers that are killed all the time make slow progress, but they do.
const LIMIT: Duration = Duration::from_secs(180);
/// So many use sessions: it takes a while until one is over and the next can be used.
const VISITORS: usize = 4;
/// So many look after sessions with a limit in time: a server should find one that is over whenever it starts.
const LIMITERS: usize = 3;

/// Has all of them work.
pub(crate) fn employ(driver: &Driver, simulated: &Arc<Simulated>, vault: &Vault, seed: u64) {
    let mut names = 0;
    let mut hired = |what| {
        names += 1;
        Operator {
            what,
            desk: driver.desk(),
            random: chance_of(seed, 1_000_000 + names),
            wished: driver.wished(),
            sought: driver.sought(),
            simulated: Arc::clone(simulated),
            name: names,
            keys: 0,
        }
    };
    driver.employ(accounts::Accounts::new(hired("accounts")));
    driver.employ(templates::Templates::new(hired("templates")));
    driver.employ(controllers::Controllers::new(hired("controllers")));
    driver.employ(members::Members::new(hired("controllers elsewhere")));
    driver.employ(strangers::Strangers::new(hired("strangers")));
    for _ in 0..VISITORS {
        driver.employ(visits::Visits::new(hired("visits"), vault.clone()));
    }
    for _ in 0..LIMITERS {
        driver.employ(limits::Limits::new(hired("limits")));
    }
}

/// Something that can be done.
struct Chore<T> {
    what: T,
    /// The transactions and calls that only this comes to, or this more than others.
    points: &'static [&'static str],
}

/// What every operator has.
struct Operator {
    /// What they look after.
    what: &'static str,
    desk: Desk,
    random: StdRng,
    wished: Arc<Mutex<Wished>>,
    sought: watch::Receiver<String>,
    simulated: Arc<Simulated>,
    name: usize,
    keys: u64,
}

impl Operator {
    fn name(&self) -> String {
        format!("the operator of {}", self.what)
    }

    fn one_of(&mut self, many: usize) -> usize {
        self.random.random_range(0..many)
    }

    /// One of these chores: mostly one that has the server come to the point at which it is to die, if any does.
    fn choose<T: Copy>(&mut self, chores: &[Chore<T>]) -> Option<T> {
        let wanted: Vec<_> = {
            let sought = self.sought.borrow();
            let subject = sought.rsplit('.').next().unwrap_or_default();
            chores.iter().filter(|chore| chore.points.contains(&subject)).map(|chore| chore.what).collect()
        };
        let helps = self.random.random_ratio(3, 4);
        if let Some(wanted) = wanted.choose(&mut self.random).filter(|_| helps) {
            return Some(*wanted);
        }
        chores.choose(&mut self.random).map(|chore| chore.what)
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("o{}-{}", self.name, self.keys)
    }

    /// Asks for something that is answered with one of these, however often it is asked.
    async fn tell(&mut self, method: Method, path: &str, body: &Value, right: &[u16]) -> Result<Answer> {
        let key = self.key();
        let (answer, _) = self.desk.send(method.clone(), path, Some(&key), body).await?;
        ensure!(
            right.contains(&answer.status.as_u16()),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        Ok(answer)
    }

    /// The same, where it is answered otherwise once it is so.
    async fn tell_once(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        (right, again): (&[u16], u16),
    ) -> Result<Told> {
        let key = self.key();
        let (answer, unsure) = self.desk.send(method.clone(), path, Some(&key), body).await?;
        let status = answer.status.as_u16();
        if !(right.contains(&status) || unsure && status == again) {
            bail!("{method} {path}: {status} {}", answer.body);
        }
        Ok((answer, unsure))
    }

    /// Reads what has to be there.
    async fn read(&mut self, path: &str) -> Result<Value> {
        let answer = self.desk.read(path, None).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Reads what must not be there.
    async fn missing(&mut self, path: &str) -> Result<()> {
        let answer = self.desk.read(path, None).await?;
        ensure!(answer.status == 404, "{path}: {} {}", answer.status, answer.body);
        Ok(())
    }

    /// Makes a session, and waits until it runs.
    async fn make_session(&mut self, limits: Value) -> Result<String> {
        let id = self.ask_for_session(limits, json!({"controller_labels": {"floor": FLOOR}})).await?;
        self.session_is(&id, "Running").await?;
        Ok(id)
    }

    /// Makes a session.
    async fn ask_for_session(&mut self, limits: Value, place: Value) -> Result<String> {
        let mut body = json!({
            "user_id": format!("operator-{}", self.name),
            "spec": {"base_image": "any", "resources": {"memory": "64Mi", "cpu": "100m"}},
        });
        lay_over(&mut body["spec"], limits);
        lay_over(&mut body, place);
        let made = self.tell(Method::POST, "/api/v1/sessions", &body, &[201]).await?;
        Ok(made.body["id"].as_str().context("a session without an id")?.to_owned())
    }

    /// Waits until a session is in a phase and nothing is under way.
    async fn session_is(&mut self, id: &str, phase: &str) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let session = self.read(&session_path(id)).await?;
            let settled = session["status"]["operation"].is_null()
                && session["status"]["observed_generation"] == session["generation"];
            if settled && session["phase"] == phase {
                return Ok(session);
            }
            wait(begun, || format!("{id} is not {phase}: {session}")).await?;
        }
    }

    /// Wishes a session terminated, and waits until it is.
    async fn terminate(&mut self, id: &str) -> Result<()> {
        let wish = json!({"state": "terminated"});
        self.tell(Method::PATCH, &session_path(id), &wish, &[200, 202]).await?;
        self.session_is(id, "Terminated").await?;
        Ok(())
    }

    /// Deletes a session, and waits until nothing is left of it.
    async fn delete_session(&mut self, id: &str) -> Result<()> {
        let path = session_path(id);
        self.tell_once(Method::DELETE, &path, &Value::Null, (&[202, 204], 404)).await?;
        let begun = Instant::now();
        loop {
            let left = self.desk.read(&path, None).await?;
            if left.status == 404 {
                break;
            }
            wait(begun, || format!("{id} is not gone: {}", left.body)).await?;
        }
        let left = self.box_of(id).await?;
        ensure!(left.is_none(), "{id} is gone, and its box is there: {left:?}");
        Ok(())
    }

    /// The box that bears this session's id, as it really is.
    async fn box_of(&self, id: &str) -> Result<Option<Value>> {
        let mut path = "/truth/boxes".to_owned();
        loop {
            let (_, page) = self.simulated.try_send(Method::GET, &path, None).await?;
            for one in page["boxes"].as_array().context("no list of boxes")? {
                if one["labels"]["streamspace.session_id"] == id {
                    return Ok(Some(one.clone()));
                }
            }
            match page["next"].as_str() {
                None => return Ok(None),
                Some(next) => path = format!("/truth/boxes?after={next}"),
            }
        }
    }

    /// Does something at the infrastructure itself.
    async fn by_hand(&self, path: &str, body: &Value) -> Result<()> {
        let (status, answer) = self.simulated.try_send(Method::POST, path, Some(body)).await?;
        ensure!((200..300).contains(&status), "{path}: {status} {answer}");
        Ok(())
    }
}

fn session_path(id: &str) -> String {
    format!("/api/v1/sessions/{id}")
}

fn lay_over(body: &mut Value, more: Value) {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
}

/// A pause before the next look, as long as it may still become so.
async fn wait(begun: Instant, amiss: impl FnOnce() -> String) -> Result<()> {
    if begun.elapsed() > LIMIT {
        bail!("after {} s: {}", LIMIT.as_secs(), amiss());
    }
    tokio::time::sleep(LOOK).await;
    Ok(())
}
