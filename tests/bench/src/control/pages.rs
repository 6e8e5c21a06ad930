//! Pages of many sessions, by whatever they can be filtered by and by pairs of it, while others make and remove some.

use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::Method;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::load::Target;
use super::stage::{Stage, request};
use crate::report::Report;
use crate::statistics::Samples;

/// Milliseconds that nearly every page should take at most.
const AIM: f64 = 10.0;
/// Between two changes by somebody else.
const OTHERS_PAUSE: Duration = Duration::from_millis(20);
/// Readers at once.
const READERS: usize = 2;

/// What is asked for: what many have and what few have.
const FILTERS: [(&str, &str); 9] = [
    ("user_id", "user-7"),
    ("state", "running"),
    ("state", "hibernated"),
    ("phase", "Running"),
    ("phase", "Failed"),
    ("phase", "Pending"),
    ("controller_id", "ctrl-bench-7"),
    ("controller_type", "docker"),
    ("template_id", "template-7"),
];

/// Each filter, and each pair of two.
fn queries() -> Vec<String> {
    let mut queries = vec![String::new()];
    for (place, (name, value)) in FILTERS.iter().enumerate() {
        queries.push(format!("&{name}={value}"));
        for (other, more) in FILTERS.iter().skip(place + 1) {
            if name != other {
                queries.push(format!("&{name}={value}&{other}={more}"));
            }
        }
    }
    queries
}

pub(super) async fn measure(report: &mut Report, database: &str, stage: &Stage, rounds: usize) -> Result<()> {
    let server = stage.start().await;
    let target = Target::of(&server)?;
    let others = others(target.clone());
    let queries = queries();
    let readers = (0..READERS).map(|_| async {
        let mut connection = target.connect().await?;
        let mut took: Vec<Samples> = vec![Samples::default(); queries.len()];
        for _ in 0..rounds.div_ceil(READERS) {
            for (query, samples) in queries.iter().zip(&mut took) {
                let path = format!("/api/v1/sessions?limit=100{query}");
                let began = Instant::now();
                let page = connection.send(Method::GET, &path, None, 200).await?;
                samples.add(began.elapsed());
                // The page behind it as well, from wherever it begins.
                let page: Value = serde_json::from_slice(&page)?;
                if let Some(cursor) = page["next_cursor"].as_str() {
                    let path = format!("{path}&cursor={cursor}");
                    let began = Instant::now();
                    connection.send(Method::GET, &path, None, 200).await?;
                    samples.add(began.elapsed());
                }
            }
        }
        Ok::<_, anyhow::Error>(took)
    });
    let mut all = Samples::default();
    let mut each: Vec<Samples> = vec![Samples::default(); queries.len()];
    for took in futures::future::try_join_all(readers).await? {
        for (sum, samples) in each.iter_mut().zip(took) {
            all.extend(samples.clone());
            sum.extend(samples);
        }
    }
    others.abort();
    report.samples(&format!("{database}: a page of 100, {} filters, others write", queries.len()), &all);
    report.figure("  p99", all.quantile(0.99), "ms", Some(AIM));
    let mut slowest: Vec<_> = queries.iter().zip(&each).collect();
    slowest.sort_by(|one, other| other.1.median().total_cmp(&one.1.median()));
    for (query, samples) in slowest.into_iter().take(5) {
        report.samples(&format!("  slow: {query}"), samples);
    }
    server.kill();
    Ok(())
}

/// Somebody who makes a session and removes it, all the time.
fn others(target: Target) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let mut connection = target.connect().await?;
        let mut last: Option<String> = None;
        loop {
            match last.take() {
                Some(id) => {
                    let path = format!("/api/v1/sessions/{id}");
                    connection.send(Method::DELETE, &path, None, 202).await?;
                }
                None => {
                    let made =
                        connection.send(Method::POST, "/api/v1/sessions", Some(&request()), 201).await?;
                    let made: Value = serde_json::from_slice(&made)?;
                    last = made["id"].as_str().map(str::to_owned);
                }
            }
            tokio::time::sleep(OTHERS_PAUSE).await;
        }
    })
}
