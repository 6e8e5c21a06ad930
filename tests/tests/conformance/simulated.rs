//! The simulated plugin on the simulated infrastructure.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use streamspace_conformance::{
    Format, InProcess, Options, Recipe, RecordedHandle, Runner, SimulatedFixture, Target, Verdict,
};
use streamspace_runtime::{BackendConfig, EndpointConfig, EndpointKind, Runtime, RuntimeConfig};
use streamspace_tests::provided;
use streamspace_tests::simulated::Simulated;
use tokio::sync::Mutex;

use crate::LIMIT;
use crate::operated::OperatedSimulated;

/// Checks that mean nothing on it, with the reason that has to be given.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    ("A02-unadvertised-verbs-refused", "every verb is advertised"),
    ("C24-pause-by-hand-seen", "the fixture cannot do this: pause by hand"),
    ("C24-rename-by-hand-harmless", "the fixture cannot do this: rename by hand"),
    ("E32-delete-paused", "the fixture cannot do this: pause by hand"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_plugin_conforms() {
    // Nothing takes more than one step, and so nothing gives a handle.
    let no_handles = ("F40-altered-handles-harmless", "every call was done in one step, without a handle");
    judge(json!({}), &[no_handles]).await;
}

/// Every change is accepted at first and takes effect later, so that all mutations go through more than one step.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_plugin_conforms_where_everything_takes_time() {
    judge(json!({"create_ms": 150, "start_ms": 120, "stop_ms": 130, "delete_ms": 140}), &[]).await;
}

/// Runs the suite on an infrastructure with these settings.
async fn judge(settings: Value, further_not_applicable: &[(&'static str, &'static str)]) {
    let Some(plugin) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN") else { return };
    let Some(simulated) = Simulated::start() else { return };
    simulated.knobs(json!({"settings": settings})).await;
    let controller = "ctrl-conformance";
    let before = simulated.get("/knobs").await;
    let api = format!("unix://{}", simulated.socket().display());
    let simulated = Arc::new(OperatedSimulated(Mutex::new(simulated)));
    let fixture = SimulatedFixture::start(&api, controller, "conformance/sample").await.unwrap();
    let fixture = Arc::new(fixture.operated_by(simulated.clone()));

    let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
    let plugin = runtime.load_file(Path::new(&plugin)).await.unwrap();
    let endpoint = EndpointConfig::of_kind(EndpointKind::Http, &api).unwrap();
    let config = BackendConfig {
        controller_id: controller.to_owned(),
        endpoints: BTreeMap::from([("api".to_owned(), endpoint)]),
        ..Default::default()
    };
    let process = Arc::new(InProcess::bind(plugin, config).await.unwrap());
    let handles = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/simulated/plugin/handles"));
    let target = Target {
        transport: process.transport(),
        recipe: Recipe { handles: RecordedHandle::below(handles).unwrap(), ..fixture.recipe() },
        fixture: Some(fixture),
        process: Some(process),
    };
    let filter = std::env::var("STREAMSPACE_TEST_CHECKS").unwrap_or_default();
    let options = Options { filter: filter.clone(), limit: LIMIT, ..Options::default() };
    let report = Runner::new(target, options).run().await.unwrap();
    let text = report.render(Format::Text).unwrap();
    println!("{text}");
    assert!(report.passed(), "{text}");
    let simulated = simulated.0.lock().await;
    assert_eq!(simulated.boxes().await, Vec::<Value>::new());
    assert_eq!(simulated.get("/knobs").await, before);
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
    let mut expected = NOT_APPLICABLE.to_vec();
    expected.extend_from_slice(further_not_applicable);
    assert_eq!(not_applicable, expected);
}
