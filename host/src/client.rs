//! The REST API of a running server, as the commands use it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{config, print};

mod error;

pub(crate) use error::{ClientError, EXIT_CODES};

/// Where `serve` listens unless it is told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8000";

/// How long a request may take. Those that ask the server to wait take longer and say so.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Items on a page, where all pages are read. The server's limit.
const PAGE: &str = "500";

/// Which server, and with which token.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The server [default: http://127.0.0.1:8000]
    #[arg(long, value_name = "URL", env = "STREAMSPACE_URL")]
    pub(crate) url: Option<String>,

    /// File with the token; else the token is STREAMSPACE_TOKEN, or for a server on this machine the administrator's
    /// token in its data directory
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Data directory of the server on this machine
    #[arg(long, value_name = "DIR", env = "STREAMSPACE_DATA", value_parser = config::path_or_nothing())]
    pub(crate) data: Option<PathBuf>,
}

/// Calls one server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Client {
    /// Finds the server and the token.
    pub(crate) fn new(args: &ClientArgs) -> Result<Self, ClientError> {
        let base = read_url(args.url.as_deref().filter(|url| !url.is_empty()).unwrap_or(DEFAULT_URL))?;
        let environment = std::env::var("STREAMSPACE_TOKEN").ok();
        let token = find_token(args, &base, environment)?;
        // An error means that somebody has installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Followed, a POST would become a GET, and the token would be left out.
        let mut http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        if is_local(&base) {
            http = http.no_proxy();
        } else if base.scheme() == "http" {
            print::note(&format!("warning: {base} is not encrypted: the token can be read on its way"));
        }
        let http = http.build().map_err(|error| ClientError::Url(with_causes(&error)))?;
        Ok(Self { http, base, token })
    }

    /// A request for something under `/api/v1`. The segments of its path are encoded.
    pub(crate) fn call(&self, method: Method, path: &[&str]) -> Call<'_> {
        let mut url = self.base.clone();
        // Fails only for URLs without a host, which `read_url` refuses.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        Call {
            client: self,
            method,
            url,
            timeout: None,
            answers: &[],
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// GET.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Value, ClientError> {
        Ok(self.call(Method::GET, path).send().await?.body)
    }

    /// All items of all pages of a list.
    pub(crate) async fn all(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Vec<Value>, ClientError> {
        self.first(path, query, usize::MAX).await
    }

    /// The first so many items of a list.
    pub(crate) async fn first(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        most: usize,
    ) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let call = self.call(Method::GET, path).query(query).query(&[("limit", PAGE.to_owned())]);
            let next = cursor.map(|cursor| ("cursor", cursor));
            let page: Page = self.typed(&call.query(next.as_slice()).send().await?.body)?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() || items.len() >= most {
                items.truncate(most);
                return Ok(items);
            }
        }
    }

    /// The fields of an answer that a command looks at.
    pub(crate) fn typed<T: DeserializeOwned>(&self, body: &Value) -> Result<T, ClientError> {
        T::deserialize(body)
            .map_err(|error| ClientError::NotOurs { url: self.base.clone(), cause: error.to_string() })
    }

    /// The whole of a URL that the server gave without its own name.
    pub(crate) fn absolute(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }
}

/// A page of a list.
#[derive(Deserialize)]
pub(crate) struct Page {
    /// What is on it.
    pub(crate) items: Vec<Value>,
    /// Where the next one begins, if there is one.
    pub(crate) next_cursor: Option<String>,
}

/// An answer that is no refusal.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its body; null where there is none.
    pub(crate) body: Value,
}

