//! A server over the simulated backend: sessions from the API to their page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use streamspace_tests::provided;
use streamspace_tests::server::Installation;
use streamspace_tests::simulated::Simulated;

#[tokio::test]
async fn a_session_is_reached_through_the_gateway_while_it_runs() {
    let Some(plugin) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN") else { return };
    let Some(simulated) = Simulated::start() else { return };
    let Some(installation) = Installation::new() else { return };
    simulated.knobs(json!({"settings": {"pages": true}})).await;
    let plugins = tempfile::tempdir().unwrap();
    std::fs::copy(plugin, plugins.path().join("simulated.wasm")).unwrap();
    let installation = installation.plugins(plugins.path()).config(&format!(
        "[[controller]]\nname = \"simulated-local\"\nplugin = \"simulated\"\n\
             [controller.endpoints.api]\nhttp = \"unix://{}\"\n",
        simulated.socket().display()
    ));
    let server = installation.start();
    let api = server.api();
    let webapp = json!({"enabled": true, "port": 3000});
    let session =
        api.create_running(&json!({"user_id": "u", "spec": {"base_image": "any", "webapp": webapp}})).await;
    let id = session["id"].as_str().unwrap();
    let url = session["url"].as_str().unwrap();
    let name = format!("ss-{id}");

    let page = api.get(url).await;
    assert!(page.status == 200 && page.body.as_str().unwrap().contains(&name), "{:?}", page.body);
    let echo = api.get(&format!("{url}a/b?c=d")).await;
    assert_eq!((&echo.body["box"], &echo.body["uri"]), (&json!(name), &json!("/a/b?c=d")));
    let sent = echo.body["headers"].to_string();
    assert!(!sent.contains("authorization"), "the caller's token stays with the server: {sent}");

    for (verb, phase, status) in [("hibernate", "Hibernated", 503), ("wake", "Running", 200)] {
        api.post(&format!("/api/v1/sessions/{id}/{verb}"), &json!({})).await;
        api.wait_for_phase(id, phase).await;
        let page = api.get(url).await;
        assert_eq!(page.status, status, "after {verb}: {:?}", page.body);
    }
    api.delete(&format!("/api/v1/sessions/{id}?wait=60s")).await;
    api.wait_for_gone(id).await;
    assert!(simulated.boxes().await.is_empty());
    server.stop().await;
}
