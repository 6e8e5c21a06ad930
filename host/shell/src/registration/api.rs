//! The API server, as a controller calls it.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::messages::{Heartbeat, HeartbeatAnswer, Registered, Registration};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the answer to a sign of life may take, however often they are given.
const LEAST_TIMEOUT: Duration = Duration::from_secs(2);

/// An API server.
#[derive(Debug, Clone)]
pub struct ApiServer {
    http: Client,
    base: Url,
}

/// Why something did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No answer.
    #[error("{url} does not answer: {cause}")]
    Unreachable {
        /// The server.
        url: Url,
        /// Why not, with all its causes.
        cause: String,
    },
    /// It says no, or something before it does.
    #[error("{url} answers {status}: {message}")]
    Refused {
        /// The server.
        url: Url,
        /// Its status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// What it says makes no sense.
    #[error("{url} gave an answer that is not StreamSpace's: {cause}")]
    NotOurs {
        /// The server.
        url: Url,
        /// What is wrong.
        cause: String,
    },
}

impl ApiError {
    /// The token is not taken, or not for this.
    pub fn is_of_the_token(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. })
    }

    /// It will be said again, whenever it is tried again.
    pub(super) fn is_final(&self) -> bool {
        let is_ours = |status: &StatusCode| {
            [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY]
                .contains(status)
        };
        self.is_of_the_token() || matches!(self, Self::Refused { status, .. } if is_ours(status))
    }
}

impl ApiServer {
    /// The one at a URL. The client has to follow no redirection: a token would go with it, or be lost on the way.
    pub fn new(http: Client, base: Url) -> Self {
        Self { http, base }
    }

    /// Registers with a join token, or again with the token of an earlier registration.
    pub async fn register(&self, token: &str, body: &Registration) -> Result<Registered, ApiError> {
        self.post(&["controllers", "register"], token, body, TIMEOUT).await
    }

    /// Gives a sign of life. One that is not answered before it is time for the next is given up: the lease counts from when
    /// it was sent.
    pub async fn heartbeat(
        &self,
        controller_id: &str,
        token: &str,
        body: &Heartbeat,
        interval: Duration,
    ) -> Result<HeartbeatAnswer, ApiError> {
        let timeout = interval.clamp(LEAST_TIMEOUT, TIMEOUT);
        self.post(&["controllers", controller_id, "heartbeat"], token, body, timeout).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        token: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, ApiError> {
        let mut url = self.base.clone();
        // Fails only for URLs that no request could be sent to either.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        let request = self.http.post(url).bearer_auth(token).timeout(timeout).json(body);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(ApiError::Refused { url: self.base.clone(), status, message: words(&body) });
        }
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::NotOurs { url: self.base.clone(), cause: error.to_string() })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ApiError {
        let mut cause = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = next {
            let between = if cause.is_empty() { "" } else { ": " };
            cause.push_str(&format!("{between}{error}"));
            next = error.source();
        }
        ApiError::Unreachable { url: self.base.clone(), cause }
    }
}

/// RFC 9457, as far as it is ours.
#[derive(Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    field: String,
    message: String,
}

fn words(body: &[u8]) -> String {
    let Ok(Problem { title, detail, errors }) = serde_json::from_slice(body) else {
        return "without saying why".to_owned();
    };
    let detail = Some(detail).filter(|detail| !detail.is_empty());
    let faults = errors.into_iter().map(|Fault { field, message }| format!("{field}: {message}"));
    let all: Vec<String> = [title].into_iter().chain(detail).chain(faults).collect();
    all.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: StatusCode) -> ApiError {
        ApiError::Refused { url: "http://a/".parse().unwrap(), status, message: String::new() }
    }

    #[test]
    fn a_problem_is_told_in_its_own_words() {
        let body = br#"{"title": "Invalid", "errors": [{"field": "name", "message": "is empty"}]}"#;
        assert_eq!(words(body), "Invalid: name: is empty");
        assert_eq!(words(br#"{"title": "Unauthorized", "detail": "no"}"#), "Unauthorized: no");
        assert_eq!(words(b"<html>"), "without saying why");
    }

    #[test]
    fn what_may_go_better_later_is_tried_again() {
        for (status, token, last) in
            [(401, true, true), (403, true, true), (422, false, true), (400, false, true)]
        {
            let error = refused(StatusCode::from_u16(status).unwrap());
            assert_eq!((error.is_of_the_token(), error.is_final()), (token, last), "{status}");
        }
        // A proxy whose server is away, another process that has yet to go, a database that does not answer.
        for status in [404, 409, 429, 500, 502, 503, 302] {
            assert!(!refused(StatusCode::from_u16(status).unwrap()).is_final(), "{status}");
        }
        let url: Url = "http://a/".parse().unwrap();
        assert!(!ApiError::Unreachable { url: url.clone(), cause: String::new() }.is_final());
        assert!(!ApiError::NotOurs { url, cause: String::new() }.is_final());
    }
}
