//! A server over a Docker engine, and the judgement of what became of its sessions.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::docker::{Engine, Leftovers, SESSION};
use crate::server::Installation;
use crate::{holds, provided};

/// How long it may take until everything is as it is wished, whatever happened before.
pub const SETTLING: Duration = Duration::from_secs(90);

/// An installation with one Docker controller. What the controller makes in the engine is removed with this value.
pub struct Stage {
    /// The server's side.
    pub installation: Installation,
    /// The judge.
    pub engine: Engine,
    /// The controller's id.
    pub controller: String,
    image: String,
    // Last, so that servers of the test have ended before: they are made later.
    _leftovers: Leftovers,
}

impl Stage {
    /// Over the engine of the tests; none where something is missing.
    pub async fn new() -> Option<Self> {
        Self::over(&provided("STREAMSPACE_TEST_DOCKER")?).await
    }

    /// Over the engine behind this socket.
    pub async fn over(socket: &str) -> Option<Self> {
        let installation = Installation::with_engine(socket)?;
        let image = provided("STREAMSPACE_TEST_IMAGE")?;
        let engine = Engine::at(socket).await.unwrap();
        // The first start gives the controller its id, and compiles the plugin.
        let server = installation.start();
        let controllers = server.api().get("/api/v1/admin/controllers").await.body;
        let controller = controllers[0]["id"].as_str().unwrap().to_owned();
        server.kill();
        let leftovers = Leftovers::of(socket, &controller);
        Some(Self { installation, engine, controller, image, _leftovers: leftovers })
    }

    /// A session with a web server and a home that outlives it. Users of one name in two stages are two.
    pub fn request(&self, user: &str) -> Value {
        json!({
            "user_id": format!("{user}@{}", self.controller),
            "spec": {
                "base_image": self.image,
                "resources": {"memory": "64Mi", "cpu": "500m"},
                "webapp": {"enabled": true, "port": 3000},
                "persistent_home": true,
            },
        })
    }

    /// The same with another image.
    pub fn request_of(&self, user: &str, image: &str) -> Value {
        let mut request = self.request(user);
        request["spec"]["base_image"] = json!(image);
        request
    }

    /// How often a session was started with its home.
    pub async fn starts(&self, id: &str) -> usize {
        self.engine.starts(&container(id)).await.unwrap()
    }

    /// The names of the homes there are.
    pub async fn homes(&self) -> Vec<String> {
        let mut homes = self.engine.volumes(&self.controller).await;
        homes.retain(|name| name.starts_with("ss-home."));
        homes
    }

    /// Waits until everything is as it is wished, and nothing is left over or there twice. Gives all sessions.
    pub async fn settled(&self, api: &Api) -> Vec<Value> {
        holds("everything as it is wished", SETTLING, async || self.amiss(api).await).await
    }

    async fn amiss(&self, api: &Api) -> Result<Vec<Value>, String> {
        let sessions = api.sessions().await;
        let mut containers: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for container in self.engine.containers(&self.controller).await {
            let session = container.labels.unwrap_or_default().remove(SESSION).unwrap_or_default();
            let state = container.state.map(|state| state.to_string()).unwrap_or_default();
            containers.entry(session).or_default().push((container.id.unwrap(), state));
        }
        for session in &sessions {
            let (phase, state) = match session["state"].as_str().unwrap() {
                "running" => ("Running", "running"),
                "hibernated" => ("Hibernated", "exited"),
                other => return Err(format!("the wish is {other}: {session}")),
            };
            if session["deleting"] != false || session["phase"] != phase {
                return Err(format!("not as it is wished: {session}"));
            }
            if !session["status"]["operation"].is_null() {
                return Err(format!("something is still under way: {session}"));
            }
            match containers.remove(id(session)).unwrap_or_default().as_slice() {
                [(node, found)] if found == state && session["node_id"] == *node => {}
                found => return Err(format!("its containers are {found:?}: {session}")),
            }
        }
        if containers.is_empty() { Ok(sessions) } else { Err(format!("of no session: {containers:?}")) }
    }
}

/// The id of a session.
pub fn id(session: &Value) -> &str {
    session["id"].as_str().unwrap()
}

/// The name of a session's container.
pub fn container(id: &str) -> String {
    format!("ss-{id}")
}

/// One of a session's conditions; null if it is not there.
pub fn condition<'a>(session: &'a Value, kind: &str) -> &'a Value {
    let conditions = session["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}
