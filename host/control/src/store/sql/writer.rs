//! The one writer: it owns the writing connection and commits for many callers at once.
//!
//! A commit costs a flush to the disk; while one runs, further jobs queue up and share the next. A job sees the
//! effects of those before it, a job that fails takes nothing with it (savepoint), and nobody hears of success
//! before the commit. If the connection is lost the writer gets another one; until then every job fails at once.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::{Connection, Options, dialect};
use crate::domain::EventCursor;
use crate::store::{Outage, StoreError, WriterMetrics};

/// More callers than this wait for the commit after next.
const BATCH: usize = 256;
/// A transaction that takes longer takes no further jobs: others may wait for the database.
const LONG_ENOUGH: Duration = Duration::from_millis(500);
/// Jobs waiting; beyond that callers wait to be let in.
const QUEUE: usize = 1024;
/// How long a connection may take to be made while jobs wait for it.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long it may take otherwise.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts to get a connection, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A handle to the writer's task.
pub(in crate::store) struct Writer {
    jobs: mpsc::Sender<Message>,
    latest: watch::Receiver<EventCursor>,
    metrics: WriterMetrics,
    rollbacks: Arc<AtomicU64>,
}

enum Message {
    Job(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// Why a transaction is not stored, or not known to be.
#[derive(Debug, Clone)]
struct Failure {
    outage: Option<Outage>,
    message: String,
    /// The connection is of no more use.
    lost: bool,
}

impl Failure {
    /// That there is no connection.
    fn unreachable(message: String) -> Self {
        Self { outage: Some(Outage::Unreachable), message, lost: true }
    }

    fn in_time(limit: Duration) -> Self {
        Self::unreachable(format!("no answer within {} s", limit.as_secs()))
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let outage = Outage::of(&error);
        // A server that takes no writes any more has been replaced by another one.
        let lost = matches!(outage, Some(Outage::Unreachable | Outage::ReadOnly));
        Self { outage, message: error.to_string(), lost }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.outage {
            Some(outage) => Self::Unavailable { outage, message: failure.message },
            None => Self::NotCommitted(failure.message),
        }
    }
}

/// A piece of writing, with its type of answer hidden.
#[async_trait]
trait Job: Send {
    /// What it does, in one word.
    fn name(&self) -> &'static str;
    /// Runs within a savepoint; whether to keep its effects.
    async fn run(&mut self, db: &mut Connection) -> bool;
    /// Answers the caller, once it is known what became of the transaction.
    fn answer(self: Box<Self>, committed: Result<(), Failure>);
}

struct TypedJob<F, T> {
    name: &'static str,
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

#[async_trait]
impl<F, T> Job for TypedJob<F, T>
where
    F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send,
    T: Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&mut self, db: &mut Connection) -> bool {
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

    fn answer(self: Box<Self>, committed: Result<(), Failure>) {
        let answer = match (committed, self.result) {
            // What a job itself said against its own effects stands, commit or not.
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(failure), _) => Err(failure.into()),
        };
        // The caller may have gone; what was committed stays committed.
        let _ = self.caller.send(answer);
    }
}

impl Writer {
    /// Starts the task. `options` are for another connection, should this one be lost.
    pub(in crate::store) fn start(
        options: Options,
        connection: Connection,
        news: watch::Sender<EventCursor>,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let latest = news.subscribe();
        let metrics = WriterMetrics::new();
        let rollbacks = Arc::new(AtomicU64::new(0));
        let task = Task {
            options,
            queue,
            news,
            metrics: metrics.clone(),
            rollbacks: Arc::clone(&rollbacks),
            waiting: VecDeque::new(),
            closing: None,
        };
        tokio::spawn(task.run(connection));
        Self { jobs, latest, metrics, rollbacks }
    }

    /// Counts whatever was or may have been taken back of what jobs saw: it must not be remembered.
    pub(super) fn rollbacks(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rollbacks)
    }

    /// The last event that is committed.
    pub(super) fn latest_event(&self) -> watch::Receiver<EventCursor> {
        self.latest.clone()
    }

