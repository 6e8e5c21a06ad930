//! The one writer: it owns the writing connection and commits for many callers at once.
//!
//! A commit costs a flush to the disk; while one runs, further jobs queue up and share the next. A job sees the
//! effects of those before it, a job that fails takes nothing with it (savepoint), and nobody hears of success
//! before the commit.

use std::panic::AssertUnwindSafe;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{StoreError, events};
use crate::domain::EventCursor;

/// More callers than this wait for the commit after next.
const BATCH: usize = 256;
/// Jobs waiting; beyond that callers wait to be let in.
const QUEUE: usize = 1024;

/// A handle to the writer's task.
pub(super) struct Writer {
    jobs: mpsc::Sender<Message>,
    latest: watch::Receiver<EventCursor>,
    metrics: WriterMetrics,
}

/// What the writer measures about itself.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    /// Jobs that shared a transaction.
    pub batch: Histogram,
    /// Seconds that a transaction took, its commit included.
    pub transaction: Histogram,
}

impl WriterMetrics {
    fn new() -> Self {
        Self {
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            transaction: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
        }
    }
}

enum Message {
    Job(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// A piece of writing, with its type of answer hidden.
#[async_trait]
trait Job: Send {
    /// Runs within a savepoint; whether to keep its effects.
    async fn run(&mut self, db: &mut SqliteConnection) -> bool;
    /// Answers the caller, once it is known what became of the transaction.
    fn answer(self: Box<Self>, committed: Result<(), String>);
}

struct TypedJob<F, T> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

#[async_trait]
impl<F, T> Job for TypedJob<F, T>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
    T: Send,
{
    async fn run(&mut self, db: &mut SqliteConnection) -> bool {
        let Some(work) = self.work.take() else { return false };
        // A panic in one job must not take the writer away from all others.
        let result = match AssertUnwindSafe(work(db)).catch_unwind().await {
            Ok(result) => result,
            Err(_) => Err(StoreError::NotCommitted("the job panicked".to_owned())),
        };
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, committed: Result<(), String>) {
        let answer = match (committed, self.result) {
            // What a job itself said against its own effects stands, commit or not.
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(reason), _) => Err(StoreError::NotCommitted(reason)),
        };
        // The caller may have gone; what was committed stays committed.
        let _ = self.caller.send(answer);
    }
}

impl Writer {
    /// Starts the task.
    pub(super) fn start(connection: SqliteConnection, latest: EventCursor) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (news, latest) = watch::channel(latest);
        let metrics = WriterMetrics::new();
        tokio::spawn(serve(connection, queue, news, metrics.clone()));
        Self { jobs, latest, metrics }
    }

    /// The last event that is committed.
    pub(super) fn latest_event(&self) -> watch::Receiver<EventCursor> {
        self.latest.clone()
    }

    pub(super) fn metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    /// Runs one job and returns its result once it is durable.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = TypedJob { work: Some(work), result: None, caller };
        self.jobs.send(Message::Job(Box::new(job))).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Lets everything that was handed in before finish, then closes the connection.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

async fn serve(
    mut db: SqliteConnection,
    mut queue: mpsc::Receiver<Message>,
    news: watch::Sender<EventCursor>,
    metrics: WriterMetrics,
) {
    let mut closing = None;
    while closing.is_none() {
        let Some(first) = queue.recv().await else { break };
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Job(job) => batch.push(job),
                Message::Close(done) => {
                    closing = Some(done);
                    break;
                }
            }
            if batch.len() < BATCH {
                next = queue.try_recv().ok();
            }
        }
        if batch.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let committed = transaction(&mut db, &mut batch).await.map_err(|error| {
            tracing::error!(%error, jobs = batch.len(), "a transaction was not stored");
            error.to_string()
        });
        metrics.batch.observe(batch.len() as f64);
        metrics.transaction.observe(begun.elapsed().as_secs_f64());
        if committed.is_ok() {
            tell_of_events(&mut db, &news).await;
        }
        for job in batch {
            job.answer(committed.clone());
        }
    }
    if let Err(error) = db.close().await {
        tracing::warn!(%error, "closing the database");
    }
    if let Some(done) = closing {
        let _ = done.send(());
    }
}

/// Says how far the events go now. Asked of the table: no job can forget to tell.
async fn tell_of_events(db: &mut SqliteConnection, news: &watch::Sender<EventCursor>) {
    match events::latest(db).await {
        Ok(latest) => {
            news.send_if_modified(|known| std::mem::replace(known, latest) != latest);
        }
        Err(error) => tracing::error!(%error, "whether there are new events is not known"),
    }
}

async fn transaction(db: &mut SqliteConnection, batch: &mut [Box<dyn Job>]) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await?;
    let outcome = run_batch(db, batch).await;
    if outcome.is_err() {
        // SQLite may have rolled back by itself (disk full); then this has nothing to do.
        let _ = sqlx::query("ROLLBACK").execute(&mut *db).await;
    }
    outcome
}

async fn run_batch(db: &mut SqliteConnection, batch: &mut [Box<dyn Job>]) -> Result<(), sqlx::Error> {
    for job in batch.iter_mut() {
        sqlx::query("SAVEPOINT job").execute(&mut *db).await?;
        if !job.run(db).await {
            sqlx::query("ROLLBACK TO job").execute(&mut *db).await?;
        }
        sqlx::query("RELEASE job").execute(&mut *db).await?;
    }
    sqlx::query("COMMIT").execute(&mut *db).await?;
    Ok(())
}