/// A request that is being put together.
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    timeout: Option<Duration>,
    answers: &'static [StatusCode],
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Call<'_> {
    /// Parameters of the URL.
    pub(crate) fn query(mut self, pairs: &[(&str, String)]) -> Self {
        // Without pairs there would be a question mark all the same.
        if !pairs.is_empty() {
            self.url.query_pairs_mut().extend_pairs(pairs);
        }
        self
    }

    /// A header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// A body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.text("application/json", body.to_string())
    }

    /// A body of any type.
    pub(crate) fn text(mut self, content_type: &str, body: String) -> Self {
        self.body = body;
        self.header("content-type", content_type)
    }

    /// Sends it and reads the answer.
    pub(crate) async fn send(self) -> Result<Answer, ClientError> {
        self.send_for(&[]).await
    }

    /// The same, where some statuses are no refusals but answers to be read.
    pub(crate) async fn send_for(mut self, answers: &'static [StatusCode]) -> Result<Answer, ClientError> {
        self.timeout = Some(TIMEOUT);
        self.answers = answers;
        let (client, safe) = (self.client, self.method == Method::GET);
        let response = self.stream().await?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| unreachable(client, safe, &error))?;
        if body.is_empty() {
            return Ok(Answer { status, body: Value::Null });
        }
        let body = serde_json::from_slice(&body)
            .map_err(|error| ClientError::NotOurs { url: client.base.clone(), cause: error.to_string() })?;
        Ok(Answer { status, body })
    }

    /// Sends it, and leaves the body of the answer to be read as it comes, without any limit of time.
    pub(crate) async fn stream(self) -> Result<Response, ClientError> {
        let (client, safe) = (self.client, self.method == Method::GET);
        let mut request = client.http.request(self.method, self.url.clone()).bearer_auth(&client.token);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if !self.body.is_empty() {
            request = request.body(self.body);
        }
        let response = request.send().await.map_err(|error| unreachable(client, safe, &error))?;
        let status = response.status();
        if status.is_success() || self.answers.contains(&status) {
            return Ok(response);
        }
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        if let Some(to) = location.filter(|_| status.is_redirection()).and_then(|to| self.url.join(to).ok()) {
            return Err(ClientError::Redirected { url: client.base.clone(), to: base_of(to).into() });
        }
        let body = response.bytes().await.map_err(|error| unreachable(client, safe, &error))?;
        let from_a_proxy = [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT].contains(&status);
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(ClientError::Refused { status, message: in_words(problem) }),
            Err(_) if from_a_proxy => {
                Err(ClientError::Away { url: client.base.clone(), status, sent: !safe })
            }
            Err(_) => Err(ClientError::Refused { status, message: format!("the server answered {status}") }),
        }
    }
}

fn unreachable(client: &Client, safe: bool, error: &reqwest::Error) -> ClientError {
    ClientError::Unreachable {
        url: client.base.clone(),
        cause: with_causes(error),
        sent: !safe && !error.is_connect(),
    }
}

fn read_url(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|error| ClientError::Url(format!("`{text}`: {error}")))?;
    match url.scheme() {
        // Not repeated, because of what stands in it.
        _ if !url.username().is_empty() || url.password().is_some() => Err(ClientError::Url(
            "it must have no user and no password in it; --token-file or STREAMSPACE_TOKEN gives the token"
                .to_owned(),
        )),
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(ClientError::Url(format!("`{text}` is no http:// or https:// URL"))),
    }
}

/// What would have to be given for a request to go there.
fn base_of(mut to: Url) -> Url {
    let base = to.path().find("/api/v1").map(|end| to.path()[..end].to_owned());
    to.set_path(base.as_deref().unwrap_or(to.path().to_owned().as_str()));
    to.set_query(None);
    to
}

/// Whether the server is on this machine.
pub(crate) fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        host == "localhost" || address.is_some_and(|address| address.is_loopback())
    })
}

fn find_token(args: &ClientArgs, base: &Url, environment: Option<String>) -> Result<String, ClientError> {
    if let Some(path) = &args.token_file {
        return read_token(path)
            .map_err(|error| ClientError::NoToken(format!("--token-file: {}: {error}", path.display())));
    }
    if let Some(text) = environment.filter(|text| !text.is_empty()) {
        return token_in(&text).ok_or_else(|| {
            ClientError::NoToken("STREAMSPACE_TOKEN is no token: it has characters that none has".to_owned())
        });
    }
    // The administrator's token of this machine is nobody else's business.
    if !is_local(base) {
        return Err(ClientError::NoToken(
            "a token is needed for a server on another machine: give --token-file or STREAMSPACE_TOKEN"
                .to_owned(),
        ));
    }
    let data = args.data.clone().filter(|data| !data.as_os_str().is_empty());
    let path = data.unwrap_or_else(config::default_data).join("admin.token");
    read_token(&path).map_err(|error| {
        ClientError::NoToken(format!(
            "there is no token: {}: {error} (--data, --token-file or STREAMSPACE_TOKEN names another)",
            path.display()
        ))
    })
}

fn read_token(path: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    // Whatever file this is, its content is not to be sent anywhere.
    token_in(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no token in it"))
}

/// A token with space around it.
fn token_in(text: &str) -> Option<String> {
    let token = text.trim();
    (!token.is_empty() && token.chars().all(|c| c.is_ascii_graphic())).then(|| token.to_owned())
}

/// RFC 9457, as far as it is ours.
#[derive(Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
}

