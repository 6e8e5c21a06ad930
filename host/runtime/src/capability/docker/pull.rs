//! Pulls belong to the host: the engine gives up a pull when its client leaves, and a plugin's call is short.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt as _;
use streamspace_bindings::imports::docker::{Pull, PullPhase};
use streamspace_bindings::types::{Error, ErrorKind};
use tokio::sync::Semaphore;

use super::endpoint::DockerEndpoint;
use super::failure::translate;
use super::{error, policy};

/// Pulls at once. The engine itself fetches three layers of each at a time.
const PARALLEL: usize = 3;

/// Pulls under way or waiting. Whoever comes then is told to come again.
const MOST: usize = 64;

/// Longest silence of the engine during a pull. Extracting a layer of some gigabytes says nothing for minutes.
const SILENCE: Duration = Duration::from_secs(300);

/// How long a failure is told to those who ask.
const REMEMBERED: Duration = Duration::from_secs(10);

/// All pulls of an endpoint by normal reference. Ended ones stay until they are asked for.
pub(super) struct Pulls {
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    permits: Arc<Semaphore>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self { jobs: Mutex::default(), permits: Arc::new(Semaphore::new(PARALLEL)) }
    }
}

impl Pulls {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pull.
#[derive(Default)]
struct Job(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    message: String,
    /// Bytes of each layer: fetched, in all.
    layers: HashMap<String, (u64, u64)>,
    result: Option<Ended>,
}

/// How a pull ended.
struct Ended {
    at: Instant,
    result: Result<(), Error>,
}

impl Job {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Pull {
        let progress = self.progress();
        let (phase, failure) = match progress.result.as_ref().map(|ended| &ended.result) {
            None => (PullPhase::Running, None),
            Some(Ok(())) => (PullPhase::Done, None),
            Some(Err(failure)) => (PullPhase::Failed, Some(failure.clone())),
        };
        let (done, total) = progress.layers.values().fold((0_u64, 0_u64), |sum, layer| {
            (sum.0.saturating_add(layer.0), sum.1.saturating_add(layer.1))
        });
        Pull { phase, message: progress.message.clone(), done_bytes: done, total_bytes: total, failure }
    }

    fn note(&self, line: CreateImageInfo) {
        let mut progress = self.progress();
        if let Some(status) = line.status {
            progress.message = match &line.id {
                Some(layer) => format!("{layer}: {status}"),
                None => status.clone(),
            };
            let bytes = line.progress_detail.and_then(|detail| Some((detail.current?, detail.total?)));
            // Extracting reports the same bytes again; only the way over the network counts.
            if let (Some(layer), Some((done, total)), "Downloading") = (&line.id, bytes, status.as_str()) {
                let bytes = |n: i64| u64::try_from(n).unwrap_or_default();
                progress.layers.insert(layer.clone(), (bytes(done), bytes(total)));
            } else if let (Some(layer), "Download complete" | "Pull complete") = (&line.id, status.as_str())
                && let Some(bytes) = progress.layers.get_mut(layer)
            {
                bytes.0 = bytes.1;
            }
        }
    }
}

impl DockerEndpoint {
    pub(super) async fn start_pull(
        &self,
        reference: &str,
        login: Option<DockerCredentials>,
    ) -> Result<Pull, Error> {
        let reference = policy::normal_reference(reference)?;
        let client = self.client().await?;
        let mut jobs = self.pulls.jobs();
        if let Some(job) = jobs.get(&reference)
            && job.progress().result.is_none()
        {
            return Ok(job.snapshot());
        }
        jobs.retain(|_, job| job.progress().result.is_none());
        if jobs.len() >= MOST {
            return Err(error(ErrorKind::Exhausted, "too many images are being pulled"));
        }
        let job = Arc::new(Job::default());
        job.progress().message = "waiting for other pulls".to_owned();
        jobs.insert(reference.clone(), Arc::clone(&job));
        let first = job.snapshot();
        let permits = Arc::clone(&self.pulls.permits);
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            tracing::info!(image = reference, "pull started");
            // A task of its own, so that the job ends even if it panics.
            let work = tokio::spawn({
                let (reference, job) = (reference.clone(), Arc::clone(&job));
                async move { pull(&client, &reference, login, &job).await }
            });
            let result = work.await.unwrap_or_else(|panic| {
                Err(error(ErrorKind::Internal, format!("the host failed during the pull: {panic}")))
            });
            match &result {
                Ok(()) => tracing::info!(image = reference, "pull done"),
                Err(failure) => tracing::warn!(image = reference, error = failure.message, "pull failed"),
            }
            job.progress().result = Some(Ended { at: Instant::now(), result });
        });
        Ok(first)
    }

    pub(super) fn pull_status(&self, reference: &str) -> Result<Pull, Error> {
        let reference = policy::normal_reference(reference)?;
        let mut jobs = self.pulls.jobs();
        let Some(job) = jobs.get(&reference) else {
            return Err(error(ErrorKind::NotFound, format!("no pull of `{reference}` is known")));
        };
        let snapshot = job.snapshot();
        let forgotten = match snapshot.phase {
            PullPhase::Running => false,
            // Whoever asks again does not see the image, so that it has to be pulled again.
            PullPhase::Done => true,
            PullPhase::Failed => {
                job.progress().result.as_ref().is_some_and(|ended| ended.at.elapsed() > REMEMBERED)
            }
        };
        if forgotten {
            jobs.remove(&reference);
        }
        if forgotten && snapshot.phase == PullPhase::Failed {
            return Err(error(ErrorKind::NotFound, format!("no pull of `{reference}` is known")));
        }
        Ok(snapshot)
    }
}

