//! The Docker plugin on a real engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use streamspace_conformance::{DockerFixture, Format, InProcess, Options, Runner, Target, Verdict};
use streamspace_runtime::{BackendConfig, EndpointConfig, EndpointKind, Runtime, RuntimeConfig};
use streamspace_tests::provided;

/// Checks that mean nothing on Docker, with the reason that has to be given.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    ("A02-unadvertised-verbs-refused", "every verb is advertised"),
    ("B12-full-backend", "the fixture cannot do this: no room"),
    ("C25-lost-events-told", "the fixture cannot do this: lose events"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_plugin_conforms() {
    let (Some(socket), Some(image), Some(plugins)) = (
        provided("STREAMSPACE_TEST_DOCKER"),
        provided("STREAMSPACE_TEST_IMAGE"),
        provided("STREAMSPACE_TEST_PLUGINS"),
    ) else {
        return;
    };
    let run = std::env::var("STREAMSPACE_TEST_RUN").unwrap_or_else(|_| "ss-test".to_owned());
    let controller = format!("{run}-conformance-{}", std::process::id());
    let engine = format!("unix://{socket}");
    let fixture = Arc::new(DockerFixture::start(&engine, &controller, &image).await.unwrap());

    let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
    let plugin = runtime.load_file(&Path::new(&plugins).join("docker.wasm")).await.unwrap();
    let endpoint = EndpointConfig::of_kind(EndpointKind::Docker, &fixture.endpoint()).unwrap();
    let config = BackendConfig {
        controller_id: controller,
        endpoints: BTreeMap::from([("engine".to_owned(), endpoint)]),
        ..Default::default()
    };
    let process = Arc::new(InProcess::bind(plugin, config).await.unwrap());
    let target = Target {
        transport: process.transport(),
        recipe: fixture.recipe(3000, true),
        fixture: Some(fixture),
        process: Some(process),
    };
    let filter = std::env::var("STREAMSPACE_TEST_CHECKS").unwrap_or_default();
    let report =
        Runner::new(target, Options { filter: filter.clone(), ..Options::default() }).run().await.unwrap();
    let text = report.render(Format::Text).unwrap();
    println!("{text}");
    assert!(report.passed(), "{text}");
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