    pub(super) fn metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    /// Runs one job and returns its result once it is durable. The name is for crash tests, which end the process at
    /// either side of the commit.
    pub(in crate::store) async fn run<T, F>(&self, name: &'static str, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = TypedJob { name, work: Some(work), result: None, caller };
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

/// Moves what is known of the events forward. Several learn of them, in no certain order.
pub(in crate::store) fn tell(news: &watch::Sender<EventCursor>, latest: EventCursor) {
    news.send_if_modified(|known| {
        let newer = latest > *known;
        if newer {
            *known = latest;
        }
        newer
    });
}

struct Task {
    options: Options,
    queue: mpsc::Receiver<Message>,
    news: watch::Sender<EventCursor>,
    metrics: WriterMetrics,
    rollbacks: Arc<AtomicU64>,
    /// Jobs that were taken from the queue and not run yet.
    waiting: VecDeque<Box<dyn Job>>,
    closing: Option<oneshot::Sender<()>>,
}

impl Task {
    async fn run(mut self, db: Connection) {
        let mut connection = Some(db);
        while let Some(mut db) = connection.take() {
            match self.serve(&mut db).await {
                Ok(()) => {
                    if let Err(error) = db.close().await {
                        tracing::warn!(%error, "closing the database");
                    }
                }
                Err(failure) => {
                    // Not closed in order: that could take as long as whatever ended it.
                    drop(db);
                    connection = match connect(&self.options, AT_ONCE).await {
                        Ok(db) => Some(db),
                        Err(_) => self.reconnect(failure).await,
                    };
                }
            }
        }
        if let Some(done) = self.closing {
            let _ = done.send(());
        }
    }

    /// Takes what is there for the next transaction; whether there is anything, and will be.
    async fn collect(&mut self) -> bool {
        if self.waiting.is_empty() && self.closing.is_none() {
            match self.queue.recv().await {
                Some(message) => self.take(message),
                None => return false,
            }
        }
        while self.waiting.len() < BATCH && self.closing.is_none() {
            let Ok(message) = self.queue.try_recv() else { break };
            self.take(message);
        }
        !self.waiting.is_empty()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(job) => self.waiting.push_back(job),
            Message::Close(done) => self.closing = Some(done),
        }
    }

    /// Works until the store is closed, or the connection is lost.
    async fn serve(&mut self, db: &mut Connection) -> Result<(), Failure> {
        while self.collect().await {
            let begun = Instant::now();
            let mut batch = Vec::with_capacity(self.waiting.len());
            let committed = match begin_or_reconnect(&self.options, db, &self.rollbacks).await {
                Ok(()) => self.transaction(db, &mut batch, begun).await,
                Err(failure) => {
                    // Nobody's work was begun, but there is no telling when it could be.
                    batch.extend(self.waiting.drain(..));
                    Err(failure)
                }
            };
            if committed.is_err() {
                self.rollbacks.fetch_add(1, Ordering::Release);
            }
            self.metrics.batch.observe(batch.len() as f64);
            self.metrics.transaction.observe(begun.elapsed().as_secs_f64());
            let outcome = match &committed {
                Ok(latest) => {
                    tell(&self.news, *latest);
                    Ok(())
                }
                Err(failure) => {
                    tracing::error!(
                        error = failure.message,
                        jobs = batch.len(),
                        "a transaction was not stored"
                    );
                    Err(failure.clone())
                }
            };
            for job in batch {
                job.answer(outcome.clone());
            }
            if let Err(failure) = committed
                && failure.lost
            {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Runs what waits and commits it; how far the events go then. What was run is in `batch`.
    async fn transaction(
        &mut self,
        db: &mut Connection,
        batch: &mut Vec<Box<dyn Job>>,
        begun: Instant,
    ) -> Result<EventCursor, Failure> {
        let known = *self.news.borrow();
        let work = async {
            while let Some(job) = self.waiting.pop_front() {
                batch.push(job);
                let Some(job) = batch.last_mut() else { break };
                // A failed statement may have ended more than the job (a full disk does): then this fails as well.
                let settle = if job.run(db).await {
                    "RELEASE job; SAVEPOINT job"
                } else {
                    self.rollbacks.fetch_add(1, Ordering::Release);
                    "ROLLBACK TO job"
                };
                sqlx::raw_sql(settle).execute(&mut *db).await?;
                if begun.elapsed() > LONG_ENOUGH {
                    break;
                }
            }
            dialect::announce(db, known).await
        };
        let latest = match within(dialect::TRANSACTION_LIMIT, work).await {
            Ok(latest) => latest,
            Err(failure) => return Err(rolled_back(db, failure).await),
        };
        for job in batch.iter() {
            streamspace_failpoint::hit_on("store.written", job.name());
        }
        let commit = async { sqlx::raw_sql("COMMIT").execute(&mut *db).await.map(drop) };
        match within(dialect::TRANSACTION_LIMIT, commit).await {
            Ok(()) => {
                for job in batch.iter() {
                    streamspace_failpoint::hit_on("store.committed", job.name());
                }
                Ok(latest)
            }
            Err(failure) if failure.outage == Some(Outage::Unreachable) => {
                Err(Failure { outage: Some(dialect::COMMIT_LOST), ..failure })
            }
            Err(failure) => Err(rolled_back(db, failure).await),
        }
    }

    /// Tries to get another connection until there is one, or the store is closed. Jobs fail meanwhile.
    async fn reconnect(&mut self, mut failure: Failure) -> Option<Connection> {
        tracing::error!(error = failure.message, "there is no connection to the database");
        // What is new now has no part in what became of the connection.
        failure.outage = Some(Outage::Unreachable);
        let (first, longest) = PAUSES;
        let pauses = std::iter::successors(Some(first), |pause| Some((*pause * 2).min(longest)));
        for pause in pauses {
            for job in self.waiting.drain(..) {
                job.answer(Err(failure.clone()));
            }
            if self.closing.is_some() {
                return None;
            }
            let attempt = async {
                sleep(pause).await;
                connect(&self.options, CONNECT_LIMIT).await
            };
            tokio::pin!(attempt);
            let connected = loop {
                tokio::select! {
                    connected = &mut attempt => break connected,
                    message = self.queue.recv() => match message {
                        Some(Message::Job(job)) => job.answer(Err(failure.clone())),
                        Some(Message::Close(done)) => {
                            self.closing = Some(done);
                            return None;
                        }
                        None => return None,
                    },
                }
            };
            match connected {
                Ok(db) => {
                    tracing::info!("there is a connection to the database again");
                    return Some(db);
                }
                Err(next) => {
                    if next.message != failure.message {
                        tracing::error!(error = next.message, "there is no connection to the database");
                    }
                    failure = Failure { outage: Some(Outage::Unreachable), ..next };
                }
            }
        }
        None
    }
}

/// Begins a transaction. A connection that was lost while it rested is replaced without anybody noticing.
async fn begin_or_reconnect(
    options: &Options,
    db: &mut Connection,
    rollbacks: &AtomicU64,
) -> Result<(), Failure> {
    let failure = match begin(db).await {
        Err(failure) if failure.lost => failure,
        begun => return begun,
    };
    match connect(options, AT_ONCE).await {
        Ok(fresh) => {
            tracing::warn!(error = failure.message, "the connection to the database was lost and made again");
            // It may lead to another server, which has not heard of everything.
            rollbacks.fetch_add(1, Ordering::Release);
            *db = fresh;
            begin(db).await
        }
        Err(_) => Err(failure),
    }
}

async fn begin(db: &mut Connection) -> Result<(), Failure> {
    match within(dialect::TRANSACTION_LIMIT, dialect::begin(db)).await {
        Ok(()) => Ok(()),
        // On some databases a transaction that could not get its lock has to be ended.
        Err(failure) => Err(rolled_back(db, failure).await),
    }
}

/// Ends what is left of a transaction that failed. A connection on which that cannot be done is of no more use: the next
/// transaction would begin within the remains of this one.
async fn rolled_back(db: &mut Connection, failure: Failure) -> Failure {
    if failure.lost {
        return failure;
    }
    match within(dialect::TRANSACTION_LIMIT, dialect::roll_back(db)).await {
        Ok(()) => failure,
        Err(error) => {
            tracing::warn!(error = error.message, "a transaction could not be rolled back");
            Failure { lost: true, ..failure }
        }
    }
}

async fn connect(options: &Options, limit: Duration) -> Result<Connection, Failure> {
    within(Some(limit), dialect::connect(options)).await
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match limit {
        Some(limit) => match timeout(limit, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Failure::in_time(limit)),
        },
        None => Ok(work.await?),
    }
}
