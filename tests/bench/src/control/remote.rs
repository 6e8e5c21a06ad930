//! Many controllers elsewhere: what they cost a server that has nothing to do, and how much longer a session takes to be
//! accepted when one of many has to be chosen.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use streamspace_tests::server::{Installation, Server};

use super::load::{self, Connection, Target};
use super::simple::Controller;
use super::{Kind, Sizes};
use crate::report::Report;

/// Share of one core, in percent.
const REST_AIM: f64 = 5.0;
/// What a choice may take, in milliseconds.
const CHOICE_AIM: f64 = 1.0;
/// How long everything may take to come to rest.
const SETTLED: Duration = Duration::from_secs(15);
/// How long the server is watched at rest.
const WATCHED: Duration = Duration::from_secs(60);
/// Sessions that are posted one after the other.
const POSTS: usize = 500;
/// Nobody serves there.
const NOBODY: &str = "grpc://127.0.0.1:9";

pub(super) async fn measure(report: &mut Report, kind: Kind, sizes: Sizes) -> Result<()> {
    let database = kind.name();
    let plugins = tempfile::tempdir()?;
    let (Some(database_of_its_own), Some(installation)) = (kind.fresh(), Installation::new()) else {
        return Ok(());
    };
    let installation = installation.plugins(plugins.path()).database(database_of_its_own);
    let server = installation.start();
    let target = Target::of(&server)?;
    let token = server.api().post("/api/v1/admin/join-tokens", &json!({"name": "bench"})).await.body;
    let join = target.with_token(token["secret"].as_str().context("no join token")?);
    let mut observer = target.connect().await?;

    let mut alive = vec![Controller::start(&join, 0).await?];
    healthy(&mut observer, alive.len()).await?;
    let alone = posts(&target).await?;
    report.samples(&format!("{database}: POST with one controller"), &alone);

    while alive.len() < sizes.alive {
        alive.push(Controller::start(&join, alive.len()).await?);
    }
    healthy(&mut observer, alive.len()).await?;
    let name = format!("{database}: at rest, {} controllers with signs of life and streams", alive.len());
    report.figure(&name, at_rest(&server).await?, "% of a core", Some(REST_AIM));

    let mut registrar = join.connect().await?;
    for number in alive.len()..sizes.registered {
        let body = json!({"type": "bench", "name": format!("away-{number}"), "endpoint": NOBODY});
        registrar.send(Method::POST, "/api/v1/controllers/register", Some(&body), 200).await?;
    }
    let name =
        format!("{database}: at rest, and {} that are away", sizes.registered.saturating_sub(alive.len()));
    report.figure(&name, at_rest(&server).await?, "% of a core", None);
    let among = posts(&target).await?;
    report.samples(&format!("{database}: POST with {} controllers", sizes.registered), &among);
    report.figure("  more than with one (median)", among.median() - alone.median(), "ms", Some(CHOICE_AIM));
    // Who is left without a server would complain.
    drop(alive);
    server.kill();
    Ok(())
}

/// One after the other: what is measured is the way of one session, not of many that share a commit.
async fn posts(target: &Target) -> Result<crate::statistics::Samples> {
    load::post(target, POSTS, 1, &json!({"user_id": "bench", "spec": {"base_image": "any"}})).await
}

async fn healthy(observer: &mut Connection, count: usize) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let all = observer.send(Method::GET, "/api/v1/admin/controllers", None, 200).await?;
        let all: Vec<Value> = serde_json::from_slice(&all)?;
        if all.iter().filter(|one| one["status"] == "healthy").count() >= count {
            return Ok(());
        }
        ensure!(Instant::now() < patience, "not all {count} controllers become healthy");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How much of a core the server takes while nobody wants anything, in percent.
async fn at_rest(server: &Server) -> Result<f64> {
    tokio::time::sleep(SETTLED).await;
    let (before, began) = (processor_time(server)?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    let used = processor_time(server)?.saturating_sub(before);
    Ok(used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0)
}

/// What the process has used of all cores since its start.
fn processor_time(server: &Server) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{}/task", server.pid()))? {
        // In nanoseconds, first of three numbers. A thread that has just ended counts no more.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let nanoseconds = text.split(' ').next().context("no schedstat")?.trim().parse()?;
        time += Duration::from_nanos(nanoseconds);
    }
    Ok(time)
}
