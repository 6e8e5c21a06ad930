//! The Docker plugin on a real engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use streamspace_conformance::{
    DockerFixture, Format, InProcess, Options, Recipe, RecordedHandle, Report, Runner, Target, Verdict,
};
use streamspace_runtime::{BackendConfig, EndpointConfig, EndpointKind, Runtime, RuntimeConfig};
use streamspace_tests::own_engine::OwnEngine;
use streamspace_tests::provided;

use crate::LIMIT;
use crate::operated::OperatedEngine;

/// Checks that mean nothing on Docker, with the reason that has to be given.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    ("A02-unadvertised-verbs-refused", "every verb is advertised"),
    ("B12-full-backend", "the fixture cannot do this: no room"),
    ("C25-lost-events-told", "the fixture cannot do this: lose events"),
    ("D29-running-outlives-restart", "the fixture cannot do this: restart the backend"),
    ("D29-wake-after-restart", "the fixture cannot do this: restart the backend"),
];

/// Runs the suite, or the part of it that the filter lets through, on an engine.
async fn judge(fixture: DockerFixture, controller: String, plugins: &str, filter: &str) -> Report {
    let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
    let plugin = runtime.load_file(&Path::new(plugins).join("docker.wasm")).await.unwrap();
    let endpoint = EndpointConfig::of_kind(EndpointKind::Docker, &fixture.endpoint()).unwrap();
    let config = BackendConfig {
        controller_id: controller,
        endpoints: BTreeMap::from([("engine".to_owned(), endpoint)]),
        ..Default::default()
    };
    let process = Arc::new(InProcess::bind(plugin, config).await.unwrap());
    let handles = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/docker/handles"));
    let handles = RecordedHandle::below(handles).unwrap();
    let target = Target {
        transport: process.transport(),
        recipe: Recipe { handles, ..fixture.recipe(3000, true) },
        fixture: Some(Arc::new(fixture)),
        process: Some(process),
    };
    let options = Options { filter: filter.to_owned(), limit: LIMIT, ..Options::default() };
    let report = Runner::new(target, options).run().await.unwrap();
    println!("{}", report.render(Format::Text).unwrap());
    report
}

fn controller() -> String {
    let run = std::env::var("STREAMSPACE_TEST_RUN").unwrap_or_else(|_| "ss-test".to_owned());
    format!("{run}-conformance-{}", std::process::id())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_plugin_conforms() {
    let (Some(socket), Some(image), Some(plugins)) = (
        provided("STREAMSPACE_TEST_DOCKER"),
        provided("STREAMSPACE_TEST_IMAGE"),
        provided("STREAMSPACE_TEST_PLUGINS"),
    ) else {
        return;
    };
    let fixture = DockerFixture::start(&format!("unix://{socket}"), &controller(), &image).await.unwrap();
    let filter = std::env::var("STREAMSPACE_TEST_CHECKS").unwrap_or_default();
    let report = judge(fixture, controller(), &plugins, &filter).await;
    assert!(report.passed(), "{}", report.render(Format::Text).unwrap());
    if !filter.is_empty() {
        return;
    }
    let not_applicable: Vec<_> = report
        .rows
        .iter()
        .filter_map(|row| match &row.verdict {
            Verdict::NotApplicable(reason) => Some((row.id, reason.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(not_applicable, NOT_APPLICABLE);
}

/// What cannot be judged on an engine that others use.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_a_restart_of_their_engine() {
    let (Some(image), Some(plugins)) =
        (provided("STREAMSPACE_TEST_IMAGE"), provided("STREAMSPACE_TEST_PLUGINS"))
    else {
        return;
    };
    let Some(engine) = OwnEngine::start().await else { return };
    let socket = format!("unix://{}", engine.socket());
    let fixture = DockerFixture::start(&socket, &controller(), &image).await.unwrap();
    let fixture = fixture.operated_by(Arc::new(OperatedEngine(Mutex::new(engine))));
    let report = judge(fixture, controller(), &plugins, "D29-").await;
    assert_eq!(report.counts(), (2, 0, 0), "{}", report.render(Format::Text).unwrap());
}
