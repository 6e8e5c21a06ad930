//! A: who the controller is and what it can do.

use std::time::Duration;

use serde_json::{Value, json};
use streamspace_proto::controller::v1::{
    GetCapabilitiesRequest, GetSessionLogsRequest, GetSessionMetricsRequest, HealthCheckRequest,
    HibernateSessionRequest, WakeSessionRequest,
};
use tonic::{Code, Status};

use crate::check::{Stop, checks, show};
use crate::context::Context;

checks! {
    "A01-describes-itself" "GetCapabilities names the type; HealthCheck answers `healthy` or `unhealthy`; both say the same twice" [] Shared = describes_itself;
    "A02-advertised-verbs-work" "every verb that the capabilities name does something on a running session" [] Shared = advertised_verbs_work;
    "A02-unadvertised-verbs-refused" "every verb that they do not name answers UNIMPLEMENTED" [] Shared = unadvertised_verbs_refused;
    "A03-invalid-config-refused" "a setting of the wrong type is refused, and the refusal names it" [Process] Shared = invalid_config_refused;
    "A04-secrets-stay-secret" "the value of a secret variable stands in no answer, error or handle of the whole run" [] Last = secrets_stay_secret;
    "A05-imports-are-declared" "the plugin imports only what its manifest asks for" [Process] Shared = imports_are_declared;
}

async fn describes_itself(cx: Context) -> Result<(), Stop> {
    let first = cx.controller.capabilities(GetCapabilitiesRequest {}).await;
    let second = cx.controller.capabilities(GetCapabilitiesRequest {}).await;
    match (&first, &second) {
        (Ok(first), Ok(second)) if first.controller_type.is_empty() => {
            return Err(Stop::expected("a controller_type", format!("{first:?}, {second:?}")));
        }
        (Ok(one), Ok(two)) if verbs(one) == verbs(two) => {}
        _ => {
            let seen = format!("{} and {}", show(&first), show(&second));
            return Err(Stop::expected("the same type and capabilities twice", seen));
        }
    }
    let health = cx.controller.health(HealthCheckRequest {}).await;
    match &health {
        Ok(answer)
            if matches!(answer.status.as_str(), "healthy" | "unhealthy") && answer.current_sessions >= 0 =>
        {
            Ok(())
        }
        _ => Err(Stop::expected_of("the status `healthy` or `unhealthy` from HealthCheck", &health)),
    }
}

fn verbs(answer: &streamspace_proto::controller::v1::CapabilitiesResponse) -> (&str, [bool; 7]) {
    (
        &answer.controller_type,
        [
            answer.supports_hibernation,
            answer.supports_gpu,
            answer.supports_persistent_storage,
            answer.supports_networking,
            answer.supports_metrics,
            answer.supports_logs,
            answer.supports_watch,
        ],
    )
}

async fn advertised_verbs_work(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let offered = cx.offer.capabilities.clone();
    if offered.supports_metrics {
        let request = GetSessionMetricsRequest { session_id: session.id(), ..Default::default() };
        let answer = cx.controller.metrics(request).await;
        if answer.is_err() {
            return Err(Stop::expected_of("metrics, as supports_metrics says", &answer));
        }
    }
    if offered.supports_logs
        && let Err(status) = first_of_logs(&cx, &session.id()).await
    {
        return Err(Stop::expected("logs, as supports_logs says", status));
    }
    if offered.supports_watch
        && let Err(status) = first_of_watch(&cx).await
    {
        return Err(Stop::expected("a stream of events, as supports_watch says", status));
    }
    if offered.supports_hibernation {
        cx.put_to_sleep(&session).await?;
        cx.wake_up(&session).await?;
    }
    if offered.supports_persistent_storage {
        let mut with_home = cx.session();
        with_home.spec().persistent_home = true;
        cx.remember(&with_home);
        cx.run(&with_home).await?;
    }
    Ok(())
}

