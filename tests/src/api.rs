//! The REST API as a program uses it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::{PATIENCE, until};

/// A client of one server.
pub struct Api {
    client: Client,
    /// Does not follow redirections; made when it is needed.
    browser: OnceLock<Client>,
    base: String,
    token: Option<String>,
}

/// What a browser is answered: the status, and the cookie that it is to keep.
pub type Visited = (StatusCode, Option<String>);

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its content type.
    pub content_type: String,
    /// Its body; null where there is none.
    pub body: Value,
}

impl Answer {
    /// The fields that a problem names, sorted.
    pub fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut fields: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
        fields.sort_unstable();
        fields
    }
}

impl Api {
    pub(crate) fn new(address: &str, token: Option<&str>) -> Self {
        // Whoever comes first installs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            // A connection for each request: one that is kept may be closed by the server in the very moment of its next use.
            client: Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap(),
            browser: OnceLock::new(),
            base: format!("http://{address}"),
            token: token.map(str::to_owned),
        }
    }

    /// The same server for somebody with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            client: self.client.clone(),
            browser: OnceLock::new(),
            base: self.base.clone(),
            token: Some(token.to_owned()),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await.unwrap()
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await.unwrap()
    }

    /// POST with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await.unwrap()
    }

    /// POST with JSON and an Idempotency-Key.
    pub async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await.unwrap()
    }

    /// POST with a body that may be anything.
    pub async fn post_raw(&self, path: &str, content_type: &str, body: &str) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", content_type);
        answer(request.body(body.to_owned())).await.unwrap()
    }

    /// A request to a server that may die before it answers.
    pub async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// The same for DELETE.
    pub async fn try_delete(&self, path: &str) -> Result<Answer, reqwest::Error> {
        answer(self.request(Method::DELETE, path)).await
    }

    /// A request to a server that may die at any time, repeatable under its key.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.request(method, path);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        answer(if body.is_null() { request } else { request.json(body) }).await
    }

    /// Opens a page as a browser with this cookie does, without following redirections.
    pub async fn try_visit(&self, path: &str, cookie: Option<&str>) -> Result<Visited, reqwest::Error> {
        let browser = self.browser.get_or_init(|| {
            let builder = Client::builder().no_proxy().pool_max_idle_per_host(0);
            builder.redirect(Policy::none()).build().unwrap()
        });
        let mut request = browser.get(format!("{}{path}", self.base));
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let response = request.send().await?;
        let set = response.headers().get("set-cookie").and_then(|set| set.to_str().ok());
        let cookie = set.and_then(|set| set.split(';').next()).map(str::to_owned);
        Ok((response.status(), cookie))
    }

    /// An answer that goes on: lines of JSON as they come.
    pub async fn follow(&self, path: &str) -> Lines {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Lines { response, pending: Vec::new() }
    }

    /// A request that makes a session, to a server that may die before it answers. A controller that is slow to answer a
    /// probe takes nothing until the next one, and nothing is stored then (503): it is asked for again.
    pub async fn try_create(&self, path: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.try_post(path, body).await?;
            if answer.status != StatusCode::SERVICE_UNAVAILABLE || Instant::now() > deadline {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Creates a session and waits until it runs.
    pub async fn create_running(&self, body: &Value) -> Value {
        let created = self.try_create("/api/v1/sessions?wait=60s", body).await.unwrap();
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
        assert_eq!(created.body["phase"], "Running", "{}", created.body);
        created.body
    }

    /// All sessions.
    pub async fn sessions(&self) -> Vec<Value> {
        let listed = self.get("/api/v1/sessions?limit=500").await;
        assert_eq!(listed.status, StatusCode::OK, "{}", listed.body);
        assert!(listed.body["next_cursor"].is_null() || listed.body["next_cursor"] == "", "{}", listed.body);
        listed.body["items"].as_array().unwrap().clone()
    }

    /// All sessions, however many pages they fill; fails without an answer.
    pub async fn all_sessions(&self) -> anyhow::Result<Vec<Value>> {
        let mut sessions = Vec::new();
        let mut path = "/api/v1/sessions?limit=500".to_owned();
        loop {
            let page = answer(self.request(Method::GET, &path)).await?;
            anyhow::ensure!(page.status == StatusCode::OK, "{path}: {} {}", page.status, page.body);
            sessions.extend(page.body["items"].as_array().into_iter().flatten().cloned());
            match page.body["next_cursor"].as_str() {
                None => return Ok(sessions),
                Some(cursor) => path = format!("/api/v1/sessions?limit=500&cursor={cursor}"),
            }
        }
    }

    /// Waits until a session is in this phase.
    pub async fn wait_for_phase(&self, id: &str, phase: &str) -> Value {
        until(&format!("phase {phase} of {id}"), async || {
            let session = self.get(&format!("/api/v1/sessions/{id}")).await;
            (session.body["phase"] == phase).then_some(session.body)
        })
        .await
    }

    /// Waits until a session is gone.
    pub async fn wait_for_gone(&self, id: &str) {
        until(&format!("the end of {id}"), async || {
            let session = self.get(&format!("/api/v1/sessions/{id}")).await;
            (session.status == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
    }
}

/// Lines of JSON that come one after the other. Dropping it ends the request.
pub struct Lines {
    response: Response,
    pending: Vec<u8>,
}

impl Lines {
    /// The next one; none at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            self.pending.extend_from_slice(&chunk.expect("the answer stands still").unwrap()?);
        }
    }
}

async fn answer(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status();
    let content_type = response
        .headers()
        .get("content-type")
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let text = response.text().await?;
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    };
    Ok(Answer { status, content_type, body })
}