fn in_words(problem: Problem) -> String {
    match problem {
        Problem { title, detail } if detail.is_empty() => title,
        Problem { title, detail } => format!("{title}: {detail}"),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Calls a server that a test has made up.
#[cfg(test)]
pub(crate) async fn client_of(router: axum::Router) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "ss_1").unwrap();
    let token_file = Some(token.path().to_owned());
    Client::new(&ClientArgs { url: Some(url), token_file, data: None }).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: Option<&str>) -> ClientArgs {
        ClientArgs { url: url.map(str::to_owned), token_file: None, data: None }
    }

    #[test]
    fn the_token_of_this_machine_stays_on_it() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("admin.token"), "geheim\n").unwrap();
        let found = |url: &str, environment: Option<&str>| {
            let args = ClientArgs { data: Some(data.path().to_owned()), ..args(None) };
            find_token(&args, &read_url(url).unwrap(), environment.map(str::to_owned))
        };
        for url in [DEFAULT_URL, "http://localhost:1", "http://[::1]:8000"] {
            assert_eq!(found(url, None).unwrap(), "geheim", "{url}");
        }
        assert_eq!(found(DEFAULT_URL, Some("other")).unwrap(), "other");
        assert_eq!(found("https://example.org", Some("other")).unwrap(), "other");
        assert_eq!(found(DEFAULT_URL, Some("other\n")).unwrap(), "other");
        assert!(matches!(found(DEFAULT_URL, Some("oth\ner")), Err(ClientError::NoToken(_))));
        for url in ["https://example.org", "http://127.0.0.1.example.org", "http://10.0.0.1:8000"] {
            assert!(matches!(found(url, None), Err(ClientError::NoToken(_))), "{url}");
        }
    }

    #[test]
    fn a_file_with_something_else_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, good) in [("ss_1\n", true), ("", false), ("two words", false), ("gehe\u{7f}im", false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_token(&path).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn a_url_is_http() {
        for text in ["", "127.0.0.1:8000", "ftp://x", "http://", "https://me:geheim@x", "https://geheim@x"] {
            let error = read_url(text).unwrap_err();
            assert!(matches!(error, ClientError::Url(_)) && !error.to_string().contains("geheim"), "{error}");
        }
    }

    /// What comes of an answer of whatever stands at the URL.
    async fn outcome(
        status: StatusCode,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> ClientError {
        let mut answer = axum::response::Response::new(body.to_owned());
        *answer.status_mut() = status;
        for (name, value) in headers {
            answer.headers_mut().insert(*name, value.parse().unwrap());
        }
        let answer = async move || answer.clone();
        let client = client_of(axum::Router::new().fallback(answer)).await;
        client.call(Method::POST, &["sessions"]).send().await.err().unwrap()
    }

    #[tokio::test]
    async fn problems_are_told_in_their_own_words() {
        let body = r#"{"title": "Not found", "status": 404, "detail": "there is no session"}"#;
        let error = outcome(StatusCode::NOT_FOUND, &[], body).await;
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("Not found: there is no session", 3));
        let error = outcome(StatusCode::IM_A_TEAPOT, &[], "<html>").await;
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("the server answered 418 I'm a teapot", 1)
        );
    }

    #[tokio::test]
    async fn a_proxy_without_its_server_passes() {
        for status in [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT] {
            let error = outcome(status, &[], "<html>").await;
            assert!(error.is_passing() && error.answer_is_lost() && error.exit_code() == 5, "{error}");
            // This is the server's own: it has tried.
            let error = outcome(status, &[], r#"{"title": "Bad gateway"}"#).await;
            assert!(!error.is_passing() && error.exit_code() == 1, "{error}");
        }
        for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
            let error = outcome(status, &[], r#"{"title": "Later"}"#).await;
            assert!(error.is_passing() && !error.answer_is_lost() && error.exit_code() == 5, "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_is_sent_elsewhere_without_knowing() {
        for (status, location, to) in [
            (
                StatusCode::MOVED_PERMANENTLY,
                "https://example.org/base/api/v1/sessions",
                "https://example.org/base",
            ),
            (StatusCode::FOUND, "https://example.org/login?next=x", "https://example.org/login"),
            (StatusCode::TEMPORARY_REDIRECT, "/api/v1/sessions", "http://127.0.0.1"),
        ] {
            let error = outcome(status, &[("location", location)], "").await;
            let text = error.to_string();
            assert!(text.contains(&format!("redirects to {to}")) && text.contains("--url"), "{text}");
            assert_eq!(error.exit_code(), 1);
        }
    }
}