async fn pull(
    client: &Docker,
    reference: &str,
    login: Option<DockerCredentials>,
    job: &Job,
) -> Result<(), Error> {
    let options = CreateImageOptions { from_image: Some(reference.to_owned()), ..Default::default() };
    let mut lines = client.create_image(Some(options), None, login);
    // Dropping the stream makes the engine give the pull up.
    while let Some(line) = tokio::time::timeout(SILENCE, lines.next()).await.map_err(|_| {
        error(ErrorKind::Unavailable, format!("the engine said nothing for {} s", SILENCE.as_secs()))
    })? {
        let line = line.map_err(|failure| pull_failure(translate(failure)))?;
        if let Some(detail) = line.error_detail {
            let message = detail.message.unwrap_or_else(|| "the engine gave no reason".to_owned());
            return Err(pull_failure(error(ErrorKind::Internal, message)));
        }
        job.note(line);
    }
    Ok(())
}

/// The engine answers 404 or 500, or in the middle of the stream, for whatever the registry said; only the words tell
/// a missing image from a registry that is away.
fn pull_failure(failure: Error) -> Error {
    const MISSING: &[&str] =
        &["not found", "manifest unknown", "does not exist", "name unknown", "no matching manifest"];
    const REFUSED: &[&str] =
        &["unauthorized", "authentication required", "no basic auth credentials", "denied"];
    let says = |words: &[&str]| words.iter().any(|word| failure.message.to_lowercase().contains(word));
    let kind = if failure.kind == ErrorKind::NotFound || says(MISSING) {
        ErrorKind::NotFound
    } else if says(REFUSED) {
        ErrorKind::Unauthenticated
    } else if failure.kind == ErrorKind::Invalid {
        ErrorKind::Invalid
    } else {
        ErrorKind::Unavailable
    };
    Error { kind, ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_image_is_told_from_a_registry_that_is_away() {
        for (message, kind) in [
            ("manifest for a:1 not found: manifest unknown: manifest unknown", ErrorKind::NotFound),
            (
                "pull access denied for a, repository does not exist or may require 'docker login'",
                ErrorKind::NotFound,
            ),
            ("Get \"https://r/v2/\": unauthorized: authentication required", ErrorKind::Unauthenticated),
            (
                "Get \"https://r/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                ErrorKind::Unavailable,
            ),
        ] {
            assert_eq!(pull_failure(error(ErrorKind::Internal, message)).kind, kind, "{message}");
        }
    }

    #[test]
    fn bytes_are_summed_over_layers() {
        let job = Job::default();
        let line = |id: &str, status: &str, bytes: Option<(i64, i64)>| CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: bytes.map(|(done, total)| bollard::models::ProgressDetail {
                current: Some(done),
                total: Some(total),
            }),
            ..Default::default()
        };
        job.note(line("a", "Downloading", Some((1, 10))));
        job.note(line("b", "Downloading", Some((2, 20))));
        job.note(line("a", "Download complete", None));
        job.note(line("b", "Extracting", Some((20, 20))));
        let pull = job.snapshot();
        assert_eq!((pull.done_bytes, pull.total_bytes), (12, 30));
        assert_eq!(pull.message, "b: Extracting");
    }
}
