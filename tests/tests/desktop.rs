//! The desktop that comes with StreamSpace, from its template to the keys that a viewer presses: over the command line's
//! server, the gateway and a real engine.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use bollard::query_parameters::DownloadFromContainerOptions;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::rfb::{Desktop, Picture, Viewer};
use streamspace_tests::server::Server;
use streamspace_tests::stage::{Stage, container, id};
use streamspace_tests::{PATIENCE, until};
use streamspace_tests::{holds, provided};

/// Opens the desktop of a session as noVNC does: with a ticket.
async fn view(server: &Server, api: &Api, session: &str) -> Viewer {
    // The session runs as soon as its container does; its desktop needs a moment more.
    holds("the desktop can be opened", PATIENCE, async || {
        let ticket = api.post(&format!("/api/v1/sessions/{session}/tickets"), &Value::Null).await.body;
        let ticket = ticket["ticket"].as_str().unwrap();
        let server = server.url().replace("http://", "ws://");
        let url = format!("{server}/api/v1/sessions/{session}/vnc?streamspace_ticket={ticket}");
        Viewer::open(&url).await.map_err(|error| error.to_string())
    })
    .await
}

/// Waits until something more than an empty screen is shown, and nothing moves any more.
async fn drawn(viewer: &mut Viewer) -> Picture {
    let mut before = viewer.picture().await;
    holds("a picture that stands still", PATIENCE, async || {
        let now = viewer.picture().await;
        let (colours, changes) = (now.colours().len(), now.changes(&before));
        before = now.clone();
        // The window's black on white, and the screen around it.
        if colours > 2 && changes == 0 {
            Ok(now)
        } else {
            Err(format!("{colours} colours, {changes} changes"))
        }
    })
    .await
}

async fn has_file(stage: &Stage, session: &str, path: &str) -> bool {
    let options = DownloadFromContainerOptions { path: path.to_owned() };
    let parts = stage.engine.0.download_from_container(&container(session), Some(options));
    parts.try_collect::<Vec<_>>().await.is_ok()
}

#[tokio::test]
async fn a_desktop_is_seen_and_used_and_its_home_stays() {
    let Some(image) = provided("STREAMSPACE_TEST_DESKTOP_IMAGE") else { return };
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/desktop.yaml");
    let yaml = std::fs::read_to_string(file).unwrap();
    let imported = api.post_raw("/api/v1/templates/import", "application/yaml", &yaml).await;
    assert_eq!(imported.status, 200, "{}", imported.body);
    assert_eq!(imported.body["items"][0]["result"], "created", "{}", imported.body);

    // The image as it was made for the tests; all else is the template's.
    let request = json!({
        "user_id": format!("viewer@{}", stage.controller), "template": "desktop",
        "spec": {"base_image": image, "persistent_home": true},
    });
    let session = api.create_running(&request).await;
    let session = id(&session);

    let mut viewer = view(&server, &api, session).await;
    let Desktop { width, height, name } = viewer.desktop.clone();
    assert_eq!((width, height), (1280, 800));
    assert!(!name.is_empty());
    let before = drawn(&mut viewer).await;
    // Into the window of the terminal, wherever the window manager has put it.
    viewer.click(300, 200).await;
    viewer.type_text("touch /config/typed").await;
    holds("what is typed is seen", PATIENCE, async || {
        let changes = viewer.picture().await.changes(&before);
        if changes > 0 { Ok(()) } else { Err("nothing has changed".to_owned()) }
    })
    .await;
    assert!(!has_file(&stage, session, "/config/typed").await, "Return was not pressed yet");
    viewer.type_text("\n").await;
    until("the command that was typed", async || {
        has_file(&stage, session, "/config/typed").await.then_some(())
    })
    .await;

    let first = stage.engine.inspect(&container(session)).await.state.unwrap().started_at;
    let asleep = api.post(&format!("/api/v1/sessions/{session}/hibernate"), &json!({})).await;
    assert!(asleep.status.is_success(), "{}", asleep.body);
    api.wait_for_phase(session, "Hibernated").await;
    // Nobody looks on at a desktop that sleeps.
    viewer.ended().await;
    let awake = api.post(&format!("/api/v1/sessions/{session}/wake"), &json!({})).await;
    assert!(awake.status.is_success(), "{}", awake.body);
    api.wait_for_phase(session, "Running").await;
    assert_ne!(stage.engine.inspect(&container(session)).await.state.unwrap().started_at, first);

    let mut viewer = view(&server, &api, session).await;
    assert_eq!((viewer.desktop.width, viewer.desktop.height), (1280, 800));
    drawn(&mut viewer).await;
    viewer.close().await;
    assert!(has_file(&stage, session, "/config/typed").await, "the home is another one");

    api.delete(&format!("/api/v1/sessions/{session}")).await;
    api.wait_for_gone(session).await;
    assert!(stage.engine.containers(&stage.controller).await.is_empty());
    let volumes = stage.engine.volumes(&stage.controller).await;
    assert_eq!(volumes, stage.homes().await, "nothing but homes");
    assert_eq!(volumes.len(), 1, "{volumes:?}");
    server.kill();
}
