//! The REST API of a running server, as the commands use it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::config;

/// Where `serve` listens unless it is told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8000";

/// How long a request may take. Those that ask the server to wait take longer and say so.
const TIMEOUT: Duration = Duration::from_secs(30);

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
    #[arg(long, value_name = "DIR", env = "STREAMSPACE_DATA")]
    pub(crate) data: Option<PathBuf>,
}

/// A request that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL cannot be used.
    #[error("--url: {0}")]
    Url(String),
    /// No token was found.
    #[error("{0}")]
    NoToken(String),
    /// The server does not answer.
    #[error("{url} does not answer: {cause}")]
    Unreachable {
        /// The server.
        url: Url,
        /// Why not, with all its causes.
        cause: String,
    },
    /// The server refuses. What it says is in the words of its problem.
    #[error("{message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// Whatever answers there, it is not this server.
    #[error("{url} gave an answer that is not StreamSpace's: {cause}")]
    NotOurs {
        /// The server.
        url: Url,
        /// What is wrong.
        cause: String,
    },
}

impl ClientError {
    /// What a script can tell errors apart by: 3 = not found, 4 = not allowed, 5 = not reachable or not available
    /// now, 1 = anything else. 2 is a wrong command line.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused { status: StatusCode::NOT_FOUND, .. } => 3,
            Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }
            | Self::NoToken(_) => 4,
            Self::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. } | Self::Unreachable { .. } => 5,
            Self::Refused { .. } | Self::Url(_) | Self::NotOurs { .. } => 1,
        })
    }
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
        let base = read_url(args.url.as_deref().unwrap_or(DEFAULT_URL))?;
        let environment = std::env::var("STREAMSPACE_TOKEN").ok();
        let token = find_token(args, &base, environment)?;
        // An error means that somebody has installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().timeout(TIMEOUT);
        if is_local(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| ClientError::Url(with_causes(&error)))?;
        Ok(Self { http, base, token })
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.request(Method::GET, path).await
    }

    async fn request(&self, method: Method, path: &str) -> Result<Value, ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            url: self.base.clone(),
            cause: with_causes(&error),
        };
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let response =
            self.http.request(method, url).bearer_auth(&self.token).send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(ClientError::Refused { status, message: problem_in_words(status, &body) });
        }
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::NotOurs { url: self.base.clone(), cause: error.to_string() })
    }
}

fn read_url(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|error| ClientError::Url(format!("`{text}`: {error}")))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(ClientError::Url(format!("`{text}` is no http:// or https:// URL"))),
    }
}

/// Whether the server is on this machine.
fn is_local(url: &Url) -> bool {
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
    if let Some(token) = environment.filter(|token| !token.is_empty()) {
        return Ok(token);
    }
    // The administrator's token of this machine is nobody else's business.
    if !is_local(base) {
        return Err(ClientError::NoToken(
            "a token is needed for a server on another machine: give --token-file or STREAMSPACE_TOKEN"
                .to_owned(),
        ));
    }
    let path = args.data.clone().unwrap_or_else(config::default_data).join("admin.token");
    read_token(&path).map_err(|error| {
        ClientError::NoToken(format!(
            "there is no token: {}: {error} (--data, --token-file or STREAMSPACE_TOKEN names another)",
            path.display()
        ))
    })
}

fn read_token(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

/// RFC 9457, as far as it is ours.
#[derive(Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
}

fn problem_in_words(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { title, detail }) if detail.is_empty() => title,
        Ok(Problem { title, detail }) => format!("{title}: {detail}"),
        Err(_) => format!("the server answered {status}"),
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
        for url in ["https://example.org", "http://127.0.0.1.example.org", "http://10.0.0.1:8000"] {
            assert!(matches!(found(url, None), Err(ClientError::NoToken(_))), "{url}");
        }
    }

    #[test]
    fn a_url_is_http() {
        for text in ["", "127.0.0.1:8000", "ftp://x", "http://"] {
            assert!(matches!(read_url(text), Err(ClientError::Url(_))), "{text}");
        }
    }

    #[test]
    fn problems_are_told_in_their_own_words() {
        let body = br#"{"title": "Not found", "status": 404, "detail": "there is no session"}"#;
        assert_eq!(problem_in_words(StatusCode::NOT_FOUND, body), "Not found: there is no session");
        assert_eq!(
            problem_in_words(StatusCode::BAD_GATEWAY, b"<html>"),
            "the server answered 502 Bad Gateway"
        );
    }
}