async fn unadvertised_verbs_refused(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let session_id = session.id();
    let offered = cx.offer.capabilities.clone();
    let mut answers: Vec<(&str, Result<(), Status>)> = Vec::new();
    if !offered.supports_hibernation {
        let request = HibernateSessionRequest { session_id: session_id.clone(), ..Default::default() };
        answers.push(("HibernateSession", cx.controller.hibernate(request).await.map(drop)));
        let request = WakeSessionRequest { session_id: session_id.clone(), ..Default::default() };
        answers.push(("WakeSession", cx.controller.wake(request).await.map(drop)));
    }
    if !offered.supports_metrics {
        let request = GetSessionMetricsRequest { session_id: session_id.clone(), ..Default::default() };
        answers.push(("GetSessionMetrics", cx.controller.metrics(request).await.map(drop)));
    }
    if !offered.supports_logs {
        answers.push(("GetSessionLogs", first_of_logs(&cx, &session_id).await));
    }
    if !offered.supports_watch {
        answers.push(("WatchSessions", first_of_watch(&cx).await));
    }
    if answers.is_empty() {
        return Err(Stop::NotApplicable("every verb is advertised".to_owned()));
    }
    for (rpc, answer) in answers {
        if !matches!(&answer, Err(status) if status.code() == Code::Unimplemented) {
            return Err(Stop::expected_of(
                format!("UNIMPLEMENTED from {rpc}, which is not advertised"),
                &answer,
            ));
        }
    }
    Ok(())
}

/// Whether the logs can be read: their first entry, or their end.
async fn first_of_logs(cx: &Context, session: &str) -> Result<(), Status> {
    use futures::StreamExt as _;
    let request = GetSessionLogsRequest { session_id: session.to_owned(), ..Default::default() };
    let mut stream = cx.controller.logs(request).await?;
    stream.next().await.transpose().map(drop)
}

/// Whether the watch stands: nothing for a while is as good as an event.
async fn first_of_watch(cx: &Context) -> Result<(), Status> {
    use futures::StreamExt as _;
    let mut stream = cx.controller.watch("").await?;
    match tokio::time::timeout(Duration::from_secs(2), stream.next()).await {
        Ok(Some(event)) => event.map(drop),
        Ok(None) => Err(Status::internal("the stream ended at once")),
        Err(_) => Ok(()),
    }
}

async fn invalid_config_refused(cx: Context) -> Result<(), Stop> {
    let process = cx.process()?;
    let schema = process.config_schema();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if properties.is_empty() {
        return Err(Stop::NotApplicable("the plugin has no settings".to_owned()));
    }
    for (name, property) in &properties {
        // No setting is of two types, so that one of these is wrong for it.
        let wrong = if property["type"] == "object" { json!("wrong") } else { json!({"wrong": true}) };
        let mut config = serde_json::Map::new();
        config.insert(name.clone(), wrong);
        let refusal = process.try_config(Value::Object(config)).await;
        match &refusal {
            Some(refusal) if refusal.message.contains(name.as_str()) => {}
            _ => {
                let what = format!("a refusal that names `{name}`, which has a wrong type");
                return Err(Stop::expected(what, format!("{refusal:?}")));
            }
        }
    }
    if schema["additionalProperties"] == false {
        let refusal = process.try_config(json!({"no-such-setting": 1})).await;
        if refusal.is_none() {
            return Err(Stop::expected("a refusal of a setting that does not exist", "it was accepted"));
        }
    }
    Ok(())
}

async fn imports_are_declared(cx: Context) -> Result<(), Stop> {
    let undeclared = cx.process()?.undeclared_imports();
    if undeclared.is_empty() {
        return Ok(());
    }
    Err(Stop::expected("no import that the manifest does not ask for", undeclared.join(", ")))
}

/// Provokes errors about a session with a secret; all answers of the run were searched on the way.
async fn secrets_stay_secret(cx: Context) -> Result<(), Stop> {
    let session = cx.running().await?;
    let mut other = session.clone();
    other.spec().labels.insert("changed".to_owned(), "yes".to_owned());
    // What they answer is not the question here.
    drop(cx.create(&other).await);
    let mut broken = cx.session();
    broken.spec().base_image.clear();
    drop(cx.create(&broken).await);
    let mut broken = cx.session();
    broken.request.controller_config = "[".to_owned();
    drop(cx.create(&broken).await);
    for image in
        [cx.recipe().missing_image.clone(), cx.recipe().malformed_image.clone()].into_iter().flatten()
    {
        let mut broken = cx.session();
        broken.spec().base_image = image;
        drop(cx.create(&broken).await);
    }
    drop(cx.list_all(0).await);
    drop(cx.status(&session).await);
    let request = streamspace_proto::controller::v1::GetSessionRequest {
        session_id: session.id(),
        ..Default::default()
    };
    drop(cx.controller.get(request).await);
    cx.delete_whole(&session).await?;
    let seen_in = cx.leaks.seen_in();
    if seen_in.is_empty() {
        return Ok(());
    }
    Err(Stop::expected("the secret in nothing but the session", format!("it is in {}", seen_in.join(", "))))
}
